package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnx.proto.OnnxMl.TensorProto;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;
import org.taco4j.onnx.TensorData;

/** The rewrite itself; results here are those of the dense functions, without the library. */
class SparseOperatorsTest {
  @TempDir Path folder;

  /** x [1, 4, 8, 8] through one convolution to "c"; what follows is the test's. */
  private static ModelBuilder convolution(int opset) {
    return new ModelBuilder(opset)
        .input("x", 1, 4, 8, 8)
        .output("y", 1, 4, 8, 8)
        .random("w", 4, 4, 3, 3)
        .random("b", 4)
        .node(
            "conv",
            "Conv",
            List.of("x", "w", "b"),
            List.of("c"),
            attribute("pads", new long[] {1, 1, 1, 1}));
  }

  /** Rewrites, and checks that the written file computes what the model did. */
  private SparseOperators.Outcome rewrite(OnnxModel model) {
    Ort.Tensor input = Ort.Tensor.random(1, 4, 8, 8);
    Map<String, Ort.Tensor> expected = Ort.run(model, input);
    SparseOperators.Outcome outcome = SparseOperators.rewrite(model, layer -> true);
    Path file = folder.resolve("rewritten.onnx");
    model.write(file);
    // Values up to about 20; sums in another order.
    Ort.assertSame(expected, Ort.run(OnnxModel.read(file), input), 1e-4f);
    return outcome;
  }

  private void assertBecomes(String operator, int nodes, ModelBuilder builder) {
    OnnxModel model = builder.model();
    assertEquals(Map.of("conv", operator), rewrite(model).rewritten());
    assertEquals(nodes, model.index().graph().getNodeCount(), model.operatorCounts().toString());
  }

  @TestFactory
  Stream<DynamicTest> activationsBecomePartOfTheOperator() {
    return Stream.of(FusedActivation.Kind.values())
        .filter(kind -> kind != FusedActivation.Kind.NONE)
        .map(
            kind ->
                DynamicTest.dynamicTest(
                    kind.name(),
                    () -> {
                      ModelBuilder builder = convolution(13);
                      ActivationPatterns.add(builder, kind, "c", "y");
                      assertBecomes("taco4j.SparseConv" + kind.suffix, 1, builder);
                    }));
  }

  @Test
  void newerOperatorsForActivationsAreKnown() {
    assertBecomes(
        "taco4j.SparseConvHardSwish",
        1,
        convolution(14).node("HardSwish", List.of("c"), List.of("y")));
    assertBecomes(
        "taco4j.SparseConvGelu", 1, convolution(20).node("Gelu", List.of("c"), List.of("y")));
    assertBecomes(
        "taco4j.SparseConv",
        2,
        convolution(20).node("Gelu", List.of("c"), List.of("y"), attribute("approximate", "tanh")));
  }

  @Test
  void theOtherOrderOfGeluIsKnown() {
    assertBecomes(
        "taco4j.SparseConvGelu",
        1,
        convolution(13)
            .floats("root", new long[0], 0.70710677f)
            .floats("one", new long[0], 1)
            .floats("half", new long[0], 0.5f)
            .node("Mul", List.of("c", "root"), List.of("scaled"))
            .node("Erf", List.of("scaled"), List.of("erf"))
            .node("Add", List.of("one", "erf"), List.of("sum"))
            .node("Mul", List.of("c", "half"), List.of("halved"))
            .node("Mul", List.of("halved", "sum"), List.of("y")));
  }

  @Test
  void hardSwishWrittenOutIsKnown() {
    assertBecomes(
        "taco4j.SparseConvHardSwish",
        1,
        hardSwishConstants()
            .node("Mul", List.of("c", "sixth"), List.of("scaled"))
            .node("Add", List.of("scaled", "half"), List.of("moved"))
            .node("Min", List.of("moved", "one"), List.of("below"))
            .node("Relu", List.of("below"), List.of("gate"))
            .node("Mul", List.of("c", "gate"), List.of("y")));
    assertBecomes(
        "taco4j.SparseConvHardSwish",
        1,
        hardSwishConstants()
            .node("Add", List.of("c", "three"), List.of("moved"))
            .node("Clip", List.of("moved", "zero", "six"), List.of("cut"))
            .node("Mul", List.of("c", "cut"), List.of("product"))
            .node("Div", List.of("product", "six"), List.of("y")));
    assertBecomes(
        "taco4j.SparseConvHardSwish",
        1,
        hardSwishConstants()
            .node("Add", List.of("c", "three"), List.of("moved"))
            .node("Relu", List.of("moved"), List.of("above"))
            .node("Min", List.of("above", "six"), List.of("cut"))
            .node("Div", List.of("cut", "six"), List.of("gate"))
            .node("Mul", List.of("gate", "c"), List.of("y")));
    // Not divided by 6 in the end; cut at another place.
    assertBecomes(
        "taco4j.SparseConv",
        4,
        hardSwishConstants()
            .node("Add", List.of("c", "three"), List.of("moved"))
            .node("Clip", List.of("moved", "zero", "six"), List.of("cut"))
            .node("Mul", List.of("c", "cut"), List.of("y")));
    assertBecomes(
        "taco4j.SparseConv",
        6,
        hardSwishConstants()
            .node("Mul", List.of("c", "sixth"), List.of("scaled"))
            .node("Add", List.of("scaled", "half"), List.of("moved"))
            .node("Min", List.of("moved", "six"), List.of("below"))
            .node("Relu", List.of("below"), List.of("gate"))
            .node("Mul", List.of("c", "gate"), List.of("y")));
  }

