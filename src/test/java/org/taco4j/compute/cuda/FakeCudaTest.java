package org.taco4j.compute.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.util.Arrays;
import java.util.List;
import org.bytedeco.cuda.cublas.cublasContext;
import org.bytedeco.cuda.cudart.CUctx_st;
import org.bytedeco.cuda.cudart.CUevent_st;
import org.bytedeco.cuda.cudart.CUfunc_st;
import org.bytedeco.cuda.cudart.CUmod_st;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.cusolver.cusolverDnContext;
import org.bytedeco.cuda.global.cublas;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.cuda.global.cusolver;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerPointer;
import org.bytedeco.javacpp.SizeTPointer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** The bindings reach the fake libraries, and these behave as a GPU where tests rely on it. */
class FakeCudaTest {
  private FakeCuda fake;
  private final CUctx_st context = new CUctx_st();

  @BeforeEach
  void load() {
    assumeFalse(FakeCuda.ON_GPU, "it is about the fake");
    fake = FakeCuda.load();
    start();
  }

  @AfterEach
  void release() {
    if (fake != null) {
      cudart.cuDevicePrimaryCtxRelease(0);
      fake.close();
    }
  }

  private void start() {
    check(cudart.cuInit(0));
    check(cudart.cuDevicePrimaryCtxRetain(context, 0));
    check(cudart.cuCtxSetCurrent(context));
  }

  @Test
  void kernelRunsWhenItIsWaitedFor() {
    CUmod_st module = module();
    CUstream_st stream = stream();
    for (String order : new String[] {"forward", "backward", "shuffle:3"}) {
      fake.order(order);
      long device = allocate(4 * 1021);
      Pointer host = pinned(4 * 1021);
      fill(module, stream, device, 2.5f, 1000);
      check(cudart.cuMemcpyDtoHAsync(host, device, 4 * 1021, stream));
      FloatPointer values = new FloatPointer(host);
      assertEquals(Float.NaN, values.get(0), "nothing is done before it is waited for");
      CUevent_st event = new CUevent_st();
      check(cudart.cuEventCreate(event, 0));
      check(cudart.cuEventRecord(event, stream));
      check(cudart.cuEventSynchronize(event));
      float[] expected = new float[1021];
      Arrays.fill(expected, 0, 1000, 2.5f);
      Arrays.fill(expected, 1000, 1021, Float.NaN);
      float[] read = new float[1021];
      values.get(read);
      assertArrayEquals(expected, read, order);
      check(cudart.cuEventDestroy(event));
      check(cudart.cuMemFreeHost(host));
      check(cudart.cuMemFree(device));
    }
    check(cudart.cuStreamDestroy(stream));
    check(cudart.cuModuleUnload(module));
  }

  @Test
  void streamWaitsForAnEventOfAnother() {
    CUmod_st module = module();
    CUstream_st first = stream();
    CUstream_st second = stream();
    long device = allocate(4 * 64);
    fill(module, first, device, 1, 64);
    CUevent_st event = new CUevent_st();
    check(cudart.cuEventCreate(event, 0));
    check(cudart.cuEventRecord(event, first));
    fill(module, first, device, 3, 64);
    check(cudart.cuStreamWaitEvent(second, event, 0));
    fill(module, second, device, 2, 32);
    check(cudart.cuStreamSynchronize(second));
    float[] values = new float[64];
    download(device, values, first);
    // The second fill of the first stream came last, as only its first was waited for.
    float[] expected = new float[64];
    Arrays.fill(expected, 3);
    assertArrayEquals(expected, values);
    check(cudart.cuEventDestroy(event));
    check(cudart.cuStreamDestroy(first));
    check(cudart.cuStreamDestroy(second));
    check(cudart.cuMemFree(device));
    check(cudart.cuModuleUnload(module));
  }

