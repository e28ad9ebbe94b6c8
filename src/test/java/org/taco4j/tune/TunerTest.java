package org.taco4j.tune;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.TinyTask;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.Augmentation;
import org.taco4j.data.ImageFile;
import org.taco4j.data.TrainingImages;
import org.taco4j.export.WeightQuantization;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.solve.QuantizationGrid;
import org.taco4j.tune.Objective.Distillation;
import org.taco4j.tune.Optimizer.Rule;
import org.taco4j.tune.Optimizer.Schedule;
import org.taco4j.tune.TuneReport.Stop;

class TunerTest {
  private static final long MEMORY = 1 << 26;

  @TempDir static Path folder;
  private static OnnxModel dense;
  private static List<ImageFile> images;

  private final Notices notices = new Notices();

  @BeforeAll
  static void task() {
    TuneTests.assumeLibTorch();
    Path file = TinyTask.convNet(folder.resolve("dense.onnx"), TinyTask.Input.FREE);
    dense = OnnxModel.read(file);
    images = TuneTests.images(folder.resolve("images"), file, 8);
  }

  private static TuneTask task(OnnxModel student, List<LayerMask> masks) {
    return new TuneTask(dense, student, masks, images, List.of(), TuneTests.PREPROCESSOR);
  }

  private static List<LayerMask> zeros(OnnxModel student) {
    return LayerMask.ofZeros(student, TuneTests.bodyLayers(student));
  }

  /** All losses, random crops and flips, a few steps a pass. */
  private static TuneSettings settings() {
    return TuneSettings.tacoTmlr()
        .withObjective(new Objective(1, Distillation.KL, 1, 2, 1, List.of("r2")))
        .withPasses(4)
        .withBatch(12)
        .withMicroBatch(4)
        .withLearningRate(0.01)
        .withAugmentation(Optional.of(Augmentation.torchvision().withMinScale(0.5)));
  }

  private Tuned tune(TuneTask task, TuneSettings settings, int threads) {
    try (Workers workers = new Workers(threads)) {
      return new Tuner(workers, notices, MEMORY)
          .tune(task, settings, Optional.empty(), TuneListener.SILENT);
    }
  }

  private static TacoException error(Runnable action) {
    return assertThrows(TacoException.class, action::run);
  }

  @Test
  void oneStepIsTheGradientByHand() {
    int inputs = 3 * TinyTask.SIDE * TinyTask.SIDE;
    int classes = TinyTask.CLASSES;
    OnnxModel teacher = linear(1);
    OnnxModel student = TuneTests.noisy(teacher, "w", 0.1);
    TuneSettings settings =
        TuneSettings.tacoV1()
            .withOptimizer(new Optimizer(Rule.SGD, 0.5, Schedule.CONSTANT, 0, 0))
            .withPasses(1)
            .withHoldOut(false)
            .withMicroBatch(5);
    Tuned tuned =
        tune(
            new TuneTask(teacher, student, List.of(), images, List.of(), TuneTests.PREPROCESSOR),
            settings,
            2);
    float[] t = TuneTests.floats(teacher, "w");
    float[] w = TuneTests.floats(student, "w");
    double[] gradient = new double[w.length];
    double loss = 0;
    try (Workers workers = new Workers(1)) {
      TrainingImages all =
          TrainingImages.load(images, TuneTests.PREPROCESSOR, MEMORY, workers, notices);
      float[] x = new float[inputs];
      for (int n = 0; n < images.size(); n++) {
        all.plain(n, x, 0);
        for (int c = 0; c < classes; c++) {
          double error = 0;
          for (int i = 0; i < inputs; i++) {
            error += (double) (w[c * inputs + i] - t[c * inputs + i]) * x[i];
          }
          loss += error * error / classes / images.size();
          for (int i = 0; i < inputs; i++) {
            gradient[c * inputs + i] += 2 * error * x[i] / classes / images.size();
          }
        }
      }
    }
    float[] after = TuneTests.floats(tuned.model(), "w");
    double largest = Arrays.stream(gradient).map(Math::abs).max().orElseThrow();
    assertTrue(largest > 0.01, "there is something to learn");
    for (int i = 0; i < w.length; i++) {
      // Logits are sums of 192 products in float32, relative error 192 · 6e-8 at worst.
      assertEquals(w[i] - 0.5 * gradient[i], after[i], 2e-5 * largest + 2e-7 * Math.abs(w[i]));
    }
    TuneReport report = tuned.report();
    assertEquals(loss, report.curve().get(1).train().loss(), 1e-4 * loss);
    assertEquals(1, report.bestPass());
    assertEquals("last pass", report.criterion());
    assertEquals(32, report.samples());
    assertTrue(Arrays.equals(TuneTests.floats(teacher, "b"), TuneTests.floats(student, "b")));
  }

