package org.taco4j.reconstruct;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.TinyTask;
import org.taco4j.common.Notice;
import org.taco4j.common.Notices;
import org.taco4j.common.Workers;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.data.ImageBatches;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;
import org.taco4j.solve.Damping;
import org.taco4j.solve.GptqSolver;
import org.taco4j.solve.Pattern;
import org.taco4j.solve.Quantization;
import org.taco4j.solve.Solver;
import org.taco4j.solve.Solvers;

class SequentialTest {
  private static final long MEMORY = 1 << 30;
  private static final Damping DAMPING = new Damping.Fixed(0.01);

  @TempDir Path folder;

  private final List<String> refitted = new ArrayList<>();
  private final List<LayerWise.Outcome> resumed = new ArrayList<>();
  private final Notices notices = new Notices();

  private final Sequential.Listener listener =
      new Sequential.Listener() {
        @Override
        public void calibrating(int pass, int passes, int layers) {}

        @Override
        public void resumed(List<LayerWise.Outcome> outcomes) {
          resumed.addAll(outcomes);
        }

        @Override
        public void solved(LayerWise.Outcome outcome) {}

        @Override
        public void refitted(Layer layer) {
          refitted.add(layer.name());
        }
      };

  private static List<LayerWise.Plan> plans(OnnxModel model, String pattern, String solver) {
    return LayerDiscovery.discover(model).stream()
        .filter(Layer::prunable)
        .map(layer -> new LayerWise.Plan(layer, Pattern.parse(pattern), Solvers.byName(solver)))
        .toList();
  }

  /** The compressed model. */
  private OnnxModel run(
      OnnxModel dense,
      List<LayerWise.Plan> plans,
      Damping damping,
      int threads,
      long memory,
      LayerCheckpoints checkpoints,
      boolean channelsLast,
      int batch)
      throws IOException {
    OnnxModel compressed = dense.copy();
    Path scratch = Files.createDirectories(folder.resolve("scratch"));
    try (Workers workers = new Workers(threads)) {
      ImageBatches images = Networks.images(folder, 37, channelsLast, batch, workers);
      new Sequential(dense, compressed, new ScalarBackend(workers), notices, checkpoints)
          .run(plans, layer -> true, damping, memory, scratch, images, null, listener);
    }
    try (Stream<Path> left = Files.list(scratch)) {
      assertEquals(List.of(), left.toList());
    }
    return compressed;
  }

  private OnnxModel run(OnnxModel dense, List<LayerWise.Plan> plans) throws IOException {
    return run(dense, plans, DAMPING, 2, MEMORY, null, false, 16);
  }

  /** ‖a − b‖² / ‖a − mean‖² of a tensor of two models over the images. */
  private double difference(OnnxModel a, OnnxModel b, String tensor, boolean channelsLast) {
    ModelInput input = ModelInput.of(a);
    ChannelMoments error = null;
    ChannelMoments energy = null;
    try (Workers workers = new Workers(1);
        Session first = Session.open(a.withOutputs(List.of(tensor), true), 1);
        Session second = Session.open(b.withOutputs(List.of(tensor), true), 1)) {
      int batch = input.batch() > 0 ? input.batch() : 37;
      ImageBatches images = Networks.images(folder, 37, channelsLast, batch, workers);
      for (ImageBatches.Batch next : images) {
        Map<String, Tensor> feed = input.feed(next.data(), next.count(), images.imageShape());
        Tensor x = Objects.requireNonNull(first.run(feed).get(tensor));
        Tensor y = Objects.requireNonNull(second.run(feed).get(tensor));
        long[] shape = input.leading(tensor, x.shape(), next.count());
        float[] wanted = ModelStream.leading(x.floats(), shape);
        float[] lacking = ModelStream.leading(y.floats(), shape).clone();
        for (int i = 0; i < lacking.length; i++) {
          lacking[i] = wanted[i] - lacking[i];
        }
        ChannelMoments e = ChannelMoments.of(lacking, shape, 1);
        ChannelMoments w = ChannelMoments.of(wanted, shape, 1);
        error = error == null ? new ChannelMoments(e.channels()) : error;
        energy = energy == null ? new ChannelMoments(w.channels()) : energy;
        error.merge(e);
        energy.merge(w);
      }
    }
    double numerator = 0;
    double denominator = 0;
    for (int c = 0; c < Objects.requireNonNull(error).channels(); c++) {
      numerator += error.variance(c) + error.mean(c) * error.mean(c);
      denominator += energy.variance(c);
    }
    return numerator / denominator;
  }

