package org.taco4j.compute;

/**
 * The greedy eliminations of {@link ObsElimination} of all rows of a layer, over one inverse
 * Hessian: each set of rows that share a mask is eliminated on its own, and the layer's units go by
 * the losses of all (Frantar and Alistarh 2022, "Optimal Brain Compression", section 4). It keeps
 * what each step of each set did, where it was computed, until it is closed.
 *
 * <p>To be used by one thread at a time; methods are parallel.
 */
public interface LayerElimination extends AutoCloseable {
  /**
   * Eliminates units from sets of rows. What is known of them from before is replaced.
   *
   * @param sets their numbers; set s is rows s · setRows and on
   * @param stopLoss each elimination ends before the first step that loses more than this
   * @param float64 whether in float64, else in float32
   * @return for each of the sets the number of steps taken; or -1 - steps, where the next pivot
   *     shows that rounding has destroyed the inverse: such sets have to be run again
   */
  int[] run(int[] sets, double stopLoss, boolean float64);

  /**
   * The largest of the {@code total} smallest losses of all sets that were run; infinite where
   * there are fewer.
   *
   * @param total at least 1
   */
  double threshold(long total);

  /**
   * The mask of the layer, where it is to lose {@code total} units: those of the smallest losses,
   * of equals the first rows' first steps.
   *
   * @param total no more than there are steps
   * @param columns [n]: the column at each position; units are numbered along the positions
   * @return [rows, n] by columns
   */
  boolean[] kept(long total, int[] columns);

  /** For each set the unit of each step; [0] where it was not run. */
  int[][] order();

  /** For each set what each step adds to the half squared error; [0] where it was not run. */
  double[][] losses();

  @Override
  void close();
}
