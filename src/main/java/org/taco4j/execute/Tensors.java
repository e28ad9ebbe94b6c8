package org.taco4j.execute;

import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.List;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.MemoryFormatOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.TensorData;

/**
 * Torch tensors from Java values and back, all row-major. Each new tensor belongs to the innermost
 * {@link org.bytedeco.javacpp.PointerScope} of the calling thread, or without one to the caller,
 * who closes it.
 */
public final class Tensors {
  private Tensors() {}

  /** An uninitialised tensor. */
  static Tensor empty(ScalarType type, long... shape) {
    try (TensorOptions options = new TensorOptions(type);
        MemoryFormatOptional format = new MemoryFormatOptional()) {
      return torch.empty(shape, options, format);
    }
  }

  /** A float32 tensor with a copy of the values. */
  public static Tensor of(float[] values, long... shape) {
    Tensor tensor = empty(ScalarType.Float, shape);
    checkSize(values.length, tensor, shape);
    if (values.length == 0) {
      return tensor;
    }
    try (FloatPointer data = tensor.data_ptr_float()) {
      data.put(values, 0, values.length);
    }
    return tensor;
  }

  /** A float64 tensor with a copy of the values. */
  public static Tensor of(double[] values, long... shape) {
    Tensor tensor = empty(ScalarType.Double, shape);
    checkSize(values.length, tensor, shape);
    if (values.length == 0) {
      return tensor;
    }
    try (DoublePointer data = tensor.data_ptr_double()) {
      data.put(values, 0, values.length);
    }
    return tensor;
  }

  /** An int64 tensor with a copy of the values. */
  public static Tensor of(long[] values, long... shape) {
    Tensor tensor = empty(ScalarType.Long, shape);
    checkSize(values.length, tensor, shape);
    if (values.length == 0) {
      return tensor;
    }
    try (LongPointer data = tensor.data_ptr_long()) {
      data.put(values, 0, values.length);
    }
    return tensor;
  }

  private static void checkSize(int values, Tensor tensor, long[] shape) {
    if (values != tensor.numel()) {
      throw new IllegalArgumentException(values + " values for shape " + Arrays.toString(shape));
    }
  }

  /** The dimensions. */
  public static long[] shape(Tensor tensor) {
    long[] shape = new long[(int) tensor.dim()];
    for (int i = 0; i < shape.length; i++) {
      shape[i] = tensor.size(i);
    }
    return shape;
  }

  /** A copy of the values as float. */
  public static float[] floats(Tensor tensor) {
    try (Tensor plain = plain(tensor, ScalarType.Float);
        FloatPointer data = plain.data_ptr_float()) {
      float[] values = new float[Math.toIntExact(plain.numel())];
      if (values.length > 0) {
        data.get(values);
      }
      return values;
    }
  }

  /** A copy of the values as double. */
  public static double[] doubles(Tensor tensor) {
    try (Tensor plain = plain(tensor, ScalarType.Double);
        DoublePointer data = plain.data_ptr_double()) {
      double[] values = new double[Math.toIntExact(plain.numel())];
      if (values.length > 0) {
        data.get(values);
      }
      return values;
    }
  }

  /** A copy of the values as long. */
  public static long[] longs(Tensor tensor) {
    try (Tensor plain = plain(tensor, ScalarType.Long);
        LongPointer data = plain.data_ptr_long()) {
      long[] values = new long[Math.toIntExact(plain.numel())];
      if (values.length > 0) {
        data.get(values);
      }
      return values;
    }
  }

  private static Tensor plain(Tensor tensor, ScalarType type) {
    try (Tensor detached = tensor.detach();
        Tensor typed = detached.to(type)) {
      return typed.contiguous();
    }
  }

  /**
   * The gradients of a scalar by tensors that require them, each of its tensor's shape: zeros where
   * the scalar does not depend on it. Nothing is added to anybody's {@code grad()}, so that threads
   * may share leaves. The graph behind the scalar is freed.
   */
  public static List<Tensor> gradients(Tensor scalar, List<Tensor> tensors) {
    LibTorch.enter();
    try (TensorVector outputs = new TensorVector(scalar);
        TensorVector inputs = new TensorVector(tensors.toArray(Tensor[]::new));
        TensorVector none = new TensorVector();
        BoolOptional freeGraph = new BoolOptional();
        TensorVector gradients = torch.grad(outputs, inputs, none, freeGraph, false, true)) {
      Tensor[] copies = new Tensor[tensors.size()];
      for (int i = 0; i < copies.length; i++) {
        Tensor gradient = gradients.get(i);
        copies[i] =
            gradient.defined() ? new Tensor(gradient) : torch.zeros_like(tensors.get(i).detach());
      }
      return List.of(copies);
    }
  }

  /** The element type, as the constant that {@code ==} compares: natives give other objects. */
  static ScalarType type(Tensor tensor) {
    return tensor.scalar_type().intern();
  }

  /** The torch type of an ONNX element type (TensorProto.DataType number). */
  static ScalarType type(int onnxType) {
    DataType type = DataType.forNumber(onnxType);
    return switch (type == null ? DataType.UNDEFINED : type) {
      case FLOAT -> ScalarType.Float;
      case DOUBLE -> ScalarType.Double;
      case FLOAT16 -> ScalarType.Half;
      case BFLOAT16 -> ScalarType.BFloat16;
      case INT64 -> ScalarType.Long;
      case INT32 -> ScalarType.Int;
      case INT16 -> ScalarType.Short;
      case INT8 -> ScalarType.Char;
      case UINT8 -> ScalarType.Byte;
      case BOOL -> ScalarType.Bool;
      default -> throw new NodeSpec.Unsupported(TensorData.typeName(onnxType));
    };
  }

  /** A constant of a model. */
  static Tensor of(TensorProto proto) {
    ScalarType type = type(proto.getDataType());
    long[] shape = proto.getDimsList().stream().mapToLong(Long::longValue).toArray();
    if (proto.hasRawData()) {
      Tensor tensor = empty(type, shape);
      ByteBuffer raw = proto.getRawData().asReadOnlyByteBuffer();
      long bytes = tensor.numel() * tensor.element_size();
      if (raw.remaining() != bytes) {
        throw TacoException.model(
            "tensor '%s' has %d bytes of data where its shape needs %d"
                .formatted(proto.getName(), raw.remaining(), bytes));
      }
      if (bytes > 0) {
        new BytePointer(tensor.data_ptr()).capacity(bytes).asByteBuffer().put(raw);
      }
      return tensor;
    }
    return switch (type) {
      case Float, Half, BFloat16 -> of(TensorData.floats(proto), shape).to(type);
      case Double ->
          of(proto.getDoubleDataList().stream().mapToDouble(Double::doubleValue).toArray(), shape);
      case Long ->
          of(proto.getInt64DataList().stream().mapToLong(Long::longValue).toArray(), shape);
      default ->
          of(proto.getInt32DataList().stream().mapToLong(Integer::longValue).toArray(), shape)
              .to(type);
    };
  }
}
