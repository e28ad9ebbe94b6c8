package org.taco4j.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.google.protobuf.ByteString;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.common.TacoException;
import org.taco4j.export.SparseOperators;
import org.taco4j.export.SparseSessions;
import org.taco4j.runtime.OperatorLibrary;

class PackedWeightsTest {
  private static final Path MODELS = Path.of("../shared/real/models");

  @TempDir Path folder;

  /** Values of which that share, at random places, is zero. */
  private static float[] sparse(int count, double zeros, long seed) {
    Random random = new Random(seed);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = random.nextDouble() < zeros ? 0 : (float) random.nextGaussian();
    }
    return values;
  }

  private static ModelBuilder convolution(int opset, float[] weights, long... dims) {
    return new ModelBuilder(opset)
        .input("x", 1, dims[1], 8, 8)
        .floats("w", dims, weights)
        .node("conv", "Conv", List.of("x", "w"), List.of("y"))
        .output("y", 1, dims[0], 8 - dims[2] + 1, 8 - dims[3] + 1);
  }

  /** Packs, writes and reads again; all must be what it was, and the same in ONNX Runtime. */
  private OnnxModel roundTrip(OnnxModel model) {
    Path file = folder.resolve("packed.onnx");
    OnnxModel packed = model.copy();
    PackedWeights.pack(packed);
    packed.write(file);
    OnnxModel read = OnnxModel.read(file);
    assertEquals(model.operatorCounts(), read.operatorCounts());
    assertEquals(
        model.index().graph().getInitializerList().stream().map(TensorProto::getName).toList(),
        read.index().graph().getInitializerList().stream().map(TensorProto::getName).toList());
    for (TensorProto tensor : model.index().graph().getInitializerList()) {
      TensorProto other = read.index().stored(tensor.getName());
      assertEquals(tensor.getDimsList(), other.getDimsList());
      assertEquals(tensor.getDataType(), other.getDataType());
      assertEquals(tensor.getRawData(), other.getRawData(), tensor.getName());
    }
    return packed;
  }

  /** What has been unpacked is what is written, handed to a runtime and counted: not the file. */
  @Test
  void unpackedStaysUnpackedThoughNothingIsEdited() throws IOException {
    OnnxModel model = convolution(17, sparse(64 * 64, 0.9, 2), 64, 64, 1, 1).model();
    OnnxModel packed = model.copy();
    PackedWeights.pack(packed);
    Path file = folder.resolve("stays.onnx");
    packed.write(file);
    OnnxModel read = OnnxModel.read(file);
    Path again = folder.resolve("again.onnx");
    read.copy().write(again);
    for (byte[] bytes : List.of(read.toBytes(), Files.readAllBytes(again))) {
      ModelProto raw = ModelProto.parseFrom(bytes);
      assertEquals(1, raw.getGraph().getNodeCount());
      assertEquals(0, raw.getFunctionsCount());
      assertEquals(bytes.length, read.sizeInBytes());
    }
    assertEquals(Files.size(file), read.bytesRead());
    assertTrue(read.bytesRead() < read.sizeInBytes());
  }

  /** Optimised as usual: only constants that are folded are packed for the same kernels. */
  private static void assertSameInRuntime(OnnxModel model, OnnxModel packed) {
    Ort.Tensor input =
        Ort.Tensor.random(
            model.inputs().getFirst().shape().stream().mapToLong(d -> d < 0 ? 2 : d).toArray());
    Map<String, Ort.Tensor> feeds = Map.of(model.inputs().getFirst().name(), input);
    try (OrtSession dense = SparseSessions.open(model.toBytes(), 1, false);
        OrtSession unpacking = SparseSessions.open(packed.toBytes(), 1, false)) {
      assertArrayEquals(
          SparseSessions.run(dense, feeds).values(), SparseSessions.run(unpacking, feeds).values());
    } catch (OrtException e) {
      throw new AssertionError(e);
    }
  }

  // Zeros between values, more of them than a gap can span, and at both ends.
  @ParameterizedTest
  @CsvSource({"0.6", "0.9", "0.999", "1"})
  void valuesComeBackToTheBit(double zeros) {
    OnnxModel model = convolution(17, sparse(37 * 29 * 9, zeros, 1), 37, 29, 3, 3).model();
    OnnxModel packed = roundTrip(model);
    assertEquals(1, packed.operatorCounts().get("taco4j.packed.Unpack"));
    assertTrue(packed.sizeInBytes() < model.sizeInBytes());
    assertSameInRuntime(model, packed);
  }

  @ParameterizedTest
  @CsvSource({"254", "255", "256", "510", "511", "1000"})
  void aGapOfAnyLength(int gap) {
    float[] values = new float[2048];
    values[3] = -0.0f;
    values[3 + gap] = 2;
    values[2047] = 3;
    OnnxModel model = convolution(12, values, 16, 128, 1, 1).model();
    assertSameInRuntime(model, roundTrip(model));
  }

  @Test
  void savesWhatItSays() {
    OnnxModel model = convolution(17, sparse(64 * 64 * 9, 0.9, 2), 64, 64, 3, 3).model();
    long zeros = 0;
    for (float value : TensorData.floats(model.index().stored("w"))) {
      zeros += value == 0 ? 1 : 0;
    }
    PackedWeights.Outcome outcome = PackedWeights.pack(model);
    assertEquals(1, outcome.tensors());
    assertEquals(64 * 64 * 9 * 4, outcome.denseBytes());
    // Five bytes each; 0.9 to the 255 is nothing, so no gap is too long.
    assertEquals((64 * 64 * 9 - zeros) * 5, outcome.packedBytes());
  }

  @Test
  void eightBitWeightsBehindDequantizeLinear() {
    byte[] codes = new byte[40 * 30];
    Random random = new Random(3);
    for (int i = 0; i < codes.length; i++) {
      codes[i] = random.nextInt(4) == 0 ? (byte) random.nextInt() : 0;
    }
    TensorProto weights =
        TensorProto.newBuilder()
            .setName("w8")
            .setDataType(DataType.INT8_VALUE)
            .addDims(30)
            .addDims(40)
            .setRawData(ByteString.copyFrom(codes))
            .build();
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 2, 30)
            .initializer(weights)
            .floats("scale", new long[0], 0.5f)
            .node("dequantize", "DequantizeLinear", List.of("w8", "scale"), List.of("w"))
            .node("product", "MatMul", List.of("x", "w"), List.of("y"))
            .output("y", 2, 40)
            .model();
    assertSameInRuntime(model, roundTrip(model));
  }

  @Test
  void leavesWhatWouldNotShrink() {
    OnnxModel model = convolution(17, sparse(8 * 32 * 9, 0.2, 4), 8, 32, 3, 3).model();
    assertEquals(new PackedWeights.Outcome(0, 0, 0), PackedWeights.pack(model));
    assertEquals(Map.of("Conv", 1), model.operatorCounts());
  }

  @Test
  void packedTwiceIsPackedOnce() {
    OnnxModel model = convolution(17, sparse(64 * 64, 0.9, 2), 64, 64, 1, 1).model();
    PackedWeights.pack(model);
    byte[] once = model.toBytes();
    PackedWeights.pack(model);
    assertArrayEquals(once, model.toBytes());
  }

  @Test
  void olderOpsetsAreRefused() {
    OnnxModel model = convolution(11, sparse(64 * 64, 0.9, 2), 64, 64, 1, 1).model();
    byte[] before = model.toBytes();
    TacoException e = assertThrows(TacoException.class, () -> PackedWeights.pack(model));
    assertEquals(TacoException.Kind.MODEL, e.kind());
    assertTrue(e.getMessage().contains("opset 11"), e.getMessage());
    assertArrayEquals(before, model.toBytes());
  }

  /** A runtime folds the nodes away: what is left is the graph that the dense model becomes. */
  @Test
  void nothingIsLeftToUnpackAtRunTime() throws OrtException {
    OnnxModel model = convolution(17, sparse(64 * 64, 0.9, 2), 64, 64, 1, 1).model();
    PackedWeights.pack(model);
    Path optimized = folder.resolve("optimized.onnx");
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setOptimizationLevel(OrtSession.SessionOptions.OptLevel.BASIC_OPT);
      options.setOptimizedModelFilePath(optimized.toString());
      OrtEnvironment.getEnvironment().createSession(model.toBytes(), options).close();
    }
    assertEquals(Map.of("Conv", 1), OnnxModel.read(optimized).operatorCounts());
  }

  /** Those take weights only where they are constants by the time that kernels are made. */
  @Test
  void sparseOperatorsReadThem() throws OrtException {
    assumeTrue(OperatorLibrary.isAvailable(), "no operator library for this platform");
    OnnxModel model = convolution(17, sparse(64 * 64, 0.9, 2), 64, 64, 1, 1).model();
    SparseOperators.rewrite(model, layer -> true);
    OnnxModel packed = roundTrip(model);
    assertEquals(
        Map.of("taco4j.SparseConv", 1, "taco4j.packed.Unpack", 1), packed.operatorCounts());
    Map<String, Ort.Tensor> feeds = Map.of("x", Ort.Tensor.random(1, 64, 8, 8));
    try (OrtSession dense = SparseSessions.open(model.toBytes(), 1);
        OrtSession unpacking = SparseSessions.open(packed.toBytes(), 1)) {
      assertArrayEquals(
          SparseSessions.run(dense, feeds).values(), SparseSessions.run(unpacking, feeds).values());
    }
  }

  @Test
  void valuesThatAnotherProgramHasMerged() throws Exception {
    float[] values = sparse(64 * 64, 0.9, 2);
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 1, 64, 4, 4)
            .floats("v", new long[] {64, 64, 1, 1}, values)
            .floats("w", new long[] {64, 64, 1, 1}, values)
            .node("a", "Conv", List.of("x", "v"), List.of("h"))
            .node("b", "Conv", List.of("h", "w"), List.of("y"))
            .output("y", 1, 64, 4, 4)
            .model();
    OnnxModel packed = model.copy();
    PackedWeights.pack(packed);
    packed.edit(
        graph -> {
          for (int input = 0; input < 2; input++) {
            graph.getNodeBuilder(1).setInput(input, graph.getNode(0).getInput(input));
          }
        });
    Path file = folder.resolve("merged.onnx");
    packed.write(file);
    OnnxModel read = OnnxModel.read(file);
    assertArrayEquals(values, TensorData.floats(read.index().stored("v")));
    assertArrayEquals(values, TensorData.floats(read.index().stored("w")));
    assertFalse(packed.hasSparseOperators(), "there is nothing for a library to run");
    assertFalse(OnnxModel.hasSparseOperators(file));
  }

  private void assertRefused(String part, Consumer<GraphProto.Builder> damage) throws Exception {
    OnnxModel model = convolution(17, sparse(64 * 64, 0.9, 2), 64, 64, 1, 1).model();
    PackedWeights.pack(model);
    ModelProto.Builder damaged = ModelProto.parseFrom(model.toBytes()).toBuilder();
    damage.accept(damaged.getGraphBuilder());
    Path file = folder.resolve("damaged.onnx");
    Files.write(file, damaged.build().toByteArray());
    TacoException e = assertThrows(TacoException.class, () -> OnnxModel.read(file));
    assertEquals(TacoException.Kind.MODEL, e.kind());
    assertTrue(e.getMessage().contains(part), e.getMessage());
    assertTrue(e.getMessage().contains("damaged.onnx"), e.getMessage());
  }

  private static void setAttribute(GraphProto.Builder graph, AttributeProto attribute) {
    NodeProto.Builder node = graph.getNodeBuilder(0);
    for (int i = 0; i < node.getAttributeCount(); i++) {
      if (node.getAttribute(i).getName().equals(attribute.getName())) {
        node.setAttribute(i, attribute);
      }
    }
  }

  @Test
  void damagedModels() throws Exception {
    assertRefused(
        "of 64", graph -> setAttribute(graph, ModelBuilder.attribute("shape", new long[] {8, 8})));
    assertRefused(
        "[-1, 64]",
        graph -> setAttribute(graph, ModelBuilder.attribute("shape", new long[] {-1, 64})));
    assertRefused(
        "shape",
        graph ->
            setAttribute(graph, ModelBuilder.attribute("shape", new long[] {1L << 31, 1L << 31})));
    assertRefused(
        "a type",
        graph -> setAttribute(graph, ModelBuilder.attribute("type", DataType.INT8_VALUE)));
    assertRefused("needs stored values", graph -> graph.getNodeBuilder(0).setInput(1, "nothing"));
    assertRefused("needs stored values", graph -> graph.getNodeBuilder(0).clearInput());
    assertRefused(
        "gaps",
        graph -> {
          TensorProto.Builder gaps = graph.getInitializerBuilder(1);
          gaps.setDims(0, 5).setRawData(gaps.getRawData().substring(0, 5));
        });
    assertRefused(
        "at -1",
        graph -> {
          TensorProto.Builder gaps = graph.getInitializerBuilder(1);
          byte[] bytes = gaps.getRawData().toByteArray();
          bytes[0] = 0;
          gaps.setRawData(ByteString.copyFrom(bytes));
        });
  }

  @ParameterizedTest
  @CsvSource({
    "imagenet-deit-tiny",
    "imagenet-mobilenetv2",
    "imagenet-squeezenet1.1",
    "cifar10-resnet56",
    "cifar100-mobilenetv3small",
  })
  void realModels(String name) {
    Path file = MODELS.resolve(name + ".onnx");
    assumeTrue(Files.exists(file), () -> file + " is not there");
    OnnxModel model = OnnxModel.read(file);
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (LayerWeights.canFold(model, layer)) {
        float[][] weights = LayerWeights.unfold(model, layer);
        for (float[] group : weights) {
          for (int i = 0; i < group.length; i++) {
            group[i] = i % 10 == 7 ? group[i] : 0;
          }
        }
        LayerWeights.fold(model, layer, weights);
      }
    }
    OnnxModel packed = roundTrip(model);
    assertTrue(packed.sizeInBytes() * 3 < model.sizeInBytes(), () -> "" + packed.sizeInBytes());
    assertSameInRuntime(model, packed);
  }
}