  /** Flatten and a Gemm. */
  private static OnnxModel linear(double beta) {
    return new ModelBuilder(17)
        .input("images", -1, 3, TinyTask.SIDE, TinyTask.SIDE)
        .random("w", TinyTask.CLASSES, 3L * TinyTask.SIDE * TinyTask.SIDE)
        .random("b", TinyTask.CLASSES)
        .node("flatten", "Flatten", List.of("images"), List.of("f"))
        .node(
            "fc",
            "Gemm",
            List.of("f", "w", "b"),
            List.of("logits"),
            ModelBuilder.attribute("transB", 1),
            ModelBuilder.attribute("beta", (float) beta))
        .output("logits", -1, TinyTask.CLASSES)
        .model();
  }

  @Test
  void zerosStayAndTheRestLearns() {
    OnnxModel student = TuneTests.pruned(dense, i -> i % 3 != 0);
    List<LayerMask> masks = zeros(student);
    for (Optimizer optimizer :
        List.of(
            new Optimizer(Rule.ADAMW, 0.01, Schedule.CONSTANT, 0.1, 0),
            new Optimizer(Rule.SGD, 0.01, Schedule.LINEAR, 0.1, 0.9))) {
      Tuned tuned =
          tune(task(student, masks), settings().withOptimizer(optimizer).withHoldOut(false), 2);
      int changed = 0;
      for (Layer layer : TuneTests.bodyLayers(student)) {
        float[][] before = LayerWeights.unfold(student, layer);
        float[][] after = LayerWeights.unfold(tuned.model(), layer);
        for (int g = 0; g < before.length; g++) {
          for (int i = 0; i < before[g].length; i++) {
            assertEquals(before[g][i] == 0, after[g][i] == 0, layer.name());
            changed += before[g][i] != after[g][i] ? 1 : 0;
          }
        }
      }
      assertTrue(changed > 100);
      List<TuneReport.Pass> curve = tuned.report().curve();
      assertTrue(curve.getLast().train().loss() < curve.get(1).train().loss());
      assertEquals(
          masks.stream().mapToLong(m -> count(m, false)).sum(), tuned.report().fixedZeros());
    }
  }

  private static long count(LayerMask mask, boolean kept) {
    long count = 0;
    for (boolean[] group : mask.keep()) {
      for (boolean keep : group) {
        count += keep == kept ? 1 : 0;
      }
    }
    return count;
  }

  @Test
  void theSameSeedGivesTheSameBytesAtAnyThreadCount() {
    OnnxModel student = TuneTests.pruned(dense, i -> i % 2 == 0);
    Tuned one = tune(task(student, zeros(student)), settings(), 1);
    Tuned four = tune(task(student, zeros(student)), settings(), 4);
    assertArrayEquals(one.model().toBytes(), four.model().toBytes());
    assertFalse(
        Arrays.equals(
            one.model().toBytes(),
            tune(task(student, zeros(student)), settings().withSeed(1), 1).model().toBytes()));
    assertEquals(24, one.report().trainImages());
    assertEquals(8, one.report().heldOutImages());
    assertEquals("held-out distance", one.report().criterion());
    for (int pass = 0; pass < one.report().curve().size(); pass++) {
      assertEquals(
          one.report().curve().get(pass).heldOut(), four.report().curve().get(pass).heldOut());
    }
  }

