package org.taco4j.compute.scalar;

import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;

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
}
