package org.taco4j.export;

import static org.taco4j.onnx.ModelBuilder.attribute;

import java.util.List;
import org.taco4j.onnx.ModelBuilder;

/** Activations as exporters write them. */
final class ActivationPatterns {
  private ActivationPatterns() {}

  /** Adds the nodes of an activation; opset 13 or newer. */
  static void add(ModelBuilder builder, FusedActivation.Kind kind, String x, String y) {
    switch (kind) {
      case NONE -> builder.node("Identity", List.of(x), List.of(y));
      case RELU -> builder.node("Relu", List.of(x), List.of(y));
      case CLIP ->
          builder
              .floats("least", new long[0], -0.25f)
              .floats("most", new long[0], 1.5f)
              .node("Clip", List.of(x, "least", "most"), List.of(y));
      case HARD_SWISH ->
          builder
              .node(
                  "HardSigmoid",
                  List.of(x),
                  List.of("gate"),
                  attribute("alpha", 1f / 6),
                  attribute("beta", 0.5f))
              .node("Mul", List.of("gate", x), List.of(y));
      case SILU ->
          builder
              .node("Sigmoid", List.of(x), List.of("gate"))
              .node("Mul", List.of(x, "gate"), List.of(y));
      case GELU ->
          builder
              .floats("root", new long[0], 1.4142135f)
              .floats("one", new long[0], 1)
              .floats("half", new long[0], 0.5f)
              .node("Div", List.of(x, "root"), List.of("scaled"))
              .node("Erf", List.of("scaled"), List.of("erf"))
              .node("Add", List.of("erf", "one"), List.of("sum"))
              .node("Mul", List.of(x, "sum"), List.of("product"))
              .node("Mul", List.of("product", "half"), List.of(y));
    }
  }
}