  @Test
  void withoutAugmentationTheTeacherRunsOnce() {
    OnnxModel student = TuneTests.pruned(dense, i -> i % 2 == 0);
    TuneSettings plain = settings().withAugmentation(Optional.empty());
    Tuned kept = tune(task(student, zeros(student)), plain, 2);
    try (Workers workers = new Workers(2)) {
      // No room to keep anything: the teacher runs with each batch.
      Tuned run =
          new Tuner(workers, notices, 0)
              .tune(task(student, zeros(student)), plain, Optional.empty(), TuneListener.SILENT);
      for (int pass = 0; pass < run.report().curve().size(); pass++) {
        // The teacher sees other batches: its values differ in their last bits.
        assertEquals(
            kept.report().curve().get(pass).heldOut().loss(),
            run.report().curve().get(pass).heldOut().loss(),
            1e-3);
      }
    }
  }

  @Test
  void anInterruptedTuningGoesOnToTheSameBytes() throws Exception {
    OnnxModel student = TuneTests.pruned(dense, i -> i % 2 == 0);
    TuneTask task = task(student, zeros(student));
    Tuned whole = tune(task, settings(), 2);
    Path file = folder.resolve("resume/tune");
    try (Workers workers = new Workers(2)) {
      Tuner tuner = new Tuner(workers, notices, MEMORY);
      TacoException stopped =
          error(() -> tuner.tune(task, settings(), Optional.of(file), interruptAfter(2)));
      assertTrue(Thread.interrupted());
      assertEquals(TacoException.Kind.INTERRUPTED, stopped.kind());
      List<Integer> done = new ArrayList<>();
      Tuned resumed =
          tuner.tune(
              task,
              settings(),
              Optional.of(file),
              new TuneListener() {
                @Override
                public void begin(int passes, int finished) {
                  done.add(finished);
                }

                @Override
                public void pass(TuneReport.Pass pass) {
                  done.add(pass.pass());
                }
              });
      assertEquals(List.of(2, 3, 4), done);
      assertEquals(2, resumed.report().resumedAfter());
      assertArrayEquals(whole.model().toBytes(), resumed.model().toBytes());
      assertEquals(whole.report().bestPass(), resumed.report().bestPass());
      for (int pass = 0; pass < 5; pass++) {
        assertEquals(
            whole.report().curve().get(pass).train(), resumed.report().curve().get(pass).train());
      }

      assertTrue(notices.list().isEmpty());
      tuner.tune(task, settings().withSeed(5), Optional.of(file), TuneListener.SILENT);
      assertEquals("checkpoint-discarded", notices.list().getLast().code());
      byte[] bytes = Files.readAllBytes(file);
      bytes[bytes.length - 100] ^= 1;
      Files.write(file, bytes);
      Tuned again =
          tuner.tune(task, settings().withSeed(5), Optional.of(file), TuneListener.SILENT);
      assertTrue(notices.list().getLast().message().contains("checksum"));
      assertEquals(0, again.report().resumedAfter());
      assertArrayEquals(
          tune(task, settings().withSeed(5), 1).model().toBytes(), again.model().toBytes());
    }
  }

  private static TuneListener interruptAfter(int last) {
    return new TuneListener() {
      @Override
      public void begin(int passes, int done) {}

      @Override
      public void pass(TuneReport.Pass pass) {
        if (pass.pass() == last) {
          Thread.currentThread().interrupt();
        }
      }
    };
  }

  @Test
  void whenTuningHarmsTheUntunedModelIsTheResult() {
    OnnxModel student = TuneTests.noisy(dense, "w3", 0.01);
    Tuned tuned = tune(task(student, List.of()), settings().withLearningRate(3).withPatience(2), 2);
    assertEquals(0, tuned.report().bestPass());
    assertEquals(Stop.EARLY, tuned.report().stop());
    assertEquals(3, tuned.report().curve().size());
    for (String name : List.of("w1", "w2", "w3", "w4", "b1", "b4")) {
      assertArrayEquals(
          TuneTests.floats(student, name), TuneTests.floats(tuned.model(), name), name);
    }
  }

  @Test
  void aLossThatIsNoNumberKeepsTheBestSoFar() {
    OnnxModel student = TuneTests.pruned(dense, i -> i % 2 == 0);
    Tuned tuned =
        tune(
            task(student, zeros(student)),
            settings().withOptimizer(new Optimizer(Rule.SGD, 1e30, Schedule.CONSTANT, 0, 0)),
            2);
    assertEquals(Stop.NOT_FINITE, tuned.report().stop());
    assertEquals(0, tuned.report().bestPass());
    assertArrayEquals(TuneTests.floats(student, "w3"), TuneTests.floats(tuned.model(), "w3"));
    String failure = tuned.report().failure().orElseThrow();
    assertTrue(failure.contains("step 2 (pass 1)"), failure);
  }

