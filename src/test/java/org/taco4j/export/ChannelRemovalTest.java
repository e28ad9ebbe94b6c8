package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.export.Structure.Consumer;
import org.taco4j.export.Structure.Kind;
import org.taco4j.export.Structure.Producer;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;

/** Each kind of structure in small graphs: what is found, and that removal computes the same. */
class ChannelRemovalTest {
  /** Finds the structures, and removes random units of all of them, several times. */
  private static List<Structure> check(ModelBuilder builder, long... input) {
    OnnxModel model = builder.model();
    Structures structures = Structures.discover(model);
    Removals.assertEveryLayerIsAccountedFor(model, structures);
    Ort.Tensor data = Ort.Tensor.random(input);
    for (int seed = 0; seed < 5; seed++) {
      Map<Structure, int[]> kept = Removals.randomSubsets(structures.found(), new Random(seed));
      OnnxModel zeroed = model.copy();
      kept.forEach((structure, units) -> Removals.zero(zeroed, structure, units));
      OnnxModel smaller = zeroed.copy();
      // In whatever order: structures stay true when others are removed.
      new ArrayList<>(kept.keySet())
          .reversed()
          .forEach(structure -> ChannelRemoval.remove(smaller, structure, units(kept, structure)));
      Removals.assertSame(Ort.run(zeroed, data), Ort.run(smaller, data));
      kept.forEach((structure, units) -> Removals.assertSizes(smaller, structure, units.length));
      assertTrue(kept.isEmpty() || smaller.sizeInBytes() < model.sizeInBytes());
    }
    return structures.found();
  }

  private static int[] units(Map<Structure, int[]> kept, Structure structure) {
    return kept.getOrDefault(structure, new int[0]);
  }

  @Test
  void mlpWithMatMul() {
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", -1, 5, 6)
            .output("y", -1, 5, 4)
            .valueInfo("h", -1, 5, 8)
            .random("w1", 6, 8)
            .random("b1", 8)
            .random("slope", 8)
            .random("scale", 1, 1, 8)
            .random("one", 1)
            .random("w2", 8, 4)
            .random("b2", 4)
            .node("fc1", "MatMul", List.of("x", "w1"), List.of("m"))
            .node("Add", List.of("b1", "m"), List.of("h"))
            .node("PRelu", List.of("h", "slope"), List.of("p"))
            .node("Mul", List.of("p", "scale"), List.of("s"))
            .node("Add", List.of("s", "one"), List.of("a"))
            .node("fc2", "MatMul", List.of("a", "w2"), List.of("n"))
            .node("Add", List.of("n", "b2"), List.of("y"));
    assertEquals(
        List.of(
            new Structure(
                "fc1",
                Kind.MLP,
                8,
                List.of(new Producer("fc1", 1, 1)),
                List.of(new Consumer("fc2", 1)),
                List.of())),
        check(builder, 3, 5, 6));
  }

  @ParameterizedTest
  @ValueSource(strings = {"erf", "tanh", "swish", "relu6"})
  void activations(String name) {
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", -1, 6)
            .output("y", -1, 4)
            .random("w1", 8, 6)
            .random("b1", 8)
            .random("w2", 8, 4)
            .random("b2", 1, 4)
            .floats("c0", new long[0], 0.044715f)
            .floats("c1", new long[0], 1)
            .floats("half", new long[0], 0.5f)
            .floats("three", new long[0], 3)
            .floats("root", new long[0], 1.4142135f)
            .floats("six", new long[0], 6)
            .node(
                "fc1",
                "Gemm",
                List.of("x", "w1", "b1"),
                List.of("h"),
                attribute("transB", 1),
                attribute("alpha", 0.5f),
                attribute("beta", 2f));
    switch (name) {
      case "erf" ->
          builder
              .node("Div", List.of("h", "root"), List.of("d"))
              .node("Erf", List.of("d"), List.of("e"))
              .node("Add", List.of("e", "c1"), List.of("f"))
              .node("Mul", List.of("h", "f"), List.of("g"))
              .node("Mul", List.of("g", "half"), List.of("a"));
      case "tanh" ->
          builder
              .node("Pow", List.of("h", "three"), List.of("p"))
              .node("Mul", List.of("c0", "p"), List.of("q"))
              .node("Add", List.of("h", "q"), List.of("r"))
              .node("Tanh", List.of("r"), List.of("t"))
              .node("Add", List.of("t", "c1"), List.of("u"))
              .node("Mul", List.of("h", "half"), List.of("v"))
              .node("Mul", List.of("v", "u"), List.of("a"));
      case "swish" ->
          builder
              .node("Sigmoid", List.of("h"), List.of("s"))
              .node("Mul", List.of("s", "h"), List.of("a"));
      default -> builder.node("Clip", List.of("h", "", "six"), List.of("a"));
    }
    builder.node("fc2", "Gemm", List.of("a", "w2", "b2"), List.of("y"));
    List<Structure> found = check(builder, 3, 6);
    assertEquals(1, found.size());
    assertEquals(8, found.getFirst().units());
  }

