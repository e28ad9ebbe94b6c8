package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import com.google.protobuf.ByteString;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/**
 * Reads and writes the weights of layers as matrices: unfolding and folding.
 *
 * <p>A layer is looked up by its name each time, so one that was found before the model was edited
 * may be given, too. Methods that write throw a {@link org.taco4j.common.TacoException} of kind
 * NUMERICAL for values that are not finite in the stored type.
 */
public final class LayerWeights {
  private LayerWeights() {}

  /**
   * The weights of one group of a layer.
   *
   * @return [rows, cols], row-major, columns in the order of the layer's {@link Unfold}. For a Gemm
   *     its factor alpha is not multiplied in
   * @throws IllegalArgumentException for a layer whose weights are no plain matrices: quantised, a
   *     3-D convolution, a stack of matrices
   */
  public static float[] unfold(OnnxModel model, Layer layer, int group) {
    return unfold(model, layer)[group];
  }

  /**
   * The weights of all groups of a layer.
   *
   * @return for each group [rows, cols] as {@link #unfold(OnnxModel, Layer, int)} gives them
   */
  public static float[][] unfold(OnnxModel model, Layer layer) {
    Layer now = LayerDiscovery.find(model, layer.name());
    TensorProto stored = stored(model, now);
    float[] values = TensorData.floats(stored);
    int[] from = order(now, stored);
    int size = now.rows() * now.cols();
    float[][] groups = new float[now.groups()][size];
    for (int g = 0; g < groups.length; g++) {
      for (int i = 0; i < size; i++) {
        int at = g * size + i;
        groups[g][i] = values[from == null ? at : from[at]];
      }
    }
    return groups;
  }

  /**
   * Writes the weights of one group back to where they came from, in the stored type and layout.
   *
   * @param weights [rows, cols], row-major
   * @throws IllegalArgumentException as {@link #unfold(OnnxModel, Layer, int)}, and where another
   *     node reads the same weights
   */
  public static void fold(OnnxModel model, Layer layer, int group, float[] weights) {
    float[][] groups = unfold(model, layer);
    groups[group] = weights;
    fold(model, layer, groups);
  }

  /**
   * Writes the weights of all groups back: one copy of the tensor, however many groups there are.
   *
   * @param weights for each group [rows, cols], row-major
   */
  public static void fold(OnnxModel model, Layer layer, float[][] weights) {
    Layer now = LayerDiscovery.find(model, layer.name());
    TensorProto stored = stored(model, now);
    int size = now.rows() * now.cols();
    if (weights.length != now.groups()
        || Arrays.stream(weights).anyMatch(group -> group.length != size)) {
      throw new IllegalArgumentException(
          "layer '%s' has %d groups of [%d, %d]"
              .formatted(now.name(), now.groups(), now.rows(), now.cols()));
    }
    String tied = tied(model, now);
    if (tied != null) {
      throw new IllegalArgumentException(
          "the weights '" + now.weight().constant() + "' are also read by " + tied);
    }
    int[] from = order(now, stored);
    float[] values = new float[now.groups() * size];
    for (int g = 0; g < weights.length; g++) {
      for (int i = 0; i < size; i++) {
        int at = g * size + i;
        values[from == null ? at : from[at]] = weights[g][i];
      }
    }
    model.setConstant(now.weight().constant(), TensorData.withFloats(stored, values));
  }

  /**
   * How many of a layer's weights, of all groups, are exactly zero.
   *
   * @throws IllegalArgumentException for a layer of which that is not known ({@link
   *     #hasKnownZeros})
   */
  public static long zeros(OnnxModel model, Layer layer) {
    Layer now = LayerDiscovery.find(model, layer.name());
    if (!isPlain(model, now) && (isDequantized(model, now) || isInteger(model, now))) {
      // Of 8-bit integers with the zero point 0, zeros are the zero bytes.
      return zeroBytes(weight(model, now).tensor().getRawData());
    }
    long zeros = 0;
    for (float value : TensorData.floats(stored(model, now))) {
      zeros += value == 0 ? 1 : 0;
    }
    return zeros;
  }

