package org.taco4j.runtime.tensorrt;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.bytedeco.cuda.cudart.CUctx_st;
import org.bytedeco.cuda.cudart.CUevent_st;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.cudart.CUuuid;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerPointer;
import org.taco4j.common.TacoException;

/**
 * A queue of work on the first GPU, with two events that clock it, and memory on both sides of the
 * copies. All of it belongs to the thread that made it, and is freed at {@link #close}.
 */
final class GpuStream implements AutoCloseable {
  private static final int NAME_BYTES = 256;

  /** A tensor in the device's memory and its twin in page-locked memory of the host. */
  static final class Buffer {
    private final String what;
    private final long bytes;
    private long device;
    private final BytePointer host = new BytePointer();

    private Buffer(String what, long bytes) {
      this.what = what;
      this.bytes = bytes;
    }

    /** Where it is on the device, as a pointer that native code may keep. */
    Pointer devicePointer() {
      return new Address(device);
    }

    /** The host's side, in this machine's byte order. */
    ByteBuffer host() {
      return host.capacity(bytes).asByteBuffer().order(ByteOrder.nativeOrder());
    }
  }

  /** A pointer with a given address: JavaCPP makes them from others only. */
  private static final class Address extends Pointer {
    Address(long value) {
      address = value;
    }
  }

  private final int device;
  private final EngineCache.Device description;
  private final CUctx_st context = new CUctx_st();
  private final CUstream_st stream = new CUstream_st();
  private final CUevent_st begin = new CUevent_st();
  private final CUevent_st end = new CUevent_st();
  private final List<Buffer> buffers = new ArrayList<>();

  private GpuStream(int device, EngineCache.Device description) {
    this.device = device;
    this.description = description;
  }

  /**
   * Opens a queue on the first GPU that CUDA_VISIBLE_DEVICES shows, in the context that CUDA's
   * runtime and so TensorRT use.
   */
  static GpuStream open() {
    check(cudart.cuInit(0), "cuInit");
    int[] out = new int[1];
    check(cudart.cuDeviceGet(out, 0), "cuDeviceGet");
    int device = out[0];
    GpuStream opened = new GpuStream(device, describe(device));
    check(cudart.cuDevicePrimaryCtxRetain(opened.context, device), "making a context");
    try {
      check(cudart.cuCtxSetCurrent(opened.context), "cuCtxSetCurrent");
      check(
          cudart.cuStreamCreate(opened.stream, cudart.CU_STREAM_NON_BLOCKING), "creating a stream");
      check(cudart.cuEventCreate(opened.begin, 0), "cuEventCreate");
      check(cudart.cuEventCreate(opened.end, 0), "cuEventCreate");
      return opened;
    } catch (TacoException e) {
      opened.close();
      throw e;
    }
  }

  private static EngineCache.Device describe(int device) {
    byte[] name = new byte[NAME_BYTES];
    check(cudart.cuDeviceGetName(name, NAME_BYTES, device), "cuDeviceGetName");
    int length = 0;
    while (length < NAME_BYTES && name[length] != 0) {
      length++;
    }
    byte[] uuid = new byte[16];
    try (CUuuid id = new CUuuid()) {
      check(cudart.cuDeviceGetUuid(id, device), "cuDeviceGetUuid");
      for (int i = 0; i < uuid.length; i++) {
        uuid[i] = id.bytes(i);
      }
    }
    int[] driver = new int[1];
    check(cudart.cuDriverGetVersion(driver), "cuDriverGetVersion");
    return new EngineCache.Device(
        new String(name, 0, length, java.nio.charset.StandardCharsets.UTF_8),
        "sm_%d%d"
            .formatted(
                attribute(device, cudart.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                attribute(device, cudart.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)),
        HexFormat.of().formatHex(uuid),
        driver[0]);
  }

  private static int attribute(int device, int which) {
    int[] out = new int[1];
    check(cudart.cuDeviceGetAttribute(out, which, device), "cuDeviceGetAttribute");
    return out[0];
  }

  /** Which GPU this is. */
  EngineCache.Device device() {
    return description;
  }

  /** The queue, for native code. */
  CUstream_st handle() {
    return stream;
  }

  /**
   * Memory for a tensor on both sides.
   *
   * @param what it is, for errors
   */
  Buffer allocate(String what, long bytes) {
    long size = Math.max(1, bytes);
    Buffer buffer = new Buffer(what, size);
    long[] address = new long[1];
    check(cudart.cuMemAlloc(address, size), "%s: %d bytes on the GPU".formatted(what, size));
    buffer.device = address[0];
    buffers.add(buffer);
    check(
        cudart.cuMemHostAlloc(buffer.host, size, 0),
        "%s: %d bytes of page-locked memory".formatted(what, size));
    return buffer;
  }

  /** Frees all buffers; none may be in use by queued work. */
  void freeBuffers() {
    for (Buffer buffer : buffers) {
      cudart.cuMemFree(buffer.device);
      if (!buffer.host.isNull()) {
        cudart.cuMemFreeHost(buffer.host);
      }
    }
    buffers.clear();
  }

  /** Queues a copy to the device. */
  void upload(Buffer buffer) {
    check(
        cudart.cuMemcpyHtoDAsync(buffer.device, buffer.host, buffer.bytes, stream),
        "copying %s to the GPU".formatted(buffer.what));
  }

  /** Queues a copy from the device. */
  void download(Buffer buffer) {
    check(
        cudart.cuMemcpyDtoHAsync(buffer.host, buffer.device, buffer.bytes, stream),
        "copying %s from the GPU".formatted(buffer.what));
  }

  /** Waits until everything queued is done. */
  void synchronize() {
    check(cudart.cuStreamSynchronize(stream), "work on the GPU");
  }

  /** How long what {@code work} queues takes on the device, in milliseconds; waits for it. */
  double millis(Runnable work) {
    check(cudart.cuEventRecord(begin, stream), "cuEventRecord");
    work.run();
    check(cudart.cuEventRecord(end, stream), "cuEventRecord");
    check(cudart.cuEventSynchronize(end), "work on the GPU");
    float[] millis = new float[1];
    check(cudart.cuEventElapsedTime(millis, begin, end), "cuEventElapsedTime");
    return millis[0];
  }

  private static void check(int code, String what) {
    if (code != cudart.CUDA_SUCCESS) {
      String name = "CUDA error " + code;
      try (PointerPointer<BytePointer> out = new PointerPointer<>(1)) {
        if (cudart.cuGetErrorName(code, out) == cudart.CUDA_SUCCESS) {
          name = out.get(BytePointer.class, 0).getString();
        }
      }
      throw TacoException.runtime("%s: %s".formatted(what, name));
    }
  }

  @Override
  public void close() {
    freeBuffers();
    if (!begin.isNull()) {
      cudart.cuEventDestroy(begin);
    }
    if (!end.isNull()) {
      cudart.cuEventDestroy(end);
    }
    if (!stream.isNull()) {
      cudart.cuStreamDestroy(stream);
    }
    cudart.cuDevicePrimaryCtxRelease(device);
  }
}
