package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.ValueInfoProto;
import com.google.protobuf.InvalidProtocolBufferException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;

/** What is left as it is and why, and what removal refuses and leaves untouched. */
class StructuresTest {
  private static ModelBuilder start() {
    return new ModelBuilder(17)
        .input("x", -1, 6)
        .output("y", -1, 4)
        .random("w1", 6, 6)
        .random("w2", 6, 4)
        .random("wide", 12, 4)
        .random("scale", 6)
        .longs("pads", 0, 0, 0, 6)
        .longs("halves", -1, 3)
        .longs("rest", -1)
        .longs("last", 1)
        .node("fc1", "MatMul", List.of("x", "w1"), List.of("h"))
        .valueInfo("h", -1, 6);
  }

  @ParameterizedTest
  @CsvSource({
    "residual, residual stream",
    "output, is an output of the model",
    "concat, concatenates it",
    "softmax, normalises over the units",
    "layernorm, normalises over the units",
    "sum, sums over the units",
    "tied, also read by",
    "runtime, at run time",
    "asked, asks for the number of units",
    "scaled, multiplies it with 'x'",
    "mixed, is not known to keep the units apart",
    "padded, pads the units",
    "picked, picks some of the units",
    "halved, across the units",
    "subgraph, in a subgraph",
  })
  void left(String what, String reason) {
    ModelBuilder builder = start();
    String weights = "w2";
    String read = "a";
    switch (what) {
      case "residual" -> builder.node("Add", List.of("h", "x"), List.of("a"));
      case "output" -> builder.output("a", -1, 6).node("Relu", List.of("h"), List.of("a"));
      case "concat" -> {
        builder.node("Concat", List.of("h", "x"), List.of("a"), attribute("axis", 1));
        weights = "wide";
      }
      case "softmax" -> builder.node("Softmax", List.of("h"), List.of("a"));
      case "layernorm" -> builder.node("LayerNormalization", List.of("h", "scale"), List.of("a"));
      case "sum" ->
          builder
              .node("ReduceSum", List.of("h", "last"), List.of("s"))
              .node("Sub", List.of("h", "s"), List.of("a"));
      case "tied" ->
          builder
              .random("w3", 6, 4)
              .node("fc3", "MatMul", List.of("x", "w1"), List.of("h3"))
              .node("Tanh", List.of("h3"), List.of("b"))
              .node("other", "MatMul", List.of("b", "w3"), List.of("z"))
              .output("z", -1, 4)
              .node("Relu", List.of("h"), List.of("a"));
      case "runtime" ->
          builder
              .node("Shape", List.of("x"), List.of("s"))
              .node("Gather", List.of("s", "last"), List.of("n"))
              .node("Concat", List.of("rest", "n"), List.of("t"), attribute("axis", 0))
              .node("Reshape", List.of("h", "t"), List.of("a"));
      case "asked" ->
          builder
              .node("Shape", List.of("h"), List.of("s"))
              .node("Reshape", List.of("h", "s"), List.of("a"));
      case "scaled" -> builder.node("Mul", List.of("h", "x"), List.of("a"));
      case "mixed" -> builder.node("CumSum", List.of("h", "last"), List.of("a"));
      case "padded" -> {
        builder.node("Pad", List.of("h", "pads"), List.of("a"));
        weights = "wide";
      }
      case "picked" ->
          builder
              .longs("indices", 5, 4, 3, 2, 1, 0)
              .node("Gather", List.of("h", "indices"), List.of("a"), attribute("axis", 1));
      case "halved" -> {
        builder
            .random("w3", 3, 4)
            .node("Reshape", List.of("h", "halves"), List.of("r"))
            .node("Relu", List.of("r"), List.of("a"));
        weights = "w3";
      }
      default -> {
        GraphProto body =
            new ModelBuilder(17)
                .output("inner", -1, 6)
                .node("Relu", List.of("h"), List.of("inner"))
                .graph();
        builder
            .initializer(
                TensorProto.newBuilder()
                    .setName("yes")
                    .setDataType(TensorProto.DataType.BOOL_VALUE)
                    .addInt32Data(1)
                    .build())
            .node(
                "If",
                List.of("yes"),
                List.of("a"),
                attribute("then_branch", body),
                attribute("else_branch", body));
      }
    }
    builder.node("fc2", "MatMul", List.of(read, weights), List.of("y"));
    Structures structures = Structures.discover(builder.model());
    assertEquals(List.of(), structures.found());
    Structures.Left first = structures.left().getFirst();
    assertEquals("fc1", first.layer());
    assertTrue(first.reason().contains(reason), first.reason());
    Structures.Left last = structures.left().getLast();
    assertTrue(last.reason().contains("output of the model"), last.reason());
  }

  @Test
  void groupedConvolutionsStay() {
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", -1, 4, 5, 5)
            .output("y", -1, 4, 5, 5)
            .random("w1", 8, 4, 1, 1)
            .random("w2", 8, 4, 1, 1)
            .random("w3", 4, 8, 1, 1)
            .node("conv1", "Conv", List.of("x", "w1"), List.of("a"))
            .node("grouped", "Conv", List.of("a", "w2"), List.of("b"), attribute("group", 2))
            .node("conv3", "Conv", List.of("b", "w3"), List.of("y"));
    Structures structures = Structures.discover(builder.model());
    assertEquals(List.of(), structures.found());
    assertEquals(
        List.of(true, true, false),
        structures.left().stream()
            .map(left -> left.reason().contains("'grouped' is a grouped convolution (2 groups)"))
            .toList());
  }

