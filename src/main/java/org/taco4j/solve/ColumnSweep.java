package org.taco4j.solve;

import java.util.Arrays;
import java.util.concurrent.atomic.AtomicBoolean;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceColumnSweep;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.compute.FloatMatrix;

/**
 * The sweep that FastOBC and GPTQ share (Frantar and Alistarh 2023, "SparseGPT: Massive Language
 * Models Can Be Accurately Pruned in One-Shot", algorithm 1; Frantar et al. 2022, "GPTQ: Accurate
 * Post-Training Quantization for Generative Pre-trained Transformers", algorithm 1): over the
 * columns once, in blocks of 128; what changes in a column is made up for, row by row, by the
 * columns still to come.
 *
 * <p>The papers sweep with U, the upper Cholesky factor of H⁻¹ = Uᵀ U: w_c -= e_j U_jc for c &gt;
 * j, with e_j = (w_j - ŵ_j) / U_jj. Here U is never formed. Columns are numbered backwards, so that
 * the sweep runs from the last position to the first, and then the ordinary factor H = L Lᵀ serves:
 * U backwards is L⁻¹. Two things follow.
 *
 * <ul>
 *   <li>Inside a block B only M = (L_BB)⁻¹ is needed.
 *   <li>Let D = W − Ŵ of the columns already swept, P. What these move in the block, all at once,
 *       is W_B += D_P L_PB M: instead of the inverse of all of L (as much work again as the
 *       factorisation) and an update of everything to come after each block, one product for each
 *       block when its turn comes.
 * </ul>
 *
 * <p>Weights are held transposed, [position, row]: neighbours in memory are the same column of
 * neighbouring rows, for which the sweep does the same. Dead columns are 0 before the sweep.
 *
 * <p>A device does all of this by itself, {@link DeviceColumnSweep}: only the damping is ours.
 */
final class ColumnSweep {
  /** The papers' block: the mask is chosen for this many columns at once. */
  private static final int BLOCK_COLUMNS = 128;

  /** Fixed borders of tasks, small enough for the first-level cache. */
  private static final int TASK_POSITIONS = 16;

  private static final int TILE_POSITIONS = 8;
  private static final int TILE_ROWS = 16;

  private ColumnSweep() {}

  /**
   * A block of columns whose turn it is, the last position swept first.
   *
   * @param sweptColumns how many columns were swept before
   * @param columns [size], the column at each position; borrowed
   * @param factor L_BB: [size, size], lower triangle
   * @param inverse M = (L_BB)⁻¹: [size, size], zeros above the diagonal
   * @param weights [size, rows]: in as the blocks before have moved them, out swept
   * @param removed [size, rows], contiguous, for the mask; nothing is marked yet
   */
  @SuppressWarnings("ArrayRecordComponent") // lent for the time of the call
  record Block(
      int sweptColumns,
      int[] columns,
      FloatMatrix factor,
      FloatMatrix inverse,
      FloatMatrix weights,
      boolean[] removed) {}

  /** What is done to a block. */
  @FunctionalInterface
  interface BlockStep {
    /** Sweeps the block's weights, with all threads of the backend. */
    void sweep(Block block);
  }

  /**
   * What came out; the fields as in {@link LayerSolution}.
   *
   * @param weights [rows, cols] row-major
   * @param kept [rows, cols] row-major
   */
  @SuppressWarnings("ArrayRecordComponent") // handed over
  record Result(
      float[] weights,
      boolean[] kept,
      double damping,
      int escalations,
      int deadColumns,
      double gflop) {}

