package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnx.proto.OnnxMl.SparseTensorProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import com.google.protobuf.ByteString;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;
import org.taco4j.onnx.TensorData;

class TensorRtFormTest {

  private static SparseTensorProto sparse(String name, boolean flat) {
    // [[0, 2, 0], [0, 0, 0], [-1, 0, 3]]
    long[] indices = flat ? new long[] {1, 6, 8} : new long[] {0, 1, 2, 0, 2, 2};
    TensorProto.Builder at =
        TensorProto.newBuilder().setDataType(TensorProto.DataType.INT64_VALUE).addDims(3);
    if (!flat) {
      at.addDims(2);
    }
    for (long index : indices) {
      at.addInt64Data(index);
    }
    return SparseTensorProto.newBuilder()
        .setValues(
            TensorData.of(
                name, TensorProto.DataType.FLOAT_VALUE, List.of(3L), new float[] {2, -1, 3}))
        .setIndices(at)
        .addAllDims(List.of(3L, 3L))
        .build();
  }

  @Test
  void sparseInitializersBecomeDense() {
    OnnxModel model =
        new ModelBuilder(13)
            .input("x", 1, 3)
            .output("y", 1, 3)
            .node("a", "MatMul", List.of("x", "w"), List.of("h"))
            .node("b", "MatMul", List.of("h", "v"), List.of("y"))
            .random("w", 3, 3)
            .random("v", 3, 3)
            .model();
    model.edit(
        graph ->
            graph
                .clearInitializer()
                .addSparseInitializer(sparse("w", true))
                .addSparseInitializer(sparse("v", false)));
    TensorRtForm.Outcome outcome = TensorRtForm.apply(model);
    assertEquals(2, outcome.densified());
    assertEquals(0, model.index().graph().getSparseInitializerCount());
    for (Layer layer : LayerDiscovery.discover(model)) {
      assertEquals(6, LayerWeights.zeros(model, layer));
    }
    // [1 2 3] W = [-3 2 9]; that W = [-9 -6 27].
    assertArrayEquals(
        new float[] {-9, -6, 27},
        Ort.run(model, new Ort.Tensor(new float[] {1, 2, 3}, 1, 3)).get("y").values());
  }

  @Test
  void sparseConstantsBecomeDenseAndDamagedOnesAreRefused() {
    ai.onnx.proto.OnnxMl.AttributeProto value =
        ai.onnx.proto.OnnxMl.AttributeProto.newBuilder()
            .setName("sparse_value")
            .setType(ai.onnx.proto.OnnxMl.AttributeProto.AttributeType.SPARSE_TENSOR)
            .setSparseTensor(sparse("", true))
            .build();
    OnnxModel model =
        new ModelBuilder(13)
            .input("x", 1, 3)
            .output("y", 1, 3)
            .node("w", "Constant", List.of(), List.of("w"), value)
            .node("a", "MatMul", List.of("x", "w"), List.of("y"))
            .model();
    OnnxModel damaged = model.copy();
    assertEquals(1, TensorRtForm.apply(model).densified());
    assertNull(model.operatorCounts().get("Constant"));
    assertEquals(6, LayerWeights.zeros(model, LayerDiscovery.find(model, "a")));
    damaged.edit(
        graph ->
            graph
                .getNodeBuilder(0)
                .getAttributeBuilder(0)
                .getSparseTensorBuilder()
                .getIndicesBuilder()
                .setInt64Data(0, 9));
    TacoException e = assertThrows(TacoException.class, () -> TensorRtForm.apply(damaged));
    assertTrue(e.getMessage().contains("'w' of shape [3, 3] has a value at 9"), e.getMessage());
  }

  /** x in 8 bits with that zero point times w in 8 bits, plus a bias in 32, as QDQ says it. */
  private static OnnxModel quantized(int type, int zeroPoint) {
    TensorProto zero =
        TensorProto.newBuilder()
            .setName("z")
            .setDataType(type)
            .setRawData(ByteString.copyFrom(new byte[] {(byte) zeroPoint}))
            .build();
    TensorProto codes =
        TensorProto.newBuilder()
            .setName("q")
            .setDataType(TensorProto.DataType.INT8_VALUE)
            .addDims(2)
            .addDims(2)
            .setRawData(ByteString.copyFrom(new byte[] {1, -2, 0, 4}))
            .build();
    TensorProto bias =
        TensorProto.newBuilder()
            .setName("bq")
            .setDataType(TensorProto.DataType.INT32_VALUE)
            .addDims(2)
            .addInt32Data(100)
            .addInt32Data(-7)
            .build();
    return new ModelBuilder(13)
        .input("x", 1, 2)
        .output("y", 1, 2)
        .floats("s", new long[0], 0.5f)
        .floats("ws", new long[] {2}, 0.25f, 2)
        .floats("bs", new long[] {2}, 0.125f, 1)
        .initializer(zero)
        .initializer(codes)
        .initializer(bias)
        .node("quantize", "QuantizeLinear", List.of("x", "s", "z"), List.of("xq"))
        .node("dequantize", "DequantizeLinear", List.of("xq", "s", "z"), List.of("xd"))
        .node("weights", "DequantizeLinear", List.of("q", "ws"), List.of("w"), attribute("axis", 0))
        .node("bias", "DequantizeLinear", List.of("bq", "bs"), List.of("b"), attribute("axis", 0))
        .node("fc", "Gemm", List.of("xd", "w", "b"), List.of("y"), attribute("transB", 1))
        .model();
  }