  @Test
  void quantisedWeightsStayOnTheirGrid() {
    OnnxModel student = quantised(4);
    // Far enough for codes to change: the scales are about 0.3.
    TuneSettings fast = settings().withLearningRate(0.1).withHoldOut(false);
    Tuned tuned = tune(task(student, zeros(student)), fast, 2);
    assertEquals(
        student.operatorCounts().get("DequantizeLinear"),
        tuned.model().operatorCounts().get("DequantizeLinear"));
    OnnxModel before = FloatForm.of(student).model();
    FloatForm after = FloatForm.of(tuned.model());
    int changed = 0;
    for (Layer layer : TuneTests.bodyLayers(before)) {
      assertEquals(LayerWeights.zeros(student, layer), LayerWeights.zeros(before, layer));
      float[][] old = LayerWeights.unfold(before, layer);
      float[][] now = LayerWeights.unfold(after.model(), layer);
      FloatForm.Grid grid = after.grids().get(layer.weight().constant());
      for (int g = 0; g < old.length; g++) {
        for (int i = 0; i < old[g].length; i++) {
          float scale = grid.scales()[g * layer.rows() + i / layer.cols()];
          float code = now[g][i] / scale;
          assertEquals(Math.rint(code), code, 1e-5, "a whole code");
          assertTrue(code > -8.5 && code < 7.5, "4 bits: " + code);
          assertTrue(old[g][i] != 0 || now[g][i] == 0, "zeros stay zeros");
          changed += old[g][i] != now[g][i] ? 1 : 0;
        }
      }
      assertArrayEquals(
          TuneTests.floats(student, layer.weight().constant() + "_scale"),
          TuneTests.floats(tuned.model(), layer.weight().constant() + "_scale"));
    }
    assertTrue(changed > 20, changed + " codes changed");
    List<TuneReport.Pass> curve = tuned.report().curve();
    assertTrue(curve.getLast().train().loss() < curve.get(1).train().loss());
  }

  /** A copy, half of whose weights are zero, with the layers but the head quantised. */
  private static OnnxModel quantised(int bits) {
    OnnxModel model = TuneTests.pruned(dense, i -> i % 2 == 0);
    for (Layer layer : TuneTests.bodyLayers(model)) {
      float[][] weights = LayerWeights.unfold(model, layer);
      List<QuantizationGrid> grids = new ArrayList<>();
      int half = 1 << (bits - 1);
      for (float[] group : weights) {
        float[] scale = new float[layer.rows()];
        float[] zero = new float[layer.rows()];
        for (int r = 0; r < scale.length; r++) {
          float max = 1e-3f;
          for (int c = 0; c < layer.cols(); c++) {
            max = Math.max(max, Math.abs(group[r * layer.cols() + c]));
          }
          scale[r] = max / half;
          zero[r] = half;
          for (int c = 0; c < layer.cols(); c++) {
            int i = r * layer.cols() + c;
            group[i] =
                (float) Math.clamp(Math.rint(group[i] / scale[r]), -half, half - 1) * scale[r];
          }
        }
        grids.add(new QuantizationGrid(bits, true, scale, zero));
      }
      WeightQuantization.apply(model, layer, weights, grids);
    }
    return model;
  }

  @Test
  void smallerModelsLearnFromTheTensorsThatTheyHaveInCommon() {
    OnnxModel teacher = residual(12);
    OnnxModel student = residual(5);
    TuneTask task =
        new TuneTask(teacher, student, List.of(), images, List.of(), TuneTests.PREPROCESSOR);
    TuneSettings found =
        settings().withObjective(new Objective(1, Distillation.KL, 1, 2, 1, List.of()));
    Tuned tuned = tune(task, found.withHoldOut(false), 2);
    assertEquals(List.of("sum"), tuned.report().features());
    assertNotEquals(0, tuned.report().curve().getLast().train().feature());

    TacoException e =
        error(
            () ->
                tune(
                    task,
                    settings()
                        .withObjective(
                            new Objective(1, Distillation.KL, 1, 2, 1, List.of("hidden"))),
                    1));
    assertEquals(TacoException.Kind.USAGE, e.kind());
    assertTrue(e.getMessage().contains("hidden ([2, 12, 8, 8]"), e.getMessage());
  }

