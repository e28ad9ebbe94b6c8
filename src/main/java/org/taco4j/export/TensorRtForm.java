package org.taco4j.export;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.SparseTensorProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Operators;
import org.taco4j.onnx.TensorData;

/**
 * Writes a model as TensorRT's ONNX parser takes it, or says what of it the parser refuses: sparse
 * initializers become dense, integer biases become floats; operators of the {@code taco4j} domain,
 * operators that multiply integers, and QuantizeLinear or DequantizeLinear with unsigned codes or
 * zero points other than 0 are refused. What the model computes does not change.
 *
 * <p>The rules are those of NVIDIA's documentation of TensorRT 10.
 */
public final class TensorRtForm {
  /** Of this many weights along the input channels, {@link #NON_ZEROS} at most are not zero. */
  private static final int GROUP = 4;

  private static final int NON_ZEROS = 2;

  /** Names in an error, at most. */
  private static final int MOST_NAMED = 3;

  /** Operators on integers that the parser does not have; it builds them from Q and DQ itself. */
  private static final Set<String> REFUSED =
      Set.of(
          "QLinearConv",
          "QLinearMatMul",
          "ConvInteger",
          "MatMulInteger",
          "DynamicQuantizeLinear",
          "com.microsoft.QLinearAdd",
          "com.microsoft.QLinearMul",
          "com.microsoft.QLinearConcat",
          "com.microsoft.QLinearSigmoid",
          "com.microsoft.QLinearLeakyRelu",
          "com.microsoft.QLinearAveragePool",
          "com.microsoft.QLinearGlobalAveragePool",
          "com.microsoft.QGemm");

  private TensorRtForm() {}

  /**
   * What a model in this form has.
   *
   * @param layers convolutions and products with constant weights
   * @param twoOfFour those of them, by name, whose weights have two zeros in every four
   *     neighbouring input channels: what sparse tensor cores skip, and nothing else
   * @param quantized how many multiply 8-bit integers
   * @param weightsOnly how many have weights in 8 bits and read floats: they multiply floats
   * @param densified sparse initializers that became dense
   * @param floatBiases integer biases that became floats
   */
  public record Outcome(
      int layers,
      List<String> twoOfFour,
      int quantized,
      int weightsOnly,
      int densified,
      int floatBiases) {}

  /**
   * Brings a model to this form.
   *
   * @param model changed; on failure unchanged
   * @throws TacoException of kind MODEL where it has what TensorRT refuses
   */
  public static Outcome apply(OnnxModel model) {
    OnnxModel work = model.copy();
    int densified = densify(work);
    int biases = foldBiases(work);
    refuse(work);
    work.check();
    model.adopt(work);
    List<Layer> layers = LayerDiscovery.discover(model);
    List<Layer> integers =
        layers.stream().filter(layer -> IntegerWeights.whyNot(model, layer).isEmpty()).toList();
    long quantized = integers.stream().filter(layer -> readsIntegers(model, layer)).count();
    return new Outcome(
        layers.size(),
        layers.stream().filter(layer -> isTwoOfFour(model, layer)).map(Layer::name).toList(),
        Math.toIntExact(quantized),
        Math.toIntExact(integers.size() - quantized),
        densified,
        biases);
  }

  /** Whether the activations that a layer reads come through DequantizeLinear. */
  private static boolean readsIntegers(OnnxModel model, Layer layer) {
    int producer = model.index().producer(layer.input());
    return producer >= 0 && Nodes.is(model.index().node(producer), "DequantizeLinear");
  }

  /**
   * Whether of every four neighbouring input channels, at one place of the kernel, two weights of a
   * layer are zero.
   */
  static boolean isTwoOfFour(OnnxModel model, Layer layer) {
    if (layer.groupingExtent() % GROUP != 0) {
      return false;
    }
    int cols = layer.cols();
    if (IntegerWeights.whyNot(model, layer).isEmpty()) {
      byte[] codes = IntegerWeights.of(model, layer).codes();
      int rows = layer.rows() * layer.groups();
      // A convolution's codes are [rows, cols], a matrix' [cols, rows].
      return layer.opType().equals("Conv")
          ? isTwoOfFour(layer, rows, (row, col) -> codes[row * cols + col] == 0)
          : isTwoOfFour(layer, rows, (row, col) -> codes[col * rows + row] == 0);
    }
    if (!LayerWeights.isReadable(model, layer)) {
      return false;
    }
    for (float[] group : LayerWeights.unfold(model, layer)) {
      if (!isTwoOfFour(layer, layer.rows(), (row, col) -> group[row * cols + col] == 0)) {
        return false;
      }
    }
    return true;
  }

