package org.taco4j.compute.scalar;

import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.ObsElimination;

/** Every kernel as its textbook loop: slow, obvious, and what the other backends are held to. */
public final class ScalarBackend implements Backend {
  private final Workers workers;

  /**
   * A backend whose kernels run on the calling thread; solvers still spread over {@code workers}.
   */
  public ScalarBackend(Workers workers) {
    this.workers = workers;
  }

  @Override
  public String name() {
    return "scalar";
  }

  @Override
  public String description() {
    return "scalar: plain Java loops";
  }

  @Override
  public String kernels() {
    return description();
  }

  @Override
  public Workers workers() {
    return workers;
  }

  @Override
  public void gemm(float alpha, FloatMatrix a, FloatMatrix b, float beta, FloatMatrix c) {
    FloatMatrix.checkProduct(a, b, c);
    for (int i = 0; i < c.rows(); i++) {
      for (int j = 0; j < c.cols(); j++) {
        float sum = 0;
        for (int k = 0; k < a.cols(); k++) {
          sum += a.at(i, k) * b.at(k, j);
        }
        int at = c.index(i, j);
        c.data()[at] = alpha * sum + (beta == 0 ? 0 : beta * c.data()[at]);
      }
    }
  }

  @Override
  public void gemm(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c) {
    DoubleMatrix.checkProduct(a, b, c);
    for (int i = 0; i < c.rows(); i++) {
      for (int j = 0; j < c.cols(); j++) {
        double sum = 0;
        for (int k = 0; k < a.cols(); k++) {
          sum += a.at(i, k) * b.at(k, j);
        }
        int at = c.index(i, j);
        c.data()[at] = alpha * sum + (beta == 0 ? 0 : beta * c.data()[at]);
      }
    }
  }

  @Override
  public void gramTile(FloatMatrix left, FloatMatrix right, FloatMatrix tile) {
    gemm(1, left.transposed(), right, 0, tile);
  }

  @Override
  public void gramTriangle(FloatMatrix samples, FloatMatrix triangle) {
    gramTile(samples, samples, triangle);
  }

  @Override
  public int cholesky(FloatMatrix a) {
    float[] l = a.data();
    for (int j = 0; j < a.cols(); j++) {
      for (int i = j; i < a.rows(); i++) {
        float sum = a.at(i, j);
        for (int k = 0; k < j; k++) {
          sum -= a.at(i, k) * a.at(j, k);
        }
        if (i > j) {
          l[a.index(i, j)] = sum / a.at(j, j);
        } else if (sum > 0 && sum <= Float.MAX_VALUE) {
          l[a.index(j, j)] = (float) Math.sqrt(sum);
        } else {
          return j;
        }
      }
    }
    return -1;
  }

  @Override
  public int cholesky(DoubleMatrix a) {
    double[] l = a.data();
    for (int j = 0; j < a.cols(); j++) {
      for (int i = j; i < a.rows(); i++) {
        double sum = a.at(i, j);
        for (int k = 0; k < j; k++) {
          sum -= a.at(i, k) * a.at(j, k);
        }
        if (i > j) {
          l[a.index(i, j)] = sum / a.at(j, j);
        } else if (sum > 0 && sum <= Double.MAX_VALUE) {
          l[a.index(j, j)] = Math.sqrt(sum);
        } else {
          return j;
        }
      }
    }
    return -1;
  }

  @Override
  public int invertPositiveDefinite(DoubleMatrix a) {
    int n = a.rows();
    DoubleMatrix inverse = DoubleMatrix.zeros(n, n);
    for (int i = 0; i < n; i++) {
      inverse.data()[inverse.index(i, i)] = 1;
    }
    int failed = solvePositiveDefinite(a, inverse);
    for (int i = 0; i < n && failed < 0; i++) {
      for (int j = 0; j <= i; j++) {
        a.data()[a.index(i, j)] = inverse.at(i, j);
        a.data()[a.index(j, i)] = inverse.at(i, j);
      }
    }
    return failed;
  }

  @Override
  public int solvePositiveDefinite(DoubleMatrix a, DoubleMatrix b) {
    int failed = cholesky(a);
    if (failed >= 0) {
      return failed;
    }
    int n = a.rows();
    double[] x = b.data();
    for (int col = 0; col < b.cols(); col++) {
      // L y = b, then Lᵀ x = y.
      for (int i = 0; i < n; i++) {
        double sum = b.at(i, col);
        for (int k = 0; k < i; k++) {
          sum -= a.at(i, k) * b.at(k, col);
        }
        x[b.index(i, col)] = sum / a.at(i, i);
      }
      for (int i = n - 1; i >= 0; i--) {
        double sum = b.at(i, col);
        for (int k = i + 1; k < n; k++) {
          sum -= a.at(k, i) * b.at(k, col);
        }
        x[b.index(i, col)] = sum / a.at(i, i);
      }
    }
    return -1;
  }

  @Override
  public void invertLower(FloatMatrix lower) {
    // Column j of the inverse by forward substitution; rows below read only L, still unspoilt
    // there.
    float[] m = lower.data();
    int n = lower.rows();
    for (int j = n - 1; j >= 0; j--) {
      float pivot = 1 / lower.at(j, j);
      for (int i = n - 1; i > j; i--) {
        float sum = 0;
        for (int k = j + 1; k <= i; k++) {
          sum += lower.at(i, k) * lower.at(k, j);
        }
        m[lower.index(i, j)] = -sum * pivot;
      }
      m[lower.index(j, j)] = pivot;
      for (int i = 0; i < j; i++) {
        m[lower.index(i, j)] = 0;
      }
    }
  }

