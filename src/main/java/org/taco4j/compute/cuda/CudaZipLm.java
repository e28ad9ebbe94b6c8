package org.taco4j.compute.cuda;

import org.jspecify.annotations.Nullable;
import org.taco4j.compute.DoubleMatrix;

/**
 * ZipLM's order of removal by ziplm.cu, which has the algorithm. All steps are queued at once; the
 * host learns of the order when the last of them is done.
 */
final class CudaZipLm {
  private static final String FILE = "ziplm";

  /** Columns of U and T that are gathered before they are applied. */
  private static final int PENDING = 128;

  /** Columns that a block of the kernel append has, and its parts of the sums over rows of U. */
  private static final int APPEND_COLUMNS = 32;

  private static final int APPEND_SLICES = 8;
  private static final int THREADS = 256;

  /** Threads of the one block that chooses. */
  private static final int CHOOSING_THREADS = 512;

  /** Up to so many columns, a group is not worth more than a warp. */
  private static final int WARP_GROUP = 16;

  private static final int MOST_GRID_ROWS = 1024;

  private final CudaDevice device;
  private final int rows;
  private final int cols;
  private final int group;

  /** Rows of U and T that there is memory for. */
  private final int capacity;

  /** Bytes of a group's matrix in shared memory; 0 where it lies in global memory. */
  private final int sharedBytes;

  CudaZipLm(CudaDevice device, int rows, int cols, int group) {
    this.device = device;
    this.rows = rows;
    this.cols = cols;
    this.group = group;
    this.capacity = Math.max(PENDING, group);
    long bytes = (long) group * (group | 1) * Double.BYTES;
    // Reductions need some, too.
    this.sharedBytes = bytes + 1024 <= device.sharedMemoryPerBlock() ? (int) bytes : 0;
  }

  /**
   * Removes groups.
   *
   * @return [count], the groups in the order in which they go; null where a cost was not finite
   */
  int @Nullable [] run(DoubleMatrix inverse, DoubleMatrix weights, int count) {
    long square = (long) cols * cols;
    long doubles =
        3 * square
            + (long) rows * cols
            + (3L * capacity + 2L * group + 2L * group + (group | 1)) * cols
            + 3L * group * group
            + cols;
    long ints = 3L * cols + count + 2;
    try (DeviceScope scope = device.scope(doubles * Double.BYTES + ints * Integer.BYTES)) {
      State state = new State(scope, inverse, weights, count);
      for (int step = 0; step < count; step++) {
        state.step(step);
      }
      return state.order(count);
    }
  }

  /** What is on the device; the names are the kernels'. */
  private final class State {
    private final DeviceScope scope;

    /** Positions in use; a multiple of g. */
    private int active = cols;

    /** Rows of U and T in use. */
    private int pending;

    // [active, active] stride cols; one of the three is free.
    private DeviceArray q;
    private DeviceArray s;
    private DeviceArray spare;

    // [capacity, active] stride cols; one of the three is free.
    private DeviceArray u;
    private DeviceArray t;
    private DeviceArray spareRows;

    /** [active, g]: the diagonal blocks. */
    private final DeviceArray qBlocks;

    private final DeviceArray sBlocks;

    /** [active / g]. */
    private final DeviceArray cost;

    private final DeviceArray gone;
    private final DeviceArray groupAt;
    private final DeviceArray map;

    private final DeviceArray order;
    private final DeviceArray chosen;
    private final DeviceArray factor;
    private final DeviceArray half;
    private final DeviceArray product;
    private final DeviceArray rawQ;
    private final DeviceArray rawS;
    private final @Nullable DeviceArray scratch;

    State(DeviceScope scope, DoubleMatrix inverse, DoubleMatrix weights, int count) {
      this.scope = scope;
      long square = (long) cols * cols;
      int groups = cols / group;
      q = scope.doubles(square);
      s = scope.doubles(square);
      spare = scope.doubles(square);
      u = scope.doubles((long) capacity * cols);
      t = scope.doubles((long) capacity * cols);
      spareRows = scope.doubles((long) capacity * cols);
      qBlocks = scope.doubles((long) cols * group);
      sBlocks = scope.doubles((long) cols * group);
      cost = scope.doubles(groups);
      gone = scope.ints(groups);
      scope.clear(gone);
      int[] natural = new int[groups];
      for (int g = 0; g < groups; g++) {
        natural[g] = g;
      }
      groupAt = scope.copyOf(natural);
      map = scope.ints(groups);
      order = scope.ints(count);
      chosen = scope.ints(2);
      scope.clear(chosen);
      factor = scope.doubles((long) group * group);
      half = scope.doubles((long) group * group);
      product = scope.doubles((long) group * group);
      rawQ = scope.doubles((long) group * cols);
      rawS = scope.doubles((long) group * cols);
      scratch = sharedBytes > 0 ? null : scope.doubles((long) cols * (group | 1));

      scope.upload(inverse.copy().data(), 0, q, 0, cols * cols);
      DeviceMatrix w = DeviceMatrix.of(scope.copyOf(weights.copy().data()), rows, cols);
      device.linearAlgebra().gemm(scope, 1, w, true, w, false, 0, DeviceMatrix.of(s, cols, cols));
      refreshBlocks();
      updateCosts(0, 0);
    }

