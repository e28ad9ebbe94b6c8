package org.taco4j.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.common.TacoException;

/** Discovery, unfolding, folding and biases. */
class LayerTest {
  private static Layer only(OnnxModel model) {
    List<Layer> layers = LayerDiscovery.discover(model);
    assertEquals(1, layers.size(), layers::toString);
    return layers.getFirst();
  }

  private static String reason(ModelBuilder model) {
    return only(model.model()).whyNotPrunable().orElse("");
  }

  /**
   * Puts zeros, then the weights times two, then a bias into the one layer of a model: the output
   * for a linear model must be 0, twice what it was, and that plus the bias; unfold and fold must
   * give the same bytes.
   */
  private static void checkEdits(OnnxModel model, Ort.Tensor input) {
    Layer layer = only(model);
    assertTrue(layer.prunable(), () -> layer.whyNotPrunable().orElse(""));
    byte[] bytes = model.toBytes();
    float[] bias = LayerWeights.bias(model, layer);
    float[][] weights = LayerWeights.unfold(model, layer);
    LayerWeights.fold(model, layer, weights);
    assertArrayEquals(bytes, model.toBytes());
    for (int g = 0; g < layer.groups(); g++) {
      assertArrayEquals(weights[g], LayerWeights.unfold(model, layer, g));
      LayerWeights.fold(model, layer, g, weights[g]);
    }
    assertArrayEquals(bytes, model.toBytes());
    String output = model.outputs().getFirst().name();
    Ort.Tensor before = Ort.run(model, input).get(output);

    LayerWeights.setBias(model, layer, new float[bias.length]);
    Ort.Tensor product = Ort.run(model, input).get(output);
    float[] newBias = new float[bias.length];
    for (int i = 0; i < bias.length; i++) {
      newBias[i] = i + 1;
    }
    LayerWeights.setBias(model, layer, newBias);
    Layer again = LayerDiscovery.find(model, layer.name());
    assertTrue(again.bias().isPresent());
    assertArrayEquals(newBias, LayerWeights.bias(model, again), 1e-5f);
    assertArrayEquals(newBias, LayerWeights.bias(model, layer), 1e-5f);
    assertEquals(1, LayerDiscovery.discover(model).size());
    Ort.Tensor shifted = Ort.run(model, input).get(output);
    checkRows(layer, product, shifted, newBias);
    checkRows(layer, product, before, bias);

    LayerWeights.fold(model, layer, new float[layer.groups()][layer.rows() * layer.cols()]);
    assertEquals(layer.parameters(), LayerWeights.zeros(model, layer));
    Ort.Tensor onlyBias = Ort.run(model, input).get(output);
    checkRows(
        layer,
        new Ort.Tensor(new float[product.values().length], product.shape()),
        onlyBias,
        newBias);
  }

  /** The two outputs differ by the bias along the layer's output axis. */
  private static void checkRows(Layer layer, Ort.Tensor without, Ort.Tensor with, float[] bias) {
    assertArrayEquals(without.shape(), with.shape());
    int rank = with.shape().length;
    int axis = layer.outputAxis() < 0 ? layer.outputAxis() + rank : layer.outputAxis();
    assertEquals(bias.length, with.shape()[axis]);
    int inner = 1;
    for (int i = axis + 1; i < rank; i++) {
      inner *= (int) with.shape()[i];
    }
    for (int i = 0; i < with.values().length; i++) {
      // Float rounding of sums of up to 50 products of normal numbers.
      assertEquals(without.values()[i] + bias[i / inner % bias.length], with.values()[i], 1e-4f);
    }
  }

