package org.taco4j.demo;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.Progress;
import org.taco4j.Recipe;
import org.taco4j.Taco;
import org.taco4j.common.TacoException;

/** The demo, with a few pictures and one sparsity; {@code .ci/run} has the whole. */
class DemoTest {
  /** Enough images for a trial of tuning: 32, two of each class at least. */
  private static final Demo.Size SMALL = new Demo.Size(List.of(0.9), 6, 1, 6, 2, 2, 1);

  @TempDir Path folder;

  private Demo.Request request(boolean overwrite) {
    return new Demo.Request(folder.resolve("demo"), overwrite, Family.VEHICLES, 3, 2);
  }

  @Test
  void everyRunIsARunAndThePageLeadsToAllOfThem() throws IOException {
    Path out = folder.resolve("demo");
    List<String> steps = new ArrayList<>();
    Progress progress =
        new Progress() {
          @Override
          public void stage(String name, int count) {}

          @Override
          public void step(String what) {
            steps.add(what);
          }

          @Override
          public void message(String text) {}
        };

    Demo.Result result = Demo.run(request(false), SMALL, progress);

    assertEquals(24, result.generalist().classes());
    assertEquals(2, steps.size(), steps.toString());
    Demo.Specialists specialists = result.specialists().getFirst();
    assertEquals(0.9, specialists.sparsity());
    assertEquals(36, specialists.sequential().task().calibrationImages());
    assertEquals(36, specialists.tuned().images());
    JsonNode report =
        new ObjectMapper().readTree(out.resolve("90-sequential/report.json").toFile());
    assertEquals(report.get("compressed").get("top1").asDouble(), specialists.tuned().top1());
    assertEquals(
        report.get("ptc").get("task").get("ptc").get("top1").asDouble(), specialists.ptc().top1());
    String page = Files.readString(result.page());
    assertTrue(page.contains("href=\"90-layerwise/report.html\""), "link to the first run");
    assertTrue(page.contains("href=\"90-sequential/report.html\""), "link to the second run");
    assertTrue(Files.readString(result.chart()).startsWith("<svg"), "chart");

    // The run's recipe makes the same model.
    Path again = folder.resolve("again");
    Taco.run(
        Recipe.read(out.resolve("90-sequential/recipe.resolved.yaml")),
        again,
        false,
        Progress.SILENT);
    assertArrayEquals(
        Files.readAllBytes(out.resolve("90-sequential/model.onnx")),
        Files.readAllBytes(again.resolve("model.onnx")));
  }

  @Test
  void aDemoThatWasStoppedIsReplacedButForWhatIsNotItsOwn() throws IOException {
    Path out = Files.createDirectories(folder.resolve("demo/pictures")).getParent();
    Generalist.write(out.resolve("generalist.onnx"));
    Path part = Files.createDirectories(out.resolve(".80-sequential.part")).resolve("x");
    Files.writeString(part, "x");
    Path mine = Files.writeString(out.resolve("notes.txt"), "mine");
    assertThrows(TacoException.class, () -> Demo.run(request(false), SMALL, Progress.SILENT));
    // Stopped again, after the old one has gone.
    RuntimeException stop = new RuntimeException("stopped");
    Progress stops =
        new Progress() {
          @Override
          public void stage(String name, int count) {
            throw stop;
          }

          @Override
          public void step(String what) {}

          @Override
          public void message(String text) {}
        };
    assertSame(
        stop, assertThrows(RuntimeException.class, () -> Demo.run(request(true), SMALL, stops)));
    assertEquals("mine", Files.readString(mine));
    assertTrue(Files.notExists(part));
  }

  @Test
  void nothingButAnEarlierDemoIsReplaced() throws IOException {
    Path out = Files.createDirectories(folder.resolve("demo"));
    Path mine = Files.writeString(out.resolve("thesis.txt"), "mine");
    for (boolean overwrite : new boolean[] {false, true}) {
      TacoException e =
          assertThrows(
              TacoException.class, () -> Demo.run(request(overwrite), SMALL, Progress.SILENT));
      assertEquals(TacoException.Kind.USAGE, e.kind());
      assertTrue(e.getMessage().contains(out.toString()), e.getMessage());
    }
    assertEquals("mine", Files.readString(mine));
  }
}
