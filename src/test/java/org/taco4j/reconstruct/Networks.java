package org.taco4j.reconstruct;

import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import com.google.protobuf.ByteString;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.taco4j.TinyTask;
import org.taco4j.common.Notices;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageFile;
import org.taco4j.data.Preprocessor;
import org.taco4j.onnx.ModelBuilder;

/** Networks and images for tests that walk over a graph. */
final class Networks {
  private Networks() {}

  /** Writes a network: convolutions, a perceptron, or residual blocks. */
  static Path write(Path folder, String kind) {
    Path file = folder.resolve(kind + ".onnx");
    return switch (kind) {
      case "conv" -> TinyTask.convNet(file, TinyTask.Input.FREE);
      case "conv of batch 5" -> TinyTask.convNet(file, new TinyTask.Input(5, false));
      case "conv FLOAT16" -> inFloat16(TinyTask.convNet(file, TinyTask.Input.FREE));
      case "conv NHWC" -> TinyTask.convNet(file, new TinyTask.Input(1, true));
      case "residual" -> residual(file);
      default -> TinyTask.mlp(file);
    };
  }

  /** Lets a network compute in float16 between its float32 input and output. */
  private static Path inFloat16(Path file) {
    try {
      ModelProto model = ModelProto.parseFrom(Files.readAllBytes(file));
      GraphProto.Builder graph = model.getGraph().toBuilder();
      for (TensorProto.Builder tensor : graph.getInitializerBuilderList()) {
        FloatBuffer values =
            tensor
                .getRawData()
                .asReadOnlyByteBuffer()
                .order(ByteOrder.LITTLE_ENDIAN)
                .asFloatBuffer();
        ByteBuffer halves =
            ByteBuffer.allocate(Short.BYTES * values.remaining()).order(ByteOrder.LITTLE_ENDIAN);
        while (values.hasRemaining()) {
          halves.putShort(Float.floatToFloat16(values.get()));
        }
        tensor
            .setDataType(TensorProto.DataType.FLOAT16_VALUE)
            .setRawData(ByteString.copyFrom(halves.flip()));
      }
      graph.getNodeBuilder(0).setInput(0, "half_images");
      graph.getNodeBuilder(graph.getNodeCount() - 1).setOutput(0, "half_logits");
      graph.addNode(0, cast("images", "half_images", TensorProto.DataType.FLOAT16_VALUE));
      graph.addNode(cast("half_logits", "logits", TensorProto.DataType.FLOAT_VALUE));
      return Files.write(file, model.toBuilder().setGraph(graph).build().toByteArray());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static NodeProto cast(String from, String to, int type) {
    return NodeProto.newBuilder()
        .setOpType("Cast")
        .addInput(from)
        .addOutput(to)
        .addAttribute(ModelBuilder.attribute("to", type))
        .build();
  }

  /** Random pictures. */
  static ImageBatches images(
      Path folder, int count, boolean channelsLast, int batch, Workers workers) {
    Random random = new Random(23);
    List<ImageFile> files = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      Path file = folder.resolve("images").resolve(i + ".png");
      TinyTask.write(TinyTask.picture(random), file);
      files.add(new ImageFile(file, 0));
    }
    return new ImageBatches(
        files,
        new Preprocessor(TinyTask.preprocessing(channelsLast)),
        batch,
        workers,
        new Notices());
  }

  /**
   * A stem and two inverted residual blocks: 1x1 expansion, depthwise 3x3, 1x1 projection whose
   * output is added to the block's input, the second of two branches that are both convolutions.
   */
  private static Path residual(Path file) {
    long[] pads = {1, 1, 1, 1};
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("images", -1, 3, TinyTask.SIDE, TinyTask.SIDE)
            .random("stem", 8, 3, 3, 3)
            .node(
                "stem_conv",
                "Conv",
                List.of("images", "stem"),
                List.of("s"),
                ModelBuilder.attribute("pads", pads));
    String stream = "s";
    for (int block = 0; block < 2; block++) {
      String b = "b" + block + "_";
      builder
          .random(b + "we", 16, 8, 1, 1)
          .random(b + "be", 16)
          .random(b + "wd", 16, 1, 3, 3)
          .random(b + "wp", 8, 16, 1, 1)
          .random(b + "bp", 8)
          .node(b + "expand", "Conv", List.of(stream, b + "we", b + "be"), List.of(b + "e"))
          .node(b + "relu1", "Relu", List.of(b + "e"), List.of(b + "r1"))
          .node(
              b + "depthwise",
              "Conv",
              List.of(b + "r1", b + "wd"),
              List.of(b + "d"),
              ModelBuilder.attribute("pads", pads),
              ModelBuilder.attribute("group", 16))
          .node(b + "relu2", "Relu", List.of(b + "d"), List.of(b + "r2"))
          .node(b + "project", "Conv", List.of(b + "r2", b + "wp", b + "bp"), List.of(b + "p"));
      String other = stream;
      if (block == 1) {
        builder
            .random(b + "ws", 8, 8, 1, 1)
            .node(b + "shortcut", "Conv", List.of(stream, b + "ws"), List.of(b + "s"));
        other = b + "s";
      }
      builder.node(b + "add", "Add", List.of(b + "p", other), List.of(b + "a"));
      stream = b + "a";
    }
    try {
      return Files.write(
          file,
          builder
              .random("head", TinyTask.CLASSES, 8)
              .node("pool", "GlobalAveragePool", List.of(stream), List.of("g"))
              .node("flatten", "Flatten", List.of("g"), List.of("f"))
              .node(
                  "head_gemm",
                  "Gemm",
                  List.of("f", "head"),
                  List.of("logits"),
                  ModelBuilder.attribute("transB", 1))
              .output("logits", -1, TinyTask.CLASSES)
              .proto()
              .toByteArray());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
