package org.taco4j.compute.simd;

import java.util.Arrays;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;

/**
 * Where OpenBLAS is missing: products by the Vector API, small factorisations by loops that C2
 * vectorises.
 */
record VectorBlas() implements Blas {
  @Override
  public String description() {
    return "Vector API matrix products";
  }

  @Override
  public void gemm(float alpha, FloatMatrix a, FloatMatrix b, float beta, FloatMatrix c) {
    if (c.isRowMajor()) {
      FloatGemm.multiply(alpha, a, b, beta, c);
    } else {
      FloatGemm.multiply(alpha, b.transposed(), a.transposed(), beta, c.transposed());
    }
  }

  @Override
  public void upperSquare(FloatMatrix a, FloatMatrix c) {
    FloatGemm.multiply(1, a, a.transposed(), 0, c, true);
  }

  @Override
  public void gemm(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c) {
    if (c.isRowMajor()) {
      DoubleGemm.multiply(alpha, a, b, beta, c);
    } else {
      DoubleGemm.multiply(alpha, b.transposed(), a.transposed(), beta, c.transposed());
    }
  }

  @Override
  public int factorLower(FloatMatrix a) {
    // Right-looking: the rank-1 update of what remains runs along rows.
    int n = a.rows();
    float[] l = a.data();
    float[] column = new float[n];
    for (int k = 0; k < n; k++) {
      float pivot = a.at(k, k);
      if (!(pivot > 0 && pivot <= Float.MAX_VALUE)) {
        return k;
      }
      float root = (float) Math.sqrt(pivot);
      l[a.index(k, k)] = root;
      for (int i = k + 1; i < n; i++) {
        column[i] = a.at(i, k) / root;
        l[a.index(i, k)] = column[i];
      }
      for (int i = k + 1; i < n; i++) {
        subtractMultiple(column[i], column, k + 1, l, a.index(i, k + 1), i - k);
      }
    }
    return -1;
  }

  @Override
  public int factorLower(DoubleMatrix a) {
    // Right-looking: the rank-1 update of what remains runs along rows.
    int n = a.rows();
    double[] l = a.data();
    double[] column = new double[n];
    for (int k = 0; k < n; k++) {
      double pivot = a.at(k, k);
      if (!(pivot > 0 && pivot <= Double.MAX_VALUE)) {
        return k;
      }
      double root = Math.sqrt(pivot);
      l[a.index(k, k)] = root;
      for (int i = k + 1; i < n; i++) {
        column[i] = a.at(i, k) / root;
        l[a.index(i, k)] = column[i];
      }
      for (int i = k + 1; i < n; i++) {
        subtractMultiple(column[i], column, k + 1, l, a.index(i, k + 1), i - k);
      }
    }
    return -1;
  }

  @Override
  public void invertLower(FloatMatrix lower) {
    // Row i of the inverse: -1/L_ii times the sum over k < i of L_ik times row k, which is done.
    int n = lower.rows();
    float[] m = lower.data();
    float[] sum = new float[n];
    for (int i = 0; i < n; i++) {
      int row = lower.index(i, 0);
      float pivot = 1 / m[row + i];
      Arrays.fill(sum, 0, i, 0);
      for (int k = 0; k < i; k++) {
        subtractMultiple(m[row + k], m, lower.index(k, 0), sum, 0, k + 1);
      }
      for (int j = 0; j < i; j++) {
        m[row + j] = sum[j] * pivot;
      }
      m[row + i] = pivot;
    }
  }

  @Override
  public void invertLower(DoubleMatrix lower) {
    // Row i of the inverse: -1/L_ii times the sum over k < i of L_ik times row k, which is done.
    int n = lower.rows();
    double[] m = lower.data();
    double[] sum = new double[n];
    for (int i = 0; i < n; i++) {
      int row = lower.index(i, 0);
      double pivot = 1 / m[row + i];
      Arrays.fill(sum, 0, i, 0);
      for (int k = 0; k < i; k++) {
        subtractMultiple(m[row + k], m, lower.index(k, 0), sum, 0, k + 1);
      }
      for (int j = 0; j < i; j++) {
        m[row + j] = sum[j] * pivot;
      }
      m[row + i] = pivot;
    }
  }

  private static void subtractMultiple(
      float factor, float[] from, int fromStart, float[] to, int toStart, int count) {
    for (int j = 0; j < count; j++) {
      to[toStart + j] -= factor * from[fromStart + j];
    }
  }

  private static void subtractMultiple(
      double factor, double[] from, int fromStart, double[] to, int toStart, int count) {
    for (int j = 0; j < count; j++) {
      to[toStart + j] -= factor * from[fromStart + j];
    }
  }
}
