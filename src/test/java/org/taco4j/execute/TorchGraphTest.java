package org.taco4j.execute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;

/** The graph as a whole: refusals, overrides, stepping, memory, threads, dynamic shapes. */
@SuppressWarnings("try")
class TorchGraphTest {
  /** conv, relu, a reshape by the batch's size, gemm. */
  private static OnnxModel small() {
    return new ModelBuilder(17)
        .input("x", -1, 3, 8, 8)
        .random("w1", 16, 3, 3, 3)
        .random("b1", 16)
        .random("w2", 10, 1024)
        .random("b2", 10)
        .longs("first", 0)
        .longs("rest", -1)
        .node(
            "conv",
            "Conv",
            List.of("x", "w1", "b1"),
            List.of("c"),
            attribute("pads", new long[] {1, 1, 1, 1}))
        .node("relu", "Relu", List.of("c"), List.of("r"))
        .node("Shape", List.of("r"), List.of("shape"))
        .node("Gather", List.of("shape", "first"), List.of("batch"))
        .node("Concat", List.of("batch", "rest"), List.of("flatShape"), attribute("axis", 0L))
        .node("Reshape", List.of("r", "flatShape"), List.of("flat"))
        .node("gemm", "Gemm", List.of("flat", "w2", "b2"), List.of("y"), attribute("transB", 1L))
        .output("y", -1, 10)
        .model();
  }

  /** Those constants that may become parameters. */
  static Map<String, Tensor> floatConstants(TorchGraph graph) {
    Map<String, Tensor> floats = new LinkedHashMap<>(graph.constants());
    floats.values().removeIf(tensor -> !tensor.is_floating_point());
    return floats;
  }

  private static Map<String, Tensor> leaves(TorchGraph graph) {
    Map<String, Tensor> leaves = new LinkedHashMap<>();
    floatConstants(graph)
        .forEach((name, value) -> leaves.put(name, value.clone().set_requires_grad(true)));
    return leaves;
  }

  private static float[] step(TorchGraph graph, Map<String, Tensor> leaves, float[] images) {
    try (PointerScope scope = new PointerScope()) {
      Tensor x = Tensors.of(images, images.length / 192, 3, 8, 8);
      Tensor y = graph.run(leaves, Map.of("x", x), List.of("y")).get("y");
      Tensor loss = y.mul(y).mean();
      List<Tensor> gradients = Tensors.gradients(loss, new ArrayList<>(leaves.values()));
      return Tensors.floats(gradients.getFirst());
    }
  }

