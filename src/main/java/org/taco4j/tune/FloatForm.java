package org.taco4j.tune;

import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;

/**
 * A model whose quantised weights are floats again: each DequantizeLinear node of stored 8-bit
 * integers is a constant of the name and the values that the node gave. So layers can be looked at
 * and trained as others are, and what they become is put back as integers.
 *
 * @param model a copy
 * @param grids for each such constant, where its values may lie
 */
record FloatForm(OnnxModel model, Map<String, Grid> grids) {
  /**
   * The grid of a quantised tensor: value i is scale(i) · code, with a whole code from {@code
   * lowest} to {@code highest}; what is stored is code + zero point(i).
   *
   * @param stored name of the constant with the integers
   * @param scales one, or one for each slice along an axis
   * @param zeroPoints as many as scales
   * @param inner how many values behind one another have the same scale
   * @param lowest the fewest bits that hold all codes of the model decide the range: an n-bit grid
   *     stored in bytes stays one
   * @param highest as {@code lowest}
   */
  @SuppressWarnings("ArrayRecordComponent") // owned by this package
  record Grid(
      String stored, float[] scales, int[] zeroPoints, int inner, float lowest, float highest) {
    int channel(int i) {
      return scales.length == 1 ? 0 : i / inner % scales.length;
    }

    float scale(int i) {
      return scales[channel(i)];
    }

    /** The code nearest to a value, half to even. */
    float code(int i, float value) {
      float code = (float) Math.rint(value / scale(i));
      return Math.max(lowest, Math.min(highest, code)) + 0f;
    }

    /** Whether a value lies within the range, where rounding passes the gradient straight on. */
    boolean inRange(int i, float value) {
      float code = value / scale(i);
      return code >= lowest && code <= highest;
    }
  }

  /** The float form of a model; its own copy where nothing is quantised. */
  static FloatForm of(OnnxModel source) {
    OnnxModel model = source.copy();
    GraphIndex index = model.index();
    Map<String, Grid> grids = new LinkedHashMap<>();
    Map<Integer, TensorProto> floats = new LinkedHashMap<>();
    for (int i = 0; i < index.graph().getNodeCount(); i++) {
      NodeProto node = index.node(i);
      Grid grid = Nodes.is(node, "DequantizeLinear") ? grid(index, node) : null;
      TensorProto stored = grid == null ? null : index.stored(grid.stored());
      if (grid != null && stored != null) {
        int[] codes = bytes(stored);
        float[] values = new float[codes.length];
        for (int k = 0; k < values.length; k++) {
          values[k] = (codes[k] - grid.zeroPoints()[grid.channel(k)]) * grid.scale(k);
        }
        String name = node.getOutput(0);
        grids.put(name, grid);
        floats.put(i, TensorData.of(name, DataType.FLOAT_VALUE, stored.getDimsList(), values));
      }
    }
    if (!grids.isEmpty()) {
      model.edit(graph -> replace(graph, floats));
    }
    return new FloatForm(model, grids);
  }

  private static void replace(GraphProto.Builder graph, Map<Integer, TensorProto> floats) {
    floats.keySet().stream().sorted(Comparator.reverseOrder()).forEach(graph::removeNode);
    floats.values().forEach(graph::addInitializer);
  }

  /** The grid of a DequantizeLinear of stored bytes that nobody else reads; null for others. */
  private static @Nullable Grid grid(GraphIndex index, NodeProto node) {
    String name = node.getInput(0);
    TensorProto stored = index.stored(name);
    TensorProto scale = index.stored(Nodes.input(node, 1));
    String zeroName = Nodes.input(node, 2);
    TensorProto zero = zeroName.isEmpty() ? null : index.stored(zeroName);
    boolean known =
        stored != null
            && isBytes(stored)
            && scale != null
            && scale.getDataType() == DataType.FLOAT_VALUE
            && (zeroName.isEmpty() || (zero != null && isBytes(zero)))
            && index.uses(name).size() == 1
            && Nodes.integer(node, "block_size", 0) == 0;
    if (!known || stored == null || scale == null) {
      return null;
    }
    List<Long> dims = stored.getDimsList();
    float[] scales = TensorData.floats(scale);
    int[] zeros = zero == null ? new int[scales.length] : bytes(zero);
    int axis = (int) Nodes.integer(node, "axis", 1);
    axis = axis < 0 ? axis + dims.size() : axis;
    boolean fits =
        zeros.length == scales.length
            && (scales.length == 1
                || (axis >= 0 && axis < dims.size() && dims.get(axis) == scales.length));
    if (!fits) {
      return null;
    }
    int inner =
        scales.length == 1
            ? 1
            : Math.toIntExact(TensorData.count(dims.subList(axis + 1, dims.size())));
    Grid grid = new Grid(name, scales, zeros, inner, 0, 0);
    int[] codes = bytes(stored);
    int least = 0;
    int greatest = 0;
    for (int i = 0; i < codes.length; i++) {
      int code = codes[i] - zeros[grid.channel(i)];
      least = Math.min(least, code);
      greatest = Math.max(greatest, code);
    }
    boolean symmetric = true;
    int storedLeast = stored.getDataType() == DataType.INT8_VALUE ? Byte.MIN_VALUE : 0;
    int low = Integer.MIN_VALUE;
    int high = Integer.MAX_VALUE;
    for (int z : zeros) {
      symmetric &= z == storedLeast + 128;
      low = Math.max(low, storedLeast - z);
      high = Math.min(high, storedLeast + 255 - z);
    }
    if (symmetric) {
      int half = 1;
      while (least < -half || greatest > half - 1) {
        half *= 2;
      }
      low = -half;
      high = half - 1;
    }
    return new Grid(name, scales, zeros, inner, low, high);
  }

  private static boolean isBytes(TensorProto tensor) {
    return tensor.getDataType() == DataType.INT8_VALUE
        || tensor.getDataType() == DataType.UINT8_VALUE;
  }

  private static int[] bytes(TensorProto tensor) {
    boolean signed = tensor.getDataType() == DataType.INT8_VALUE;
    int[] values = new int[Math.toIntExact(TensorData.count(tensor.getDimsList()))];
    ByteString raw = tensor.getRawData();
    for (int i = 0; i < values.length; i++) {
      int value = tensor.hasRawData() ? raw.byteAt(i) : tensor.getInt32Data(i);
      values[i] = signed ? (byte) value : value & 0xff;
    }
    return values;
  }

  /** The integers of values that lie on the grid, to take the place of {@code old}. */
  static TensorProto integers(Grid grid, TensorProto old, float[] values) {
    byte[] bytes = new byte[values.length];
    for (int i = 0; i < bytes.length; i++) {
      bytes[i] = (byte) ((int) grid.code(i, values[i]) + grid.zeroPoints()[grid.channel(i)]);
    }
    return old.toBuilder()
        .clearInt32Data()
        .setRawData(UnsafeByteOperations.unsafeWrap(bytes))
        .build();
  }
}
