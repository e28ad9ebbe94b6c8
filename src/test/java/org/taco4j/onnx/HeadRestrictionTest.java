package org.taco4j.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.TacoException;

class HeadRestrictionTest {
  private static final int CLASSES = 9;
  private static final List<Integer> KEEP = List.of(7, 0, 4);

  /** Features [2, 5] into a Gemm with 9 classes, h. */
  private static ModelBuilder linear(int opset) {
    return new ModelBuilder(opset)
        .input("x", 2, 5)
        .random("w", CLASSES, 5)
        .random("b", CLASSES)
        .node("fc", "Gemm", List.of("x", "w", "b"), List.of("h"), attribute("transB", 1));
  }

  /** An image [2, 3, 6, 6] into a 1x1 convolution with 9 classes, h. */
  private static ModelBuilder convolutional(int opset) {
    return new ModelBuilder(opset)
        .input("x", 2, 3, 6, 6)
        .random("w", CLASSES, 3, 1, 1)
        .random("b", CLASSES)
        .node("conv", "Conv", List.of("x", "w", "b"), List.of("h"));
  }

  /** The restricted model gives the kept entries of the last axis of what the whole one gives. */
  private static void check(ModelBuilder builder) {
    check(builder.model());
  }

  private static OnnxModel check(OnnxModel model) {
    List<Long> shape = model.inputs().getFirst().shape();
    Ort.Tensor input = Ort.Tensor.random(shape.stream().mapToLong(Long::longValue).toArray());
    String output = model.outputs().getFirst().name();
    assertEquals(CLASSES, HeadRestriction.classes(model));
    Ort.Tensor all = Ort.run(model, input).get(output);
    HeadRestriction.restrict(model, KEEP);
    assertEquals(KEEP.size(), HeadRestriction.classes(model));
    Ort.Tensor some = Ort.run(model, input).get(output);
    int axis = 0;
    while (all.shape()[axis] != CLASSES) {
      axis++;
    }
    long[] expectedShape = all.shape().clone();
    expectedShape[axis] = KEEP.size();
    assertArrayEquals(expectedShape, some.shape());
    int inner = 1;
    for (int i = axis + 1; i < all.shape().length; i++) {
      inner *= (int) all.shape()[i];
    }
    for (int i = 0; i < some.values().length; i++) {
      int row = i / inner / KEEP.size();
      int c = KEEP.get(i / inner % KEEP.size());
      // Sums of five products in another order.
      assertEquals(all.values()[(row * CLASSES + c) * inner + i % inner], some.values()[i], 1e-5f);
    }
    return model;
  }

  private static String refusal(ModelBuilder builder) {
    OnnxModel model = builder.model();
    byte[] bytes = model.toBytes();
    TacoException e =
        assertThrows(TacoException.class, () -> HeadRestriction.restrict(model, KEEP));
    assertEquals(TacoException.Kind.MODEL, e.kind());
    assertTrue(e.getMessage().contains(model.source()), e.getMessage());
    assertArrayEquals(bytes, model.toBytes(), "a refused model is unchanged");
    return e.getMessage();
  }

  @Test
  void gemm() {
    OnnxModel model =
        check(
            linear(17)
                .output("y", 2, CLASSES)
                .valueInfo("h", 2, CLASSES)
                .node("Identity", List.of("h"), List.of("y"))
                .model());
    assertEquals(List.of(2L, 3L), model.outputs().getFirst().shape());
    assertEquals(null, model.index().info("h"));
  }

