package org.taco4j.compute;

import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;

/**
 * What a backend with memory of its own does as a whole, so that a layer's matrices go there once
 * and stay: one method for each operation that a solver hands over. Solvers keep what is theirs:
 * the order of steps, damping, errors and reports.
 *
 * <p>Everything that is opened here is to be closed; results are the same bytes at any number of
 * threads. Failures of the device are {@link org.taco4j.common.TacoException}s of kind RUNTIME.
 */
public interface DeviceKernels {
  /** How many layers are best worked on at once, so that no device waits for the host. */
  int layersAtOnce();

  /** How many devices there are, each with memory of its own. */
  int devices();

  /**
   * Exact OBC of all rows of a layer; to be closed by the caller. Waits for memory of the device,
   * so a thread must not hold one and ask for another.
   *
   * @param inverse H⁻¹, [n, n] row-major, symmetric; borrowed until it is closed
   * @param leastPivots [n]: 1 / H_jj, which the pivot of column j cannot fall below but by rounding
   * @param units what goes at once, and what may go at all
   * @param weights [rows, n] row-major, copied
   * @param setRows so many consecutive rows share a mask each
   * @param float64 the precision that most of it will be in
   */
  LayerElimination obsElimination(
      DoubleMatrix inverse,
      double[] leastPivots,
      ObsElimination.Units units,
      FloatMatrix weights,
      int setRows,
      boolean float64);

  /** The Gram matrices of a layer's inputs, one for each group; to be closed by the caller. */
  GramSum gram(Patches patches);

  /** Device memory that {@link #gram} takes for images of ordinary size, in bytes. */
  long gramBytes(Patches patches);

  /**
   * The sums over a layer's inputs and the residuals of its outputs, for each group; to be closed
   * by the caller. Waits for memory of the device, so a thread must not hold one and ask for
   * another.
   *
   * @param rows outputs of one group
   */
  ResidualSum residuals(Patches patches, int rows);

  /** Device memory that may be used at once, over all devices, in bytes. */
  long memory();

  /**
   * The weights that a mask allows at their best: each row minimises (ŵ − w) H̃ (ŵ − w)ᵀ over its
   * kept columns, by one Cholesky factorisation in double for each set of rows.
   *
   * @param hessian H̃: [n, n], both triangles
   * @param inverse H̃⁻¹: [n, n], both triangles
   * @param weights [rows, n] row-major: in W, out Ŵ; removed weights become exactly +0
   * @param kept the mask, [rows, n] row-major
   * @param maskRows so many consecutive rows share a mask each
   * @return -1, or the first row of a set for which a part of H̃ is not positive definite; weights
   *     are not touched then
   */
  int leastSquaresRefit(
      DoubleMatrix hessian, DoubleMatrix inverse, float[] weights, boolean[] kept, int maskRows);

  /** What computes on the host beside it, for what the device does not do. */
  Backend host();

  /**
   * A layer whose columns are to be swept, in blocks of up to {@link
   * DeviceColumnSweep#MAX_BLOCK_COLUMNS}; to be closed by the caller.
   *
   * @param hessian H: [cols, cols] row-major, symmetric
   * @param rows of the weights
   * @param column [cols], a permutation: the column at each position; the last is swept first
   * @param dead [cols] by position: whether the diagonal of H is 0 there
   */
  DeviceColumnSweep columnSweep(DoubleMatrix hessian, int rows, int[] column, boolean[] dead);

  /**
   * ZipLM's order: groups of columns are removed from all rows, one after the other, each time the
   * one that costs least once the columns that stay have made up for those removed.
   *
   * @param inverse H̃⁻¹: [cols, cols] row-major, symmetric
   * @param weights [rows, cols] row-major
   * @param group consecutive columns that go together; divides cols
   * @param count how many groups go
   * @return [count], the groups in the order in which they go; null where H̃ is too ill conditioned
   *     for that: costs were not finite any more
   */
  int @Nullable [] removeColumnGroups(
      DoubleMatrix inverse, DoubleMatrix weights, int group, int count);

  /**
   * Swaps columns of supports while that lowers the errors; waits for memory of the device.
   *
   * @param expired whether the time is up; asked before each of the steps, of some milliseconds or,
   *     for thousands of columns, seconds
   * @return [sets], what was found by then; null for sets that were not begun
   * @throws org.taco4j.common.TacoException of kind NUMERICAL where a part of H̃ is singular
   */
  PivotSearch.@Nullable Found[] swapPivots(PivotSearch search, BooleanSupplier expired);
}
