package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
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

/** Schedules and transfer to other classes, from the command line to the files. */
class ScheduleRunTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TempDir static Path shared;
  private static Path model;
  private static Path images;

  /** Three classes that the network knows nothing of: which colour is the strongest. */
  private static Path colours;

  @TempDir Path folder;

  @BeforeAll
  static void tasks() {
    Assumptions.assumeTrue(
        TorchGraph.unavailable().isEmpty(), () -> TorchGraph.unavailable().orElse(""));
    model = TinyTask.convNet(shared.resolve("conv.onnx"), TinyTask.Input.FREE);
    images = TinyTask.images(shared.resolve("images"), model, 12);
    colours = shared.resolve("colours");
    Random random = new Random(5);
    List<String> names = List.of("red", "green", "blue");
    for (int c = 0; c < 3; c++) {
      for (int i = 0; i < 14; i++) {
        BufferedImage image = TinyTask.picture(random);
        for (int at = 0; at < TinyTask.SIDE * TinyTask.SIDE; at++) {
          int x = at % TinyTask.SIDE;
          int y = at / TinyTask.SIDE;
          int rgb = image.getRGB(x, y);
          int channel = rgb >> 8 * (2 - c) & 255;
          int dimmed = (rgb >> 1 & 0x7f7f7f) & ~(255 << 8 * (2 - c));
          image.setRGB(x, y, dimmed | (128 + channel / 2) << 8 * (2 - c));
        }
        TinyTask.write(image, colours.resolve(names.get(c)).resolve("i%02d.png".formatted(i)));
      }
    }
  }

  private static List<Object> arguments(Object... all) {
    return new ArrayList<>(Arrays.asList(all));
  }

  private static List<Object> scheduled(String how, Object... more) {
    List<Object> all = arguments(model, "--data", images, "--shots", "8", "--schedule", how);
    all.addAll(List.of("--tune", "taco-tmlr", "--tune-passes", "2"));
    all.addAll(Arrays.asList(more));
    return all;
  }

  private Path specialize(String name, List<Object> arguments) {
    Path out = folder.resolve(name);
    List<Object> all = arguments("specialize");
    all.addAll(arguments);
    all.addAll(List.of("--out", out));
    Cli.run(all.toArray()).succeeded();
    return out;
  }

  private static JsonNode report(Path run) throws IOException {
    return JSON.readTree(run.resolve("report.json").toFile());
  }

  private static byte[] model(Path run) throws IOException {
    return Files.readAllBytes(run.resolve("model.onnx"));
  }

  private static void assertSparsities(JsonNode steps, int first, double... wanted) {
    assertEquals(first + wanted.length, steps.size(), steps.toString());
    for (int i = 0; i < wanted.length; i++) {
      JsonNode step = steps.get(first + i);
      assertEquals(i + 1, step.path("step").asInt());
      double sparsity = step.path("sparsity").asDouble();
      // Each of the four layers rounds up to a whole weight: of 696 weights, at most 4 more.
      assertTrue(
          sparsity >= wanted[i] && sparsity <= wanted[i] + 4.0 / 696,
          step.path("sparsity").asText());
      assertEquals(3, step.at("/tuning/curve").size(), "before, and two passes");
      assertTrue(step.path("layerError").asDouble() > 0);
      assertTrue(step.path("tunedTop1").isNumber());
      assertTrue(step.path("prunedTop1").isNumber());
    }
  }

  @ParameterizedTest
  @CsvSource({
    "gradual, hybrid, sequential",
    "gradual, fast, layerwise",
    "gradual, magnitude, layerwise",
    "gmp, , ",
    "lth, , "
  })
  void eachStepLeavesHalfAndZerosAreExact(String how, String solver, String reconstruct)
      throws IOException {
    List<Object> arguments = scheduled(how, "--sparsity", "0.875", "--classifier", "prune");
    if (solver != null) {
      arguments.addAll(List.of("--solver", solver, "--reconstruct", reconstruct));
    }
    Path run = specialize("run", arguments);
    JsonNode report = report(run);
    boolean rewinds = how.equals("lth");
    assertSparsities(report.path("steps"), rewinds ? 1 : 0, 0.5, 0.75, 0.875);
    if (rewinds) {
      assertEquals(0, report.at("/steps/0/sparsity").asDouble());
      assertTrue(report.at("/steps/0/layerError").isNull());
    }
    OnnxModel written = OnnxModel.read(run.resolve("model.onnx"));
    for (Layer layer : LayerDiscovery.discover(written)) {
      assertEquals(
          (long) Math.ceil(0.875 * layer.parameters()),
          LayerWeights.zeros(written, layer),
          layer.name());
    }
    assertEquals("none", report.at("/recipe/tune-hold-out").asText());
    assertEquals(
        report.path("tuning"),
        report.path("steps").get(report.path("steps").size() - 1).path("tuning"));
    assertTrue(report.at("/untuned/top1").isNumber());
  }

  @Test
  void blocksGoThroughFractionsAndStayWhole() throws IOException {
    Path run =
        specialize(
            "run",
            scheduled(
                "gradual",
                "--pattern",
                "block4:0.75",
                "--exclude",
                "conv1",
                "--classifier",
                "prune",
                "--tune-hold-out",
                "auto"));
    JsonNode steps = report(run).path("steps");
    assertEquals(2, steps.size());
    OnnxModel written = OnnxModel.read(run.resolve("model.onnx"));
    for (String name : List.of("conv3", "head")) {
      Layer layer = LayerDiscovery.find(written, name);
      float[] weights = LayerWeights.unfold(written, layer)[0];
      int gone = 0;
      for (int block = 0; block < weights.length; block += 4) {
        int zeros = 0;
        for (int i = block; i < block + 4; i++) {
          zeros += weights[i] == 0 ? 1 : 0;
        }
        assertTrue(zeros == 0 || zeros == 4, name);
        gone += zeros / 4;
      }
      assertEquals((int) Math.ceil(0.75 * weights.length / 4), gone, name);
    }
    assertTrue(
        report(run).path("notices").toString().contains("\"no-held-out-images\""),
        "a hold-out was asked for");
  }

  @ParameterizedTest
  @ValueSource(strings = {"gradual", "lth"})
  void threadsDoNotChangeTheBytes(String how) throws IOException {
    List<Object> arguments = scheduled(how, "--sparsity", "0.75", "--finetune-passes", "1");
    List<Object> one = new ArrayList<>(arguments);
    one.addAll(List.of("--threads", "1"));
    List<Object> two = new ArrayList<>(arguments);
    two.addAll(List.of("--threads", "2"));
    assertArrayEquals(model(specialize("one", one)), model(specialize("two", two)));
  }

  /** Fails at a number of finished layers and passes, all in all. */
  private static final class FailAt implements Progress {
    private final int last;
    private int steps;

    FailAt(int last) {
      this.last = last;
    }

    @Override
    public void stage(String name, int count) {}

    @Override
    public void step(String what) {
      if (++steps == last) {
        throw TacoException.runtime("the disk is full");
      }
    }

    @Override
    public void message(String text) {}
  }

  /**
   * Two passes of fine-tuning, then four layers and two passes a step: stopped in the fine-tuning,
   * in the first tuning, among the layers of the second step, and in its tuning.
   */
  @ParameterizedTest
  @CsvSource({
    "gradual, 2",
    "gradual, 8",
    "gradual, 11",
    "gmp, 9",
    "lth, 10",
  })
  void aScheduleIsResumedToTheSameBytes(String how, int failAt) throws IOException {
    Path yaml =
        Files.writeString(
            folder.resolve("recipe.yaml"),
            """
            model: '%s'
            data: ['%s']
            shots: 6
            sparsity: 0.75
            schedule: %s
            tune: taco-tmlr
            tune-passes: 2
            finetune-passes: 2
            """
                .formatted(model, images, how));
    Path whole = folder.resolve("whole");
    Taco.run(Recipe.read(yaml), whole, false, Progress.SILENT);
    Path out = folder.resolve("run");
    assertThrows(
        TacoException.class, () -> Taco.run(Recipe.read(yaml), out, false, new FailAt(failAt)));
    assertFalse(Files.exists(out));
    Taco.run(Recipe.read(yaml), out, false, Progress.SILENT);
    assertTrue(
        Files.readString(out.resolve("run.log")).contains("resuming: "),
        Files.readString(out.resolve("run.log")));
    assertArrayEquals(model(whole), model(out));
    assertEquals(
        report(whole).path("steps").findValues("tunedTop1"),
        report(out).path("steps").findValues("tunedTop1"));
  }

  @ParameterizedTest
  @ValueSource(strings = {"r3", "flatten", "conv2"})
  void aNewClassifierTakesThePlaceOfTheOld(String node) throws IOException {
    Path run =
        specialize(
            "run", arguments(model, "--data", colours, "--features", node, "--sparsity", "0.5"));
    String card = Files.readString(run.resolve("MODEL_CARD.md"));
    assertTrue(card.contains("with a new classifier trained on the"), card);
    assertTrue(card.contains("| output | class |\n"), card);
    JsonNode report = report(run);
    assertEquals("[\"blue\",\"green\",\"red\"]", report.at("/task/classes").toString());
    assertEquals("[0,1,2]", report.at("/task/modelIndices").toString());
    assertEquals(0, report.at("/model/classes").asInt());
    assertTrue(report.at("/dense/top1").asDouble() >= 0.9, report.path("dense").toString());
    assertTrue(report.at("/transfer/classifier/trainAccuracy").asDouble() >= 0.9);
    assertTrue(report.at("/transfer/finetuning").isNull());
    OnnxModel written = OnnxModel.read(run.resolve("model.onnx"));
    assertEquals(List.of(-1L, 3L), written.outputs().getFirst().shape());
    // The written model knows its classes, and their folders.
    Cli.Result eval = Cli.run("eval", run.resolve("model.onnx"), "--data", colours, "--json");
    assertEquals(
        report.at("/compressed/top1").asDouble(),
        JSON.readTree(eval.succeeded().out()).path("top1").asDouble());
  }

  /** A backbone without a classifier, two of the folders, fine-tuning and lottery tickets. */
  @Test
  void aBackboneIsBroughtToATask() throws IOException {
    OnnxModel backbone = OnnxModel.read(model).withOutputs(List.of("r3"), /* keepOutputs= */ false);
    Path file = folder.resolve("backbone.onnx");
    backbone.write(file);
    Path run =
        specialize(
            "run",
            arguments(
                file,
                "--data",
                colours,
                "--classes",
                "red,green",
                "--features",
                "r3",
                "--finetune-passes",
                "4",
                "--schedule",
                "lth",
                "--tune",
                "taco-tmlr",
                "--tune-passes",
                "3",
                "--sparsity",
                "0.75"));
    JsonNode report = report(run);
    assertEquals("[\"green\",\"red\"]", report.at("/task/classes").toString());
    assertEquals("finetune", report.at("/transfer/finetuning/method").asText());
    assertEquals(5, report.at("/transfer/finetuning/curve").size());
    assertTrue(report.at("/transfer/beforeFinetuning/top1").isNumber());
    assertTrue(
        report.at("/dense/top1").asDouble() >= 0.9,
        report.path("dense") + " " + report.path("transfer"));
    assertEquals(1, report.at("/steps/0/step").asInt(), "fine-tuning was the training of step 0");
    assertEquals(0.75, report.at("/steps/1/sparsity").asDouble(), 0.01);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "--schedule slowly --tune taco-v1 | --schedule is one-shot, gradual, gmp, lth; not 'slowly'",
        "--schedule gradual | gradual tunes after each step: give --tune taco-tmlr",
        "--schedule gmp --tune probe | gmp tunes after each step",
        "--schedule-steps 3 | --schedule-steps is for --schedule gradual",
        "--schedule gradual --schedule-steps 0 --tune taco-v1 | must be at least 1, it is 0",
        "--schedule gradual --tune taco-v1 --structured 0.5 | give one of them",
        "--schedule gradual --tune taco-v1 --bits 8 | leave out --bits",
        "--schedule gmp --tune taco-v1 --solver obc | prunes by magnitude, not by --solver obc",
        "--schedule lth --tune taco-v1 --reconstruct sequential | reconstructs nothing",
        "--finetune-passes -1 | must not be negative",
        "--finetune-rate 0.1 | --finetune-rate is for --finetune-passes",
        "--features r3 --labels labels.txt | leave it out",
        "--features r3 --compare-ptc generic | leave out one of them",
        "--features nothing | no node, and no tensor that a node writes, of the name 'nothing'; features are often what these write: flatten, pool",
      })
  void whatCannotBeMeantIsRefused(String options, String message) {
    List<Object> all = arguments("specialize", model, "--data", images, "--sparsity", "0.5");
    all.addAll(Arrays.asList(options.split(" ")));
    all.addAll(List.of("--out", folder.resolve("out")));
    Cli.Result result = Cli.run(all.toArray());
    assertEquals(2, result.exitCode(), result.err());
    assertTrue(result.err().contains(message), result.err());
    assertFalse(Files.exists(folder.resolve("out")));
  }

  @Test
  void patternsWithoutFractionsAreRefused() {
    List<Object> all = arguments("specialize");
    all.addAll(scheduled("gradual", "--pattern", "2:4", "--exclude", "conv1"));
    all.addAll(List.of("--out", folder.resolve("out")));
    Cli.Result result = Cli.run(all.toArray());
    assertEquals(2, result.exitCode(), result.err());
    assertTrue(result.err().contains("2:4 has nothing between dense and pruned"), result.err());
  }
}
