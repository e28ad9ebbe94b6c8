package org.taco4j;

import static org.taco4j.onnx.ModelBuilder.attribute;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import javax.imageio.ImageIO;
import org.taco4j.data.Preprocessing;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/**
 * A classification task that fits a test: networks with random weights of different shapes, and
 * images that the network itself has labelled, so that the dense accuracy is 100 %.
 */
public final class TinyTask {
  /** Pixels a side. */
  public static final int SIDE = 8;

  /** Outputs of the networks. */
  public static final int CLASSES = 4;

  private TinyTask() {}

  /** Batch dimension and layout of a network's input. */
  public record Input(long batch, boolean channelsLast) {
    /** Any batch, NCHW. */
    public static final Input FREE = new Input(-1, false);

    long[] shape() {
      return channelsLast ? new long[] {batch, SIDE, SIDE, 3} : new long[] {batch, 3, SIDE, SIDE};
    }
  }

  /** Three convolutions (3x3 with bias; 3x3 in 2 groups without; 1x1 with bias) and a Gemm head. */
  public static Path convNet(Path file, Input input) {
    ModelBuilder builder = new ModelBuilder(17).input("images", input.shape());
    String first = "images";
    if (input.channelsLast()) {
      builder.node(
          "to_nchw",
          "Transpose",
          List.of("images"),
          List.of("nchw"),
          attribute("perm", new long[] {0, 3, 1, 2}));
      first = "nchw";
    }
    builder
        .random("w1", 8, 3, 3, 3)
        .random("b1", 8)
        .random("w2", 8, 4, 3, 3)
        .random("w3", 16, 8, 1, 1)
        .random("b3", 16)
        .random("w4", CLASSES, 16)
        .node(
            "conv1",
            "Conv",
            List.of(first, "w1", "b1"),
            List.of("c1"),
            attribute("pads", new long[] {1, 1, 1, 1}))
        .node("relu1", "Relu", List.of("c1"), List.of("r1"))
        .node(
            "conv2",
            "Conv",
            List.of("r1", "w2"),
            List.of("c2"),
            attribute("pads", new long[] {1, 1, 1, 1}),
            attribute("strides", new long[] {2, 2}),
            attribute("group", 2))
        .node("relu2", "Relu", List.of("c2"), List.of("r2"))
        .node("conv3", "Conv", List.of("r2", "w3", "b3"), List.of("c3"))
        .node("relu3", "Relu", List.of("c3"), List.of("r3"))
        .node("pool", "GlobalAveragePool", List.of("r3"), List.of("p"))
        .node("flatten", "Flatten", List.of("p"), List.of("f"));
    return finish(builder, "f", input, file);
  }

  /** Flatten, MatMul and Add, MatMul without bias, Gemm head. */
  public static Path mlp(Path file) {
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("images", Input.FREE.shape())
            .random("w1", 3 * SIDE * SIDE, 24)
            .random("b1", 24)
            .random("w2", 24, 20)
            .random("w4", CLASSES, 20)
            .node("flatten", "Flatten", List.of("images"), List.of("f"))
            .node("fc1", "MatMul", List.of("f", "w1"), List.of("m1"))
            .node("add1", "Add", List.of("m1", "b1"), List.of("a1"))
            .node("relu1", "Relu", List.of("a1"), List.of("r1"))
            .node("fc2", "MatMul", List.of("r1", "w2"), List.of("m2"))
            .node("relu2", "Relu", List.of("m2"), List.of("r2"));
    return finish(builder, "r2", Input.FREE, file);
  }

  /** Adds the head, with a bias that makes all classes about equally likely, and writes. */
  private static Path finish(ModelBuilder builder, String features, Input input, Path file) {
    builder
        .node(
            "head",
            "Gemm",
            List.of(features, "w4", "b4"),
            List.of("logits"),
            attribute("transB", 1))
        .output("logits", input.batch(), CLASSES);
    float[] bias = new float[CLASSES];
    write(builder, bias, file);
    Preprocessing preprocessing = preprocessing(input.channelsLast());
    int samples = 200;
    double[] mean = new double[CLASSES];
    Random random = new Random(3);
    try (Classifier classifier = new Classifier(file)) {
      for (int i = 0; i < samples; i++) {
        float[] scores = classifier.scores(picture(random));
        for (int c = 0; c < CLASSES; c++) {
          mean[c] += scores[c] / samples;
        }
      }
    }
    for (int c = 0; c < CLASSES; c++) {
      bias[c] = (float) -mean[c];
    }
    write(builder, bias, file);
    OnnxModel model = OnnxModel.read(file);
    model.setMetadata(PreprocessingOptions.METADATA_KEY, preprocessing.toJson());
    model.write(file);
    return file;
  }

