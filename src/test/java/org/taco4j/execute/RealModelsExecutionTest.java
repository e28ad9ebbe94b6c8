package org.taco4j.execute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.data.Shared;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;

/** The nine real models: outputs against ONNX Runtime, and gradients of all their weights. */
@SuppressWarnings("try")
class RealModelsExecutionTest {
  /**
   * Relative to the largest output; what float32 sums in another order may do through a deep
   * network.
   */
  private static final double TOLERANCE = 1e-4;

  @ParameterizedTest
  @ValueSource(
      strings = {
        "cifar10-convmixer",
        "cifar10-resnet20",
        "cifar10-resnet56",
        "cifar10-vit",
        "cifar10-vit-robust",
        "cifar100-mobilenetv3small",
        "imagenet-deit-tiny",
        "imagenet-mobilenetv2",
        "imagenet-squeezenet1.1"
      })
  void agreesWithOnnxRuntime(String name) {
    Path file = Shared.at("real/models").resolve(name + ".onnx");
    OnnxModel model = OnnxModel.read(file);
    List<Long> declared = model.inputs().getFirst().shape();
    try (TorchGraph graph = TorchGraph.of(model)) {
      for (long batch : declared.getFirst() > 0 ? new long[] {1} : new long[] {1, 3}) {
        long[] shape = declared.stream().mapToLong(Long::longValue).toArray();
        shape[0] = batch;
        Ort.Tensor input = Ort.Tensor.random(shape);
        Map<String, Ort.Tensor> expected = Ort.run(model, input);
        try (PointerScope scope = new PointerScope()) {
          Map<String, Tensor> actual =
              graph.run(
                  Map.of(),
                  Map.of(graph.inputs().getFirst(), Tensors.of(input.values(), shape)),
                  graph.outputs());
          expected.forEach((output, tensor) -> assertClose(output, tensor, actual.get(output)));
        }
      }
      assertGradients(graph, declared);
    }
  }

  private static void assertClose(String name, Ort.Tensor expected, Tensor actual) {
    assertArrayEquals(expected.shape(), Tensors.shape(actual), name);
    float[] values = Tensors.floats(actual);
    double largest = 0;
    double error = 0;
    for (int i = 0; i < values.length; i++) {
      largest = Math.max(largest, Math.abs(expected.values()[i]));
      error = Math.max(error, Math.abs(expected.values()[i] - values[i]));
    }
    assertTrue(error <= TOLERANCE * largest, name + ": " + error + " of " + largest);
  }

  /** Every weight gets a gradient, and it is finite. */
  private static void assertGradients(TorchGraph graph, List<Long> declared) {
    try (PointerScope scope = new PointerScope()) {
      long[] shape = declared.stream().mapToLong(d -> d < 0 ? 1 : d).toArray();
      Map<String, Tensor> leaves = new LinkedHashMap<>();
      TorchGraphTest.floatConstants(graph)
          .forEach(
              (constant, value) -> {
                if (value.dim() > 0) {
                  leaves.put(constant, value.clone().set_requires_grad(true));
                }
              });
      Map<String, Tensor> outputs =
          graph.run(
              leaves,
              Map.of(
                  graph.inputs().getFirst(), Tensors.of(Ort.Tensor.random(shape).values(), shape)),
              graph.outputs());
      Tensor loss = outputs.get(graph.outputs().getFirst());
      loss = loss.mul(loss).mean();
      List<Tensor> gradients = Tensors.gradients(loss, new ArrayList<>(leaves.values()));
      assertEquals(leaves.size(), gradients.size());
      for (Tensor gradient : gradients) {
        assertTrue(Double.isFinite(gradient.abs().sum().item_double()));
      }
    }
  }
}