  @Test
  void integerBiasesBecomeFloats() {
    OnnxModel model = quantized(TensorProto.DataType.INT8_VALUE, 0);
    Ort.Tensor input = new Ort.Tensor(new float[] {3, -1.5f}, 1, 2);
    float[] before = Ort.run(model, input).get("y").values();
    TensorRtForm.Outcome outcome = TensorRtForm.apply(model);
    assertEquals(1, outcome.floatBiases());
    assertEquals(1, outcome.quantized());
    assertEquals(2, model.operatorCounts().get("DequantizeLinear"));
    assertNull(model.index().stored("bq"));
    assertArrayEquals(before, Ort.run(model, input).get("y").values());
    assertEquals(0, TensorRtForm.apply(model).floatBiases(), "once");
  }

  private static String refused(OnnxModel model) {
    byte[] before = model.toBytes();
    TacoException e = assertThrows(TacoException.class, () -> TensorRtForm.apply(model));
    assertEquals(TacoException.Kind.MODEL, e.kind());
    assertArrayEquals(before, model.toBytes(), "unchanged");
    return e.getMessage();
  }

  @Test
  void gridsAwayFromZeroAreRefused() {
    String unsigned = refused(quantized(TensorProto.DataType.UINT8_VALUE, 0));
    assertTrue(unsigned.contains("quantize") && unsigned.contains("signed 8-bit"), unsigned);
    String shifted = refused(quantized(TensorProto.DataType.INT8_VALUE, -3));
    assertTrue(shifted.contains("--runtime tensorrt"), shifted);
  }

  @Test
  void operatorsOnIntegersAndOfTheLibraryAreRefused() {
    OnnxModel model =
        new ModelBuilder(13)
            .input("x", 1, 3, 5, 5)
            .output("y", 1, 4, 5, 5)
            .random("w", 4, 3, 1, 1)
            .node("conv", "Conv", List.of("x", "w"), List.of("y"))
            .model();
    OnnxModel sparse = model.copy();
    SparseOperators.rewrite(sparse, layer -> true);
    String own = refused(sparse);
    assertTrue(own.contains("conv") && own.contains("this project's library"), own);
    for (Layer layer : LayerDiscovery.discover(model)) {
      WeightQuantization.round(model, layer);
    }
    IntegerOperators plan = IntegerOperators.plan(model, layer -> true, layer -> false);
    Ort.Tensor input = Ort.Tensor.random(1, 3, 5, 5);
    plan.rewrite(model, IntegerOperatorsTest.ranges(model, plan.tensors(), input));
    String integers = refused(model);
    assertTrue(integers.contains("multiply integers"), integers);
  }

  /** A convolution and both forms of products, with zeros where {@code zero} says. */
  private static OnnxModel pruned(java.util.function.IntPredicate zeroInput) {
    OnnxModel model =
        new ModelBuilder(13)
            .input("x", 1, 8, 3, 3)
            .output("y", 1, 5)
            .random("w1", 8, 8, 3, 3)
            .random("w2", 6, 8)
            .random("w3", 6, 5)
            .node("conv", "Conv", List.of("x", "w1"), List.of("c"))
            .node("flat", "Flatten", List.of("c"), List.of("f"))
            .node("gemm", "Gemm", List.of("f", "w2"), List.of("g"), attribute("transB", 1))
            .node("matmul", "MatMul", List.of("g", "w3"), List.of("y"))
            .model();
    for (Layer layer : LayerDiscovery.discover(model)) {
      float[] weights = LayerWeights.unfold(model, layer, 0);
      int[] order = layer.groupingOrder();
      for (int row = 0; row < layer.rows(); row++) {
        for (int i = 0; i < order.length; i++) {
          if (zeroInput.test(i + row)) {
            weights[row * layer.cols() + order[i]] = 0;
          }
        }
      }
      LayerWeights.fold(model, layer, 0, weights);
    }
    return model;
  }

  @Test
  void twoOfFourIsSeenInFloatsAndInIntegers() {
    OnnxModel model = pruned(i -> i % 2 == 0);
    // The six inputs of the last are no multiple of four.
    assertEquals(List.of("conv", "gemm"), TensorRtForm.apply(model).twoOfFour());
    for (Layer layer : LayerDiscovery.discover(model)) {
      WeightQuantization.round(model, layer);
    }
    assertEquals(List.of("conv", "gemm"), TensorRtForm.apply(model).twoOfFour());
    assertEquals(List.of(), TensorRtForm.apply(pruned(i -> i % 4 == 0)).twoOfFour());
    assertEquals(
        Map.of("Conv", 1, "Flatten", 1, "Gemm", 1, "MatMul", 1),
        pruned(i -> false).operatorCounts());
    // Two zeros in four, but a group off by one.
    OnnxModel shifted = pruned(i -> false);
    Layer gemm = LayerDiscovery.find(shifted, "gemm");
    float[] weights = LayerWeights.unfold(shifted, gemm, 0);
    for (int row = 0; row < gemm.rows(); row++) {
      for (int col : new int[] {3, 4, 5, 6}) {
        weights[row * 8 + col] = 0;
      }
    }
    LayerWeights.fold(shifted, gemm, 0, weights);
    assertFalse(TensorRtForm.isTwoOfFour(shifted, gemm));
  }
}
