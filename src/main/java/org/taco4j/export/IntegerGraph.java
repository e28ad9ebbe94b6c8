package org.taco4j.export;

import ai.onnx.proto.OnnxMl.FunctionProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import com.google.protobuf.ByteString;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import org.taco4j.calibrate.ActivationRange;
import org.taco4j.onnx.Attributes;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;
import org.taco4j.onnx.Unfold;

/**
 * Writes the graph that {@link IntegerOperators} has planned, node by node in graph order. A tensor
 * is there as floats, as 8 bits, or both; the form that is missing is made where it is first read.
 */
final class IntegerGraph {
  private final OnnxModel model;
  private final GraphIndex index;
  private final IntegerOperators plan;
  private final Map<String, ActivationRange> ranges;
  private final List<NodeProto> nodes = new ArrayList<>();
  private final Map<String, TensorProto> constants = new LinkedHashMap<>();
  private final Map<String, FunctionProto> functions = new LinkedHashMap<>();
  private final Map<String, String> operators = new HashMap<>();
  private final Set<String> newNames = new HashSet<>();

  /** Names of tensors of 8 bits, by that of the tensor of floats that they stand for. */
  private final Map<String, String> bytes = new HashMap<>();

  /** Dynamic tensors that are there as floats. */
  private final Set<String> floats = new HashSet<>();

  /** Names of the scale and zero point of a grid. */
  private record Grid(String scale, String zeroPoint) {}

  private final Map<String, Grid> grids = new HashMap<>();

  IntegerGraph(OnnxModel model, IntegerOperators plan, Map<String, ActivationRange> ranges) {
    this.model = model;
    this.index = model.index();
    this.plan = plan;
    this.ranges = ranges;
  }

  /**
   * Writes into a copy of the model.
   *
   * @return the operator that each rewritten layer has become, by name
   */
  Map<String, String> write(OnnxModel work) {
    Set<String> written = new HashSet<>();
    Set<String> read = new HashSet<>();
    Set<Integer> weightNodes = new HashSet<>();
    for (int i = 0; i < index.graph().getNodeCount(); i++) {
      NodeProto node = index.node(i);
      IntegerOperators.Step step = plan.stepAt(i);
      if (plan.isPartOfStep(i)) {
        written.addAll(node.getOutputList());
        read.addAll(node.getInputList());
      }
      if (step != null) {
        Layer layer = step.layer();
        if (layer == null) {
          arithmetic(step);
        } else {
          weightNodes.addAll(IntegerWeights.nodes(model, layer));
          layer(step, layer);
        }
      } else if (plan.movesBytes(node)) {
        written.addAll(node.getOutputList());
        move(node);
      } else if (!plan.isPartOfStep(i)) {
        for (String input : node.getInputList()) {
          requireFloats(input);
        }
        nodes.add(node);
        floats.addAll(node.getOutputList());
      }
    }
    weightNodes.forEach(i -> read.addAll(index.node(i).getInputList()));
    removeUnread(weightNodes);
    nodes.forEach(node -> written.removeAll(node.getOutputList()));
    work.edit(
        graph -> {
          graph.clearNode().addAllNode(nodes);
          constants.forEach(
              (name, tensor) -> graph.addInitializer(tensor.toBuilder().setName(name)));
        });
    work.forgetShapes(written);
    read.removeIf(index::isDynamic);
    work.dropUnused(read);
    if (!functions.isEmpty()) {
      work.addFunctions(SparseFunctions.DOMAIN, SparseFunctions.VERSION, functions.values());
    }
    work.check();
    return operators;
  }

  /** Takes out nodes that dequantised weights that nobody reads any more. */
  private void removeUnread(Set<Integer> weightNodes) {
    Set<NodeProto> candidates = new HashSet<>();
    weightNodes.forEach(i -> candidates.add(index.node(i)));
    Set<String> read = new HashSet<>();
    for (int i = nodes.size() - 1; i >= 0; i--) {
      NodeProto node = nodes.get(i);
      boolean unread =
          node.getOutputList().stream().noneMatch(name -> read.contains(name) || isKept(name));
      if (unread && candidates.contains(node)) {
        nodes.remove(i);
      } else {
        read.addAll(node.getInputList());
      }
    }
  }

