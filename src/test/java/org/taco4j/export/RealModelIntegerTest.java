package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.calibrate.ActivationRange;
import org.taco4j.onnx.BatchNormFolding;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;

/** Integer operators in the models of {@code ../shared/real/models}, which others trained. */
class RealModelIntegerTest {
  private static final Path MODELS = Path.of("../shared/real/models");

  /** QuantizeLinear nodes are counted in the sparse form; products in floats may be in between. */
  @ParameterizedTest
  @CsvSource({
    "imagenet-mobilenetv2, 53, 2, 0.2",
    "imagenet-squeezenet1.1, 26, 9, 0.05",
    "cifar10-resnet20, 20, 2, 0.1",
    "cifar10-resnet56, 56, 2, 0.1",
    "cifar10-convmixer, 14, 10, 0.5",
    "cifar100-mobilenetv3small, 53, 29, 1",
    "imagenet-deit-tiny, 50, 50, 0.2",
    "cifar10-vit, 26, 20, 0.1",
  })
  void wholeModelsGiveAboutTheSame(String name, int layers, int quantized, double tolerance)
      throws OrtException {
    Path file = MODELS.resolve(name + ".onnx");
    assumeTrue(Files.exists(file), () -> file + " is not there");
    OnnxModel model = OnnxModel.read(file);
    BatchNormFolding.fold(model);
    List<Long> shape = model.inputs().getFirst().shape();
    Ort.Tensor input =
        Ort.Tensor.random(shape.stream().mapToLong(dim -> dim < 0 ? 2 : dim).toArray());
    Ort.Tensor expected = Ort.run(model, input).values().iterator().next();
    for (Layer layer : LayerDiscovery.discover(model)) {
      assertTrue(LayerWeights.canFold(model, layer), layer.name());
      WeightQuantization.round(model, layer);
    }
    OnnxModel sparse = rewrite(model, true, layers, input);
    assertEquals(quantized, sparse.operatorCounts().get("QuantizeLinear"));
    OnnxModel dense = rewrite(model, false, layers, input);
    Ort.Tensor fromSparse = Ort.run(sparse, input).values().iterator().next();
    Ort.Tensor fromDense = Ort.run(dense, input).values().iterator().next();
    assertClose(expected, fromSparse, tolerance);
    assertClose(expected, fromDense, tolerance);
    if (name.startsWith("imagenet-squeezenet")) {
      // Nothing but integers to the end: the same ones.
      assertArrayEquals(fromDense.values(), fromSparse.values());
    }
    // Optimised, as users run them.
    Map<String, Ort.Tensor> inputs = Map.of(model.inputs().getFirst().name(), input);
    for (OnnxModel rewritten : List.of(sparse, dense)) {
      try (OrtSession session = SparseSessions.open(rewritten.toBytes(), 2, false)) {
        assertClose(expected, SparseSessions.run(session, inputs), tolerance);
      }
    }
  }

  private static OnnxModel rewrite(OnnxModel model, boolean sparse, int layers, Ort.Tensor input) {
    OnnxModel work = model.copy();
    IntegerOperators plan = IntegerOperators.plan(model, layer -> true, layer -> sparse);
    Map<String, ActivationRange> ranges = IntegerOperatorsTest.ranges(model, plan.tensors(), input);
    IntegerOperators.Outcome outcome = plan.rewrite(work, ranges);
    assertEquals(layers, outcome.rewritten().size(), outcome.toString());
    assertEquals(Map.of(), outcome.floats());
    return work;
  }

  /**
   * Steps of 8 bits add up over some 50 layers, the more the wider ranges are; noise as an image
   * makes them wide. MobileNetV3 does not survive (see IntegerActivations): it is to run.
   */
  private static void assertClose(Ort.Tensor expected, Ort.Tensor actual, double tolerance) {
    double error = 0;
    double square = 0;
    for (int i = 0; i < expected.values().length; i++) {
      error += Math.pow(expected.values()[i] - actual.values()[i], 2);
      square += Math.pow(expected.values()[i], 2);
    }
    double relative = Math.sqrt(error / square);
    assertTrue(relative < tolerance, relative + " is the relative error");
  }
}