  /**
   * Whether {@link #zeros} can count: the weights are plain matrices, or 8-bit integers with the
   * zero point 0 that a DequantizeLinear or an operator for integers reads.
   */
  public static boolean hasKnownZeros(OnnxModel model, Layer layer) {
    Layer now = LayerDiscovery.find(model, layer.name());
    return isPlain(model, now) || isDequantized(model, now) || isInteger(model, now);
  }

  /** Whether the layer's operator multiplies 8-bit weights whose zero point is 0. */
  private static boolean isInteger(OnnxModel model, Layer layer) {
    WeightUse use = weightUse(model, layer);
    NodeProto node = model.index().node(use.node());
    TensorProto weights = weight(model, layer).tensor();
    TensorProto zeroPoint = model.index().stored(Nodes.input(node, Operators.INTEGER_WEIGHT + 2));
    return Operators.multipliesIntegers(node)
        && weights.getDataType() == TensorProto.DataType.INT8_VALUE
        && weights.hasRawData()
        && zeroPoint != null
        && zeroPoint.hasRawData()
        && zeroBytes(zeroPoint.getRawData()) == zeroPoint.getRawData().size();
  }

  private static boolean isDequantized(OnnxModel model, Layer layer) {
    GraphIndex.Constant constant = weight(model, layer);
    TensorProto tensor = constant.tensor();
    boolean bytes =
        tensor.hasRawData()
            && (tensor.getDataType() == TensorProto.DataType.INT8_VALUE
                || tensor.getDataType() == TensorProto.DataType.UINT8_VALUE);
    if (!bytes || constant.chain().size() < 2) {
      return false;
    }
    // The chain runs from the layer back to what is stored; Identity and Transpose change no value.
    List<NodeProto> altering =
        constant.chain().subList(0, constant.chain().size() - 1).stream()
            .map(tensorName -> model.index().node(model.index().producer(tensorName)))
            .filter(node -> !Nodes.is(node, "Identity") && !Nodes.is(node, "Transpose"))
            .toList();
    if (altering.size() != 1 || !Nodes.is(altering.getFirst(), "DequantizeLinear")) {
      return false;
    }
    String zeroPoint = Nodes.input(altering.getFirst(), 2);
    TensorProto points = model.index().stored(zeroPoint);
    return zeroPoint.isEmpty()
        || (points != null
            && points.hasRawData()
            && zeroBytes(points.getRawData()) == points.getRawData().size());
  }

  private static long zeroBytes(ByteString bytes) {
    long zeros = 0;
    for (int i = 0; i < bytes.size(); i++) {
      zeros += bytes.byteAt(i) == 0 ? 1 : 0;
    }
    return zeros;
  }

  /** Whether the layer's weights are plain matrices, which {@link #unfold} can read. */
  public static boolean isReadable(OnnxModel model, Layer layer) {
    return isPlain(model, LayerDiscovery.find(model, layer.name()));
  }

  /** Whether the layer's weights can be read and, as no other node reads them, written. */
  public static boolean canFold(OnnxModel model, Layer layer) {
    Layer now = LayerDiscovery.find(model, layer.name());
    return isPlain(model, now) && tied(model, now) == null;
  }

  /**
   * Whether the layer adds something that {@link #bias} cannot read: the third input of a Conv or
   * Gemm that is computed, quantised or of a shape other than one value for each row or for all.
   */
  public static boolean hasUnknownBias(OnnxModel model, Layer layer) {
    Layer now = LayerDiscovery.find(model, layer.name());
    boolean third =
        !now.opType().equals("MatMul")
            && !Nodes.input(model.index().node(model.found().node(now)), 2).isEmpty();
    return third && now.bias().map(source -> !source.node().equals(now.output())).orElse(true);
  }

  private static boolean isPlain(OnnxModel model, Layer layer) {
    GraphIndex.Constant constant = weight(model, layer);
    boolean convolution = layer.unfold() instanceof Unfold.Convolution;
    return constant.alteredBy() == null
        && TensorData.isFloat(constant.tensor().getDataType())
        && constant.permutation().size() <= (convolution ? 4 : 2);
  }

  private static TensorProto stored(OnnxModel model, Layer layer) {
    if (!isPlain(model, layer)) {
      throw new IllegalArgumentException(
          "the weights of layer '"
              + layer.name()
              + "' are no plain matrices: "
              + layer.whyNotPrunable().orElse(""));
    }
    return weight(model, layer).tensor();
  }

