package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.Taco;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.BatchNormFolding;
import org.taco4j.onnx.HeadRestriction;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;
import org.taco4j.onnx.TensorData;
import org.taco4j.solve.QuantizationGrid;

class WeightQuantizationTest {
  private static final Path MODELS = Path.of("../shared/real/models");

  @TempDir Path folder;

  /** A layer's weights rounded to the nearest point of plain grids. */
  private record Rounded(float[][] weights, List<QuantizationGrid> grids) {
    static Rounded of(OnnxModel model, Layer layer, int bits, boolean symmetric) {
      float[][] weights = LayerWeights.unfold(model, layer);
      List<QuantizationGrid> grids = new ArrayList<>();
      float half = 1 << (bits - 1);
      for (float[] group : weights) {
        float[] scale = new float[layer.rows()];
        float[] zero = new float[layer.rows()];
        for (int row = 0; row < layer.rows(); row++) {
          float largest = Float.MIN_NORMAL;
          for (int i = row * layer.cols(); i < (row + 1) * layer.cols(); i++) {
            largest = Math.max(largest, Math.abs(group[i]));
          }
          scale[row] = largest / (half - 0.5f);
          zero[row] = half;
          for (int i = row * layer.cols(); i < (row + 1) * layer.cols(); i++) {
            float code = (float) Math.rint(group[i] / scale[row]);
            group[i] = scale[row] * Math.clamp(code, -half, half - 1) + 0f;
          }
        }
        grids.add(new QuantizationGrid(bits, symmetric, scale, zero));
      }
      return new Rounded(weights, grids);
    }
  }

  @Test
  void roundingKeepsZerosAndTheLargestWeightOfEachRow() {
    OnnxModel model =
        new ModelBuilder(13)
            .input("x", 1, 3)
            .output("y", 1, 3)
            .floats("w", new long[] {3, 3}, 0, 0.5f, 1e-3f, 2, 0, -1e-3f, -4, -1, 0)
            .node("fc", "MatMul", List.of("x", "w"), List.of("y"))
            .model();
    Layer layer = LayerDiscovery.find(model, "fc");
    WeightQuantization.round(model, layer);
    assertEquals(3, LayerWeights.zeros(model, layer));
    Map<String, Ort.Tensor> results = Ort.run(model, new Ort.Tensor(new float[] {1, 0, 0}, 1, 3));
    // Steps of 4/127, 1/127 and 1e-3/127.
    assertArrayEquals(
        new float[] {0, 64f / 127, 1e-3f}, results.get("y").values(), 1e-7f, results.toString());
  }

  @ParameterizedTest
  @CsvSource({
    "imagenet-deit-tiny, 8",
    "imagenet-mobilenetv2, 8",
    "imagenet-squeezenet1.1, 8",
    "cifar10-resnet20, 4",
    "cifar10-resnet56, 8",
    "cifar10-vit, 2",
    "cifar10-convmixer, 8",
    "cifar100-mobilenetv3small, 8",
  })
  void allLayersOfRealModels(String name, int bits) throws Exception {
    Path file = MODELS.resolve(name + ".onnx");
    assumeTrue(Files.exists(file), () -> file + " is not there");
    OnnxModel model = OnnxModel.read(file);
    BatchNormFolding.fold(model);
    OnnxModel rounded = model.copy();
    OnnxModel quantized = model.copy();
    List<Layer> layers = LayerDiscovery.discover(model);
    long parameters = 0;
    for (Layer layer : layers) {
      Rounded values = Rounded.of(model, layer, bits, true);
      LayerWeights.fold(rounded, layer, values.weights());
      WeightQuantization.apply(quantized, layer, values.weights(), values.grids());
      parameters += layer.parameters();
    }
    for (Layer layer : layers) {
      assertFalse(LayerWeights.canFold(quantized, layer));
      assertEquals(LayerWeights.zeros(rounded, layer), LayerWeights.zeros(quantized, layer));
    }
    assertEquals(
        layers.stream().map(Layer::name).toList(),
        LayerDiscovery.discover(quantized).stream().map(Layer::name).toList());
    assertEquals(List.of(), LayerDiscovery.skipped(quantized));
    assertEquals(HeadRestriction.classes(model), HeadRestriction.classes(quantized));

    Path written = folder.resolve("quantized.onnx");
    quantized.write(written);
    // A byte in place of four for each weight, and a few for scales and nodes.
    assertTrue(quantized.sizeInBytes() < rounded.sizeInBytes() - 2.5 * parameters);
    OnnxModel read = OnnxModel.read(written);
    List<Long> shape = model.inputs().getFirst().shape();
    Ort.Tensor input =
        Ort.Tensor.random(shape.stream().mapToLong(dim -> dim < 0 ? 1 : dim).toArray());
    assertDequantizes(rounded, read, layers, input);
    // ONNX Runtime packs stored weights for other kernels than computed ones: sums of a thousand
    // products of about 1 in another order, through tens of layers.
    Ort.assertSame(Ort.run(rounded, input), Ort.run(read, input), 1e-3f);

    Taco.Inspection inspection = Taco.inspect(written);
    assertEquals(layers.size(), inspection.layers().size());
    for (Taco.InspectedLayer layer : inspection.layers()) {
      String reason = String.valueOf(layer.whyNotPrunable());
      assertTrue(reason.contains("DequantizeLinear") || reason.contains("depthwise"), reason);
    }
  }