  private static ModelBuilder hardSwishConstants() {
    return convolution(13)
        .floats("zero", new long[0], 0)
        .floats("sixth", new long[] {1, 1, 1, 1}, 1f / 6)
        .floats("half", new long[0], 0.5f)
        .floats("one", new long[0], 1)
        .floats("three", new long[0], 3)
        .floats("six", new long[0], 6);
  }

  @Test
  void similarFunctionsAreNotTakenForActivations() {
    assertBecomes(
        "taco4j.SparseConv",
        3,
        convolution(13)
            .node("HardSigmoid", List.of("c"), List.of("gate")) // alpha is 0.2
            .node("Mul", List.of("c", "gate"), List.of("y")));
    assertBecomes(
        "taco4j.SparseConv",
        3,
        convolution(13)
            .node("Sigmoid", List.of("c"), List.of("gate"))
            .node("Mul", List.of("gate", "gate"), List.of("y")));
    // The bound is computed.
    assertBecomes(
        "taco4j.SparseConv",
        3,
        convolution(13)
            .node("ReduceMean", List.of("x"), List.of("mean"), attribute("keepdims", 0))
            .node("Clip", List.of("c", "mean"), List.of("y")));
  }

  @Test
  void clipIsWrittenInTheFormOfTheOpset() {
    assertBecomes(
        "taco4j.SparseConvClip",
        1,
        convolution(9)
            .node("Clip", List.of("c"), List.of("y"), attribute("min", 0f), attribute("max", 6f)));
    // Opset 11 has no way to turn an attribute of a function into an input.
    assertBecomes(
        "taco4j.SparseConv",
        2,
        convolution(11)
            .floats("least", new long[0], 0)
            .node("Clip", List.of("c", "least"), List.of("y")));
    // No upper bound.
    assertBecomes(
        "taco4j.SparseConvClip",
        1,
        convolution(12)
            .floats("least", new long[0], 0)
            .node("Clip", List.of("c", "least"), List.of("y")));
  }

  @Test
  void whatIsReadElsewhereStays() {
    OnnxModel twice =
        convolution(13)
            .output("z", 1, 4, 8, 8)
            .node("Relu", List.of("c"), List.of("y"))
            .node("Neg", List.of("c"), List.of("z"))
            .model();
    assertEquals(Map.of("conv", "taco4j.SparseConv"), rewrite(twice).rewritten());
    OnnxModel output =
        convolution(13).output("c", 1, 4, 8, 8).node("Relu", List.of("c"), List.of("y")).model();
    assertEquals(Map.of("conv", "taco4j.SparseConv"), rewrite(output).rewritten());
  }

  @Test
  void theAdditionGoesToTheFirstOfTwoConvolutions() {
    // The shortcut is computed after the convolution that takes the addition in.
    OnnxModel model =
        convolution(13)
            .valueInfo("c", 1, 4, 8, 8)
            .valueInfo("s", 1, 4, 8, 8)
            .random("v", 4, 4, 1, 1)
            .node("shortcut", "Conv", List.of("x", "v"), List.of("s"))
            .node("Add", List.of("c", "s"), List.of("sum"))
            .node("Relu", List.of("sum"), List.of("y"))
            .model();
    assertEquals(
        Map.of("conv", "taco4j.SparseConvAddRelu", "shortcut", "taco4j.SparseConv"),
        rewrite(model).rewritten());
    assertEquals(2, model.index().graph().getNodeCount());
    assertEquals(
        List.of("s"),
        model.index().graph().getValueInfoList().stream().map(info -> info.getName()).toList());
  }

  /** Two ways from x to an addition, each ending in a convolution; the first one is "conv". */
  private static ModelBuilder twoWays(long batch, long size) {
    return new ModelBuilder(13)
        .input("x", batch, 4, size, size)
        .output("y", -1, -1, -1, -1)
        .random("w", 4, 4, 3, 3)
        .random("v", 4, 4, 1, 1);
  }