  /** Whether a tensor is read by more than the nodes of the main graph. */
  private boolean isKept(String tensor) {
    return index.isOutput(tensor) || index.uses(tensor).stream().anyMatch(use -> use.input() < 0);
  }

  private void layer(IntegerOperators.Step step, Layer layer) {
    IntegerOperators.Form form = Objects.requireNonNull(step.form());
    String input = requireBytes(layer.input());
    Grid x = grid(layer.input());
    float inputScale = range(layer.input()).scale();
    float[] bias = LayerWeights.bias(model, layer);
    IntegerWeights weights = IntegerWeights.of(model, layer);
    if (form == IntegerOperators.Form.MATRIX) {
      matrix(step, layer, weights);
      return;
    }
    boolean toFloat = form == IntegerOperators.Form.SPARSE_MATRIX_TO_FLOAT;
    if (!toFloat) {
      weights = weights.withRoomFor(bias, inputScale);
    }
    NodeProto.Builder node =
        NodeProto.newBuilder()
            .setName(layer.name())
            .addInput(input)
            .addInput(x.scale())
            .addInput(x.zeroPoint())
            .addInput(constant(layer.name() + ".weight_codes", weights.tensor()))
            .addInput(constant(layer.name() + ".weight_scale", weights.scaleTensor()))
            .addInput(constant(layer.name() + ".weight_zero_point", weights.zeroPoints()));
    int opset = model.opset();
    if (toFloat) {
      node.addInput(
          constant(
              layer.name() + ".bias",
              TensorData.of(
                  "", TensorProto.DataType.FLOAT_VALUE, List.of((long) bias.length), bias)));
      if (step.residual() != null) {
        requireFloats(step.residual());
        node.addInput(step.residual());
      }
      if (step.activation().kind() == FusedActivation.Kind.CLIP) {
        node.addAttribute(Attributes.real("minimum", step.activation().minimum()))
            .addAttribute(Attributes.real("maximum", step.activation().maximum()));
      }
      node.addOutput(step.output());
      sparse(
          node,
          SparseFunctions.integerMatrix(step.residual() != null, step.activation().kind(), opset));
      emit(layer, node);
      floats.add(step.output());
      return;
    }
    boolean adds = step.residual() != null;
    Grid product = grid(adds ? step.sum() : step.output());
    node.addInput(product.scale())
        .addInput(product.zeroPoint())
        .addInput(constant(layer.name() + ".bias_codes", integers(weights.bias(bias, inputScale))));
    if (adds) {
      String residual = Objects.requireNonNull(step.residual());
      Grid z = grid(residual);
      Grid y = grid(step.output());
      node.addInput(requireBytes(residual))
          .addInput(z.scale())
          .addInput(z.zeroPoint())
          .addInput(y.scale())
          .addInput(y.zeroPoint());
    }
    switch (form) {
      case SPARSE_CONVOLUTION -> {
        SparseOperators.addAttributes(node, (Unfold.Convolution) layer.unfold());
        sparse(node, SparseFunctions.quantizedConvolution(adds, opset));
      }
      case CONVOLUTION -> {
        SparseOperators.addAttributes(node, (Unfold.Convolution) layer.unfold());
        node.setOpType("QLinearConv");
      }
      default -> sparse(node, SparseFunctions.quantizedMatrix(opset));
    }
    node.addOutput(newBytes(step.output()));
    emit(layer, node);
    requireFloatsOutside(step.output());
  }

  private void sparse(NodeProto.Builder node, FunctionProto function) {
    functions.put(function.getName(), function);
    node.setDomain(SparseFunctions.DOMAIN).setOpType(function.getName());
  }

