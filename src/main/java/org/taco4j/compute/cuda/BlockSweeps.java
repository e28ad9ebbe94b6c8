package org.taco4j.compute.cuda;

import org.taco4j.compute.DeviceColumnSweep;
import org.taco4j.compute.FloatMatrix;

/**
 * Sweeps of single blocks that lie on the host: what {@link CudaColumnSweep} does with a layer's
 * blocks, for callers that have one only. The parameters are those of {@link
 * org.taco4j.compute.Backend}.
 */
final class BlockSweeps {
  private BlockSweeps() {}

  /** Whether a block is not too large for the kernels. */
  static boolean fits(FloatMatrix inverse, FloatMatrix w) {
    return w.rows() > 0
        && w.rows() <= DeviceColumnSweep.MAX_BLOCK_COLUMNS
        && w.cols() > 0
        && w.isRowMajor()
        && inverse.isRowMajor();
  }

  /** {@link org.taco4j.compute.Backend#obsSweep(FloatMatrix, FloatMatrix, boolean[])}. */
  static void remove(CudaDevice device, FloatMatrix inverse, FloatMatrix w, boolean[] removed) {
    try (DeviceScope scope = device.scope(bytes(inverse, w))) {
      DeviceArray marks = scope.copyOf(removed);
      SweepKernels.Block block = block(scope, inverse, w, marks);
      new SweepKernels(scope).remove(block);
      HostMatrices.download(scope, block.weights(), w);
    }
  }

  /** {@link org.taco4j.compute.Backend#obsSweep(FloatMatrix, FloatMatrix, boolean[], int, int)}. */
  static void removeFromGroups(
      CudaDevice device,
      FloatMatrix inverse,
      FloatMatrix w,
      boolean[] removed,
      int kept,
      int group) {
    try (DeviceScope scope = device.scope(bytes(inverse, w))) {
      DeviceArray marks = scope.bytes((long) w.rows() * w.cols());
      SweepKernels.Block block = block(scope, inverse, w, marks);
      new SweepKernels(scope).removeFromGroups(block, kept, group);
      HostMatrices.download(scope, block.weights(), w);
      scope.download(marks, 0, removed, 0, w.rows() * w.cols());
    }
  }

  /** {@link org.taco4j.compute.Backend#quantSweep}. */
  static void round(
      CudaDevice device,
      FloatMatrix inverse,
      FloatMatrix w,
      boolean[] removed,
      float[] scale,
      float[] lowest,
      float[] highest) {
    try (DeviceScope scope = device.scope(bytes(inverse, w))) {
      SweepKernels.Block block = block(scope, inverse, w, scope.copyOf(removed));
      new SweepKernels(scope)
          .round(block, scope.copyOf(scale), scope.copyOf(lowest), scope.copyOf(highest));
      HostMatrices.download(scope, block.weights(), w);
    }
  }

  /** What a block takes: M, W, a byte for each weight's mark, and at most three numbers a row. */
  private static long bytes(FloatMatrix inverse, FloatMatrix w) {
    return HostMatrices.bytes(inverse)
        + HostMatrices.bytes(w)
        + (long) w.rows() * w.cols()
        + 3L * Float.BYTES * w.cols();
  }

  private static SweepKernels.Block block(
      DeviceScope scope, FloatMatrix inverse, FloatMatrix w, DeviceArray marks) {
    return new SweepKernels.Block(
        HostMatrices.upload(scope, inverse).matrix(),
        HostMatrices.upload(scope, w).matrix(),
        /* change= */ null,
        DeviceMatrix.of(marks, w.rows(), w.cols()));
  }
}