  @ParameterizedTest
  @ValueSource(strings = {"conv", "conv of batch 5", "conv FLOAT16", "residual", "mlp"})
  void whatLacksNothingIsNotChanged(String kind) throws IOException {
    OnnxModel dense = OnnxModel.read(Networks.write(folder, kind));
    OnnxModel compressed =
        run(dense, plans(dense, "0.0", "magnitude"), DAMPING, 2, MEMORY, null, false, 5);
    for (Layer layer : LayerDiscovery.discover(dense)) {
      float[][] expected = LayerWeights.unfold(dense, layer);
      float[][] actual = LayerWeights.unfold(compressed, layer);
      for (int g = 0; g < expected.length; g++) {
        assertArrayEquals(expected[g], actual[g], layer.name());
      }
      assertArrayEquals(
          LayerWeights.bias(dense, layer), LayerWeights.bias(compressed, layer), layer.name());
    }
  }

  @ParameterizedTest
  @CsvSource({
    "conv, false, 16",
    "conv of batch 5, false, 5",
    "conv NHWC, true, 1",
    "residual, false, 16",
    "mlp, false, 16"
  })
  void outputsComeCloserToTheDenseOnesThanLayerByLayer(String kind, boolean channelsLast, int batch)
      throws IOException {
    OnnxModel dense = OnnxModel.read(Networks.write(folder, kind));
    List<LayerWise.Plan> plans = plans(dense, "0.6", "fast");
    OnnxModel sequential = run(dense, plans, DAMPING, 2, MEMORY, null, channelsLast, batch);
    OnnxModel layerWise = dense.copy();
    try (Workers workers = new Workers(2)) {
      ImageBatches images = Networks.images(folder, 37, channelsLast, batch, workers);
      new LayerWise(dense, layerWise, new ScalarBackend(workers), workers, notices)
          .run(plans, DAMPING, MEMORY, images, null, listener);
      new ChannelCorrection(dense, layerWise, workers, notices)
          .correct(
              LayerDiscovery.discover(layerWise),
              images,
              MEMORY,
              Files.createDirectories(folder.resolve("correction")),
              name -> {});
    }
    double ours = difference(dense, sequential, "logits", channelsLast);
    double theirs = difference(dense, layerWise, "logits", channelsLast);
    assertTrue(ours < 0.8 * theirs, ours + " against " + theirs);
    for (LayerWise.Plan plan : plans) {
      Layer layer = plan.layer();
      long zerosOfGroup = (long) Math.ceil(0.6 * layer.rows() * layer.cols() - 1e-9);
      assertEquals(layer.groups() * zerosOfGroup, LayerWeights.zeros(sequential, layer));
    }
  }