  @Test
  void gatedMlpLosesBothBranches() {
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", -1, 5, 6)
            .output("y", -1, 5, 4)
            .output("z", -1, 5, 4)
            .random("w1", 6, 8)
            .random("w2", 6, 8)
            .random("w3", 8, 4)
            .random("w4", 6, 16)
            .random("b4", 16)
            .random("w5", 8, 4)
            .node("gate", "MatMul", List.of("x", "w1"), List.of("g"))
            .node("Sigmoid", List.of("g"), List.of("s"))
            .node("value", "MatMul", List.of("x", "w2"), List.of("v"))
            .node("Mul", List.of("s", "v"), List.of("h"))
            .node("down", "MatMul", List.of("h", "w3"), List.of("y"))
            .node("both", "MatMul", List.of("x", "w4"), List.of("m4"))
            .node("Add", List.of("m4", "b4"), List.of("h4"))
            .node("Split", List.of("h4"), List.of("p", "q"), attribute("axis", -1))
            .node("Tanh", List.of("p"), List.of("t"))
            .node("Mul", List.of("t", "q"), List.of("h5"))
            .node("down2", "MatMul", List.of("h5", "w5"), List.of("z"));
    // The Split needs no rank where its axis counts from the end, but this project asks for it.
    builder.valueInfo("h4", -1, 5, 16);
    List<Structure> found = check(builder, 3, 5, 6);
    assertEquals(
        List.of(
            List.of(new Producer("gate", 1, 1), new Producer("value", 1, 1)),
            List.of(new Producer("both", 2, 1))),
        found.stream().map(Structure::producers).toList());
    assertEquals(List.of(8, 8), found.stream().map(Structure::units).toList());
  }

  @Test
  void weightsOnTheLeftAndBehindTransposes() {
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", -1, 6, 5)
            .output("y", -1, 4, 5)
            .random("w1", 6, 8)
            .random("b1", 8, 1)
            .random("w2", 4, 8)
            .node("Transpose", List.of("w1"), List.of("t1"))
            .node("fc1", "MatMul", List.of("t1", "x"), List.of("m"))
            .node("Add", List.of("m", "b1"), List.of("h"))
            .node("Relu", List.of("h"), List.of("a"))
            .node("fc2", "MatMul", List.of("w2", "a"), List.of("y"));
    assertEquals(List.of(new Consumer("fc2", 1)), check(builder, 2, 6, 5).getFirst().consumers());
  }

  private static final List<String> NORM = List.of("c", "scale", "shift", "mean", "variance");

  private static ModelBuilder images() {
    return new ModelBuilder(17)
        .input("x", -1, 3, 8, 8)
        .random("w1", 8, 3, 3, 3)
        .random("b1", 8)
        .random("scale", 8)
        .random("shift", 8)
        .random("mean", 8)
        .positive("variance", 8)
        .node("conv1", "Conv", List.of("x", "w1", "b1"), List.of("c"));
  }

