package org.taco4j.bench;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.OperatorSetIdProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.ValueInfoProto;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.taco4j.onnx.Attributes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;

/**
 * The layers of networks that many use, at 224 x 224 pixels, side by side in one model: ResNet-18,
 * ResNet-50, MobileNetV2, and vision transformers of the widths 192 and 768. Weights are random.
 */
final class CommonLayers {
  private static final long TOKENS = 197;

  private final GraphProto.Builder graph = GraphProto.newBuilder().setName("common layers");
  private final Map<String, long[]> shapes = new HashMap<>();
  private final Random random = new Random(1);
  private final long batch;

  private CommonLayers(int batch) {
    this.batch = batch;
  }

  /** The model and the shapes of its inputs. */
  record Layers(OnnxModel model, Map<String, long[]> shapes) {}

  /** Makes them for a batch of so many images. */
  static Layers make(int batch) {
    CommonLayers layers = new CommonLayers(batch);
    layers.basicBlocks();
    layers.bottlenecks();
    layers.invertedBottlenecks();
    layers.transformer(192);
    layers.transformer(768);
    ModelProto model =
        ModelProto.newBuilder()
            .setIrVersion(8)
            .addOpsetImport(OperatorSetIdProto.newBuilder().setDomain("").setVersion(17))
            .setGraph(layers.graph)
            .build();
    return new Layers(OnnxModel.of("common layers", model), layers.shapes);
  }

  private void basicBlocks() {
    for (int stage = 0; stage < 4; stage++) {
      int size = 56 >> stage;
      int width = 64 << stage;
      convolution(width, width, 3, 1, size, 1, false, "Relu");
      convolution(width, width, 3, 1, size, 1, true, "Relu");
      if (stage > 0) {
        convolution(width / 2, width, 3, 2, 2 * size, 1, false, "Relu");
        convolution(width / 2, width, 1, 2, 2 * size, 1, false, "");
      }
    }
  }

  private void bottlenecks() {
    int channels = 64;
    convolution(3, 64, 7, 2, 224, 1, false, "Relu");
    for (int stage = 0; stage < 4; stage++) {
      int size = 56 >> stage;
      int width = 64 << stage;
      int stride = stage > 0 ? 2 : 1;
      convolution(channels, width, 1, 1, size * stride, 1, false, "Relu");
      convolution(4 * width, width, 1, 1, size, 1, false, "Relu");
      if (stage > 0) {
        convolution(width, width, 3, 2, 2 * size, 1, false, "Relu");
      }
      convolution(width, 4 * width, 1, 1, size, 1, true, "Relu");
      convolution(channels, 4 * width, 1, stride, size * stride, 1, false, "");
      channels = 4 * width;
    }
  }

  private void invertedBottlenecks() {
    convolution(3, 32, 3, 2, 224, 1, false, "Clip");
    int[][] blocks = { // input channels, factor, output channels, stride, input size
      {32, 1, 16, 1, 112}, {16, 6, 24, 2, 112}, {24, 6, 24, 1, 56}, {24, 6, 32, 2, 56},
      {32, 6, 32, 1, 28}, {32, 6, 64, 2, 28}, {64, 6, 64, 1, 14}, {64, 6, 96, 1, 14},
      {96, 6, 96, 1, 14}, {96, 6, 160, 2, 14}, {160, 6, 160, 1, 7}, {160, 6, 320, 1, 7},
    };
    for (int[] block : blocks) {
      int hidden = block[0] * block[1];
      int size = block[4] / block[3];
      if (block[1] > 1) {
        convolution(block[0], hidden, 1, 1, block[4], 1, false, "Clip");
      }
      convolution(hidden, hidden, 3, block[3], block[4], hidden, false, "Clip");
      boolean adds = block[3] == 1 && block[0] == block[2];
      convolution(hidden, block[2], 1, 1, size, 1, adds, "");
    }
    convolution(320, 1280, 1, 1, 7, 1, false, "Clip");
  }

  private void transformer(int width) {
    product(width, 3 * width, false, false);
    product(width, width, true, false);
    product(width, 4 * width, false, true);
    product(4 * width, width, true, false);
  }

  private void convolution(
      int in,
      int out,
      int kernel,
      int stride,
      int size,
      int groups,
      boolean adds,
      String activation) {
    int pad = kernel / 2;
    String name = "layer" + graph.getNodeCount();
    String y =
        node(
            "Conv",
            name,
            List.of(
                input(name + ".input", batch, in, size, size),
                weights(name + ".weight", out, in / groups, kernel, kernel),
                weights(name + ".bias", out)),
            Attributes.integers("kernel_shape", kernel, kernel),
            Attributes.integers("strides", stride, stride),
            Attributes.integers("pads", pad, pad, pad, pad),
            Attributes.integer("group", groups));
    if (adds) {
      y = node("Add", name + ".sum", List.of(y, input(name + ".residual", batch, out, size, size)));
    }
    if (activation.equals("Relu")) {
      y = node("Relu", name + ".relu", List.of(y));
    } else if (activation.equals("Clip")) {
      y =
          node(
              "Clip",
              name + ".clip",
              List.of(y, scalar(name + ".least", 0), scalar(name + ".most", 6)));
    }
    graph.addOutput(ValueInfoProto.newBuilder().setName(y));
  }

  private void product(int in, int out, boolean adds, boolean gelu) {
    String name = "layer" + graph.getNodeCount();
    String y =
        node(
            "MatMul",
            name,
            List.of(input(name + ".input", batch, TOKENS, in), weights(name + ".weight", in, out)));
    y = node("Add", name + ".biased", List.of(y, weights(name + ".bias", out)));
    if (adds) {
      y = node("Add", name + ".sum", List.of(y, input(name + ".residual", batch, TOKENS, out)));
    }
    if (gelu) {
      String erf =
          node(
              "Erf",
              name + ".erf",
              List.of(
                  node(
                      "Div",
                      name + ".scaled",
                      List.of(y, scalar(name + ".sqrt2", (float) Math.sqrt(2))))));
      String gate = node("Add", name + ".gate", List.of(erf, scalar(name + ".one", 1)));
      String twice = node("Mul", name + ".twice", List.of(y, gate));
      y = node("Mul", name + ".gelu", List.of(twice, scalar(name + ".half", 0.5f)));
    }
    graph.addOutput(ValueInfoProto.newBuilder().setName(y));
  }

  private String node(
      String operator, String output, List<String> inputs, AttributeProto... attributes) {
    graph.addNode(
        NodeProto.newBuilder()
            .setOpType(operator)
            .setName(output)
            .addAllInput(inputs)
            .addOutput(output)
            .addAllAttribute(Arrays.asList(attributes)));
    return output;
  }

  private String input(String name, long... shape) {
    shapes.put(name, shape);
    graph.addInput(SingleLayer.declare(name, shape));
    return name;
  }

  private String scalar(String name, float value) {
    graph.addInitializer(
        TensorData.of(name, TensorProto.DataType.FLOAT_VALUE, List.of(), new float[] {value}));
    return name;
  }

  private String weights(String name, long... dims) {
    float[] values = new float[(int) Arrays.stream(dims).reduce(1, (a, b) -> a * b)];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (0.02 * random.nextGaussian());
    }
    graph.addInitializer(
        TensorData.of(
            name, TensorProto.DataType.FLOAT_VALUE, Arrays.stream(dims).boxed().toList(), values));
    return name;
  }
}