  /** With one image each first axis would do. */
  @Test
  void featuresNeedTheImagesAlongTheirFirstAxis() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("images", -1, 3, TinyTask.SIDE, TinyTask.SIDE)
            .random("w", TinyTask.CLASSES, 3)
            .node(
                "there",
                "Transpose",
                List.of("images"),
                List.of("channelsFirst"),
                ModelBuilder.attribute("perm", new long[] {1, 0, 2, 3}))
            .node(
                "back",
                "Transpose",
                List.of("channelsFirst"),
                List.of("imagesFirst"),
                ModelBuilder.attribute("perm", new long[] {1, 0, 2, 3}))
            .node("pool", "GlobalAveragePool", List.of("imagesFirst"), List.of("p"))
            .node("flatten", "Flatten", List.of("p"), List.of("f"))
            .node(
                "head",
                "Gemm",
                List.of("f", "w"),
                List.of("logits"),
                ModelBuilder.attribute("transB", 1))
            .output("logits", -1, TinyTask.CLASSES)
            .model();
    TuneTask task =
        new TuneTask(model, model, List.of(), images, List.of(), TuneTests.PREPROCESSOR);
    TuneSettings settings = settings().withHoldOut(false);
    Tuned tuned =
        tune(
            task,
            settings.withObjective(
                new Objective(1, Distillation.KL, 1, 2, 1, List.of("imagesFirst"))),
            1);
    assertEquals(List.of("imagesFirst"), tuned.report().features());
    for (int microBatch : new int[] {2, 4}) {
      TacoException e =
          error(
              () ->
                  tune(
                      task,
                      settings
                          .withMicroBatch(microBatch)
                          .withObjective(
                              new Objective(1, Distillation.KL, 1, 2, 1, List.of("channelsFirst"))),
                      1));
      assertEquals(TacoException.Kind.USAGE, e.kind());
      assertTrue(
          e.getMessage().contains("channelsFirst ([3, 2, 8, 8] for 2 images"), e.getMessage());
    }
  }

  @Test
  void theDigestOfAMaskIsOfAllItsBits() {
    boolean[][] keep = {new boolean[20], new boolean[20]};
    LayerMask mask = new LayerMask("a", 4, 5, keep);
    String before = mask.sha256();
    assertEquals(before, new LayerMask("a", 4, 5, new boolean[2][20]).sha256());
    assertNotEquals(before, new LayerMask("b", 4, 5, keep).sha256());
    assertNotEquals(before, new LayerMask("a", 5, 4, keep).sha256());
    assertNotEquals(before, new LayerMask("a", 4, 5, new boolean[1][20]).sha256());
    for (boolean[] group : keep) {
      for (int i = 0; i < group.length; i++) {
        group[i] = true;
        assertNotEquals(before, mask.sha256());
        group[i] = false;
      }
    }
  }

  /** A block of two convolutions over a shortcut, with a hidden dimension of some width. */
  private static OnnxModel residual(int width) {
    return new ModelBuilder(17)
        .input("images", -1, 3, TinyTask.SIDE, TinyTask.SIDE)
        .random("w0", 6, 3, 1, 1)
        .random("w1", width, 6, 1, 1)
        .random("w2", 6, width, 1, 1)
        .random("w3", TinyTask.CLASSES, 6)
        .random("b3", TinyTask.CLASSES)
        .node("stem", "Conv", List.of("images", "w0"), List.of("s"))
        .node("in", "Conv", List.of("s", "w1"), List.of("hidden"))
        .node("relu", "Relu", List.of("hidden"), List.of("r"))
        .node("out", "Conv", List.of("r", "w2"), List.of("o"))
        .node("add", "Add", List.of("o", "s"), List.of("sum"))
        .node("pool", "GlobalAveragePool", List.of("sum"), List.of("p"))
        .node("flatten", "Flatten", List.of("p"), List.of("f"))
        .node(
            "head",
            "Gemm",
            List.of("f", "w3", "b3"),
            List.of("logits"),
            ModelBuilder.attribute("transB", 1))
        .output("logits", -1, TinyTask.CLASSES)
        .model();
  }

  @Test
  void masksThatDoNotFitAreNamed() {
    Layer layer = LayerDiscovery.find(dense, "conv2");
    LayerMask tooFew =
        new LayerMask("conv2", 4, 9, new boolean[][] {new boolean[36], new boolean[36]});
    TacoException e = error(() -> tune(task(dense, List.of(tooFew)), settings(), 1));
    assertEquals(TacoException.Kind.USAGE, e.kind());
    assertTrue(e.getMessage().contains("'conv2' does not fit: it has 2 group(s) of [4, 9]"));
    assertTrue(
        e.getMessage().contains("2 of [%d, %d]".formatted(layer.rows(), layer.cols())),
        e.getMessage());
    LayerMask unknown = new LayerMask("conv9", 1, 1, new boolean[][] {{true}});
    assertTrue(
        error(() -> tune(task(dense, List.of(unknown)), settings(), 1))
            .getMessage()
            .contains("'conv9'"));
  }

  @Test
  void anExplicitMaskZeroesWhatItRemoves() {
    OnnxModel student = TuneTests.pruned(dense, i -> i % 2 == 0);
    // The dense weights under the sparse model's mask, as in lottery-ticket rewinding.
    Tuned tuned = tune(task(dense, zeros(student)), settings().withHoldOut(false), 2);
    for (Layer layer : TuneTests.bodyLayers(student)) {
      assertEquals(LayerWeights.zeros(student, layer), LayerWeights.zeros(tuned.model(), layer));
    }
  }

  @Test
  void memoryThatIsNotThereIsSaid() {
    // 2^36 values of an image, 256 GiB.
    OnnxModel huge =
        new ModelBuilder(17)
            .input("images", -1, 3, TinyTask.SIDE, TinyTask.SIDE)
            .random("w", TinyTask.CLASSES, 3L * TinyTask.SIDE * TinyTask.SIDE)
            .longs("wide", 1L << 36, 1, 1)
            .longs("axes", 0)
            .node("flatten", "Flatten", List.of("images"), List.of("f"))
            .node(
                "fc",
                "Gemm",
                List.of("f", "w"),
                List.of("small"),
                ModelBuilder.attribute("transB", 1))
            .node("expand", "Expand", List.of("small", "wide"), List.of("view"))
            .node("relu", "Relu", List.of("view"), List.of("large"))
            .node(
                "mean",
                "ReduceMean",
                List.of("large"),
                List.of("logits"),
                ModelBuilder.attribute("axes", new long[] {0}),
                ModelBuilder.attribute("keepdims", 0))
            .output("logits", -1, TinyTask.CLASSES)
            .model();
    TacoException e =
        error(
            () ->
                tune(
                    new TuneTask(huge, huge, List.of(), images, List.of(), TuneTests.PREPROCESSOR),
                    TuneSettings.tacoV1(),
                    1));
    assertEquals(TacoException.Kind.RUNTIME, e.kind());
    assertTrue(e.getMessage().contains("micro-batches of 8 images"), e.getMessage());
    assertTrue(e.getMessage().contains("not even one image fits"), e.getMessage());
  }

  @Test
  void fewImagesHoldNoneOut() {
    List<ImageFile> few = images.stream().filter(f -> f.classIndex() < 2).toList();
    TuneTask task = new TuneTask(dense, dense, List.of(), few, List.of(), TuneTests.PREPROCESSOR);
    Tuned tuned = tune(task, settings().withPasses(2), 1);
    assertEquals(2, tuned.report().bestPass());
    assertEquals(0, tuned.report().heldOutImages());
    assertEquals("no-held-out-images", notices.list().getFirst().code());

    TuneTask given =
        new TuneTask(dense, dense, List.of(), few, images.subList(16, 24), TuneTests.PREPROCESSOR);
    assertEquals(8, tune(given, settings().withPasses(1), 1).report().heldOutImages());
  }
}
