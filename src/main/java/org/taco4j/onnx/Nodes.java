package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** Attributes, inputs and names of nodes. */
public final class Nodes {
  private Nodes() {}

  /** An attribute; null where the node does not have it. */
  public static @Nullable AttributeProto attribute(NodeProto node, String name) {
    for (AttributeProto attribute : node.getAttributeList()) {
      if (attribute.getName().equals(name)) {
        return attribute;
      }
    }
    return null;
  }

  /** The integer of an attribute. */
  public static long integer(NodeProto node, String name, long otherwise) {
    AttributeProto attribute = attribute(node, name);
    return attribute == null ? otherwise : attribute.getI();
  }

  /** The float of an attribute. */
  public static float real(NodeProto node, String name, float otherwise) {
    AttributeProto attribute = attribute(node, name);
    return attribute == null ? otherwise : attribute.getF();
  }

  /** The text of an attribute. */
  public static String text(NodeProto node, String name, String otherwise) {
    AttributeProto attribute = attribute(node, name);
    return attribute == null ? otherwise : attribute.getS().toString(StandardCharsets.UTF_8);
  }

  /** The integers of an attribute; null where the node does not have it. */
  public static @Nullable List<Long> integers(NodeProto node, String name) {
    AttributeProto attribute = attribute(node, name);
    return attribute == null ? null : attribute.getIntsList();
  }

  /** Whether the node is that operator of the default domain. */
  public static boolean is(NodeProto node, String opType) {
    return node.getOpType().equals(opType) && isDefaultDomain(node.getDomain());
  }

  /** Whether this is the domain of the ONNX standard, under either of its names. */
  public static boolean isDefaultDomain(String domain) {
    return domain.isEmpty() || domain.equals("ai.onnx");
  }

  /** The operator, with its domain where that is not the default one. */
  public static String operator(NodeProto node) {
    return isDefaultDomain(node.getDomain())
        ? node.getOpType()
        : node.getDomain() + "." + node.getOpType();
  }

  /** Name of the i-th input; empty where the node does not have it. */
  public static String input(NodeProto node, int i) {
    return i < node.getInputCount() ? node.getInput(i) : "";
  }

  /** The node's name, or its first output's where it has none. */
  public static String name(NodeProto node) {
    if (!node.getName().isEmpty()) {
      return node.getName();
    }
    for (String output : node.getOutputList()) {
      if (!output.isEmpty()) {
        return output;
      }
    }
    return "(unnamed)";
  }

  /** How messages call the node. */
  public static String label(NodeProto node) {
    return operator(node) + " node '" + name(node) + "'";
  }

  /** The node with its i-th input replaced, or added behind empty ones. */
  public static NodeProto withInput(NodeProto node, int i, String tensor) {
    NodeProto.Builder builder = node.toBuilder();
    while (builder.getInputCount() <= i) {
      builder.addInput("");
    }
    return builder.setInput(i, tensor).build();
  }

  /** The node without that attribute. */
  static NodeProto withoutAttribute(NodeProto node, String name) {
    NodeProto.Builder builder = node.toBuilder();
    for (int i = builder.getAttributeCount() - 1; i >= 0; i--) {
      if (builder.getAttribute(i).getName().equals(name)) {
        builder.removeAttribute(i);
      }
    }
    return builder.build();
  }

  /** An unnamed node of the default domain. */
  public static NodeProto.Builder of(String operator, String output, String... inputs) {
    return NodeProto.newBuilder()
        .setOpType(operator)
        .addAllInput(List.of(inputs))
        .addOutput(output);
  }
}