  /** Whether a weight is zero. */
  @FunctionalInterface
  private interface Zeros {
    boolean at(int row, int col);
  }

  private static boolean isTwoOfFour(Layer layer, int rows, Zeros zeros) {
    int[] order = layer.groupingOrder();
    for (int row = 0; row < rows; row++) {
      int nonZeros = 0;
      for (int i = 0; i < order.length; i++) {
        nonZeros = (i % GROUP == 0 ? 0 : nonZeros) + (zeros.at(row, order[i]) ? 0 : 1);
        if (nonZeros > NON_ZEROS) {
          return false;
        }
      }
    }
    return true;
  }

  /** Stores sparse initializers densely; gives how many there were. */
  private static int densify(OnnxModel model) {
    GraphProto graph = model.index().graph();
    int count = graph.getSparseInitializerCount();
    List<TensorProto> dense = new ArrayList<>();
    for (SparseTensorProto sparse : graph.getSparseInitializerList()) {
      dense.add(dense(model, sparse.getValues().getName(), sparse));
    }
    List<NodeProto> nodes = new ArrayList<>();
    for (NodeProto node : graph.getNodeList()) {
      AttributeProto attribute =
          Nodes.is(node, "Constant") ? Nodes.attribute(node, "sparse_value") : null;
      if (attribute == null) {
        nodes.add(node);
      } else {
        count++;
        dense.add(dense(model, node.getOutput(0), attribute.getSparseTensor()));
      }
    }
    if (count > 0) {
      model.edit(
          builder ->
              builder
                  .clearSparseInitializer()
                  .addAllInitializer(dense)
                  .clearNode()
                  .addAllNode(nodes));
    }
    return count;
  }

  private static TensorProto dense(OnnxModel model, String name, SparseTensorProto sparse) {
    List<Long> dims = sparse.getDimsList();
    long count = TensorData.count(dims);
    long[] indices = TensorData.longs(sparse.getIndices());
    float[] values = TensorData.floats(sparse.getValues());
    boolean flat = sparse.getIndices().getDimsCount() == 1;
    int width = flat ? 1 : dims.size();
    if (count < 0 || count > Integer.MAX_VALUE || indices.length != (long) values.length * width) {
      throw TacoException.model(
          "%s: sparse tensor '%s' of shape %s has %d values and %d indices"
              .formatted(model.source(), name, dims, values.length, indices.length));
    }
    float[] dense = new float[(int) count];
    for (int i = 0; i < values.length; i++) {
      long at = 0;
      for (int k = 0; k < width; k++) {
        at = flat ? indices[i] : at * dims.get(k) + indices[i * width + k];
      }
      if (at < 0 || at >= count) {
        throw TacoException.model(
            "%s: sparse tensor '%s' of shape %s has a value at %d"
                .formatted(model.source(), name, dims, at));
      }
      dense[(int) at] = values[i];
    }
    return TensorData.of(name, sparse.getValues().getDataType(), dims, dense);
  }