  @Test
  void theReportedErrorsAreThoseOfTheOutputs() throws IOException {
    OnnxModel dense = OnnxModel.read(Networks.write(folder, "residual"));
    OnnxModel compressed = dense.copy();
    List<LayerWise.Plan> plans = plans(dense, "0.6", "fast");
    try (Workers workers = new Workers(2)) {
      ImageBatches images = Networks.images(folder, 37, false, 16, workers);
      LayerWise.Result result =
          new Sequential(dense, compressed, new ScalarBackend(workers), notices, null)
              .run(plans, layer -> true, DAMPING, MEMORY, folder, images, images, listener);
      for (LayerWise.Outcome outcome : result.outcomes()) {
        String tensor = outcome.plan().layer().output();
        // Of layers whose target is the dense output alone.
        if (!tensor.endsWith("_p") && !tensor.endsWith("_s")) {
          // Float32 activations: both sides are sums of squared differences of them.
          double expected = difference(dense, compressed, tensor, false);
          assertEquals(expected, outcome.layerError(), 1e-4 * expected + 1e-9, tensor);
        }
        // Here the held-out images are the same ones.
        assertEquals(outcome.layerError(), assertNotNullValue(outcome.heldOutError()), 1e-9);
      }
    }
    assertEquals(List.of("b0_depthwise", "b1_depthwise"), refitted);
  }

  private static double assertNotNullValue(Double value) {
    assertNotNull(value);
    return value;
  }

  /** With the error of the stream in the target, sums are nearer to the dense ones. */
  @Test
  void theErrorOfTheResidualStreamIsPartOfTheTarget() throws IOException {
    OnnxModel dense = OnnxModel.read(Networks.write(folder, "residual"));
    List<LayerWise.Plan> plans =
        plans(dense, "0.8", "fast").stream()
            .filter(plan -> plan.layer().name().equals("stem_conv"))
            .toList();
    OnnxModel compressed = run(dense, plans);
    // Only the stem is pruned; what follows is fitted, and the projection of the first block sees
    // what the stem lacks.
    double stem = difference(dense, compressed, "s", false);
    double projection = difference(dense, compressed, "b0_p", false);
    double sum = difference(dense, compressed, "b0_a", false);
    assertTrue(stem > 0.01, "pruning the stem does harm, or this test shows nothing");
    assertTrue(sum < projection, sum + " behind the addition, " + projection + " before");
  }

  @ParameterizedTest
  @ValueSource(strings = {"0.01", "auto"})
  void neitherThreadsNorMemoryChangeTheBytes(String damping) throws IOException {
    OnnxModel dense = OnnxModel.read(Networks.write(folder, "residual"));
    List<byte[]> results = new ArrayList<>();
    for (long memory : new long[] {MEMORY, 40_000, 0}) {
      for (int threads : new int[] {1, 3}) {
        results.add(
            run(
                    dense,
                    plans(dense, "0.5", "fast"),
                    Damping.parse(damping),
                    threads,
                    memory,
                    null,
                    false,
                    16)
                .toBytes());
      }
    }
    results.forEach(result -> assertArrayEquals(results.getFirst(), result));
    assertFalse(Arrays.equals(dense.toBytes(), results.getFirst()));
  }

  @ParameterizedTest
  @ValueSource(strings = {"residual", "mlp"})
  void aStoppedRunGoesOnToTheSameBytes(String kind) throws IOException {
    OnnxModel dense = OnnxModel.read(Networks.write(folder, kind));
    List<LayerWise.Plan> plans = plans(dense, "0.5", "fast");
    Path saved = Files.createDirectories(folder.resolve("checkpoints"));
    LayerCheckpoints checkpoints = new LayerCheckpoints(saved, "run", notices);
    byte[] whole = run(dense, plans, DAMPING, 2, MEMORY, checkpoints, false, 16).toBytes();
    assertEquals(plans.size(), LayerCheckpoints.count(saved));
    assertEquals(List.of(), resumed);
    // As if the run had been stopped before the last two layers.
    for (LayerWise.Plan plan : plans.subList(plans.size() - 2, plans.size())) {
      Path file = fileOf(saved, plans, plan);
      Files.delete(file);
    }
    byte[] again = run(dense, plans, DAMPING, 2, MEMORY, checkpoints, false, 16).toBytes();
    assertArrayEquals(whole, again);
    assertEquals(plans.size() - 2, resumed.size());
  }

