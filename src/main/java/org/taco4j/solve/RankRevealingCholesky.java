package org.taco4j.solve;

import java.util.Arrays;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;

/**
 * The Cholesky factorisation with complete pivoting of a symmetric positive semidefinite matrix, A
 * = SᵀS (Golub and Van Loan, "Matrix Computations", section 4.2.8), which stops where only rounding
 * errors are left and so finds the rank. Pivots are compared after scaling to a unit diagonal, so
 * that columns of small scale count as much as others. It is blocked as LAPACK's dpstrf is: within
 * a block rows of S are formed one by one, after it the rest of A is brought up to date by a
 * product.
 *
 * @param factor S: [rank, cols] row-major
 * @param pivots [rank]: the column on which row k of S was formed; row k is 0 in the columns of the
 *     pivots before it
 */
@SuppressWarnings("ArrayRecordComponent") // owned by whoever asked for the factorisation
record RankRevealingCholesky(DoubleMatrix factor, int[] pivots) {
  private static final int BLOCK = 64;

  /**
   * Factors a matrix.
   *
   * @param a [cols, cols]; borrowed, not changed
   * @param tolerance pivots up to this fraction of the column's diagonal element are taken for 0
   */
  static RankRevealingCholesky of(DoubleMatrix a, double tolerance, Backend backend) {
    int cols = a.rows();
    DoubleMatrix rest = DoubleMatrix.zeros(cols, cols);
    double[] residual = new double[cols]; // the diagonal of the rest, kept up to date
    boolean[] done = new boolean[cols];
    int live = 0;
    for (int i = 0; i < cols; i++) {
      System.arraycopy(a.data(), a.index(i, 0), rest.data(), i * cols, cols);
      residual[i] = a.at(i, i);
      done[i] = !(residual[i] > 0);
      live += done[i] ? 0 : 1;
    }
    DoubleMatrix s = DoubleMatrix.zeros(live, cols);
    int[] pivots = new int[live];
    int rank = 0;
    while (rank < live) {
      int first = rank;
      int end = Math.min(live, first + BLOCK);
      for (; rank < end; rank++) {
        int pivot = largest(residual, a, done);
        if (residual[pivot] <= tolerance * a.at(pivot, pivot)) {
          return new RankRevealingCholesky(s.block(0, rank, 0, cols), Arrays.copyOf(pivots, rank));
        }
        formRow(rest, s, first, rank, pivot, residual, done);
        pivots[rank] = pivot;
        done[pivot] = true;
      }
      DoubleMatrix block = s.block(first, rank - first, 0, cols);
      backend.gemm(-1, block.transposed(), block, 1, rest);
    }
    return new RankRevealingCholesky(s, pivots);
  }

  /** The column with the largest scaled pivot among those not done, of which there is one. */
  private static int largest(double[] residual, DoubleMatrix a, boolean[] done) {
    int best = -1;
    double most = Double.NEGATIVE_INFINITY;
    for (int i = 0; i < residual.length; i++) {
      if (!done[i] && residual[i] / a.at(i, i) > most) {
        most = residual[i] / a.at(i, i);
        best = i;
      }
    }
    return best;
  }

  /** Row {@code rank} of S; rows from {@code first} on are not yet taken off the rest. */
  private static void formRow(
      DoubleMatrix rest,
      DoubleMatrix s,
      int first,
      int rank,
      int pivot,
      double[] residual,
      boolean[] done) {
    int cols = residual.length;
    double[] data = s.data();
    int row = s.index(rank, 0);
    System.arraycopy(rest.data(), rest.index(pivot, 0), data, row, cols);
    for (int t = first; t < rank; t++) {
      int from = s.index(t, 0);
      double factor = data[from + pivot];
      for (int j = 0; j < cols; j++) {
        data[row + j] -= factor * data[from + j];
      }
    }
    double root = Math.sqrt(residual[pivot]);
    for (int j = 0; j < cols; j++) {
      data[row + j] = done[j] ? 0 : data[row + j] / root;
      residual[j] -= data[row + j] * data[row + j];
    }
    data[row + pivot] = root;
  }
}
