package org.taco4j.export;

import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.TensorData;

/**
 * An activation that a sparse operator applies before it stores, as it stands in a graph: one node,
 * or the few nodes that exporters write for it.
 *
 * @param kind which one
 * @param minimum of a {@link Kind#CLIP}
 * @param maximum of a {@link Kind#CLIP}
 * @param nodes indices of the nodes that compute it
 * @param output the tensor that they end in
 */
record FusedActivation(Kind kind, float minimum, float maximum, Set<Integer> nodes, String output) {
  /** The activations that the operators know, with what their names end in. */
  enum Kind {
    NONE(""),
    RELU("Relu"),
    CLIP("Clip"),
    HARD_SWISH("HardSwish"),
    SILU("Silu"),
    GELU("Gelu");

    final String suffix;

    Kind(String suffix) {
      this.suffix = suffix;
    }
  }

  private static final float SQRT2 = (float) Math.sqrt(2);

  /** What is done with a tensor, where nothing else reads it; NONE, without nodes, if unknown. */
  static FusedActivation after(GraphIndex index, String tensor) {
    if (index.isOutput(tensor)) {
      return none(tensor);
    }
    FusedActivation found =
        switch (index.uses(tensor).size()) {
          case 1 -> single(index, tensor);
          case 2 -> gated(index, tensor);
          default -> null;
        };
    return found == null ? none(tensor) : found;
  }

  /** Nothing is done with the tensor before it is stored. */
  static FusedActivation none(String tensor) {
    return of(Kind.NONE, Set.of(), tensor);
  }

  private static FusedActivation of(Kind kind, Set<Integer> nodes, String output) {
    return new FusedActivation(kind, 0, 0, nodes, output);
  }

  private static @Nullable FusedActivation single(GraphIndex index, String tensor) {
    int reader = index.uses(tensor).getFirst().node();
    NodeProto node = index.node(reader);
    if (!Nodes.input(node, 0).equals(tensor)) {
      return null;
    }
    Set<Integer> nodes = Set.of(reader);
    String output = node.getOutputCount() == 0 ? "" : node.getOutput(0);
    return switch (Nodes.operator(node)) {
      case "Relu" -> of(Kind.RELU, nodes, output);
      case "HardSwish" -> of(Kind.HARD_SWISH, nodes, output);
      case "Gelu" ->
          Nodes.text(node, "approximate", "none").equals("none")
              ? of(Kind.GELU, nodes, output)
              : null;
      case "Clip" -> clip(index, node, nodes);
      default -> null;
    };
  }

  private static @Nullable FusedActivation clip(
      GraphIndex index, NodeProto node, Set<Integer> nodes) {
    Float minimum = bound(index, node, 1, "min", Float.NEGATIVE_INFINITY);
    Float maximum = bound(index, node, 2, "max", Float.POSITIVE_INFINITY);
    return minimum == null || maximum == null
        ? null
        : new FusedActivation(Kind.CLIP, minimum, maximum, nodes, node.getOutput(0));
  }

  /** A bound of a Clip: an attribute before opset 11, an input since. */
  private static @Nullable Float bound(
      GraphIndex index, NodeProto node, int input, String attribute, float otherwise) {
    String name = Nodes.input(node, input);
    return name.isEmpty()
        ? Float.valueOf(Nodes.real(node, attribute, otherwise))
        : scalar(index, name);
  }