  private void emit(Layer layer, NodeProto.Builder node) {
    NodeProto built = node.build();
    nodes.add(built);
    operators.put(layer.name(), Nodes.operator(built));
  }

  /** DequantizeLinear, MatMul, Add: runtimes put one operator in their place. */
  private void matrix(IntegerOperators.Step step, Layer layer, IntegerWeights weights) {
    String name = layer.name();
    String weight = newName(name + ".weight_dequantized");
    nodes.add(
        NodeProto.newBuilder()
            .setOpType("DequantizeLinear")
            .setName(name + ".dequantize")
            .addInput(constant(name + ".weight_codes", weights.tensor()))
            .addInput(constant(name + ".weight_scale", weights.scaleTensor()))
            .addInput(constant(name + ".weight_zero_point", weights.zeroPoints()))
            .addOutput(weight)
            .addAttribute(Attributes.integer("axis", 1))
            .build());
    String input = newName(layer.input() + "_dequantized");
    nodes.add(dequantize(layer.input(), input));
    boolean ownBias = layer.bias().map(bias -> bias.node().equals(layer.output())).orElse(false);
    String product = ownBias ? newName(step.output() + "_product") : step.output();
    nodes.add(
        NodeProto.newBuilder()
            .setOpType("MatMul")
            .setName(name)
            .addInput(input)
            .addInput(weight)
            .addOutput(product)
            .build());
    if (ownBias) {
      float[] bias = LayerWeights.bias(model, layer);
      TensorProto values =
          TensorData.of("", TensorProto.DataType.FLOAT_VALUE, List.of((long) bias.length), bias);
      nodes.add(
          NodeProto.newBuilder()
              .setOpType("Add")
              .setName(name + ".add_bias")
              .addInput(product)
              .addInput(constant(name + ".bias", values))
              .addOutput(step.output())
              .build());
    }
    operators.put(name, "MatMul between 8 bits");
    floats.add(step.output());
  }

  /** The operator between DequantizeLinear and QuantizeLinear. */
  private void arithmetic(IntegerOperators.Step step) {
    NodeProto node = index.node(step.nodes().iterator().next());
    for (int i : step.nodes()) {
      node = index.node(i).getOutput(0).equals(step.sum()) ? index.node(i) : node;
    }
    for (String input : step.inputs()) {
      requireFloats(input);
    }
    String result = newName(step.output() + "_unquantized");
    nodes.add(node.toBuilder().setOutput(0, result).build());
    Grid y = grid(step.output());
    nodes.add(
        NodeProto.newBuilder()
            .setOpType("QuantizeLinear")
            .setName(newName(Nodes.name(node) + ".quantize"))
            .addInput(result)
            .addInput(y.scale())
            .addInput(y.zeroPoint())
            .addOutput(newBytes(step.output()))
            .build());
    requireFloatsOutside(step.output());
  }

  /** An operator that does to 8 bits what it does to floats. */
  private void move(NodeProto node) {
    String from = node.getInput(0);
    NodeProto.Builder moved = node.toBuilder().setInput(0, requireBytes(from));
    if (Nodes.is(node, "Pad")) {
      // Zeros are the code of 0.
      moved = Nodes.withInput(moved.build(), 2, grid(from).zeroPoint()).toBuilder();
    }
    String to = node.getOutput(0);
    if (Nodes.is(node, "MaxPool") && !plan.isOfPlainConvolutions(from)) {
      pool(moved.build(), to);
    } else {
      nodes.add(moved.setOutput(0, newBytes(to)).build());
    }
    requireFloatsOutside(to);
  }

