package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import com.google.protobuf.UnsafeByteOperations;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.ShortBuffer;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;

/**
 * The elements of tensors in their two kinds of storage: {@code raw_data}, little-endian, and the
 * typed fields ({@code float_data}, {@code int32_data} for 16-bit floats, …). What is written back
 * keeps type and kind of storage.
 */
public final class TensorData {
  private TensorData() {}

  static final int FLOAT = DataType.FLOAT_VALUE;
  static final int FLOAT16 = DataType.FLOAT16_VALUE;
  static final int BFLOAT16 = DataType.BFLOAT16_VALUE;
  static final int DOUBLE = DataType.DOUBLE_VALUE;

  /** Whether elements of this type can be read and written as float. */
  static boolean isFloat(int dataType) {
    return dataType == FLOAT || dataType == FLOAT16 || dataType == BFLOAT16 || dataType == DOUBLE;
  }

  /** ONNX name of an element type, such as FLOAT. */
  public static String typeName(int dataType) {
    DataType type = DataType.forNumber(dataType);
    return type == null ? "type " + dataType : type.name();
  }

  /**
   * Bits of one element in {@code raw_data}; 0 for strings and types this version does not know.
   */
  static int bits(int dataType) {
    DataType type = DataType.forNumber(dataType);
    return switch (type) {
      case null -> 0;
      case UINT4, INT4 -> 4;
      case UINT8, INT8, BOOL, FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2, FLOAT8E5M2FNUZ -> 8;
      case UINT16, INT16, FLOAT16, BFLOAT16 -> 16;
      case FLOAT, INT32, UINT32 -> 32;
      case DOUBLE, INT64, UINT64, COMPLEX64 -> 64;
      case COMPLEX128 -> 128;
      case UNDEFINED, STRING -> 0;
    };
  }

  /** How many elements a shape has; -1 for a negative dimension or more than a long holds. */
  public static long count(List<Long> dims) {
    long count = 1;
    for (long dim : dims) {
      if (dim < 0) {
        return -1;
      }
      try {
        count = Math.multiplyExact(count, dim);
      } catch (ArithmeticException e) {
        return -1;
      }
    }
    return count;
  }

  /** Bytes that the elements need as {@code raw_data}; -1 where that is not known. */
  static long rawBytes(TensorProto tensor) {
    long count = count(tensor.getDimsList());
    int bits = bits(tensor.getDataType());
    return count < 0 || bits == 0 || count > Long.MAX_VALUE / bits ? -1 : (count * bits + 7) / 8;
  }

  /** Number of elements of a tensor that fits an array. */
  static int size(TensorProto tensor) {
    return Math.toIntExact(count(tensor.getDimsList()));
  }

  private static ByteBuffer raw(TensorProto tensor) {
    return tensor.getRawData().asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
  }

  /** The elements of a FLOAT, FLOAT16, BFLOAT16 or DOUBLE tensor, in stored order. */
  public static float[] floats(TensorProto tensor) {
    float[] values = new float[size(tensor)];
    boolean raw = tensor.hasRawData();
    switch (tensor.getDataType()) {
      case DataType.FLOAT_VALUE -> {
        if (raw) {
          raw(tensor).asFloatBuffer().get(values);
        } else {
          for (int i = 0; i < values.length; i++) {
            values[i] = tensor.getFloatData(i);
          }
        }
      }
      case DataType.DOUBLE_VALUE -> {
        double[] doubles = doubles(tensor);
        for (int i = 0; i < values.length; i++) {
          values[i] = (float) doubles[i];
        }
      }
      case DataType.FLOAT16_VALUE -> {
        short[] halves = shorts(tensor);
        for (int i = 0; i < values.length; i++) {
          values[i] = Float.float16ToFloat(halves[i]);
        }
      }
      case DataType.BFLOAT16_VALUE -> {
        short[] halves = shorts(tensor);
        for (int i = 0; i < values.length; i++) {
          values[i] = Float.intBitsToFloat(halves[i] << 16);
        }
      }
      default -> throw notFloat(tensor);
    }
    return values;
  }

  private static double[] doubles(TensorProto tensor) {
    double[] values = new double[size(tensor)];
    if (tensor.hasRawData()) {
      raw(tensor).asDoubleBuffer().get(values);
    } else {
      for (int i = 0; i < values.length; i++) {
        values[i] = tensor.getDoubleData(i);
      }
    }
    return values;
  }