  /**
   * Sweeps all columns.
   *
   * @param order [cols]: the columns in the order of the sweep
   * @param group of columns that are not to be cut; divides the number of columns, and is at most
   *     {@link DeviceColumnSweep#MAX_BLOCK_COLUMNS} where the backend has a device
   * @param step what is done to a block, on the host
   * @param rule the same for a device
   * @throws org.taco4j.common.TacoException of kind NUMERICAL where the Hessian is not fit to be
   *     used
   */
  static Result run(
      SolveRequest request,
      int[] order,
      int group,
      Backend backend,
      BlockStep step,
      DeviceColumnSweep.Rule rule) {
    int rows = request.rows();
    int cols = request.cols();
    Workers workers = backend.workers();

    // column[p]: the column at position p.
    int[] column = new int[cols];
    boolean[] dead = new boolean[cols];
    int deadColumns = 0;
    double trace = 0;
    for (int p = 0; p < cols; p++) {
      column[p] = order[cols - 1 - p];
      dead[p] = request.hessian().diagonal(column[p]) == 0;
      deadColumns += dead[p] ? 1 : 0;
      trace += dead[p] ? 1 : request.hessian().diagonal(column[p]);
    }
    double mean = trace / cols;
    int blockColumns = Math.min(cols, Math.max(group, BLOCK_COLUMNS / group * group));
    double gflop =
        1e-9 * ((double) cols * cols * cols / 3 + (double) rows * cols * (cols + blockColumns));
    DeviceKernels device = backend.device();
    if (device != null) {
      try (DeviceColumnSweep sweep =
          device.columnSweep(request.hessian().values(), rows, column, dead)) {
        var factor = factorise(request, mean, sweep);
        float[] weights = new float[rows * cols];
        boolean[] kept = new boolean[rows * cols];
        sweep.sweep(request.weights(), rule, blockColumns, weights, kept);
        return new Result(
            weights, kept, factor.damping(), factor.escalations(), deadColumns, gflop);
      }
    }
    var factor = factorise(request, column, dead, mean, backend);

    float[] weights = new float[rows * cols];
    boolean[] kept = new boolean[rows * cols];
    FloatMatrix change = FloatMatrix.zeros(/* rows= */ cols, /* cols= */ rows); // D, transposed
    // Of a block, used again by the next: [columns of the block, rows].
    FloatMatrix block = FloatMatrix.zeros(blockColumns, rows);
    FloatMatrix scratch = FloatMatrix.zeros(blockColumns, rows);
    boolean[] removed = new boolean[blockColumns * rows];
    for (int end = cols; end > 0; end -= blockColumns) {
      int first = Math.max(0, end - blockColumns);
      int size = end - first;
      FloatMatrix original = change.block(first, size, 0, rows);
      FloatMatrix w = block.block(0, size, 0, rows);
      gather(request, column, dead, first, original, w, workers);
      FloatMatrix factorBlock = factor.factor().block(first, size, first, size);
      FloatMatrix inverse = factorBlock.copy();
      backend.invertLower(inverse);

      if (end < cols) {
        FloatMatrix fromSwept = scratch.block(0, size, 0, rows);
        FloatMatrix coupling = factor.factor().block(end, cols - end, first, size);
        FloatMatrix swept = change.block(end, cols - end, 0, rows);
        backend.gemm(1, coupling.transposed(), swept, 0, fromSwept);
        backend.gemm(1, inverse.transposed(), fromSwept, 1, w);
      }
      Arrays.fill(removed, false);
      int[] columns = Arrays.copyOfRange(column, first, end);
      step.sweep(new Block(cols - end, columns, factorBlock, inverse, w, removed));
      scatter(w, removed, original, column, first, weights, kept, workers);
    }
    return new Result(weights, kept, factor.damping(), factor.escalations(), deadColumns, gflop);
  }

  /** L with H + λ · mean · I = L Lᵀ, positions in place of columns, on a device. */
  private static DampingEscalation.Damped<DeviceColumnSweep> factorise(
      SolveRequest request, double mean, DeviceColumnSweep sweep) {
    return DampingEscalation.escalate(
        request,
        damping ->
            switch (sweep.factor(damping * mean)) {
              case DONE -> sweep;
              case NOT_POSITIVE_DEFINITE -> null;
              case NOT_FINITE -> throw DampingEscalation.notFinite(request);
            });
  }

  /** L with H + λ · mean · I = L Lᵀ, positions in place of columns. */
  private static DampingEscalation.Damped<FloatMatrix> factorise(
      SolveRequest request, int[] column, boolean[] dead, double mean, Backend backend) {
    int cols = request.cols();
    FloatMatrix l = FloatMatrix.zeros(cols, cols);
    return DampingEscalation.escalate(
        request,
        damping -> {
          float[] diagonal = fillLower(request, column, dead, damping * mean, l, backend);
          return backend.cholesky(l) < 0 && isMeaningful(l, diagonal) ? l : null;
        });
  }

  /**
   * Whether no pivot is rounding error: the pivot of a column that depends on those before it comes
   * out as some multiple of the float epsilon instead of 0, and everything after it as noise.
   */
  private static boolean isMeaningful(FloatMatrix l, float[] diagonal) {
    for (int p = 0; p < diagonal.length; p++) {
      // Written so that NaN fails too.
      if (!(l.at(p, p) * l.at(p, p) >= Math.ulp(1f) * diagonal[p])) {
        return false;
      }
    }
    return true;
  }

