package org.taco4j.tune;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.TinyTask;
import org.taco4j.bench.Evaluator;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageFile;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;

class LinearProbeTest {
  private static final long MEMORY = 1 << 26;

  @TempDir static Path folder;
  private static OnnxModel dense;
  private static List<ImageFile> train;
  private static List<ImageFile> test;

  private final Notices notices = new Notices();

  @BeforeAll
  static void task() {
    TuneTests.assumeLibTorch();
    Path file = TinyTask.convNet(folder.resolve("dense.onnx"), TinyTask.Input.FREE);
    dense = OnnxModel.read(file);
    List<ImageFile> images = TuneTests.images(folder.resolve("images"), file, 24);
    train = IntStream.range(0, images.size()).filter(i -> i % 3 > 0).mapToObj(images::get).toList();
    test = IntStream.range(0, images.size()).filter(i -> i % 3 == 0).mapToObj(images::get).toList();
  }

  private LinearProbe.Probed probe(
      OnnxModel model, List<LayerMask> masks, LinearProbe.Settings settings) {
    try (Workers workers = new Workers(2)) {
      return new LinearProbe(workers, notices, MEMORY)
          .probe(
              new TuneTask(dense, model, masks, train, List.of(), TuneTests.PREPROCESSOR),
              TinyTask.CLASSES,
              settings);
    }
  }

  private double accuracy(OnnxModel model) {
    try (Workers workers = new Workers(1);
        Session session = Session.open(model, 1)) {
      return Evaluator.evaluate(
              session,
              ModelInput.of(model),
              new ImageBatches(test, TuneTests.PREPROCESSOR, 8, workers, notices),
              IntStream.range(0, TinyTask.CLASSES).boxed().toList(),
              workers)
          .task()
          .top1();
    }
  }

  @Test
  void aSpoiltHeadIsTrainedAndItsZerosStay() {
    OnnxModel spoilt = TuneTests.noisy(dense, "w4", 1);
    Layer head = LayerDiscovery.find(spoilt, "head");
    float[][] weights = LayerWeights.unfold(spoilt, head);
    for (int i = 0; i < weights[0].length; i += 3) {
      weights[0][i] = 0;
    }
    LayerWeights.fold(spoilt, head, weights);
    LinearProbe.Probed probed =
        probe(
            spoilt,
            LayerMask.ofZeros(spoilt, List.of(head)),
            new LinearProbe.Settings(0.1, 0.9, 16, 40, Optional.empty(), true, 0));
    float[][] after = LayerWeights.unfold(probed.model(), head);
    for (int i = 0; i < after[0].length; i++) {
      assertEquals(weights[0][i] == 0, after[0][i] == 0);
    }
    LinearProbe.Report report = probed.report();
    assertEquals("f", report.features());
    assertEquals(16, report.dimension());
    assertFalse(report.newHead());
    assertEquals(41, report.curve().size());
    assertEquals(48, report.trainImages());
    assertEquals(16, report.heldOutImages());
    LinearProbe.Pass best = report.curve().get(report.bestPass());
    assertNotNull(best.heldOutLoss());
    assertTrue(best.heldOutLoss() < report.curve().getFirst().heldOutLoss());
    assertTrue(accuracy(probed.model()) > accuracy(spoilt) + 0.1);
    for (String name : List.of("w1", "w2", "w3")) {
      assertArrayEquals(
          TuneTests.floats(spoilt, name), TuneTests.floats(probed.model(), name), "frozen");
    }
  }

  /** By the node, by the tensor; pooled, and as they are. */
  @ParameterizedTest
  @CsvSource({"conv3, c3, true", "r3, r3, true", "flatten, f, false"})
  void aBackboneGetsAHead(String name, String tensor, boolean pooled) {
    OnnxModel backbone = dense.withOutputs(List.of("r3", "f", "c3"), /* keepOutputs= */ false);
    LinearProbe.Settings settings =
        new LinearProbe.Settings(0.1, 0.9, 16, 30, Optional.of(name), true, 1);
    LinearProbe.Probed probed = probe(backbone, List.of(), settings);
    assertEquals(tensor, probed.report().features());
    assertEquals(pooled, probed.report().pooled());
    assertTrue(probed.report().newHead());
    assertEquals(30, probed.report().bestPass());
    assertEquals(
        List.of("logits"), probed.model().outputs().stream().map(output -> output.name()).toList());
    double accuracy = accuracy(probed.model());
    assertTrue(accuracy > 0.6, "of four classes " + accuracy);
    // ONNX Runtime computes what the probe was trained on.
    assertTrue(
        accuracy > probed.report().curve().getLast().trainAccuracy() - 0.25, "as in training");
  }

