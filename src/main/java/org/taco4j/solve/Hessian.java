package org.taco4j.solve;

import org.taco4j.common.TacoException;
import org.taco4j.compute.DoubleMatrix;

/**
 * The undamped Hessian of a layer problem, H = 2/N · X Xᵀ for inputs X: [cols, N].
 *
 * @param values [cols, cols] row-major, symmetric; borrowed, never written
 * @param samples N, the number of columns of X
 */
public record Hessian(DoubleMatrix values, long samples) {
  /** Checks that the matrix is square and the number of samples positive. */
  public Hessian {
    if (values.rows() != values.cols() || !values.isRowMajor()) {
      throw new IllegalArgumentException(
          "a Hessian of shape [%d, %d]".formatted(values.rows(), values.cols()));
    }
    if (samples < 1) {
      throw TacoException.data("a Hessian needs at least one sample, not " + samples);
    }
  }

  /**
   * Turns a Gram matrix X Xᵀ into a Hessian in place: the array is scaled and becomes the
   * Hessian's.
   *
   * @param gram [cols, cols], both triangles filled
   */
  public static Hessian ofGram(double[] gram, int cols, long samples) {
    for (int i = 0; i < gram.length; i++) {
      gram[i] *= 2.0 / samples;
    }
    return new Hessian(DoubleMatrix.of(gram, cols, cols), samples);
  }

  /** The number of columns of the layer. */
  public int cols() {
    return values.cols();
  }

  /** Element (j, j). */
  public double diagonal(int j) {
    return values.at(j, j);
  }
}