  @ParameterizedTest
  @CsvSource({"0, 1", "1, 1", "0, 0", "1, 0"})
  void formsOfGemm(int transB, int right) {
    long[] rowsFirst = {CLASSES, 5};
    long[] rowsLast = {5, CLASSES};
    ModelBuilder builder = new ModelBuilder(17);
    if (right == 1) {
      builder
          .input("x", 2, 5)
          .output("y", 2, CLASSES)
          .random("w", transB == 1 ? rowsFirst : rowsLast)
          .random("c", 1, CLASSES)
          .node("Gemm", List.of("x", "w", "c"), List.of("y"), attribute("transB", transB));
    } else {
      builder
          .input("x", 5, 2)
          .output("y", CLASSES, 2)
          .random("w", transB == 1 ? rowsLast : rowsFirst)
          .random("c", CLASSES, 1)
          .node("Gemm", List.of("w", "x", "c"), List.of("h"), attribute("transA", transB))
          .node("Transpose", List.of("h"), List.of("t"), attribute("perm", new long[] {1, 0}))
          .output("t", 2, CLASSES)
          .node("Transpose", List.of("t"), List.of("y"));
      // The first output is [9, 2]: its last axis is not the classes.
      OnnxModel model = builder.model();
      HeadRestriction.restrict(model, KEEP);
      assertEquals(List.of(3L, 2L), model.outputs().get(0).shape());
      assertEquals(List.of(2L, 3L), model.outputs().get(1).shape());
      Ort.run(model, Ort.Tensor.random(5, 2));
      return;
    }
    check(builder);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"Softmax", "LogSoftmax", "Sigmoid", "Relu", "Identity", "Neg", "HardSigmoid"})
  void activations(String operator) {
    for (int opset : new int[] {7, 11, 13, 17}) {
      ModelBuilder builder =
          linear(opset).output("y", 2, CLASSES).node(operator, List.of("h"), List.of("y"));
      if (!operator.endsWith("oftmax")) {
        check(builder);
        continue;
      }
      // Softmax normalises over the kept classes: their probabilities keep their ratios.
      OnnxModel model = builder.model();
      Ort.Tensor input = Ort.Tensor.random(2, 5);
      float[] all = Ort.run(model, input).get("y").values();
      HeadRestriction.restrict(model, KEEP);
      float[] some = Ort.run(model, input).get("y").values();
      for (int row = 0; row < 2; row++) {
        double[] exp = new double[3];
        double sum = 0;
        for (int i = 0; i < 3; i++) {
          float value = all[row * CLASSES + KEEP.get(i)];
          exp[i] = operator.equals("Softmax") ? value : Math.exp(value);
          sum += exp[i];
        }
        for (int i = 0; i < 3; i++) {
          double expected = operator.equals("Softmax") ? exp[i] / sum : Math.log(exp[i] / sum);
          assertEquals(expected, some[row * 3 + i], 1e-5);
        }
      }
    }
  }

  @Test
  void constantsAlongTheClasses() {
    check(
        linear(17)
            .output("y", 2, CLASSES)
            .random("offset", CLASSES)
            .random("stored", CLASSES, 1)
            .positive("temperature", 1)
            .floats("low", new long[0], -1)
            .node("Add", List.of("offset", "h"), List.of("a"))
            .node("Transpose", List.of("stored"), List.of("factor"))
            .node("Mul", List.of("a", "factor"), List.of("m"))
            .node("Div", List.of("m", "temperature"), List.of("d"))
            .node("Clip", List.of("d", "low"), List.of("y")));
  }

  @Test
  void batchNormBehindTheHead() {
    check(
        linear(17)
            .output("y", 2, CLASSES)
            .random("scale", CLASSES)
            .random("shift", CLASSES)
            .random("mean", CLASSES)
            .positive("variance", CLASSES)
            .node(
                "BatchNormalization",
                List.of("h", "scale", "shift", "mean", "variance"),
                List.of("y")));
  }

  @Test
  void sharedConstantsAreCopied() {
    OnnxModel model =
        check(
            linear(17)
                .output("y", 2, CLASSES)
                .output("z", CLASSES)
                .node("Neg", List.of("b"), List.of("z"))
                .node("Add", List.of("h", "b"), List.of("y"))
                .model());
    assertEquals(List.of((long) CLASSES), model.outputs().get(1).shape());
  }

  @Test
  void logitsAndProbabilities() {
    // The logits are on the way to the first output, and an output themselves.
    OnnxModel model =
        linear(17)
            .output("p", 2, CLASSES)
            .output("h", 2, CLASSES)
            .node("Softmax", List.of("h"), List.of("p"))
            .model();
    HeadRestriction.restrict(model, KEEP);
    assertEquals(List.of(2L, 3L), model.outputs().get(0).shape());
    assertEquals(List.of(2L, 3L), model.outputs().get(1).shape());
    Ort.run(model, Ort.Tensor.random(2, 5));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "flatten",
        "reshape -1",
        "reshape classes",
        "reshape zero",
        "squeeze axes",
        "squeeze",
        "mean",
        "max",
        "relu first",
        "average pool"
      })
  void convolution(String tail) {
    for (int opset : new int[] {11, 13, 18}) {
      ModelBuilder builder = convolutional(opset).output("y", 2, CLASSES);
      String pooled = tail.equals("max") ? "GlobalMaxPool" : "GlobalAveragePool";
      switch (tail) {
        case "mean" -> {
          if (opset < 18) {
            builder.node(
                "ReduceMean",
                List.of("h"),
                List.of("y"),
                attribute("axes", new long[] {2, 3}),
                attribute("keepdims", 0));
          } else {
            builder
                .longs("axes", -1, -2)
                .node("ReduceMean", List.of("h", "axes"), List.of("y"), attribute("keepdims", 0));
          }
          check(builder);
          continue;
        }
        case "relu first" ->
            builder
                .node("Relu", List.of("h"), List.of("r"))
                .node(pooled, List.of("r"), List.of("p"));
        case "average pool" ->
            builder.node(
                "AveragePool",
                List.of("h"),
                List.of("p"),
                attribute("kernel_shape", new long[] {6, 6}));
        default -> builder.node(pooled, List.of("h"), List.of("p"));
      }
      switch (tail) {
        case "reshape -1" ->
            builder.longs("s", 2, -1).node("Reshape", List.of("p", "s"), List.of("y"));
        case "reshape classes" ->
            builder.longs("s", -1, CLASSES).node("Reshape", List.of("p", "s"), List.of("y"));
        case "reshape zero" ->
            builder.longs("s", 0, 0).node("Reshape", List.of("p", "s"), List.of("y"));
        case "squeeze axes" -> {
          if (opset < 13) {
            builder.node(
                "Squeeze", List.of("p"), List.of("y"), attribute("axes", new long[] {2, -1}));
          } else {
            builder.longs("s", 2, -1).node("Squeeze", List.of("p", "s"), List.of("y"));
          }
        }
        case "squeeze" ->
            builder.valueInfo("p", 2, CLASSES, 1, 1).node("Squeeze", List.of("p"), List.of("y"));
        default -> builder.node("Flatten", List.of("p"), List.of("y"));
      }
      check(builder);
    }
  }

  @Test
  void reshapeToTheBatchSizeAtRunTime() {
    // x.view(x.size(0), -1) and x.view(x.size(0), 9), as PyTorch exports them.
    for (long last : new long[] {-1, CLASSES}) {
      check(
          convolutional(17)
              .output("y", 2, CLASSES)
              .longs("last", last)
              .longs("axes", 0)
              .initializer(
                  ModelBuilder.tensor("", new long[0]).toBuilder()
                      .setName("first")
                      .setDataType(7)
                      .clearRawData()
                      .addInt64Data(0)
                      .build())
              .node("GlobalAveragePool", List.of("h"), List.of("p"))
              .node("Shape", List.of("p"), List.of("s"))
              .node("Gather", List.of("s", "first"), List.of("n"))
              .node("Unsqueeze", List.of("n", "axes"), List.of("n1"))
              .node("Concat", List.of("n1", "last"), List.of("t"), attribute("axis", 0))
              .node("Reshape", List.of("p", "t"), List.of("y")));
    }
  }

  @Test
  void sharedReshapeShape() {
    OnnxModel model =
        convolutional(17)
            .output("y", 2, CLASSES)
            .output("z", 1)
            .longs("s", 2, CLASSES)
            .node("GlobalAveragePool", List.of("h"), List.of("p"))
            .node("Reshape", List.of("p", "s"), List.of("y"))
            .random("other", CLASSES, 2)
            .node("Reshape", List.of("other", "s"), List.of("o"))
            .node("ReduceMean", List.of("o"), List.of("z"), attribute("keepdims", 0))
            .model();
    check(model);
  }

  @Test
  void convolutionWithFourAxesOut() {
    check(
        convolutional(17)
            .output("y", 2, CLASSES, 1, 1)
            .node("GlobalAveragePool", List.of("h"), List.of("y")));
  }

  @Test
  void channelsLast() {
    check(
        convolutional(17)
            .output("y", 2, CLASSES)
            .node(
                "Transpose", List.of("h"), List.of("t"), attribute("perm", new long[] {0, 2, 3, 1}))
            .node(
                "ReduceMean",
                List.of("t"),
                List.of("y"),
                attribute("axes", new long[] {1, 2}),
                attribute("keepdims", 0)));
  }

  @Test
  void matMulOfUnknownRank() {
    check(
        new ModelBuilder(17)
            .input("x", 2, 5)
            .outputOfUnknownRank("y")
            .random("stored", CLASSES, 5)
            .random("b", 1, CLASSES)
            .node("Transpose", List.of("stored"), List.of("w"))
            .node("Relu", List.of("x"), List.of("r"))
            .node("MatMul", List.of("r", "w"), List.of("h"))
            .node("Add", List.of("b", "h"), List.of("a"))
            .node("Sigmoid", List.of("a"), List.of("y")));
  }

  @Test
  void whatStandsInTheWayIsNamed() {
    assertTrue(
        refusal(
                linear(17)
                    .output("y", 2, 2 * CLASSES)
                    .node(
                        "joined", "Concat", List.of("h", "h"), List.of("y"), attribute("axis", 1)))
            .contains("Concat node 'joined'"));
    assertTrue(
        refusal(
                linear(17)
                    .output("y", 2, CLASSES)
                    .output("z", 2, 1)
                    .node("Relu", List.of("h"), List.of("y"))
                    .node(
                        "second",
                        "ReduceMax",
                        List.of("h"),
                        List.of("z"),
                        attribute("axes", new long[] {1})))
            .contains("ReduceMax node 'second' also reads 'h'"));
    assertTrue(
        refusal(
                linear(17)
                    .output("y", 2, 1)
                    .node("top", "ArgMax", List.of("h"), List.of("y"), attribute("axis", 1)))
            .contains("'top'"));
    assertTrue(
        refusal(
                linear(17)
                    .output("y", 2, CLASSES)
                    .node("both", "Mul", List.of("h", "h"), List.of("y")))
            .contains("'both'"));
    assertTrue(
        refusal(
                linear(17)
                    .output("y", 1, 2 * CLASSES)
                    .longs("s", 1, 2 * CLASSES)
                    .node("mix", "Reshape", List.of("h", "s"), List.of("y")))
            .contains("'mix'"));
    assertTrue(
        refusal(
                convolutional(17)
                    .output("y", 2, 36 * CLASSES)
                    .node("flat", "Flatten", List.of("h"), List.of("y")))
            .contains("'flat'"));
    assertTrue(
        refusal(
                new ModelBuilder(17)
                    .input("x", 2, 5)
                    .output("y", 2, 5)
                    .node("Relu", List.of("x"), List.of("y")))
            .contains("no Gemm, MatMul or Conv"));
    assertTrue(refusal(linear(17).output("h", 2, CLASSES + 1)).contains("declared as [2, 10]"));
  }

  @Test
  void badClasses() {
    OnnxModel model = linear(17).output("h", 2, CLASSES).model();
    for (List<Integer> classes :
        List.of(List.of(9), List.of(-1), List.of(1, 1), List.<Integer>of())) {
      TacoException e =
          assertThrows(TacoException.class, () -> HeadRestriction.restrict(model, classes));
      assertEquals(TacoException.Kind.DATA, e.kind());
    }
    assertEquals(Map.of("Gemm", 1), model.operatorCounts());
  }

  @Test
  void initializersThatAreInputsToo() {
    OnnxModel model =
        check(
            linear(8)
                .irVersion(3)
                .input("w", CLASSES, 5)
                .input("b", CLASSES)
                .output("h", 2, CLASSES)
                .model());
    assertArrayEquals(new long[] {3, 5}, model.index().shape("w"));
  }
}
