package org.taco4j.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.FunctionProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.OperatorSetIdProto;
import ai.onnx.proto.OnnxMl.StringStringEntryProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataLocation;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.google.protobuf.UnknownFieldSet;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.TacoException;

class OnnxModelTest {
  @TempDir Path folder;

  /** Two linear layers with a Relu between: x [n, 6] to y [n, 3]. */
  static ModelBuilder twoLayers() {
    return new ModelBuilder(17)
        .input("x", -1, 6)
        .output("y", -1, 3)
        .random("w1", 6, 64)
        .random("b1", 64)
        .random("w2", 3, 64)
        .node("first", "MatMul", List.of("x", "w1"), List.of("h"))
        .node("bias", "Add", List.of("h", "b1"), List.of("hb"))
        .node("relu", "Relu", List.of("hb"), List.of("r"))
        .node(
            "second",
            "Gemm",
            List.of("r", "w2"),
            List.of("y"),
            ModelBuilder.attribute("transB", 1));
  }

  private String refusal(Path file) {
    TacoException e = assertThrows(TacoException.class, () -> OnnxModel.read(file));
    assertEquals(TacoException.Kind.MODEL, e.kind());
    assertTrue(e.getMessage().startsWith(file.toString()), e.getMessage());
    return e.getMessage();
  }

  private String refusal(byte[] bytes) throws IOException {
    return refusal(Files.write(folder.resolve("bad.onnx"), bytes));
  }

  private String refusal(ModelBuilder model) throws IOException {
    return refusal(model.proto().toByteArray());
  }

  @Test
  void badFiles() throws IOException {
    assertTrue(refusal(folder.resolve("none.onnx")).contains("no such file"));
    assertTrue(refusal(folder).contains("folder"));
    assertTrue(refusal(new byte[0]).contains("empty"));
    assertTrue(refusal("hello, this is text".getBytes(StandardCharsets.UTF_8)).contains("ONNX"));
    assertTrue(refusal("PK\3\4 torch".getBytes(StandardCharsets.UTF_8)).contains("zip"));
    assertTrue(
        refusal("version https://git-lfs.github.com/spec/v1\noid".getBytes(StandardCharsets.UTF_8))
            .contains("Git LFS"));
    assertTrue(
        refusal(ModelProto.newBuilder().setIrVersion(8).build().toByteArray()).contains("graph"));
  }

  @Test
  void truncatedFilesAreRefused() throws IOException {
    byte[] bytes = twoLayers().proto().toByteArray();
    // A step that is no multiple of anything in the file: cuts in tags, lengths, names and weights.
    for (int length = bytes.length - 1; length > 0; length -= 11) {
      refusal(java.util.Arrays.copyOf(bytes, length));
    }
  }

  @Test
  void damagedBytesNeverLeadToOtherExceptions() throws IOException {
    byte[] bytes = twoLayers().proto().toByteArray();
    Random random = new Random(3);
    for (int i = 0; i < 500; i++) {
      byte[] damaged = bytes.clone();
      for (int k = 0; k <= i % 4; k++) {
        damaged[random.nextInt(damaged.length)] = (byte) random.nextInt();
      }
      Path file = Files.write(folder.resolve("damaged.onnx"), damaged);
      try {
        OnnxModel model = OnnxModel.read(file);
        LayerDiscovery.discover(model);
        BatchNormFolding.fold(model);
        HeadRestriction.restrict(model, List.of(0));
      } catch (TacoException e) {
        assertFalse(e.getMessage().isBlank());
      }
    }
  }

  @Test
  void badGraphs() throws IOException {
    assertTrue(
        refusal(twoLayers().node("odd", "Relu", List.of("ghost"), List.of("o"))).contains("ghost"));
    assertTrue(
        refusal(twoLayers().node("odd", "Relu", List.of("x"), List.of("h"))).contains("both"));
    assertTrue(refusal(twoLayers().output("ghost", 1)).contains("ghost"));
    TensorProto shorter =
        ModelBuilder.tensor("w9", new long[] {2}, 1, 2).toBuilder().setDims(0, 3).build();
    assertTrue(refusal(twoLayers().initializer(shorter)).contains("w9"));
  }

