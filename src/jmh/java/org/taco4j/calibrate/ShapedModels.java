package org.taco4j.calibrate;

import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnx.proto.OnnxMl;
import com.google.protobuf.ByteString;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.List;
import org.taco4j.onnx.ModelBuilder;

/**
 * Well-known architectures with random weights, for measurements in which only shapes matter. The
 * weights are scaled so that activations neither vanish nor overflow.
 */
final class ShapedModels {
  private ShapedModels() {}

  /** ResNet-50 (He et al. 2016, table 1), BatchNorm folded: 25.5 M weights, 4.1 G MACs at 224. */
  static Path resNet50(Path file) {
    ModelBuilder b = new ModelBuilder(17).input("input", -1, 3, 224, 224);
    String x = conv(b, "stem", "input", 3, 64, 7, 2, true);
    b.node(
        "pool",
        "MaxPool",
        List.of(x),
        List.of("pool"),
        attribute("kernel_shape", new long[] {3, 3}),
        attribute("strides", new long[] {2, 2}),
        attribute("pads", new long[] {1, 1, 1, 1}));
    x = "pool";
    int channels = 64;
    int[] blocks = {3, 4, 6, 3};
    for (int stage = 0; stage < 4; stage++) {
      int width = 64 << stage;
      for (int block = 0; block < blocks[stage]; block++) {
        String name = "layer" + (stage + 1) + "." + block;
        int stride = stage > 0 && block == 0 ? 2 : 1;
        String y = conv(b, name + ".conv1", x, channels, width, 1, 1, true);
        y = conv(b, name + ".conv2", y, width, width, 3, stride, true);
        y = conv(b, name + ".conv3", y, width, 4 * width, 1, 1, false);
        String shortcut =
            block == 0 ? conv(b, name + ".down", x, channels, 4 * width, 1, stride, false) : x;
        b.node(name + ".add", "Add", List.of(y, shortcut), List.of(name + ".add"));
        b.node(name + ".relu", "Relu", List.of(name + ".add"), List.of(name + ".relu"));
        x = name + ".relu";
        channels = 4 * width;
      }
    }
    b.node("gap", "GlobalAveragePool", List.of(x), List.of("gap"));
    b.node("flatten", "Flatten", List.of("gap"), List.of("features"));
    scaled(b, "fc.weight", 1.0 / Math.sqrt(2048), 1000, 2048);
    scaled(b, "fc.bias", 0.01, 1000);
    b.node(
        "fc",
        "Gemm",
        List.of("features", "fc.weight", "fc.bias"),
        List.of("logits"),
        attribute("transB", 1));
    b.output("logits", -1, 1000);
    return b.write(file);
  }

  private static String conv(
      ModelBuilder b,
      String name,
      String x,
      int in,
      int out,
      int kernel,
      int stride,
      boolean relu) {
    scaled(b, name + ".weight", Math.sqrt(1.0 / (in * kernel * kernel)), out, in, kernel, kernel);
    scaled(b, name + ".bias", 0.01, out);
    int pad = kernel / 2;
    b.node(
        name,
        "Conv",
        List.of(x, name + ".weight", name + ".bias"),
        List.of(name + ".out"),
        attribute("kernel_shape", new long[] {kernel, kernel}),
        attribute("strides", new long[] {stride, stride}),
        attribute("pads", new long[] {pad, pad, pad, pad}));
    if (!relu) {
      return name + ".out";
    }
    b.node(name + ".relu", "Relu", List.of(name + ".out"), List.of(name + ".y"));
    return name + ".y";
  }

