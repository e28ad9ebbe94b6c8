package org.taco4j.execute;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.taco4j.onnx.Nodes;

/**
 * A node as the maker of its kernel sees it. It notes which attributes are asked for: one that
 * nobody asked for would be ignored, so the node is refused.
 */
final class NodeSpec {
  /** The node, or the tensor, cannot be computed exactly; the message says what about it. */
  static final class Unsupported extends RuntimeException {
    private static final long serialVersionUID = 1L;

    Unsupported(String message) {
      super(message);
    }
  }

  private final NodeProto node;
  private final int opset;
  private final Set<String> asked = new HashSet<>();

  NodeSpec(NodeProto node, int opset) {
    this.node = node;
    this.opset = opset;
  }

  /** Version of the default operator set. */
  int opset() {
    return opset;
  }

  int outputs() {
    return node.getOutputCount();
  }

  boolean hasInput(int i) {
    return !Nodes.input(node, i).isEmpty();
  }

  boolean hasOutput(int i) {
    return i < node.getOutputCount() && !node.getOutput(i).isEmpty();
  }

  boolean has(String attribute) {
    return attribute(attribute) != null;
  }

  private @Nullable AttributeProto attribute(String name) {
    asked.add(name);
    AttributeProto attribute = Nodes.attribute(node, name);
    if (attribute != null && !attribute.getRefAttrName().isEmpty()) {
      throw new Unsupported("attribute " + name + " refers to one of a function");
    }
    return attribute;
  }

  long integer(String name, long otherwise) {
    AttributeProto attribute = attribute(name);
    return attribute == null ? otherwise : attribute.getI();
  }

  boolean flag(String name, boolean otherwise) {
    return integer(name, otherwise ? 1 : 0) != 0;
  }

  /** The value of a float attribute, which is what its 32 bits say. */
  double real(String name, double otherwise) {
    AttributeProto attribute = attribute(name);
    return attribute == null ? otherwise : attribute.getF();
  }

  String text(String name, String otherwise) {
    AttributeProto attribute = attribute(name);
    return attribute == null ? otherwise : attribute.getS().toString(StandardCharsets.UTF_8);
  }

  long @Nullable [] integers(String name) {
    AttributeProto attribute = attribute(name);
    return attribute == null
        ? null
        : attribute.getIntsList().stream().mapToLong(Long::longValue).toArray();
  }

  double @Nullable [] reals(String name) {
    AttributeProto attribute = attribute(name);
    return attribute == null
        ? null
        : attribute.getFloatsList().stream().mapToDouble(Float::doubleValue).toArray();
  }

  @Nullable AttributeProto tensor(String name) {
    return attribute(name);
  }

  /** Refuses the node unless the condition holds. */
  void require(boolean condition, String otherwise) {
    if (!condition) {
      throw new Unsupported(otherwise);
    }
  }

  /** The value, one of those that are implemented. */
  String oneOf(String name, String otherwise, String... implemented) {
    String value = text(name, otherwise);
    require(List.of(implemented).contains(value), name + " = " + value);
    return value;
  }

  /** Refuses more outputs than the first. */
  void onlyFirstOutput() {
    for (int i = 1; i < node.getOutputCount(); i++) {
      require(node.getOutput(i).isEmpty(), "output " + i + " '" + node.getOutput(i) + "'");
    }
  }

  /** Refuses the attributes that nobody asked for. */
  void noOtherAttributes() {
    List<String> unknown = new ArrayList<>();
    for (AttributeProto attribute : node.getAttributeList()) {
      if (!asked.contains(attribute.getName())) {
        unknown.add(attribute.getName());
      }
    }
    require(unknown.isEmpty(), "attribute " + String.join(", ", unknown) + " in opset " + opset);
  }
}
