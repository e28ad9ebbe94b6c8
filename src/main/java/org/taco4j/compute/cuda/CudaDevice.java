package org.taco4j.compute.cuda;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.bytedeco.cuda.cudart.CUctx_st;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.SizeTPointer;
import org.taco4j.common.TacoException;

/**
 * A GPU: its context, its kernels, and its memory, of which no more is used than the limit. Work is
 * done in a {@link #scope}. Closing it frees everything; scopes that are open then are a mistake
 * and said to be one.
 */
final class CudaDevice implements AutoCloseable {
  /** Of the memory that is free when the device is opened, where no limit is given. */
  private static final double FREE_PORTION = 0.9;

  private static final double MEBIBYTE = 1 << 20;

  private final CudaProbe.Gpu gpu;
  private final int handle;
  private final CUctx_st context = new CUctx_st();
  private final CudaModules modules = new CudaModules(this);
  private final DeviceLinearAlgebra linearAlgebra;
  private final long memoryLimit;
  private final int multiprocessors;
  private final int sharedMemoryPerBlock;
  private final boolean endsLongKernels;

  /** What scopes use or have reserved, whichever is more. */
  private long committed;

  private long used;
  private long peak;

  /** Those that are open, and who has opened them. */
  private final Map<DeviceScope, Thread> scopes = new HashMap<>();

  /** How many threads ask for a scope. */
  private final AtomicInteger waiting = new AtomicInteger();

  /**
   * Memory that scopes have given back, by its size. To free it would wait for the work of all
   * scopes; layers ask for the same sizes again and again.
   */
  private final Map<Long, Deque<Long>> spare = new HashMap<>();

  private long spareBytes;

  private final Deque<Staging> staging = new ArrayDeque<>();
  private boolean closed;

