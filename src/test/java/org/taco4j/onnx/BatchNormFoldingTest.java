package org.taco4j.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.taco4j.onnx.ModelBuilder.attribute;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class BatchNormFoldingTest {
  private static final List<String> NORM = List.of("h", "scale", "shift", "mean", "variance");

  private static ModelBuilder convolution(int opset, int channels) {
    return new ModelBuilder(opset)
        .input("x", 2, 4, 5, 5)
        .output("y", 2, channels, -1, -1)
        .random("b", channels)
        .random("b4", 1, channels, 1, 1)
        .random("scale", channels)
        .random("shift", channels)
        .random("mean", channels)
        .positive("variance", channels);
  }

  private static void checkFolded(OnnxModel model, Ort.Tensor input, String... folded) {
    Map<String, Ort.Tensor> before = Ort.run(model, input);
    assertEquals(List.of(folded), BatchNormFolding.fold(model));
    // Rounding of the folded weights, relative 2^-24 for each of up to 36 products of normal
    // numbers times factors up to about 4.
    Ort.assertSame(before, Ort.run(model, input), 1e-4f);
  }

  private static void checkStays(ModelBuilder builder) {
    OnnxModel model = builder.model();
    byte[] bytes = model.toBytes();
    assertEquals(List.of(), BatchNormFolding.fold(model));
    assertArrayEquals(bytes, model.toBytes());
  }

  @ParameterizedTest
  @CsvSource({"17, 1, 0", "17, 2, 1", "7, 1, 1", "9, 4, 0", "15, 1, 2", "14, 2, 2"})
  void convolutions(int opset, int group, int bias) {
    ModelBuilder builder = convolution(opset, 8).random("w", 8, 4 / group, 3, 3);
    if (bias == 2) {
      builder
          .node("conv", "Conv", List.of("x", "w"), List.of("c"), attribute("group", group))
          .node("Add", List.of("c", "b4"), List.of("h"));
    } else {
      builder.node(
          "",
          "Conv",
          bias == 1 ? List.of("x", "w", "b") : List.of("x", "w"),
          List.of("h"),
          attribute("group", group));
    }
    OnnxModel model =
        builder
            .valueInfo("h", 2, 8, 3, 3)
            .node("bn", "BatchNormalization", NORM, List.of("n"), attribute("epsilon", 0.01f))
            .node("Relu", List.of("n"), List.of("y"))
            .model();
    String name = LayerDiscovery.discover(model).getFirst().name();
    checkFolded(model, Ort.Tensor.random(2, 4, 5, 5), "bn");
    assertFalse(model.operatorCounts().containsKey("BatchNormalization"));
    assertEquals(-1, model.index().initializer("variance"));
    assertEquals(name, LayerDiscovery.discover(model).getFirst().name());
    assertEquals(null, model.index().info("h"));
  }

  @Test
  void theOutputOfTheModelMayBeTheNorms() {
    OnnxModel model =
        convolution(17, 8)
            .random("w", 8, 4, 3, 3)
            .node("Conv", List.of("x", "w"), List.of("h"))
            .node("BatchNormalization", NORM, List.of("y"))
            .model();
    checkFolded(model, Ort.Tensor.random(2, 4, 5, 5), "y");
  }

  @ParameterizedTest
  @CsvSource({"0, 1", "1, 2", "1, 0"})
  void gemm(int transB, float beta) {
    OnnxModel model =
        new ModelBuilder(13)
            .input("x", 3, 7)
            .output("y", 3, 5)
            .random("w", transB == 1 ? new long[] {5, 7} : new long[] {7, 5})
            .random("c", 5)
            .random("scale", 5)
            .random("shift", 5)
            .random("mean", 5)
            .positive("variance", 5)
            .node(
                "fc",
                "Gemm",
                List.of("x", "w", "c"),
                List.of("h"),
                attribute("transB", transB),
                attribute("alpha", 0.5f),
                attribute("beta", beta))
            .node("bn", "BatchNormalization", NORM, List.of("y"))
            .model();
    checkFolded(model, Ort.Tensor.random(3, 7), "bn");
  }

  @Test
  void sharedNormParametersStayForTheOther() {
    OnnxModel model =
        convolution(17, 8)
            .random("w", 8, 4, 3, 3)
            .node("Conv", List.of("x", "w"), List.of("h"))
            .node("one", "BatchNormalization", NORM, List.of("n"))
            .node("Relu", List.of("n"), List.of("r"))
            .node(
                "two",
                "BatchNormalization",
                List.of("r", "scale", "shift", "mean", "variance"),
                List.of("y"))
            .model();
    // The second follows an activation.
    checkFolded(model, Ort.Tensor.random(2, 4, 5, 5), "one");
    assertEquals(1, model.operatorCounts().get("BatchNormalization"));
  }

  @Test
  void whatStays() {
    // The convolution's output has another reader.
    checkStays(
        convolution(17, 8)
            .random("w", 8, 4, 3, 3)
            .node("Conv", List.of("x", "w"), List.of("h"))
            .node("BatchNormalization", NORM, List.of("n"))
            .node("Add", List.of("h", "n"), List.of("y")));
    // The convolution's output is the model's.
    checkStays(
        convolution(17, 8)
            .output("h", 2, 8, -1, -1)
            .random("w", 8, 4, 3, 3)
            .node("Conv", List.of("x", "w"), List.of("h"))
            .node("BatchNormalization", NORM, List.of("y")));
    // Training mode.
    checkStays(
        convolution(17, 8)
            .random("w", 8, 4, 3, 3)
            .node("Conv", List.of("x", "w"), List.of("h"))
            .node(
                "BatchNormalization",
                NORM,
                List.of("y", "running_mean", "running_variance"),
                attribute("training_mode", 1)));
    // Tied weights.
    checkStays(
        convolution(17, 8)
            .output("z", 2, 8, -1, -1)
            .random("w", 8, 4, 3, 3)
            .node("Conv", List.of("x", "w"), List.of("h"))
            .node("Conv", List.of("x", "w"), List.of("z"))
            .node("BatchNormalization", NORM, List.of("y")));
    // A bias that is no plain constant, without and with an Add behind it.
    checkStays(
        convolution(17, 8)
            .random("w", 8, 4, 3, 3)
            .node("Cast", List.of("b"), List.of("cast"), attribute("to", 1))
            .node("Conv", List.of("x", "w", "cast"), List.of("h"))
            .node("BatchNormalization", NORM, List.of("y")));
    checkStays(
        convolution(17, 8)
            .random("w", 8, 4, 3, 3)
            .node("Cast", List.of("b"), List.of("cast"), attribute("to", 1))
            .node("Conv", List.of("x", "w", "cast"), List.of("c"))
            .node("Add", List.of("c", "b4"), List.of("h"))
            .node("BatchNormalization", NORM, List.of("y")));
    // Parameters of another length.
    checkStays(
        convolution(17, 8)
            .random("w", 4, 4, 3, 3)
            .node("Conv", List.of("x", "w"), List.of("h"))
            .node("BatchNormalization", NORM, List.of("y")));
  }
}