  /** The damped Hessian by positions, as float, lower triangle; returns its diagonal. */
  private static float[] fillLower(
      SolveRequest request,
      int[] column,
      boolean[] dead,
      double shift,
      FloatMatrix l,
      Backend backend) {
    int cols = request.cols();
    double[] h = request.hessian().values().data();
    float[] diagonal = new float[cols];
    AtomicBoolean finite = new AtomicBoolean(true);
    int tasks = (cols + TASK_POSITIONS - 1) / TASK_POSITIONS;
    backend
        .workers()
        .forEach(
            tasks,
            task -> {
              // The long rows first.
              int from = (tasks - 1 - task) * TASK_POSITIONS;
              double poison = 0;
              for (int p = from; p < Math.min(cols, from + TASK_POSITIONS); p++) {
                int source = request.hessian().values().index(column[p], 0);
                int to = l.index(p, 0);
                for (int q = 0; q < p; q++) {
                  double value = h[source + column[q]];
                  poison += value * 0; // NaN as soon as one value is NaN or infinite
                  l.data()[to + q] = (float) value;
                }
                double value = dead[p] ? 1 : h[source + column[p]];
                poison += value * 0;
                diagonal[p] = (float) (value + shift);
                l.data()[to + p] = diagonal[p];
              }
              if (Double.isNaN(poison)) {
                finite.set(false);
              }
            });
    if (!finite.get()) {
      throw DampingEscalation.notFinite(request);
    }
    return diagonal;
  }

  /** Both [size, rows] := the weights of positions first, first + 1, …; dead columns are 0. */
  private static void gather(
      SolveRequest request,
      int[] column,
      boolean[] dead,
      int first,
      FloatMatrix original,
      FloatMatrix w,
      Workers workers) {
    int cols = request.cols();
    float[] from = request.weights();
    forEachTile(
        w.rows(),
        w.cols(),
        workers,
        (position, endPosition, row, endRow) -> {
          for (int p = position; p < endPosition; p++) {
            int source = column[first + p];
            boolean isDead = dead[first + p];
            int to = original.index(p, 0);
            for (int r = row; r < endRow; r++) {
              original.data()[to + r] = isDead ? 0 : from[r * cols + source];
            }
            System.arraycopy(original.data(), to + row, w.data(), w.index(p, row), endRow - row);
          }
        });
  }

  /** Writes a swept block to the solution, and turns {@code original} into the change W − Ŵ. */
  private static void scatter(
      FloatMatrix w,
      boolean[] removed,
      FloatMatrix original,
      int[] column,
      int first,
      float[] weights,
      boolean[] kept,
      Workers workers) {
    int rows = w.cols();
    int cols = column.length;
    forEachTile(
        w.rows(),
        rows,
        workers,
        (position, endPosition, row, endRow) -> {
          for (int p = position; p < endPosition; p++) {
            int to = column[first + p];
            int from = w.index(p, 0);
            int change = original.index(p, 0);
            for (int r = row; r < endRow; r++) {
              float solved = w.data()[from + r];
              original.data()[change + r] -= solved;
              weights[r * cols + to] = solved;
              kept[r * cols + to] = !removed[p * rows + r];
            }
          }
        });
  }

  /** Something to do for positions [position, endPosition) and rows [row, endRow). */
  @FunctionalInterface
  private interface TileTask {
    void accept(int position, int endPosition, int row, int endRow);
  }

  /**
   * Cuts the transposition of a block into tiles of a few cache lines. Not square: lines of the
   * same column are a power of two apart all too often, and eight of them still fit one set of the
   * cache.
   */
  private static void forEachTile(int positions, int rows, Workers workers, TileTask task) {
    workers.forEach(
        (positions + TASK_POSITIONS - 1) / TASK_POSITIONS,
        index -> {
          int begin = index * TASK_POSITIONS;
          int end = Math.min(positions, begin + TASK_POSITIONS);
          for (int row = 0; row < rows; row += TILE_ROWS) {
            int endRow = Math.min(rows, row + TILE_ROWS);
            for (int p = begin; p < end; p += TILE_POSITIONS) {
              task.accept(p, Math.min(end, p + TILE_POSITIONS), row, endRow);
            }
          }
        });
  }
}