  private static short[] shorts(TensorProto tensor) {
    short[] values = new short[size(tensor)];
    if (tensor.hasRawData()) {
      raw(tensor).asShortBuffer().get(values);
    } else {
      for (int i = 0; i < values.length; i++) {
        values[i] = (short) tensor.getInt32Data(i);
      }
    }
    return values;
  }

  private static IllegalArgumentException notFloat(TensorProto tensor) {
    return new IllegalArgumentException(
        "tensor '" + tensor.getName() + "' of type " + typeName(tensor.getDataType()));
  }

  /**
   * The tensor with other elements; name, shape, type and kind of storage stay. A DOUBLE element
   * whose value as float is the given one stays as it is, so that reading and writing back does not
   * round it; but a zero is written as zero.
   *
   * @throws TacoException of kind NUMERICAL for a value that is not finite in the tensor's type
   */
  public static TensorProto withFloats(TensorProto tensor, float[] values) {
    if (values.length != size(tensor)) {
      throw new IllegalArgumentException(
          values.length + " values for " + tensor.getName() + tensor.getDimsList());
    }
    TensorProto.Builder builder = tensor.toBuilder();
    boolean raw = tensor.hasRawData();
    switch (tensor.getDataType()) {
      case DataType.FLOAT_VALUE -> {
        for (float value : values) {
          checkFinite(tensor, value, value);
        }
        if (raw) {
          ByteBuffer buffer = littleEndian(4L * values.length);
          buffer.asFloatBuffer().put(values);
          builder.setRawData(UnsafeByteOperations.unsafeWrap(buffer));
        } else {
          builder.clearFloatData();
          for (float value : values) {
            builder.addFloatData(value);
          }
        }
      }
      case DataType.DOUBLE_VALUE -> {
        double[] doubles = doubles(tensor);
        for (int i = 0; i < values.length; i++) {
          checkFinite(tensor, values[i], values[i]);
          if ((float) doubles[i] != values[i] || values[i] == 0) {
            doubles[i] = values[i];
          }
        }
        if (raw) {
          ByteBuffer buffer = littleEndian(8L * values.length);
          buffer.asDoubleBuffer().put(doubles);
          builder.setRawData(UnsafeByteOperations.unsafeWrap(buffer));
        } else {
          builder.clearDoubleData();
          for (double value : doubles) {
            builder.addDoubleData(value);
          }
        }
      }
      case DataType.FLOAT16_VALUE, DataType.BFLOAT16_VALUE -> {
        boolean half = tensor.getDataType() == FLOAT16;
        ByteBuffer buffer = littleEndian(2L * values.length);
        ShortBuffer shorts = buffer.asShortBuffer();
        for (int i = 0; i < values.length; i++) {
          short bits = half ? Float.floatToFloat16(values[i]) : toBfloat16(values[i]);
          checkFinite(
              tensor,
              values[i],
              half ? Float.float16ToFloat(bits) : Float.intBitsToFloat(bits << 16));
          shorts.put(i, bits);
        }
        if (raw) {
          builder.setRawData(UnsafeByteOperations.unsafeWrap(buffer));
        } else {
          builder.clearInt32Data();
          for (int i = 0; i < values.length; i++) {
            builder.addInt32Data(Short.toUnsignedInt(shorts.get(i)));
          }
        }
      }
      default -> throw notFloat(tensor);
    }
    return builder.build();
  }

  private static void checkFinite(TensorProto tensor, float value, float stored) {
    if (!Float.isFinite(stored)) {
      throw TacoException.numerical(
          "the value "
              + value
              + " for tensor '"
              + tensor.getName()
              + "' is not finite as "
              + typeName(tensor.getDataType()));
    }
  }

  private static ByteBuffer littleEndian(long bytes) {
    return ByteBuffer.allocate(Math.toIntExact(bytes)).order(ByteOrder.LITTLE_ENDIAN);
  }

  /** Rounds to the nearest bfloat16, ties to even. */
  private static short toBfloat16(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (Float.isNaN(value)) {
      return (short) (bits >>> 16 | 1);
    }
    return (short) ((bits + 0x7fff + (bits >>> 16 & 1)) >>> 16);
  }