  @Test
  void allMissingOperatorsAreNamedBeforeAnyWork() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 1, 3)
            .node("first", "Det", List.of("x"), List.of("a"))
            .node("fine", "Relu", List.of("a"), List.of("b"))
            .node("second", "Conv", List.of("b", "b"), List.of("c"), attribute("auto_pad", "OTHER"))
            .node("third", "Relu", List.of("c"), List.of("d"), attribute("strange", 1L))
            .output("d", 1, 3)
            .model();
    TacoException e = assertThrows(TacoException.class, () -> TorchGraph.of(model));
    assertEquals(TacoException.Kind.MODEL, e.kind());
    for (String part :
        List.of(
            "3 part(s)",
            "Det node 'first': operator Det is not implemented",
            "Conv node 'second': auto_pad = OTHER",
            "Relu node 'third': attribute strange")) {
      assertTrue(e.getMessage().contains(part), e.getMessage());
    }
    assertFalse(e.getMessage().contains("fine"), e.getMessage());
  }

  @Test
  void anErrorNamesTheNodeAndTheShapes() {
    try (TorchGraph graph = TorchGraph.of(small());
        PointerScope scope = new PointerScope()) {
      Tensor x = Tensors.of(new float[4 * 7 * 8], 1, 4, 7, 8);
      TacoException e =
          assertThrows(
              TacoException.class, () -> graph.run(Map.of(), Map.of("x", x), List.of("y")));
      assertEquals(TacoException.Kind.MODEL, e.kind());
      assertTrue(e.getMessage().contains("Conv node 'conv' on x[1, 4, 7, 8], w1[16, 3, 3, 3]"));
      assertFalse(e.getMessage().contains("frame #"), e.getMessage());
      assertThrows(
          IllegalArgumentException.class, () -> graph.run(Map.of(), Map.of(), List.of("y")));
    }
  }

  @Test
  void tooLargeATensorSaysSo() {
    OnnxModel model =
        new ModelBuilder(13)
            .input("x", 1)
            .longs("sizes", 1L << 40, 1L << 20)
            .node("Expand", List.of("x", "sizes"), List.of("e"))
            .node("exp", "Exp", List.of("e"), List.of("y"))
            .outputOfUnknownRank("y")
            .model();
    try (TorchGraph graph = TorchGraph.of(model);
        PointerScope scope = new PointerScope()) {
      Map<String, Tensor> x = Map.of("x", Tensors.of(new float[1], 1));
      TacoException e =
          assertThrows(TacoException.class, () -> graph.run(Map.of(), x, List.of("y")));
      assertEquals(TacoException.Kind.RUNTIME, e.kind());
      assertTrue(e.getMessage().contains("Exp node 'exp'"), e.getMessage());
    }
  }

  @Test
  void anyBatchGivesWhatOnnxRuntimeGives() {
    OnnxModel model = small();
    try (TorchGraph graph = TorchGraph.of(model)) {
      for (int batch : new int[] {1, 3, 17}) {
        Ort.Tensor input = Ort.Tensor.random(batch, 3, 8, 8);
        try (PointerScope scope = new PointerScope()) {
          Tensor x = Tensors.of(input.values(), input.shape());
          Tensor y = graph.run(Map.of(), Map.of("x", x), List.of("y")).get("y");
          // Sums of 1024 products of numbers around 5, in another order.
          assertArrayEquals(Ort.run(model, input).get("y").values(), Tensors.floats(y), 2e-3f);
        }
      }
    }
  }

  @Test
  void overridesReplaceConstantsAndValuesInBetween() {
    float[] images = Ort.Tensor.random(2, 3, 8, 8).values();
    try (TorchGraph graph = TorchGraph.of(small());
        PointerScope scope = new PointerScope()) {
      assertEquals(Set.of("w1", "b1", "w2", "b2"), floatConstants(graph).keySet());
      assertEquals(6, graph.constants().size());
      Tensor x = Tensors.of(images, 2, 3, 8, 8);
      Tensor zeros = Tensors.of(new float[10 * 1024], 10, 1024);
      Tensor y = graph.run(Map.of("w2", zeros), Map.of("x", x), List.of("y")).get("y");
      float[] bias = Tensors.floats(graph.constants().get("b2"));
      assertArrayEquals(bias, Arrays.copyOf(Tensors.floats(y), 10));

      // Without x: what the relu gives is given.
      Tensor relu = Tensors.of(new float[2 * 1024], 2, 16, 8, 8);
      Tensor fromRelu = graph.run(Map.of("r", relu), Map.of(), List.of("y")).get("y");
      assertArrayEquals(bias, Arrays.copyOf(Tensors.floats(fromRelu), 10));
    }
  }

  @Test
  void stepsShowValues() {
    float[] images = Ort.Tensor.random(2, 3, 8, 8).values();
    try (TorchGraph graph = TorchGraph.of(small());
        PointerScope scope = new PointerScope()) {
      Tensor x = Tensors.of(images, 2, 3, 8, 8);
      List<String> names = new ArrayList<>();
      try (Execution execution = graph.start(Map.of(), Map.of("x", x), List.of("y", "c"))) {
        while (execution.hasNext()) {
          String operator = execution.next().getOpType();
          if (operator.equals("Gemm")) {
            assertThrows(NoSuchElementException.class, () -> execution.value("r"));
            assertArrayEquals(new long[] {2, 1024}, Tensors.shape(execution.value("flat")));
          }
          names.add(operator);
          execution.step();
        }
        assertEquals(
            List.of("Conv", "Relu", "Shape", "Gather", "Concat", "Reshape", "Gemm"), names);
        Map<String, Tensor> results = execution.results();
        Tensor relu = results.get("c").relu().reshape(2, 1024);
        Tensor expected =
            relu.matmul(graph.constants().get("w2").transpose(0, 1))
                .add(graph.constants().get("b2"));
        // Sums of 1024 products of numbers around 5, in another order.
        assertArrayEquals(Tensors.floats(expected), Tensors.floats(results.get("y")), 2e-3f);
      }
    }
  }

  @Test
  void onlyWhatIsWantedIsComputed() {
    try (TorchGraph graph = TorchGraph.of(small());
        PointerScope scope = new PointerScope()) {
      Tensor x = Tensors.of(new float[192], 1, 3, 8, 8);
      try (Execution execution = graph.start(Map.of(), Map.of("x", x), List.of("c"))) {
        execution.step();
        assertFalse(execution.hasNext());
      }
    }
  }

  @Test
  void aThousandStepsHoldSteady() {
    float[] images = Ort.Tensor.random(8, 3, 8, 8).values();
    try (TorchGraph graph = TorchGraph.of(small());
        PointerScope scope = new PointerScope()) {
      Map<String, Tensor> leaves = leaves(graph);
      long before = 0;
      for (int i = 0; i < 1100; i++) {
        if (i == 100) {
          before = Pointer.physicalBytes();
        }
        step(graph, leaves, images);
      }
      long grown = Pointer.physicalBytes() - before;
      // One step's values are 0.7 MB: 700 MB if they stayed. The Java heap may grow by some tens.
      assertTrue(grown < 100L << 20, grown + " bytes more");
    }
  }

  @Test
  void threadsGiveTheSameBytes() {
    int shards = 16;
    List<float[]> images = new ArrayList<>();
    for (int i = 0; i < shards; i++) {
      float[] values = Ort.Tensor.random(2, 3, 8, 8).values();
      values[0] += i;
      images.add(values);
    }
    try (TorchGraph graph = TorchGraph.of(small());
        PointerScope scope = new PointerScope();
        Workers workers = new Workers(4)) {
      Map<String, Tensor> leaves = leaves(graph);
      List<float[]> serial = images.stream().map(x -> step(graph, leaves, x)).toList();
      for (int round = 0; round < 10; round++) {
        float[][] parallel = new float[shards][];
        workers.forEach(shards, i -> parallel[i] = step(graph, leaves, images.get(i)));
        for (int i = 0; i < shards; i++) {
          assertArrayEquals(serial.get(i), parallel[i]);
        }
      }
    }
  }

  @Test
  void aClosedGraphRefusesToRun() {
    TorchGraph graph = TorchGraph.of(small());
    graph.close();
    graph.close();
    assertThrows(IllegalStateException.class, () -> graph.run(Map.of(), Map.of(), List.of("y")));
  }

  @Test
  void quantizedWeightsRunAndCanBeReplacedByName() {
    OnnxModel model =
        new ModelBuilder(13)
            .input("x", 2, 3)
            .initializer(
                TensorProto.newBuilder()
                    .setName("codes")
                    .setDataType(TensorProto.DataType.INT8_VALUE)
                    .addDims(3)
                    .addDims(2)
                    .addAllInt32Data(List.of(-127, 3, 0, 5, 7, 127))
                    .build())
            .floats("scale", new long[] {2}, 0.5f, 0.25f)
            .initializer(
                TensorProto.newBuilder()
                    .setName("zero")
                    .setDataType(TensorProto.DataType.INT8_VALUE)
                    .addDims(2)
                    .addInt32Data(0)
                    .addInt32Data(0)
                    .build())
            .node(
                "DequantizeLinear",
                List.of("codes", "scale", "zero"),
                List.of("w"),
                attribute("axis", 1L))
            .node("MatMul", List.of("x", "w"), List.of("y"))
            .output("y", 2, 2)
            .model();
    Ort.Tensor input = Ort.Tensor.random(2, 3);
    try (TorchGraph graph = TorchGraph.of(model);
        PointerScope scope = new PointerScope()) {
      Map<String, Tensor> x = Map.of("x", Tensors.of(input.values(), 2, 3));
      Tensor y = graph.run(Map.of(), x, List.of("y")).get("y");
      // Three products of numbers up to 64.
      assertArrayEquals(Ort.run(model, input).get("y").values(), Tensors.floats(y), 1e-4f);
      Tensor leaf = Tensors.of(new float[6], 3, 2).set_requires_grad(true);
      Tensor trained = graph.run(Map.of("w", leaf), x, List.of("y")).get("y");
      Tensor gradient = Tensors.gradients(trained.sum(), List.of(leaf)).getFirst();
      assertEquals(input.values()[0] + input.values()[3], Tensors.floats(gradient)[0], 1e-6f);
    }
  }

  static IntStream seeds() {
    return IntStream.range(0, 40);
  }

  @ParameterizedTest
  @MethodSource("seeds")
  void randomGraphsGiveWhatOnnxRuntimeGives(int seed) {
    Random random = new Random(seed);
    ModelBuilder builder = new ModelBuilder(17).input("v0", -1, 4, 6, 6).random("bias", 4, 1, 1);
    builder.random("point", 4, 4, 1, 1).random("depth", 4, 1, 3, 3).random("matrix", 6, 6);
    builder.longs("shape", 0, 2, -1, 3).longs("back", 0, 4, 6, 6);
    builder
        .node("Tanh", List.of("v0"), List.of("t1"))
        .node("Sigmoid", List.of("v0"), List.of("u1"));
    int nodes = 5 + random.nextInt(20);
    for (int i = 1; i <= nodes; i++) {
      String a = "v" + random.nextInt(i);
      String b = "v" + random.nextInt(i);
      List<String> y = List.of("v" + i);
      switch (random.nextInt(12)) {
        case 0 -> builder.node("Add", List.of(a, b), y);
        case 1 -> builder.node("Mul", List.of("t" + i, "u" + i), y);
        case 2 -> builder.node("Sub", List.of(a, "bias"), y);
        case 3 -> builder.node("Conv", List.of(a, "point"), y);
        case 4 ->
            builder.node(
                "Conv",
                List.of(a, "depth"),
                y,
                attribute("group", 4L),
                attribute("pads", new long[] {1, 1, 1, 1}));
        case 5 -> builder.node("MatMul", List.of(a, "matrix"), y);
        case 6 -> builder.node("Softmax", List.of(a), y);
        case 7 ->
            builder.node("Transpose", List.of(a), y, attribute("perm", new long[] {0, 1, 3, 2}));
        case 8 ->
            builder
                .node("Reshape", List.of(a, "shape"), List.of("flat" + i))
                .node("Relu", List.of("flat" + i), List.of("relu" + i))
                .node("Reshape", List.of("relu" + i, "back"), y);
        case 9 ->
            builder.node(
                "AveragePool",
                List.of(a),
                y,
                attribute("kernel_shape", new long[] {3, 3}),
                attribute("pads", new long[] {1, 1, 1, 1}));
        case 10 ->
            builder
                .node("ReduceMean", List.of(a), List.of("m" + i), attribute("axes", new long[] {1}))
                .node("Sub", List.of(a, "m" + i), y);
        default -> builder.node("Sigmoid", List.of(a), y);
      }
      // What Mul reads: kept small, so that products of products stay finite.
      builder.node("Tanh", List.of("v" + i), List.of("t" + (i + 1)));
      builder.node("Sigmoid", List.of("v" + (i - 1)), List.of("u" + (i + 1)));
    }
    OnnxModel model = builder.outputOfUnknownRank("v" + nodes).model();
    Ort.Tensor input = Ort.Tensor.random(3, 4, 6, 6);
    float[] expected = Ort.run(model, input).get("v" + nodes).values();
    float largest = 0;
    for (float value : expected) {
      largest = Math.max(largest, Math.abs(value));
    }
    try (TorchGraph graph = TorchGraph.of(model);
        PointerScope scope = new PointerScope()) {
      Map<String, Tensor> x = Map.of("v0", Tensors.of(input.values(), input.shape()));
      Tensor y = graph.run(Map.of(), x, graph.outputs()).values().iterator().next();
      // Some twenty layers of rounding at 6e-8, each of which may grow a few times on the way.
      assertArrayEquals(expected, Tensors.floats(y), 2e-5f * largest);
    }
  }
}
