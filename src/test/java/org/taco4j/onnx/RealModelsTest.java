package org.taco4j.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The package on the models of {@code ../shared/real/models}, which others trained. */
class RealModelsTest {
  private static final Path MODELS = Path.of("../shared/real/models");

  @TempDir Path folder;

  private static Path file(String model) {
    Path file = MODELS.resolve(model + ".onnx");
    assumeTrue(Files.exists(file), () -> file + " is not there");
    return file;
  }

  private static Ort.Tensor input(OnnxModel model) {
    List<Long> shape = model.inputs().getFirst().shape();
    return Ort.Tensor.random(shape.stream().mapToLong(dim -> dim < 0 ? 1 : dim).toArray());
  }

  // Conv, MatMul and Gemm layers that can be pruned, depthwise convolutions, and classes. MatMul
  // nodes of two activations (two a block) are no layers.
  @ParameterizedTest
  @CsvSource({
    "imagenet-deit-tiny, 1, 48, 1, 0, 1000",
    "imagenet-mobilenetv2, 35, 0, 1, 17, 1000",
    "imagenet-squeezenet1.1, 26, 0, 0, 0, 1000",
    "cifar10-resnet20, 19, 0, 1, 0, 10",
    "cifar10-resnet56, 55, 0, 1, 0, 10",
    "cifar10-vit, 1, 24, 1, 0, 10",
    "cifar10-convmixer, 5, 0, 1, 8, 10",
    "cifar10-vit-robust, 1, 12, 1, 0, 10",
    "cifar100-mobilenetv3small, 41, 1, 0, 11, 100",
  })
  void wholePath(String name, int convolutions, int products, int gemms, int depthwise, int classes)
      throws Exception {
    Path file = file(name);
    OnnxModel model = OnnxModel.read(file);

    byte[] bytes = Files.readAllBytes(file);
    assertArrayEquals(bytes, model.toBytes());
    Path written = folder.resolve("out.onnx");
    model.write(written);
    assertArrayEquals(bytes, Files.readAllBytes(written));
    assertEquals(bytes.length, model.sizeInBytes());

    List<Layer> layers = LayerDiscovery.discover(model);
    assertEquals(List.of(), LayerDiscovery.skipped(model));
    assertEquals(convolutions, prunable(layers, "Conv"));
    assertEquals(products, prunable(layers, "MatMul"));
    assertEquals(gemms, prunable(layers, "Gemm"));
    assertEquals(
        depthwise,
        layers.stream()
            .filter(layer -> layer.whyNotPrunable().orElse("").equals("depthwise convolution"))
            .count());
    assertEquals(classes, HeadRestriction.classes(model));
    // Exporters have folded all that can be folded; what is left follows an activation.
    assertEquals(List.of(), BatchNormFolding.fold(model));

    // All weights and biases taken out and put back: the protobuf is made anew, nothing changes.
    Map<String, Ort.Tensor> expected = Ort.run(model, input(model));
    OnnxModel rebuilt = model.copy();
    for (Layer layer : layers) {
      LayerWeights.fold(rebuilt, layer, LayerWeights.unfold(model, layer));
      if (layer.bias().isPresent()) {
        LayerWeights.setBias(rebuilt, layer, LayerWeights.bias(model, layer));
      }
    }
    assertArrayEquals(bytes, rebuilt.toBytes());
    rebuilt.setMetadata("edited", "yes");
    assertEquals(layers, LayerDiscovery.discover(rebuilt));
    rebuilt.write(written);
    Ort.assertSame(expected, Ort.run(OnnxModel.read(written), input(model)), 0);

    List<Integer> keep = List.of(classes - 1, 0, 7, 3);
    HeadRestriction.restrict(rebuilt, keep);
    assertEquals(4, HeadRestriction.classes(rebuilt));
    Ort.Tensor all = expected.values().iterator().next();
    Ort.Tensor some = Ort.run(rebuilt, input(model)).values().iterator().next();
    assertEquals(4, some.shape()[some.shape().length - 1]);
    for (int i = 0; i < 4; i++) {
      // Another number of columns lets the GEMM sum in another order: float rounding over at most
      // 1280 products of a magnitude near that of the logits.
      assertEquals(all.values()[keep.get(i)], some.values()[i], 1e-4f * scale(all.values()));
    }
    assertTrue(rebuilt.sizeInBytes() < model.sizeInBytes());
  }

