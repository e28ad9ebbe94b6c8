package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.onnx.BatchNormFolding;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;

/** The Q/DQ form for TensorRT, run in ONNX Runtime on the CPU. */
class SymmetricQuantizationTest {
  private static final Path MODELS = Path.of("../shared/real/models");
  private static final long[] PADS = {1, 1, 1, 1};

  @TempDir Path folder;

  /** A residual block and a classifier: conv, Relu, conv, Add of the first's output, pool, Gemm. */
  private static OnnxModel block(long channels) {
    return new ModelBuilder(13)
        .input("x", 1, 3, 9, 7)
        .output("y", 1, 5)
        .random("w1", channels, 3, 3, 3)
        .random("b1", channels)
        .random("w2", channels, channels, 3, 3)
        .random("w3", 5, channels)
        .random("b3", 5)
        .node("conv1", "Conv", List.of("x", "w1", "b1"), List.of("c1"), attribute("pads", PADS))
        .node("relu1", "Relu", List.of("c1"), List.of("r1"))
        .node("conv2", "Conv", List.of("r1", "w2"), List.of("c2"), attribute("pads", PADS))
        .node("add", "Add", List.of("c2", "r1"), List.of("s"))
        .node("pool", "GlobalAveragePool", List.of("s"), List.of("p"))
        .node("flat", "Flatten", List.of("p"), List.of("f"))
        .node("fc", "Gemm", List.of("f", "w3", "b3"), List.of("y"), attribute("transB", 1))
        .model();
  }

