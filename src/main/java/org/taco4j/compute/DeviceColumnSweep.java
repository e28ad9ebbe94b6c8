package org.taco4j.compute;

import org.jspecify.annotations.Nullable;

/**
 * FastOBC and GPTQ's sweep over the columns of one layer, on a device: H goes there once, is
 * damped, factored and swept with there, and only what the solver answers comes back. By {@link
 * DeviceKernels#columnSweep}. To be used by one thread at a time.
 *
 * <p>Positions number the columns backwards, as {@code org.taco4j.solve.ColumnSweep} explains,
 * which is the same on the host.
 */
public interface DeviceColumnSweep extends AutoCloseable {
  /** What became of a factorisation. */
  enum Factorisation {
    /** The factor is there. */
    DONE,
    /** The matrix is not positive definite in float32, or all but. */
    NOT_POSITIVE_DEFINITE,
    /** H holds NaN or infinite values. */
    NOT_FINITE
  }

  /** What is done to the weights of a block of columns. */
  sealed interface Rule {}

  /**
   * The units with the smallest saliency go, of equals those that the sweep reaches first.
   *
   * @param unit columns that stand and fall together
   * @param count how many units go from each block
   */
  record Smallest(int unit, BlockCount count) implements Rule {}

  /** How many units of a block go. */
  @FunctionalInterface
  interface BlockCount {
    /** The number for the {@code columns} that are swept after {@code sweptColumns} others. */
    int of(int sweptColumns, int columns);
  }

  /** N:M: of each {@code group} columns {@code kept} stay, chosen when the sweep reaches them. */
  record Groups(int kept, int group) implements Rule {}

  /**
   * Weights go to the points of their row's grid, {@code scale · (lowest, lowest + 1, …, highest)}.
   *
   * @param scale [rows], positive; so are lowest and highest, which are whole numbers below 2²² in
   *     magnitude
   * @param kept [rows, cols] row-major: false where the weight becomes 0; null for none
   */
  @SuppressWarnings("ArrayRecordComponent") // lent for the time of a call
  record Grid(float[] scale, float[] lowest, float[] highest, boolean @Nullable [] kept)
      implements Rule {}

  /**
   * Factors H + shift · I = L Lᵀ in float32; a diagonal element of a dead column counts as 1.
   *
   * @param shift added to the diagonal
   */
  Factorisation factor(double shift);

  /**
   * Sweeps all columns, once, after a {@link #factor} that was {@link Factorisation#DONE}.
   *
   * @param weights [rows, cols] row-major; dead columns are taken for 0
   * @param blockColumns how many columns are swept at once, at most {@link #MAX_BLOCK_COLUMNS}; the
   *     first block, which is swept last, may have fewer
   * @param swept [rows, cols] row-major, overwritten: the weights after the sweep
   * @param kept [rows, cols] row-major, overwritten: false where the rule removed
   */
  void sweep(float[] weights, Rule rule, int blockColumns, float[] swept, boolean[] kept);

  /** The most columns of a block, and so of a group. */
  int MAX_BLOCK_COLUMNS = 128;

  @Override
  void close();
}
