package org.taco4j.runtime;

import ai.onnx.proto.OnnxMl;
import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.channels.ReadableByteChannel;
import java.nio.channels.WritableByteChannel;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;

/** A tensor in ONNX Runtime's memory. Owned by whoever got it: close it. */
public final class Tensor implements AutoCloseable {
  /** {@link #elementType} of float32. */
  public static final int FLOAT = OnnxMl.TensorProto.DataType.FLOAT_VALUE;

  /** {@link #elementType} of float16. */
  public static final int FLOAT16 = OnnxMl.TensorProto.DataType.FLOAT16_VALUE;

  private final OnnxTensor value;

  /** The memory, where this project allocated it. */
  private final @Nullable FloatBuffer memory;

  Tensor(OnnxTensor value, @Nullable FloatBuffer memory) {
    this.value = value;
    this.memory = memory;
  }

  static Tensor of(String name, OnnxValue value) {
    if (value instanceof OnnxTensor tensor) {
      return new Tensor(tensor, null);
    }
    throw TacoException.model(
        "tensor " + name + " is a " + value.getType() + "; only dense tensors are supported");
  }

  /**
   * A float32 tensor with a copy of the given values.
   *
   * @param data at least as many values as {@code shape} has elements, row-major
   */
  public static Tensor ofFloats(float[] data, long... shape) {
    ByteBuffer direct = allocate(Float.BYTES, shape);
    direct.asFloatBuffer().put(data, 0, direct.capacity() / Float.BYTES);
    return over(direct, shape);
  }

  /**
   * A tensor of the given values, rounded to its element type.
   *
   * @param elementType {@link #FLOAT} or {@link #FLOAT16}
   * @param data at least as many values as {@code shape} has elements, row-major
   * @throws TacoException of kind MODEL for another element type
   */
  public static Tensor ofFloats(int elementType, float[] data, long... shape) {
    if (elementType == FLOAT) {
      return ofFloats(data, shape);
    }
    checkFloat16(elementType);
    ByteBuffer direct = allocate(Short.BYTES, shape);
    while (direct.hasRemaining()) {
      direct.putShort(Float.floatToFloat16(data[direct.position() / Short.BYTES]));
    }
    return overFloat16(direct.flip(), shape);
  }

  /** Whether {@link #writeTo} and {@link #read} work for this element type. */
  public static boolean canWrite(int elementType) {
    return elementType == FLOAT || elementType == FLOAT16;
  }

  /**
   * A tensor of what {@link #writeTo} wrote.
   *
   * @param elementType {@link #FLOAT} or {@link #FLOAT16}
   */
  public static Tensor read(ReadableByteChannel channel, int elementType, long... shape)
      throws IOException {
    if (elementType != FLOAT) {
      checkFloat16(elementType);
    }
    ByteBuffer direct = allocate(elementType == FLOAT ? Float.BYTES : Short.BYTES, shape);
    while (direct.hasRemaining()) {
      if (channel.read(direct) < 0) {
        throw new EOFException(direct.remaining() + " bytes are missing");
      }
    }
    direct.flip();
    return elementType == FLOAT ? over(direct, shape) : overFloat16(direct, shape);
  }

  private static void checkFloat16(int elementType) {
    if (elementType != FLOAT16) {
      throw TacoException.model(
          "a tensor of "
              + OnnxMl.TensorProto.DataType.forNumber(elementType)
              + " where FLOAT or FLOAT16 is needed; export the model in one of these");
    }
  }

  private static ByteBuffer allocate(int elementBytes, long[] shape) {
    return ByteBuffer.allocateDirect(Math.toIntExact(elementBytes * elements(shape)))
        .order(ByteOrder.nativeOrder());
  }

  private static Tensor over(ByteBuffer direct, long[] shape) {
    return over(direct.asFloatBuffer(), shape);
  }

  private static Tensor overFloat16(ByteBuffer direct, long[] shape) {
    try {
      return new Tensor(
          OnnxTensor.createTensor(
              OrtEnvironment.getEnvironment(), direct, shape, OnnxJavaType.FLOAT16),
          null);
    } catch (OrtException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, "no tensor: " + e.getMessage(), e);
    }
  }

  /** A float32 tensor over memory that must outlive it. */
  static Tensor over(FloatBuffer direct, long... shape) {
    try {
      return new Tensor(
          OnnxTensor.createTensor(OrtEnvironment.getEnvironment(), direct, shape), direct);
    } catch (OrtException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, "no tensor: " + e.getMessage(), e);
    }
  }

  /** Writes the values, row-major, in this machine's byte order; where {@link #canWrite}. */
  public void writeTo(WritableByteChannel channel) throws IOException {
    ByteBuffer bytes = value.getByteBuffer();
    while (bytes.hasRemaining()) {
      channel.write(bytes);
    }
  }

  /** The dimensions. */
  public long[] shape() {
    return value.getInfo().getShape();
  }

  /** Number of elements of a shape. */
  public static long elements(long[] shape) {
    long elements = 1;
    for (long d : shape) {
      elements *= d;
    }
    return elements;
  }

  /** Number of elements. */
  public long elements() {
    return value.getInfo().getNumElements();
  }

  /** Memory that the elements take, in bytes. */
  public long bytes() {
    return elements() * value.getInfo().type.size;
  }

  /** The element type, as ONNX numbers them (TensorProto.DataType). */
  public int elementType() {
    // The names of ONNX Runtime's types are those of TensorProto.DataType; its numbers are not.
    String type = value.getInfo().onnxType.name().replace("ONNX_TENSOR_ELEMENT_DATA_TYPE_", "");
    return OnnxMl.TensorProto.DataType.valueOf(type).getNumber();
  }

  /** Whether the elements are float32. */
  boolean isFloat32() {
    return value.getInfo().type == OnnxJavaType.FLOAT;
  }

  /** A copy of the values, row-major; for float32 and float16 tensors. */
  public float[] floats() {
    FloatBuffer buffer = value.getFloatBuffer();
    if (buffer == null) {
      throw TacoException.model("a tensor of " + value.getInfo().type + " where floats are needed");
    }
    if (buffer.hasArray() && buffer.arrayOffset() == 0 && buffer.array().length == buffer.limit()) {
      return buffer.array();
    }
    float[] copy = new float[buffer.remaining()];
    buffer.get(copy);
    return copy;
  }

  /**
   * The values, row-major, for float32 and float16 tensors: the tensor's own memory where this
   * project allocated it, and so valid no longer than the tensor; else a copy.
   */
  public FloatBuffer buffer() {
    return memory == null ? FloatBuffer.wrap(floats()) : memory.duplicate();
  }

  OnnxTensor value() {
    return value;
  }

  @Override
  public void close() {
    value.close();
  }
}
