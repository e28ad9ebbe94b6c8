package org.taco4j.compute.cuda;

import java.util.Comparator;
import java.util.stream.IntStream;
import org.taco4j.compute.DoubleMatrix;

/**
 * The least-squares refit of a mask on a device, {@link
 * org.taco4j.compute.DeviceKernels#leastSquaresRefit}: two products, and between them {@code
 * subset_solve.cu}, which solves for all rows at once, a thread block each.
 */
final class CudaRefit {
  /** What a thread block of {@code subset_solve.cu} factors at once. */
  private static final int BLOCK = 64;

  private static final int THREADS = 256;

  /** As many as the kernel's registers and shared memory leave room for. */
  private static final int BLOCKS_PER_MULTIPROCESSOR = 2;

  /** Columns of the kernel's table. */
  private static final int ENTRY = 5;

  private final CudaDevice device;
  private final int rows;
  private final int cols;
  private final int maskRows;

  /** Of weights [rows, cols] of which {@code maskRows} consecutive rows share a mask each. */
  CudaRefit(CudaDevice device, int rows, int cols, int maskRows) {
    this.device = device;
    this.rows = rows;
    this.cols = cols;
    this.maskRows = maskRows;
  }

  /** The systems to solve, those that take long first, as {@code subset_solve.cu} reads them. */
  @SuppressWarnings("ArrayRecordComponent") // of this class alone
  private record Systems(int[] lists, int[] table, int[] sets, long scratchStride) {}

  /** {@link org.taco4j.compute.DeviceKernels#leastSquaresRefit}. */
  int run(DoubleMatrix hessian, DoubleMatrix inverse, float[] weights, boolean[] kept) {
    if (weights.length == 0) {
      return -1;
    }
    Systems systems = systems(kept);
    int count = systems.sets.length;
    long elements = (long) rows * cols;
    long fixed =
        HostMatrices.bytes(hessian)
            + HostMatrices.bytes(inverse)
            + elements * (Float.BYTES + 1 + 4 * Double.BYTES)
            + (long) Integer.BYTES * (count + 1L + systems.lists.length + systems.table.length);
    long scratchBytes = systems.scratchStride * Double.BYTES;
    long wanted = Math.min(count, BLOCKS_PER_MULTIPROCESSOR * device.multiprocessors());
    // Half of what is left is for others; where they have it all now, one block's is waited for.
    int blocks =
        (int) Math.clamp((device.memoryLeft() - fixed) / 2 / scratchBytes, 1, Math.max(1, wanted));
    try (DeviceScope scope = device.scope(fixed + blocks * scratchBytes)) {
      DeviceMatrix h = HostMatrices.upload(scope, hessian).matrix();
      DeviceMatrix inverseOfH = HostMatrices.upload(scope, inverse).matrix();
      DeviceArray w = scope.copyOf(weights);
      DeviceArray mask = scope.copyOf(kept);
      DeviceArray gone = scope.doubles(elements);
      LaunchShape all = LaunchShape.of(8 * device.multiprocessors(), THREADS);
      scope.launch(
          device.kernel("refit", "taco4j_refit_removed_f64"), all, w, mask, gone, elements);
      DeviceArray pull = scope.doubles(elements);
      DeviceLinearAlgebra algebra = device.linearAlgebra();
      algebra.gemm(scope, 1, matrix(gone), false, h, false, 0, matrix(pull));
      DeviceArray changes = scope.doubles(elements);
      DeviceArray spread = scope.doubles(elements);
      scope.clear(changes);
      scope.clear(spread);

      DeviceArray flags = scope.ints(count);
      DeviceArray next = scope.ints(1);
      scope.clear(next);
      DeviceArray lists = scope.copyOf(systems.lists);
      DeviceArray table = scope.copyOf(systems.table);
      DeviceArray scratch = scope.doubles(blocks * systems.scratchStride);
      scope.launch(
          device.kernel("subset_solve", "taco4j_subset_solve_f64"),
          LaunchShape.of(blocks, THREADS),
          h,
          inverseOfH,
          cols,
          pull,
          gone,
          changes,
          spread,
          lists,
          table,
          count,
          next,
          scratch,
          systems.scratchStride,
          flags);

      algebra.gemm(scope, -1, matrix(spread), false, inverseOfH, false, 1, matrix(changes));
      scope.launch(
          device.kernel("refit", "taco4j_refit_apply_f32"), all, w, mask, changes, elements);
      int[] failed = new int[count];
      scope.download(flags, 0, failed, 0, count);
      int first = -1;
      for (int i = 0; i < count; i++) {
        if (failed[i] >= 0 && (first < 0 || systems.sets[i] < first)) {
          first = systems.sets[i];
        }
      }
      if (first < 0) {
        scope.download(w, 0, weights, 0, weights.length);
        return -1;
      }
      return first * maskRows;
    }
  }

  private DeviceMatrix matrix(DeviceArray array) {
    return DeviceMatrix.of(array, rows, cols);
  }

  private Systems systems(boolean[] kept) {
    int setCount = (rows + maskRows - 1) / maskRows;
    int[] keptOf = new int[setCount];
    int positions = 0;
    for (int set = 0; set < setCount; set++) {
      for (int p = 0; p < cols; p++) {
        keptOf[set] += kept[set * maskRows * cols + p] ? 1 : 0;
      }
      positions = Math.addExact(positions, size(keptOf[set]));
    }
    int[] sets =
        IntStream.range(0, setCount)
            .boxed()
            .sorted(Comparator.comparingInt(set -> -size(keptOf[set])))
            .mapToInt(Integer::intValue)
            .toArray();
    int[] lists = new int[Math.max(1, positions)];
    int[] table = new int[ENTRY * setCount];
    int at = 0;
    for (int i = 0; i < setCount; i++) {
      int firstRow = sets[i] * maskRows;
      int size = size(keptOf[sets[i]]);
      boolean solveKept = solvesKept(keptOf[sets[i]]);
      int[] entry = {
        at, size, solveKept ? 0 : 1, firstRow, Math.min(rows, firstRow + maskRows) - firstRow
      };
      System.arraycopy(entry, 0, table, ENTRY * i, ENTRY);
      for (int p = 0; p < cols; p++) {
        if (kept[firstRow * cols + p] == solveKept) {
          lists[at++] = p;
        }
      }
    }
    long largest = size(keptOf[sets[0]]);
    long scratchStride =
        (largest + Math.min(rows, maskRows)) * (largest + largest % 2)
            + (largest + BLOCK - 1) / BLOCK * BLOCK * BLOCK;
    return new Systems(lists, table, sets, Math.max(2, scratchStride));
  }

  /** Over the kept weights, or else over the removed ones: the smaller system. */
  private boolean solvesKept(int kept) {
    return kept <= cols - kept;
  }

  private int size(int kept) {
    return solvesKept(kept) ? kept : cols - kept;
  }
}
