package org.taco4j.export;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.AttributeProto.AttributeType;
import ai.onnx.proto.OnnxMl.FunctionProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.OperatorSetIdProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.List;
import org.taco4j.onnx.Attributes;
import org.taco4j.onnx.Operators;
import org.taco4j.onnx.TensorData;

/**
 * The {@code taco4j} operators as model-local functions of ordinary operators: what a runtime runs
 * that does not know them.
 */
final class SparseFunctions {
  /** The domain of the operators. */
  static final String DOMAIN = Operators.SPARSE_DOMAIN;

  /** Version of the domain. */
  static final int VERSION = 1;

  /** The operator that normalizes over the last axis. */
  static final String LAYER_NORMALIZATION = "LayerNormalization";

  private SparseFunctions() {}

  /** What an operator multiplies; its name starts with that. */
  enum Product {
    /** Conv(X, W, B). */
    CONVOLUTION("SparseConv"),
    /** MatMul(X, W) + B. */
    MATRIX("SparseMatMul"),
    /** MatMul(W, X) + B. */
    MATRIX_ON_THE_LEFT("SparseMatMulLeft");

    private final String prefix;

    Product(String prefix) {
      this.prefix = prefix;
    }
  }

  /** Name of the operator for a product with what is fused into it. */
  static String name(Product product, boolean adds, FusedActivation.Kind activation) {
    return product.prefix + (adds ? "Add" : "") + activation.suffix;
  }

  /**
   * Whether the activation can be written as a function: the bounds of a Clip are inputs from opset
   * 11 on, and a Constant can take a float from an attribute only from opset 12 on.
   */
  static boolean canWrite(FusedActivation.Kind activation, int opset) {
    return activation != FusedActivation.Kind.CLIP || opset != 11;
  }

  /** Y = activation(product [+ Z]). */
  static FunctionProto function(
      Product product, boolean adds, FusedActivation.Kind activation, int opset) {
    List<String> inputs =
        product == Product.MATRIX_ON_THE_LEFT ? List.of("W", "X", "B") : List.of("X", "W", "B");
    FunctionProto.Builder function =
        FunctionProto.newBuilder()
            .setName(name(product, adds, activation))
            .setDomain(DOMAIN)
            .addAllInput(inputs)
            .addOutput("Y")
            .addOpsetImport(OperatorSetIdProto.newBuilder().setDomain("").setVersion(opset));
    boolean plain = activation == FusedActivation.Kind.NONE;
    String sum = plain && !adds ? "Y" : "sum";
    if (product == Product.CONVOLUTION) {
      function
          .addAllAttribute(List.of("strides", "pads", "dilations", "group"))
          .addNode(
              node("Conv", sum, "X", "W", "B")
                  .addAttribute(reference("strides", "strides", AttributeType.INTS))
                  .addAttribute(reference("pads", "pads", AttributeType.INTS))
                  .addAttribute(reference("dilations", "dilations", AttributeType.INTS))
                  .addAttribute(reference("group", "group", AttributeType.INT)));
    } else {
      function
          .addNode(node("MatMul", "product", inputs.get(0), inputs.get(1)))
          .addNode(node("Add", sum, "product", "B"));
    }
    String x = sum;
    if (adds) {
      function.addInput("Z");
      x = plain ? "Y" : "added";
      function.addNode(node("Add", x, sum, "Z"));
    }
    switch (activation) {
      case NONE -> {}
      case RELU -> function.addNode(node("Relu", "Y", x));
      case CLIP -> clip(function, x, opset);
      case HARD_SWISH ->
          // HardSwish itself came with opset 14.
          function
              .addNode(
                  node("HardSigmoid", "gate", x)
                      .addAttribute(Attributes.real("alpha", 1f / 6))
                      .addAttribute(Attributes.real("beta", 0.5f)))
              .addNode(node("Mul", "Y", x, "gate"));
      case SILU ->
          function.addNode(node("Sigmoid", "gate", x)).addNode(node("Mul", "Y", x, "gate"));
      case GELU ->
          // Gelu itself came with opset 20.
          function
              .addNode(constant("sqrt2", (float) Math.sqrt(2)))
              .addNode(constant("one", 1))
              .addNode(constant("half", 0.5f))
              .addNode(node("Div", "scaled", x, "sqrt2"))
              .addNode(node("Erf", "erf", "scaled"))
              .addNode(node("Add", "weight", "erf", "one"))
              .addNode(node("Mul", "twice", x, "weight"))
              .addNode(node("Mul", "Y", "twice", "half"));
    }
    return function.build();
  }

  /** Y = LayerNormalization(X, W, B) over the last axis; from opset 17 on. */
  static FunctionProto layerNormalization(int opset) {
    return FunctionProto.newBuilder()
        .setName(LAYER_NORMALIZATION)
        .setDomain(DOMAIN)
        .addAllInput(List.of("X", "W", "B"))
        .addOutput("Y")
        .addAttribute("epsilon")
        .addOpsetImport(OperatorSetIdProto.newBuilder().setDomain("").setVersion(opset))
        .addNode(
            node("LayerNormalization", "Y", "X", "W", "B")
                .addAttribute(Attributes.integer("axis", -1))
                .addAttribute(reference("epsilon", "epsilon", AttributeType.FLOAT)))
        .build();
  }

  private static void clip(FunctionProto.Builder function, String x, int opset) {
    function.addAttribute("minimum").addAttribute("maximum");
    if (opset < 11) {
      function.addNode(
          node("Clip", "Y", x)
              .addAttribute(reference("min", "minimum", AttributeType.FLOAT))
              .addAttribute(reference("max", "maximum", AttributeType.FLOAT)));
    } else {
      function
          .addNode(
              node("Constant", "least")
                  .addAttribute(reference("value_float", "minimum", AttributeType.FLOAT)))
          .addNode(
              node("Constant", "most")
                  .addAttribute(reference("value_float", "maximum", AttributeType.FLOAT)))
          .addNode(node("Clip", "Y", x, "least", "most"));
    }
  }

  private static NodeProto.Builder node(String operator, String output, String... inputs) {
    return NodeProto.newBuilder()
        .setOpType(operator)
        .addAllInput(List.of(inputs))
        .addOutput(output);
  }

  /** A scalar. */
  private static NodeProto.Builder constant(String output, float value) {
    return node("Constant", output)
        .addAttribute(
            AttributeProto.newBuilder()
                .setName("value")
                .setType(AttributeType.TENSOR)
                .setT(
                    TensorData.of(
                        "", TensorProto.DataType.FLOAT_VALUE, List.of(), new float[] {value})));
  }

  /** An attribute of a node inside that has the value of one of the function's. */
  private static AttributeProto reference(String name, String attribute, AttributeType type) {
    return AttributeProto.newBuilder()
        .setName(name)
        .setRefAttrName(attribute)
        .setType(type)
        .build();
  }
}
