package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TypeProto;
import ai.onnx.proto.OnnxMl.ValueInfoProto;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.google.protobuf.InvalidProtocolBufferException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.taco4j.compute.ChildJvm;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;
import org.taco4j.runtime.OperatorLibrary;

/** The operator library in ONNX Runtime. */
class SparseOperatorsNativeTest {
  private static final List<String> FLAGS = List.of("--enable-native-access=ALL-UNNAMED");

  @BeforeAll
  static void library() {
    assumeTrue(OperatorLibrary.isAvailable(), "no operator library was built: no cmake?");
  }

  @Test
  void agreesWithTheDenseOperatorsOnEveryInstructionSet() {
    for (String isa : OperatorLibrary.instructionSets()) {
      ChildJvm.Result result = ChildJvm.run(SparseConvGrid.class, FLAGS, Map.of("TACO4J_ISA", isa));
      assertEquals(0, result.exitCode(), isa + ": " + result.output());
      assertTrue(result.output().contains("cases agree"), isa + ": " + result.output());
    }
  }

  /** All that {@code TACO4J_ISA} may name here, as the error for other names lists them. */
  private static List<String> kernels() {
    String output =
        ChildJvm.run(SparseConvGrid.class, FLAGS, Map.of("TACO4J_ISA", "none of them")).output();
    Matcher names = Pattern.compile("available here: ([a-z0-9, ]*[a-z0-9])").matcher(output);
    assertTrue(names.find(), output);
    return List.of(names.group(1).split(", "));
  }

  @Test
  void int8AgreesToTheBitWithAllKernels() {
    List<String> kernels = kernels();
    assertTrue(kernels.containsAll(OperatorLibrary.instructionSets()), kernels.toString());
    for (String isa : kernels) {
      ChildJvm.Result result =
          ChildJvm.run(SparseQuantizedGrid.class, FLAGS, Map.of("TACO4J_ISA", isa));
      assertEquals(0, result.exitCode(), isa + ": " + result.output());
      assertTrue(result.output().contains("cases agree"), isa + ": " + result.output());
    }
  }

  @Test
  void anInstructionSetThatIsNotThereIsAnErrorAndNoOther() {
    ChildJvm.Result result =
        ChildJvm.run(SparseConvGrid.class, FLAGS, Map.of("TACO4J_ISA", "altivec"));
    assertEquals(1, result.exitCode(), result.output());
    assertTrue(result.output().contains("TACO4J_ISA is 'altivec'"), result.output());
    assertTrue(result.output().contains("scalar"), result.output());
  }