  private static void round(OnnxModel model, String... floats) {
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (!List.of(floats).contains(layer.name()) && LayerWeights.canFold(model, layer)) {
        WeightQuantization.round(model, layer);
      }
    }
  }

  private OnnxModel written(OnnxModel model) {
    Path file = folder.resolve("written.onnx");
    model.write(file);
    return OnnxModel.read(file);
  }

  /** Every Q and DQ has signed codes, zero points of 0, and a scale for the tensor or each row. */
  private static void assertSymmetric(OnnxModel model) {
    for (NodeProto node : model.index().graph().getNodeList()) {
      if (Nodes.is(node, "QuantizeLinear") || Nodes.is(node, "DequantizeLinear")) {
        TensorProto zero = model.index().stored(node.getInput(2));
        assertEquals(TensorProto.DataType.INT8_VALUE, zero.getDataType(), Nodes.label(node));
        for (byte value : zero.getRawData().toByteArray()) {
          assertEquals(0, value, Nodes.label(node));
        }
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"1", "3", "8", "17"})
  void pairsStandBeforeLayersAndOnTheResidualOperand(int channels) {
    OnnxModel model = block(channels);
    round(model, "fc");
    Ort.Tensor input = Ort.Tensor.random(1, 3, 9, 7);
    float[] expected = Ort.run(model, input).get("y").values();
    SymmetricQuantization plan = SymmetricQuantization.plan(model, layer -> true, Set.of());
    // r1 once: it is read by conv2 and by the addition.
    assertEquals(List.of("x", "r1"), List.copyOf(plan.tensors()));
    OnnxModel work = model.copy();
    ActivationQuantization.Outcome outcome =
        plan.rewrite(work, IntegerOperatorsTest.ranges(model, plan.tensors(), input));
    assertEquals(Map.of("conv1", "Conv with Q/DQ", "conv2", "Conv with Q/DQ"), outcome.rewritten());
    assertEquals(Set.of("fc"), outcome.floats().keySet());
    OnnxModel file = written(work);
    assertSymmetric(file);
    assertEquals(2, file.operatorCounts().get("QuantizeLinear"));
    assertEquals(4, file.operatorCounts().get("DequantizeLinear"));
    NodeProto add = file.index().node(file.index().producer("s"));
    assertEquals(List.of("c2", "r1_dequantized"), add.getInputList());
    assertEquals("r1_dequantized", file.index().node(file.index().producer("c2")).getInput(0));
    float[] actual = Ort.run(file, input).get("y").values();
    double error = 0;
    double norm = 0;
    for (int i = 0; i < expected.length; i++) {
      error += Math.pow(actual[i] - expected[i], 2);
      norm += Math.pow(expected[i], 2);
    }
    // Two roundings of half a step of 1/127 of the largest value, averaged over many.
    assertTrue(Math.sqrt(error / norm) < 0.03, () -> "relative error " + List.of(actual));
    TensorRtForm.Outcome form = TensorRtForm.apply(file);
    assertEquals(2, form.quantized());
    assertEquals(3, form.layers());
  }

  @Test
  void codesAreThoseOfTheSymmetricGrid() {
    OnnxModel model =
        new ModelBuilder(13)
            .input("x", 1, 4)
            .output("y", 1, 4)
            .floats("w", new long[] {4, 4}, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
            .node("fc", "MatMul", List.of("x", "w"), List.of("y"))
            .model();
    round(model);
    // The largest magnitude, -254, is 127 steps of 2; 3 is half way between 1 and 2 steps: to even.
    Ort.Tensor input = new Ort.Tensor(new float[] {-254, 3, 1, 200}, 1, 4);
    SymmetricQuantization plan = SymmetricQuantization.plan(model, layer -> true, Set.of());
    OnnxModel work = model.copy();
    plan.rewrite(work, IntegerOperatorsTest.ranges(model, plan.tensors(), input));
    assertArrayEquals(new float[] {-254, 4, 0, 200}, Ort.run(work, input).get("y").values(), 1e-4f);
  }

  @Test
  void tensorsWithoutARangeStayFloat() {
    OnnxModel model = block(8);
    round(model);
    SymmetricQuantization plan = SymmetricQuantization.plan(model, layer -> true, Set.of("r1"));
    assertEquals(List.of("x", "f"), List.copyOf(plan.tensors()));
    OnnxModel work = model.copy();
    ActivationQuantization.Outcome outcome =
        plan.rewrite(
            work,
            IntegerOperatorsTest.ranges(model, plan.tensors(), Ort.Tensor.random(1, 3, 9, 7)));
    assertEquals(Set.of("conv2"), outcome.floats().keySet());
    assertTrue(outcome.floats().get("conv2").contains("'r1' is 0 on all"), outcome.toString());
  }

  @ParameterizedTest
  @CsvSource({"cifar10-resnet20", "cifar10-vit", "cifar100-mobilenetv3small"})
  void realModels(String name) {
    Path file = MODELS.resolve(name + ".onnx");
    assumeTrue(Files.exists(file), () -> file + " is not there");
    OnnxModel model = OnnxModel.read(file);
    BatchNormFolding.fold(model);
    Map<String, Long> zeros = new java.util.TreeMap<>();
    round(model);
    for (Layer layer : LayerDiscovery.discover(model)) {
      zeros.put(layer.name(), LayerWeights.zeros(model, layer));
    }
    Ort.Tensor input =
        Ort.Tensor.random(
            model.inputs().getFirst().shape().stream().mapToLong(d -> Math.max(1, d)).toArray());
    SymmetricQuantization plan = SymmetricQuantization.plan(model, layer -> true, Set.of());
    OnnxModel work = model.copy();
    ActivationQuantization.Outcome outcome =
        plan.rewrite(work, IntegerOperatorsTest.ranges(model, plan.tensors(), input));
    OnnxModel read = written(work);
    assertSymmetric(read);
    TensorRtForm.Outcome form = TensorRtForm.apply(read);
    assertEquals(outcome.rewritten().size(), form.quantized());
    // Zeros stay zeros, and names of layers stay.
    Map<String, Long> now = new java.util.TreeMap<>();
    for (Layer layer : LayerDiscovery.discover(read)) {
      now.put(layer.name(), LayerWeights.zeros(read, layer));
    }
    assertEquals(zeros, now);
    Set<String> all = new TreeSet<>(outcome.rewritten().keySet());
    all.addAll(outcome.floats().keySet());
    assertEquals(zeros.keySet(), all);
    assertTrue(outcome.rewritten().size() >= zeros.size() - 1, outcome.floats().toString());
    Ort.run(read, input);
  }
}