  @ParameterizedTest
  @CsvSource({
    // group, bias: 0 none, 1 third input, 2 Add [C, 1, 1], 3 Add [1, C, 1, 1], 4 Add scalar
    "1, 0",
    "1, 1",
    "1, 2",
    "1, 3",
    "1, 4",
    "2, 0",
    "2, 1",
    "3, 3"
  })
  void convolution(int group, int bias) {
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", 2, 6, 7, 5)
            .output("y", 2, 12, -1, -1)
            .random("w", 12, 6 / group, 3, 2)
            .random("b1", 12)
            .random("b2", 12, 1, 1)
            .random("b3", 1, 12, 1, 1)
            .random("b4");
    AttributeProto[] attributes = {
      attribute("group", group),
      attribute("strides", new long[] {2, 1}),
      attribute("pads", new long[] {1, 0, 2, 1}),
      attribute("dilations", new long[] {1, 2})
    };
    if (bias < 2) {
      builder.node(
          "conv",
          "Conv",
          bias == 1 ? List.of("x", "w", "b1") : List.of("x", "w"),
          List.of("y"),
          attributes);
    } else {
      builder
          .node("conv", "Conv", List.of("x", "w"), List.of("c"), attributes)
          .node("Add", bias == 3 ? List.of("b3", "c") : List.of("c", "b" + bias), List.of("y"));
    }
    OnnxModel model = builder.model();
    Layer layer = only(model);
    assertEquals(
        new Unfold.Convolution(
            6 / group, group, 3, 2, 2, 1, 1, 0, 2, 1, 1, 2, Unfold.AutoPad.EXPLICIT, false),
        layer.unfold());
    assertEquals(12 / group, layer.rows());
    assertEquals(1, layer.outputAxis());
    assertEquals(bias != 0, layer.bias().isPresent());
    checkEdits(model, Ort.Tensor.random(2, 6, 7, 5));
  }

  @Test
  void oneDimensionalConvolution() {
    OnnxModel model =
        new ModelBuilder(11)
            .input("x", 2, 3, 9)
            .output("y", 2, 4, -1)
            .random("w", 4, 3, 5)
            .node(
                "Conv",
                List.of("x", "w"),
                List.of("y"),
                attribute("strides", new long[] {2}),
                attribute("pads", new long[] {1, 2}),
                attribute("dilations", new long[] {2}))
            .model();
    assertEquals(
        new Unfold.Convolution(3, 1, 1, 5, 1, 2, 0, 1, 0, 2, 1, 2, Unfold.AutoPad.EXPLICIT, true),
        only(model).unfold());
    checkEdits(model, Ort.Tensor.random(2, 3, 9));
  }

  @Test
  void automaticPadding() {
    for (String pad : List.of("SAME_UPPER", "SAME_LOWER", "VALID")) {
      OnnxModel model =
          new ModelBuilder(17)
              .input("x", 1, 3, 9, 9)
              .output("y", 1, 4, -1, -1)
              .random("w", 4, 3, 2, 3)
              .node("Conv", List.of("x", "w"), List.of("y"), attribute("auto_pad", pad))
              .model();
      Unfold.Convolution unfold = (Unfold.Convolution) only(model).unfold();
      assertEquals(
          pad.equals("VALID") ? Unfold.AutoPad.EXPLICIT : Unfold.AutoPad.valueOf(pad),
          unfold.autoPad());
      long[] shape = Ort.run(model, Ort.Tensor.random(1, 3, 9, 9)).get("y").shape();
      assertEquals(shape[2], unfold.outputHeight(9, 9));
      assertEquals(shape[3], unfold.outputWidth(9, 9));
    }
  }

  @Test
  void columnsOfAConvolutionAreChannelsThenKernelPositions() {
    // One output pixel: the unfolded row times the unfolded patch.
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 1, 3, 2, 4)
            .output("y", 1, 2, 1, 1)
            .random("w", 2, 3, 2, 4)
            .node("Conv", List.of("x", "w"), List.of("y"))
            .model();
    Layer layer = only(model);
    Ort.Tensor x = Ort.Tensor.random(1, 3, 2, 4);
    Ort.Tensor y = Ort.run(model, x).get("y");
    float[] weights = LayerWeights.unfold(model, layer, 0);
    for (int row = 0; row < 2; row++) {
      float sum = 0;
      for (int i = 0; i < 24; i++) {
        sum += weights[row * 24 + i] * x.values()[i];
      }
      assertEquals(y.values()[row], sum, 1e-4f);
    }

