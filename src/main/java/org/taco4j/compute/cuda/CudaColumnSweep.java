package org.taco4j.compute.cuda;

import java.util.Arrays;
import org.jspecify.annotations.Nullable;
import org.taco4j.compute.DeviceColumnSweep;
import org.taco4j.compute.DoubleMatrix;

/**
 * FastOBC and GPTQ on a GPU, as {@code org.taco4j.solve.ColumnSweep} has them: D = W - Ŵ of all
 * columns swept so far moves a block by D L M, two products; then the block is swept by one kernel.
 * Nothing of it waits for the host, as the number that goes from each block is known before. How
 * much memory it takes is reserved, so that several layers wait for each other.
 */
final class CudaColumnSweep implements DeviceColumnSweep {
  private static final int THREADS = 256;
  private static final int TILE = 32;
  private static final int TILE_THREAD_ROWS = 8;
  private static final int MAX_GRID_ROWS = 65_535;

  private final int rows;
  private final int cols;
  private final DeviceScope scope;
  private final SweepKernels kernels;

  /** H: [cols, cols], float64. */
  private final DeviceArray hessian;

  private final DeviceArray column;
  private final DeviceArray dead;

  /** The damped H, then L: [cols, cols], lower triangle. */
  private final DeviceMatrix lower;

  /** The diagonal of the damped H. */
  private final DeviceArray diagonal;

  /**
   * [3]: whether H has values that are not finite, how many pivots are lost, and where the
   * factorisation failed or -1.
   */
  private final DeviceArray flags;

  /** As {@link org.taco4j.compute.DeviceKernels#columnSweep}. */
  CudaColumnSweep(CudaDevice device, DoubleMatrix h, int rows, int[] column, boolean[] dead) {
    this.rows = rows;
    cols = h.cols();
    scope = device.scope(memory(rows, cols));
    try {
      kernels = new SweepKernels(scope);
      hessian = scope.doubles((long) cols * cols);
      if (h.rowStride() == cols) {
        scope.upload(h.data(), h.offset(), hessian, 0, cols * cols);
      } else {
        for (int row = 0; row < cols; row++) {
          scope.upload(h.data(), h.index(row, 0), hessian, (long) row * cols, cols);
        }
      }
      this.column = scope.copyOf(column);
      this.dead = scope.copyOf(dead);
      lower = DeviceMatrix.of(scope.floats((long) cols * cols), cols, cols);
      diagonal = scope.floats(cols);
      flags = scope.ints(3);
    } catch (RuntimeException e) {
      scope.close();
      throw e;
    }
  }

  /** Bytes that a layer takes, all in all, and not much less. */
  private static long memory(int rows, int cols) {
    long square = (long) cols * cols;
    long weights = (long) rows * cols;
    long block = (long) MAX_BLOCK_COLUMNS * rows;
    long select = (long) SweepKernels.SELECT_INTS * Integer.BYTES;
    // H, its factor, and as much again for a library's scratch.
    return square * (Double.BYTES + 2 * Float.BYTES)
        + weights * (3 * Float.BYTES + 3)
        + 2 * block * Float.BYTES
        + (cols + (long) MAX_BLOCK_COLUMNS) * MAX_BLOCK_COLUMNS * Float.BYTES
        + cols * 64L
        + ((long) cols / MAX_BLOCK_COLUMNS + 1) * 2 * select
        + 3L * rows * Float.BYTES;
  }

  @Override
  public Factorisation factor(double shift) {
    CudaDevice device = scope.device();
    scope.clear(flags);
    scope.launch(
        device.kernel("column_order", "taco4j_order_hessian_f32"),
        LaunchShape.grid(LaunchShape.blocks(cols, THREADS), Math.min(cols, MAX_GRID_ROWS), THREADS),
        hessian,
        cols,
        column,
        dead,
        shift,
        lower,
        lower.stride(),
        diagonal,
        flags);
    device.linearAlgebra().cholesky(scope, lower, flags.slice(2, 1));
    scope.launch(
        device.kernel("column_order", "taco4j_count_lost_pivots_f32"),
        LaunchShape.of(LaunchShape.blocks(cols, THREADS), THREADS),
        lower,
        lower.stride(),
        diagonal,
        cols,
        Math.ulp(1f),
        flags);
    int[] found = new int[3];
    scope.download(flags, 0, found, 0, found.length);
    if (found[0] != 0) {
      return Factorisation.NOT_FINITE;
    }
    return found[1] > 0 || found[2] >= 0 ? Factorisation.NOT_POSITIVE_DEFINITE : Factorisation.DONE;
  }

