package org.taco4j.export;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.AttributeProto.AttributeType;
import ai.onnx.proto.OnnxMl.FunctionProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.OperatorSetIdProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.List;
import org.taco4j.onnx.Attributes;
import org.taco4j.onnx.Nodes;
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

  /** Convolution of bytes; see {@link #quantizedConvolution}. */
  static final String QUANTIZED_CONVOLUTION = "SparseQLinearConv";

  /** The same with an operand added. */
  static final String QUANTIZED_CONVOLUTION_ADD = "SparseQLinearConvAdd";

  /** Product of bytes with a matrix; see {@link #quantizedMatrix}. */
  static final String QUANTIZED_MATRIX = "SparseQLinearMatMul";

  private static final String INTEGER_MATRIX = "SparseMatMulInteger";

  /** Inputs that all int8 operators begin with. */
  private static final List<String> QUANTIZED_OPERANDS =
      List.of("X", "x_scale", "x_zero_point", "W", "w_scale", "w_zero_point");

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
    FunctionProto.Builder function = start(name(product, adds, activation), inputs, opset);
    boolean plain = activation == FusedActivation.Kind.NONE;
    String sum = plain && !adds ? "Y" : "sum";
    if (product == Product.CONVOLUTION) {
      function
          .addAllAttribute(List.of("strides", "pads", "dilations", "group"))
          .addNode(
              Nodes.of("Conv", sum, "X", "W", "B")
                  .addAttribute(Attributes.reference("strides", "strides", AttributeType.INTS))
                  .addAttribute(Attributes.reference("pads", "pads", AttributeType.INTS))
                  .addAttribute(Attributes.reference("dilations", "dilations", AttributeType.INTS))
                  .addAttribute(Attributes.reference("group", "group", AttributeType.INT)));
    } else {
      function
          .addNode(Nodes.of("MatMul", "product", inputs.get(0), inputs.get(1)))
          .addNode(Nodes.of("Add", sum, "product", "B"));
    }
    addAndActivate(function, sum, adds, activation, opset);
    return function.build();
  }

  /**
   * Y = QLinearConv(X, W, B), bytes to bytes; with {@code adds} a second operand Z is added to
   * that, after it has been rounded to the grid of c_scale and c_zero_point, and the sum is rounded
   * to that of y_scale and y_zero_point: exactly what a model of QDQ form says.
   */
  static FunctionProto quantizedConvolution(boolean adds, int opset) {
    FunctionProto.Builder function =
        start(adds ? QUANTIZED_CONVOLUTION_ADD : QUANTIZED_CONVOLUTION, QUANTIZED_OPERANDS, opset)
            .addAllAttribute(List.of("strides", "pads", "dilations", "group"));
    String grid = adds ? "c" : "y";
    function.addAllInput(List.of(grid + "_scale", grid + "_zero_point", "B"));
    function.addNode(
        Nodes.of(
                "QLinearConv",
                adds ? "C" : "Y",
                "X",
                "x_scale",
                "x_zero_point",
                "W",
                "w_scale",
                "w_zero_point",
                grid + "_scale",
                grid + "_zero_point",
                "B")
            .addAttribute(Attributes.reference("strides", "strides", AttributeType.INTS))
            .addAttribute(Attributes.reference("pads", "pads", AttributeType.INTS))
            .addAttribute(Attributes.reference("dilations", "dilations", AttributeType.INTS))
            .addAttribute(Attributes.reference("group", "group", AttributeType.INT)));
    if (adds) {
      function
          .addAllInput(List.of("Z", "z_scale", "z_zero_point", "y_scale", "y_zero_point"))
          .addNode(Nodes.of("DequantizeLinear", "product", "C", "c_scale", "c_zero_point"))
          .addNode(Nodes.of("DequantizeLinear", "operand", "Z", "z_scale", "z_zero_point"))
          .addNode(Nodes.of("Add", "sum", "product", "operand"))
          .addNode(Nodes.of("QuantizeLinear", "Y", "sum", "y_scale", "y_zero_point"));
    }
    return function.build();
  }

  /**
   * Y = QLinearMatMul(X, W) with an integer bias: (MatMulInteger(X, W) + B) * (x_scale * w_scale /
   * y_scale), rounded to the nearest integer, halves to the even one, + y_zero_point, saturated.
   */
  static FunctionProto quantizedMatrix(int opset) {
    return start(QUANTIZED_MATRIX, QUANTIZED_OPERANDS, opset)
        .addAllInput(List.of("y_scale", "y_zero_point", "B"))
        .addNode(Nodes.of("MatMulInteger", "product", "X", "W", "x_zero_point", "w_zero_point"))
        .addNode(Nodes.of("Add", "sum", "product", "B"))
        .addNode(toFloat("real", "sum"))
        .addNode(Nodes.of("Mul", "step", "x_scale", "w_scale"))
        .addNode(Nodes.of("Div", "ratio", "step", "y_scale"))
        .addNode(Nodes.of("Mul", "scaled", "real", "ratio"))
        .addNode(constant("one", 1))
        .addNode(Nodes.of("QuantizeLinear", "Y", "scaled", "one", "y_zero_point"))
        .build();
  }

  /** Name of the operator that {@link #integerMatrix} describes. */
  static String integerMatrixName(boolean adds, FusedActivation.Kind activation) {
    return INTEGER_MATRIX + (adds ? "Add" : "") + activation.suffix;
  }

  /**
   * Y = activation(MatMulInteger(X, W) * (x_scale * w_scale) + B [+ Z]): bytes times bytes, with a
   * result of float32 as LayerNormalization or GELU want it.
   */
  static FunctionProto integerMatrix(boolean adds, FusedActivation.Kind activation, int opset) {
    boolean plain = activation == FusedActivation.Kind.NONE;
    String sum = plain && !adds ? "Y" : "sum";
    FunctionProto.Builder function =
        start(integerMatrixName(adds, activation), QUANTIZED_OPERANDS, opset)
            .addInput("B")
            .addNode(Nodes.of("MatMulInteger", "product", "X", "W", "x_zero_point", "w_zero_point"))
            .addNode(toFloat("real", "product"))
            .addNode(Nodes.of("Mul", "step", "x_scale", "w_scale"))
            .addNode(Nodes.of("Mul", "scaled_product", "real", "step"))
            .addNode(Nodes.of("Add", sum, "scaled_product", "B"));
    addAndActivate(function, sum, adds, activation, opset);
    return function.build();
  }

  private static FunctionProto.Builder start(String name, List<String> inputs, int opset) {
    return FunctionProto.newBuilder()
        .setName(name)
        .setDomain(DOMAIN)
        .addAllInput(inputs)
        .addOutput("Y")
        .addOpsetImport(OperatorSetIdProto.newBuilder().setDomain("").setVersion(opset));
  }

  /** Y = activation(sum [+ Z]); sum is Y already where there is nothing to do. */
  private static void addAndActivate(
      FunctionProto.Builder function,
      String sum,
      boolean adds,
      FusedActivation.Kind activation,
      int opset) {
    boolean plain = activation == FusedActivation.Kind.NONE;
    String x = sum;
    if (adds) {
      function.addInput("Z");
      x = plain ? "Y" : "added";
      function.addNode(Nodes.of("Add", x, sum, "Z"));
    }
    switch (activation) {
      case NONE -> {}
      case RELU -> function.addNode(Nodes.of("Relu", "Y", x));
      case CLIP -> clip(function, x, opset);
      case HARD_SWISH ->
          // HardSwish itself came with opset 14.
          function
              .addNode(
                  Nodes.of("HardSigmoid", "gate", x)
                      .addAttribute(Attributes.real("alpha", 1f / 6))
                      .addAttribute(Attributes.real("beta", 0.5f)))
              .addNode(Nodes.of("Mul", "Y", x, "gate"));
      case SILU ->
          function.addNode(Nodes.of("Sigmoid", "gate", x)).addNode(Nodes.of("Mul", "Y", x, "gate"));
      case GELU ->
          // Gelu itself came with opset 20.
          function
              .addNode(constant("sqrt2", (float) Math.sqrt(2)))
              .addNode(constant("one", 1))
              .addNode(constant("half", 0.5f))
              .addNode(Nodes.of("Div", "scaled", x, "sqrt2"))
              .addNode(Nodes.of("Erf", "erf", "scaled"))
              .addNode(Nodes.of("Add", "weight", "erf", "one"))
              .addNode(Nodes.of("Mul", "twice", x, "weight"))
              .addNode(Nodes.of("Mul", "Y", "twice", "half"));
    }
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
            Nodes.of("LayerNormalization", "Y", "X", "W", "B")
                .addAttribute(Attributes.integer("axis", -1))
                .addAttribute(Attributes.reference("epsilon", "epsilon", AttributeType.FLOAT)))
        .build();
  }

  private static void clip(FunctionProto.Builder function, String x, int opset) {
    function.addAttribute("minimum").addAttribute("maximum");
    if (opset < 11) {
      function.addNode(
          Nodes.of("Clip", "Y", x)
              .addAttribute(Attributes.reference("min", "minimum", AttributeType.FLOAT))
              .addAttribute(Attributes.reference("max", "maximum", AttributeType.FLOAT)));
    } else {
      function
          .addNode(
              Nodes.of("Constant", "least")
                  .addAttribute(
                      Attributes.reference("value_float", "minimum", AttributeType.FLOAT)))
          .addNode(
              Nodes.of("Constant", "most")
                  .addAttribute(
                      Attributes.reference("value_float", "maximum", AttributeType.FLOAT)))
          .addNode(Nodes.of("Clip", "Y", x, "least", "most"));
    }
  }

  private static NodeProto.Builder toFloat(String output, String input) {
    return Nodes.of("Cast", output, input)
        .addAttribute(Attributes.integer("to", TensorProto.DataType.FLOAT_VALUE));
  }

  /** A scalar. */
  private static NodeProto.Builder constant(String output, float value) {
    return Nodes.of("Constant", output)
        .addAttribute(
            AttributeProto.newBuilder()
                .setName("value")
                .setType(AttributeType.TENSOR)
                .setT(
                    TensorData.of(
                        "", TensorProto.DataType.FLOAT_VALUE, List.of(), new float[] {value})));
  }
}
