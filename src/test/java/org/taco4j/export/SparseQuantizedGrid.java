package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.FunctionProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.OperatorSetIdProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.google.protobuf.ByteString;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.Ort;

/**
 * The int8 operators through the library and through ONNX Runtime's own operators, which their
 * functions are made of, run as they are written: bytes agree to the bit. A process of its own for
 * each instruction set, because the environment names it.
 *
 * <p>ONNX Runtime multiplies unsigned by signed bytes exactly where the processor has VNNI. With
 * plain AVX2 its sums of two products saturate at 16 bits, and ours do not. So weights are of 7
 * bits, whose sums do not reach that, and those of 8 bits are compared only where ONNX Runtime is
 * found exact.
 */
final class SparseQuantizedGrid {
  /**
   * One convolution.
   *
   * @param sparsity share of fours of input channels that are zero
   * @param extreme weights of -128 and 127 and inputs of 0 and 255 only
   */
  private record Case(
      int batch,
      int channels,
      int outputs,
      int groups,
      int kernel,
      int height,
      int width,
      int stride,
      int dilation,
      int pad,
      double sparsity,
      boolean adds,
      boolean extreme) {
    static Case of(int channels, int outputs, int kernel, int size) {
      return new Case(
          1, channels, outputs, 1, kernel, size, size, 1, 1, kernel / 2, 0.8, false, false);
    }

    Case image(int n, int h, int w) {
      return new Case(
          n, channels, outputs, groups, kernel, h, w, stride, dilation, pad, sparsity, adds,
          extreme);
    }

    Case groups(int n) {
      return new Case(
          batch, channels, outputs, n, kernel, height, width, stride, dilation, pad, sparsity, adds,
          extreme);
    }

    Case steps(int newStride, int newDilation, int newPad) {
      return new Case(
          batch,
          channels,
          outputs,
          groups,
          kernel,
          height,
          width,
          newStride,
          newDilation,
          newPad,
          sparsity,
          adds,
          extreme);
    }

    Case sparsity(double s) {
      return new Case(
          batch, channels, outputs, groups, kernel, height, width, stride, dilation, pad, s, adds,
          extreme);
    }

    Case adding() {
      return new Case(
          batch, channels, outputs, groups, kernel, height, width, stride, dilation, pad, sparsity,
          true, extreme);
    }

    Case extremes() {
      return new Case(
          batch, channels, outputs, groups, kernel, height, width, stride, dilation, pad, sparsity,
          adds, true);
    }

    int outputSize(int size) {
      return (size + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1;
    }
  }

  private SparseQuantizedGrid() {}

  private static List<Case> cases() {
    List<Case> cases = new ArrayList<>();
    for (int kernel : new int[] {1, 3, 5, 7}) {
      for (int size : new int[] {1, 2, 7, 8, 14, 17, 28, 33}) {
        cases.add(Case.of(13, 11, kernel, size));
      }
      cases.add(Case.of(16, 32, kernel, 15).steps(2, 1, kernel / 2));
      cases.add(Case.of(16, 32, kernel, 16).steps(2, 1, kernel / 2).adding());
      cases.add(Case.of(5, 3, kernel, 20).steps(3, 2, kernel / 2));
      cases.add(Case.of(6, 9, kernel, 21).steps(1, 2, kernel));
      cases.add(Case.of(12, 18, kernel, 9).groups(3));
      cases.add(Case.of(15, 6, kernel, 9).groups(3).adding());
      cases.add(Case.of(10, 10, kernel, 9).groups(10).sparsity(0.3));
      cases.add(Case.of(9, 6, kernel, 12).image(2, 12, 5));
      cases.add(Case.of(9, 6, kernel, 8).image(1, 8, 41).steps(2, 1, kernel / 2));
    }
    for (int batch : new int[] {2, 3, 4, 8, 16, 17}) {
      cases.add(Case.of(19, 8, 1, 7).image(batch, 7, 7).adding());
      cases.add(Case.of(8, 12, 3, 14).image(batch, 14, 14).adding());
      cases.add(Case.of(8, 12, 3, 7).image(batch, 7, 7).steps(2, 1, 1));
    }
    for (double sparsity : new double[] {0, 0.5, 0.99, 1}) {
      cases.add(Case.of(64, 48, 1, 14).sparsity(sparsity));
      cases.add(Case.of(32, 48, 3, 14).sparsity(sparsity));
      cases.add(Case.of(32, 16, 3, 7).sparsity(sparsity).adding());
    }
    for (int kernel : new int[] {1, 3}) {
      cases.add(Case.of(64, 16, kernel, 9).extremes().sparsity(0));
      cases.add(Case.of(64, 16, kernel, 9).extremes().adding());
    }
    // Reductions long enough for tiles over input channels.
    cases.add(Case.of(2100, 70, 1, 7).sparsity(0.9).adding());
    cases.add(Case.of(1200, 33, 3, 7).sparsity(0.95));
    cases.add(Case.of(256, 64, 1, 56).sparsity(0.9));
    cases.add(Case.of(64, 64, 3, 56).sparsity(0.9));
    // All of the image in the padding but one pixel.
    cases.add(Case.of(3, 4, 3, 1).steps(1, 1, 4));
    return cases;
  }

  /** A tensor of bytes or 32-bit integers. */
  static TensorProto integers(String name, int type, long[] dims, int... values) {
    int size = type == DataType.INT32_VALUE ? 4 : 1;
    ByteBuffer bytes = ByteBuffer.allocate(size * values.length).order(ByteOrder.LITTLE_ENDIAN);
    for (int value : values) {
      if (size == 4) {
        bytes.putInt(value);
      } else {
        bytes.put((byte) value);
      }
    }
    TensorProto.Builder tensor =
        TensorProto.newBuilder()
            .setName(name)
            .setDataType(type)
            .setRawData(ByteString.copyFrom(bytes.flip()));
    Arrays.stream(dims).forEach(tensor::addDims);
    return tensor.build();
  }

  /** Adds NAME_scale and NAME_zero_point. */
  static void grid(ModelBuilder builder, String name, float scale, int zeroPoint) {
    builder
        .floats(name + "_scale", new long[0], scale)
        .initializer(integers(name + "_zero_point", DataType.UINT8_VALUE, new long[0], zeroPoint));
  }

  /** Adds x, as bytes X, and the operands that all the operators begin with. */
  private static void operands(ModelBuilder builder, int outputs, float[] scales, Random random) {
    int[] zeroPoints = {0, 1, 97, 128, 255};
    grid(builder, "x", 0.02f + 0.01f * random.nextFloat(), zeroPoints[random.nextInt(5)]);
    builder
        .node("Cast", List.of("x"), List.of("X"), attribute("to", (long) DataType.UINT8_VALUE))
        .floats("w_scale", new long[] {outputs}, scales)
        .initializer(
            integers("w_zero_point", DataType.INT8_VALUE, new long[] {outputs}, new int[outputs]));
  }

  /** Weights [outer, channels, inner], of which four channels are zero together. */
  private static int[] weights(
      int outer, int channels, int inner, double sparsity, boolean extreme, Random random) {
    int[] weights = new int[outer * channels * inner];
    for (int o = 0; o < outer; o++) {
      for (int i = 0; i < inner; i++) {
        boolean kept = false;
        for (int c = 0; c < channels; c++) {
          if (c % 4 == 0) {
            // Every fifth row has no weights at all, unless it is about none being zero.
            kept = random.nextDouble() >= sparsity && (sparsity == 0 || o % 5 != 4);
          }
          int value = extreme ? (random.nextBoolean() ? 127 : -128) : random.nextInt(129) - 64;
          weights[(o * channels + c) * inner + i] = kept ? value : 0;
        }
      }
    }
    return weights;
  }

  /** Such that results are spread over the bytes. */
  private static float[] scales(int outputs, double terms, float step, Random random) {
    float[] scales = new float[outputs];
    for (int i = 0; i < outputs; i++) {
      // Channels that are all zero have been seen with a scale of zero.
      scales[i] =
          i % 11 == 7 ? 0 : (float) (step * (0.3 + random.nextDouble()) / Math.sqrt(terms + 1));
    }
    return scales;
  }

  private static int[] bias(int outputs, Random random) {
    return random.ints(outputs, -20_000, 20_000).toArray();
  }

  private static Ort.Tensor bytes(boolean extreme, Random random, long... shape) {
    float[] values = new float[(int) Arrays.stream(shape).reduce(1, (a, b) -> a * b)];
    for (int i = 0; i < values.length; i++) {
      values[i] = extreme ? 255 * random.nextInt(2) : random.nextInt(256);
    }
    return new Ort.Tensor(values, shape);
  }

  static byte[] model(
      ModelBuilder builder, FunctionProto function, boolean bytes, AttributeProto... attributes) {
    NodeProto.Builder node =
        NodeProto.newBuilder()
            .setName("sparse")
            .setDomain(SparseFunctions.DOMAIN)
            .setOpType(function.getName())
            .addAllInput(function.getInputList())
            .addOutput(bytes ? "Y" : "y")
            .addAllAttribute(List.of(attributes));
    builder.domain(SparseFunctions.DOMAIN, SparseFunctions.VERSION).node(node.build());
    if (bytes) {
      builder.node(
          "Cast", List.of("Y"), List.of("y"), attribute("to", (long) DataType.FLOAT_VALUE));
    }
    return builder.proto().toBuilder().addFunctions(function).build().toByteArray();
  }

  private static void check(Case c, Random random) throws OrtException {
    int perGroup = c.channels / c.groups;
    int taps = c.kernel * c.kernel;
    double terms = perGroup * taps * (1 - c.sparsity);
    ModelBuilder builder =
        new ModelBuilder(17).input("x", -1, c.channels, -1, -1).output("y", -1, c.outputs, -1, -1);
    operands(builder, c.outputs, scales(c.outputs, terms, 0.02f, random), random);
    builder
        .initializer(
            integers(
                "W",
                DataType.INT8_VALUE,
                new long[] {c.outputs, perGroup, c.kernel, c.kernel},
                weights(c.outputs, perGroup, taps, c.sparsity, c.extreme, random)))
        .initializer(
            integers("B", DataType.INT32_VALUE, new long[] {c.outputs}, bias(c.outputs, random)));
    int[] zeroPoints = {0, 3, 128, 255};
    float step = 0.04f;
    grid(builder, c.adds ? "c" : "y", step, zeroPoints[random.nextInt(4)]);
    Map<String, Ort.Tensor> inputs = new HashMap<>();
    inputs.put("x", bytes(c.extreme, random, c.batch, c.channels, c.height, c.width));
    if (c.adds) {
      // A step of twice the product's makes halves, which go to the even neighbour.
      grid(builder, "z", step * (1 + random.nextInt(2)), zeroPoints[random.nextInt(4)]);
      grid(builder, "y", step * (1 + random.nextInt(3)), zeroPoints[random.nextInt(4)]);
      long[] shape = {c.batch, c.outputs, c.outputSize(c.height), c.outputSize(c.width)};
      builder
          .input("z", shape)
          .node("Cast", List.of("z"), List.of("Z"), attribute("to", (long) DataType.UINT8_VALUE));
      inputs.put("z", bytes(c.extreme, random, shape));
    }
    byte[] model =
        model(
            builder,
            SparseFunctions.quantizedConvolution(c.adds, 17),
            true,
            attribute("strides", new long[] {c.stride, c.stride}),
            attribute("dilations", new long[] {c.dilation, c.dilation}),
            attribute("pads", new long[] {c.pad, c.pad, c.pad, c.pad}),
            attribute("group", c.groups));
    checkSame(c.toString(), model, inputs, 0);
  }

  /** Whether the operators give what their functions do; that is run without any optimisation. */
  private static void checkSame(
      String what, byte[] model, Map<String, Ort.Tensor> inputs, float tolerance)
      throws OrtException {
    Ort.Tensor expected = Ort.run(model, inputs).get("y");
    for (int threads : new int[] {1, 2}) {
      try (OrtSession sparse = SparseSessions.open(model, threads)) {
        Ort.Tensor actual = SparseSessions.run(sparse, inputs);
        assertArrayEquals(expected.shape(), actual.shape(), what);
        assertArrayEquals(expected.values(), actual.values(), tolerance, what);
      }
    }
  }

  private static void checkProduct(
      long[] leading, int inputs, int outputs, double sparsity, boolean extreme, Random random)
      throws OrtException {
    int[] rows = weights(outputs, inputs, 1, sparsity, extreme, random);
    int[] weights = new int[rows.length];
    for (int o = 0; o < outputs; o++) {
      for (int i = 0; i < inputs; i++) {
        weights[i * outputs + o] = rows[o * inputs + i];
      }
    }
    TensorProto matrix = integers("W", DataType.INT8_VALUE, new long[] {inputs, outputs}, weights);
    float[] scales = scales(outputs, inputs * (1 - sparsity), 0.02f, random);
    long[] shape = Arrays.copyOf(leading, leading.length + 1);
    shape[leading.length] = inputs;
    String what = Arrays.toString(shape) + " x " + outputs;
    ModelBuilder builder =
        new ModelBuilder(17).input("x", shape).outputOfUnknownRank("y").initializer(matrix);
    operands(builder, outputs, scales, random);
    grid(builder, "y", 0.04f, random.nextInt(256));
    builder.initializer(
        integers("B", DataType.INT32_VALUE, new long[] {outputs}, bias(outputs, random)));
    Map<String, Ort.Tensor> feeds = new HashMap<>();
    feeds.put("x", bytes(extreme, random, shape));
    checkSame(what, model(builder, SparseFunctions.quantizedMatrix(17), true), feeds, 0);

    // Without a bias it is QLinearMatMul.
    builder = new ModelBuilder(17).input("x", shape).outputOfUnknownRank("y").initializer(matrix);
    operands(builder, outputs, scales, random);
    grid(builder, "y", 0.04f, random.nextInt(256));
    ModelProto plain =
        builder
            .node(
                "QLinearMatMul",
                List.of(
                    "X",
                    "x_scale",
                    "x_zero_point",
                    "W",
                    "w_scale",
                    "w_zero_point",
                    "y_scale",
                    "y_zero_point"),
                List.of("Y"))
            .node("Cast", List.of("Y"), List.of("y"), attribute("to", (long) DataType.FLOAT_VALUE))
            .proto();
    FunctionProto function = SparseFunctions.quantizedMatrix(17);
    ModelProto.Builder sparse = plain.toBuilder().addFunctions(function);
    sparse
        .addOpsetImport(
            OperatorSetIdProto.newBuilder()
                .setDomain(SparseFunctions.DOMAIN)
                .setVersion(SparseFunctions.VERSION))
        .getGraphBuilder()
        .addInitializer(integers("B", DataType.INT32_VALUE, new long[] {outputs}, new int[outputs]))
        .getNodeBuilderList()
        .stream()
        .filter(node -> node.getOpType().equals("QLinearMatMul"))
        .forEach(
            node ->
                node.setDomain(SparseFunctions.DOMAIN).setOpType(function.getName()).addInput("B"));
    Ort.Tensor expected = Ort.run(plain.toByteArray(), feeds).get("y");
    try (OrtSession session = SparseSessions.open(sparse.build().toByteArray(), 1)) {
      Ort.Tensor actual = SparseSessions.run(session, feeds);
      assertArrayEquals(expected.values(), actual.values(), what + " as QLinearMatMul");
    }

    for (FusedActivation.Kind activation : FusedActivation.Kind.values()) {
      boolean adds = random.nextBoolean();
      builder = new ModelBuilder(17).input("x", shape).outputOfUnknownRank("y").initializer(matrix);
      operands(builder, outputs, scales, random);
      builder.random("B", outputs);
      if (adds) {
        long[] result = Arrays.copyOf(shape, shape.length);
        result[leading.length] = outputs;
        builder.input("Z", result);
        feeds.put("Z", Ort.Tensor.random(result));
      } else {
        feeds.remove("Z");
      }
      AttributeProto[] bounds =
          activation == FusedActivation.Kind.CLIP
              ? new AttributeProto[] {attribute("minimum", -0.5f), attribute("maximum", 0.75f)}
              : new AttributeProto[0];
      byte[] model =
          model(builder, SparseFunctions.integerMatrix(adds, activation, 17), false, bounds);
      // Sums are the same to the bit; values up to some ten then go through different polynomials.
      checkSame(what + " " + activation, model, feeds, 1e-5f);
    }
  }

  private static int checkProducts(boolean exact, Random random) throws OrtException {
    int count = 0;
    for (long[] leading : new long[][] {{}, {1}, {2}, {17}, {2, 50}, {1, 197}, {2, 3, 5}}) {
      checkProduct(leading, 33, 21, 0.7, false, random);
      checkProduct(leading, 64, 96, 0.5, exact, random);
      count += 2;
    }
    checkProduct(new long[] {50}, 3072, 40, 0.9, false, random);
    checkProduct(new long[] {197}, 192, 576, 0, false, random);
    checkProduct(new long[] {7}, 8, 5, 1, false, random);
    checkProduct(new long[] {400}, 1, 1, 0.5, false, random);
    return count + 4;
  }

  /** Whether ONNX Runtime's sums of products of bytes are exact here. */
  private static boolean isExact() {
    int size = 64;
    int[] weights = new int[size * size];
    Arrays.fill(weights, 127);
    float[] x = new float[size * size];
    Arrays.fill(x, 255);
    byte[] model =
        new ModelBuilder(17)
            .input("x", size, size)
            .outputOfUnknownRank("y")
            .initializer(integers("W", DataType.INT8_VALUE, new long[] {size, size}, weights))
            .node("Cast", List.of("x"), List.of("X"), attribute("to", (long) DataType.UINT8_VALUE))
            .node("MatMulInteger", List.of("X", "W"), List.of("Y"))
            .node("Cast", List.of("Y"), List.of("y"), attribute("to", (long) DataType.FLOAT_VALUE))
            .proto()
            .toByteArray();
    float[] y = Ort.run(model, Map.of("x", new Ort.Tensor(x, size, size))).get("y").values();
    return y[0] == size * 255 * 127;
  }

  public static void main(String[] arguments) throws OrtException {
    Random random = new Random(1);
    boolean exact = isExact();
    int count = 0;
    for (Case c : cases()) {
      if (exact || !c.extreme) {
        check(c, random);
        count++;
      }
    }
    int products = checkProducts(exact, random);
    System.out.println(count + " and " + products + " cases agree");
  }
}