  private static void write(ModelBuilder builder, float[] bias, Path file) {
    try {
      Files.createDirectories(file.toAbsolutePath().getParent());
      // The builder only adds, so the bias goes into the finished protobuf.
      Files.write(
          file,
          builder.proto().toBuilder()
              .setGraph(
                  builder.graph().toBuilder()
                      .addInitializer(ModelBuilder.tensor("b4", new long[] {CLASSES}, bias)))
              .build()
              .toByteArray());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** What the networks' metadata says: pixels as they are, brought to -1..1. */
  public static Preprocessing preprocessing(boolean channelsLast) {
    return Preprocessing.preset(
            "unit",
            SIDE,
            SIDE,
            channelsLast ? Preprocessing.Layout.NHWC : Preprocessing.Layout.NCHW)
        .withMean(List.of(0.5f, 0.5f, 0.5f))
        .withStd(List.of(0.5f, 0.5f, 0.5f));
  }

  /** A random picture: a colour, a slope of colours and noise. */
  public static BufferedImage picture(Random random) {
    BufferedImage image = new BufferedImage(SIDE, SIDE, BufferedImage.TYPE_INT_RGB);
    double[] parts = random.doubles(9, -1, 1).toArray();
    for (int y = 0; y < SIDE; y++) {
      for (int x = 0; x < SIDE; x++) {
        int rgb = 0;
        for (int c = 0; c < 3; c++) {
          double v =
              0.5
                  + 0.35 * parts[c]
                  + 0.3 * parts[3 + c] * (x / (SIDE - 1.0) - 0.5)
                  + 0.3 * parts[6 + c] * (y / (SIDE - 1.0) - 0.5)
                  + 0.1 * random.nextGaussian();
          rgb = rgb << 8 | (int) Math.clamp(Math.round(255 * v), 0, 255);
        }
        image.setRGB(x, y, rgb);
      }
    }
    return image;
  }

  /**
   * Writes folders {@code c0}, {@code c1}, …: for each output of the model as many random images as
   * asked for on which that output is the highest.
   */
  public static Path images(Path folder, Path model, int perClass) {
    int[] counts = new int[CLASSES];
    Random random = new Random(11);
    try (Classifier classifier = new Classifier(model)) {
      for (int tries = 0; java.util.Arrays.stream(counts).min().orElseThrow() < perClass; tries++) {
        if (tries > 100_000) {
          throw new IllegalStateException("the network hardly ever says one of the classes");
        }
        BufferedImage image = picture(random);
        float[] scores = classifier.scores(image);
        int best = 0;
        for (int c = 1; c < CLASSES; c++) {
          best = scores[c] > scores[best] ? c : best;
        }
        if (counts[best] < perClass) {
          write(image, folder.resolve("c" + best).resolve("i%03d.png".formatted(counts[best]++)));
        }
      }
    }
    return folder;
  }

  /** Writes a picture as PNG, making folders. */
  public static void write(BufferedImage image, Path file) {
    try {
      Files.createDirectories(file.getParent());
      ImageIO.write(image, "png", file.toFile());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Runs one of these networks on pictures. */
  private static final class Classifier implements AutoCloseable {
    private final ModelInput input;
    private final Session session;

    Classifier(Path model) {
      this.input = ModelInput.of(OnnxModel.read(model));
      this.session = Session.open(model, 1);
    }

    /** The scores of the first image of a run. */
    float[] scores(BufferedImage image) {
      float[] values = new float[3 * SIDE * SIDE];
      for (int i = 0; i < SIDE * SIDE; i++) {
        int rgb = image.getRGB(i % SIDE, i / SIDE);
        for (int c = 0; c < 3; c++) {
          float v = ((rgb >> 8 * (2 - c) & 255) / 255f - 0.5f) / 0.5f;
          values[input.channelsLast() ? 3 * i + c : c * SIDE * SIDE + i] = v;
        }
      }
      long[] shape =
          input.channelsLast() ? new long[] {1, SIDE, SIDE, 3} : new long[] {1, 3, SIDE, SIDE};
      var feed = input.feed(values, 1, shape);
      var results = session.run(feed);
      try {
        return results.get("logits").floats();
      } finally {
        feed.values().forEach(Tensor::close);
        results.values().forEach(Tensor::close);
      }
    }

    @Override
    public void close() {
      session.close();
    }
  }
}