    int[] order = layer.groupingOrder();
    assertEquals(3, layer.groupingExtent());
    // Position (ky, kx) = (1, 2), channel 1.
    assertEquals(1 * 8 + 1 * 4 + 2, order[(1 * 4 + 2) * 3 + 1]);
    assertArrayEquals(
        java.util.stream.IntStream.range(0, 24).toArray(), Arrays.stream(order).sorted().toArray());
  }

  @ParameterizedTest
  @CsvSource({
    // constant on the right?, transA, transB, alpha, beta, bias: 0 none, 1 [N], 2 [1, N], 3 scalar,
    // 4 [M, N], 5 [M, 1]
    "true, 0, 0, 1, 1, 0",
    "true, 0, 1, 1, 1, 1",
    "true, 1, 0, 0.5, 2, 1",
    "true, 1, 1, 1, 0, 1",
    "true, 0, 1, 1, 2, 2",
    "true, 0, 1, 1, 2, 3",
    "true, 0, 1, 1, 2, 4",
    "false, 0, 0, 1, 1, 0",
    "false, 0, 1, 1, 2, 5",
    "false, 1, 0, 0.5, 1, 1",
    "false, 1, 1, 1, 0, 5",
  })
  void gemm(boolean right, int transA, int transB, float alpha, float beta, int bias) {
    // y [4, 5] = x · w or w · x with an inner size of 7.
    int m = 4;
    int n = 5;
    long[] a = transA == 1 ? new long[] {7, m} : new long[] {m, 7};
    long[] b = transB == 1 ? new long[] {n, 7} : new long[] {7, n};
    ModelBuilder builder =
        new ModelBuilder(13)
            .input("x", right ? a : b)
            .output("y", m, n)
            .random("w", right ? b : a)
            .random("c1", n)
            .random("c2", 1, n)
            .random("c3", 1)
            .random("c4", m, n)
            .random("c5", m, 1);
    List<String> operands = right ? List.of("x", "w") : List.of("w", "x");
    OnnxModel model =
        builder
            .node(
                "Gemm",
                bias == 0 ? operands : List.of(operands.get(0), operands.get(1), "c" + bias),
                List.of("y"),
                attribute("transA", transA),
                attribute("transB", transB),
                attribute("alpha", alpha),
                attribute("beta", beta))
            .model();
    Layer layer = only(model);
    assertEquals(right ? n : m, layer.rows());
    assertEquals(7, layer.cols());
    assertEquals(right ? -1 : -2, layer.outputAxis());
    boolean samplesAreRows = right ? transA == 0 : transB == 1;
    assertEquals(
        samplesAreRows ? new Unfold.LastAxis(7) : new Unfold.SecondToLastAxis(7), layer.unfold());
    boolean alongRows = bias == 3 || (right ? bias == 1 || bias == 2 : bias == 5);
    assertEquals(alongRows, layer.bias().isPresent());
    assertEquals(bias != 0 && !alongRows, LayerWeights.hasUnknownBias(model, layer));
    assertTrue(LayerWeights.isReadable(model, layer) && LayerWeights.canFold(model, layer));
    if (bias == 0 || alongRows) {
      checkEdits(model, Ort.Tensor.random(right ? a : b));
    } else {
      // Something else is in the third input: the bias comes behind.
      Ort.Tensor x = Ort.Tensor.random(right ? a : b);
      Ort.Tensor before = Ort.run(model, x).get("y");
      float[] values = new float[layer.rows()];
      for (int i = 0; i < values.length; i++) {
        values[i] = i + 1;
      }
      LayerWeights.setBias(model, layer, values);
      checkRows(layer, before, Ort.run(model, x).get("y"), values);
      assertArrayEquals(values, LayerWeights.bias(model, layer));
      assertEquals(1, model.operatorCounts().get("Add"));
      assertTrue(LayerWeights.hasUnknownBias(model, layer), "what it adds itself is still unread");
    }
  }

  @ParameterizedTest
  @CsvSource({
    // constant on the right?, bias: 0 none, 1 [N], 2 [1, 1, N], 3 scalar
    "true, 0",
    "true, 1",
    "true, 2",
    "true, 3",
    "false, 0",
    "false, 3"
  })
  void matMul(boolean right, int bias) {
    ModelBuilder builder =
        new ModelBuilder(13)
            .input("x", right ? new long[] {2, 3, 7} : new long[] {2, 7, 3})
            .output("y", right ? new long[] {2, 3, 5} : new long[] {2, 5, 3})
            .random("w", right ? new long[] {7, 5} : new long[] {5, 7})
            .random("b1", 5)
            .random("b2", 1, 1, 5)
            .random("b3");
    List<String> operands = right ? List.of("x", "w") : List.of("w", "x");
    if (bias == 0) {
      builder.node("MatMul", operands, List.of("y"));
    } else {
      builder
          .node("MatMul", operands, List.of("h"))
          .node("Add", List.of("b" + bias, "h"), List.of("y"));
    }
    OnnxModel model = builder.model();
    Layer layer = only(model);
    assertEquals(5, layer.rows());
    assertEquals(right ? new Unfold.LastAxis(7) : new Unfold.SecondToLastAxis(7), layer.unfold());
    assertEquals(7, layer.groupingExtent());
    assertEquals(3, layer.groupingOrder()[3]);
    checkEdits(model, Ort.Tensor.random(right ? new long[] {2, 3, 7} : new long[] {2, 7, 3}));
  }

  @Test
  void productWithAVectorOfActivations() {
    OnnxModel model =
        new ModelBuilder(13)
            .input("x", 7)
            .output("y", 5)
            .random("w", 5, 7)
            .node("MatMul", List.of("w", "x"), List.of("y"))
            .model();
    assertEquals(new Unfold.LastAxis(7), only(model).unfold());
    checkEdits(model, Ort.Tensor.random(7));
  }

  @Test
  void weightsBehindIdentityAndTranspose() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 1, 3, 5, 6)
            .output("y", 1, 4, -1, -1)
            .random("stored", 2, 3, 4, 2)
            .node("Identity", List.of("stored"), List.of("a"))
            .node(
                "Transpose", List.of("a"), List.of("b"), attribute("perm", new long[] {3, 1, 0, 2}))
            .node(
                "Transpose", List.of("b"), List.of("c"), attribute("perm", new long[] {3, 1, 2, 0}))
            .node("conv", "Conv", List.of("x", "c"), List.of("y"))
            .model();
    Layer layer = only(model);
    assertEquals("stored", layer.weight().constant());
    // Axis 3 of b is axis 2 of what is stored, and so on.
    assertEquals(List.of(2, 1, 0, 3), layer.weight().permutation());
    assertEquals(4, layer.rows());
    checkEdits(model, Ort.Tensor.random(1, 3, 5, 6));
  }

  @Test
  void weightsBehindATransposeWithoutPermutation() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 3, 7)
            .output("y", 3, 5)
            .random("stored", 5, 7)
            .node("Transpose", List.of("stored"), List.of("t"))
            .node("MatMul", List.of("x", "t"), List.of("y"))
            .model();
    assertEquals(List.of(1, 0), only(model).weight().permutation());
    checkEdits(model, Ort.Tensor.random(3, 7));
  }

  @Test
  void weightsInConstantNodes() {
    AttributeProto weights =
        attribute("value", ModelBuilder.tensor("", new long[] {2, 2}, 1, 2, 3, 4));
    AttributeProto bias =
        AttributeProto.newBuilder()
            .setName("value_floats")
            .setType(AttributeProto.AttributeType.FLOATS)
            .addFloats(5)
            .addFloats(6)
            .build();
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 3, 2)
            .output("y", 3, 2)
            .node("Constant", List.of(), List.of("w"), weights)
            .node("Constant", List.of(), List.of("b"), bias)
            .node("MatMul", List.of("x", "w"), List.of("h"))
            .node("Add", List.of("h", "b"), List.of("y"))
            .model();
    assertArrayEquals(new float[] {5, 6}, LayerWeights.bias(model, only(model)));
    checkEdits(model, Ort.Tensor.random(3, 2));
  }

  @Test
  void oneFloatInAConstantNodeIsABiasForAllRows() {
    AttributeProto bias =
        AttributeProto.newBuilder()
            .setName("value_float")
            .setType(AttributeProto.AttributeType.FLOAT)
            .setF(5)
            .build();
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 3, 2)
            .output("y", 3, 2)
            .random("w", 2, 2)
            .node("Constant", List.of(), List.of("b"), bias)
            .node("MatMul", List.of("x", "w"), List.of("h"))
            .node("Add", List.of("h", "b"), List.of("y"))
            .model();
    assertArrayEquals(new float[] {5, 5}, LayerWeights.bias(model, only(model)));
    checkEdits(model, Ort.Tensor.random(3, 2));
    assertFalse(model.operatorCounts().containsKey("Constant"), "nothing reads it any more");
  }

  @Test
  void allFloatTypesAndStorages() {
    float[] values = {0, -0.0f, 1, -2.5f, 0.333251953125f, 65504};
    for (int type :
        new int[] {TensorData.FLOAT, TensorData.FLOAT16, TensorData.BFLOAT16, TensorData.DOUBLE}) {
      TensorProto raw = TensorData.of("w", type, List.of(2L, 3L), values);
      assertTrue(raw.hasRawData());
      float[] stored = TensorData.floats(raw);
      assertArrayEquals(values, stored, type == TensorData.BFLOAT16 ? 128 : 0);
      assertEquals(raw, TensorData.withFloats(raw, stored));

      TensorProto.Builder typed = raw.toBuilder().clearRawData();
      for (float value : stored) {
        switch (type) {
          case DataType.FLOAT_VALUE -> typed.addFloatData(value);
          // Not a float: reading and writing back must not round it.
          case DataType.DOUBLE_VALUE -> typed.addDoubleData(value * (1 + 1e-12));
          case DataType.FLOAT16_VALUE ->
              typed.addInt32Data(Short.toUnsignedInt(Float.floatToFloat16(value)));
          default -> typed.addInt32Data(Float.floatToIntBits(value) >>> 16);
        }
      }
      assertArrayEquals(stored, TensorData.floats(typed.build()));
      assertEquals(typed.build(), TensorData.withFloats(typed.build(), stored));

      OnnxModel model =
          new ModelBuilder(17)
              .input("x", 1, 2)
              .output("y", 1, 3)
              .initializer(typed.build())
              .node("MatMul", List.of("x", "w"), List.of("y"))
              .model();
      Layer layer = only(model);
      assertEquals(Optional.empty(), layer.whyNotPrunable());
      assertEquals(2, LayerWeights.zeros(model, layer));
    }
  }

  @Test
  void valuesThatAreNotFiniteAreNotWritten() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 1, 2)
            .output("y", 1, 1)
            .initializer(
                TensorData.of("w", TensorData.FLOAT16, List.of(2L, 1L), new float[] {1, 2}))
            .node("MatMul", List.of("x", "w"), List.of("y"))
            .model();
    for (float value : new float[] {Float.NaN, Float.NEGATIVE_INFINITY, 1e6f}) {
      TacoException e =
          assertThrows(
              TacoException.class,
              () -> LayerWeights.fold(model, only(model), 0, new float[] {1, value}));
      assertEquals(TacoException.Kind.NUMERICAL, e.kind());
      assertTrue(e.getMessage().contains("'w'"), e.getMessage());
    }
    assertThrows(
        IllegalArgumentException.class,
        () -> LayerWeights.fold(model, only(model), 0, new float[3]));
    assertThrows(
        IllegalArgumentException.class,
        () -> LayerWeights.setBias(model, only(model), new float[2]));
  }

  @Test
  void whyNotPrunable() {
    ModelBuilder depthwise =
        new ModelBuilder(17)
            .input("x", 1, 4, 5, 5)
            .output("y", 1, 8, -1, -1)
            .random("w", 8, 1, 3, 3)
            .node("Conv", List.of("x", "w"), List.of("y"), attribute("group", 4));
    assertEquals("depthwise convolution", reason(depthwise));
    assertEquals(2, only(depthwise.model()).rows());
    assertEquals(72, only(depthwise.model()).parameters());

    ModelBuilder volume =
        new ModelBuilder(17)
            .input("x", 1, 4, 5, 5, 5)
            .output("y", 1, 8, -1, -1, -1)
            .random("w", 8, 4, 3, 2, 3)
            .node("Conv", List.of("x", "w"), List.of("y"));
    assertTrue(reason(volume).contains("3-D"));
    assertEquals(8 * 4 * 18, only(volume.model()).parameters());
    assertThrows(
        IllegalArgumentException.class,
        () -> LayerWeights.unfold(volume.model(), only(volume.model())));

    ModelBuilder stack =
        new ModelBuilder(17)
            .input("x", 3, 2, 4)
            .output("y", 3, 2, 5)
            .random("w", 3, 4, 5)
            .node("MatMul", List.of("x", "w"), List.of("y"));
    assertTrue(reason(stack).contains("[3, 4, 5]"));
    assertEquals(60, only(stack.model()).parameters());

    ModelBuilder vector =
        new ModelBuilder(17)
            .input("x", 3, 4)
            .output("y", 3)
            .random("w", 4)
            .node("MatMul", List.of("x", "w"), List.of("y"));
    assertTrue(reason(vector).contains("vector"));

    ModelBuilder quantised =
        new ModelBuilder(17)
            .input("x", 3, 2)
            .output("y", 3, 2)
            .initializer(
                TensorProto.newBuilder()
                    .setName("w")
                    .setDataType(DataType.INT8_VALUE)
                    .addDims(2)
                    .addDims(2)
                    .addAllInt32Data(List.of(1, 2, 3, 4))
                    .build())
            .floats("scale", new long[0], 0.5f)
            .node("DequantizeLinear", List.of("w", "scale"), List.of("d"))
            .node("MatMul", List.of("x", "d"), List.of("y"));
    assertTrue(reason(quantised).contains("DequantizeLinear"));

    ModelBuilder product =
        new ModelBuilder(17)
            .input("x", 3, 3)
            .output("y", 3, 3)
            .node("MatMul", List.of("x", "x"), List.of("y"));
    assertEquals(List.of(), LayerDiscovery.discover(product.model()));
    assertEquals(List.of(), LayerDiscovery.skipped(product.model()));
  }

  @Test
  void depthwiseConvolutionsCanStillBeReadAndBiased() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 1, 4, 5, 5)
            .output("y", 1, 8, -1, -1)
            .random("w", 8, 1, 3, 3)
            .node("Conv", List.of("x", "w"), List.of("y"), attribute("group", 4))
            .model();
    Layer layer = only(model);
    assertEquals(4, LayerWeights.unfold(model, layer).length);
    assertEquals(18, LayerWeights.unfold(model, layer, 3).length);
    LayerWeights.setBias(model, layer, new float[] {1, 2, 3, 4, 5, 6, 7, 8});
    assertEquals(8, LayerWeights.bias(model, layer)[7]);
  }

  @Test
  void tiedWeights() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 3, 4)
            .output("y", 3, 4)
            .output("z", 3, 4)
            .random("w", 4, 4)
            .node("one", "MatMul", List.of("x", "w"), List.of("y"))
            .node("turn", "Transpose", List.of("w"), List.of("t"))
            .node("two", "MatMul", List.of("x", "t"), List.of("z"))
            .model();
    List<Layer> layers = LayerDiscovery.discover(model);
    assertTrue(layers.get(0).whyNotPrunable().orElse("").contains("'turn'"));
    assertTrue(layers.get(1).whyNotPrunable().orElse("").contains("'one'"));
    assertThrows(
        IllegalArgumentException.class,
        () -> LayerWeights.fold(model, layers.getFirst(), 0, new float[16]));
  }

  @Test
  void sharedBiasIsCopied() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 3, 4)
            .output("y", 3, 2)
            .output("z", 3, 2)
            .random("w", 4, 2)
            .random("v", 4, 2)
            .random("b", 2)
            .node("one", "Gemm", List.of("x", "w", "b"), List.of("y"))
            .node("two", "Gemm", List.of("x", "v", "b"), List.of("z"))
            .model();
    Map<String, Ort.Tensor> before = Ort.run(model, Ort.Tensor.random(3, 4));
    Layer one = LayerDiscovery.find(model, "one");
    float[] bias = LayerWeights.bias(model, one);
    LayerWeights.setBias(model, one, new float[] {bias[0] + 1, bias[1] + 2});
    Map<String, Ort.Tensor> after = Ort.run(model, Ort.Tensor.random(3, 4));
    checkRows(one, before.get("y"), after.get("y"), new float[] {1, 2});
    assertArrayEquals(before.get("z").values(), after.get("z").values());
  }

  @Test
  void additionsThatAreNoBias() {
    // Read twice; an output of the model; a constant that differs along another axis.
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 3, 4)
            .output("y", 3, 2)
            .output("h1", 3, 2)
            .output("y2", 3, 2)
            .random("w", 4, 2)
            .random("v", 4, 2)
            .random("b", 2)
            .random("position", 3, 2)
            .node("one", "MatMul", List.of("x", "w"), List.of("h1"))
            .node("Add", List.of("h1", "b"), List.of("y"))
            .node("two", "MatMul", List.of("x", "v"), List.of("h2"))
            .node("Add", List.of("h2", "position"), List.of("y2"))
            .model();
    for (Layer layer : LayerDiscovery.discover(model)) {
      assertFalse(layer.bias().isPresent());
      Map<String, Ort.Tensor> before = Ort.run(model, Ort.Tensor.random(3, 4));
      LayerWeights.setBias(model, layer, new float[] {1, 2});
      Map<String, Ort.Tensor> after = Ort.run(model, Ort.Tensor.random(3, 4));
      String output = layer.name().equals("one") ? "y" : "y2";
      checkRows(layer, before.get(output), after.get(output), new float[] {1, 2});
    }
  }

  @Test
  void anAddedBiasKeepsDeclaredShapesAndNames() {
    OnnxModel model =
        new ModelBuilder(17)
            .irVersion(3)
            .input("x", 3, 4)
            .input("w", 4, 2)
            .output("y", 3, 2)
            .valueInfo("h", 3, 2)
            .random("w", 4, 2)
            .node("MatMul", List.of("x", "w"), List.of("h"))
            .node("Relu", List.of("h"), List.of("y"))
            .model();
    Layer layer = only(model);
    assertEquals("h", layer.name());
    LayerWeights.setBias(model, layer, new float[] {1, 2});
    Layer after = only(model);
    assertEquals("h", after.name());
    assertEquals("h", after.bias().orElseThrow().node());
    assertArrayEquals(new long[] {3, 2}, model.index().shape(after.output()));
    assertArrayEquals(new long[] {3, 2}, model.index().shape("h"));
    assertEquals(1, model.inputs().size());
    Ort.run(model, Ort.Tensor.random(3, 4));
  }

  @Test
  void namesAreUnique() {
    ModelBuilder builder =
        new ModelBuilder(17).input("x", 2, 2).output("y", 2, 2).random("w", 2, 2);
    builder.random("v", 2, 2).random("u", 2, 2).random("t", 2, 2);
    OnnxModel model =
        builder
            .node("same", "MatMul", List.of("x", "w"), List.of("a"))
            .node("same", "MatMul", List.of("a", "v"), List.of("b"))
            .node("same_2", "MatMul", List.of("b", "u"), List.of("c"))
            .node("", "MatMul", List.of("c", "t"), List.of("y"))
            .model();
    assertEquals(
        List.of("same", "same_3", "same_2", "y"),
        LayerDiscovery.discover(model).stream().map(Layer::name).toList());
  }

  @Test
  void whatIsNoLayerIsSaid() {
    OnnxModel model =
        new ModelBuilder(17)
            .domain("custom", 1)
            .input("x", 1, 4, 5, 5)
            .output("y", 1, 4, -1, -1)
            .random("w", 4, 4, 2, 2)
            .random("v", 4, 4)
            .node("up", "ConvTranspose", List.of("x", "w"), List.of("a"))
            .node("Mul", List.of("w", "w"), List.of("computed"))
            .node("made", "Conv", List.of("a", "computed"), List.of("b"))
            .node("fixed", "MatMul", List.of("v", "v"), List.of("vv"))
            .node(
                NodeProto.newBuilder()
                    .setName("odd")
                    .setDomain("custom")
                    .setOpType("Fused")
                    .addInput("b")
                    .addInput("v")
                    .addOutput("y")
                    .build())
            .model();
    assertEquals(List.of(), LayerDiscovery.discover(model));
    assertEquals(
        List.of("up", "made", "fixed", "odd"),
        LayerDiscovery.skipped(model).stream().map(LayerDiscovery.Skipped::name).toList());
  }
}
