package org.taco4j.calibrate;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import javax.imageio.ImageIO;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;
import org.taco4j.common.Notices;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backends;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageFile;
import org.taco4j.data.Preprocessing;
import org.taco4j.data.Preprocessor;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/**
 * What calibration (forward pass and Gram matrices) costs against the plain forward pass of the
 * same images, decoding included in both, in turns. Each invocation is one such pair; the ratios
 * are printed at the end.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SingleShotTime)
@Warmup(iterations = 2)
@Measurement(iterations = 7)
@Fork(
    value = 1,
    jvmArgsAppend = {"-Xmx8g"})
public class CalibrationBenchmark {
  /** The architecture; weights are random. */
  @Param({"deit-tiny", "resnet50"})
  public String model;

  private final int images = 128;
  private final int threads = Runtime.getRuntime().availableProcessors();
  private final List<Double> forward = new ArrayList<>();
  private final List<Double> calibration = new ArrayList<>();
  private final List<Double> cpuRatios = new ArrayList<>();
  private Workers workers;
  private OnnxModel onnx;
  private Session plain;
  private List<Layer> layers;
  private ImageBatches batches;

  @Setup(Level.Trial)
  public void open() throws IOException {
    Path folder = Files.createTempDirectory("calibration-benchmark");
    Path file = folder.resolve(model + ".onnx");
    switch (model) {
      case "deit-tiny" -> ShapedModels.visionTransformer(file, 192, 12, 3);
      case "resnet50" -> ShapedModels.resNet50(file);
      default -> throw new IllegalArgumentException(model);
    }
    workers = new Workers(threads);
    onnx = OnnxModel.read(file);
    plain = Session.open(file, threads);
    layers = LayerDiscovery.discover(onnx).stream().filter(Layer::prunable).toList();
    List<ImageFile> files = new ArrayList<>();
    Random random = new Random(1);
    for (int i = 0; i < images; i++) {
      BufferedImage image = new BufferedImage(224, 224, BufferedImage.TYPE_INT_RGB);
      for (int p = 0; p < 224 * 224; p++) {
        image.setRGB(p % 224, p / 224, random.nextInt(1 << 24));
      }
      Path png = folder.resolve(i + ".png");
      ImageIO.write(image, "png", png.toFile());
      files.add(new ImageFile(png, 0));
    }
    Preprocessor preprocessor =
        new Preprocessor(Preprocessing.imageNet(224, 224, Preprocessing.Layout.NCHW));
    batches =
        new ImageBatches(
            files, preprocessor, ModelInput.of(onnx).batchSize(224, 224), workers, new Notices());
    checkSamples();
  }

  /** The result is checked before any time is reported. */
  private void checkSamples() {
    Map<GramKey, GramMatrix> grams = calibrate();
    for (Map.Entry<GramKey, GramMatrix> entry : grams.entrySet()) {
      GramMatrix gram = entry.getValue();
      double trace = 0;
      for (int i = 0; i < gram.cols(); i++) {
        trace += gram.values()[i * gram.cols() + i];
      }
      if (gram.samples() < images || !(trace > 0) || !Double.isFinite(trace)) {
        throw new IllegalStateException("no Gram matrix for " + entry.getKey());
      }
    }
  }

  private Map<GramKey, GramMatrix> calibrate() {
    return new Calibrator(onnx, Backends.choose("auto", workers).backend(), workers)
        .gramMatrices(layers, batches);
  }

  private void forward() {
    ModelInput input = ModelInput.of(onnx);
    for (ImageBatches.Batch batch : batches) {
      Map<String, Tensor> feed = input.feed(batch.data(), batch.count(), batches.imageShape());
      plain.run(feed).values().forEach(Tensor::close);
      feed.values().forEach(Tensor::close);
    }
  }

  /** One pair. */
  @Benchmark
  public void forwardThenCalibrate() {
    long start = System.nanoTime();
    long startCpu = cpuNanos();
    forward();
    long middle = System.nanoTime();
    long middleCpu = cpuNanos();
    calibrate();
    forward.add((middle - start) / 1e9);
    calibration.add((System.nanoTime() - middle) / 1e9);
    cpuRatios.add((cpuNanos() - middleCpu) / (double) (middleCpu - startCpu));
  }

  /** Processor time of this process: what a busy machine leaves nearly untouched. */
  private static long cpuNanos() {
    return ((com.sun.management.OperatingSystemMXBean)
            java.lang.management.ManagementFactory.getOperatingSystemMXBean())
        .getProcessCpuTime();
  }

  @TearDown(Level.Trial)
  public void close() {
    double[] ratios = new double[forward.size()];
    for (int i = 0; i < ratios.length; i++) {
      ratios[i] = calibration.get(i) / forward.get(i);
    }
    Arrays.sort(ratios);
    System.out.printf(
        Locale.ROOT,
        "%n%s, %d images, %d threads: calibration / forward = %.2f (%.2f to %.2f) in wall time, %.2f in"
            + " processor time; forward %.2f s%n",
        model,
        images,
        threads,
        ratios[ratios.length / 2],
        ratios[0],
        ratios[ratios.length - 1],
        cpuRatios.stream().mapToDouble(d -> d).sorted().toArray()[cpuRatios.size() / 2],
        forward.stream().mapToDouble(d -> d).sorted().toArray()[forward.size() / 2]);
    plain.close();
    workers.close();
  }
}