  /**
   * Multiplies integers of 32 bits that a DequantizeLinear reads, as quantised biases are stored,
   * with their scales: TensorRT adds float biases. Gives how many there were.
   */
  private static int foldBiases(OnnxModel model) {
    GraphIndex index = model.index();
    Set<Integer> folded = new HashSet<>();
    Set<String> unused = new LinkedHashSet<>();
    List<TensorProto> floats = new ArrayList<>();
    for (int i = 0; i < index.graph().getNodeCount(); i++) {
      NodeProto node = index.node(i);
      TensorProto codes =
          Nodes.is(node, "DequantizeLinear") ? index.stored(Nodes.input(node, 0)) : null;
      TensorProto scale = codes == null ? null : index.stored(Nodes.input(node, 1));
      if (codes == null
          || scale == null
          || codes.getDataType() != TensorProto.DataType.INT32_VALUE
          || codes.getDimsCount() > 1
          || scale.getDataType() != TensorProto.DataType.FLOAT_VALUE) {
        continue;
      }
      long[] steps = TensorData.longs(codes);
      float[] scales = TensorData.floats(scale);
      float[] values = new float[steps.length];
      for (int k = 0; k < values.length; k++) {
        // As DequantizeLinear does it; a zero point of such codes is 0 by the standard.
        values[k] = (float) steps[k] * scales[scales.length == 1 ? 0 : k];
      }
      floats.add(
          TensorData.of(
              node.getOutput(0), TensorProto.DataType.FLOAT_VALUE, codes.getDimsList(), values));
      folded.add(i);
      unused.addAll(node.getInputList());
    }
    if (!folded.isEmpty()) {
      model.edit(
          graph -> {
            List<NodeProto> nodes = new ArrayList<>();
            for (int i = 0; i < graph.getNodeCount(); i++) {
              if (!folded.contains(i)) {
                nodes.add(graph.getNode(i));
              }
            }
            graph.clearNode().addAllNode(nodes).addAllInitializer(floats);
          });
      model.dropUnused(unused);
    }
    return folded.size();
  }

  private static void refuse(OnnxModel model) {
    List<String> own = new ArrayList<>();
    List<String> integers = new ArrayList<>();
    List<String> grids = new ArrayList<>();
    GraphIndex index = model.index();
    for (NodeProto node : index.graph().getNodeList()) {
      if (node.getDomain().equals(Operators.SPARSE_DOMAIN)) {
        own.add(Nodes.label(node));
      } else if (REFUSED.contains(Nodes.operator(node))) {
        integers.add(Nodes.label(node));
      } else if ((Nodes.is(node, "QuantizeLinear") || Nodes.is(node, "DequantizeLinear"))
          && !isSymmetric(index, node)) {
        grids.add(Nodes.label(node));
      }
    }
    refuse(
        model,
        own,
        "are operators of this project's library, which TensorRT does not have; give the model that"
            + " it was made from, or specialize with --runtime tensorrt");
    refuse(
        model,
        integers,
        "multiply integers in a form that TensorRT does not read: it wants QuantizeLinear and"
            + " DequantizeLinear around ordinary operators; specialize with --bits 8"
            + " --activation-bits 8 --runtime tensorrt writes them");
    refuse(
        model,
        grids,
        "have unsigned codes or a zero point that is not a stored 0, and TensorRT takes signed 8-bit"
            + " codes around 0 only; quantise symmetrically, as specialize with --bits 8"
            + " --activation-bits 8 --runtime tensorrt does");
  }

  private static void refuse(OnnxModel model, List<String> nodes, String what) {
    if (!nodes.isEmpty()) {
      throw TacoException.model(
          "%s: %s%s %s"
              .formatted(
                  model.source(),
                  String.join(", ", nodes.subList(0, Math.min(MOST_NAMED, nodes.size()))),
                  nodes.size() > MOST_NAMED
                      ? " and %d more".formatted(nodes.size() - MOST_NAMED)
                      : "",
                  what));
    }
  }

  /** Whether codes are signed bytes and stand for their distance from 0. */
  private static boolean isSymmetric(GraphIndex index, NodeProto node) {
    String zeroPoint = Nodes.input(node, 2);
    if (zeroPoint.isEmpty()) {
      // Without one QuantizeLinear gives unsigned codes, and DequantizeLinear has those of its
      // input.
      TensorProto codes = index.stored(Nodes.input(node, 0));
      return Nodes.is(node, "DequantizeLinear")
          && codes != null
          && codes.getDataType() == TensorProto.DataType.INT8_VALUE;
    }
    TensorProto stored = index.stored(zeroPoint);
    if (stored == null || stored.getDataType() != TensorProto.DataType.INT8_VALUE) {
      return false;
    }
    boolean zero = stored.getInt32DataList().stream().allMatch(value -> value == 0);
    for (byte value : stored.getRawData().toByteArray()) {
      zero &= value == 0;
    }
    return zero;
  }
}