  /** The tensor goes to a gate and to the product with it, or along the branches of a GELU. */
  private static @Nullable FusedActivation gated(GraphIndex index, String tensor) {
    List<Integer> readers = index.uses(tensor).stream().map(GraphIndex.Use::node).toList();
    for (int i = 0; i < 2; i++) {
      int gate = readers.get(i);
      int product = readers.get(1 - i);
      if (gate == product || !Nodes.is(index.node(product), "Mul")) {
        continue;
      }
      NodeProto node = index.node(gate);
      FusedActivation found =
          switch (Nodes.operator(node)) {
            case "Sigmoid" -> product(index, Kind.SILU, tensor, gate, product);
            case "HardSigmoid" ->
                isNear(Nodes.real(node, "alpha", 0.2f), 1f / 6)
                        && isNear(Nodes.real(node, "beta", 0.5f), 0.5f)
                    ? product(index, Kind.HARD_SWISH, tensor, gate, product)
                    : null;
            case "Div", "Mul" -> gelu(index, tensor, gate, product);
            default -> null;
          };
      found = found == null ? hardSwish(index, tensor, gate, product) : found;
      if (found != null) {
        return found;
      }
    }
    return null;
  }

  /**
   * HardSwish written out: x · (x / 6 + 1/2 cut to [0, 1]), or x · (x + 3 cut to [0, 6]) with the
   * division by 6 before or after the product.
   */
  private static @Nullable FusedActivation hardSwish(
      GraphIndex index, String tensor, int first, int product) {
    Set<Integer> nodes = new HashSet<>(Set.of(first, product));
    boolean sixth = dividesBySix(index, first, tensor);
    int add = sixth ? onlyReader(index, index.node(first).getOutput(0), "Add") : first;
    if (add < 0 || !Nodes.is(index.node(add), "Add")) {
      return null;
    }
    nodes.add(add);
    String read = sixth ? index.node(first).getOutput(0) : tensor;
    if (!isScalar(index, add, read, sixth ? 0.5f : 3)) {
      return null;
    }
    String cut = cutAtZeroAnd(index, index.node(add).getOutput(0), sixth ? 1 : 6, nodes);
    if (cut.isEmpty() || !index.readOnce(cut)) {
      return null;
    }
    int next = index.uses(cut).getFirst().node();
    boolean before = !sixth && dividesBySix(index, next, cut);
    if (before) {
      nodes.add(next);
      cut = index.node(next).getOutput(0);
    }
    if (!index.readOnce(cut) || !otherOperand(index.node(product), tensor).equals(cut)) {
      return null;
    }
    String output = index.node(product).getOutput(0);
    if (sixth || before) {
      return of(Kind.HARD_SWISH, nodes, output);
    }
    int last = index.readOnce(output) ? index.uses(output).getFirst().node() : -1;
    if (last < 0 || !dividesBySix(index, last, output)) {
      return null;
    }
    nodes.add(last);
    return of(Kind.HARD_SWISH, nodes, index.node(last).getOutput(0));
  }

  private static boolean dividesBySix(GraphIndex index, int reader, String tensor) {
    NodeProto node = index.node(reader);
    return Nodes.is(node, "Mul")
        ? isScalar(index, reader, tensor, 1f / 6)
        : Nodes.is(node, "Div")
            && node.getInput(0).equals(tensor)
            && isScalar(index, reader, tensor, 6);
  }

  /**
   * Cutting to [0, most], as a Clip or as Min and Relu in either order: the tensor that comes out,
   * and its nodes in {@code nodes}; empty for anything else.
   */
  private static String cutAtZeroAnd(
      GraphIndex index, String tensor, float most, Set<Integer> nodes) {
    int clip = onlyReader(index, tensor, "Clip");
    if (clip >= 0) {
      NodeProto node = index.node(clip);
      Float minimum = bound(index, node, 1, "min", Float.NEGATIVE_INFINITY);
      Float maximum = bound(index, node, 2, "max", Float.POSITIVE_INFINITY);
      nodes.add(clip);
      boolean fits = minimum != null && minimum == 0 && maximum != null && maximum == most;
      return fits ? node.getOutput(0) : "";
    }
    String now = tensor;
    for (String operator :
        onlyReader(index, tensor, "Relu") >= 0 ? List.of("Relu", "Min") : List.of("Min", "Relu")) {
      int node = onlyReader(index, now, operator);
      boolean fits =
          node >= 0
              && (operator.equals("Relu")
                  || (index.node(node).getInputCount() == 2 && isScalar(index, node, now, most)));
      if (!fits) {
        return "";
      }
      nodes.add(node);
      now = index.node(node).getOutput(0);
    }
    return now;
  }

