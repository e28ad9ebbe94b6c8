package org.taco4j.compute.cuda;

import java.lang.foreign.MemorySegment;
import org.bytedeco.cuda.cudart.CUevent_st;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.BytePointer;

/**
 * Two buffers of page-locked host memory through which heap arrays go to a device and back: while
 * one is copied by the device, the other is filled or emptied here. Page-locked memory is dear to
 * get, so the device keeps these for the next scope. Used by one scope at a time.
 */
final class Staging implements AutoCloseable {
  private static final int BUFFER_BYTES = 4 << 20;

  private final CudaDevice device;
  private final BytePointer[] buffers = new BytePointer[2];
  private final MemorySegment[] segments = new MemorySegment[2];
  private final CUevent_st[] copied = new CUevent_st[2];
  private int next;

  Staging(CudaDevice device) {
    this.device = device;
    for (int i = 0; i < buffers.length; i++) {
      buffers[i] = new BytePointer();
      copied[i] = new CUevent_st();
      device.check(
          cudart.cuMemHostAlloc(buffers[i], BUFFER_BYTES, 0), "page-locked memory of the host");
      segments[i] = MemorySegment.ofAddress(buffers[i].address()).reinterpret(BUFFER_BYTES);
      device.check(
          cudart.cuEventCreate(
              copied[i], cudart.CU_EVENT_DISABLE_TIMING | cudart.CU_EVENT_BLOCKING_SYNC),
          "cuEventCreate");
    }
  }

  /** Copies to the device; {@code from} may be changed at return, the copy is queued. */
  void upload(MemorySegment from, long to, CUstream_st stream) {
    for (long done = 0; done < from.byteSize(); done += BUFFER_BYTES) {
      long bytes = Math.min(BUFFER_BYTES, from.byteSize() - done);
      int buffer = take();
      segments[buffer].copyFrom(from.asSlice(done, bytes));
      device.check(
          cudart.cuMemcpyHtoDAsync(to + done, buffers[buffer], bytes, stream),
          "copying %d bytes to the device".formatted(bytes));
      device.check(cudart.cuEventRecord(copied[buffer], stream), "cuEventRecord");
    }
  }

  /** Copies from the device, after everything queued before; what comes is there at return. */
  void download(long from, MemorySegment to, CUstream_st stream) {
    long pending = -1;
    int pendingBuffer = 0;
    for (long done = 0; done < to.byteSize(); done += BUFFER_BYTES) {
      long bytes = Math.min(BUFFER_BYTES, to.byteSize() - done);
      int buffer = take();
      device.check(
          cudart.cuMemcpyDtoHAsync(buffers[buffer], from + done, bytes, stream),
          "copying %d bytes from the device".formatted(bytes));
      device.check(cudart.cuEventRecord(copied[buffer], stream), "cuEventRecord");
      if (pending >= 0) {
        empty(pendingBuffer, to, pending);
      }
      pending = done;
      pendingBuffer = buffer;
    }
    if (pending >= 0) {
      empty(pendingBuffer, to, pending);
    }
  }

  /** The buffer whose turn it is, once the device is done with it. */
  private int take() {
    int buffer = next;
    next = 1 - next;
    await(buffer);
    return buffer;
  }

  private void empty(int buffer, MemorySegment to, long at) {
    await(buffer);
    long bytes = Math.min(BUFFER_BYTES, to.byteSize() - at);
    to.asSlice(at, bytes).copyFrom(segments[buffer].asSlice(0, bytes));
  }

  private void await(int buffer) {
    device.check(cudart.cuEventSynchronize(copied[buffer]), "work queued before a copy");
  }

  @Override
  public void close() {
    for (int i = 0; i < buffers.length; i++) {
      cudart.cuEventDestroy(copied[i]);
      cudart.cuMemFreeHost(buffers[i]);
    }
  }
}
