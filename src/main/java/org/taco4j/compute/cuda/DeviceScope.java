package org.taco4j.compute.cuda;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.PointerPointer;
import org.jspecify.annotations.Nullable;

/**
 * A piece of work on a device: a stream, in which copies and kernels follow each other, and the
 * memory that it has allocated, which goes when it is closed. Several scopes of a device overlap.
 * To be used by one thread at a time.
 *
 * <p>Kernels are queued: an error of one shows at the next {@link #synchronize} or download, whose
 * message names the last kernels that were queued.
 */
final class DeviceScope implements AutoCloseable {
  private static final int MAX_ARGUMENTS = 32;

  private final CudaDevice device;
  private final long reserved;
  private long used;
  private final CUstream_st stream = new CUstream_st();
  private final List<DeviceArray> arrays = new ArrayList<>();
  private final List<Runnable> borrowed = new ArrayList<>();
  private final LongPointer arguments = new LongPointer(MAX_ARGUMENTS);
  private final PointerPointer<LongPointer> parameters = new PointerPointer<>(MAX_ARGUMENTS);
  private final MemorySegment values;
  private @Nullable Staging staging;
  private String lastKernel = "";

  /** By {@link CudaDevice#scope}; the device's context is this thread's. */
  DeviceScope(CudaDevice device, long reserved) {
    this.device = device;
    this.reserved = reserved;
    device.check(cudart.cuStreamCreate(stream, cudart.CU_STREAM_NON_BLOCKING), "creating a stream");
    for (int i = 0; i < MAX_ARGUMENTS; i++) {
      parameters.put(i, arguments.getPointer(i));
    }
    values =
        MemorySegment.ofAddress(arguments.address()).reinterpret((long) MAX_ARGUMENTS * Long.BYTES);
  }

  /** The device that this is on. */
  CudaDevice device() {
    return device;
  }

  /** The bytes that were set aside for this scope. */
  long reserved() {
    return reserved;
  }

  /** The bytes that it uses. */
  long used() {
    return used;
  }

  /** The stream, for cuBLAS and cuSOLVER. */
  CUstream_st stream() {
    return stream;
  }

  /** Has something done when the scope is closed, after its work: giving back what it was lent. */
  void onClose(Runnable giveBack) {
    borrowed.add(giveBack);
  }

  /** New float32 elements, not initialised. */
  DeviceArray floats(long count) {
    return allocate(count, Float.BYTES);
  }

  /** New float64 elements, not initialised. */
  DeviceArray doubles(long count) {
    return allocate(count, Double.BYTES);
  }

  /** New 32-bit integers, not initialised. */
  DeviceArray ints(long count) {
    return allocate(count, Integer.BYTES);
  }

  /** New bytes, not initialised. */
  DeviceArray bytes(long count) {
    return allocate(count, 1);
  }

  private DeviceArray allocate(long count, int elementBytes) {
    long bytes = Math.multiplyExact(count, elementBytes);
    DeviceArray array = new DeviceArray(device.allocate(this, bytes), count, elementBytes);
    used += bytes;
    arrays.add(array);
    return array;
  }

  /** Gives an array back before the scope ends; what is queued and uses it is waited for. */
  void free(DeviceArray array) {
    if (!arrays.remove(array)) {
      throw new IllegalArgumentException("not an array of this scope, or a part of one");
    }
    synchronize();
    release(array);
  }

  private void release(DeviceArray array) {
    device.free(this, array);
    used -= array.bytes();
  }

  /** A new array on the device with the elements of one on the heap. */
  DeviceArray copyOf(float[] from) {
    DeviceArray to = floats(from.length);
    upload(from, 0, to, 0, from.length);
    return to;
  }

  /** {@link #copyOf(float[])}. */
  DeviceArray copyOf(double[] from) {
    DeviceArray to = doubles(from.length);
    upload(from, 0, to, 0, from.length);
    return to;
  }

  /** {@link #copyOf(float[])}. */
  DeviceArray copyOf(int[] from) {
    DeviceArray to = ints(from.length);
    upload(from, 0, to, 0, from.length);
    return to;
  }

  /** {@link #copyOf(float[])}, a byte for each: 1 or 0. */
  DeviceArray copyOf(boolean[] from) {
    byte[] mask = new byte[from.length];
    for (int i = 0; i < mask.length; i++) {
      mask[i] = from[i] ? (byte) 1 : 0;
    }
    DeviceArray to = bytes(mask.length);
    upload(MemorySegment.ofArray(mask), to, 0);
    return to;
  }

  /** Queues a copy of {@code count} elements to the device; the heap array may be changed then. */
  void upload(float[] from, int start, DeviceArray to, long at, int count) {
    upload(segment(MemorySegment.ofArray(from), start, count, Float.BYTES), to, at);
  }

  /** {@link #upload(float[], int, DeviceArray, long, int)}. */
  void upload(double[] from, int start, DeviceArray to, long at, int count) {
    upload(segment(MemorySegment.ofArray(from), start, count, Double.BYTES), to, at);
  }

  /** {@link #upload(float[], int, DeviceArray, long, int)}. */
  void upload(int[] from, int start, DeviceArray to, long at, int count) {
    upload(segment(MemorySegment.ofArray(from), start, count, Integer.BYTES), to, at);
  }

  /** Queues a copy of all of a segment to elements from {@code at} on. */
  void upload(MemorySegment from, DeviceArray to, long at) {
    Objects.checkFromIndexSize(at * to.elementBytes(), from.byteSize(), to.bytes());
    if (from.byteSize() > 0) {
      device.enter();
      staging().upload(from, to.at(at).address(), stream);
    }
  }