  @ParameterizedTest
  @ValueSource(floats = {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY})
  void weightsThatAreNotFinite(float value) throws IOException {
    ModelBuilder raw =
        new ModelBuilder(17)
            .input("x", 1, 2)
            .output("y", 1, 2)
            .floats("bad.weight", new long[] {2, 2}, 1, 2, 3, value)
            .node("MatMul", List.of("x", "bad.weight"), List.of("y"));
    String message = refusal(raw);
    assertTrue(message.contains("bad.weight") && message.contains("element 3"), message);

    TensorProto half =
        TensorProto.newBuilder()
            .setName("bad.bias")
            .setDataType(DataType.FLOAT16_VALUE)
            .addDims(2)
            .addInt32Data(0)
            .addInt32Data(Short.toUnsignedInt(Float.floatToFloat16(value)))
            .build();
    message =
        refusal(
            new ModelBuilder(17)
                .input("x", 1, 2)
                .output("y", 1, 2)
                .initializer(half)
                .node("Cast", List.of("bad.bias"), List.of("c"), ModelBuilder.attribute("to", 1))
                .node("Add", List.of("x", "c"), List.of("y")));
    assertTrue(message.contains("bad.bias"), message);
  }

  @Test
  void infiniteMasksAndBoundsAreNoDamage() {
    float inf = Float.NEGATIVE_INFINITY;
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 2, 2)
            .output("y", 2, 2)
            .floats("mask", new long[] {2, 2}, 0, inf, 0, 0)
            .floats("low", new long[0], inf)
            .node("Add", List.of("x", "mask"), List.of("m"))
            .node("Identity", List.of("low"), List.of("bound"))
            .node("Clip", List.of("m", "bound"), List.of("y"))
            .model();
    assertEquals(3, model.operatorCounts().size());
  }

  @Test
  void versions() throws IOException {
    assertTrue(
        refusal(
                new ModelBuilder(6)
                    .input("x", 1)
                    .output("y", 1)
                    .node("Relu", List.of("x"), List.of("y")))
            .contains("opset 6"));
    String message = refusal(relu(ModelReader.NEWEST_OPSET + 1));
    assertTrue(message.contains("" + (ModelReader.NEWEST_OPSET + 1)), message);
    assertTrue(message.contains("7 to " + ModelReader.NEWEST_OPSET), message);
    message = refusal(relu(17).irVersion(ModelReader.NEWEST_IR + 1));
    assertTrue(message.contains("IR version " + (ModelReader.NEWEST_IR + 1)), message);
    for (int opset = ModelReader.OLDEST_OPSET; opset <= ModelReader.NEWEST_OPSET; opset++) {
      assertEquals(opset, relu(opset).model().opset());
    }
  }

  private static ModelBuilder relu(int opset) {
    return new ModelBuilder(opset)
        .input("x", 1)
        .output("y", 1)
        .node("Relu", List.of("x"), List.of("y"));
  }

  /** Fails when another runtime comes onto the class path: the limits are to be set anew then. */
  @Test
  void limitsAreThoseOfTheRuntime() throws OrtException {
    OrtEnvironment environment = OrtEnvironment.getEnvironment();
    byte[] newest =
        relu(ModelReader.NEWEST_OPSET).irVersion(ModelReader.NEWEST_IR).proto().toByteArray();
    Ort.session(environment, newest).close();
    byte[] opset = relu(ModelReader.NEWEST_OPSET + 1).proto().toByteArray();
    assertThrows(OrtException.class, () -> Ort.session(environment, opset));
    byte[] ir = relu(17).irVersion(ModelReader.NEWEST_IR + 1).proto().toByteArray();
    assertThrows(OrtException.class, () -> Ort.session(environment, ir));
  }

  @Test
  void whatIsNotUnderstoodStays() throws IOException {
    FunctionProto function =
        FunctionProto.newBuilder()
            .setName("Twice")
            .setDomain("local")
            .addInput("a")
            .addOutput("b")
            .addOpsetImport(OperatorSetIdProto.newBuilder().setVersion(17))
            .addNode(
                NodeProto.newBuilder().setOpType("Add").addInput("a").addInput("a").addOutput("b"))
            .build();
    // An unknown field first: protobuf would write it last.
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    UnknownFieldSet.newBuilder()
        .addField(999, UnknownFieldSet.Field.newBuilder().addVarint(5).build())
        .build()
        .writeTo(bytes);
    ModelBuilder builder = twoLayers().domain("local", 1);
    builder.node(
        NodeProto.newBuilder()
            .setOpType("Twice")
            .setDomain("local")
            .addInput("y")
            .addOutput("z")
            .build());
    builder.output("z", -1, 3);
    builder.proto().toBuilder().addFunctions(function).build().writeTo(bytes);
    Path file = Files.write(folder.resolve("odd.onnx"), bytes.toByteArray());

    OnnxModel model = OnnxModel.read(file);
    assertArrayEquals(bytes.toByteArray(), model.toBytes());
    assertEquals(1, model.operatorCounts().get("local.Twice"));
    model.setMetadata("edited", "1");
    ModelProto edited = ModelProto.parseFrom(model.toBytes());
    assertEquals(List.of(function), edited.getFunctionsList());
    assertTrue(edited.getUnknownFields().hasField(999));
    Ort.assertSame(
        Ort.run(OnnxModel.read(file), Ort.Tensor.random(2, 6)),
        Ort.run(model, Ort.Tensor.random(2, 6)),
        0);
  }

  @Test
  void describesItself() {
    ModelBuilder builder = twoLayers().irVersion(3).inputOfUnknownRank("free").input("w2", 3, 64);
    OnnxModel model = builder.model();
    assertEquals(
        List.of(
            new TensorInfo("x", "FLOAT", List.of(-1L, 6L), true),
            new TensorInfo("free", "FLOAT", List.of(), false)),
        model.inputs());
    assertEquals(List.of(new TensorInfo("y", "FLOAT", List.of(-1L, 3L), true)), model.outputs());
    assertEquals(Map.of("MatMul", 1, "Add", 1, "Relu", 1, "Gemm", 1), model.operatorCounts());
    assertEquals(17, model.opset());
    assertTrue(model.source().endsWith(".onnx"));
  }

  @Test
  void metadataAndCopies() {
    OnnxModel model = twoLayers().model();
    model.setMetadata("a", "1");
    OnnxModel copy = model.copy();
    copy.setMetadata("a", "2");
    copy.setMetadata("b", "3");
    Layer layer = LayerDiscovery.discover(copy).getFirst();
    LayerWeights.fold(copy, layer, 0, new float[6 * 64]);

    assertEquals(Map.of("a", "1"), model.metadata());
    assertEquals(Map.of("a", "2", "b", "3"), copy.metadata());
    assertEquals(0, LayerWeights.zeros(model, layer));
    assertEquals(6 * 64, LayerWeights.zeros(copy, layer));
  }

  @Test
  void writesExternalData() throws IOException {
    OnnxModel model = twoLayers().model();
    model.setMetadata("edited", "1");
    Path file = folder.resolve("big.onnx");
    model.write(file, 1000);

    ModelProto written = ModelProto.parseFrom(Files.readAllBytes(file));
    Map<String, DataLocation> locations =
        written.getGraph().getInitializerList().stream()
            .collect(Collectors.toMap(TensorProto::getName, TensorProto::getDataLocation));
    // w1 has 1536 bytes, w2 768, b1 256.
    assertEquals(DataLocation.EXTERNAL, locations.get("w1"));
    assertEquals(DataLocation.DEFAULT, locations.get("b1"));
    assertEquals(1536, Files.size(folder.resolve("big.onnx.data")));
    try (Stream<Path> files = Files.list(folder)) {
      assertEquals(
          Set.of("big.onnx", "big.onnx.data"),
          files.map(path -> path.getFileName().toString()).collect(Collectors.toSet()));
    }

    OnnxModel back = OnnxModel.read(file);
    assertArrayEquals(model.toBytes(), back.toBytes());
    assertEquals(model.sizeInBytes(), back.sizeInBytes());
    // Below the limit it becomes one file, even on top of the files that it was read from.
    back.write(file);
    Files.delete(folder.resolve("big.onnx.data"));
    assertArrayEquals(model.toBytes(), OnnxModel.read(file).toBytes());
  }

  @Test
  void externalOffsetsAreAligned() throws Exception {
    OnnxModel model =
        twoLayers()
            .random("w3", 64, 10)
            .node("MatMul", List.of("r", "w3"), List.of("z"))
            .output("z", -1, 10)
            .model();
    model.setMetadata("edited", "1");
    Path file = folder.resolve("two.onnx");
    model.write(file, 1000);
    assertEquals(4096 + 2560, Files.size(folder.resolve("two.onnx.data")));
    OnnxModel back = OnnxModel.read(file);
    Ort.assertSame(
        Ort.run(model, Ort.Tensor.random(2, 6)), Ort.run(back, Ort.Tensor.random(2, 6)), 0);
    // The runtime reads the two files itself.
    try (OrtSession session = OrtEnvironment.getEnvironment().createSession(file.toString())) {
      assertEquals(2, session.getNumOutputs());
    }
  }

  /** A model whose weight w lies in a data file: 2 x 2 floats at offset 4. */
  private Path external(UnaryOperator<TensorProto.Builder> change) throws IOException {
    Files.write(folder.resolve("w.bin"), new byte[20]);
    TensorProto.Builder tensor =
        TensorProto.newBuilder()
            .setName("w")
            .setDataType(DataType.FLOAT_VALUE)
            .addDims(2)
            .addDims(2)
            .setDataLocation(DataLocation.EXTERNAL)
            .addExternalData(entry("location", "w.bin"))
            .addExternalData(entry("offset", "4"))
            .addExternalData(entry("length", "16"));
    return new ModelBuilder(17)
        .input("x", 1, 2)
        .output("y", 1, 2)
        .initializer(change.apply(tensor).build())
        .node("MatMul", List.of("x", "w"), List.of("y"))
        .write(folder.resolve("external.onnx"));
  }

  private static StringStringEntryProto entry(String key, String value) {
    return StringStringEntryProto.newBuilder().setKey(key).setValue(value).build();
  }

  @Test
  void externalData() throws IOException {
    assertEquals(1, LayerDiscovery.discover(OnnxModel.read(external(t -> t))).size());
    // Without offset and length: from the start, as much as the shape needs.
    Path file = external(t -> t.clearExternalData().addExternalData(entry("location", "w.bin")));
    assertEquals(1, LayerDiscovery.discover(OnnxModel.read(file)).size());
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "/etc/passwd",
        "../w.bin",
        "sub/../../w.bin",
        "..\\w.bin",
        "C:\\w.bin",
        "\\\\server\\w.bin",
        "",
        "missing.bin",
        "link.bin",
        "linked/outside.bin"
      })
  void externalDataElsewhereIsRefused(String location) throws IOException {
    Path outside = Files.createTempDirectory("outside");
    Path target = Files.write(outside.resolve("outside.bin"), new byte[20]);
    Files.createSymbolicLink(folder.resolve("link.bin"), target);
    Files.createSymbolicLink(folder.resolve("linked"), outside);
    Path file = external(t -> t.setExternalData(0, entry("location", location)));
    String message = refusal(file);
    assertTrue(message.contains("'w'"), message);
    Files.delete(target);
    Files.delete(outside);
  }

  @Test
  void externalDataLinksInsideTheFolderAreFine() throws IOException {
    Files.createSymbolicLink(folder.resolve("alias.bin"), Path.of("w.bin"));
    Path file = external(t -> t.setExternalData(0, entry("location", "alias.bin")));
    assertEquals(1, LayerDiscovery.discover(OnnxModel.read(file)).size());
  }

  @Test
  void externalDataOutsideTheFileIsRefused() throws IOException {
    for (String offset : List.of("8", "-4", "9223372036854775807", "x")) {
      String message = refusal(external(t -> t.setExternalData(1, entry("offset", offset))));
      assertTrue(message.contains("'w'"), message);
    }
    for (String length : List.of("15", "-1", "9223372036854775807")) {
      refusal(external(t -> t.setExternalData(2, entry("length", length))));
    }
    refusal(external(t -> t.setDims(0, Long.MAX_VALUE)));
  }

  @Test
  void cannotWriteWhereAFileStands() throws IOException {
    OnnxModel model = twoLayers().model();
    Path file = Files.write(folder.resolve("file"), new byte[1]);
    TacoException e =
        assertThrows(TacoException.class, () -> model.write(file.resolve("model.onnx")));
    assertEquals(TacoException.Kind.RUNTIME, e.kind());
  }

  @Test
  void subgraphNeedsItsInputs() {
    OnnxModel model = twoLayers().model();
    Ort.Tensor input = Ort.Tensor.random(5, 6);
    Ort.Tensor hidden = Ort.run(model.withOutputs(List.of("r"), false), input).get("r");

    OnnxModel tail = model.subgraph(Map.of("r", DataType.FLOAT_VALUE), List.of("y"));
    assertEquals(List.of(new TensorInfo("r", "FLOAT", List.of(), false)), tail.inputs());
    assertEquals(Map.of("Gemm", 1), tail.operatorCounts());
    Ort.assertSame(Ort.run(model, input), Ort.run(tail.toBytes(), Map.of("r", hidden)), 0);

    IllegalArgumentException e =
        assertThrows(
            IllegalArgumentException.class, () -> model.subgraph(Map.of("hb", 1), List.of("h")));
    assertTrue(e.getMessage().contains("'x'"), e.getMessage());
    assertThrows(IllegalArgumentException.class, () -> model.withOutputs(List.of("w1"), true));
    assertThrows(IllegalArgumentException.class, () -> model.stages(List.of("x")));
  }

  /** An If whose branches capture a tensor and a weight of the main graph. */
  private static ModelBuilder withIf() {
    ModelBuilder then =
        new ModelBuilder(17)
            .node("inner", "MatMul", List.of("r", "captured.weight"), List.of("t"))
            .outputOfUnknownRank("t");
    ModelBuilder otherwise =
        new ModelBuilder(17).node("Identity", List.of("r"), List.of("e")).outputOfUnknownRank("e");
    return twoLayers()
        .random("captured.weight", 64, 64)
        .initializer(
            TensorProto.newBuilder()
                .setName("yes")
                .setDataType(DataType.BOOL_VALUE)
                .addInt32Data(1)
                .build())
        .node(
            "choice",
            "If",
            List.of("yes"),
            List.of("z"),
            ModelBuilder.attribute("then_branch", then.graph()),
            ModelBuilder.attribute("else_branch", otherwise.graph()))
        .outputOfUnknownRank("z");
  }

  @Test
  void subgraphsOfControlFlowCaptureTensors() {
    OnnxModel model = withIf().model();
    Ort.Tensor input = Ort.Tensor.random(2, 6);
    Map<String, Ort.Tensor> expected = Ort.run(model, input);

    OnnxModel part = model.withOutputs(List.of("z"), false);
    assertEquals(Map.of("MatMul", 1, "Add", 1, "Relu", 1, "If", 1), part.operatorCounts());
    Ort.assertSame(Map.of("z", expected.get("z")), Ort.run(part, input), 0);

    List<OnnxModel.Stage> stages = model.stages(List.of("r"));
    assertEquals(
        List.of(
            new OnnxModel.Stage(List.of("x"), List.of("r")),
            new OnnxModel.Stage(List.of("r"), List.of("y", "z"))),
        stages);
    OnnxModel tail = model.subgraph(Map.of("r", 1), stages.getLast().outputs());
    Ort.Tensor hidden = Ort.run(model.withOutputs(List.of("r"), false), input).get("r");
    Ort.assertSame(expected, Ort.run(tail.toBytes(), Map.of("r", hidden)), 0);

    assertEquals(
        List.of("inner"),
        LayerDiscovery.skipped(model).stream().map(LayerDiscovery.Skipped::name).toList());
  }

  @Test
  void stagesShareConstants() {
    AttributeProto value =
        ModelBuilder.attribute("value", ModelBuilder.tensor("", new long[] {1}, 2));
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 3)
            .output("y", 3)
            .node("Constant", List.of(), List.of("two"), value)
            .node("Mul", List.of("two", "two"), List.of("four"))
            .node("Mul", List.of("x", "four"), List.of("a"))
            .node("Relu", List.of("a"), List.of("b"))
            .node("Add", List.of("b", "four"), List.of("c"))
            .node("Add", List.of("c", "x"), List.of("y"))
            .model();
    List<OnnxModel.Stage> stages = model.stages(List.of("b", "c"));
    assertEquals(
        List.of(
            new OnnxModel.Stage(List.of("x"), List.of("b")),
            new OnnxModel.Stage(List.of("b"), List.of("c")),
            new OnnxModel.Stage(List.of("c", "x"), List.of("y"))),
        stages);
    OnnxModel middle = model.subgraph(Map.of("b", 1), List.of("c"));
    assertEquals(Map.of("Constant", 1, "Mul", 1, "Add", 1), middle.operatorCounts());
  }
}