  /** Two convolutions, the second with a residual; 512 KB of weights. */
  private static OnnxModel model() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", -1, 64, -1, -1)
            .output("y", -1, 64, -1, -1)
            .random("w1", 64, 64, 3, 3)
            .random("w2", 64, 64, 3, 3)
            .random("b", 64)
            .node(
                "first",
                "Conv",
                List.of("x", "w1", "b"),
                List.of("a"),
                attribute("pads", new long[] {1, 1, 1, 1}))
            .node("Relu", List.of("a"), List.of("r"))
            .node(
                "second",
                "Conv",
                List.of("r", "w2"),
                List.of("c"),
                attribute("pads", new long[] {1, 1, 1, 1}))
            .node("Add", List.of("c", "x"), List.of("s"))
            .node("Relu", List.of("s"), List.of("y"))
            .model();
    assertEquals(
        Map.of("first", "taco4j.SparseConvRelu", "second", "taco4j.SparseConvAddRelu"),
        SparseOperators.rewrite(model, layer -> true).rewritten());
    return model;
  }

  @Test
  void sessionsInParallelAndThreadsInOneSessionGiveTheSameBits() throws Exception {
    byte[] bytes = model().toBytes();
    Map<String, Ort.Tensor> inputs = Map.of("x", Ort.Tensor.random(3, 64, 15, 15));
    try (OrtSession one = SparseSessions.open(bytes, 1);
        OrtSession two = SparseSessions.open(bytes, 2);
        ExecutorService threads = Executors.newFixedThreadPool(4)) {
      float[] expected = SparseSessions.run(one, inputs).values();
      List<Future<float[]>> results = new ArrayList<>();
      for (int i = 0; i < 12; i++) {
        OrtSession session = i % 2 == 0 ? one : two;
        results.add(threads.submit(() -> SparseSessions.run(session, inputs).values()));
      }
      for (Future<float[]> result : results) {
        assertArrayEquals(expected, result.get());
      }
    }
  }

  @Test
  void closedOptionsAndSessionsLeaveTheOthersRunning() throws OrtException {
    // Without the linker's nodelete the library goes with the first options object, and the next
    // run ends the process: a child's, so that the other tests go on.
    ChildJvm.Result result = ChildJvm.run(Closing.class, FLAGS);
    assertEquals(0, result.exitCode(), result.output());
    assertTrue(result.output().contains("still runs"), result.output());
  }

  /** Main class of the test above. */
  static final class Closing {
    public static void main(String[] arguments) throws OrtException {
      byte[] bytes = model().toBytes();
      Map<String, Ort.Tensor> inputs = Map.of("x", Ort.Tensor.random(1, 64, 8, 8));
      OrtSession first = SparseSessions.open(bytes, 1);
      OrtSession second = SparseSessions.open(bytes, 1);
      float[] expected = SparseSessions.run(first, inputs).values();
      first.close();
      assertArrayEquals(expected, SparseSessions.run(second, inputs).values());
      second.close();
      try (OrtSession third = SparseSessions.open(bytes, 1)) {
        assertArrayEquals(expected, SparseSessions.run(third, inputs).values());
      }
      System.out.println("still runs");
    }
  }

  @Test
  void sessionsGiveTheirMemoryBack() throws OrtException {
    assumeTrue(Files.exists(Path.of("/proc/self/status")), "no /proc to read memory from");
    byte[] bytes = model().toBytes();
    for (int i = 0; i < 40; i++) {
      SparseSessions.open(bytes, 1).close();
    }
    long before = residentMegabytes();
    for (int i = 0; i < 200; i++) {
      SparseSessions.open(bytes, 1).close();
    }
    // A session packs 74 thousand weights of 8 bytes or more: 200 lost ones would be over 100 MB.
    long grown = residentMegabytes() - before;
    assertTrue(grown < 50, grown + " MB more after 200 sessions");
  }

  private static long residentMegabytes() {
    try (Stream<String> lines = Files.lines(Path.of("/proc/self/status"))) {
      return lines
          .filter(line -> line.startsWith("VmRSS:"))
          .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")) / 1024)
          .findFirst()
          .orElseThrow();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static ModelBuilder single(String operator, AttributeProto... attributes) {
    return new ModelBuilder(17)
        .domain("taco4j", 1)
        .input("x", -1, -1, -1, -1)
        .outputOfUnknownRank("y")
        .random("w", 4, 3, 3, 3)
        .random("b", 4)
        .node(
            NodeProto.newBuilder()
                .setName("sparse")
                .setDomain("taco4j")
                .setOpType(operator)
                .addAllInput(List.of("x", "w", "b"))
                .addOutput("y")
                .addAllAttribute(List.of(attributes))
                .build());
  }

  private static final AttributeProto STRIDES = attribute("strides", new long[] {1, 1});
  private static final AttributeProto DILATIONS = attribute("dilations", new long[] {1, 1});
  private static final AttributeProto PADS = attribute("pads", new long[] {0, 0, 0, 0});
  private static final AttributeProto GROUP = attribute("group", 1);

  private static void assertRefused(String message, Executable action) {
    OrtException e = assertThrows(OrtException.class, action);
    assertTrue(e.getMessage().contains("taco4j.Sparse"), e.getMessage());
    assertTrue(e.getMessage().contains("'sparse'"), e.getMessage());
    assertTrue(e.getMessage().contains(message), e.getMessage());
  }

  private static void assertNotCreated(String message, ModelBuilder model) {
    assertRefused(message, () -> SparseSessions.open(model.proto().toByteArray(), 1));
  }

  @Test
  void aModelThatLiesAboutItsWeightsIsRefused() {
    assertNotCreated(
        "pads has 2 values",
        single("SparseConv", STRIDES, DILATIONS, attribute("pads", new long[] {1, 1}), GROUP));
    assertNotCreated("strides", single("SparseConv", DILATIONS, PADS, GROUP));
    assertNotCreated(
        "stride width is 0",
        single("SparseConv", attribute("strides", new long[] {1, 0}), DILATIONS, PADS, GROUP));
    assertNotCreated(
        "top pad is -1",
        single(
            "SparseConv", STRIDES, DILATIONS, attribute("pads", new long[] {-1, 0, 0, 0}), GROUP));
    assertNotCreated(
        "3 groups do not divide",
        single("SparseConv", STRIDES, DILATIONS, PADS, attribute("group", 3)));
    assertNotCreated(
        "group is 0", single("SparseConv", STRIDES, DILATIONS, PADS, attribute("group", 0)));
    assertNotCreated(
        "group is 4611686018427387904",
        single("SparseConv", STRIDES, DILATIONS, PADS, attribute("group", 1L << 62)));
    assertNotCreated("minimum", single("SparseConvClip", STRIDES, DILATIONS, PADS, GROUP));
    assertNotCreated(
        "B has the shape [5]", bare(List.of("x", "w", "b5"), new ModelBuilder(17).random("b5", 5)));
    assertNotCreated(
        "W has the shape [4, 27]",
        bare(List.of("x", "flat", "b"), new ModelBuilder(17).random("flat", 4, 27)));
    assertNotCreated(
        "W is not a constant",
        bare(List.of("x", "fed", "b"), new ModelBuilder(17).input("fed", 4, 3, 3, 3)));
  }

  /**
   * A convolution of bytes with an addition: x and z of 3 and 4 channels, 3 x 3 weights.
   *
   * @param replaced constants that are to be others
   */
  private static byte[] quantized(TensorProto... replaced) {
    Map<String, TensorProto> constants = new LinkedHashMap<>();
    int[] weights = new int[4 * 3 * 9];
    Arrays.setAll(weights, i -> i % 5 - 2);
    for (TensorProto tensor :
        List.of(
            SparseQuantizedGrid.integers(
                "W", TensorProto.DataType.INT8_VALUE, new long[] {4, 3, 3, 3}, weights),
            ModelBuilder.tensor("w_scale", new long[] {4}, 1, 1, 1, 1),
            SparseQuantizedGrid.integers(
                "w_zero_point", TensorProto.DataType.INT8_VALUE, new long[] {4}, new int[4]),
            SparseQuantizedGrid.integers(
                "B", TensorProto.DataType.INT32_VALUE, new long[] {4}, new int[4]))) {
      constants.put(tensor.getName(), tensor);
    }
    for (String grid : List.of("x", "c", "z", "y")) {
      constants.put(grid + "_scale", ModelBuilder.tensor(grid + "_scale", new long[0], 1));
      constants.put(
          grid + "_zero_point",
          SparseQuantizedGrid.integers(
              grid + "_zero_point", TensorProto.DataType.UINT8_VALUE, new long[0], 0));
    }
    for (TensorProto tensor : replaced) {
      constants.put(tensor.getName(), tensor);
    }
    long toBytes = TensorProto.DataType.UINT8_VALUE;
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", -1, -1, -1, -1)
            .inputOfUnknownRank("z")
            .outputOfUnknownRank("y")
            .node("Cast", List.of("x"), List.of("X"), attribute("to", toBytes))
            .node("Cast", List.of("z"), List.of("Z"), attribute("to", toBytes));
    constants.values().forEach(builder::initializer);
    return SparseQuantizedGrid.model(
        builder,
        SparseFunctions.quantizedConvolution(true, 17),
        true,
        STRIDES,
        DILATIONS,
        PADS,
        GROUP);
  }

  private static TensorProto bytes(String name, long[] dims, int... values) {
    return SparseQuantizedGrid.integers(name, TensorProto.DataType.INT8_VALUE, dims, values);
  }

  @Test
  void aQuantizedModelThatLiesIsRefused() throws OrtException {
    Map<String, TensorProto> lies = new LinkedHashMap<>();
    lies.put("W has the shape [4, 27]", bytes("W", new long[] {4, 27}, new int[108]));
    lies.put("w_zero_point has the value 3", bytes("w_zero_point", new long[] {4}, 0, 0, 3, 0));
    lies.put("w_zero_point has the shape [3]", bytes("w_zero_point", new long[] {3}, 0, 0, 0));
    lies.put("w_scale has the shape [2]", ModelBuilder.tensor("w_scale", new long[] {2}, 1, 1));
    lies.put(
        "weight's scale of output 1",
        ModelBuilder.tensor("w_scale", new long[] {4}, 1, Float.NaN, 1, 1));
    lies.put("scale of the input", ModelBuilder.tensor("x_scale", new long[0], 0));
    lies.put("scale of the product", ModelBuilder.tensor("c_scale", new long[0], -1));
    lies.put(
        "scale of the output",
        ModelBuilder.tensor("y_scale", new long[0], Float.POSITIVE_INFINITY));
    lies.put("z_scale has the shape [2]", ModelBuilder.tensor("z_scale", new long[] {2}, 1, 1));
    lies.put(
        "B has the shape [5]",
        SparseQuantizedGrid.integers(
            "B", TensorProto.DataType.INT32_VALUE, new long[] {5}, new int[5]));
    for (Map.Entry<String, TensorProto> lie : lies.entrySet()) {
      assertRefused(lie.getKey(), () -> SparseSessions.open(quantized(lie.getValue()), 1).close());
    }
    try (OrtSession session = SparseSessions.open(quantized(), 1)) {
      Ort.Tensor x = Ort.Tensor.random(2, 3, 8, 8);
      assertRefused(
          "X has the shape [2, 4, 8, 8]",
          () -> SparseSessions.run(session, Map.of("x", Ort.Tensor.random(2, 4, 8, 8), "z", x)));
      assertRefused(
          "Z has the shape [2, 3, 8, 8]",
          () -> SparseSessions.run(session, Map.of("x", x, "z", x)));
      // The session lives, and adds as Add does: one value for all images and positions.
      Ort.Tensor z = new Ort.Tensor(new float[] {10, 20, 30, 40}, 4, 1, 1);
      Ort.Tensor zeros = new Ort.Tensor(new float[2 * 3 * 64], 2, 3, 8, 8);
      Ort.Tensor y = SparseSessions.run(session, Map.of("x", zeros, "z", z));
      assertArrayEquals(new long[] {2, 4, 6, 6}, y.shape());
      for (int i = 0; i < y.values().length; i++) {
        assertEquals(10 * (1 + i / 36 % 4), y.values()[i], "at " + i);
      }
    }
  }

  @Test
  void aQuantizedWeightThatIsFedIsRefused() {
    byte[] model = quantized();
    // As an input of the model the weight may change from run to run.
    assertRefused("B is not a constant", () -> SparseSessions.open(withFedBias(model), 1).close());
  }

  /** The model with B as an input that no constant stands behind. */
  private static byte[] withFedBias(byte[] model) {
    try {
      ModelProto.Builder builder = ModelProto.parseFrom(model).toBuilder();
      GraphProto.Builder graph = builder.getGraphBuilder();
      for (int i = 0; i < graph.getInitializerCount(); i++) {
        if (graph.getInitializer(i).getName().equals("B")) {
          graph.removeInitializer(i);
          break;
        }
      }
      graph.addInput(
          ValueInfoProto.newBuilder()
              .setName("B")
              .setType(
                  TypeProto.newBuilder()
                      .setTensorType(
                          TypeProto.Tensor.newBuilder()
                              .setElemType(TensorProto.DataType.INT32_VALUE))));
      return builder.build().toByteArray();
    } catch (InvalidProtocolBufferException e) {
      throw new UncheckedIOException(e);
    }
  }

  @Test
  void quantizedSessionsGiveTheirMemoryBack() throws OrtException {
    assumeTrue(Files.exists(Path.of("/proc/self/status")), "no /proc to read memory from");
    int channels = 512;
    int[] weights = new int[channels * channels];
    Arrays.setAll(weights, i -> i % 100 - 50);
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", -1, channels)
            .outputOfUnknownRank("y")
            .initializer(bytes("W", new long[] {channels, channels}, weights))
            .initializer(bytes("w_zero_point", new long[0], 0))
            .floats("w_scale", new long[0], 1)
            .initializer(
                SparseQuantizedGrid.integers(
                    "B",
                    TensorProto.DataType.INT32_VALUE,
                    new long[] {channels},
                    new int[channels]))
            .node(
                "Cast",
                List.of("x"),
                List.of("X"),
                attribute("to", (long) TensorProto.DataType.UINT8_VALUE));
    SparseQuantizedGrid.grid(builder, "x", 1, 0);
    SparseQuantizedGrid.grid(builder, "y", 1000, 0);
    byte[] bytes = SparseQuantizedGrid.model(builder, SparseFunctions.quantizedMatrix(17), true);
    for (int i = 0; i < 40; i++) {
      SparseSessions.open(bytes, 1).close();
    }
    long before = residentMegabytes();
    for (int i = 0; i < 200; i++) {
      SparseSessions.open(bytes, 1).close();
    }
    // A session packs 65 thousand entries of 12 bytes or more: 200 lost ones would be over 150 MB.
    long grown = residentMegabytes() - before;
    assertTrue(grown < 50, grown + " MB more after 200 sessions");
  }

  /** With other inputs than those of {@link #single}. */
  private static ModelBuilder bare(List<String> inputs, ModelBuilder builder) {
    return builder
        .domain("taco4j", 1)
        .input("x", -1, 3, -1, -1)
        .outputOfUnknownRank("y")
        .random("w", 4, 3, 3, 3)
        .random("b", 4)
        .node(
            NodeProto.newBuilder()
                .setName("sparse")
                .setDomain("taco4j")
                .setOpType("SparseConv")
                .addAllInput(inputs)
                .addOutput("y")
                .addAllAttribute(List.of(STRIDES, DILATIONS, PADS, GROUP))
                .build());
  }

  @Test
  void inputsOfAnotherShapeAreRefusedAndTheSessionLives() throws OrtException {
    ModelBuilder plain = single("SparseConv", STRIDES, DILATIONS, PADS, GROUP);
    try (OrtSession session = SparseSessions.open(plain.proto().toByteArray(), 1)) {
      assertRefused(
          "X has the shape [1, 2, 8, 8]",
          () -> SparseSessions.run(session, Map.of("x", Ort.Tensor.random(1, 2, 8, 8))));
      assertRefused(
          "smaller than the kernel",
          () -> SparseSessions.run(session, Map.of("x", Ort.Tensor.random(1, 3, 8, 2))));
      assertArrayEquals(
          new long[] {2, 4, 6, 6},
          SparseSessions.run(session, Map.of("x", Ort.Tensor.random(2, 3, 8, 8))).shape());
      assertArrayEquals(
          new long[] {0, 4, 6, 6},
          SparseSessions.run(session, Map.of("x", Ort.Tensor.random(0, 3, 8, 8))).shape());
    }
    ModelBuilder adding =
        new ModelBuilder(17)
            .domain("taco4j", 1)
            .input("x", -1, 3, -1, -1)
            .inputOfUnknownRank("z")
            .outputOfUnknownRank("y")
            .random("w", 4, 3, 3, 3)
            .floats("b", new long[] {4}, 0, 0, 0, 0)
            .node(
                NodeProto.newBuilder()
                    .setName("sparse")
                    .setDomain("taco4j")
                    .setOpType("SparseConvAdd")
                    .addAllInput(List.of("x", "w", "b", "z"))
                    .addOutput("y")
                    .addAllAttribute(List.of(STRIDES, DILATIONS, PADS, GROUP))
                    .build());
    try (OrtSession session = SparseSessions.open(adding.proto().toByteArray(), 1)) {
      Ort.Tensor x = Ort.Tensor.random(2, 3, 8, 8);
      assertRefused(
          "Z has the shape [2, 4, 6, 5]",
          () -> SparseSessions.run(session, Map.of("x", x, "z", Ort.Tensor.random(2, 4, 6, 5))));
      assertRefused(
          "Z has the shape [3, 4, 6, 6]",
          () -> SparseSessions.run(session, Map.of("x", x, "z", Ort.Tensor.random(3, 4, 6, 6))));
      // As Add does: one value for each channel, for all images and positions.
      Ort.Tensor z = new Ort.Tensor(new float[] {1000, 2000, 3000, 4000}, 4, 1, 1);
      float[] y = SparseSessions.run(session, Map.of("x", x, "z", z)).values();
      for (int i = 0; i < y.length; i++) {
        assertEquals(1000 * (1 + i / 36 % 4), y[i], 100, "at " + i);
      }
    }
  }
}