  @Test
  void deviceTellsWhatItIsAsked() {
    int[] out = new int[1];
    check(
        cudart.cuDeviceGetAttribute(
            out, cudart.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 0));
    assertEquals(65536, out[0]);
    fake.capability(90).memory(1 << 20);
    check(
        cudart.cuDeviceGetAttribute(
            out, cudart.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 0));
    assertEquals(232448, out[0]);
    check(cudart.cuDeviceGetAttribute(out, cudart.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0));
    assertEquals(9, out[0]);
    check(cudart.cuDeviceGetAttribute(out, cudart.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
    assertEquals(132, out[0]);
    long device = allocate(1 << 19);
    SizeTPointer free = new SizeTPointer(1);
    SizeTPointer total = new SizeTPointer(1);
    check(cudart.cuMemGetInfo(free, total));
    assertEquals(1 << 19, free.get());
    assertEquals(1 << 20, total.get());
    assertEquals(cudart.CUDA_ERROR_OUT_OF_MEMORY, cudart.cuMemAlloc(new long[1], (1 << 19) + 1));
    assertEquals(1 << 19, fake.liveBytes());
    check(cudart.cuMemFree(device));
    assertEquals(0, fake.liveBytes());
  }

  @Test
  void driverMayHaveNoDeviceOrSeveral() {
    fake.devices(0);
    assertEquals(cudart.CUDA_ERROR_NO_DEVICE, cudart.cuInit(0));
    assertEquals(cudart.CUDA_ERROR_NOT_INITIALIZED, cudart.cuDeviceGetCount(new int[1]));
    fake.devices(3);
    check(cudart.cuInit(0));
    int[] count = new int[1];
    check(cudart.cuDeviceGetCount(count));
    assertEquals(3, count[0]);
    fake.driver(12040);
    check(cudart.cuDriverGetVersion(count));
    assertEquals(12040, count[0]);
    fake.init(999);
    assertEquals(cudart.CUDA_ERROR_UNKNOWN, cudart.cuInit(0));
    fake.init(0);
    check(cudart.cuInit(0));
  }

  @Test
  void whatAGpuRejectsIsRejected() {
    CUmod_st module = module();
    assertEquals(
        cudart.CUDA_ERROR_NOT_FOUND,
        cudart.cuModuleGetFunction(new CUfunc_st(), module, "taco4j_nothing"));
    CUfunc_st function = function(module, "taco4j_fill_f32");
    long device = allocate(16);
    PointerPointer<Pointer> parameters = parameters(device, 0, 4);
    assertEquals(cudart.CUDA_ERROR_INVALID_VALUE, launch(function, 1, 1025, 0, null, parameters));
    assertEquals(cudart.CUDA_ERROR_INVALID_VALUE, launch(function, 0, 32, 0, null, parameters));
    assertEquals(cudart.CUDA_ERROR_INVALID_VALUE, launch(function, 1, 32, 49153, null, parameters));
    int dynamic = cudart.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    assertEquals(
        cudart.CUDA_ERROR_INVALID_VALUE, cudart.cuFuncSetAttribute(function, dynamic, 65537));
    check(cudart.cuFuncSetAttribute(function, dynamic, 65536));
    check(launch(function, 1, 32, 65536, null, parameters));
    try (BytePointer host = new BytePointer(32)) {
      assertEquals(cudart.CUDA_ERROR_INVALID_VALUE, cudart.cuMemcpyDtoH(host, device + 1, 16));
      assertEquals(cudart.CUDA_ERROR_INVALID_VALUE, cudart.cuMemcpyHtoD(device, host, 17));
      assertEquals(cudart.CUDA_ERROR_INVALID_VALUE, cudart.cuMemsetD8(device, (byte) 0, 17));
    }
    check(cudart.cuCtxSetCurrent((CUctx_st) null));
    assertEquals(cudart.CUDA_ERROR_INVALID_CONTEXT, cudart.cuMemAlloc(new long[1], 16));
    check(cudart.cuCtxSetCurrent(context));
    check(cudart.cuMemFree(device));
    check(cudart.cuModuleUnload(module));
  }

  @Test
  void failureOfAKernelStaysUntilTheContextIsReleased() {
    CUmod_st module = module();
    CUstream_st stream = stream();
    long device = allocate(4 * 64);
    fake.failLaunch(2);
    fill(module, stream, device, 1, 64);
    fill(module, stream, device, 2, 64);
    assertEquals(cudart.CUDA_ERROR_LAUNCH_FAILED, cudart.cuStreamSynchronize(stream));
    assertEquals(cudart.CUDA_ERROR_LAUNCH_FAILED, cudart.cuMemAlloc(new long[1], 16));
    // A kernel that writes past the end is found out, too.
    cudart.cuMemFree(device);
    cudart.cuStreamDestroy(stream);
    cudart.cuModuleUnload(module);
    check(cudart.cuDevicePrimaryCtxRelease(0));
    start();
    module = module();
    device = allocate(4 * 64);
    fill(module, null, device, 1, 64);
    assertEquals(
        cudart.CUDA_ERROR_ILLEGAL_ADDRESS,
        launch(function(module, "taco4j_fill_f32"), 1, 32, 0, null, parameters(device, 1, 65)));
    cudart.cuMemFree(device);
    cudart.cuModuleUnload(module);
  }

  @Test
  void leaksAreFound() {
    check(cudart.cuDevicePrimaryCtxRelease(0));
    FakeCuda inner = FakeCuda.load();
    start();
    assertThrows(AssertionError.class, inner::close, "a context is left");
    inner = FakeCuda.load();
    start();
    allocate(64);
    check(cudart.cuDevicePrimaryCtxRelease(0));
    assertThrows(AssertionError.class, inner::close, "memory is left");
    assertEquals(0, fake.liveAllocations());
    fake.devices(1);
    check(cudart.cuInit(0));
  }

  @Test
  void cublasMultipliesColumnMajorMatrices() {
    // c = 2 a^T b - c: a: [2, 3] in columns of 4, b: [2, 2], c: [3, 2] in columns of 5.
    double[] a = {1, 2, Double.NaN, Double.NaN, 3, 4, Double.NaN, Double.NaN, 5, 6};
    double[] b = {1, 10, 2, 20};
    double[] c = {1, 2, 3, Double.NaN, -7, 4, 5, 6};
    long deviceA = upload(a);
    long deviceB = upload(b);
    long deviceC = upload(c);
    cublasContext handle = new cublasContext();
    check(cublas.cublasCreate_v2(handle));
    CUstream_st stream = stream();
    check(cublas.cublasSetStream_v2(handle, stream));
    try (DoublePointer alpha = new DoublePointer(2.0);
        DoublePointer beta = new DoublePointer(-1.0)) {
      assertEquals(
          cublas.CUBLAS_STATUS_INVALID_VALUE,
          gemm(handle, alpha, beta, deviceA, 1, deviceB, deviceC));
      check(gemm(handle, alpha, beta, deviceA, 4, deviceB, deviceC));
    }
    double[] expected = {41, 84, 127, Double.NaN, -7, 80, 167, 254};
    double[] result = new double[c.length];
    downloadDoubles(deviceC, result, stream);
    assertArrayEquals(expected, result);
    check(cublas.cublasDestroy_v2(handle));
    check(cudart.cuStreamDestroy(stream));
    for (long address : new long[] {deviceA, deviceB, deviceC}) {
      check(cudart.cuMemFree(address));
    }
  }

  private static int gemm(
      cublasContext handle,
      DoublePointer alpha,
      DoublePointer beta,
      long a,
      int lda,
      long b,
      long c) {
    return cublas.cublasDgemm_v2(
        handle,
        cublas.CUBLAS_OP_T,
        cublas.CUBLAS_OP_N,
        3,
        2,
        2,
        alpha,
        at(a),
        lda,
        at(b),
        2,
        beta,
        at(c),
        5);
  }

  @Test
  void cusolverFactorizesTheTriangleItIsTold() {
    // Lower, in columns of 4; the upper triangle is not touched.
    double[] a = {4, 2, 6, -1, -9, 10, 0, -1, -9, -9, 14, -1};
    long deviceA = upload(a);
    cusolverDnContext handle = new cusolverDnContext();
    check(cusolver.cusolverDnCreate(handle));
    CUstream_st stream = stream();
    check(cusolver.cusolverDnSetStream(handle, stream));
    IntPointer size = new IntPointer(1);
    check(
        cusolver.cusolverDnDpotrf_bufferSize(
            handle, cublas.CUBLAS_FILL_MODE_LOWER, 3, at(deviceA), 4, size));
    int elements = size.get();
    long workspace = allocate(8L * elements);
    long info = allocate(4);
    assertEquals(
        cusolver.CUSOLVER_STATUS_INVALID_VALUE,
        potrf(handle, 3, deviceA, 4, workspace, elements - 1, info));
    assertEquals(
        cusolver.CUSOLVER_STATUS_INVALID_VALUE,
        potrf(handle, 3, deviceA, 2, workspace, elements, info));
    check(potrf(handle, 3, deviceA, 4, workspace, elements, info));
    double[] result = new double[a.length];
    downloadDoubles(deviceA, result, stream);
    // L = [2; 1 3; 3 -1 2]
    assertArrayEquals(new double[] {2, 1, 3, -1, -9, 3, -1, -1, -9, -9, 2, -1}, result);
    assertEquals(0, downloadInt(info, stream));
    check(
        cusolver.cusolverDnDpotri(
            handle,
            cublas.CUBLAS_FILL_MODE_LOWER,
            3,
            at(deviceA),
            4,
            at(workspace),
            elements,
            new IntPointer(at(info))));
    downloadDoubles(deviceA, result, stream);
    // 144 is the determinant.
    double[] inverse = {140, -28, -60, 0, 0, 20, 12, 0, 0, 0, 36};
    for (int i = 0; i < inverse.length; i++) {
      if (inverse[i] != 0) {
        assertEquals(inverse[i] / 144, result[i], 1e-14, "element " + i);
      }
    }
    // Not positive definite: the order of the minor.
    check(cudart.cuMemcpyHtoD(deviceA, new DoublePointer(1, 2, 0, 0, 0, 1, 0, 0), 64));
    check(potrf(handle, 2, deviceA, 4, workspace, elements, info));
    assertEquals(2, downloadInt(info, stream));
    check(cusolver.cusolverDnDestroy(handle));
    check(cudart.cuStreamDestroy(stream));
    for (long address : new long[] {deviceA, workspace, info}) {
      check(cudart.cuMemFree(address));
    }
  }

  private static int potrf(
      cusolverDnContext handle, int n, long a, int lda, long workspace, int elements, long info) {
    return cusolver.cusolverDnDpotrf(
        handle,
        cublas.CUBLAS_FILL_MODE_LOWER,
        n,
        at(a),
        lda,
        at(workspace),
        elements,
        new IntPointer(at(info)));
  }

  @Test
  void probeFindsEveryPart() {
    CudaProbe.Findings findings = CudaProbe.examine();
    assertEquals("", findings.obstacle());
    for (String part : List.of("driver", "device", "kernels", "cudart", "cuBLAS", "cuSOLVER")) {
      assertTrue(findings.has(part), findings.parts()::toString);
    }
    // Where there is no nvcc, the kernels are those of the fake driver.
    assertTrue(
        getClass()
            .getClassLoader()
            .resources("META-INF/cuda/fill.fatbin")
            .anyMatch(resource -> resource.getPath().contains("fake-cuda")));
    fake.devices(0);
    assertFalse(CudaProbe.examine().has("device"));
    fake.devices(1);
    check(cudart.cuInit(0));
  }

  private static void check(int code) {
    assertEquals(0, code);
  }

  private static CUmod_st module() {
    CUmod_st module = new CUmod_st();
    check(cudart.cuModuleLoadData(module, new BytePointer("what is in it is not looked at")));
    return module;
  }

  private static CUfunc_st function(CUmod_st module, String name) {
    CUfunc_st function = new CUfunc_st();
    check(cudart.cuModuleGetFunction(function, module, name));
    return function;
  }

  private static CUstream_st stream() {
    CUstream_st stream = new CUstream_st();
    check(cudart.cuStreamCreate(stream, cudart.CU_STREAM_NON_BLOCKING));
    return stream;
  }

  private static long allocate(long bytes) {
    long[] address = new long[1];
    check(cudart.cuMemAlloc(address, bytes));
    return address[0];
  }

  private static Pointer pinned(long bytes) {
    PointerPointer<Pointer> out = new PointerPointer<>(1);
    check(cudart.cuMemHostAlloc(out, bytes, 0));
    return out.get(0);
  }

  private static PointerPointer<Pointer> parameters(long to, float value, long count) {
    return new PointerPointer<>(
        new LongPointer(new long[] {to}),
        new FloatPointer(new float[] {value}),
        new LongPointer(new long[] {count}));
  }

  private static void fill(CUmod_st module, CUstream_st stream, long to, float value, long count) {
    check(
        launch(
            function(module, "taco4j_fill_f32"), 2, 96, 0, stream, parameters(to, value, count)));
  }

  private static int launch(
      CUfunc_st function,
      int blocks,
      int threads,
      int sharedBytes,
      CUstream_st stream,
      PointerPointer<Pointer> parameters) {
    return cudart.cuLaunchKernel(
        function,
        blocks,
        1,
        1,
        threads,
        1,
        1,
        sharedBytes,
        stream,
        parameters,
        (PointerPointer<?>) null);
  }

  private static long upload(double[] values) {
    long address = allocate(8L * values.length);
    check(cudart.cuMemcpyHtoD(address, new DoublePointer(values), 8L * values.length));
    return address;
  }

  private static void download(long from, float[] to, CUstream_st stream) {
    try (FloatPointer host = new FloatPointer(to.length)) {
      check(cudart.cuMemcpyDtoHAsync(host, from, 4L * to.length, stream));
      host.get(to);
    }
  }

  private static void downloadDoubles(long from, double[] to, CUstream_st stream) {
    try (DoublePointer host = new DoublePointer(to.length)) {
      check(cudart.cuMemcpyDtoHAsync(host, from, 8L * to.length, stream));
      host.get(to);
    }
  }

  private static int downloadInt(long from, CUstream_st stream) {
    try (IntPointer host = new IntPointer(1)) {
      check(cudart.cuMemcpyDtoHAsync(host, from, 4, stream));
      return host.get();
    }
  }

  /** An address on the device as the bindings of cuBLAS take it. */
  private static DoublePointer at(long address) {
    return new DoublePointer(new AtAddress(address));
  }

  private static final class AtAddress extends Pointer {
    AtAddress(long address) {
      this.address = address;
    }
  }
}
