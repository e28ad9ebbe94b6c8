package org.taco4j.compute;

import org.jspecify.annotations.Nullable;

/**
 * Sets of rows whose supports, the columns that they keep, are to be made better by swaps of a kept
 * and a removed column, each set for itself, while that lowers tr(ΔW H̃ ΔWᵀ) with the weights that
 * are the least-squares fit to the support.
 *
 * @param layer its name, for messages
 * @param hessian H̃, damped, [cols, cols] row-major, symmetric
 * @param groups of N:M, within which columns are swapped; null for none
 * @param targets B = W H̃ of the dense rows, [rows, cols] row-major
 * @param setRows so many consecutive rows share a support each; the last set may have fewer
 * @param energies [sets]: tr(W H̃ Wᵀ) of each set's dense rows
 * @param supports [sets][columns kept]
 * @param tolerance swaps that lower the error of a set by a smaller part of it are not made
 */
@SuppressWarnings("ArrayRecordComponent") // borrowed for one call
public record PivotSearch(
    String layer,
    DoubleMatrix hessian,
    @Nullable Groups groups,
    DoubleMatrix targets,
    int setRows,
    double[] energies,
    int[][] supports,
    double tolerance) {
  /** So many gains and costs are told of each set. */
  public static final int REPORTED = 8;

  /**
   * Groups of columns.
   *
   * @param columns [cols], group after group
   * @param groupOf [cols]: the group of each column
   * @param size columns of a group
   */
  @SuppressWarnings("ArrayRecordComponent") // borrowed for one call
  public record Groups(int[] columns, int[] groupOf, int size) {}

  /**
   * What became of a set.
   *
   * @param support ascending, as many columns as before
   * @param error ‖ΔW X‖² of the set, damping included
   * @param gains what the columns that would gain most would each, alone, lower the error by;
   *     descending
   * @param costs what the columns that would be missed least would each, alone, raise it by;
   *     ascending
   * @param swaps how many swaps it took
   * @param flop floating-point operations
   */
  @SuppressWarnings("ArrayRecordComponent") // the caller's
  public record Found(
      int[] support, double error, double[] gains, double[] costs, int swaps, double flop) {}
}