  /**
   * A vision transformer (Dosovitskiy et al. 2021) with patches of 16 at 224 pixels, global average
   * pooling instead of a class token. ViT-Base: width 768, 12 blocks, 12 heads: 86 M weights.
   */
  static Path visionTransformer(Path file, int width, int blocks, int heads) {
    int tokens = 196;
    ModelBuilder b = new ModelBuilder(17).input("input", -1, 3, 224, 224);
    scaled(b, "patch.weight", 1 / Math.sqrt(768), width, 3, 16, 16);
    scaled(b, "patch.bias", 0.01, width);
    b.node(
        "patch",
        "Conv",
        List.of("input", "patch.weight", "patch.bias"),
        List.of("patch.out"),
        attribute("kernel_shape", new long[] {16, 16}),
        attribute("strides", new long[] {16, 16}));
    b.longs("shape.flat", 0, width, tokens);
    b.node("flat", "Reshape", List.of("patch.out", "shape.flat"), List.of("flat"));
    b.node(
        "tokens",
        "Transpose",
        List.of("flat"),
        List.of("tokens"),
        attribute("perm", new long[] {0, 2, 1}));
    scaled(b, "position", 0.02, 1, tokens, width);
    b.node("embed", "Add", List.of("tokens", "position"), List.of("embed"));
    b.longs("shape.heads", 0, tokens, heads, width / heads);
    b.longs("shape.merge", 0, tokens, width);
    b.longs("split", width, width, width);
    b.floats("scale", new long[0], (float) (1 / Math.sqrt(width / (double) heads)));
    String x = "embed";
    for (int i = 0; i < blocks; i++) {
      String n = "blocks." + i + ".";
      String y = norm(b, n + "norm1", x, width);
      y = linear(b, n + "qkv", y, width, 3 * width);
      b.node(
          n + "split",
          "Split",
          List.of(y, "split"),
          List.of(n + "q", n + "k", n + "v"),
          attribute("axis", -1));
      for (String part : List.of("q", "k", "v")) {
        b.node(
            n + part + "r", "Reshape", List.of(n + part, "shape.heads"), List.of(n + part + "r"));
        long[] perm = part.equals("k") ? new long[] {0, 2, 3, 1} : new long[] {0, 2, 1, 3};
        b.node(
            n + part + "t",
            "Transpose",
            List.of(n + part + "r"),
            List.of(n + part + "t"),
            attribute("perm", perm));
      }
      b.node(n + "qk", "MatMul", List.of(n + "qt", n + "kt"), List.of(n + "qk"));
      b.node(n + "scaled", "Mul", List.of(n + "qk", "scale"), List.of(n + "scaled"));
      b.node(
          n + "softmax", "Softmax", List.of(n + "scaled"), List.of(n + "p"), attribute("axis", -1));
      b.node(n + "pv", "MatMul", List.of(n + "p", n + "vt"), List.of(n + "pv"));
      b.node(
          n + "merge",
          "Transpose",
          List.of(n + "pv"),
          List.of(n + "merged"),
          attribute("perm", new long[] {0, 2, 1, 3}));
      b.node(n + "joined", "Reshape", List.of(n + "merged", "shape.merge"), List.of(n + "joined"));
      y = linear(b, n + "proj", n + "joined", width, width);
      b.node(n + "add1", "Add", List.of(x, y), List.of(n + "x1"));
      y = norm(b, n + "norm2", n + "x1", width);
      y = linear(b, n + "fc1", y, width, 4 * width);
      b.node(n + "relu", "Relu", List.of(y), List.of(n + "relu"));
      y = linear(b, n + "fc2", n + "relu", 4 * width, width);
      b.node(n + "add2", "Add", List.of(n + "x1", y), List.of(n + "x2"));
      x = n + "x2";
    }
    x = norm(b, "norm", x, width);
    b.node(
        "mean",
        "ReduceMean",
        List.of(x),
        List.of("features"),
        attribute("axes", new long[] {1}),
        attribute("keepdims", 0));
    scaled(b, "head.weight", 1 / Math.sqrt(width), 1000, width);
    scaled(b, "head.bias", 0.01, 1000);
    b.node(
        "head",
        "Gemm",
        List.of("features", "head.weight", "head.bias"),
        List.of("logits"),
        attribute("transB", 1));
    b.output("logits", -1, 1000);
    return b.write(file);
  }

  private static String norm(ModelBuilder b, String name, String x, int width) {
    float[] ones = new float[width];
    java.util.Arrays.fill(ones, 1f);
    b.floats(name + ".scale", new long[] {width}, ones);
    b.floats(name + ".shift", new long[] {width}, new float[width]);
    b.node(
        name,
        "LayerNormalization",
        List.of(x, name + ".scale", name + ".shift"),
        List.of(name + ".out"),
        attribute("axis", -1));
    return name + ".out";
  }

  private static String linear(ModelBuilder b, String name, String x, int in, int out) {
    scaled(b, name + ".weight", 1 / Math.sqrt(in), in, out);
    scaled(b, name + ".bias", 0.01, out);
    b.node(name, "MatMul", List.of(x, name + ".weight"), List.of(name + ".product"));
    b.node(
        name + ".plus", "Add", List.of(name + ".product", name + ".bias"), List.of(name + ".out"));
    return name + ".out";
  }

  /** A constant of normal values with the given standard deviation, seeded by its name. */
  private static void scaled(ModelBuilder b, String name, double deviation, long... dims) {
    int length = 1;
    for (long d : dims) {
      length *= Math.toIntExact(d);
    }
    java.util.Random random = new java.util.Random(name.hashCode());
    ByteBuffer values = ByteBuffer.allocate(length * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < length; i++) {
      values.putFloat((float) (random.nextGaussian() * deviation));
    }
    OnnxMl.TensorProto.Builder tensor =
        OnnxMl.TensorProto.newBuilder()
            .setName(name)
            .setDataType(OnnxMl.TensorProto.DataType.FLOAT_VALUE)
            .setRawData(ByteString.copyFrom(values.flip()));
    for (long d : dims) {
      tensor.addDims(d);
    }
    b.initializer(tensor.build());
  }
}
