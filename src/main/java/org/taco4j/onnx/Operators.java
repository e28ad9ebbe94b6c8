package org.taco4j.onnx;

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

  private Operators() {}
}
