package org.taco4j.compute.cuda;

import org.bytedeco.cuda.cudart.CUfunc_st;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.PointerPointer;

/** A compiled kernel on one device. {@link DeviceScope#launch} runs it. */
final class Kernel {
  private final CudaDevice device;
  private final String name;
  private final CUfunc_st function;

  /**
   * Dynamic shared memory that was asked for. Of 48 KiB nobody need ask for, but the kernel's
   * static shared memory is part of them, so it is asked for whatever it is.
   */
  private int sharedBytes;

  Kernel(CudaDevice device, String name, CUfunc_st function) {
    this.device = device;
    this.name = name;
    this.function = function;
  }

  /** Its name in the source. */
  String name() {
    return name;
  }

  /** Queues it; {@code parameters} points at one pointer for each argument. */
  void launch(LaunchShape shape, CUstream_st stream, PointerPointer<?> parameters) {
    allowShared(shape.sharedBytes());
    int code =
        cudart.cuLaunchKernel(
            function,
            shape.gridX(),
            shape.gridY(),
            shape.gridZ(),
            shape.blockX(),
            shape.blockY(),
            /* blockDimZ= */ 1,
            shape.sharedBytes(),
            stream,
            parameters,
            (PointerPointer<?>) null);
    if (code != cudart.CUDA_SUCCESS) {
      Cuda.check(code, device.toString(), "kernel %s, %s".formatted(name, shape));
    }
  }

  private synchronized void allowShared(int bytes) {
    if (bytes > sharedBytes) {
      Cuda.check(
          cudart.cuFuncSetAttribute(
              function, cudart.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes),
          device.toString(),
          "kernel %s with %d bytes of shared memory".formatted(name, bytes));
      sharedBytes = bytes;
    }
  }
}