  /** The checkpoint without which just this plan is not loaded. */
  private Path fileOf(Path saved, List<LayerWise.Plan> plans, LayerWise.Plan wanted)
      throws IOException {
    LayerCheckpoints checkpoints = new LayerCheckpoints(saved, "run", notices);
    try (Stream<Path> files = Files.list(saved)) {
      for (Path file : files.toList()) {
        Path aside = folder.resolve("aside");
        Files.move(file, aside);
        boolean gone = checkpoints.load(wanted).isEmpty();
        Files.move(aside, file);
        if (gone) {
          return file;
        }
      }
    }
    throw new AssertionError("no checkpoint of " + wanted + " among " + plans.size());
  }

  @Test
  void quantisedWeightsStayOnTheirGrid() throws IOException {
    OnnxModel dense = OnnxModel.read(Networks.write(folder, "conv"));
    OnnxModel compressed = dense.copy();
    Solver gptq = new GptqSolver(new Quantization(3, true, true, false, 0));
    List<LayerWise.Plan> plans =
        plans(dense, "0.0", "magnitude").stream()
            .map(plan -> new LayerWise.Plan(plan.layer(), plan.pattern(), gptq))
            .toList();
    try (Workers workers = new Workers(2)) {
      ImageBatches images = Networks.images(folder, 37, false, 16, workers);
      LayerWise.Result result =
          new Sequential(dense, compressed, new ScalarBackend(workers), notices, null)
              .run(plans, layer -> true, DAMPING, MEMORY, folder, images, null, listener);
      for (LayerWise.Outcome outcome : result.outcomes()) {
        Layer layer = outcome.plan().layer();
        float[][] weights = LayerWeights.unfold(compressed, layer);
        for (int g = 0; g < weights.length; g++) {
          float[] scale = outcome.grids().get(g).scale();
          for (int i = 0; i < weights[g].length; i++) {
            float step = scale[i / layer.cols()];
            assertEquals(step * (float) Math.rint(weights[g][i] / step), weights[g][i], 0f);
          }
        }
      }
    }
  }

  @Test
  void inputsThatNeverVaryAreCounted() throws IOException {
    OnnxModel dense = OnnxModel.read(Networks.write(folder, "conv"));
    // Channel 0 behind the first convolution is 1 wherever it is read: 9 columns of the second.
    Layer first = LayerDiscovery.discover(dense).getFirst();
    float[][] weights = LayerWeights.unfold(dense, first);
    Arrays.fill(weights[0], 0, first.cols(), 0f);
    LayerWeights.fold(dense, first, weights);
    float[] bias = LayerWeights.bias(dense, first);
    bias[0] = 0;
    LayerWeights.setBias(dense, first, bias);
    run(dense, plans(dense, "0.5", "fast").subList(1, 2));
    // The first layer, which has zeros, is left alone.
    assertEquals(
        List.of("layer-not-refitted", "dead-columns"),
        notices.list().stream().map(Notice::code).toList());
    assertEquals(9, notices.list().getLast().value());
  }

  /** The student may come with biases of its own, as after tuning. */
  @Test
  void theBiasThatAnAddBringsIsFittedToTheDenseOne() throws IOException {
    OnnxModel dense = OnnxModel.read(Networks.write(folder, "mlp"));
    OnnxModel student = dense.copy();
    Layer first = LayerDiscovery.discover(student).getFirst();
    float[] bias = LayerWeights.bias(student, first);
    for (int c = 0; c < bias.length; c++) {
      bias[c] += 3;
    }
    LayerWeights.setBias(student, first, bias);
    try (Workers workers = new Workers(2)) {
      ImageBatches images = Networks.images(folder, 37, false, 16, workers);
      LayerWise.Result result =
          new Sequential(dense, student, new ScalarBackend(workers), notices, null)
              .run(
                  plans(dense, "0.0", "magnitude"),
                  layer -> true,
                  DAMPING,
                  MEMORY,
                  folder,
                  images,
                  null,
                  listener);
      assertEquals(0, result.outcomes().getFirst().layerError(), 1e-9);
    }
    // Float32 biases of about 3.
    assertArrayEquals(LayerWeights.bias(dense, first), LayerWeights.bias(student, first), 1e-5f);
  }

