package org.taco4j.demo;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.OperatorSetIdProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.random.RandomGenerator;
import org.taco4j.onnx.Attributes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;

/**
 * Writes a small residual network of basic blocks (He et al. 2016) as an ONNX graph, with random
 * weights and BatchNormalization in training mode.
 */
final class ResidualNet {
  static final int OPSET = 17;
  private static final int IR_VERSION = 8;

  private final GraphProto.Builder graph = GraphProto.newBuilder().setName("drawn-things");
  private final RandomGenerator random;

  private ResidualNet(long seed) {
    random = new SplittableRandom(seed);
  }

  /**
   * A network for RGB images, [N, 3, side, side] to [N, classes]. Its stem halves the image; each
   * stage after the first halves it again.
   *
   * @param widths channels of each stage
   * @param blocks of each stage
   * @param seed of the weights
   */
  static OnnxModel untrained(int side, int[] widths, int blocks, int classes, long seed) {
    ResidualNet net = new ResidualNet(seed);
    String x = net.convolution("stem", "image", 3, widths[0], 3, 2);
    x = net.relu("stem", net.norm("stem", x, widths[0], 1));
    int channels = widths[0];
    for (int stage = 0; stage < widths.length; stage++) {
      for (int block = 0; block < blocks; block++) {
        String name = "stage" + (stage + 1) + ".block" + (block + 1);
        x = net.block(name, x, channels, widths[stage], block == 0 && stage > 0 ? 2 : 1);
        channels = widths[stage];
      }
    }
    net.node("pool", "GlobalAveragePool", List.of(x), "pool");
    net.node("flatten", "Flatten", List.of("pool"), "features");
    net.normal("classifier.weight", Math.sqrt(1.0 / channels), classes, channels);
    net.filled("classifier.bias", 0, classes);
    net.node(
        "classifier",
        "Gemm",
        List.of("features", "classifier.weight", "classifier.bias"),
        "logits",
        Attributes.integer("transB", 1));
    net.graph
        .addInput(Attributes.floats("image", "batch", 3, side, side))
        .addOutput(Attributes.floats("logits", "batch", classes));
    ModelProto proto =
        ModelProto.newBuilder()
            .setIrVersion(IR_VERSION)
            .setProducerName("taco4j")
            .addOpsetImport(OperatorSetIdProto.newBuilder().setDomain("").setVersion(OPSET))
            .setGraph(net.graph)
            .build();
    return OnnxModel.of("the untrained network", proto);
  }

  /** Two convolutions beside a shortcut, which is a 1x1 convolution where the shape changes. */
  private String block(String name, String input, int in, int out, int stride) {
    String a = convolution(name + ".conv1", input, in, out, 3, stride);
    a = relu(name + ".conv1", norm(name + ".conv1", a, out, 1));
    a = convolution(name + ".conv2", a, out, out, 3, 1);
    // From zero: at first each block is its shortcut, which trains sooner (Goyal et al. 2017).
    a = norm(name + ".conv2", a, out, 0);
    String shortcut = input;
    if (in != out || stride > 1) {
      shortcut = convolution(name + ".shortcut", input, in, out, 1, stride);
      shortcut = norm(name + ".shortcut", shortcut, out, 1);
    }
    node(name + ".add", "Add", List.of(a, shortcut), name + ".sum");
    return relu(name, name + ".sum");
  }

  /** Without a bias, as a norm follows; weights as He et al. 2015 draw them. */
  private String convolution(String name, String input, int in, int out, int kernel, int stride) {
    normal(name + ".weight", Math.sqrt(2.0 / (in * kernel * kernel)), out, in, kernel, kernel);
    int pad = kernel / 2;
    node(
        name,
        "Conv",
        List.of(input, name + ".weight"),
        name + ".out",
        Attributes.integers("kernel_shape", kernel, kernel),
        Attributes.integers("strides", stride, stride),
        Attributes.integers("pads", pad, pad, pad, pad));
    return name + ".out";
  }

  private String norm(String name, String input, int channels, float scale) {
    filled(name + ".scale", scale, channels);
    filled(name + ".shift", 0, channels);
    filled(name + ".mean", 0, channels);
    filled(name + ".variance", 1, channels);
    node(
        name + ".norm",
        "BatchNormalization",
        List.of(input, name + ".scale", name + ".shift", name + ".mean", name + ".variance"),
        name + ".normed",
        Attributes.integer("training_mode", 1));
    // ONNX wants these declared in training mode, though nothing reads them.
    int last = graph.getNodeCount() - 1;
    graph.setNode(
        last,
        graph.getNode(last).toBuilder()
            .addOutput(name + ".next_mean")
            .addOutput(name + ".next_variance"));
    return name + ".normed";
  }

  private String relu(String name, String input) {
    node(name + ".relu", "Relu", List.of(input), name + ".active");
    return name + ".active";
  }

  private void node(
      String name,
      String operator,
      List<String> inputs,
      String output,
      AttributeProto... attributes) {
    graph.addNode(
        NodeProto.newBuilder()
            .setName(name)
            .setOpType(operator)
            .addAllInput(inputs)
            .addOutput(output)
            .addAllAttribute(Arrays.asList(attributes)));
  }

  private void normal(String name, double deviation, long... dims) {
    float[] values = new float[Math.toIntExact(count(dims))];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (deviation * random.nextGaussian());
    }
    constant(name, values, dims);
  }

  private void filled(String name, float value, long... dims) {
    float[] values = new float[Math.toIntExact(count(dims))];
    Arrays.fill(values, value);
    constant(name, values, dims);
  }

  private static long count(long... dims) {
    return Arrays.stream(dims).reduce(1, (a, b) -> a * b);
  }

  private void constant(String name, float[] values, long... dims) {
    TensorProto tensor =
        TensorData.of(name, DataType.FLOAT_VALUE, Arrays.stream(dims).boxed().toList(), values);
    graph.addInitializer(tensor);
  }
}