  @Test
  void anAdditionThatRepeatsTheConvolutionStays() {
    // Of 8 pixels the pool leaves 1, which the addition repeats; of 15 it would leave 8.
    OnnxModel repeated =
        twoWays(-1, -1)
            .node(
                "AveragePool",
                List.of("x"),
                List.of("p"),
                attribute("kernel_shape", new long[] {8, 8}))
            .node("conv", "Conv", List.of("p", "v"), List.of("c"))
            .node("shortcut", "Conv", List.of("x", "v"), List.of("s"))
            .node("Add", List.of("c", "s"), List.of("y"))
            .model();
    // The shortcut must not take the pooled one in either: the operator would repeat it.
    assertEquals(
        Map.of("conv", "taco4j.SparseConv", "shortcut", "taco4j.SparseConv"),
        rewrite(repeated).rewritten());
    OnnxModel known =
        twoWays(-1, 8)
            .node("GlobalAveragePool", List.of("x"), List.of("p"))
            .node("conv", "Conv", List.of("p", "v"), List.of("c"))
            .node("Add", List.of("x", "c"), List.of("y"))
            .model();
    assertEquals(Map.of("conv", "taco4j.SparseConv"), rewrite(known).rewritten());
  }

  @Test
  void anAdditionOfEqualShapesIsFusedThoughTheyAreUnknown() {
    // 3x3 with padding and 1x1 leave as much, whatever the size; nothing declares it.
    OnnxModel strided =
        twoWays(-1, -1)
            .node(
                "conv",
                "Conv",
                List.of("x", "w"),
                List.of("c"),
                attribute("pads", new long[] {1, 1, 1, 1}),
                attribute("strides", new long[] {2, 2}))
            .node(
                "shortcut",
                "Conv",
                List.of("x", "v"),
                List.of("s"),
                attribute("strides", new long[] {2, 2}))
            .node("Relu", List.of("s"), List.of("r"))
            .node("Add", List.of("c", "r"), List.of("y"))
            .model();
    assertEquals(
        Map.of("conv", "taco4j.SparseConvAdd", "shortcut", "taco4j.SparseConvRelu"),
        rewrite(strided).rewritten());
    OnnxModel cut =
        twoWays(-1, 8)
            .node("conv", "Conv", List.of("x", "w"), List.of("c"))
            .node("shortcut", "Conv", List.of("x", "w"), List.of("s"))
            .node("Sigmoid", List.of("s"), List.of("r"))
            .node("Sum", List.of("r", "c"), List.of("y"))
            .model();
    assertEquals("taco4j.SparseConvAdd", rewrite(cut).rewritten().get("conv"));
  }

  @TestFactory
  Stream<DynamicTest> realModelsKeepTheirAdditions() {
    return Stream.of(
            Map.entry("imagenet-mobilenetv2", 10L),
            Map.entry("cifar10-resnet56", 27L),
            Map.entry("imagenet-deit-tiny", 24L),
            Map.entry("cifar10-vit", 12L),
            Map.entry("cifar10-vit-robust", 4L),
            Map.entry("cifar100-mobilenetv3small", 6L))
        .map(
            entry ->
                DynamicTest.dynamicTest(
                    entry.getKey(),
                    () -> {
                      Path file = Path.of("../shared/real/models", entry.getKey() + ".onnx");
                      assumeTrue(Files.exists(file), file + " is not there");
                      OnnxModel model = OnnxModel.read(file);
                      long fused =
                          SparseOperators.rewrite(model, layer -> true)
                              .rewritten()
                              .values()
                              .stream()
                              .filter(name -> name.contains("Add"))
                              .count();
                      assertEquals(entry.getValue(), fused);
                    }));
  }

  @Test
  void biasesAreMadeWholeAndUnusedConstantsGo() {
    OnnxModel added =
        new ModelBuilder(13)
            .input("x", 1, 4, 8, 8)
            .output("y", 1, 4, 8, 8)
            .random("w", 4, 4, 1, 1)
            .random("b", 1, 4, 1, 1)
            .node("conv", "Conv", List.of("x", "w"), List.of("c"))
            .node("Add", List.of("c", "b"), List.of("d"))
            .node("Relu", List.of("d"), List.of("y"))
            .model();
    assertEquals(Map.of("conv", "taco4j.SparseConvRelu"), rewrite(added).rewritten());
    assertEquals(List.of("w", "conv.bias"), initializers(added));

    OnnxModel none =
        new ModelBuilder(13)
            .input("x", 1, 4, 8, 8)
            .output("y", 1, 4, 8, 8)
            .random("w", 4, 4, 1, 1)
            .node("Identity", List.of("w"), List.of("seen"))
            .node("conv", "Conv", List.of("x", "seen"), List.of("c"))
            .node("Relu", List.of("c"), List.of("y"))
            .model();
    assertEquals(Map.of("conv", "taco4j.SparseConvRelu"), rewrite(none).rewritten());
    assertTrue(initializers(none).containsAll(List.of("conv.weight", "conv.bias")));
  }

