package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;
import org.taco4j.runtime.OperatorLibrary;

class LayerNormalizationsTest {
  private static ModelBuilder builder(int features) {
    return new ModelBuilder(17)
        .input("x", -1, 5, features)
        .output("y", -1, 5, features)
        .random("scale", features)
        .random("bias", features);
  }

  @ParameterizedTest
  @CsvSource({"1, 1", "3, 7", "1, 16", "2, 33", "17, 192"})
  void givesTheSameWithAndWithoutTheLibrary(int batch, int features) throws OrtException {
    OnnxModel model =
        builder(features)
            .node(
                "norm",
                "LayerNormalization",
                List.of("x", "scale", "bias"),
                List.of("y"),
                attribute("axis", -1),
                attribute("epsilon", 1e-3f))
            .model();
    byte[] before = model.toBytes();
    assertEquals(List.of("y"), LayerNormalizations.rewrite(model));
    assertEquals(Map.of("taco4j.LayerNormalization", 1), model.operatorCounts());
    Map<String, Ort.Tensor> inputs = Map.of("x", Ort.Tensor.random(batch, 5, features));
    try (OrtSession dense = SparseSessions.open(before, 1, false);
        OrtSession without = SparseSessions.open(model.toBytes(), 1, false)) {
      Ort.Tensor expected = SparseSessions.run(dense, inputs);
      assertArrayEquals(
          expected.values(), SparseSessions.run(without, inputs).values(), "the function");
      if (OperatorLibrary.isAvailable()) {
        try (OrtSession with = SparseSessions.open(model.toBytes(), 2)) {
          // Values of a few units, rounded to 1e-7 of them some ten times.
          assertArrayEquals(
              expected.values(), SparseSessions.run(with, inputs).values(), 5e-6f, "the operator");
        }
      }
    }
  }

  @Test
  void anAxisIsTheLastOneUnderEitherNumber() {
    OnnxModel model =
        builder(4)
            .node(
                "norm",
                "LayerNormalization",
                List.of("x", "scale", "bias"),
                List.of("y"),
                attribute("axis", 2))
            .model();
    assertEquals(List.of("y"), LayerNormalizations.rewrite(model));
  }

  @Test
  void othersStay() {
    // Over two axes; without a bias; with a scale that is computed.
    List<OnnxModel> models =
        List.of(
            new ModelBuilder(17)
                .input("x", -1, 5, 4)
                .output("y", -1, 5, 4)
                .random("scale", 5, 4)
                .random("bias", 5, 4)
                .node(
                    "norm",
                    "LayerNormalization",
                    List.of("x", "scale", "bias"),
                    List.of("y"),
                    attribute("axis", 1))
                .model(),
            builder(4).node("LayerNormalization", List.of("x", "scale"), List.of("y")).model(),
            builder(4)
                .input("s", 4)
                .node("LayerNormalization", List.of("x", "s", "bias"), List.of("y"))
                .model());
    for (OnnxModel model : models) {
      assertTrue(LayerNormalizations.rewrite(model).isEmpty());
      assertEquals(Map.of("LayerNormalization", 1), model.operatorCounts());
    }
  }
}
