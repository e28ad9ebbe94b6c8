package org.taco4j.compute;

import org.taco4j.common.Workers;

/**
 * The numerical kernels that calibration and the layer solvers are made of. {@code
 * org.taco4j.compute.scalar} is the readable truth; the others must agree with it up to rounding.
 *
 * <p>Matrices are borrowed views. Every method returns the same bytes at any number of threads.
 * Methods that are "parallel" spread over {@link #workers()} and so must not be called from one of
 * its tasks; those that are "sequential" run on the calling thread, from any thread.
 */
public interface Backend {
  /** The name by which users ask for it: {@code "scalar"}, {@code "simd"}. */
  String name();

  /** One line for logs and reports: what computes here, with versions and vector width. */
  String description();

  /**
   * {@link #description} without what does not decide results: backends of which this is the same
   * give the same bytes.
   */
  String kernels();

  /** The threads of the parallel methods. */
  Workers workers();

  /**
   * C = alpha A B + beta C; parallel.
   *
   * @param a [m, k]
   * @param b [k, n]
   * @param beta 0 overwrites C, whatever it holds
   * @param c [m, n], sharing no element with A or B
   */
  void gemm(float alpha, FloatMatrix a, FloatMatrix b, float beta, FloatMatrix c);

  /** {@link #gemm(float, FloatMatrix, FloatMatrix, float, FloatMatrix)} in double; parallel. */
  void gemm(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c);

  /**
   * One tile of the Gram matrix XᵀX, for whoever tiles it: {@code tile = leftᵀ right}; sequential.
   * Products are added up in float, so the caller hands in a bounded number of samples (thousands)
   * and adds the tiles in double ({@link DoubleMatrix#add}).
   *
   * @param left [samples, rows of the tile], a block of columns of X; a transposed view where the
   *     memory holds X as [cols, samples]
   * @param right [samples, columns of the tile], another or the same block of columns of X
   * @param tile overwritten
   */
  void gramTile(FloatMatrix left, FloatMatrix right, FloatMatrix tile);

  /**
   * The upper triangle of the Gram matrix XᵀX of a few samples: {@link #gramTile} at half the work;
   * sequential.
   *
   * @param samples X, [samples, n]; a transposed view where the memory holds [n, samples]
   * @param triangle [n, n] row-major; the upper triangle with the diagonal is overwritten, below it
   *     anything may stand afterwards
   */
  void gramTriangle(FloatMatrix samples, FloatMatrix triangle);

  /**
   * Factors a symmetric positive definite A = L Lᵀ in place; parallel.
   *
   * @param a [n, n]; only the lower triangle is read, and becomes L; the strict upper triangle may
   *     hold anything afterwards
   * @return -1, or the index of the pivot that was not positive, where A is not positive definite
   *     in float32; A is then spoilt
   */
  int cholesky(FloatMatrix a);

  /**
   * Inverts a lower triangular matrix in place; sequential, meant for diagonal blocks of a few
   * hundred columns.
   *
   * @param lower [n, n] with a diagonal without zeros; the strict upper triangle becomes zero
   */
  void invertLower(FloatMatrix lower);

  /**
   * Removes the marked weights of one block of columns, one column after the other, from the last
   * to the first, and moves the columns not yet swept so as to make up for it: the inner loop of
   * SparseGPT (Frantar and Alistarh 2023, algorithm 1) and of all OBS solvers with a common order;
   * parallel. With M = {@code inverse} and e = w_j / M_jj for a removed weight and 0 otherwise: w_c
   * -= e M_jc for all c &lt;= j.
   *
   * @param inverse M, [b, b] lower triangular: the inverse of the block's part of the Cholesky
   *     factor
   * @param w [b, rows] row-major, a row for each column of the weights: in as they are before the
   *     block, out with removed weights exactly +0
   * @param removed [b, rows], contiguous: the weights to remove
   */
  void obsSweep(FloatMatrix inverse, FloatMatrix w, boolean[] removed);

  /**
   * {@link #obsSweep(FloatMatrix, FloatMatrix, boolean[])} for the N:M pattern: in each group of
   * {@code groupSize} columns, counted from the last column of the block, the weights with the
   * smallest saliency (w_j / M_jj)² are removed, chosen at the moment the sweep reaches the group;
   * the column that is swept first goes first among equals; parallel.
   *
   * @param removed [b, rows], contiguous: overwritten with the choice
   * @param kept how many weights of each group stay
   * @param groupSize divides b
   */
  void obsSweep(FloatMatrix inverse, FloatMatrix w, boolean[] removed, int kept, int groupSize);

  /**
   * tr(W G Wᵀ), added up in double; parallel.
   *
   * @param w [rows, cols] row-major
   * @param g [cols, cols] row-major, symmetric
   */
  double quadraticForm(FloatMatrix w, DoubleMatrix g);
}