  private static GraphIndex.Constant weight(OnnxModel model, Layer layer) {
    GraphIndex.Constant constant = model.index().constant(weightUse(model, layer).tensor());
    if (constant == null) {
      throw new IllegalStateException("layer '" + layer.name() + "' has lost its weights");
    }
    return constant;
  }

  private record WeightUse(int node, int input, String tensor) {}

  private static WeightUse weightUse(OnnxModel model, Layer layer) {
    int node = model.found().node(layer);
    NodeProto proto = model.index().node(node);
    int input =
        Operators.multipliesIntegers(proto)
            ? Operators.INTEGER_WEIGHT
            : proto.getInput(0).equals(layer.input()) ? 1 : 0;
    return new WeightUse(node, input, proto.getInput(input));
  }

  private static @Nullable String tied(OnnxModel model, Layer layer) {
    WeightUse use = weightUse(model, layer);
    return model
        .index()
        .otherReader(weight(model, layer), new GraphIndex.Use(use.node(), use.input()));
  }

  /**
   * For each element of the groups' [rows, cols] matrices, one after another: its index in the
   * tensor as stored; null where the order is the same.
   */
  private static int @Nullable [] order(Layer layer, TensorProto stored) {
    List<Integer> permutation = layer.weight().permutation();
    if (layer.weight().rowsLast() && permutation.size() == 2) {
      permutation = permutation.reversed();
    }
    return TensorData.isIdentity(permutation)
        ? null
        : TensorData.permuted(stored.getDimsList(), permutation);
  }

  /**
   * The bias of a layer: what is added to its rows.
   *
   * @return [rows · groups]; zeros where the layer has none. For a Gemm its factor beta is
   *     multiplied in. Of a layer that {@link #hasUnknownBias} only what an Add behind it adds
   */
  public static float[] bias(OnnxModel model, Layer layer) {
    Layer now = LayerDiscovery.find(model, layer.name());
    float[] bias = new float[now.rows() * now.groups()];
    if (now.bias().isPresent()) {
      TensorProto stored = model.index().stored(now.bias().get().constant());
      if (stored == null) {
        throw new IllegalStateException("layer '" + now.name() + "' has lost its bias");
      }
      float[] values = TensorData.floats(stored);
      float beta = beta(model, now);
      for (int i = 0; i < bias.length; i++) {
        bias[i] = beta * values[values.length == 1 ? 0 : i];
      }
    }
    return bias;
  }

  /** What a layer multiplies the product with its weights with: alpha of a Gemm; 1 for others. */
  public static float factor(OnnxModel model, Layer layer) {
    Layer now = LayerDiscovery.find(model, layer.name());
    return now.opType().equals("Gemm")
        ? Nodes.real(model.index().node(model.found().node(now)), "alpha", 1)
        : 1;
  }

  /** The factor that a Gemm multiplies its own bias with; 1 for others. */
  private static float beta(OnnxModel model, Layer layer) {
    boolean own = layer.bias().isPresent() && layer.bias().get().node().equals(layer.output());
    return layer.opType().equals("Gemm") && own
        ? Nodes.real(model.index().node(model.found().node(layer)), "beta", 1)
        : 1;
  }

  /**
   * Sets the bias of a layer; where it has none, it gets one: Conv and Gemm a third input, MatMul
   * an Add node behind it (the tensor that other nodes read keeps its name). A bias that is shared
   * with another node, or one value for all rows, is replaced by a constant of the layer's own.
   *
   * @param bias [rows · groups]
   */
  public static void setBias(OnnxModel model, Layer layer, float[] bias) {
    Layer now = LayerDiscovery.find(model, layer.name());
    if (bias.length != now.rows() * now.groups()) {
      throw new IllegalArgumentException(
          "%d values for the bias of layer '%s', which has %d rows"
              .formatted(bias.length, now.name(), now.rows() * now.groups()));
    }
    if (now.bias().isPresent()) {
      replaceBias(model, now, now.bias().get(), bias);
    } else {
      int node = model.found().node(now);
      boolean third =
          !now.opType().equals("MatMul") && Nodes.input(model.index().node(node), 2).isEmpty();
      if (third) {
        boolean column = now.outputAxis() == -2;
        String name =
            model.addConstant(now.name() + ".bias", biasTensor(model, now, bias, column ? 1 : 0));
        model.edit(
            graph ->
                graph.setNode(
                    node,
                    Nodes.withoutAttribute(Nodes.withInput(graph.getNode(node), 2, name), "beta")));
      } else {
        addBias(model, now, bias);
      }
    }
  }