  @ParameterizedTest
  @ValueSource(floats = {0.5f, 4f})
  void theAlphaOfAGemmChangesNothing(float alpha) throws IOException {
    double[] errors = new double[2];
    for (int i = 0; i < 2; i++) {
      OnnxModel dense = OnnxModel.read(gemms(i == 0 ? 1 : alpha));
      OnnxModel student = dense.copy();
      try (Workers workers = new Workers(2)) {
        ImageBatches images = Networks.images(folder, 60, false, 16, workers);
        errors[i] =
            new Sequential(dense, student, new ScalarBackend(workers), notices, null)
                .run(
                    plans(dense, "0.7", "fast"),
                    layer -> true,
                    DAMPING,
                    MEMORY,
                    folder,
                    images,
                    null,
                    listener)
                .outcomes()
                .getLast()
                .layerError();
      }
    }
    // The same problem in other units; products are float32.
    assertEquals(errors[0], errors[1], 1e-4 * errors[0]);
  }

  private Path gemms(float alpha) throws IOException {
    int inputs = 3 * TinyTask.SIDE * TinyTask.SIDE;
    return Files.write(
        folder.resolve("gemms.onnx"),
        new ModelBuilder(17)
            .input("images", -1, 3, TinyTask.SIDE, TinyTask.SIDE)
            .random("w1", 24, inputs)
            .random("w2", TinyTask.CLASSES, 24)
            .node("flatten", "Flatten", List.of("images"), List.of("f"))
            .node(
                "fc1",
                "Gemm",
                List.of("f", "w1"),
                List.of("m"),
                ModelBuilder.attribute("transB", 1))
            .node("relu", "Relu", List.of("m"), List.of("r"))
            .node(
                "fc2",
                "Gemm",
                List.of("r", "w2"),
                List.of("logits"),
                ModelBuilder.attribute("transB", 1),
                ModelBuilder.attribute("alpha", alpha))
            .output("logits", -1, TinyTask.CLASSES)
            .proto()
            .toByteArray());
  }

  @Test
  void outputsThatDoNotVaryHaveAFiniteError() throws IOException {
    OnnxModel dense = OnnxModel.read(Networks.write(folder, "conv"));
    OnnxModel student = dense.copy();
    try (Workers workers = new Workers(1)) {
      ImageBatches images = Networks.images(folder, 1, false, 1, workers);
      LayerWise.Result result =
          new Sequential(dense, student, new ScalarBackend(workers), notices, null)
              .run(
                  plans(dense, "0.5", "fast"),
                  layer -> true,
                  DAMPING,
                  MEMORY,
                  folder,
                  images,
                  images,
                  listener);
      // The classifier has a single sample.
      assertTrue(Double.isFinite(result.outcomes().getLast().layerError()));
      assertTrue(Double.isFinite(result.outcomes().getLast().heldOutError()));
    }
  }

  @Test
  void layersThatMayNotBeFittedStayToTheBit() throws IOException {
    OnnxModel dense = OnnxModel.read(Networks.write(folder, "residual"));
    OnnxModel student = dense.copy();
    List<LayerWise.Plan> plans = plans(dense, "0.8", "fast").subList(0, 1);
    try (Workers workers = new Workers(1)) {
      ImageBatches images = Networks.images(folder, 20, false, 16, workers);
      new Sequential(dense, student, new ScalarBackend(workers), notices, null)
          .run(plans, layer -> false, DAMPING, MEMORY, folder, images, null, listener);
    }
    List<Layer> layers = LayerDiscovery.discover(dense);
    for (Layer layer : layers.subList(1, layers.size())) {
      assertTrue(
          Arrays.deepEquals(LayerWeights.unfold(dense, layer), LayerWeights.unfold(student, layer)),
          layer.name());
    }
    assertEquals(List.of(), refitted);
  }
}
