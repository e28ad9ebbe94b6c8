package org.taco4j.solve;

import org.taco4j.compute.DoubleMatrix;

/**
 * The Hessians of the two halves of a layer problem's samples.
 *
 * @param first of one half
 * @param second of the other, of the same shape
 */
public record SplitHessian(Hessian first, Hessian second) {
  /** Checks that the halves have the same columns. */
  public SplitHessian {
    if (first.cols() != second.cols()) {
      throw new IllegalArgumentException(
          "halves of %d and %d columns".formatted(first.cols(), second.cols()));
    }
  }

  /** The Hessian of all samples: the mean of the two, weighted with their samples; a new matrix. */
  public Hessian whole() {
    long samples = Math.addExact(first.samples(), second.samples());
    double share = first.samples() / (double) samples;
    int cols = first.cols();
    DoubleMatrix sum = DoubleMatrix.zeros(cols, cols);
    for (int i = 0; i < cols; i++) {
      int a = first.values().index(i, 0);
      int b = second.values().index(i, 0);
      for (int j = 0; j < cols; j++) {
        sum.data()[i * cols + j] =
            share * first.values().data()[a + j] + (1 - share) * second.values().data()[b + j];
      }
    }
    return new Hessian(sum, samples);
  }
}