  /** Two hidden layers in a row that share the constant between, and a bias; one stays. */
  private static ModelBuilder chain() {
    return new ModelBuilder(17)
        .input("x", -1, 6)
        .output("y", -1, 4)
        .valueInfo("h1", -1, 8)
        .valueInfo("h2", -1, 8)
        .random("w1", 6, 8)
        .random("w2", 8, 8)
        .random("w3", 8, 4)
        .random("b", 8)
        .random("b3", 4)
        .random("slope", 8)
        .node("fc1", "Gemm", List.of("x", "w1", "b"), List.of("h1"))
        .node("PRelu", List.of("h1", "slope"), List.of("a1"))
        .node("fc2", "Gemm", List.of("a1", "w2", "b"), List.of("h2"))
        .node("PRelu", List.of("h2", "slope"), List.of("a2"))
        .node("fc3", "Gemm", List.of("a2", "w3", "b3"), List.of("y"));
  }

  private static ModelProto parse(OnnxModel model) throws InvalidProtocolBufferException {
    return ModelProto.parseFrom(model.toBytes());
  }

  private static Map<String, List<Long>> shapes(ModelProto model) {
    Map<String, List<Long>> shapes = new HashMap<>();
    for (TensorProto tensor : model.getGraph().getInitializerList()) {
      shapes.put(tensor.getName(), tensor.getDimsList());
    }
    for (ValueInfoProto info : model.getGraph().getValueInfoList()) {
      shapes.put(
          info.getName(),
          info.getType().getTensorType().getShape().getDimList().stream()
              .map(dim -> dim.hasDimValue() ? dim.getDimValue() : -1)
              .toList());
    }
    return shapes;
  }

  @Test
  void changesOnlyWhatTheUnitsTouch() throws InvalidProtocolBufferException {
    OnnxModel model = chain().model();
    OnnxModel smaller = model.copy();
    Structure first = Structures.discover(model).found().getFirst();
    ChannelRemoval.remove(smaller, first, new int[] {0, 2, 7});

    Map<String, List<Long>> shapes = shapes(parse(smaller));
    assertEquals(List.of(6L, 3L), shapes.get("w1"));
    assertEquals(List.of(3L, 8L), shapes.get("w2"));
    assertEquals(List.of(8L, 4L), shapes.get("w3"));
    assertEquals(List.of(-1L, 3L), shapes.get("h1"));
    assertEquals(List.of(-1L, 8L), shapes.get("h2"));
    // The other layer reads these, too: the first got its own.
    assertEquals(List.of(8L), shapes.get("b"));
    assertEquals(List.of(8L), shapes.get("slope"));
    assertEquals(List.of(3L), shapes.get("b.kept"));
    assertEquals(List.of(3L), shapes.get("slope.kept"));
    ModelProto before = parse(model);
    ModelProto after = parse(smaller);
    for (int i : new int[] {2, 3, 4, 5}) {
      assertEquals(before.getGraph().getInitializer(i), after.getGraph().getInitializer(i));
    }
    assertEquals(
        before.getGraph().getNodeList().subList(2, 5),
        after.getGraph().getNodeList().subList(2, 5));
    assertEquals(before.toBuilder().clearGraph().build(), after.toBuilder().clearGraph().build());

    // The second is still what it was, found again or not.
    Structure second = Structures.discover(model).found().getLast();
    assertEquals(second, Structures.discover(smaller).found().getLast());
    ChannelRemoval.remove(smaller, second, new int[] {5});
    assertEquals(List.of(3L, 1L), shapes(parse(smaller)).get("w2"));
    assertArrayEquals(
        new long[] {3, 4}, Ort.run(smaller, Ort.Tensor.random(3, 6)).get("y").shape());
  }

  @Test
  void keepingAllChangesNothing() {
    OnnxModel model = chain().model();
    byte[] bytes = model.toBytes();
    ChannelRemoval.remove(
        model, Structures.discover(model).found().getFirst(), new int[] {0, 1, 2, 3, 4, 5, 6, 7});
    assertArrayEquals(bytes, model.toBytes());
  }

  @Test
  void refusals() {
    OnnxModel model = chain().model();
    byte[] bytes = model.toBytes();
    Structure structure = Structures.discover(model).found().getFirst();
    for (int[] kept : new int[][] {{}, {-1}, {8}, {1, 1}, {3, 2}}) {
      assertThrows(
          IllegalArgumentException.class, () -> ChannelRemoval.remove(model, structure, kept));
    }
    OnnxModel smaller = model.copy();
    ChannelRemoval.remove(smaller, structure, new int[] {0, 2, 7});
    byte[] once = smaller.toBytes();
    TacoException twice =
        assertThrows(
            TacoException.class, () -> ChannelRemoval.remove(smaller, structure, new int[] {0, 1}));
    assertEquals(TacoException.Kind.MODEL, twice.kind());
    assertTrue(twice.getMessage().contains("'fc1'"), twice.getMessage());
    assertArrayEquals(once, smaller.toBytes());
    assertArrayEquals(bytes, model.toBytes());
  }
}