  /** A new tensor of a float type, stored as {@code raw_data}. */
  public static TensorProto of(String name, int dataType, List<Long> dims, float[] values) {
    long bytes = count(dims) * bits(dataType) / 8;
    TensorProto empty =
        TensorProto.newBuilder()
            .setName(name)
            .setDataType(dataType)
            .addAllDims(dims)
            .setRawData(UnsafeByteOperations.unsafeWrap(new byte[Math.toIntExact(bytes)]))
            .build();
    return withFloats(empty, values);
  }

  /** A new 1-D INT64 tensor. */
  public static TensorProto ofLongs(String name, long... values) {
    TensorProto.Builder tensor =
        TensorProto.newBuilder()
            .setName(name)
            .setDataType(DataType.INT64_VALUE)
            .addDims(values.length);
    for (long value : values) {
      tensor.addInt64Data(value);
    }
    return tensor.build();
  }

  /** The elements of an INT64 or INT32 tensor. */
  public static long[] longs(TensorProto tensor) {
    long[] values = new long[size(tensor)];
    boolean wide = tensor.getDataType() == DataType.INT64_VALUE;
    if (!wide && tensor.getDataType() != DataType.INT32_VALUE) {
      throw new IllegalArgumentException(
          "tensor '" + tensor.getName() + "' of type " + typeName(tensor.getDataType()));
    }
    ByteBuffer raw = raw(tensor);
    for (int i = 0; i < values.length; i++) {
      if (tensor.hasRawData()) {
        values[i] = wide ? raw.getLong(8 * i) : raw.getInt(4 * i);
      } else {
        values[i] = wide ? tensor.getInt64Data(i) : tensor.getInt32Data(i);
      }
    }
    return values;
  }

  /** The INT64 tensor with one element replaced. */
  public static TensorProto withLong(TensorProto tensor, int index, long value) {
    if (!tensor.hasRawData()) {
      return tensor.toBuilder().setInt64Data(index, value).build();
    }
    ByteBuffer bytes =
        ByteBuffer.wrap(tensor.getRawData().toByteArray()).order(ByteOrder.LITTLE_ENDIAN);
    bytes.putLong(8 * index, value);
    return tensor.toBuilder().setRawData(UnsafeByteOperations.unsafeWrap(bytes)).build();
  }

  /** The slices {@code keep} of the tensor along one of its stored axes, in that order. */
  public static TensorProto take(TensorProto tensor, int axis, int[] keep) {
    List<Long> dims = tensor.getDimsList();
    int outer = Math.toIntExact(count(dims.subList(0, axis)));
    int size = Math.toIntExact(dims.get(axis));
    int inner = Math.toIntExact(count(dims.subList(axis + 1, dims.size())));
    int[] from = new int[outer * keep.length * inner];
    int to = 0;
    for (int o = 0; o < outer; o++) {
      for (int k : keep) {
        for (int i = 0; i < inner; i++) {
          from[to++] = (o * size + k) * inner + i;
        }
      }
    }
    List<Long> newDims = new ArrayList<>(dims);
    newDims.set(axis, (long) keep.length);
    return gather(tensor, newDims, from);
  }

  /** The tensor with its axes permuted as ONNX's Transpose does. */
  public static TensorProto transpose(TensorProto tensor, List<Integer> permutation) {
    if (isIdentity(permutation)) {
      return tensor;
    }
    List<Long> dims = tensor.getDimsList();
    List<Long> newDims = permutation.stream().map(dims::get).toList();
    return gather(tensor, newDims, permuted(dims, permutation));
  }

  static boolean isIdentity(List<Integer> permutation) {
    for (int i = 0; i < permutation.size(); i++) {
      if (permutation.get(i) != i) {
        return false;
      }
    }
    return true;
  }

