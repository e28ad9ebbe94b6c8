package org.taco4j.solve;

import org.taco4j.common.TacoException;
import org.taco4j.compute.DoubleMatrix;

/**
 * The undamped Hessian of a layer problem, H = 2/N · X Xᵀ for inputs X: [cols, N].
 *
 * @param values [cols, cols] row-major, symmetric; borrowed, never written
 * @param samples N, the number of columns of X; 0 where that is not known
 */
public record Hessian(DoubleMatrix values, long samples) {
  /** Checks that the matrix is square and the number of samples not negative. */
  public Hessian {
    if (values.rows() != values.cols() || !values.isRowMajor()) {
      throw new IllegalArgumentException(
          "a Hessian of shape [%d, %d]".formatted(values.rows(), values.cols()));
    }
    if (samples < 0) {
      throw new IllegalArgumentException("a Hessian of " + samples + " samples");
    }
  }

  /**
   * Turns a Gram matrix X Xᵀ into a Hessian in place: the array is scaled and becomes the
   * Hessian's.
   *
   * @param gram [cols, cols], both triangles filled
   */
  public static Hessian ofGram(double[] gram, int cols, long samples) {
    if (samples < 1) {
      throw TacoException.data("a Hessian needs at least one sample, not " + samples);
    }
    for (int i = 0; i < gram.length; i++) {
      gram[i] *= 2.0 / samples;
    }
    return new Hessian(DoubleMatrix.of(gram, cols, cols), samples);
  }

  /** For messages: {@code "Hessian [96, 96] of 788 samples"}. */
  public String describe() {
    return "Hessian [%d, %d]".formatted(cols(), cols())
        + (samples == 0 ? "" : " of " + samples + " samples");
  }

  /** How many inputs were 0 in every sample. */
  public int deadColumns() {
    int dead = 0;
    for (int j = 0; j < cols(); j++) {
      dead += diagonal(j) == 0 ? 1 : 0;
    }
    return dead;
  }

  /** λ · mean(diag H): what damping adds to the diagonal. */
  public double shift(double damping) {
    double trace = 0;
    for (int j = 0; j < cols(); j++) {
      trace += diagonal(j);
    }
    return damping * trace / cols();
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
