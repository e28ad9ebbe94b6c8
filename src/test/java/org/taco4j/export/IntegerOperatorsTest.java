package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import com.google.protobuf.ByteString;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.calibrate.ActivationRange;
import org.taco4j.calibrate.RangeMethod;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;
import org.taco4j.onnx.TensorData;

/** The rewrite itself; results here are those of the functions, without the library. */
class IntegerOperatorsTest {
  private static final long[] PADS = {1, 1, 1, 1};

  @TempDir Path folder;

  private static OnnxModel rounded(OnnxModel model, String... floats) {
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (!List.of(floats).contains(layer.name()) && LayerWeights.canFold(model, layer)) {
        WeightQuantization.round(model, layer);
      }
    }
    return model;
  }

  /** The ranges, by min and max, that tensors have for one input. */
  static Map<String, ActivationRange> ranges(
      OnnxModel model, Set<String> tensors, Ort.Tensor input) {
    String name = model.inputs().getFirst().name();
    Map<String, Ort.Tensor> values = new LinkedHashMap<>();
    List<String> computed = tensors.stream().filter(tensor -> !tensor.equals(name)).toList();
    if (!computed.isEmpty()) {
      values.putAll(Ort.run(model.withOutputs(computed, false), input));
    }
    values.put(name, input);
    Map<String, ActivationRange> ranges = new LinkedHashMap<>();
    for (String tensor : tensors) {
      float low = 0;
      float high = 0;
      for (float value : values.get(tensor).values()) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
      float scale = low == high ? 1 : (high - low) / 255;
      ranges.put(
          tensor,
          new ActivationRange(
              tensor,
              RangeMethod.MIN_MAX,
              low,
              high,
              low,
              high,
              scale,
              Math.round(-low / scale),
              0));
    }
    return ranges;
  }

  private record Rewritten(OnnxModel model, IntegerOperators.Outcome outcome) {
    Map<String, Integer> operators() {
      return model.operatorCounts();
    }
  }

  private Rewritten rewrite(OnnxModel model, boolean sparse, Ort.Tensor input) {
    OnnxModel work = model.copy();
    IntegerOperators plan = IntegerOperators.plan(model, layer -> true, layer -> sparse);
    IntegerOperators.Outcome outcome = plan.rewrite(work, ranges(model, plan.tensors(), input));
    Path file = folder.resolve("rewritten.onnx");
    work.write(file);
    return new Rewritten(OnnxModel.read(file), outcome);
  }

  /**
   * Rewrites both ways, and checks that both files compute about what the model did, and the same.
   *
   * @param steps how far outputs may be off, in 255th parts of their extremes
   * @return with sparse operators
   */
  private Rewritten check(OnnxModel model, int steps, long... inputShape) {
    Ort.Tensor input = Ort.Tensor.random(inputShape);
    Map<String, Ort.Tensor> expected = Ort.run(model, input);
    Rewritten dense = rewrite(model, false, input);
    Rewritten sparse = rewrite(model, true, input);
    Map<String, Ort.Tensor> fromDense = Ort.run(dense.model(), input);
    Map<String, Ort.Tensor> fromSparse = Ort.run(sparse.model(), input);
    expected.forEach(
        (name, values) -> {
          float largest = 0;
          for (float value : values.values()) {
            largest = Math.max(largest, Math.abs(value));
          }
          float tolerance = steps * 2 * largest / 255;
          assertArrayEquals(values.shape(), fromSparse.get(name).shape(), name);
          assertArrayEquals(
              values.values(), fromSparse.get(name).values(), tolerance, name + " sparse");
          assertArrayEquals(
              values.values(), fromDense.get(name).values(), tolerance, name + " dense");
        });
    return sparse;
  }

  private static ModelBuilder convolution(String output) {
    return new ModelBuilder(17)
        .input("x", 2, 3, 9, 7)
        .output("y", -1, -1, -1, -1)
        .random("w1", 8, 3, 3, 3)
        .random("b1", 8)
        .node("first", "Conv", List.of("x", "w1", "b1"), List.of(output), attribute("pads", PADS));
  }

  @Test
  void reluAndClipBecomeTheEndOfARange() {
    OnnxModel model =
        convolution("c1")
            .random("w2", 8, 8, 1, 1)
            .floats("zero", new long[0], 0)
            .floats("six", new long[0], 6)
            .node("Relu", List.of("c1"), List.of("r1"))
            .node("second", "Conv", List.of("r1", "w2"), List.of("c2"))
            .node("Clip", List.of("c2", "zero", "six"), List.of("y"))
            .model();
    // What Clip leaves of the second is a part of its values: errors of the first count for more.
    Rewritten sparse = check(rounded(model), 6, 2, 3, 9, 7);
    assertEquals(
        Map.of("QuantizeLinear", 1, "taco4j.SparseQLinearConv", 2, "DequantizeLinear", 1),
        sparse.operators());
    Rewritten dense = rewrite(model, false, Ort.Tensor.random(2, 3, 9, 7));
    assertEquals(
        Map.of("QuantizeLinear", 1, "QLinearConv", 2, "DequantizeLinear", 1), dense.operators());
    assertEquals(
        Map.of("first", "QLinearConv", "second", "QLinearConv"), dense.outcome().rewritten());
    assertEquals(Map.of(), dense.outcome().floats());
    assertTrue(model.operatorCounts().containsKey("Relu"), "the model itself is not changed");
  }

  @Test
  void clipAboveZeroStays() {
    OnnxModel model =
        convolution("c1")
            .floats("one", new long[0], 1)
            .node("Clip", List.of("c1", "one"), List.of("y"))
            .model();
    assertEquals(1, check(rounded(model), 2, 2, 3, 9, 7).operators().get("Clip"));
  }

  @Test
  void residualAdditionsAreFusedWhereTheOperatorHasThem() {
    ModelBuilder builder =
        convolution("c1")
            .random("w2", 8, 8, 3, 3)
            .random("w3", 8, 8, 1, 1)
            .node("Relu", List.of("c1"), List.of("r1"))
            .node("second", "Conv", List.of("r1", "w2"), List.of("c2"), attribute("pads", PADS))
            .node("shortcut", "Conv", List.of("r1", "w3"), List.of("s"))
            .node("Add", List.of("c2", "s"), List.of("sum"))
            .node("Relu", List.of("sum"), List.of("r2"))
            .random("w4", 4, 8, 1, 1)
            .node("last", "Conv", List.of("r2", "w4"), List.of("y"));
    OnnxModel model = rounded(builder.model());
    Rewritten sparse = check(model, 4, 2, 3, 9, 7);
    assertEquals(1, sparse.operators().get("taco4j.SparseQLinearConvAdd"));
    assertEquals(3, sparse.operators().get("taco4j.SparseQLinearConv"));
    assertEquals(1, sparse.operators().get("QuantizeLinear"));
    assertEquals(1, sparse.operators().get("DequantizeLinear"));
    // The dense form has the addition between DequantizeLinear and QuantizeLinear, without Relu.
    Map<String, Integer> dense = rewrite(model, false, Ort.Tensor.random(2, 3, 9, 7)).operators();
    assertEquals(
        Map.of("QLinearConv", 4, "Add", 1, "QuantizeLinear", 2, "DequantizeLinear", 3), dense);
  }

  @Test
  void operatorsThatMoveValuesWorkOnBytes() {
    OnnxModel model =
        convolution("c1")
            .longs("pads", 0, 2, 0, 0, 0, 2, 1, 0)
            .longs("starts", 1)
            .longs("ends", 4)
            .longs("axes", 3)
            .random("w2", 4, 12, 1, 1)
            .node("Relu", List.of("c1"), List.of("r1"))
            .node(
                "MaxPool",
                List.of("r1"),
                List.of("m"),
                attribute("kernel_shape", new long[] {2, 2}))
            .node("Pad", List.of("m", "pads"), List.of("p"))
            .node("Slice", List.of("p", "starts", "ends", "axes"), List.of("s"))
            .node("last", "Conv", List.of("s", "w2"), List.of("y"))
            .model();
    Rewritten sparse = check(rounded(model), 2, 2, 3, 9, 7);
    assertEquals(1, sparse.operators().get("QuantizeLinear"));
    assertEquals(1, sparse.operators().get("DequantizeLinear"));
    assertEquals(2, sparse.operators().get("Cast"), "around MaxPool");
    Rewritten dense = rewrite(model, false, Ort.Tensor.random(2, 3, 9, 7));
    assertFalse(dense.operators().containsKey("Cast"));
  }

  @Test
  void paddingWithZerosIsExactWhateverTheZeroPoint() {
    // Without Relu the zero point is not 0.
    OnnxModel model =
        convolution("c1")
            .longs("pads", 0, 0, 1, 1, 0, 0, 1, 1)
            .floats("zero", new long[0], 0)
            .random("w2", 4, 8, 3, 3)
            .node("Pad", List.of("c1", "pads", "zero"), List.of("p"))
            .node("last", "Conv", List.of("p", "w2"), List.of("y"))
            .model();
    check(rounded(model), 3, 2, 3, 9, 7);
    OnnxModel ones =
        convolution("c1")
            .longs("pads", 0, 0, 1, 1, 0, 0, 1, 1)
            .floats("one", new long[0], 1)
            .random("w2", 4, 8, 3, 3)
            .node("Pad", List.of("c1", "pads", "one"), List.of("p"))
            .node("last", "Conv", List.of("p", "w2"), List.of("y"))
            .model();
    assertEquals(2, check(rounded(ones), 3, 2, 3, 9, 7).operators().get("QuantizeLinear"));
  }

  @Test
  void whatIsReadAsFloatsIsDequantizedOnce() {
    OnnxModel model =
        convolution("c1")
            .output("z", -1, -1, -1, -1)
            .random("w2", 8, 8, 1, 1)
            .node("Relu", List.of("c1"), List.of("r1"))
            .node("Sigmoid", List.of("r1"), List.of("s"))
            .node("Mul", List.of("r1", "s"), List.of("z"))
            .node("second", "Conv", List.of("r1", "w2"), List.of("y"))
            .model();
    Rewritten sparse = check(rounded(model), 2, 2, 3, 9, 7);
    assertEquals(2, sparse.operators().get("DequantizeLinear"), "r1 and y");
    OnnxModel output =
        convolution("c1")
            .output("r1", -1, -1, -1, -1)
            .random("w2", 8, 8, 1, 1)
            .node("Relu", List.of("c1"), List.of("r1"))
            .node("second", "Conv", List.of("r1", "w2"), List.of("y"))
            .model();
    check(rounded(output), 2, 2, 3, 9, 7);
  }

  @Test
  void layersOfFloatsStay() {
    OnnxModel model =
        convolution("c1")
            .random("w2", 8, 8, 1, 1)
            .node("Relu", List.of("c1"), List.of("r1"))
            .node("second", "Conv", List.of("r1", "w2"), List.of("y"))
            .model();
    Rewritten sparse = check(rounded(model, "first"), 2, 2, 3, 9, 7);
    assertEquals(
        Map.of(
            "Conv",
            1,
            "Relu",
            1,
            "QuantizeLinear",
            1,
            "taco4j.SparseQLinearConv",
            1,
            "DequantizeLinear",
            1),
        sparse.operators());
    assertEquals(Map.of("first", "its weights are no 8-bit integers"), sparse.outcome().floats());
  }

  @Test
  void nothingIsDoneWhereNoLayerHasIntegers() {
    OnnxModel model = convolution("y").model();
    byte[] before = model.toBytes();
    IntegerOperators plan = IntegerOperators.plan(model, layer -> true, layer -> true);
    assertEquals(Set.of(), plan.tensors());
    assertEquals(Map.of(), plan.rewrite(model, Map.of()).rewritten());
    assertArrayEquals(before, model.toBytes());
  }

  @Test
  void groupsStridesAndDilationsAreKept() {
    OnnxModel model =
        new ModelBuilder(13)
            .input("x", 1, 8, 11, 10)
            .output("y", -1, -1, -1, -1)
            .random("w1", 8, 1, 3, 3)
            .random("w2", 12, 4, 3, 2)
            .random("b2", 12)
            .node(
                "depthwise",
                "Conv",
                List.of("x", "w1"),
                List.of("d"),
                attribute("group", 8),
                attribute("strides", new long[] {2, 1}),
                attribute("pads", new long[] {0, 1, 1, 1}))
            .node(
                "grouped",
                "Conv",
                List.of("d", "w2", "b2"),
                List.of("y"),
                attribute("group", 2),
                attribute("dilations", new long[] {1, 2}))
            .model();
    check(rounded(model), 3, 1, 8, 11, 10);
  }

  @Test
  void productsGiveBytesOnlyToLayersOfIntegers() {
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", 3, 5, 16)
            .output("y", 3, 5, 6)
            .random("w1", 16, 12)
            .random("b1", 12)
            .random("w2", 12, 6)
            .random("b2", 6)
            .node("up", "MatMul", List.of("x", "w1"), List.of("m1"))
            .node("Add", List.of("m1", "b1"), List.of("a1"))
            .node("Relu", List.of("a1"), List.of("r1"))
            .node("down", "MatMul", List.of("r1", "w2"), List.of("m2"))
            .node("Add", List.of("m2", "b2"), List.of("y"));
    Rewritten sparse = check(rounded(builder.model()), 3, 3, 5, 16);
    assertEquals(
        Map.of(
            "QuantizeLinear", 1, "taco4j.SparseQLinearMatMul", 1, "taco4j.SparseMatMulInteger", 1),
        sparse.operators());
  }

  @Test
  void productsWithFloatNeighboursTakeInWhatFollows() {
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", 3, 5, 16)
            .output("y", 3, 5, 16)
            .random("w1", 16, 12)
            .random("b1", 12)
            .random("w2", 12, 16)
            .random("b2", 16)
            .node("up", "MatMul", List.of("x", "w1"), List.of("m1"))
            .node("Add", List.of("m1", "b1"), List.of("a1"));
    ActivationPatterns.add(builder, FusedActivation.Kind.GELU, "a1", "g");
    builder
        .node("down", "MatMul", List.of("g", "w2"), List.of("m2"))
        .node("Add", List.of("b2", "m2"), List.of("a2"))
        .node("Add", List.of("x", "a2"), List.of("y"));
    Rewritten sparse = check(rounded(builder.model()), 3, 3, 5, 16);
    assertEquals(
        Map.of(
            "QuantizeLinear",
            2,
            "taco4j.SparseMatMulIntegerGelu",
            1,
            "taco4j.SparseMatMulIntegerAdd",
            1),
        sparse.operators());
  }

  @Test
  void gemmOfAnyLayout() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 4, 10)
            .output("y", 4, 7)
            .random("w1", 9, 10)
            .random("b1", 9)
            .random("w2", 9, 7)
            .random("b2", 7)
            .node(
                "one",
                "Gemm",
                List.of("x", "w1", "b1"),
                List.of("g1"),
                attribute("transB", 1),
                attribute("beta", 0.5f))
            .node("two", "Gemm", List.of("g1", "w2", "b2"), List.of("y"))
            .model();
    check(rounded(model), 3, 4, 10);
    OnnxModel alpha =
        new ModelBuilder(17)
            .input("x", 4, 10)
            .output("y", 4, 9)
            .random("w1", 10, 9)
            .node("one", "Gemm", List.of("x", "w1"), List.of("y"), attribute("alpha", 2f))
            .model();
    assertEquals(Set.of("one"), check(rounded(alpha), 0, 4, 10).outcome().floats().keySet());
  }

  @Test
  void biasesThatDoNotFitMakeStepsCoarser() {
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", 1, 4, 3, 3)
            .output("y", 1, 3, 3, 3)
            .floats(
                "w", new long[] {3, 4, 1, 1}, 0, 0, 0, 0, 1e-9f, -2e-9f, 0, 1e-9f, 1, 2, -1, 0.5f)
            .floats("b", new long[] {3}, 1e3f, -1e4f, 2)
            .node("conv", "Conv", List.of("x", "w", "b"), List.of("y"));
    OnnxModel model = rounded(builder.model());
    Rewritten sparse = check(model, 1, 1, 4, 3, 3);
    // Four are zero, and next to a bias of -1e4 weights of 1e-9 are, too.
    assertEquals(8, IntegerOperators.zeros(sparse.model()).get("conv"));
  }

  @Test
  void channelsWithAStepOfZeroAreZeros() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 1, 4, 3, 3)
            .output("y", 1, 3, 3, 3)
            .initializer(
                TensorProto.newBuilder()
                    .setName("codes")
                    .setDataType(TensorProto.DataType.INT8_VALUE)
                    .addAllDims(List.of(3L, 4L, 1L, 1L))
                    .setRawData(
                        ByteString.copyFrom(new byte[] {5, -7, 127, 1, 3, 0, 9, -128, 1, 2, 3, 4}))
                    .build())
            .floats("scales", new long[] {3}, 0.01f, 0, 0.5f)
            .floats("b", new long[] {3}, 1, -2, 0.5f)
            .node(
                "DequantizeLinear", List.of("codes", "scales"), List.of("w"), attribute("axis", 0))
            .node("conv", "Conv", List.of("x", "w", "b"), List.of("y"))
            .model();
    Rewritten sparse = check(model, 1, 1, 4, 3, 3);
    assertEquals(4, IntegerOperators.zeros(sparse.model()).get("conv"));
  }

  @Test
  void tensorsOfZerosBecomeNoIntegers() {
    OnnxModel model =
        rounded(
            convolution("c1")
                .random("w2", 8, 8, 1, 1)
                .random("w3", 4, 8, 1, 1)
                .node("Relu", List.of("c1"), List.of("r1"))
                .node("second", "Conv", List.of("r1", "w2"), List.of("c2"))
                .node("Relu", List.of("c2"), List.of("r2"))
                .node("third", "Conv", List.of("r2", "w3"), List.of("y"))
                .model());
    for (boolean sparse : new boolean[] {false, true}) {
      IntegerOperators plan =
          IntegerOperators.plan(model, layer -> true, layer -> sparse, Set.of("r2"));
      assertEquals(Set.of("x", "r1"), plan.tensors());
      OnnxModel work = model.copy();
      IntegerOperators.Outcome outcome =
          plan.rewrite(work, ranges(model, plan.tensors(), Ort.Tensor.random(2, 3, 9, 7)));
      assertEquals(Set.of("first"), outcome.rewritten().keySet());
      assertEquals(List.of("second", "third"), List.copyOf(outcome.floats().keySet()));
      assertTrue(outcome.floats().get("third").contains("'r2' is 0"), outcome.toString());
      assertEquals(1, work.operatorCounts().get("Relu"), "that of r2 cuts floats");
    }
  }

  @Test
  void sumsOfZerosBecomeNoIntegers() {
    OnnxModel model =
        rounded(
            convolution("c1")
                .random("w2", 8, 8, 1, 1)
                .random("w3", 4, 8, 1, 1)
                .node("second", "Conv", List.of("c1", "w2"), List.of("c2"))
                .node("Add", List.of("c1", "c2"), List.of("sum"))
                .node("Relu", List.of("sum"), List.of("r"))
                .node("third", "Conv", List.of("r", "w3"), List.of("y"))
                .model());
    IntegerOperators plan =
        IntegerOperators.plan(model, layer -> true, layer -> false, Set.of("r"));
    assertEquals(Set.of("x", "c1", "c2"), plan.tensors());
  }

  @Test
  void zerosAreCountedInWhatIsWritten() {
    OnnxModel model =
        convolution("c1")
            .random("w2", 8, 8, 1, 1)
            .node("Relu", List.of("c1"), List.of("r1"))
            .node("second", "Conv", List.of("r1", "w2"), List.of("y"))
            .model();
    Layer second = LayerDiscovery.find(model, "second");
    float[][] weights = LayerWeights.unfold(model, second);
    for (int row = 0; row < 8; row++) {
      for (int i = 4 * (row % 2); i < 4 * (row % 2) + 4; i++) {
        weights[0][8 * row + i] = 0;
      }
    }
    LayerWeights.fold(model, second, weights);
    rounded(model);
    assertTrue(IntegerOperators.sparserThan(model, 0.5).test(second));
    assertFalse(IntegerOperators.sparserThan(model, 0.51).test(second));
    for (boolean sparse : new boolean[] {false, true}) {
      Rewritten rewritten = rewrite(model, sparse, Ort.Tensor.random(2, 3, 9, 7));
      assertEquals(32, IntegerOperators.zeros(rewritten.model()).get("second"));
    }
  }

  @Test
  void theGridsAreThoseOfTheRanges() {
    OnnxModel model = rounded(convolution("c1").node("Relu", List.of("c1"), List.of("y")).model());
    Ort.Tensor input = Ort.Tensor.random(2, 3, 9, 7);
    IntegerOperators plan = IntegerOperators.plan(model, layer -> true, layer -> true);
    assertEquals(List.of("x", "y"), List.copyOf(plan.tensors()));
    Map<String, ActivationRange> ranges = ranges(model, plan.tensors(), input);
    OnnxModel work = model.copy();
    plan.rewrite(work, ranges);
    NodeProto conv =
        work.index().graph().getNodeList().stream()
            .filter(node -> node.getDomain().equals("taco4j"))
            .findFirst()
            .orElseThrow();
    TensorProto scale = work.index().stored(conv.getInput(1));
    TensorProto zeroPoint = work.index().stored(conv.getInput(2));
    assertEquals(List.of(), scale.getDimsList());
    assertEquals(ranges.get("x").scale(), TensorData.floats(scale)[0]);
    assertEquals(TensorProto.DataType.UINT8_VALUE, zeroPoint.getDataType());
    assertEquals(ranges.get("x").zeroPoint(), Byte.toUnsignedInt(zeroPoint.getRawData().byteAt(0)));
    assertEquals(0, work.index().stored(conv.getInput(7)).getRawData().byteAt(0), "Relu");
  }

  @Test
  void oldModelsAreRefused() {
    OnnxModel model =
        new ModelBuilder(12)
            .input("x", 1, 4, 3, 3)
            .output("y", 1, 3, 3, 3)
            .random("w", 3, 4, 1, 1)
            .node("Conv", List.of("x", "w"), List.of("y"))
            .model();
    TacoException e =
        assertThrows(
            TacoException.class, () -> IntegerOperators.plan(model, layer -> true, layer -> true));
    assertEquals(TacoException.Kind.MODEL, e.kind());
  }
}