  /**
   * MaxPool on the codes as floats, which changes none of them. ONNX Runtime 1.29 takes four times
   * as long for it on bytes (400 for 100 µs on 128 channels of 56 pixels), but between its own
   * convolutions of bytes, whose layout has a fast one.
   */
  private void pool(NodeProto pool, String to) {
    String codes = newName(to + "_codes");
    String pooled = newName(to + "_pooled_codes");
    nodes.add(
        NodeProto.newBuilder()
            .setOpType("Cast")
            .setName(newName(codes + ".cast"))
            .addInput(pool.getInput(0))
            .addOutput(codes)
            .addAttribute(Attributes.integer("to", TensorProto.DataType.FLOAT_VALUE))
            .build());
    nodes.add(pool.toBuilder().setInput(0, codes).setOutput(0, pooled).build());
    nodes.add(
        NodeProto.newBuilder()
            .setOpType("Cast")
            .setName(newName(pooled + ".cast"))
            .addInput(pooled)
            .addOutput(newBytes(to))
            .addAttribute(Attributes.integer("to", TensorProto.DataType.UINT8_VALUE))
            .build());
  }

  private String newBytes(String tensor) {
    String name = newName(tensor + "_quantized");
    bytes.put(tensor, name);
    return name;
  }

  /** Floats where not only nodes of the main graph read a tensor. */
  private void requireFloatsOutside(String tensor) {
    if (isKept(tensor)) {
      requireFloats(tensor);
    }
  }

  /** The tensor as 8 bits. */
  private String requireBytes(String tensor) {
    String known = bytes.get(tensor);
    if (known != null) {
      return known;
    }
    Grid grid = grid(tensor);
    String name = newBytes(tensor);
    nodes.add(
        NodeProto.newBuilder()
            .setOpType("QuantizeLinear")
            .setName(newName(tensor + ".quantize"))
            .addInput(tensor)
            .addInput(grid.scale())
            .addInput(grid.zeroPoint())
            .addOutput(name)
            .build());
    return name;
  }

  /** The tensor as floats, under its own name. */
  private void requireFloats(String tensor) {
    if (plan.isBytes(tensor) && floats.add(tensor)) {
      nodes.add(dequantize(tensor, tensor));
    }
  }

  private NodeProto dequantize(String tensor, String output) {
    Grid grid = grid(tensor);
    return NodeProto.newBuilder()
        .setOpType("DequantizeLinear")
        .setName(newName(output + ".dequantize"))
        .addInput(Objects.requireNonNull(bytes.get(tensor), tensor))
        .addInput(grid.scale())
        .addInput(grid.zeroPoint())
        .addOutput(output)
        .build();
  }

  private ActivationRange range(String tensor) {
    return Objects.requireNonNull(ranges.get(plan.gridOf(tensor)), tensor);
  }

  private Grid grid(String tensor) {
    ActivationRange range = range(tensor);
    return grids.computeIfAbsent(
        plan.gridOf(tensor),
        root ->
            new Grid(
                constant(
                    root + "_scale",
                    TensorData.of(
                        "",
                        TensorProto.DataType.FLOAT_VALUE,
                        List.of(),
                        new float[] {range.scale()})),
                constant(
                    root + "_zero_point",
                    TensorProto.newBuilder()
                        .setDataType(TensorProto.DataType.UINT8_VALUE)
                        .setRawData(ByteString.copyFrom(new byte[] {(byte) range.zeroPoint()}))
                        .build())));
  }

  private static TensorProto integers(int[] values) {
    ByteBuffer buffer =
        ByteBuffer.allocate(Integer.BYTES * values.length).order(ByteOrder.LITTLE_ENDIAN);
    Arrays.stream(values).forEach(buffer::putInt);
    return TensorProto.newBuilder()
        .setDataType(TensorProto.DataType.INT32_VALUE)
        .addDims(values.length)
        .setRawData(ByteString.copyFrom(buffer.flip()))
        .build();
  }

  private String constant(String wished, TensorProto tensor) {
    String name = newName(wished);
    constants.put(name, tensor);
    return name;
  }

  /** A name that neither the model has nor what is added to it. */
  private String newName(String wished) {
    String base = model.uniqueName(wished);
    String name = base;
    for (int i = 2; !newNames.add(name); i++) {
      name = model.uniqueName(base + "_" + i);
    }
    return name;
  }
}