    private void launch(String name, LaunchShape shape, @Nullable Object... arguments) {
      scope.launch(device.kernel(FILE, "taco4j_ziplm_" + name + "_f64"), shape, arguments);
    }

    private void refreshBlocks() {
      int blocks = LaunchShape.blocks((long) active * group, THREADS);
      launch(
          "blocks", LaunchShape.of(blocks, THREADS), q, s, cols, active, group, qBlocks, sBlocks);
    }

    /** Rows of U and T that the diagonal blocks do not know yet, and what that makes of costs. */
    private void updateCosts(int first, int count) {
      int threads = group > WARP_GROUP ? THREADS : 32;
      launch(
          "costs",
          LaunchShape.of(active / group, threads).withShared(sharedBytes),
          u,
          t,
          cols,
          first,
          count,
          group,
          gone,
          qBlocks,
          sBlocks,
          cost,
          scratch,
          sharedBytes > 0 ? 1 : 0);
    }

    /** Removes a group. */
    void step(int step) {
      if (pending > 0 && pending + group > capacity) {
        compact();
      }
      launch(
          "choose",
          LaunchShape.of(1, CHOOSING_THREADS).withShared(sharedBytes),
          cost,
          gone,
          active / group,
          group,
          qBlocks,
          sBlocks,
          scratch,
          sharedBytes > 0 ? 1 : 0,
          factor,
          half,
          product,
          groupAt,
          order,
          step,
          chosen);
      int blocks = LaunchShape.blocks(active, APPEND_COLUMNS);
      launch(
          "append",
          new LaunchShape(blocks, 1, 1, APPEND_COLUMNS, APPEND_SLICES, 0),
          q,
          s,
          cols,
          active,
          group,
          chosen,
          factor,
          half,
          rawQ,
          rawS,
          u,
          t,
          pending,
          gone,
          qBlocks,
          sBlocks,
          cost);
      if (group > 1) {
        updateCosts(pending, group);
      }
      pending += group;
    }

    /** Drops what is gone, and applies U and T to the rest. */
    private void compact() {
      launch("positions", LaunchShape.of(1, THREADS), gone, active / group, groupAt, cost, map);
      active -= pending;
      DeviceArray free = spare;
      gather(q, active, 1, free);
      spare = q;
      q = free;
      free = spare;
      gather(s, active, 1, free);
      spare = s;
      s = free;
      free = spareRows;
      gather(u, pending, 0, free);
      spareRows = u;
      u = free;
      free = spareRows;
      gather(t, pending, 0, free);
      spareRows = t;
      t = free;
      DeviceMatrix uRows = view(u, pending);
      DeviceMatrix tRows = view(t, pending);
      DeviceLinearAlgebra algebra = device.linearAlgebra();
      algebra.gemm(scope, -1, uRows, true, uRows, false, 1, view(q, active));
      algebra.gemm(scope, -1, uRows, true, tRows, false, 1, view(s, active));
      algebra.gemm(scope, -1, tRows, true, uRows, false, 1, view(s, active));
      pending = 0;
      refreshBlocks();
    }

    /** The columns that remain of so many rows, or of the rows that remain where those go too. */
    private void gather(DeviceArray matrix, int rowCount, int gatherRows, DeviceArray to) {
      int gridRows = Math.min(rowCount, MOST_GRID_ROWS);
      launch(
          "gather",
          LaunchShape.grid(LaunchShape.blocks(active, THREADS), gridRows, THREADS),
          matrix,
          cols,
          map,
          group,
          rowCount,
          active,
          gatherRows,
          to);
    }

    private DeviceMatrix view(DeviceArray array, int rowCount) {
      return new DeviceMatrix(array, 0, rowCount, active, cols);
    }

    /** The groups in the order in which they went; null where a step failed. */
    int @Nullable [] order(int count) {
      int[] state = new int[2];
      scope.download(chosen, 0, state, 0, 2);
      int[] groups = new int[count];
      scope.download(order, 0, groups, 0, count);
      return state[1] != 0 ? null : groups;
    }
  }
}
