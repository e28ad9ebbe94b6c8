package org.taco4j.compute.cuda;

import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.PointerPointer;
import org.taco4j.common.TacoException;

/** The driver's return codes as exceptions. */
final class Cuda {
  private Cuda() {}

  /**
   * Throws where a call of the driver failed.
   *
   * @param code what it returned
   * @param where the device, in words
   * @param what the call, with the shapes and names that matter
   */
  static void check(int code, String where, String what) {
    if (code != cudart.CUDA_SUCCESS) {
      throw TacoException.runtime("%s: %s: %s".formatted(where, what, describe(code)));
    }
  }

  /** {@code CUDA_ERROR_OUT_OF_MEMORY (out of memory)}. */
  static String describe(int code) {
    try (PointerPointer<BytePointer> out = new PointerPointer<>(1)) {
      String name =
          cudart.cuGetErrorName(code, out) == cudart.CUDA_SUCCESS
              ? out.get(BytePointer.class, 0).getString()
              : "CUDA error " + code;
      String text =
          cudart.cuGetErrorString(code, out) == cudart.CUDA_SUCCESS
              ? "%s (%s)".formatted(name, out.get(BytePointer.class, 0).getString())
              : name;
      return code == cudart.CUDA_ERROR_LAUNCH_TIMEOUT
          ? text + ": this GPU drives a display, and the driver ends kernels that take seconds"
          : text;
    }
  }
}