  private static long prunable(List<Layer> layers, String opType) {
    return layers.stream()
        .filter(layer -> layer.prunable() && layer.opType().equals(opType))
        .count();
  }

  private static float scale(float[] values) {
    float max = 0;
    for (float value : values) {
      max = Math.max(max, Math.abs(value));
    }
    return max;
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "imagenet-deit-tiny",
        "cifar10-resnet20",
        "cifar10-vit-robust",
        "cifar100-mobilenetv3small"
      })
  void stagesComputeWhatTheWholeDoes(String name) throws OrtException {
    OnnxModel model = OnnxModel.read(file(name));
    Ort.Tensor input = input(model);
    Ort.Tensor expected = Ort.run(model, input).values().iterator().next();

    List<String> tensors = new ArrayList<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (model.index().producer(layer.input()) >= 0 && !tensors.contains(layer.input())) {
        tensors.add(layer.input());
      }
    }
    List<OnnxModel.Stage> stages = model.stages(tensors);
    assertEquals(tensors.size() + 1, stages.size());

    OrtEnvironment environment = OrtEnvironment.getEnvironment();
    Map<String, OnnxTensor> known = new HashMap<>();
    List<OrtSession.Result> results = new ArrayList<>();
    known.put(
        model.inputs().getFirst().name(),
        OnnxTensor.createTensor(
            environment, java.nio.FloatBuffer.wrap(input.values()), input.shape()));
    try {
      for (int i = 0; i < stages.size(); i++) {
        OnnxModel.Stage stage = stages.get(i);
        if (i < tensors.size() && !known.containsKey(tensors.get(i))) {
          assertTrue(stage.outputs().contains(tensors.get(i)));
        }
        Map<String, Integer> types = new HashMap<>();
        Map<String, OnnxTensor> feeds = new HashMap<>();
        for (String tensor : stage.inputs()) {
          assertTrue(known.containsKey(tensor), "an earlier stage gives " + tensor);
          feeds.put(tensor, known.get(tensor));
          types.put(tensor, elementType(known.get(tensor)));
        }
        if (stage.outputs().isEmpty()) {
          continue;
        }
        byte[] part = model.subgraph(types, stage.outputs()).toBytes();
        try (OrtSession session = Ort.session(environment, part)) {
          OrtSession.Result result = session.run(feeds);
          results.add(result);
          result.forEach(entry -> known.put(entry.getKey(), (OnnxTensor) entry.getValue()));
        }
      }
      OnnxTensor last = known.get(model.outputs().getFirst().name());
      float[] values = new float[expected.values().length];
      last.getFloatBuffer().get(values);
      assertArrayEquals(expected.values(), values, 0);
    } finally {
      results.forEach(OrtSession.Result::close);
    }
  }

  /** ONNX's number of the type; the runtime's own numbers differ. */
  private static int elementType(OnnxTensor tensor) {
    String name = tensor.getInfo().onnxType.name();
    return DataType.valueOf(name.substring("ONNX_TENSOR_ELEMENT_DATA_TYPE_".length())).getNumber();
  }

  @ParameterizedTest
  @ValueSource(strings = {"cifar10-resnet20", "cifar10-vit-robust"})
  void intermediateOutputs(String name) {
    OnnxModel model = OnnxModel.read(file(name));
    List<Layer> layers = LayerDiscovery.discover(model);
    String tensor = layers.get(layers.size() / 2).output();

    OnnxModel both = model.withOutputs(List.of(tensor), true);
    OnnxModel one = model.withOutputs(List.of(tensor), false);

    Map<String, Ort.Tensor> expected = Ort.run(both, input(model));
    assertEquals(2, expected.size());
    assertArrayEquals(
        Ort.run(model, input(model)).values().iterator().next().values(),
        expected.get(model.outputs().getFirst().name()).values());
    assertArrayEquals(
        expected.get(tensor).values(), Ort.run(one, input(model)).get(tensor).values());
    assertTrue(one.sizeInBytes() < model.sizeInBytes());
    assertFalse(one.operatorCounts().containsKey("Gemm"));
  }
}
