package org.taco4j.compute.scalar;

import java.util.Arrays;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.ObsElimination;

/** Exact OBS as the paper has it: the whole inverse is updated at each step, here in double. */
final class ScalarElimination implements ObsElimination {
  private final DoubleMatrix inverse;
  private final Units units;

  /** An elimination over H⁻¹, [n, n], which is borrowed and not written. */
  ScalarElimination(DoubleMatrix inverse, Units units) {
    units.check(inverse.cols());
    this.inverse = inverse;
    this.units = units;
  }

  @Override
  public int run(FloatMatrix weights, int steps, double stopLoss, int[] order, double[] losses) {
    int n = inverse.cols();
    int rows = weights.rows();
    int k = units.blockSize();
    double[][] a = new double[n][n];
    double[][] w = new double[rows][n];
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        a[i][j] = inverse.at(i, j);
      }
      for (int r = 0; r < rows; r++) {
        w[r][i] = weights.at(r, i);
      }
    }
    boolean[] gone = new boolean[units.count(n)];
    int[] budget = new int[n / units.groupSize()];
    Arrays.fill(budget, units.groupBudget());
    for (int step = 0; step < steps; step++) {
      int best = -1;
      double score = Double.POSITIVE_INFINITY;
      for (int unit = 0; unit < gone.length; unit++) {
        if (gone[unit] || (k == 1 && budget[unit / units.groupSize()] == 0)) {
          continue;
        }
        double[][] block = block(a, unit * k, k);
        if (!factor(block)) {
          return -1 - step;
        }
        double sum = 0;
        for (double[] row : w) {
          double[] z = Arrays.copyOfRange(row, unit * k, (unit + 1) * k);
          substitute(block, z);
          for (double value : z) {
            sum += value * value;
          }
        }
        if (sum < score) {
          score = sum;
          best = unit;
        }
      }
      if (best < 0) {
        return -1 - step;
      }
      if (0.5 * score > stopLoss) {
        return step;
      }
      order[step] = best;
      losses[step] = 0.5 * score;
      if (k == 1) {
        budget[best / units.groupSize()]--;
      }
      eliminate(a, w, best * k, k, gone);
      gone[best] = true;
    }
    return steps;
  }

  /**
   * Removes columns first, …, first + k - 1 by V = A_:B L⁻ᵀ, where A_BB = L Lᵀ: A -= V Vᵀ and w -=
   * (L⁻¹ w_B)ᵀ Vᵀ. What is gone already is 0 in A and stays so.
   */
  private static void eliminate(double[][] a, double[][] w, int first, int k, boolean[] gone) {
    double[][] l = block(a, first, k);
    factor(l);
    int n = a.length;
    double[][] v = new double[n][];
    for (int i = 0; i < n; i++) {
      v[i] = Arrays.copyOfRange(a[i], first, first + k);
      substitute(l, v[i]);
    }
    for (double[] row : w) {
      double[] z = Arrays.copyOfRange(row, first, first + k);
      substitute(l, z);
      for (int i = 0; i < n; i++) {
        for (int c = 0; c < k; c++) {
          row[i] -= v[i][c] * z[c];
        }
      }
    }
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n && !gone[i / k]; j++) {
        for (int c = 0; c < k; c++) {
          a[i][j] -= v[i][c] * v[j][c];
        }
      }
    }
  }

  private static double[][] block(double[][] a, int first, int k) {
    double[][] block = new double[k][];
    for (int i = 0; i < k; i++) {
      block[i] = Arrays.copyOfRange(a[first + i], first, first + k);
    }
    return block;
  }

  /** The Cholesky factor in place of the lower triangle; false where there is none. */
  private static boolean factor(double[][] a) {
    for (int j = 0; j < a.length; j++) {
      for (int i = j; i < a.length; i++) {
        double sum = a[i][j];
        for (int c = 0; c < j; c++) {
          sum -= a[i][c] * a[j][c];
        }
        if (i > j) {
          a[i][j] = sum / a[j][j];
        } else if (sum > 0 && sum <= Double.MAX_VALUE) {
          a[j][j] = Math.sqrt(sum);
        } else {
          return false;
        }
      }
    }
    return true;
  }

  /** z := L⁻¹ z. */
  private static void substitute(double[][] l, double[] z) {
    for (int i = 0; i < z.length; i++) {
      for (int c = 0; c < i; c++) {
        z[i] -= l[i][c] * z[c];
      }
      z[i] /= l[i][i];
    }
  }
}