  @Test
  void convolutionsWithSeveralReaders() {
    ModelBuilder builder =
        images()
            .output("y", -1, 5, -1, -1)
            .output("z", -1, 4, -1, -1)
            .random("slope", 8, 1, 1)
            .longs("pads", 0, 0, 1, 1, 0, 0, 1, 1)
            .random("w2", 5, 8, 3, 3)
            .random("w3", 4, 8, 1, 1)
            .node("BatchNormalization", NORM, List.of("n"))
            .node("PRelu", List.of("n", "slope"), List.of("p"))
            .node(
                "MaxPool", List.of("p"), List.of("q"), attribute("kernel_shape", new long[] {2, 2}))
            .node("Pad", List.of("q", "pads"), List.of("r"))
            .node("conv2", "Conv", List.of("r", "w2"), List.of("y"))
            .node("conv3", "Conv", List.of("p", "w3"), List.of("z"));
    assertEquals(
        List.of(
            new Structure(
                "conv1",
                Kind.CHANNELS,
                8,
                List.of(new Producer("conv1", 1, 1)),
                List.of(new Consumer("conv2", 9), new Consumer("conv3", 1)),
                List.of())),
        check(builder, 2, 3, 8, 8));
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 3})
  void depthwiseBetween(int multiplier) {
    int wide = 8 * multiplier;
    ModelBuilder builder =
        images()
            .output("y", -1, 5, -1, -1)
            .valueInfo("d", -1, wide, 4, 4)
            .random("wd", wide, 1, 3, 3)
            .random("bd", wide)
            .random("w2", 5, wide, 2, 2)
            .node("Relu", List.of("c"), List.of("a"))
            .node(
                "depthwise", "Conv", List.of("a", "wd", "bd"), List.of("d"), attribute("group", 8))
            .node("conv2", "Conv", List.of("d", "w2"), List.of("y"));
    List<Structure> found = check(builder, 2, 3, 8, 8);
    assertEquals(List.of("depthwise"), found.getFirst().depthwise());
    assertEquals(List.of(new Consumer("conv2", 4 * multiplier)), found.getFirst().consumers());
  }

  @ParameterizedTest
  @CsvSource({"global, 1", "mean, 1", "flatten, 36", "reshape, 36", "shape, 36", "constant, 36"})
  void convolutionToClassifier(String how, int columns) {
    ModelBuilder builder =
        images()
            .output("y", -1, 4)
            .random("w2", 4, 8L * columns)
            .longs("zero_rest", 0, -1)
            .longs("rest_all", -1, 288)
            .longs("rest", -1)
            .longs("zero", 0)
            .longs("first", 0)
            .node("Relu", List.of("c"), List.of("a"));
    switch (how) {
      case "global" ->
          builder
              .node("GlobalAveragePool", List.of("a"), List.of("g"))
              .node("Flatten", List.of("g"), List.of("f"));
      case "mean" ->
          builder.node(
              "ReduceMean",
              List.of("a"),
              List.of("f"),
              attribute("axes", new long[] {-1, 2}),
              attribute("keepdims", 0));
      case "flatten" -> builder.node("Flatten", List.of("a"), List.of("f"));
      case "reshape" -> builder.node("Reshape", List.of("a", "zero_rest"), List.of("f"));
      case "shape" ->
          builder
              .node("Shape", List.of("a"), List.of("s"))
              .node("Gather", List.of("s", "zero"), List.of("n"))
              .node("Concat", List.of("n", "rest"), List.of("t"), attribute("axis", 0))
              .node("Reshape", List.of("a", "t"), List.of("f"));
      default ->
          builder
              .valueInfo("a", -1, 8, 6, 6)
              .node("Reshape", List.of("a", "rest_all"), List.of("f"));
    }
    builder.node("fc", "Gemm", List.of("f", "w2"), List.of("y"), attribute("transB", 1));
    List<Structure> found = check(builder, 2, 3, 8, 8);
    assertEquals(List.of(new Consumer("fc", columns)), found.getFirst().consumers());
  }

  @Test
  void squeezeAndExciteLosesItsGateToo() {
    ModelBuilder builder =
        images()
            .output("y", -1, 5, -1, -1)
            .random("ws", 4, 8, 1, 1)
            .random("we", 8, 4, 1, 1)
            .random("be", 8)
            .random("w2", 5, 8, 1, 1)
            .longs("squeezed", -1, 4, 1, 1)
            .node("Relu", List.of("c"), List.of("a"))
            .node("GlobalAveragePool", List.of("a"), List.of("g"))
            .node("squeeze", "Conv", List.of("g", "ws"), List.of("s"))
            .node("Relu", List.of("s"), List.of("r"))
            .node("Reshape", List.of("r", "squeezed"), List.of("q"))
            .node("excite", "Conv", List.of("q", "we", "be"), List.of("e"))
            .node("HardSigmoid", List.of("e"), List.of("gate"))
            .node("Mul", List.of("gate", "a"), List.of("m"))
            .node("conv2", "Conv", List.of("m", "w2"), List.of("y"));
    List<Structure> found = check(builder, 2, 3, 8, 8);
    assertEquals(
        List.of(new Producer("conv1", 1, 1), new Producer("excite", 1, 1)),
        found.getFirst().producers());
    assertEquals(
        List.of(new Consumer("squeeze", 1), new Consumer("conv2", 1)),
        found.getFirst().consumers());
    assertEquals(List.of(new Producer("squeeze", 1, 1)), found.getLast().producers());
  }

  private static ModelBuilder tokens() {
    return new ModelBuilder(17)
        .input("x", -1, 5, 12)
        .output("y", -1, 5, 12)
        .random("wq", 12, 12)
        .random("wk", 12, 12)
        .random("wv", 12, 12)
        .random("bq", 12)
        .random("wqkv", 12, 36)
        .random("bqkv", 36)
        .random("wo", 12, 12)
        .random("bias", 1, 4, 5, 5)
        .floats("scale", new long[0], 0.5f)
        .longs("i0", 0)
        .longs("one", 1)
        .longs("rest", -1)
        .longs("five", 5)
        .longs("four", 4)
        .longs("three", 3)
        .longs("twelve", 12)
        .initializer(scalar("s0", 0))
        .initializer(scalar("s1", 1))
        .initializer(scalar("s2", 2));
  }

  private static TensorProto scalar(String name, long value) {
    return TensorProto.newBuilder()
        .setName(name)
        .setDataType(TensorProto.DataType.INT64_VALUE)
        .addInt64Data(value)
        .build();
  }

  private static ModelBuilder attend(ModelBuilder builder, String queries, String keys) {
    return builder
        .node("MatMul", List.of(queries, keys), List.of("scores"))
        .node("Add", List.of("scores", "bias"), List.of("biased"))
        .node("Softmax", List.of("biased"), List.of("p"))
        .node("MatMul", List.of("p", "v4"), List.of("o"))
        .node("Transpose", List.of("o"), List.of("ot"), attribute("perm", new long[] {0, 2, 1, 3}))
        .node("Concat", List.of("rest", "five", "twelve"), List.of("merged"), attribute("axis", 0))
        .node("Reshape", List.of("ot", "merged"), List.of("flat"))
        .node("out", "MatMul", List.of("flat", "wo"), List.of("y"));
  }

  @Test
  void headsOfFusedQueryKeyValue() {
    ModelBuilder builder =
        tokens()
            .longs("shape", 0, 5, 3, 4, 3)
            .node("qkv", "MatMul", List.of("x", "wqkv"), List.of("m"))
            .node("Add", List.of("m", "bqkv"), List.of("n"))
            .node("Reshape", List.of("n", "shape"), List.of("r"))
            .node(
                "Transpose",
                List.of("r"),
                List.of("t"),
                attribute("perm", new long[] {2, 0, 3, 1, 4}))
            .node("Gather", List.of("t", "s0"), List.of("q4"))
            .node("Gather", List.of("t", "s1"), List.of("k4"))
            .node("Gather", List.of("t", "s2"), List.of("v4"))
            .node("Mul", List.of("q4", "scale"), List.of("qs"))
            .node(
                "Transpose",
                List.of("k4"),
                List.of("kt"),
                attribute("perm", new long[] {0, 1, 3, 2}));
    assertEquals(
        List.of(
            new Structure(
                "qkv",
                Kind.HEADS,
                4,
                List.of(new Producer("qkv", 3, 3)),
                List.of(new Consumer("out", 3)),
                List.of())),
        check(attend(builder, "qs", "kt"), 2, 5, 12));
  }

  /** Separate layers that share one computed shape, with the sizes that exporters ask for. */
  @Test
  void headsOfSeparateQueryKeyValue() {
    ModelBuilder builder =
        tokens()
            .node("Shape", List.of("x"), List.of("xs"))
            .node("Gather", List.of("xs", "s0"), List.of("batch"))
            .node("Unsqueeze", List.of("batch", "i0"), List.of("n"))
            .node(
                "Concat",
                List.of("n", "rest", "four", "three"),
                List.of("heads"),
                attribute("axis", 0))
            .node("query", "MatMul", List.of("x", "wq"), List.of("q"))
            .node("Add", List.of("q", "bq"), List.of("qb"))
            .node("key", "MatMul", List.of("x", "wk"), List.of("k"))
            .node("value", "MatMul", List.of("x", "wv"), List.of("v"))
            .node("Reshape", List.of("qb", "heads"), List.of("q3"))
            .node("Reshape", List.of("k", "heads"), List.of("k3"))
            .node("Reshape", List.of("v", "heads"), List.of("v3"))
            .node(
                "Transpose",
                List.of("q3"),
                List.of("q4"),
                attribute("perm", new long[] {0, 2, 1, 3}))
            .node(
                "Transpose",
                List.of("k3"),
                List.of("kt"),
                attribute("perm", new long[] {0, 2, 3, 1}))
            .node(
                "Transpose",
                List.of("v3"),
                List.of("v4"),
                attribute("perm", new long[] {0, 2, 1, 3}))
            // The scale of torch's scaled dot product attention: 1/sqrt of the head's dimension.
            .node("Shape", List.of("q4"), List.of("qshape"))
            .node("Slice", List.of("qshape", "rest", "large"), List.of("dimension"))
            .node("Cast", List.of("dimension"), List.of("d"), attribute("to", 1))
            .node("Sqrt", List.of("d"), List.of("root"))
            .node("Div", List.of("q4", "root"), List.of("qs"))
            .longs("large", Long.MAX_VALUE);
    assertEquals(
        List.of(
            new Structure(
                "query",
                Kind.HEADS,
                4,
                List.of(
                    new Producer("query", 1, 3),
                    new Producer("key", 1, 3),
                    new Producer("value", 1, 3)),
                List.of(new Consumer("out", 3)),
                List.of())),
        check(attend(builder, "qs", "kt"), 2, 5, 12));
  }

  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void headsBehindASplit(boolean sizes) {
    ModelBuilder builder =
        tokens()
            .valueInfo("n", -1, 5, 36)
            .longs("parts", 12, 12, 12)
            .longs("heads", 0, 0, 4, 3)
            .node("qkv", "MatMul", List.of("x", "wqkv"), List.of("m"))
            .node("Add", List.of("m", "bqkv"), List.of("n"))
            .node(
                "Split",
                sizes ? List.of("n", "parts") : List.of("n"),
                List.of("q", "k", "v"),
                attribute("axis", 2))
            .node("Reshape", List.of("q", "heads"), List.of("q3"))
            .node("Reshape", List.of("k", "heads"), List.of("k3"))
            .node("Reshape", List.of("v", "heads"), List.of("v3"))
            .node(
                "Transpose",
                List.of("q3"),
                List.of("q4"),
                attribute("perm", new long[] {0, 2, 1, 3}))
            .node(
                "Transpose",
                List.of("k3"),
                List.of("kt"),
                attribute("perm", new long[] {0, 2, 3, 1}))
            .node(
                "Transpose",
                List.of("v3"),
                List.of("v4"),
                attribute("perm", new long[] {0, 2, 1, 3}));
    List<Structure> found = check(attend(builder, "q4", "kt"), 2, 5, 12);
    assertEquals(List.of(new Producer("qkv", 3, 3)), found.getFirst().producers());
    assertEquals(Kind.HEADS, found.getFirst().kind());
  }
}