  private static List<String> initializers(OnnxModel model) {
    return model.index().graph().getInitializerList().stream().map(TensorProto::getName).toList();
  }

  @Test
  void whatHasNoOperatorStaysDenseWithAReason() {
    assertDense(
        "auto_pad",
        new ModelBuilder(13)
            .input("x", 1, 4, 8, 8)
            .output("y", 1, 4, 8, 8)
            .random("w", 4, 4, 3, 3)
            .node(
                "conv",
                "Conv",
                List.of("x", "w"),
                List.of("y"),
                attribute("auto_pad", "SAME_UPPER")));
    assertDense(
        "input of the model",
        new ModelBuilder(13)
            .input("x", 1, 4, 8, 8)
            .input("w", 4, 4, 1, 1)
            .output("y", 1, 4, 8, 8)
            .random("w", 4, 4, 1, 1)
            .node("conv", "Conv", List.of("x", "w"), List.of("y")));
    assertDense(
        "2-D",
        new ModelBuilder(13)
            .input("x", 1, 4, 8)
            .output("y", 1, 4, 8)
            .random("w", 4, 4, 1)
            .node("conv", "Conv", List.of("x", "w"), List.of("y")));
    assertDense(
        "FLOAT16",
        new ModelBuilder(13)
            .input("x", 1, 4, 8, 8)
            .output("y", 1, 4, 8, 8)
            .initializer(
                TensorData.of(
                    "w",
                    TensorProto.DataType.FLOAT16_VALUE,
                    List.of(4L, 4L, 1L, 1L),
                    new float[16]))
            .node(
                "Cast",
                List.of("x"),
                List.of("h"),
                attribute("to", TensorProto.DataType.FLOAT16_VALUE))
            .node("conv", "Conv", List.of("h", "w"), List.of("c"))
            .node(
                "Cast",
                List.of("c"),
                List.of("y"),
                attribute("to", TensorProto.DataType.FLOAT_VALUE)));
  }

  private static void assertDense(String reason, ModelBuilder builder) {
    OnnxModel model = builder.model();
    byte[] before = model.toBytes();
    SparseOperators.Outcome outcome = SparseOperators.rewrite(model, layer -> true);
    assertEquals(Map.of(), outcome.rewritten());
    assertTrue(outcome.dense().get("conv").contains(reason), outcome.toString());
    assertArrayEquals(before, model.toBytes());
  }

  @Test
  void anOldModelGetsTheFormatThatHasFunctions() {
    // Before IR 4 initializers are inputs, too; after, they would be no constants.
    OnnxModel model =
        convolution(9)
            .irVersion(3)
            .input("w", 4, 4, 3, 3)
            .input("b", 4)
            .node("Relu", List.of("c"), List.of("y"))
            .model();
    assertEquals(Map.of("conv", "taco4j.SparseConvRelu"), rewrite(model).rewritten());
    assertEquals(8, model.irVersion());
    assertEquals(1, model.index().graph().getInputCount());
  }

  @Test
  void onlyTheLayersThatAreSparseEnoughAreRewritten() {
    float[] half = new float[16];
    half[3] = 1;
    for (int i = 8; i < 16; i++) {
      half[i] = i;
    }
    OnnxModel model =
        new ModelBuilder(13)
            .input("x", 1, 4, 8, 8)
            .output("y", 1, 4, 8, 8)
            .floats("w", new long[] {4, 4, 1, 1}, half) // 7 of 16 are zero
            .random("v", 4, 4, 1, 1)
            .node("sparse", "Conv", List.of("x", "w"), List.of("c"))
            .node("dense", "Conv", List.of("c", "v"), List.of("y"))
            .model();
    OnnxModel again = model.copy();
    assertEquals(
        Map.of(),
        SparseOperators.rewrite(again, SparseOperators.sparserThan(again, 0.44)).rewritten());
    assertEquals(
        Map.of("sparse", "taco4j.SparseConv"),
        SparseOperators.rewrite(model, SparseOperators.sparserThan(model, 7 / 16.0)).rewritten());
    // A second call adds to the first.
    assertEquals(
        Map.of("dense", "taco4j.SparseConv"),
        SparseOperators.rewrite(model, layer -> true).rewritten());
    assertFalse(model.operatorCounts().containsKey("Conv"));
    Ort.run(model, Ort.Tensor.random(1, 4, 8, 8));
  }
}
