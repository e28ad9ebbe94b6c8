package org.taco4j.compute;

import org.jspecify.annotations.Nullable;
import org.taco4j.common.Workers;

/**
 * The numerical kernels that calibration and the layer solvers are made of. {@code
 * org.taco4j.compute.scalar} is the readable truth; the others must agree with it up to rounding.
 *
 * <p>Matrices are borrowed views. Every method returns the same bytes at any number of threads.
 * Methods that are "parallel" spread over {@link #workers()} and so must not be called from one of
 * its tasks; those that are "sequential" run on the calling thread, from any thread.
 */
public interface Backend extends AutoCloseable {
  /** The name by which users ask for it: {@code "scalar"}, {@code "simd"}, {@code "cuda"}. */
  String name();

  /** One line for logs and reports: what computes here, with versions and vector width. */
  String description();

  /**
   * {@link #description} without what does not decide results: backends of which this is the same
   * give the same bytes.
   */
  String kernels();

  /** What users are to know before they rely on it, one sentence; empty for nothing. */
  default String caveat() {
    return "";
  }

  /** The threads of the parallel methods. */
  Workers workers();

  /**
   * Operations that this backend does as a whole in memory of its own; null where it works on heap
   * arrays, with the methods below.
   */
  default @Nullable DeviceKernels device() {
    return null;
  }

  /** Frees what the backend has of devices; it must not be used then. The workers live on. */
  @Override
  default void close() {}

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
   * {@link #cholesky(FloatMatrix)} in double; parallel.
   *
   * @param a [n, n]; only the lower triangle is read, and becomes L; the strict upper triangle may
   *     hold anything afterwards
   * @return -1, or the index of the pivot that was not positive; A is then spoilt
   */
  int cholesky(DoubleMatrix a);

  /**
   * Inverts a symmetric positive definite matrix in place; parallel.
   *
   * @param a [n, n]; only the lower triangle is read; both triangles of the inverse are written,
   *     exactly symmetric
   * @return -1, or the index of the pivot that was not positive; A is then spoilt
   */
  int invertPositiveDefinite(DoubleMatrix a);

  /**
   * Solves A X = B for a symmetric positive definite A and few right-hand sides; sequential.
   *
   * @param a [n, n]; only the lower triangle is read, and becomes the Cholesky factor L; the strict
   *     upper triangle may hold anything afterwards
   * @param b [n, m]: B in, X out; a transposed view where the memory holds a row for each
   *     right-hand side
   * @return -1, or the index of the pivot that was not positive; A is then spoilt, B is not touched
   */
  int solvePositiveDefinite(DoubleMatrix a, DoubleMatrix b);

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
   * Exact OBS over one inverse Hessian, in float32.
   *
   * @param inverse H⁻¹, [n, n], symmetric
   * @param leastPivots [n]: 1 / H_jj, which the pivot of column j cannot fall below but by rounding
   * @param units what goes at once, and what may go at all
   */
  ObsElimination obsElimination(
      FloatMatrix inverse, double[] leastPivots, ObsElimination.Units units);

  /** {@link #obsElimination(FloatMatrix, double[], ObsElimination.Units)} in float64. */
  ObsElimination obsElimination(
      DoubleMatrix inverse, double[] leastPivots, ObsElimination.Units units);

  /**
   * {@link #obsSweep(FloatMatrix, FloatMatrix, boolean[])} onto a grid: the inner loop of GPTQ
   * (Frantar et al. 2022, algorithm 1); parallel. A weight w_j that the sweep reaches becomes
   * exactly +0 where it is marked, else the nearest point of its row's grid, q = scale ·
   * clamp(round(w_j / scale), lowest, highest), half to even, a zero as +0; and with e = (w_j - q)
   * / M_jj: w_c -= e M_jc for all c &lt; j.
   *
   * @param inverse M, [b, b] lower triangular
   * @param w [b, rows] row-major, a row for each column of the weights
   * @param removed [b, rows], contiguous: the weights that become 0
   * @param scale [rows], positive
   * @param lowest [rows], whole numbers, below 2²² in magnitude
   * @param highest [rows], as lowest
   */
  void quantSweep(
      FloatMatrix inverse,
      FloatMatrix w,
      boolean[] removed,
      float[] scale,
      float[] lowest,
      float[] highest);

  /**
   * tr(W G Wᵀ), added up in double; parallel.
   *
   * @param w [rows, cols] row-major
   * @param g [cols, cols] row-major, symmetric
   */
  double quadraticForm(FloatMatrix w, DoubleMatrix g);

  /** {@link #gemm(double, DoubleMatrix, DoubleMatrix, double, DoubleMatrix)}; sequential. */
  void gemmTile(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c);

  /**
   * Inverts a symmetric positive definite A in place and reduces by it what the columns of R have
   * of their own: with A = H_SS and R = H_S,:, {@code schur_j - r_jᵀ A⁻¹ r_j} turns the diagonal of
   * H into that of the Schur complement of A in H; sequential.
   *
   * @param a [k, k]; only the lower triangle is read; both triangles of the inverse are written
   * @param r [k, n] row-major
   * @param schur [n]: in the diagonal of H, out that of the complement
   * @return -1, or the index of the pivot that was not positive; A is then spoilt, schur untouched
   */
  int invertAndReduce(DoubleMatrix a, DoubleMatrix r, double[] schur);

  /**
   * A += alpha x yᵀ; sequential.
   *
   * @param a [m, n] row-major
   * @param x its first m elements
   * @param y its first n elements, no memory of A
   */
  void rankOne(double alpha, double[] x, double[] y, DoubleMatrix a);

  /**
   * y = A x; sequential.
   *
   * @param a [m, n] row-major
   * @param x its first n elements
   * @param y its first m elements are overwritten
   */
  void multiply(DoubleMatrix a, double[] x, double[] y);

  /**
   * The column whose removal costs least once another has been added: the i with the smallest Σ_r
   * (w_ri - c_i s_r)² / (g_i + inverseSchur c_i²), of equals the first; sequential. The inner loop
   * of the search over masks.
   *
   * @param w [rows, n] row-major: the weights before
   * @param g its first n elements: the diagonal of the inverse before, positive
   * @param c [1, n] row-major: how the weights move for a unit of the added one, negated
   * @param s its first {@code rows} elements: the added weights
   * @param inverseSchur 1 / D of the added column
   * @return -1 where n is 0
   */
  int cheapestRemoval(DoubleMatrix w, double[] g, DoubleMatrix c, double[] s, double inverseSchur);
}