  @Override
  public void sweep(float[] weights, Rule rule, int blockColumns, float[] swept, boolean[] kept) {
    CudaDevice device = scope.device();
    int blocks = LaunchShape.blocks(cols, blockColumns);
    DeviceArray dense = scope.copyOf(weights);
    DeviceMatrix w =
        DeviceMatrix.of(scope.floats((long) rows * cols), /* rows= */ cols, /* cols= */ rows);
    DeviceMatrix change =
        DeviceMatrix.of(scope.floats((long) rows * cols), /* rows= */ cols, /* cols= */ rows);
    scope.launch(
        device.kernel("column_order", "taco4j_gather_weights_f32"),
        tiles(),
        dense,
        rows,
        cols,
        column,
        dead,
        w,
        change);
    DeviceMatrix removed = removed(rule);
    BlockStep step = step(rule, blocks, blockColumns);

    DeviceArray inverses = scope.floats((long) blocks * blockColumns * blockColumns);
    scope.launch(
        device.kernel("diagonal_inverse", "taco4j_diagonal_inverse_f32"),
        LaunchShape.grid(LaunchShape.blocks(blockColumns, TILE), blocks, TILE),
        lower,
        lower.stride(),
        cols,
        blockColumns,
        inverses);
    DeviceMatrix scratch =
        DeviceMatrix.of(scope.floats((long) blockColumns * rows), blockColumns, rows);
    for (int number = 0; number < blocks; number++) {
      int end = cols - number * blockColumns;
      int first = Math.max(0, end - blockColumns);
      int size = end - first;
      DeviceMatrix inverse =
          new DeviceMatrix(
              inverses, (long) number * blockColumns * blockColumns, size, size, blockColumns);
      DeviceMatrix block = w.block(first, size, 0, rows);
      if (end < cols) {
        DeviceLinearAlgebra algebra = device.linearAlgebra();
        DeviceMatrix fromSwept = scratch.block(0, size, 0, rows);
        DeviceMatrix coupling = lower.block(end, cols - end, first, size);
        DeviceMatrix changed = change.block(end, cols - end, 0, rows);
        algebra.gemm(scope, 1, coupling, true, changed, false, 0, fromSwept);
        algebra.gemm(scope, 1, inverse, true, fromSwept, false, 1, block);
      }
      step.sweep(
          number,
          lower.block(first, size, first, size),
          new SweepKernels.Block(
              inverse,
              block,
              change.block(first, size, 0, rows),
              removed == null ? null : removed.block(first, size, 0, rows)));
    }
    DeviceArray marks = removed == null ? null : scope.bytes((long) rows * cols);
    scope.launch(
        device.kernel("column_order", "taco4j_scatter_weights_f32"),
        tiles(),
        w,
        removed,
        rows,
        cols,
        column,
        dense,
        marks);
    scope.download(dense, 0, swept, 0, swept.length);
    if (marks == null) {
      Arrays.fill(kept, true);
    } else {
      scope.download(marks, 0, kept, 0, kept.length);
    }
  }

  /** What a rule does to a block, the factor's block of which is given too. */
  @FunctionalInterface
  private interface BlockStep {
    void sweep(int number, DeviceMatrix factor, SweepKernels.Block block);
  }

  private BlockStep step(Rule rule, int blocks, int blockColumns) {
    return switch (rule) {
      case Groups groups ->
          (number, factor, block) -> kernels.removeFromGroups(block, groups.kept(), groups.group());
      case Smallest smallest -> {
        DeviceArray scores = scope.floats((long) blockColumns / smallest.unit() * rows);
        // Of all blocks, so that they are cleared once.
        DeviceArray states = scope.ints((long) blocks * SweepKernels.SELECT_INTS);
        scope.clear(states);
        yield (number, factor, block) -> {
          int k = smallest.count().of(number * blockColumns, factor.cols());
          DeviceArray state =
              states.slice((long) number * SweepKernels.SELECT_INTS, SweepKernels.SELECT_INTS);
          kernels.markSmallest(block, factor, smallest.unit(), k, scores, state);
          kernels.remove(block);
        };
      }
      case Grid grid -> {
        DeviceArray scale = scope.copyOf(grid.scale());
        DeviceArray lowest = scope.copyOf(grid.lowest());
        DeviceArray highest = scope.copyOf(grid.highest());
        yield (number, factor, block) -> kernels.round(block, scale, lowest, highest);
      }
    };
  }

  /** [cols, rows], bytes: what goes, where that is known, else room for it; null where nothing. */
  private @Nullable DeviceMatrix removed(Rule rule) {
    if (rule instanceof Grid grid && grid.kept() == null) {
      return null;
    }
    DeviceArray removed = scope.bytes((long) rows * cols);
    if (rule instanceof Grid grid && grid.kept() != null) {
      scope.launch(
          scope.device().kernel("column_order", "taco4j_gather_removed_u8"),
          tiles(),
          scope.copyOf(grid.kept()),
          rows,
          cols,
          column,
          removed);
    }
    return DeviceMatrix.of(removed, /* rows= */ cols, /* cols= */ rows);
  }

  /** How kernels that transpose weights are launched. */
  private LaunchShape tiles() {
    return new LaunchShape(
        LaunchShape.blocks(cols, TILE),
        LaunchShape.blocks(rows, TILE),
        1,
        TILE,
        TILE_THREAD_ROWS,
        /* sharedBytes= */ 0);
  }

  @Override
  public void close() {
    scope.close();
  }
}
