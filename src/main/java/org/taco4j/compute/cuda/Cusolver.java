package org.taco4j.compute.cuda;

import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.cusolver.cusolverDnContext;
import org.bytedeco.cuda.global.cusolver;
import org.bytedeco.javacpp.IntPointer;
import org.taco4j.common.TacoException;

/**
 * A handle of cuSOLVER, which knows column-major matrices only: the lower triangle of a row-major
 * matrix is to it the upper one, and A = L Lᵀ is A = Uᵀ U. In one stream at a time, as {@link
 * Cublas}.
 */
final class Cusolver implements AutoCloseable {
  private static final int UPPER = 1; // CUBLAS_FILL_MODE_UPPER, without touching cuBLAS

  private final CudaDevice device;
  private final cusolverDnContext handle = new cusolverDnContext();

  /** A handle on the device, which is the thread's. */
  Cusolver(CudaDevice device) {
    this.device = device;
    check(cusolver.cusolverDnCreate(handle), "cusolverDnCreate", 0);
  }

  /** Where what follows is queued. */
  void use(CUstream_st stream) {
    check(cusolver.cusolverDnSetStream(handle, stream), "cusolverDnSetStream", 0);
  }

  /** How many elements of scratch {@link #factor} needs for a matrix. */
  int factorScratch(DeviceMatrix a) {
    try (IntPointer size = new IntPointer(1)) {
      check(
          a.isDouble()
              ? cusolver.cusolverDnDpotrf_bufferSize(
                  handle, UPPER, a.rows(), DevicePointers.doubles(a.pointer()), a.stride(), size)
              : cusolver.cusolverDnSpotrf_bufferSize(
                  handle, UPPER, a.rows(), DevicePointers.floats(a.pointer()), a.stride(), size),
          "the size of potrf's scratch",
          a.rows());
      return size.get();
    }
  }

  /**
   * A = L Lᵀ in place.
   *
   * @param info [1]: becomes 0, or one more than the index of the pivot that was not positive
   */
  void factor(DeviceMatrix a, DeviceArray scratch, DeviceArray info) {
    int size = Math.toIntExact(scratch.count());
    int code =
        a.isDouble()
            ? cusolver.cusolverDnDpotrf(
                handle,
                UPPER,
                a.rows(),
                DevicePointers.doubles(a.pointer()),
                a.stride(),
                DevicePointers.doubles(scratch.at(0)),
                size,
                DevicePointers.ints(info.at(0)))
            : cusolver.cusolverDnSpotrf(
                handle,
                UPPER,
                a.rows(),
                DevicePointers.floats(a.pointer()),
                a.stride(),
                DevicePointers.floats(scratch.at(0)),
                size,
                DevicePointers.ints(info.at(0)));
    check(code, "potrf", a.rows());
  }

  /** How many elements of scratch {@link #invert} needs for a float64 matrix. */
  int invertScratch(DeviceMatrix a) {
    try (IntPointer size = new IntPointer(1)) {
      check(
          cusolver.cusolverDnDpotri_bufferSize(
              handle, UPPER, a.rows(), DevicePointers.doubles(a.pointer()), a.stride(), size),
          "the size of potri's scratch",
          a.rows());
      return size.get();
    }
  }

  /** The lower triangle of (L Lᵀ)⁻¹ in place of L, float64; {@code info} as above. */
  void invert(DeviceMatrix l, DeviceArray scratch, DeviceArray info) {
    int code =
        cusolver.cusolverDnDpotri(
            handle,
            UPPER,
            l.rows(),
            DevicePointers.doubles(l.pointer()),
            l.stride(),
            DevicePointers.doubles(scratch.at(0)),
            Math.toIntExact(scratch.count()),
            DevicePointers.ints(info.at(0)));
    check(code, "potri", l.rows());
  }

  private void check(int code, String what, int size) {
    if (code != cusolver.CUSOLVER_STATUS_SUCCESS) {
      throw TacoException.runtime(
          "%s: cuSOLVER: %s%s: %s"
              .formatted(
                  device,
                  what,
                  size > 0 ? " of [%d, %d]".formatted(size, size) : "",
                  describe(code)));
    }
  }

  private static String describe(int code) {
    return switch (code) {
      case cusolver.CUSOLVER_STATUS_NOT_INITIALIZED -> "CUSOLVER_STATUS_NOT_INITIALIZED";
      case cusolver.CUSOLVER_STATUS_ALLOC_FAILED ->
          "CUSOLVER_STATUS_ALLOC_FAILED (out of memory; give scopes less with --gpu-memory)";
      case cusolver.CUSOLVER_STATUS_INVALID_VALUE -> "CUSOLVER_STATUS_INVALID_VALUE";
      case cusolver.CUSOLVER_STATUS_ARCH_MISMATCH -> "CUSOLVER_STATUS_ARCH_MISMATCH";
      case cusolver.CUSOLVER_STATUS_EXECUTION_FAILED -> "CUSOLVER_STATUS_EXECUTION_FAILED";
      case cusolver.CUSOLVER_STATUS_INTERNAL_ERROR -> "CUSOLVER_STATUS_INTERNAL_ERROR";
      case cusolver.CUSOLVER_STATUS_NOT_SUPPORTED -> "CUSOLVER_STATUS_NOT_SUPPORTED";
      default -> "status " + code;
    };
  }

  @Override
  public void close() {
    cusolver.cusolverDnDestroy(handle);
  }
}
