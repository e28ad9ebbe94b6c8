package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.NodeProto;
import java.util.Set;

/** Kinds of ONNX operators. */
public final class Operators {
  /** The domain of this project's own operators: layers that skip zeros. */
  public static final String SPARSE_DOMAIN = "taco4j";

  /** Operators that act on each element of their first input alone. */
  public static final Set<String> ELEMENTWISE =
      Set.of(
          "Abs",
          "Cast",
          "Ceil",
          "Celu",
          "Clip",
          "Dropout",
          "Elu",
          "Erf",
          "Exp",
          "Floor",
          "Gelu",
          "HardSigmoid",
          "HardSwish",
          "Identity",
          "LeakyRelu",
          "Log",
          "Mish",
          "Neg",
          "Reciprocal",
          "Relu",
          "Round",
          "Selu",
          "Sigmoid",
          "Sign",
          "Softplus",
          "Softsign",
          "Sqrt",
          "Swish",
          "Tanh",
          "ThresholdedRelu");

  /** Pools that leave one value of each channel. */
  public static final Set<String> GLOBAL_POOLS =
      Set.of("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool");

  /** Pools over windows. */
  public static final Set<String> POOLS = Set.of("AveragePool", "MaxPool", "LpPool");

  /** Reductions over axes. */
  public static final Set<String> REDUCTIONS =
      Set.of("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2");

  /** ONNX's own operators that multiply integers with their scales. */
  static final Set<String> INTEGER = Set.of("QLinearConv", "QLinearMatMul");

  /** Position of the weights among the inputs of operators that multiply integers. */
  static final int INTEGER_WEIGHT = 3;

  private Operators() {}

  /**
   * Whether this is a convolution or product of 8-bit integers with their scales: ONNX's own, or
   * one of this project's.
   */
  static boolean multipliesIntegers(NodeProto node) {
    return INTEGER.contains(Nodes.operator(node))
        || (node.getDomain().equals(SPARSE_DOMAIN)
            && (node.getOpType().startsWith("SparseQLinear")
                || node.getOpType().startsWith("SparseMatMulInteger")));
  }
}
