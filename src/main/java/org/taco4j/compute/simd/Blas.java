package org.taco4j.compute.simd;

import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;

/**
 * The dense linear algebra that {@link SimdBackend} builds on: everything on the calling thread,
 * from any number of threads at once, the same bytes for the same arguments. Calls should stay
 * short (milliseconds): the garbage collector may have to wait for them.
 */
interface Blas {
  /** What computes here, for {@link SimdBackend#description}. */
  String description();

  /** C = alpha A B + beta C, beta 0 overwriting; shapes are the caller's to check. */
  void gemm(float alpha, FloatMatrix a, FloatMatrix b, float beta, FloatMatrix c);

  /** The upper triangle of C = A Aᵀ, C row-major; below it anything may stand afterwards. */
  void upperSquare(FloatMatrix a, FloatMatrix c);

  /** C = alpha A B + beta C in double. */
  void gemm(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c);

  /**
   * The Cholesky factor of a diagonal block, in place of its lower triangle, row-major; the upper
   * one is not touched. Returns -1 or the index of the first pivot that is not positive.
   */
  int factorLower(FloatMatrix a);

  /** {@link #factorLower(FloatMatrix)} in double. */
  int factorLower(DoubleMatrix a);

  /** Inverts a lower triangle in place, row-major; the upper one is not touched. */
  void invertLower(FloatMatrix lower);

  /** {@link #invertLower(FloatMatrix)} in double. */
  void invertLower(DoubleMatrix lower);
}
