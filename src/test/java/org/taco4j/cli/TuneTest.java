package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.Progress;
import org.taco4j.Recipe;
import org.taco4j.Taco;
import org.taco4j.TinyTask;
import org.taco4j.common.TacoException;
import org.taco4j.execute.TorchGraph;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;

/** Tuning and the comparison with PTC, from the command line to the files. */
class TuneTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TempDir static Path shared;
  private static Path model;
  private static Path images;

  @TempDir Path folder;

  @BeforeAll
  static void task() {
    Assumptions.assumeTrue(
        TorchGraph.unavailable().isEmpty(), () -> TorchGraph.unavailable().orElse(""));
    model = TinyTask.convNet(shared.resolve("conv.onnx"), TinyTask.Input.FREE);
    images = TinyTask.images(shared.resolve("images"), model, 20);
  }

  private Path specialize(String name, Object... arguments) {
    Path out = folder.resolve(name);
    List<Object> all = new ArrayList<>(List.of("specialize", model, "--data", images));
    all.addAll(List.of(arguments));
    all.addAll(List.of("--out", out));
    Cli.run(all.toArray()).succeeded();
    return out;
  }

  private static JsonNode report(Path run) throws IOException {
    return JSON.readTree(run.resolve("report.json").toFile());
  }

  private static List<Long> zeros(Path file) {
    OnnxModel written = OnnxModel.read(file);
    return LayerDiscovery.discover(written).stream()
        .map(layer -> LayerWeights.zeros(written, layer))
        .toList();
  }

  private static List<String> codes(Path run) throws IOException {
    List<String> codes = new ArrayList<>();
    report(run).path("notices").forEach(notice -> codes.add(notice.path("code").asText()));
    return codes;
  }

  @ParameterizedTest
  @CsvSource({
    "taco-tmlr, unstructured:0.6",
    "taco-v1, 2:4",
    "taco-tmlr, block4:0.5",
    "probe, unstructured:0.6"
  })
  void zerosStayInTheWrittenFile(String how, String pattern) throws IOException {
    // Of the first layer's three channels groups of four or two cannot be made.
    Object[] options = {
      "--shots", "10", "--pattern", pattern, "--exclude", "conv1", "--classifier", "prune"
    };
    Path plain = specialize("plain", options);
    List<Object> all = new ArrayList<>(Arrays.asList(options));
    all.addAll(List.of("--tune", how, "--tune-passes", "3", "--tune-hold-out", "none"));
    Path tuned = specialize("tuned", all.toArray());
    assertEquals(zeros(plain.resolve("model.onnx")), zeros(tuned.resolve("model.onnx")));
    assertFalse(
        Arrays.equals(
            Files.readAllBytes(plain.resolve("model.onnx")),
            Files.readAllBytes(tuned.resolve("model.onnx"))));
    JsonNode tuning = report(tuned).path("tuning");
    assertEquals(how, tuning.path("method").asText());
    assertTrue(
        Files.readString(tuned.resolve("MODEL_CARD.md")).contains("(" + how + ", 3 passes; "));
    assertEquals(3, tuning.path("bestPass").asInt());
    assertEquals(4, tuning.path("curve").size());
    assertEquals(0, tuning.path("trial").size());
    assertEquals(
        report(plain).path("compressed").path("top1").asDouble(),
        report(tuned).path("untuned").path("top1").asDouble());
  }

  @Test
  void structuredAndQuantisedModelsAreTunedToo() throws IOException {
    Path run =
        specialize(
            "run",
            "--shots",
            "10",
            "--structured",
            "0.25",
            "--sparsity",
            "0.5",
            "--bits",
            "8",
            "--tune",
            "taco-tmlr",
            "--tune-passes",
            "2",
            "--tune-hold-out",
            "none");
    OnnxModel written = OnnxModel.read(run.resolve("model.onnx"));
    assertTrue(written.operatorCounts().containsKey("DequantizeLinear"));
    // What the report counts was counted in the file: each layer has lost half of its weights.
    for (JsonNode layer : report(run).path("layers")) {
      assertTrue(layer.path("sparsity").asDouble() >= 0.49, layer.toString());
    }
    assertEquals(2, report(run).path("tuning").path("bestPass").asInt());
  }

  @Test
  void aTrialOnImagesThatNothingHasSeenDecidesHowLongToTune() throws IOException {
    Path run =
        specialize(
            "run",
            "--shots",
            "10",
            "--sparsity",
            "0.6",
            "--tune",
            "taco-tmlr",
            "--tune-passes",
            "4");
    JsonNode tuning = report(run).path("tuning");
    assertEquals(5, tuning.path("trial").size());
    assertEquals(10, tuning.path("heldOutImages").asInt());
    int best = 0;
    double least = Double.POSITIVE_INFINITY;
    for (JsonNode pass : tuning.path("trial")) {
      JsonNode distance = pass.path("heldOut").path("distance");
      assertTrue(distance.isDouble(), pass.toString());
      if (distance.asDouble() < least) {
        least = distance.asDouble();
        best = pass.path("pass").asInt();
      }
    }
    assertEquals(best, tuning.path("bestPass").asInt());
    // The tuning itself sees all images, and ends at that pass.
    assertEquals(best == 0 ? 30 : 40, tuning.path("trainImages").asInt());
    assertEquals(best == 0 ? 0 : best + 1, tuning.path("curve").size());
  }

  @Test
  void tuningThatHarmsIsNotUsedAndSaysSo() throws IOException {
    Path plain = specialize("plain", "--shots", "10", "--sparsity", "0.3");
    Path tuned =
        specialize(
            "tuned",
            "--shots",
            "10",
            "--sparsity",
            "0.3",
            "--tune",
            "taco-tmlr",
            "--tune-passes",
            "2",
            "--tune-rate",
            "3");
    assertTrue(codes(tuned).contains("tuning-not-used"), codes(tuned).toString());
    assertEquals(0, report(tuned).path("tuning").path("bestPass").asInt());
    OnnxModel a = OnnxModel.read(plain.resolve("model.onnx"));
    OnnxModel b = OnnxModel.read(tuned.resolve("model.onnx"));
    for (Layer layer : LayerDiscovery.discover(a)) {
      assertTrue(
          Arrays.deepEquals(LayerWeights.unfold(a, layer), LayerWeights.unfold(b, layer)),
          layer.name());
    }
  }

  @Test
  void tooFewImagesForATrialAreSaid() throws IOException {
    Path run =
        specialize(
            "run", "--shots", "3", "--sparsity", "0.6", "--tune", "taco-v1", "--tune-passes", "2");
    assertTrue(codes(run).contains("no-held-out-images"), codes(run).toString());
    assertEquals(2, report(run).path("tuning").path("bestPass").asInt());
  }

  @Test
  void threadsDoNotChangeTheBytes() throws IOException {
    Object[] options = {
      "--shots",
      "10",
      "--sparsity",
      "0.6",
      "--tune",
      "taco-tmlr",
      "--tune-passes",
      "2",
      "--tune-hold-out",
      "none",
      "--threads"
    };
    List<byte[]> results = new ArrayList<>();
    for (String threads : new String[] {"1", "3"}) {
      List<Object> all = new ArrayList<>(Arrays.asList(options));
      all.add(threads);
      results.add(Files.readAllBytes(specialize(threads, all.toArray()).resolve("model.onnx")));
    }
    assertArrayEquals(results.get(0), results.get(1));
  }

  /** Fails at a step of the tuning. */
  private static final class Failing implements Progress {
    private boolean tuning;
    private int steps;

    @Override
    public void stage(String name, int count) {
      tuning = name.equals("tuning");
    }

    @Override
    public void step(String what) {
      if (tuning && ++steps == 2) {
        throw TacoException.runtime("the disk is full");
      }
    }

    @Override
    public void message(String text) {}
  }

  @Test
  void aTuningThatWasStoppedGoesOnToTheSameBytes() throws IOException {
    Path recipe =
        Files.writeString(
            folder.resolve("recipe.yaml"),
            ("model: '%s'\ndata: ['%s']\nshots: 10\nsparsity: 0.6\ntune: taco-tmlr\ntune-passes: 4\n"
                    + "tune-hold-out: none\n")
                .formatted(model, images));
    Path whole = folder.resolve("whole");
    Cli.run("specialize", "--recipe", recipe, "--out", whole).succeeded();
    Path out = folder.resolve("run");
    assertThrows(
        TacoException.class, () -> Taco.run(Recipe.read(recipe), out, false, new Failing()));
    Cli.run("specialize", "--recipe", recipe, "--out", out).succeeded();
    assertTrue(codes(out).contains("tuning-resumed"), codes(out).toString());
    assertArrayEquals(
        Files.readAllBytes(whole.resolve("model.onnx")),
        Files.readAllBytes(out.resolve("model.onnx")));
    try (Stream<Path> files = Files.list(out)) {
      assertFalse(files.anyMatch(file -> file.getFileName().toString().equals("checkpoints")));
    }
  }

  @Test
  void tacoStandsBesidePtc() throws IOException {
    // Two of the classes are the task; the folder with all four is what is generic.
    Path run =
        specialize(
            "run",
            "--classes",
            "c1,c3",
            "--shots",
            "5",
            "--sparsity",
            "0.5",
            "--compare-ptc",
            images);
    JsonNode ptc = report(run).path("ptc");
    assertEquals(10, ptc.path("images").asInt());
    assertTrue(
        Files.readString(run.resolve("MODEL_CARD.md")).contains("| other classes | 100.0 % |"));
    JsonNode task = ptc.path("task");
    assertEquals(
        report(run).path("compressed").path("top1").asDouble(),
        task.path("taco").path("top1").asDouble());
    assertEquals(
        report(run).path("dense").path("top1").asDouble(),
        task.path("dense").path("top1").asDouble());
    assertEquals(1, ptc.path("taskFullHead").path("dense").path("top1").asDouble(), "by making");
    JsonNode off = ptc.path("offTask");
    assertEquals(1, off.path("dense").path("top1").asDouble(), "by making");
    assertTrue(off.path("dense").path("images").asInt() > 0);
    assertTrue(ptc.path("tuning").isNull());
    // The specialist is the one of a run without the comparison.
    Path plain = specialize("plain", "--classes", "c1,c3", "--shots", "5", "--sparsity", "0.5");
    assertArrayEquals(
        Files.readAllBytes(plain.resolve("model.onnx")),
        Files.readAllBytes(run.resolve("model.onnx")));
  }

  @Test
  void genericImagesMayBeTestImagesOnly() throws IOException {
    Path generic = Files.createDirectories(folder.resolve("generic"));
    try (Stream<Path> classes = Files.list(images)) {
      for (Path from : classes.toList()) {
        Path to = Files.createDirectories(generic.resolve("test").resolve(from.getFileName()));
        try (Stream<Path> files = Files.list(from)) {
          for (Path file : files.toList()) {
            Files.copy(file, to.resolve(file.getFileName()));
          }
        }
      }
    }
    Path run =
        specialize(
            "run",
            "--classes",
            "c1,c3",
            "--shots",
            "5",
            "--sparsity",
            "0.5",
            "--compare-ptc",
            generic);
    JsonNode ptc = report(run).path("ptc");
    assertEquals(10, ptc.path("images").asInt());
    // Two classes of twenty, less what calibrates.
    assertTrue(ptc.path("offTask").path("dense").path("images").asInt() >= 30);
  }

  @Test
  void ptcIsTunedAsTheSpecialistWas() throws IOException {
    Path run =
        specialize(
            "run",
            "--classes",
            "c0,c1,c3",
            "--shots",
            "12",
            "--sparsity",
            "0.5",
            "--tune",
            "taco-tmlr",
            "--tune-passes",
            "3",
            "--compare-ptc",
            images);
    JsonNode taco = report(run).path("tuning");
    JsonNode ptc = report(run).path("ptc").path("tuning");
    assertEquals(9, taco.path("heldOutImages").asInt(), "there was a trial");
    if (taco.path("bestPass").asInt() == 0) {
      assertTrue(ptc.isNull());
    } else {
      assertEquals(taco.path("bestPass"), ptc.path("bestPass"));
      assertEquals(
          taco.path("curve").get(1).path("learningRate"),
          ptc.path("curve").get(1).path("learningRate"));
    }
  }

  @Test
  void aSmallClassifierStaysDenseUnlessAskedFor() throws IOException {
    // 64 of 696 weights: not small.
    assertTrue(zeros(specialize("auto", "--sparsity", "0.5").resolve("model.onnx")).getLast() > 0);
    Path dense = specialize("dense", "--sparsity", "0.5", "--classifier", "dense");
    assertEquals(0, zeros(dense.resolve("model.onnx")).getLast());
    assertTrue(
        report(dense).path("layers").get(3).path("whyDense").asText().contains("classifier"));
    assertFalse(codes(dense).contains("layers-left-dense"), "a decision, not a shortfall");
    assertTrue(Files.readString(dense.resolve("run.log")).contains("head stays dense: it is the"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "--tune sgd",
        "--tune-passes 3",
        "--tune taco-v1 --tune-crop 0.5",
        "--tune taco-tmlr --tune-passes 0",
        "--tune taco-tmlr --tune-rate -1",
        "--tune taco-tmlr --tune-hold-out all",
        "--tune probe --compare-ptc .",
        "--reconstruct both",
        "--correct mean-variance",
        "--classifier maybe"
      })
  void optionsThatCannotBeMeantAreErrors(String options) {
    List<Object> all =
        new ArrayList<>(List.of("specialize", model, "--data", images, "--sparsity", "0.5"));
    all.addAll(Arrays.asList(options.split(" ")));
    all.addAll(List.of("--out", folder.resolve("out")));
    Cli.Result result = Cli.run(all.toArray());
    assertEquals(2, result.exitCode(), result.err());
    assertFalse(Files.exists(folder.resolve("out")));
  }
}
