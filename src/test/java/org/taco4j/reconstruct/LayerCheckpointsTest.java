package org.taco4j.reconstruct;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.TinyTask;
import org.taco4j.common.Notice;
import org.taco4j.common.Notices;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.solve.Pattern;
import org.taco4j.solve.QuantizationGrid;
import org.taco4j.solve.SearchReport;
import org.taco4j.solve.Solvers;

class LayerCheckpointsTest {
  private static final String RUN = "0123";

  @TempDir Path folder;
  private final Notices notices = new Notices();
  private List<Layer> layers = List.of();
  private LayerCheckpoints.Finished finished =
      new LayerCheckpoints.Finished(outcome(null, null), new float[0][], null, List.of());

  private static LayerWise.Outcome outcome(LayerWise.Plan plan, Double heldOutError) {
    return new LayerWise.Outcome(
        plan,
        "obc",
        0.1 + 0.2,
        heldOutError,
        Double.MIN_VALUE,
        7,
        1e-9 / 3,
        List.of(
            new SearchReport(1, 2, 3, 0.1, 0.3, 1e-9, SearchReport.Stopped.PATTERN_HAS_NO_MOVES)),
        List.of());
  }

  @BeforeEach
  void makeLayer() {
    OnnxModel model =
        OnnxModel.read(TinyTask.convNet(folder.resolve("net.onnx"), TinyTask.Input.FREE));
    layers = LayerDiscovery.discover(model);
    // The convolution in two groups.
    Layer layer = layers.get(1);
    float[][] weights = LayerWeights.unfold(model, layer);
    weights[0][0] = -0f;
    weights[1][3] = Float.MIN_VALUE;
    finished =
        new LayerCheckpoints.Finished(
            outcome(plan(layer), null),
            weights,
            new float[] {-0f, 1.5f, Float.MIN_VALUE, 3, 4, 5, 6, 7},
            List.of(new Notice("extra-damping", "conv2", "a \"sentence\", in Ünicode", 0.1)));
  }

  private static LayerWise.Plan plan(Layer layer) {
    return new LayerWise.Plan(layer, Pattern.parse("0.5"), Solvers.byName("fast"));
  }

  private LayerWise.Plan plan() {
    return finished.outcome().plan();
  }

  private LayerCheckpoints open(String run) throws IOException {
    return new LayerCheckpoints(
        Files.createDirectories(folder.resolve("checkpoints")), run, notices);
  }

  private Path file() throws IOException {
    try (Stream<Path> files = Files.list(folder.resolve("checkpoints"))) {
      return files.toList().getFirst();
    }
  }

  private List<String> codes() {
    return notices.list().stream().map(Notice::code).toList();
  }

  @Test
  void whatIsSavedComesBackToTheBit() throws IOException {
    open(RUN).save(finished);
    LayerCheckpoints.Finished loaded = open(RUN).load(plan()).orElseThrow();
    assertEquals(finished.outcome(), loaded.outcome());
    assertEquals(finished.notices(), loaded.notices());
    assertArrayEquals(bits(finished.bias()), bits(loaded.bias()));
    assertEquals(finished.weights().length, loaded.weights().length);
    for (int group = 0; group < loaded.weights().length; group++) {
      assertArrayEquals(bits(finished.weights()[group]), bits(loaded.weights()[group]));
    }
    assertEquals(List.of(), codes());
    assertEquals(1, LayerCheckpoints.count(folder.resolve("checkpoints")));
  }

  @Test
  void gridsOfQuantisedWeightsComeBackToTheBit() throws IOException {
    Random random = new Random(1);
    List<QuantizationGrid> grids = new ArrayList<>();
    for (int group = 0; group < 2; group++) {
      float[] scale = new float[3000];
      float[] zero = new float[scale.length];
      for (int row = 0; row < scale.length; row++) {
        scale[row] = (float) (Math.exp(-80 + 160 * random.nextDouble()));
        zero[row] = random.nextInt(16);
      }
      scale[0] = Float.MIN_NORMAL;
      grids.add(new QuantizationGrid(4, group == 1, scale, zero));
    }
    LayerWise.Outcome outcome =
        new LayerWise.Outcome(plan(), "fast+gptq", 0.1, null, 0.01, 0, 1, List.of(), grids);
    open(RUN).save(new LayerCheckpoints.Finished(outcome, finished.weights(), null, List.of()));
    List<QuantizationGrid> loaded = open(RUN).load(plan()).orElseThrow().outcome().grids();
    assertEquals(2, loaded.size());
    for (int group = 0; group < 2; group++) {
      assertEquals(4, loaded.get(group).bits());
      assertEquals(group == 1, loaded.get(group).symmetric());
      assertArrayEquals(bits(grids.get(group).scale()), bits(loaded.get(group).scale()));
      assertArrayEquals(bits(grids.get(group).zero()), bits(loaded.get(group).zero()));
    }
  }

  private static int[] bits(float[] values) {
    int[] bits = new int[values.length];
    Arrays.setAll(bits, i -> Float.floatToRawIntBits(values[i]));
    return bits;
  }

  @Test
  void anErrorOnHeldOutImagesComesBack() throws IOException {
    for (double error : new double[] {1 / 3.0, Double.NaN}) {
      LayerWise.Outcome outcome = outcome(plan(), error);
      open(RUN).save(new LayerCheckpoints.Finished(outcome, finished.weights(), null, List.of()));
      assertEquals(outcome, open(RUN).load(plan()).orElseThrow().outcome());
    }
  }

  @Test
  void aLayerThatWasNotSavedIsNotThere() throws IOException {
    open(RUN).save(finished);
    assertEquals(Optional.empty(), open(RUN).load(plan(layers.getFirst())));
    assertEquals(List.of(), codes());
    assertEquals(0, LayerCheckpoints.count(folder.resolve("nowhere")));
  }

  @Test
  void aTornFileIsNotedAndNotUsed() throws IOException {
    open(RUN).save(finished);
    byte[] whole = Files.readAllBytes(file());
    int[] lengths = {0, 7, 11, 40, whole.length - 33, whole.length - 1};
    for (int length : lengths) {
      Files.write(file(), Arrays.copyOf(whole, length));
      Notices before = new Notices();
      LayerCheckpoints checkpoints =
          new LayerCheckpoints(folder.resolve("checkpoints"), RUN, before);
      assertEquals(Optional.empty(), checkpoints.load(plan()), length + " bytes");
      assertEquals("checkpoint-damaged", before.list().getFirst().code());
      assertEquals("conv2", before.list().getFirst().subject());
    }
    Files.write(file(), Arrays.copyOf(whole, whole.length + 1));
    assertEquals(Optional.empty(), open(RUN).load(plan()));
    Files.write(file(), whole);
    assertEquals(finished.outcome(), open(RUN).load(plan()).orElseThrow().outcome());
  }

  @Test
  void everyByteIsChecked() throws IOException {
    open(RUN).save(finished);
    byte[] whole = Files.readAllBytes(file());
    for (int at = 0; at < whole.length; at += 13) {
      byte[] damaged = whole.clone();
      damaged[at] ^= 1;
      Files.write(file(), damaged);
      assertEquals(Optional.empty(), open(RUN).load(plan()), "byte " + at);
    }
    assertEquals("checkpoint-damaged", codes().getFirst());
  }

  @Test
  void anotherRunsLayerIsNotUsed() throws IOException {
    open(RUN).save(finished);
    assertEquals(Optional.empty(), open("4567").load(plan()));
    assertEquals(List.of("checkpoint-damaged"), codes());
  }
}
