package org.taco4j.execute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Set;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.junit.jupiter.api.Test;
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

  private static Map<String, Tensor> leaves(TorchGraph graph) {
    Map<String, Tensor> leaves = new LinkedHashMap<>();
    graph
        .floatConstants()
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
      assertEquals(Set.of("w1", "b1", "w2", "b2"), graph.floatConstants().keySet());
      assertEquals(6, graph.constants().size());
      Tensor x = Tensors.of(images, 2, 3, 8, 8);
      Tensor zeros = Tensors.of(new float[10 * 1024], 10, 1024);
      Tensor y = graph.run(Map.of("w2", zeros), Map.of("x", x), List.of("y")).get("y");
      float[] bias = Tensors.floats(graph.constants().get("b2"));
      assertArrayEquals(bias, java.util.Arrays.copyOf(Tensors.floats(y), 10));

      // Without x: what the relu gives is given.
      Tensor relu = Tensors.of(new float[2 * 1024], 2, 16, 8, 8);
      Tensor fromRelu = graph.run(Map.of("r", relu), Map.of(), List.of("y")).get("y");
      assertArrayEquals(bias, java.util.Arrays.copyOf(Tensors.floats(fromRelu), 10));
    }
  }

  @Test
  void stepsShowAndReplaceValues() {
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
            execution.put("flat", execution.value("flat").mul(execution.value("flat")));
          }
          names.add(operator);
          execution.step();
        }
        assertEquals(
            List.of("Conv", "Relu", "Shape", "Gather", "Concat", "Reshape", "Gemm"), names);
        Map<String, Tensor> results = execution.results();
        Tensor relu = results.get("c").relu().reshape(2, 1024);
        Tensor expected =
            relu.mul(relu)
                .matmul(graph.constants().get("w2").transpose(0, 1))
                .add(graph.constants().get("b2"));
        // Sums of 1024 products of numbers up to some hundreds.
        assertArrayEquals(Tensors.floats(expected), Tensors.floats(results.get("y")), 0.1f);
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
}