  /** For each element of the permuted tensor, in order: its index in the tensor as stored. */
  static int[] permuted(List<Long> dims, List<Integer> permutation) {
    int rank = dims.size();
    int[] stride = new int[rank];
    int total = 1;
    for (int axis = rank - 1; axis >= 0; axis--) {
      stride[axis] = total;
      total *= Math.toIntExact(dims.get(axis));
    }
    int[] from = new int[total];
    int[] position = new int[rank];
    int source = 0;
    for (int i = 0; i < total; i++) {
      from[i] = source;
      for (int axis = rank - 1; axis >= 0; axis--) {
        int stored = permutation.get(axis);
        source += stride[stored];
        if (++position[axis] < dims.get(stored)) {
          break;
        }
        source -= position[axis] * stride[stored];
        position[axis] = 0;
      }
    }
    return from;
  }

  /** A tensor of the elements {@code from}, in whatever type and storage. */
  private static TensorProto gather(TensorProto tensor, List<Long> dims, int[] from) {
    TensorProto.Builder builder = tensor.toBuilder().clearDims().addAllDims(dims);
    if (tensor.hasRawData()) {
      int bytes = bits(tensor.getDataType()) / 8;
      if (bytes == 0) {
        throw notFloat(tensor);
      }
      ByteBuffer raw = raw(tensor);
      byte[] result = new byte[Math.multiplyExact(bytes, from.length)];
      for (int i = 0; i < from.length; i++) {
        raw.get(from[i] * bytes, result, i * bytes, bytes);
      }
      return builder.setRawData(UnsafeByteOperations.unsafeWrap(result)).build();
    }
    builder.clearFloatData().clearDoubleData().clearInt32Data().clearInt64Data();
    builder.clearUint64Data().clearStringData();
    for (int index : from) {
      if (tensor.getFloatDataCount() > 0) {
        builder.addFloatData(tensor.getFloatData(index));
      } else if (tensor.getDoubleDataCount() > 0) {
        builder.addDoubleData(tensor.getDoubleData(index));
      } else if (tensor.getInt32DataCount() > 0) {
        builder.addInt32Data(tensor.getInt32Data(index));
      } else if (tensor.getInt64DataCount() > 0) {
        builder.addInt64Data(tensor.getInt64Data(index));
      } else if (tensor.getUint64DataCount() > 0) {
        builder.addUint64Data(tensor.getUint64Data(index));
      } else {
        builder.addStringData(tensor.getStringData(index));
      }
    }
    return builder.build();
  }

  /** What {@link #firstNotFinite} found. */
  record NotFinite(long index, boolean nan) {}

  /**
   * The first NaN of a tensor of a float type, or else its first infinity; null where all is
   * finite.
   */
  static @Nullable NotFinite firstNotFinite(TensorProto tensor) {
    if (!isFloat(tensor.getDataType())) {
      return null;
    }
    NotFinite infinite = null;
    // In chunks: a copy of a whole embedding or head would be hundreds of megabytes.
    if (tensor.getDataType() == FLOAT && tensor.hasRawData()) {
      FloatBuffer buffer = raw(tensor).asFloatBuffer();
      float[] chunk = new float[Math.min(buffer.remaining(), 1 << 14)];
      for (long start = 0; buffer.hasRemaining(); ) {
        int n = Math.min(chunk.length, buffer.remaining());
        buffer.get(chunk, 0, n);
        // 0 x is 0 for finite x and NaN for others: one branch for a chunk.
        float sum = 0;
        for (int i = 0; i < n; i++) {
          sum += 0 * chunk[i];
        }
        if (sum != 0) {
          NotFinite found = firstNotFinite(chunk, n, start);
          if (found != null && found.nan) {
            return found;
          }
          infinite = infinite == null ? found : infinite;
        }
        start += n;
      }
      return infinite;
    }
    float[] values = floats(tensor);
    if (tensor.getDataType() == DOUBLE) {
      // A large double is infinite as float; only the double itself counts here.
      double[] doubles = doubles(tensor);
      for (int i = 0; i < values.length; i++) {
        values[i] = Double.isFinite(doubles[i]) ? 0 : values[i];
      }
    }
    return firstNotFinite(values, values.length, 0);
  }

  private static @Nullable NotFinite firstNotFinite(float[] values, int n, long start) {
    NotFinite infinite = null;
    for (int i = 0; i < n; i++) {
      if (Float.isNaN(values[i])) {
        return new NotFinite(start + i, true);
      }
      if (infinite == null && Float.isInfinite(values[i])) {
        infinite = new NotFinite(start + i, false);
      }
    }
    return infinite;
  }
}