  /** Copies elements from the device; waits for what is queued. */
  void download(DeviceArray from, long at, float[] to, int start, int count) {
    download(from, at, segment(MemorySegment.ofArray(to), start, count, Float.BYTES));
  }

  /** {@link #download(DeviceArray, long, float[], int, int)}. */
  void download(DeviceArray from, long at, double[] to, int start, int count) {
    download(from, at, segment(MemorySegment.ofArray(to), start, count, Double.BYTES));
  }

  /** {@link #download(DeviceArray, long, float[], int, int)}. */
  void download(DeviceArray from, long at, int[] to, int start, int count) {
    download(from, at, segment(MemorySegment.ofArray(to), start, count, Integer.BYTES));
  }

  /** {@link #download(DeviceArray, long, float[], int, int)}; what is not 0 is true. */
  void download(DeviceArray from, long at, boolean[] to, int start, int count) {
    byte[] mask = new byte[count];
    download(from, at, MemorySegment.ofArray(mask));
    for (int i = 0; i < count; i++) {
      to[start + i] = mask[i] != 0;
    }
  }

  /** The first element of an array of ints; waits for what is queued. */
  int downloadInt(DeviceArray from) {
    int[] value = new int[1];
    download(from, 0, value, 0, 1);
    return value[0];
  }

  private void download(DeviceArray from, long at, MemorySegment to) {
    Objects.checkFromIndexSize(at * from.elementBytes(), to.byteSize(), from.bytes());
    if (to.byteSize() > 0) {
      device.enter();
      naming(() -> staging().download(from.at(at).address(), to, stream));
    }
  }

  private static MemorySegment segment(MemorySegment array, long start, long count, int bytes) {
    return array.asSlice(start * bytes, count * bytes);
  }

  /** Queues a copy within the device; the two must not overlap. */
  void copy(DeviceArray from, DeviceArray to) {
    Objects.checkFromIndexSize(0, from.bytes(), to.bytes());
    if (from.bytes() > 0) {
      device.enter();
      device.check(
          cudart.cuMemcpyDtoDAsync(to.address(), from.address(), from.bytes(), stream),
          "copying %d bytes within the device".formatted(from.bytes()));
    }
  }

  /** Queues setting every byte of an array to 0: all numbers are zero. */
  void clear(DeviceArray array) {
    if (array.bytes() > 0) {
      device.enter();
      device.check(
          cudart.cuMemsetD8Async(array.address(), (byte) 0, array.bytes(), stream),
          "clearing %d bytes".formatted(array.bytes()));
    }
  }

  /**
   * Queues a kernel.
   *
   * @param arguments of the kernel's parameters' types: {@link DeviceArray}, {@link
   *     DeviceArray.Pointer} and {@link DeviceMatrix} for pointers, Integer for int, Long for long
   *     long, Float, Double; null for a null pointer
   */
  void launch(Kernel kernel, LaunchShape shape, @Nullable Object... arguments) {
    if (arguments.length > MAX_ARGUMENTS) {
      throw new IllegalArgumentException(kernel.name() + ": " + arguments.length + " arguments");
    }
    for (int i = 0; i < arguments.length; i++) {
      long at = (long) i * Long.BYTES;
      switch (arguments[i]) {
        case null -> values.set(ValueLayout.JAVA_LONG, at, 0L);
        case DeviceArray array -> values.set(ValueLayout.JAVA_LONG, at, array.address());
        case DeviceArray.Pointer pointer ->
            values.set(ValueLayout.JAVA_LONG, at, pointer.address());
        case DeviceMatrix matrix ->
            values.set(ValueLayout.JAVA_LONG, at, matrix.pointer().address());
        case Integer value -> values.set(ValueLayout.JAVA_INT, at, value);
        case Long value -> values.set(ValueLayout.JAVA_LONG, at, value);
        case Float value -> values.set(ValueLayout.JAVA_FLOAT, at, value);
        case Double value -> values.set(ValueLayout.JAVA_DOUBLE, at, value);
        default ->
            throw new IllegalArgumentException(
                "%s: argument %d is a %s".formatted(kernel.name(), i, arguments[i].getClass()));
      }
    }
    device.enter();
    naming(() -> kernel.launch(shape, stream, parameters));
    lastKernel = kernel.name() + ", " + shape;
  }

  /** Waits until everything queued is done. */
  void synchronize() {
    device.enter();
    naming(() -> device.check(cudart.cuStreamSynchronize(stream), "waiting for the device"));
  }

  /** Says which kernel was queued last, where that may be what failed. */
  private void naming(Runnable call) {
    device.naming(lastKernel, call);
  }

  /**
   * Gives page-locked memory back until the next copy: for scopes that live long and copy rarely.
   */
  void rest() {
    Staging taken = staging;
    if (taken != null) {
      device.giveBack(taken);
      staging = null;
    }
  }

  private Staging staging() {
    Staging taken = staging;
    if (taken == null) {
      taken = device.takeStaging();
      staging = taken;
    }
    return taken;
  }

  /**
   * Waits for the work, and frees the memory; errors of the work have shown before, or are lost.
   */
  @Override
  public void close() {
    try {
      device.enter();
      cudart.cuStreamSynchronize(stream);
      for (DeviceArray array : arrays) {
        release(array);
      }
      arrays.clear();
      borrowed.forEach(Runnable::run);
      rest();
      cudart.cuStreamDestroy(stream);
      parameters.close();
      arguments.close();
    } finally {
      device.closed(this);
    }
  }
}
