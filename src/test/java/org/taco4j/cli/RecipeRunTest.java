package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.Recipe;
import org.taco4j.TinyTask;

/** Runs from presets and recipes, and again from what they wrote. */
class RecipeRunTest {
  @TempDir static Path shared;
  private static Path model;
  private static Path images;

  @TempDir Path folder;

  @BeforeAll
  static void makeTask() {
    model = TinyTask.convNet(shared.resolve("conv.onnx"), TinyTask.Input.FREE);
    images = TinyTask.images(shared.resolve("images"), model, 18);
  }

  private Path specialize(String name, Object... arguments) {
    Path out = folder.resolve(name);
    List<Object> all = new ArrayList<>(List.of("specialize", "--out", out));
    all.addAll(List.of(arguments));
    Cli.run(all.toArray()).succeeded();
    return out;
  }

  private static JsonNode report(Path run) throws IOException {
    return new ObjectMapper().readTree(run.resolve("report.json").toFile());
  }

  private static void assertSameModel(Path first, Path second) throws IOException {
    assertArrayEquals(
        Files.readAllBytes(first.resolve("model.onnx")),
        Files.readAllBytes(second.resolve("model.onnx")));
  }

  @Test
  void aTunedPresetRunsAgainToTheSameBytes() throws IOException {
    // 9 images a class: enough for the trial, which the learning rate decides about.
    Path first =
        specialize(
            "first",
            model,
            "--data",
            images,
            "--shots",
            "9",
            "--sparsity",
            "0.5",
            "--recipe",
            "taco-tmlr",
            "--tune-passes",
            "2");
    Path resolved = first.resolve("recipe.resolved.yaml");
    assertTrue(Files.readString(resolved).contains("# tuning\ntune: taco-tmlr\ntune-passes: 2\n"));
    assertTrue(report(first).at("/tuning/heldOutImages").asInt() > 0, "there was a trial");
    Path again = specialize("again", "--recipe", resolved, "--threads", "1", "--memory", "1g");
    assertSameModel(first, again);
    assertEquals(
        Recipe.read(resolved).tuneRate(),
        Recipe.read(again.resolve("recipe.resolved.yaml")).tuneRate());
  }

  @Test
  void whatAPresetSaysCanBeSaidInOptions() throws IOException {
    Path preset =
        specialize(
            "preset",
            model,
            "--data",
            images,
            "--shots",
            "4",
            "--recipe",
            "one-shot",
            "--sparsity",
            "0.6");
    Path options =
        specialize("options", model, "--data", images, "--shots", "4", "--sparsity", "0.6");
    assertSameModel(preset, options);
  }

  @Test
  void layersThatThePatternDoesNotFitStayDenseAndAreNamed() throws IOException {
    JsonNode report =
        report(
            specialize(
                "nm",
                model,
                "--data",
                images,
                "--shots",
                "4",
                "--recipe",
                "2:4-tensorrt",
                "--tune",
                "none"));
    List<JsonNode> notices = new ArrayList<>();
    report
        .path("notices")
        .forEach(
            notice -> {
              if (notice.path("code").asText().equals("misfit-left-dense")) {
                notices.add(notice);
              }
            });
    assertEquals(1, notices.size(), "conv1 alone reads 3 channels: " + report.path("notices"));
    assertEquals("conv1", notices.getFirst().path("subject").asText());
    assertEquals(8 * 27, notices.getFirst().path("value").asInt());
    JsonNode first = report.path("layers").get(0);
    assertEquals(0, first.path("sparsity").asDouble());
    assertTrue(first.path("whyDense").asText().contains("3 input channels"), first.toString());
    assertEquals(0.5, report.path("layers").get(1).path("sparsity").asDouble());
  }

  @Test
  void int8Block4QuantisesAndRemovesBlocks() throws IOException {
    Path run =
        specialize(
            "int8",
            model,
            "--data",
            images,
            "--shots",
            "4",
            "--recipe",
            "int8-block4",
            "--sparsity",
            "0.5");
    JsonNode layer = report(run).path("layers").get(2);
    assertEquals("block4:0.5", layer.path("pattern").asText());
    assertTrue(layer.path("sparsity").asDouble() >= 0.5, layer.toString());
    assertEquals(8, report(run).at("/recipe/bits").asInt());
    Path again = specialize("again", "--recipe", run.resolve("recipe.resolved.yaml"));
    assertSameModel(run, again);
  }

  @Test
  void theResultGoesToStandardOutputAndProgressToStandardError() {
    Cli.Result result =
        Cli.run(
                "specialize",
                model,
                "--data",
                images,
                "--shots",
                "4",
                "--sparsity",
                "0.5",
                "--out",
                folder.resolve("out"))
            .succeeded();
    assertTrue(result.out().contains("non-zero weights"), result.out());
    assertTrue(result.err().startsWith("reading " + model), result.err());
    assertTrue(result.err().contains("written to"), result.err());
  }
}
