package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.onnx.BatchNormFolding;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;
import org.taco4j.runtime.OperatorLibrary;

/** Sparse operators in the models of {@code ../shared/real/models}, which others trained. */
class RealModelSparseTest {
  private static final Path MODELS = Path.of("../shared/real/models");

  @ParameterizedTest
  @CsvSource({
    "imagenet-mobilenetv2, 53, 0",
    "imagenet-squeezenet1.1, 26, 0",
    "cifar10-resnet20, 20, 0",
    "cifar10-resnet56, 56, 0",
    "cifar10-convmixer, 14, 0",
    "cifar100-mobilenetv3small, 53, 0",
    "imagenet-deit-tiny, 50, 25",
    "cifar10-vit, 26, 13",
    "cifar10-vit-robust, 14, 0",
  })
  void wholeModelsGiveTheSame(String name, int layers, int normalizations) throws OrtException {
    Path file = MODELS.resolve(name + ".onnx");
    assumeTrue(Files.exists(file), () -> file + " is not there");
    OnnxModel model = OnnxModel.read(file);
    BatchNormFolding.fold(model);
    removeSmallest(model, 0.5);
    List<Long> shape = model.inputs().getFirst().shape();
    Ort.Tensor input =
        Ort.Tensor.random(shape.stream().mapToLong(dim -> dim < 0 ? 2 : dim).toArray());
    byte[] before = model.toBytes();
    SparseOperators.Outcome outcome = SparseOperators.rewrite(model, layer -> true);
    assertEquals(layers, outcome.rewritten().size(), outcome.toString());
    assertEquals(Map.of(), outcome.dense());
    assertEquals(normalizations, LayerNormalizations.rewrite(model).size());
    assertFalse(model.operatorCounts().containsKey("Conv"));
    assertFalse(model.operatorCounts().containsKey("Gemm"));
    Map<String, Ort.Tensor> inputs = Map.of(model.inputs().getFirst().name(), input);
    try (OrtSession dense = SparseSessions.open(before, 1, false);
        OrtSession without = SparseSessions.open(model.toBytes(), 1, false)) {
      Ort.Tensor expected = SparseSessions.run(dense, inputs);
      assertClose(expected, SparseSessions.run(without, inputs));
      if (OperatorLibrary.isAvailable()) {
        try (OrtSession sparse = SparseSessions.open(model.toBytes(), 2)) {
          assertClose(expected, SparseSessions.run(sparse, inputs));
        }
      }
    }
  }

  private static void removeSmallest(OnnxModel model, double sparsity) {
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (LayerWeights.canFold(model, layer)) {
        float[][] weights = LayerWeights.unfold(model, layer);
        for (float[] group : weights) {
          float[] sorted = group.clone();
          for (int i = 0; i < sorted.length; i++) {
            sorted[i] = Math.abs(sorted[i]);
          }
          Arrays.sort(sorted);
          float threshold = sorted[(int) (sparsity * sorted.length)];
          for (int i = 0; i < group.length; i++) {
            group[i] = Math.abs(group[i]) < threshold ? 0 : group[i];
          }
        }
        LayerWeights.fold(model, layer, weights);
      }
    }
  }

  /** Differences of rounding grow from layer to layer; these networks have up to 60. */
  private static void assertClose(Ort.Tensor expected, Ort.Tensor actual) {
    double largest = 0;
    double error = 0;
    for (int i = 0; i < expected.values().length; i++) {
      largest = Math.max(largest, Math.abs(expected.values()[i]));
      error = Math.max(error, Math.abs(expected.values()[i] - actual.values()[i]));
    }
    assertTrue(error <= 1e-4 * largest, error + " of " + largest);
  }
}