  private static void replaceBias(
      OnnxModel model, Layer layer, Layer.BiasSource source, float[] bias) {
    GraphIndex index = model.index();
    int node = index.producer(source.node());
    boolean own = source.node().equals(layer.output());
    int input = own ? 2 : index.node(node).getInput(0).equals(layer.output()) ? 1 : 0;
    GraphIndex.Constant constant = index.constant(index.node(node).getInput(input));
    if (constant == null) {
      throw new IllegalStateException("layer '" + layer.name() + "' has lost its bias");
    }
    float beta = beta(model, layer);
    float[] values = bias.clone();
    if (beta != 1 && beta != 0) {
      for (int i = 0; i < values.length; i++) {
        values[i] /= beta;
      }
    }
    boolean inPlace =
        TensorData.size(constant.tensor()) == bias.length
            && index.otherReader(constant, new GraphIndex.Use(node, input)) == null;
    if (inPlace) {
      model.setConstant(constant.name(), TensorData.withFloats(constant.tensor(), values));
    } else {
      String name =
          model.addConstant(
              layer.name() + ".bias", biasTensor(model, layer, values, after(model, layer, own)));
      model.edit(graph -> graph.setNode(node, Nodes.withInput(graph.getNode(node), input, name)));
      model.dropUnused(List.of(constant.name()));
    }
    if (beta == 0) {
      // The runtime did not look at this input so far.
      int gemm = model.found().node(LayerDiscovery.find(model, layer.name()));
      model.edit(graph -> graph.setNode(gemm, Nodes.withoutAttribute(graph.getNode(gemm), "beta")));
    }
  }

  /** How many axes of length 1 a bias needs behind its rows to be added where it stands. */
  private static int after(OnnxModel model, Layer layer, boolean ownInput) {
    if (layer.unfold() instanceof Unfold.Convolution) {
      return ownInput ? 0 : weight(model, layer).permutation().size() - 2;
    }
    return layer.outputAxis() == -2 ? 1 : 0;
  }

  private static TensorProto biasTensor(OnnxModel model, Layer layer, float[] bias, int after) {
    List<Long> dims =
        IntStream.rangeClosed(0, after).mapToObj(i -> i == 0 ? (long) bias.length : 1L).toList();
    TensorProto weight = weight(model, layer).tensor();
    int type = TensorData.isFloat(weight.getDataType()) ? weight.getDataType() : TensorData.FLOAT;
    return TensorData.of(layer.name() + ".bias", type, dims, bias);
  }

  /** Puts an Add behind the layer; it takes over the name of the layer's output. */
  private static void addBias(OnnxModel model, Layer layer, float[] bias) {
    TensorProto tensor = biasTensor(model, layer, bias, after(model, layer, false));
    String constant = model.addConstant(layer.name() + ".bias", tensor);
    int at = model.found().node(LayerDiscovery.find(model, layer.name()));
    String output = layer.output();
    String inner = model.uniqueName(output + ".without_bias");
    model.edit(
        graph -> {
          // An unnamed node is called by its output, which changes here: keep what it was called.
          NodeProto node =
              graph.getNode(at).toBuilder().setName(layer.name()).setOutput(0, inner).build();
          NodeProto add =
              NodeProto.newBuilder()
                  .setOpType("Add")
                  .setName(layer.name() + ".add_bias")
                  .addInput(inner)
                  .addInput(constant)
                  .addOutput(output)
                  .build();
          graph.setNode(at, node);
          graph.addNode(at + 1, add);
          copyShape(graph, output, inner);
        });
  }

  private static void copyShape(GraphProto.Builder graph, String from, String to) {
    for (int i = 0; i < graph.getValueInfoCount(); i++) {
      if (graph.getValueInfo(i).getName().equals(from)) {
        graph.addValueInfo(graph.getValueInfo(i).toBuilder().setName(to));
        return;
      }
    }
  }
}