  private CudaDevice(CudaProbe.Gpu gpu, long memoryLimit, DeviceLinearAlgebra.Libraries libraries) {
    this.gpu = gpu;
    this.linearAlgebra = new DeviceLinearAlgebra(this, libraries);
    int[] out = new int[1];
    check(cudart.cuInit(0), "cuInit");
    check(cudart.cuDeviceGet(out, gpu.ordinal()), "cuDeviceGet");
    handle = out[0];
    // Whoever waits for the device is to sleep: the host has other layers to see to. Where the
    // context exists already, its owner has decided.
    cudart.cuDevicePrimaryCtxSetFlags(handle, cudart.CU_CTX_SCHED_BLOCKING_SYNC);
    check(cudart.cuDevicePrimaryCtxRetain(context, handle), "making a context");
    boolean opened = false;
    try {
      enter();
      multiprocessors = attribute(cudart.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
      endsLongKernels = attribute(cudart.CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT) != 0;
      sharedMemoryPerBlock =
          attribute(cudart.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
      try (SizeTPointer free = new SizeTPointer(1);
          SizeTPointer total = new SizeTPointer(1)) {
        check(cudart.cuMemGetInfo(free, total), "cuMemGetInfo");
        if (memoryLimit > total.get()) {
          throw TacoException.usage(
              "--gpu-memory of %.0f MiB is more than the %.0f MiB of %s"
                  .formatted(memoryLimit / MEBIBYTE, total.get() / MEBIBYTE, gpu));
        }
        this.memoryLimit = memoryLimit > 0 ? memoryLimit : (long) (FREE_PORTION * free.get());
      }
      opened = true;
    } finally {
      if (!opened) {
        cudart.cuDevicePrimaryCtxRelease(handle);
      }
    }
  }

  /** Opens a GPU, without cuBLAS and cuSOLVER. */
  static CudaDevice open(CudaProbe.Gpu gpu, long memoryLimit) {
    return open(gpu, memoryLimit, new DeviceLinearAlgebra.Libraries(false, false, 0));
  }

  /**
   * Opens a GPU.
   *
   * @param memoryLimit bytes of its memory that may be used at once; 0 for most of what is free
   * @param libraries what is done by which of CUDA's libraries
   * @throws TacoException of kind RUNTIME where the driver refuses, of kind USAGE where the GPU has
   *     less memory than that
   */
  static CudaDevice open(
      CudaProbe.Gpu gpu, long memoryLimit, DeviceLinearAlgebra.Libraries libraries) {
    return new CudaDevice(gpu, memoryLimit, libraries);
  }

  private int attribute(int which) {
    int[] out = new int[1];
    check(cudart.cuDeviceGetAttribute(out, which, handle), "cuDeviceGetAttribute");
    return out[0];
  }

  /** Which GPU it is. */
  CudaProbe.Gpu gpu() {
    return gpu;
  }

  /** How many multiprocessors it has. */
  int multiprocessors() {
    return multiprocessors;
  }

  /** How much shared memory a thread block can have, in bytes: what a kernel can opt in to. */
  int sharedMemoryPerBlock() {
    return sharedMemoryPerBlock;
  }

  /** Whether it drives a display, so that the driver ends kernels that take seconds. */
  boolean endsLongKernels() {
    return endsLongKernels;
  }

  /** 10 times the compute capability: 75. */
  int computeCapability() {
    return gpu.capability();
  }

  /** How many bytes may be in use at once. */
  long memoryLimit() {
    return memoryLimit;
  }

  /** How many bytes more may be reserved now. */
  synchronized long memoryLeft() {
    return memoryLimit - committed;
  }

  /** The most bytes that were in use at once. */
  synchronized long peakMemory() {
    return peak;
  }

  /** How many scopes are open, or wait for memory to be. */
  int demand() {
    return openScopes() + waiting.get();
  }

  /** How many scopes are open. */
  synchronized int openScopes() {
    return scopes.size();
  }

  /** A kernel of {@code cuda-kernels/<file>.cu}. */
  Kernel kernel(String file, String name) {
    enter();
    return modules.kernel(file, name);
  }

  /** Products and factorisations of matrices in its memory. */
  DeviceLinearAlgebra linearAlgebra() {
    return linearAlgebra;
  }

  /** A new stream with memory of its own; to be closed by the caller. */
  DeviceScope scope() {
    return scope(0);
  }

  /**
   * {@link #scope()} with so much memory at its disposal that it waits for other scopes to end
   * rather than fail half-way: for work of which several pieces may be under way at once. A thread
   * that has a scope of this device open does not wait, as others might wait for it.
   *
   * @param reserved bytes
   */
  DeviceScope scope(long reserved) {
    waiting.incrementAndGet();
    try {
      commit(reserved, true);
    } finally {
      waiting.decrementAndGet();
    }
    boolean open = false;
    try {
      enter();
      DeviceScope scope = new DeviceScope(this, reserved);
      synchronized (this) {
        scopes.put(scope, Thread.currentThread());
      }
      open = true;
      return scope;
    } finally {
      if (!open) {
        release(reserved);
      }
    }
  }

  /** Takes bytes out of what is left; where {@code wait} is set, others may have to end first. */
  private synchronized void commit(long bytes, boolean wait) {
    try {
      while (wait
          && bytes > memoryLimit - committed
          && bytes <= memoryLimit
          && committed > 0
          && !scopes.containsValue(Thread.currentThread())) {
        wait();
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new TacoException(TacoException.Kind.INTERRUPTED, "interrupted", e);
    }
    if (bytes > memoryLimit - committed) {
      throw TacoException.runtime(
          ("%s: %.1f MiB do not fit: %.1f of the %.1f MiB that may be used are taken;"
                  + " give it more with --gpu-memory, or use --backend simd")
              .formatted(this, bytes / MEBIBYTE, committed / MEBIBYTE, memoryLimit / MEBIBYTE));
    }
    committed += bytes;
  }

  private synchronized void release(long bytes) {
    committed -= bytes;
    notifyAll();
  }

  /** Makes this the device of the calling thread. */
  void enter() {
    check(cudart.cuCtxSetCurrent(context), "cuCtxSetCurrent");
  }

  /** Memory for a scope, out of its reservation first. */
  long allocate(DeviceScope scope, long bytes) {
    long beyond = Math.max(0, scope.used() + bytes - Math.max(scope.reserved(), scope.used()));
    commit(beyond, false);
    enter();
    long[] address = {takeSpare(bytes)};
    if (address[0] == 0) {
      int code = cudart.cuMemAlloc(address, Math.max(1, bytes));
      if (code == cudart.CUDA_ERROR_OUT_OF_MEMORY) {
        freeSpare();
        code = cudart.cuMemAlloc(address, Math.max(1, bytes));
      }
      if (code != cudart.CUDA_SUCCESS) {
        release(beyond);
        check(code, "allocating %.1f MiB".formatted(bytes / MEBIBYTE));
      }
    }
    synchronized (this) {
      used += bytes;
      peak = Math.max(peak, used);
    }
    return address[0];
  }

  /**
   * Memory of that size that was given back; 0 where there is none, and then what is kept leaves
   * room for as much.
   */
  private synchronized long takeSpare(long bytes) {
    Deque<Long> fitting = spare.get(bytes);
    if (fitting != null && !fitting.isEmpty()) {
      spareBytes -= bytes;
      return fitting.pop();
    }
    if (used + spareBytes + bytes > memoryLimit) {
      freeSpare();
    }
    return 0;
  }

  private synchronized void freeSpare() {
    spare.values().forEach(addresses -> addresses.forEach(cudart::cuMemFree));
    spare.clear();
    spareBytes = 0;
  }

  /** Takes memory of a scope back, which nothing queued uses; its reservation stays. */
  void free(DeviceScope scope, DeviceArray array) {
    long bytes = array.bytes();
    synchronized (this) {
      used -= bytes;
      if (closed) {
        cudart.cuMemFree(array.address());
      } else {
        spareBytes += bytes;
        spare.computeIfAbsent(bytes, size -> new ArrayDeque<>()).push(array.address());
      }
    }
    release(Math.min(bytes, Math.max(0, scope.used() - scope.reserved())));
  }

  Staging takeStaging() {
    synchronized (this) {
      Staging free = staging.poll();
      if (free != null) {
        return free;
      }
    }
    return new Staging(this);
  }

  synchronized void giveBack(Staging buffers) {
    staging.push(buffers);
  }

  /** A scope whose memory has been freed is gone, and its reservation with it. */
  void closed(DeviceScope scope) {
    synchronized (this) {
      scopes.remove(scope);
    }
    release(scope.reserved());
  }

  /** Throws where a call of the driver failed. */
  void check(int code, String what) {
    if (code != cudart.CUDA_SUCCESS) {
      Cuda.check(code, toString(), what);
    }
  }

  /** Runs a call; a failure also says which kernel was queued last. */
  void naming(String lastKernel, Runnable call) {
    try {
      call.run();
    } catch (TacoException e) {
      throw lastKernel.isEmpty()
          ? e
          : new TacoException(
              e.kind(), "%s; the last kernel was %s".formatted(e.getMessage(), lastKernel), e);
    }
  }

  @Override
  public synchronized void close() {
    if (closed) {
      return;
    }
    closed = true;
    enter();
    int open = scopes.size();
    staging.forEach(Staging::close);
    staging.clear();
    freeSpare();
    linearAlgebra.close();
    modules.close();
    cudart.cuDevicePrimaryCtxRelease(handle);
    if (open > 0 || used > 0) {
      throw new IllegalStateException(
          "%s is closed with %d open scopes and %d bytes in use".formatted(this, open, used));
    }
  }

  @Override
  public String toString() {
    return gpu.toString();
  }
}