  @Override
  public void obsSweep(FloatMatrix inverse, FloatMatrix w, boolean[] removed) {
    for (int row = 0; row < w.cols(); row++) {
      for (int j = w.rows() - 1; j >= 0; j--) {
        sweepColumn(inverse, w, removed, row, j);
      }
    }
  }

  @Override
  public void obsSweep(
      FloatMatrix inverse, FloatMatrix w, boolean[] removed, int kept, int groupSize) {
    for (int row = 0; row < w.cols(); row++) {
      for (int end = w.rows(); end > 0; end -= groupSize) {
        for (int j = end - 1; j >= end - groupSize; j--) {
          int smaller = 0;
          for (int other = end - 1; other >= end - groupSize; other--) {
            float difference = saliency(inverse, w, row, other) - saliency(inverse, w, row, j);
            smaller += difference < 0 || (difference == 0 && other > j) ? 1 : 0;
          }
          removed[j * w.cols() + row] = smaller < groupSize - kept;
        }
        for (int j = end - 1; j >= end - groupSize; j--) {
          sweepColumn(inverse, w, removed, row, j);
        }
      }
    }
  }

  private static float saliency(FloatMatrix inverse, FloatMatrix w, int row, int j) {
    float error = w.at(j, row) / inverse.at(j, j);
    return error * error;
  }

  private static void sweepColumn(
      FloatMatrix inverse, FloatMatrix w, boolean[] removed, int row, int j) {
    if (removed[j * w.cols() + row]) {
      float error = w.at(j, row) / inverse.at(j, j);
      for (int c = 0; c < j; c++) {
        w.data()[w.index(c, row)] -= error * inverse.at(j, c);
      }
      w.data()[w.index(j, row)] = 0;
    }
  }

  /** In double all the same. */
  @Override
  public ObsElimination obsElimination(
      FloatMatrix inverse, double[] leastPivots, ObsElimination.Units units) {
    DoubleMatrix wide = DoubleMatrix.zeros(inverse.rows(), inverse.cols());
    for (int i = 0; i < inverse.rows(); i++) {
      for (int j = 0; j < inverse.cols(); j++) {
        wide.data()[wide.index(i, j)] = inverse.at(i, j);
      }
    }
    return new ScalarElimination(wide, units);
  }

  @Override
  public ObsElimination obsElimination(
      DoubleMatrix inverse, double[] leastPivots, ObsElimination.Units units) {
    return new ScalarElimination(inverse, units);
  }

  @Override
  public void quantSweep(
      FloatMatrix inverse,
      FloatMatrix w,
      boolean[] removed,
      float[] scale,
      float[] lowest,
      float[] highest) {
    for (int row = 0; row < w.cols(); row++) {
      for (int j = w.rows() - 1; j >= 0; j--) {
        float weight = w.at(j, row);
        float rounded = (float) Math.rint(weight / scale[row]);
        float clamped = Math.max(lowest[row], Math.min(highest[row], rounded));
        // Adding 0 turns -0 into +0.
        float q = removed[j * w.cols() + row] ? 0 : scale[row] * clamped + 0f;
        float error = (weight - q) / inverse.at(j, j);
        for (int c = 0; c < j; c++) {
          w.data()[w.index(c, row)] -= error * inverse.at(j, c);
        }
        w.data()[w.index(j, row)] = q;
      }
    }
  }

  @Override
  public double quadraticForm(FloatMatrix w, DoubleMatrix g) {
    double sum = 0;
    for (int row = 0; row < w.rows(); row++) {
      for (int i = 0; i < w.cols(); i++) {
        double product = 0;
        for (int j = 0; j < w.cols(); j++) {
          product += g.at(i, j) * w.at(row, j);
        }
        sum += product * w.at(row, i);
      }
    }
    return sum;
  }

  @Override
  public void gemmTile(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c) {
    gemm(alpha, a, b, beta, c);
  }

  @Override
  public int invertAndReduce(DoubleMatrix a, DoubleMatrix r, double[] schur) {
    int failed = invertPositiveDefinite(a);
    for (int j = 0; j < r.cols() && failed < 0; j++) {
      double form = 0;
      for (int p = 0; p < r.rows(); p++) {
        double sum = 0;
        for (int q = 0; q < r.rows(); q++) {
          sum += a.at(p, q) * r.at(q, j);
        }
        form += r.at(p, j) * sum;
      }
      schur[j] -= form;
    }
    return failed;
  }

  @Override
  public void rankOne(double alpha, double[] x, double[] y, DoubleMatrix a) {
    for (int i = 0; i < a.rows(); i++) {
      for (int j = 0; j < a.cols(); j++) {
        a.data()[a.index(i, j)] += alpha * x[i] * y[j];
      }
    }
  }

  @Override
  public void multiply(DoubleMatrix a, double[] x, double[] y) {
    for (int i = 0; i < a.rows(); i++) {
      double sum = 0;
      for (int j = 0; j < a.cols(); j++) {
        sum += a.at(i, j) * x[j];
      }
      y[i] = sum;
    }
  }

  @Override
  public int cheapestRemoval(
      DoubleMatrix w, double[] g, DoubleMatrix c, double[] s, double inverseSchur) {
    int cheapest = -1;
    double least = Double.POSITIVE_INFINITY;
    for (int i = 0; i < w.cols(); i++) {
      double squares = 0;
      for (int row = 0; row < w.rows(); row++) {
        double weight = w.at(row, i) - c.at(0, i) * s[row];
        squares += weight * weight;
      }
      double cost = squares / (g[i] + inverseSchur * c.at(0, i) * c.at(0, i));
      if (cost < least) {
        least = cost;
        cheapest = i;
      }
    }
    return cheapest;
  }
}
