package org.taco4j.compute.cuda;

import org.bytedeco.cuda.cublas.cublasContext;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.cublas;
import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.taco4j.common.TacoException;

/**
 * A handle of cuBLAS, which knows column-major matrices only: a row-major matrix is to it the
 * transpose, so that C = A B is asked for as Cᵀ = Bᵀ Aᵀ.
 *
 * <p>Results repeat to the bit on one kind of GPU as long as a handle works in one stream at a time
 * with a workspace of its own; so a scope has a handle to itself. Its workspace (4 to 32 MiB) is
 * not of the memory that scopes may use. The mode of arithmetic is the default one, which for these
 * functions is float32 throughout, without TF32 and without emulation; the pedantic one would only
 * forbid faster algorithms of the same precision.
 */
final class Cublas implements AutoCloseable {
  private final CudaDevice device;
  private final cublasContext handle = new cublasContext();
  private final FloatPointer floatAlpha = new FloatPointer(1);
  private final FloatPointer floatBeta = new FloatPointer(1);
  private final DoublePointer doubleAlpha = new DoublePointer(1);
  private final DoublePointer doubleBeta = new DoublePointer(1);

  /** A handle on the device, which is the thread's. */
  Cublas(CudaDevice device) {
    this.device = device;
    check(cublas.cublasCreate_v2(handle), "cublasCreate");
    check(cublas.cublasSetMathMode(handle, cublas.CUBLAS_DEFAULT_MATH), "cublasSetMathMode");
  }

  /** Where what follows is queued. */
  void use(CUstream_st stream) {
    check(cublas.cublasSetStream_v2(handle, stream), "cublasSetStream");
  }

  /** C = alpha op(A) op(B) + beta C; shapes have been checked, and are not empty. */
  void gemm(
      double alpha,
      DeviceMatrix a,
      boolean transposeA,
      DeviceMatrix b,
      boolean transposeB,
      double beta,
      DeviceMatrix c) {
    int opA = transposeA ? cublas.CUBLAS_OP_T : cublas.CUBLAS_OP_N;
    int opB = transposeB ? cublas.CUBLAS_OP_T : cublas.CUBLAS_OP_N;
    int depth = transposeA ? a.rows() : a.cols();
    int code;
    if (c.isDouble()) {
      code =
          cublas.cublasDgemm_v2(
              handle,
              opB,
              opA,
              c.cols(),
              c.rows(),
              depth,
              doubleAlpha.put(alpha),
              DevicePointers.doubles(b.pointer()),
              b.stride(),
              DevicePointers.doubles(a.pointer()),
              a.stride(),
              doubleBeta.put(beta),
              DevicePointers.doubles(c.pointer()),
              c.stride());
    } else {
      code =
          cublas.cublasSgemm_v2(
              handle,
              opB,
              opA,
              c.cols(),
              c.rows(),
              depth,
              floatAlpha.put((float) alpha),
              DevicePointers.floats(b.pointer()),
              b.stride(),
              DevicePointers.floats(a.pointer()),
              a.stride(),
              floatBeta.put((float) beta),
              DevicePointers.floats(c.pointer()),
              c.stride());
    }
    if (code != cublas.CUBLAS_STATUS_SUCCESS) {
      check(code, "gemm into [%d, %d] over %d".formatted(c.rows(), c.cols(), depth));
    }
  }

  /** The lower or upper triangle of C = alpha A Aᵀ + beta C, or of Aᵀ A where transposed. */
  void syrk(
      double alpha,
      DeviceMatrix a,
      boolean transposed,
      double beta,
      DeviceMatrix c,
      boolean lower) {
    int fill = lower ? cublas.CUBLAS_FILL_MODE_UPPER : cublas.CUBLAS_FILL_MODE_LOWER;
    int op = transposed ? cublas.CUBLAS_OP_N : cublas.CUBLAS_OP_T;
    int depth = transposed ? a.rows() : a.cols();
    int code;
    if (c.isDouble()) {
      code =
          cublas.cublasDsyrk_v2(
              handle,
              fill,
              op,
              c.rows(),
              depth,
              doubleAlpha.put(alpha),
              DevicePointers.doubles(a.pointer()),
              a.stride(),
              doubleBeta.put(beta),
              DevicePointers.doubles(c.pointer()),
              c.stride());
    } else {
      code =
          cublas.cublasSsyrk_v2(
              handle,
              fill,
              op,
              c.rows(),
              depth,
              floatAlpha.put((float) alpha),
              DevicePointers.floats(a.pointer()),
              a.stride(),
              floatBeta.put((float) beta),
              DevicePointers.floats(c.pointer()),
              c.stride());
    }
    if (code != cublas.CUBLAS_STATUS_SUCCESS) {
      check(code, "syrk into [%d, %d] over %d".formatted(c.rows(), c.cols(), depth));
    }
  }

  private void check(int code, String what) {
    if (code != cublas.CUBLAS_STATUS_SUCCESS) {
      throw TacoException.runtime("%s: cuBLAS: %s: %s".formatted(device, what, describe(code)));
    }
  }

  private static String describe(int code) {
    return switch (code) {
      case cublas.CUBLAS_STATUS_NOT_INITIALIZED -> "CUBLAS_STATUS_NOT_INITIALIZED";
      case cublas.CUBLAS_STATUS_ALLOC_FAILED ->
          "CUBLAS_STATUS_ALLOC_FAILED (out of memory; give scopes less with --gpu-memory)";
      case cublas.CUBLAS_STATUS_INVALID_VALUE -> "CUBLAS_STATUS_INVALID_VALUE";
      case cublas.CUBLAS_STATUS_ARCH_MISMATCH -> "CUBLAS_STATUS_ARCH_MISMATCH";
      case cublas.CUBLAS_STATUS_MAPPING_ERROR -> "CUBLAS_STATUS_MAPPING_ERROR";
      case cublas.CUBLAS_STATUS_EXECUTION_FAILED -> "CUBLAS_STATUS_EXECUTION_FAILED";
      case cublas.CUBLAS_STATUS_INTERNAL_ERROR -> "CUBLAS_STATUS_INTERNAL_ERROR";
      case cublas.CUBLAS_STATUS_NOT_SUPPORTED -> "CUBLAS_STATUS_NOT_SUPPORTED";
      default -> "status " + code;
    };
  }

  @Override
  public void close() {
    cublas.cublasDestroy_v2(handle);
    floatAlpha.close();
    floatBeta.close();
    doubleAlpha.close();
    doubleBeta.close();
  }
}