  /** What ONNX Runtime makes of the integers is bit for bit what the float model stores. */
  private static void assertDequantizes(
      OnnxModel rounded, OnnxModel quantized, List<Layer> layers, Ort.Tensor input) {
    List<String> names = layers.stream().map(layer -> layer.weight().constant()).toList();
    Map<String, Ort.Tensor> dequantized = Ort.run(quantized.withOutputs(names, false), input);
    for (String name : names) {
      TensorProto stored = rounded.index().stored(name);
      assertNotNull(stored);
      float[] expected = TensorData.floats(stored);
      float[] actual = dequantized.get(name).values();
      for (int i = 0; i < expected.length; i++) {
        assertEquals(Float.floatToRawIntBits(expected[i]), Float.floatToRawIntBits(actual[i]));
      }
    }
  }

  @Test
  void refusesOldOpsets() {
    Path file = MODELS.resolve("cifar10-vit-robust.onnx");
    assumeTrue(Files.exists(file), () -> file + " is not there");
    OnnxModel model = OnnxModel.read(file);
    Layer layer = LayerDiscovery.discover(model).getFirst();
    Rounded values = Rounded.of(model, layer, 8, true);
    byte[] before = model.toBytes();
    TacoException e =
        assertThrows(
            TacoException.class,
            () -> WeightQuantization.apply(model, layer, values.weights(), values.grids()));
    assertEquals(TacoException.Kind.MODEL, e.kind());
    assertTrue(e.getMessage().contains("opset 9"), e.getMessage());
    assertArrayEquals(before, model.toBytes());
  }

  private static OnnxModel small() {
    return new ModelBuilder(13)
        .input("x", 2, 6)
        .output("y", 2, 3)
        .random("a", 6, 4)
        .random("b", 5, 4)
        .random("c", 3, 5)
        .random("bias", 5)
        .node("first", "MatMul", List.of("x", "a"), List.of("h1"))
        .node("gemm", "Gemm", List.of("h1", "b", "bias"), List.of("h2"), transB())
        .node("turn", "Transpose", List.of("c"), List.of("ct"))
        .node("last", "MatMul", List.of("h2", "ct"), List.of("y"))
        .model();
  }

  private static AttributeProto transB() {
    return ModelBuilder.attribute("transB", 1);
  }

  @Test
  void findsTheAxisOfTheRows() {
    OnnxModel rounded = small();
    OnnxModel quantized = small();
    for (Layer layer : LayerDiscovery.discover(small())) {
      Rounded values = Rounded.of(rounded, layer, 3, true);
      LayerWeights.fold(rounded, layer, values.weights());
      WeightQuantization.apply(quantized, layer, values.weights(), values.grids());
      assertTrue(LayerWeights.hasKnownZeros(quantized, layer));
      assertEquals(LayerWeights.zeros(rounded, layer), LayerWeights.zeros(quantized, layer));
    }
    assertEquals(3, quantized.operatorCounts().get("DequantizeLinear"));
    Ort.Tensor input = Ort.Tensor.random(2, 6);
    Map<String, Ort.Tensor> expected = Ort.run(rounded, input);
    // Sums of six products, in another order.
    Ort.assertSame(expected, Ort.run(quantized, input), 1e-4f);
  }

  @Test
  void refusesWhatItCannotStore() {
    OnnxModel model = small();
    Layer layer = LayerDiscovery.discover(model).getFirst();
    Rounded asymmetric = Rounded.of(model, layer, 4, false);
    byte[] before = model.toBytes();
    TacoException e =
        assertThrows(
            TacoException.class,
            () -> WeightQuantization.apply(model, layer, asymmetric.weights(), asymmetric.grids()));
    assertEquals(TacoException.Kind.USAGE, e.kind());
    assertTrue(e.getMessage().contains("symmetric"), e.getMessage());
    Rounded values = Rounded.of(model, layer, 4, true);
    values.weights()[0][5] += 0.01f;
    assertThrows(
        IllegalArgumentException.class,
        () -> WeightQuantization.apply(model, layer, values.weights(), values.grids()));
    assertArrayEquals(before, model.toBytes());

    Rounded again = Rounded.of(model, layer, 4, true);
    WeightQuantization.apply(model, layer, again.weights(), again.grids());
    TacoException twice =
        assertThrows(
            TacoException.class,
            () -> WeightQuantization.apply(model, layer, again.weights(), again.grids()));
    assertEquals(TacoException.Kind.MODEL, twice.kind());
  }
}
