package org.taco4j.compute.cuda;

import org.jspecify.annotations.Nullable;

/**
 * The kernels that sweep one block of columns ({@code obs_sweep.cu}, {@code quant_sweep.cu}) and
 * choose what goes from it ({@code select_smallest.cu}), as they are launched.
 */
final class SweepKernels {
  /** Columns that a warp holds; this and the shapes are those of {@code column_block.cuh}. */
  private static final int SPAN_COLUMNS = 16;

  private static final int WARP = 32;

  private static final int SELECT_THREADS = 256;

  /** Scores for a thread of the selection, where there are enough to fill the device. */
  private static final int SELECT_SCORES = 4;

  private static final int SELECT_BINS = 3 * 2048;

  /** Ints of one selection: histograms, and what each pass leaves for the next. */
  static final int SELECT_INTS = SELECT_BINS + 4;

  private final DeviceScope scope;

  /** Queues kernels in a scope. */
  SweepKernels(DeviceScope scope) {
    this.scope = scope;
  }

  /**
   * One block of columns.
   *
   * @param inverse M: [columns, columns], lower triangular
   * @param weights [columns, rows]: in before the sweep, out after it
   * @param change [columns, rows]: W in, W - swept W out; null for none
   * @param removed [columns, rows], bytes, 0 or 1; null where nothing is
   */
  record Block(
      DeviceMatrix inverse,
      DeviceMatrix weights,
      @Nullable DeviceMatrix change,
      @Nullable DeviceMatrix removed) {
    private int columns() {
      return weights.rows();
    }

    private int rows() {
      return weights.cols();
    }

    private int changeStride() {
      return change == null ? 0 : change.stride();
    }

    private int removedStride() {
      return removed == null ? 0 : removed.stride();
    }
  }

  /** Removes what is marked. */
  void remove(Block block) {
    scope.launch(
        scope.device().kernel("obs_sweep", "taco4j_obs_sweep_f32"),
        shape(block, 1),
        block.inverse(),
        block.inverse().stride(),
        block.weights(),
        block.weights().stride(),
        block.change(),
        block.changeStride(),
        block.removed(),
        block.removedStride(),
        block.columns(),
        block.rows());
  }

  /** Removes all but {@code kept} of each {@code group} columns, and marks what it removed. */
  void removeFromGroups(Block block, int kept, int group) {
    scope.launch(
        scope.device().kernel("obs_sweep", "taco4j_obs_sweep_groups_f32"),
        shape(block, group),
        block.inverse(),
        block.inverse().stride(),
        block.weights(),
        block.weights().stride(),
        block.change(),
        block.changeStride(),
        block.removed(),
        block.removedStride(),
        block.columns(),
        block.rows(),
        kept,
        group);
  }

  /**
   * Moves weights to the points of their grids, those that are marked to 0.
   *
   * @param scale [rows]; so are lowest and highest
   */
  void round(Block block, DeviceArray scale, DeviceArray lowest, DeviceArray highest) {
    scope.launch(
        scope.device().kernel("quant_sweep", "taco4j_quant_sweep_f32"),
        shape(block, 1),
        block.inverse(),
        block.inverse().stride(),
        block.weights(),
        block.weights().stride(),
        block.change(),
        block.changeStride(),
        block.removed(),
        block.removedStride(),
        scale,
        lowest,
        highest,
        block.columns(),
        block.rows());
  }

  private static LaunchShape shape(Block block, int group) {
    boolean isWide = group > SPAN_COLUMNS;
    int unit = isWide ? group : SPAN_COLUMNS / group * group;
    int perUnit = LaunchShape.blocks(unit, SPAN_COLUMNS);
    int spans = LaunchShape.blocks(block.columns(), unit) * perUnit;
    int floats =
        2 * SPAN_COLUMNS * WARP
            + (SPAN_COLUMNS + 1) * SPAN_COLUMNS * spans
            + (isWide ? WARP * group : 0);
    return new LaunchShape(
        LaunchShape.blocks(block.rows(), WARP), 1, 1, WARP, spans, floats * Float.BYTES);
  }

  /**
   * Marks the k units of a block with the smallest saliency.
   *
   * @param factor L_BB: [columns, columns]
   * @param unit columns of a unit
   * @param scores scratch memory for [units, rows]
   * @param state {@link #SELECT_INTS}, all 0
   */
  void markSmallest(
      Block block, DeviceMatrix factor, int unit, int k, DeviceArray scores, DeviceArray state) {
    CudaDevice device = scope.device();
    DeviceMatrix weights = block.weights();
    int units = block.columns() / unit;
    int rows = block.rows();
    int count = units * rows;
    LaunchShape shape =
        LaunchShape.of(
            Math.min(
                LaunchShape.blocks(count, SELECT_THREADS * SELECT_SCORES),
                2 * device.multiprocessors()),
            SELECT_THREADS);
    DeviceArray.Pointer known = state.at(SELECT_BINS);
    scope.launch(
        device.kernel("select_smallest", "taco4j_unit_scores_f32"),
        shape,
        weights,
        weights.stride(),
        factor,
        factor.stride(),
        units,
        unit,
        rows,
        scores,
        state);
    for (int pass = 1; pass <= 2; pass++) {
      scope.launch(
          device.kernel("select_smallest", "taco4j_select_histogram_f32"),
          shape,
          scores,
          count,
          k,
          pass,
          state,
          known);
    }
    scope.launch(
        device.kernel("select_smallest", "taco4j_select_mark_f32"),
        LaunchShape.of(units, SELECT_THREADS),
        scores,
        units,
        unit,
        rows,
        k,
        state,
        known,
        block.removed(),
        block.removedStride());
  }
}