  private static @Nullable FusedActivation product(
      GraphIndex index, Kind kind, String tensor, int gate, int product) {
    String gated = index.node(gate).getOutput(0);
    return index.readOnce(gated) && otherOperand(index.node(product), tensor).equals(gated)
        ? of(kind, Set.of(gate, product), index.node(product).getOutput(0))
        : null;
  }

  /** x / √2, Erf, + 1, times x, times 1/2; the last two in either order. */
  private static @Nullable FusedActivation gelu(
      GraphIndex index, String tensor, int scale, int product) {
    NodeProto scaled = index.node(scale);
    Float factor = scalar(index, otherOperand(scaled, tensor));
    boolean divided = Nodes.is(scaled, "Div") && scaled.getInput(0).equals(tensor);
    boolean scales =
        factor != null
            && (divided
                ? isNear(factor, SQRT2)
                : Nodes.is(scaled, "Mul") && isNear(factor, 1 / SQRT2));
    int erf = scales ? onlyReader(index, scaled.getOutput(0), "Erf") : -1;
    int add = erf < 0 ? -1 : onlyReader(index, index.node(erf).getOutput(0), "Add");
    if (add < 0 || !isScalar(index, add, index.node(erf).getOutput(0), 1)) {
      return null;
    }
    String sum = index.node(add).getOutput(0);
    if (onlyReader(index, sum, "Mul") == product
        && otherOperand(index.node(product), tensor).equals(sum)) {
      // (x · (1 + erf)) · 1/2
      String whole = index.node(product).getOutput(0);
      int half = onlyReader(index, whole, "Mul");
      return half >= 0 && isScalar(index, half, whole, 0.5f)
          ? of(Kind.GELU, Set.of(scale, erf, add, product, half), index.node(half).getOutput(0))
          : null;
    }
    // (x · 1/2) · (1 + erf)
    String half = index.node(product).getOutput(0);
    int last = onlyReader(index, half, "Mul");
    return isScalar(index, product, tensor, 0.5f)
            && last >= 0
            && otherOperand(index.node(last), half).equals(sum)
            && index.readOnce(sum)
        ? of(Kind.GELU, Set.of(scale, erf, add, product, last), index.node(last).getOutput(0))
        : null;
  }

  private static int onlyReader(GraphIndex index, String tensor, String operator) {
    if (!index.readOnce(tensor)) {
      return -1;
    }
    int reader = index.uses(tensor).getFirst().node();
    return Nodes.is(index.node(reader), operator) ? reader : -1;
  }

  private static boolean isScalar(GraphIndex index, int node, String tensor, float expected) {
    Float value = scalar(index, otherOperand(index.node(node), tensor));
    return value != null && isNear(value, expected);
  }

  /** Of a node with two inputs, the one that is not the tensor; empty where both are. */
  private static String otherOperand(NodeProto node, String tensor) {
    return node.getInputList().stream()
        .filter(name -> !name.equals(tensor))
        .collect(Collectors.joining());
  }

  /** The one value of a float constant; null for others. */
  private static @Nullable Float scalar(GraphIndex index, String tensor) {
    GraphIndex.Constant constant = index.constant(tensor);
    if (constant == null || constant.alteredBy() != null) {
      return null;
    }
    boolean one =
        constant.tensor().getDataType() == TensorProto.DataType.FLOAT_VALUE
            && TensorData.count(constant.dims()) == 1;
    return one ? TensorData.floats(constant.tensor())[0] : null;
  }

  /** No more than rounding: another factor is another function. */
  private static boolean isNear(float value, float expected) {
    return Math.abs(value - expected) <= 2 * Math.ulp(expected);
  }
}
