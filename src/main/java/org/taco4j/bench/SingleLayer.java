package org.taco4j.bench;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorShapeProto;
import ai.onnx.proto.OnnxMl.TypeProto;
import ai.onnx.proto.OnnxMl.ValueInfoProto;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Collectors;
import org.taco4j.export.SparseOperators;
import org.taco4j.onnx.Attributes;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Operators;
import org.taco4j.onnx.TensorData;

/**
 * A layer with what is fused into it, cut out of its model as the one sparse operator that it can
 * be rewritten to. Without the library the same model runs the dense operators.
 *
 * @param layer its name
 * @param operator what it is rewritten to
 * @param shape what its time depends on beside its zeros: operator, attributes, and the sizes of
 *     weights and images
 * @param zeros how its zeros lie
 * @param sparsity fraction of its weights that is zero
 * @param sparse the model to run with the library
 * @param dense the model to run without it
 * @param inputs shapes of the inputs of both, the layer's own input first
 * @param output the tensor of the whole model that it ends in
 */
record SingleLayer(
    String layer,
    String operator,
    String shape,
    Zeros zeros,
    double sparsity,
    OnnxModel sparse,
    OnnxModel dense,
    Map<String, long[]> inputs,
    String output) {

  /** How zeros lie. */
  enum Zeros {
    /** Anywhere. */
    UNSTRUCTURED,
    /** In blocks of four neighbouring rows. */
    ROWS4
  }

  /** Of weights in blocks that are not all zero: so many may be, as the library has it. */
  private static final double ZEROS_IN_BLOCKS = 0.05;

  private static final int BLOCK_ROWS = 4;

  /** Channels in a block of ONNX Runtime's layout are as many, or fewer. */
  private static final int WIDEST_BLOCK = 16;

  /** In the names of nodes that are no part of the layer. */
  static final String BLOCKED = ".taco4j-blocked";

  /** Operator, attributes and sizes in one line, without what changes no time. */
  private static String describe(NodeProto node, List<Long> weights, Map<String, long[]> inputs) {
    String attributes =
        node.getAttributeList().stream()
            .filter(a -> a.getType() != AttributeProto.AttributeType.FLOAT)
            .sorted(Comparator.comparing(AttributeProto::getName))
            .map(a -> " " + a.getName() + " " + value(a))
            .collect(Collectors.joining());
    return node.getOpType()
        + " "
        + weights
        + attributes
        + " on "
        + Arrays.toString(inputs.values().iterator().next());
  }

  private static String value(AttributeProto attribute) {
    return switch (attribute.getType()) {
      case INT -> String.valueOf(attribute.getI());
      case INTS -> attribute.getIntsList().toString();
      case STRING -> attribute.getS().toStringUtf8();
      default -> attribute.getType().toString();
    };
  }

  /**
   * Cuts a layer out of its model.
   *
   * @param shapes of activations, the batch included
   * @param reasons gets the reason, by the layer's name, where there is no sparse operator for it
   * @return none or one
   */
  static List<SingleLayer> of(
      OnnxModel model, Layer layer, Map<String, long[]> shapes, Map<String, String> reasons) {
    OnnxModel rewritten = model.copy();
    SparseOperators.Outcome outcome =
        SparseOperators.rewrite(rewritten, other -> other.name().equals(layer.name()));
    reasons.putAll(outcome.dense());
    String operator = outcome.rewritten().get(layer.name());
    if (operator == null) {
      return List.of();
    }
    GraphIndex index = rewritten.index();
    NodeProto node =
        index.graph().getNodeList().stream()
            .filter(n -> n.getDomain().equals(Operators.SPARSE_DOMAIN))
            .filter(n -> n.getName().equals(layer.name()))
            .findFirst()
            .orElseThrow(() -> new IllegalStateException("no operator for " + layer.name()));
    Map<String, long[]> inputs = new LinkedHashMap<>();
    Map<String, Integer> given = new LinkedHashMap<>();
    for (String tensor : node.getInputList()) {
      if (index.isDynamic(tensor)) {
        long[] shape = shapes.get(tensor);
        if (shape == null) {
          reasons.put(layer.name(), "the shape of its input '" + tensor + "' is not known");
          return List.of();
        }
        inputs.put(tensor, shape);
        given.put(tensor, TensorProto.DataType.FLOAT_VALUE);
      }
    }
    OnnxModel sparse = rewritten.subgraph(given, List.of(node.getOutput(0)));
    List<ValueInfoProto> declared = new ArrayList<>();
    inputs.forEach((name, shape) -> declared.add(declare(name, shape)));
    sparse.edit(
        graph -> {
          graph.clearInput().addAllInput(declared).clearValueInfo();
          // The runtime finds the type and shape of the output.
          graph.setOutput(0, ValueInfoProto.newBuilder().setName(node.getOutput(0)));
        });
    OnnxModel dense = sparse.copy();
    if (layer.opType().equals("Conv")) {
      dense.edit(graph -> blockResiduals(graph, inputs));
    }
    long parameters = layer.parameters();
    List<Long> weights =
        node.getInputList().stream()
            .map(index::constant)
            .filter(Objects::nonNull)
            .map(GraphIndex.Constant::dims)
            .findFirst()
            .orElse(List.of());
    return List.of(
        new SingleLayer(
            layer.name(),
            operator,
            describe(node, weights, inputs),
            zeros(model, layer),
            LayerWeights.zeros(model, layer) / (double) parameters,
            sparse,
            dense,
            inputs,
            node.getOutput(0)));
  }

  /**
   * In a whole model the addition is part of a dense convolution, as its other operand comes from
   * one and is in the runtime's blocked layout, too. Here something else brings it there: a pool of
   * one pixel, or, where the channels are no multiple of the blocks, a 1x1 convolution.
   */
  private static void blockResiduals(GraphProto.Builder graph, Map<String, long[]> inputs) {
    NodeProto.Builder layer = graph.getNode(graph.getNodeCount() - 1).toBuilder();
    boolean isFirst = true;
    for (int i = 0; i < layer.getInputCount(); i++) {
      String tensor = layer.getInput(i);
      long[] shape = inputs.get(tensor);
      if (shape == null) {
        continue; // weights or bias
      }
      if (isFirst) {
        isFirst = false; // what is convolved
        continue;
      }
      String blocked = tensor + BLOCKED;
      NodeProto.Builder node =
          NodeProto.newBuilder().setName(blocked).addInput(tensor).addOutput(blocked);
      int channels = Math.toIntExact(shape[1]);
      if (channels % WIDEST_BLOCK == 0) {
        node.setOpType("MaxPool").addAttribute(Attributes.integers("kernel_shape", 1, 1));
      } else {
        String weights = blocked + ".weight";
        graph.addInitializer(
            TensorData.of(
                weights,
                TensorProto.DataType.FLOAT_VALUE,
                List.of((long) channels, (long) channels, 1L, 1L),
                new float[channels * channels]));
        node.setOpType("Conv").addInput(weights);
      }
      graph.addNode(0, node);
      layer.setInput(i, blocked);
    }
    graph.setNode(graph.getNodeCount() - 1, layer);
  }

  static ValueInfoProto declare(String name, long[] dims) {
    TensorShapeProto.Builder shape = TensorShapeProto.newBuilder();
    for (long dim : dims) {
      shape.addDim(TensorShapeProto.Dimension.newBuilder().setDimValue(dim));
    }
    return ValueInfoProto.newBuilder()
        .setName(name)
        .setType(
            TypeProto.newBuilder()
                .setTensorType(
                    TypeProto.Tensor.newBuilder()
                        .setElemType(TensorProto.DataType.FLOAT_VALUE)
                        .setShape(shape)))
        .build();
  }

  /** Which kernel the library runs: blocks where hardly any weight in one is zero. */
  static Zeros zeros(OnnxModel model, Layer layer) {
    if (layer.rows() % BLOCK_ROWS != 0) {
      return Zeros.UNSTRUCTURED;
    }
    long kept = 0;
    long inBlocks = 0;
    int cols = layer.cols();
    for (float[] weights : LayerWeights.unfold(model, layer)) {
      for (int block = 0; block < weights.length; block += BLOCK_ROWS * cols) {
        for (int c = 0; c < cols; c++) {
          int inBlock = 0;
          for (int r = 0; r < BLOCK_ROWS; r++) {
            inBlock += weights[block + r * cols + c] == 0 ? 0 : 1;
          }
          kept += inBlock;
          inBlocks += inBlock > 0 ? BLOCK_ROWS : 0;
        }
      }
    }
    return kept > (1 - ZEROS_IN_BLOCKS) * inBlocks ? Zeros.ROWS4 : Zeros.UNSTRUCTURED;
  }
}
