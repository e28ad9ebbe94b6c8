package org.taco4j.tune;

import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;

/**
 * Which constants of a model are parameters, and which are arithmetic. ONNX does not say, so this
 * rule does. A float32 initializer or Constant is trained when each node that reads it, straight or
 * through nodes that only move values (Identity, Transpose, Reshape, Squeeze, Unsqueeze, Flatten,
 * Expand, Tile, Slice, Split, Gather), reads it as
 *
 * <ul>
 *   <li>weights or bias of Conv, ConvTranspose, Gemm, MatMul or Einsum,
 *   <li>scale or shift of BatchNormalization, LayerNormalization, InstanceNormalization,
 *       GroupNormalization or RMSNormalization, or slope of PRelu,
 *   <li>an operand of Add, Sub, Mul, Div or Concat (a bias of MatMul, layer scale, class tokens,
 *       positions), when the other operand depends on a layer's output, and when it
 *       <ul>
 *         <li>has more than one value: a scalar is √d, ½, ε or the like; but the bias of a layer
 *             may have one,
 *         <li>has no value of -100 or below: such constants mask attention.
 *       </ul>
 * </ul>
 *
 * <p>Not trained, then: means and variances of BatchNormalization, shapes, limits and exponents,
 * the mean and std of a preprocessing inside the model (they meet the image before any layer), and
 * what several kinds of nodes read.
 */
final class TrainableConstants {
  private static final Set<String> PRODUCTS =
      Set.of("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum");
  private static final Set<String> NORMS =
      Set.of(
          "BatchNormalization",
          "LayerNormalization",
          "InstanceNormalization",
          "GroupNormalization",
          "RMSNormalization",
          "PRelu");
  private static final Set<String> OPERANDS = Set.of("Add", "Sub", "Mul", "Div", "Concat");
  private static final Set<String> MOVES =
      Set.of(
          "Identity",
          "Transpose",
          "Reshape",
          "Squeeze",
          "Unsqueeze",
          "Flatten",
          "Expand",
          "Tile",
          "Slice",
          "Split",
          "Gather");
  private static final float ATTENTION_MASK = -100;

  private final GraphIndex index;
  private final Set<String> biases = new HashSet<>();
  private final Set<String> behindLayers;

  private TrainableConstants(OnnxModel model) {
    index = model.index();
    behindLayers = new HashSet<>();
    List<Layer> layers = LayerDiscovery.discover(model);
    for (Layer layer : layers) {
      layer.bias().ifPresent(bias -> biases.add(bias.constant()));
      behindLayers.add(layer.output());
    }
    for (NodeProto node : index.graph().getNodeList()) {
      if (node.getInputList().stream().anyMatch(behindLayers::contains)) {
        behindLayers.addAll(node.getOutputList());
      }
    }
  }

  /** The trained constants by name, in the order of the graph's nodes that read them. */
  static Map<String, TensorProto> find(OnnxModel model) {
    TrainableConstants rule = new TrainableConstants(model);
    Map<String, TensorProto> found = new LinkedHashMap<>();
    for (String name : rule.stored()) {
      TensorProto tensor = rule.index.stored(name);
      if (tensor != null
          && tensor.getDataType() == TensorProto.DataType.FLOAT_VALUE
          && TensorData.count(tensor.getDimsList()) > 0
          && !rule.index.isOutput(name)
          && rule.isParameter(name, tensor)) {
        found.put(name, tensor);
      }
    }
    return found;
  }

  /** The names of initializers and Constants, first read first. */
  private Set<String> stored() {
    Set<String> names = new LinkedHashSet<>();
    for (NodeProto node : index.graph().getNodeList()) {
      for (String input : node.getInputList()) {
        if (index.stored(input) != null) {
          names.add(input);
        }
      }
    }
    return names;
  }

  private boolean isParameter(String name, TensorProto tensor) {
    List<String> open = new ArrayList<>(List.of(name));
    Set<String> seen = new HashSet<>(open);
    boolean read = false;
    while (!open.isEmpty()) {
      String tensorName = open.removeLast();
      if (index.isOutput(tensorName)) {
        return false;
      }
      for (GraphIndex.Use use : index.uses(tensorName)) {
        if (use.input() < 0) {
          return false;
        }
        NodeProto node = index.node(use.node());
        if (!Nodes.operator(node).equals(node.getOpType())) {
          return false;
        }
        if (MOVES.contains(node.getOpType()) && use.input() == 0) {
          for (String output : node.getOutputList()) {
            if (seen.add(output)) {
              open.add(output);
            }
          }
        } else if (isParameterOf(node, use.input(), name, tensor)) {
          read = true;
        } else {
          return false;
        }
      }
    }
    return read;
  }

  private boolean isParameterOf(NodeProto node, int input, String name, TensorProto tensor) {
    String operator = node.getOpType();
    if (PRODUCTS.contains(operator)) {
      return true;
    }
    if (NORMS.contains(operator)) {
      return input == 1 || (input == 2 && !operator.equals("PRelu"));
    }
    if (!OPERANDS.contains(operator)) {
      return false;
    }
    if (biases.contains(name)) {
      return true;
    }
    boolean computed = node.getInputList().stream().anyMatch(behindLayers::contains);
    return computed && TensorData.count(tensor.getDimsList()) > 1 && !masksAttention(tensor);
  }

  private static boolean masksAttention(TensorProto tensor) {
    for (float value : TensorData.floats(tensor)) {
      if (value <= ATTENTION_MASK) {
        return true;
      }
    }
    return false;
  }
}
