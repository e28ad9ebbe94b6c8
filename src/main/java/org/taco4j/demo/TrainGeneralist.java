package org.taco4j.demo;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.taco4j.PreprocessingOptions;
import org.taco4j.TaskClasses;
import org.taco4j.bench.Accuracy;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.Preprocessing;
import org.taco4j.data.Preprocessor;
import org.taco4j.data.RgbImage;
import org.taco4j.onnx.BatchNormFolding;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;
import org.taco4j.tune.BatchNormStatistics;
import org.taco4j.tune.Optimizer;
import org.taco4j.tune.Trainer;

/**
 * Trains the embedded generalist from random weights, on pictures drawn on the way, no picture
 * twice: {@code TACO_MAIN=org.taco4j.demo.TrainGeneralist ./taco models/drawn-things.onnx}.
 */
public final class TrainGeneralist {
  /** Of the weights, and of the pictures trained on: the demo and the tests have others. */
  private static final long SEED = 0x7AC0_7AC0_7AC0L;

  /** Of the pictures of the final accuracy. */
  private static final long TEST_SEED = 0x7E57_7E57_7E57L;

  private static final int[] WIDTHS = {24, 48, 112};
  private static final int BLOCKS = 2;
  private static final int TEST_IMAGES = 200;

  private static final Trainer.Settings SETTINGS =
      new Trainer.Settings(
          new Optimizer(Optimizer.Rule.ADAMW, 4e-3, Optimizer.Schedule.LINEAR, 0.02, 0),
          1500,
          128,
          32,
          0.05);

  /** Micro-batches for the statistics of the norms. */
  private static final int STATISTICS = 64;

  private TrainGeneralist() {}

  /** Trains, and writes the model to the file that is named. */
  public static void main(String[] args) {
    if (args.length != 1) {
      System.err.println("usage: TrainGeneralist FILE.onnx");
      System.exit(TacoException.Kind.USAGE.exitCode());
    }
    Path file = Path.of(args[0]);
    long start = System.nanoTime();
    try (Workers workers = new Workers(Runtime.getRuntime().availableProcessors())) {
      OnnxModel model =
          train(
              List.of(DrawnClass.values()),
              WIDTHS,
              BLOCKS,
              SETTINGS,
              STATISTICS,
              workers,
              log(start));
      model.write(file);
      System.out.printf(
          Locale.ROOT, "%s: %d bytes, sha256 %s%n", file, model.sizeInBytes(), model.sha256());
      try (Session session = Session.open(file, 1)) {
        accuracy(session, model.inputs().getFirst().name(), TEST_IMAGES, TEST_SEED, workers)
            .forEach(TrainGeneralist::print);
      }
    }
  }

  private static Trainer.Listener log(long start) {
    double[] mean = new double[2];
    return (step, loss, top1) -> {
      mean[0] += loss / 50;
      mean[1] += top1 / 50;
      if (step % 50 == 0) {
        System.out.printf(
            Locale.ROOT,
            "step %4d  loss %.3f  top-1 %.1f %%  %.0f s%n",
            step,
            mean[0],
            100 * mean[1],
            (System.nanoTime() - start) / 1e9);
        mean[0] = 0;
        mean[1] = 0;
      }
    };
  }

  private static void print(String name, Accuracy accuracy) {
    System.out.printf(
        Locale.ROOT,
        "%-10s %.1f %% (%.1f to %.1f) of %d pictures%n",
        name,
        100 * accuracy.top1(),
        100 * accuracy.top1Low(),
        100 * accuracy.top1High(),
        accuracy.images());
  }

  /**
   * A trained network with its classes and preprocessing in its metadata.
   *
   * @param statistics micro-batches for those of the norms
   */
  static OnnxModel train(
      List<DrawnClass> classes,
      int[] widths,
      int blocks,
      Trainer.Settings settings,
      int statistics,
      Workers workers,
      Trainer.Listener listener) {
    Preprocessor preprocessor = preprocessor();
    Trainer.Images images =
        (number, out, offset) -> {
          int label = (int) (number % classes.size());
          int index = (int) (number / classes.size());
          preprocessor.apply(rgb(classes.get(label), SEED, index), out, offset);
          return label;
        };
    long[] shape = {3, Drawing.SIDE, Drawing.SIDE};
    OnnxModel model =
        Trainer.train(
            ResidualNet.untrained(Drawing.SIDE, widths, blocks, classes.size(), SEED),
            shape,
            images,
            settings,
            workers,
            listener);
    model =
        BatchNormStatistics.measure(
            model, shape, images, statistics, settings.microBatch(), workers);
    BatchNormFolding.fold(model);
    model.setMetadata(PreprocessingOptions.METADATA_KEY, preprocessor.preprocessing().toJson());
    model.setMetadata(TaskClasses.METADATA_KEY, TaskClasses.toJson(DrawnClass.tasks(classes)));
    model.check();
    return model;
  }

  private static Preprocessor preprocessor() {
    return new Preprocessor(
        Preprocessing.imageNet(Drawing.SIDE, Drawing.SIDE, Preprocessing.Layout.NCHW));
  }

  private static RgbImage rgb(DrawnClass thing, long seed, int index) {
    int[] pixels =
        Drawing.draw(thing, seed, index)
            .getRGB(0, 0, Drawing.SIDE, Drawing.SIDE, null, 0, Drawing.SIDE);
    byte[] rgb = new byte[3 * pixels.length];
    for (int i = 0; i < rgb.length; i++) {
      rgb[i] = (byte) (pixels[i / 3] >> (16 - 8 * (i % 3)));
    }
    return new RgbImage(Drawing.SIDE, Drawing.SIDE, rgb);
  }

  /** The accuracy on fresh pictures: over all classes, and within each family. */
  static Map<String, Accuracy> accuracy(
      Session session, String input, int images, long seed, Workers workers) {
    List<DrawnClass> classes = List.of(DrawnClass.values());
    Preprocessor preprocessor = preprocessor();
    float[][] logits = new float[classes.size()][];
    workers.forEach(
        classes.size(),
        label -> {
          float[] data = new float[images * preprocessor.length()];
          for (int i = 0; i < images; i++) {
            RgbImage image = rgb(classes.get(label), seed, i);
            preprocessor.apply(image, data, i * preprocessor.length());
          }
          try (Tensor tensor = Tensor.ofFloats(data, preprocessor.shape(images));
              Tensor output = session.run(Map.of(input, tensor)).values().iterator().next()) {
            logits[label] = output.floats();
          }
        });
    Map<String, Accuracy> accuracies = new LinkedHashMap<>();
    accuracies.put("all", accuracy(logits, classes, classes));
    for (Family family : Family.values()) {
      accuracies.put(family.toString(), accuracy(logits, classes, family.classes()));
    }
    return accuracies;
  }

  /** Of the pictures of some classes, when only those compete. */
  private static Accuracy accuracy(
      float[][] logits, List<DrawnClass> all, List<DrawnClass> competing) {
    int[] within = new int[2];
    int images = 0;
    for (DrawnClass thing : competing) {
      int label = all.indexOf(thing);
      for (int first = 0; first < logits[label].length; first += all.size(), images++) {
        int better = 0;
        for (DrawnClass other : competing) {
          boolean higher = logits[label][first + all.indexOf(other)] > logits[label][first + label];
          better += higher ? 1 : 0;
        }
        within[0] += better < 1 ? 1 : 0;
        within[1] += better < 5 ? 1 : 0;
      }
    }
    return new Accuracy(images, within[0], within[1]);
  }
}