  @Test
  void whatCannotBeProbedIsNamed() {
    OnnxModel backbone = dense.withOutputs(List.of("r3"), /* keepOutputs= */ false);
    TacoException noHead =
        assertThrows(
            TacoException.class, () -> probe(backbone, List.of(), LinearProbe.Settings.usual()));
    assertEquals(TacoException.Kind.MODEL, noHead.kind());
    assertTrue(noHead.getMessage().contains("no Gemm or MatMul writes the output 'r3'"));
    TacoException noNode =
        assertThrows(
            TacoException.class,
            () ->
                probe(
                    dense,
                    List.of(),
                    LinearProbe.Settings.usual().withFeatures(Optional.of("nowhere"))));
    assertEquals(TacoException.Kind.USAGE, noNode.kind());
    assertTrue(noNode.getMessage().contains("'nowhere'"));
  }

  /** Steps of 1e40 leave the range of float32. */
  @Test
  void whatIsNotFiniteEndsTheProbing() {
    LinearProbe.Settings steep =
        new LinearProbe.Settings(1e40, 0.9, 16, 5, Optional.empty(), true, 0);
    LinearProbe.Probed probed = probe(dense, List.of(), steep);
    LinearProbe.Report report = probed.report();
    assertEquals(0, report.bestPass());
    assertEquals(1, report.curve().size());
    String failure = report.failure().orElseThrow();
    assertTrue(failure.contains("after pass 1"), failure);
    assertTrue(failure.contains("lower learning rate than 1.0E40"), failure);
    for (String name : List.of("w4", "b4")) {
      assertArrayEquals(TuneTests.floats(dense, name), TuneTests.floats(probed.model(), name));
    }
    assertTrue(probe(dense, List.of(), LinearProbe.Settings.usual()).report().failure().isEmpty());

    // A new classifier has nothing to fall back on.
    TacoException e =
        assertThrows(
            TacoException.class,
            () -> probe(dense, List.of(), steep.withFeatures(Optional.of("flatten"))));
    assertEquals(TacoException.Kind.NUMERICAL, e.kind());
    assertTrue(e.getMessage().contains("no pass before it"), e.getMessage());
  }

  /** Features of very different sizes, and a constant one, neither diverge nor divide by zero. */
  @Test
  void scalingBringsAnyFeaturesIntoReach() {
    for (float size : new float[] {1e-4f, 1, 1e4f}) {
      List<float[]> features =
          IntStream.range(0, 40)
              .mapToObj(i -> new float[] {size * (i % 2 == 0 ? 3 : 1), 0.01f * size * i, 7})
              .toList();
      List<Integer> labels = IntStream.range(0, 40).map(i -> i % 2).boxed().toList();
      SoftmaxRegression regression = new SoftmaxRegression(features, 2);
      boolean[] keep = new boolean[6];
      Arrays.fill(keep, true);
      for (int pass = 1; pass <= 10; pass++) {
        regression.pass(features, labels, keep, LinearProbe.Settings.usual(), pass);
      }
      SoftmaxRegression.Fit fit = regression.evaluate(features, labels);
      assertEquals(1, fit.accuracy());
      assertTrue(fit.loss() < 0.2, "loss " + fit.loss());
      // The head for features as they are says the same.
      SoftmaxRegression again = new SoftmaxRegression(features, 2);
      again.set(regression.weights(), regression.bias());
      // Weights are rounded to float32: scores of size 10 change by about 1e-6.
      assertEquals(fit.loss(), again.evaluate(features, labels).loss(), 1e-4);
    }
  }
}
