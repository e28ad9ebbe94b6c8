package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.TinyTask;

/** {@code taco report} on a run of a network made here. */
class ReportTest {
  @TempDir static Path shared;
  private static Path run;

  @TempDir Path folder;

  @BeforeAll
  static void specialize() {
    Path model = TinyTask.convNet(shared.resolve("conv.onnx"), TinyTask.Input.FREE);
    Path images = TinyTask.images(shared.resolve("images"), model, 12);
    run = shared.resolve("runs/one");
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
            run);
    result.succeeded();
    assertTrue(result.err().endsWith("see " + run.resolve("report.html") + "\n"), result.err());
  }

  @Test
  void writesThePageOfTheRunAgainToTheSameBytes() throws IOException {
    Path page = run.resolve("report.html");
    String written = Files.readString(page);
    Files.delete(page);
    assertEquals(page + "\n", Cli.run("report", run).succeeded().out());
    assertEquals(written, Files.readString(page));
    assertTrue(written.contains("src=\"data:image/jpeg;base64,/9j/"), "no JPEG is embedded");
    assertTrue(written.contains("<svg "));
  }

  @Test
  void reportHoldsWhatEachImageWasTakenFor() throws IOException {
    JsonNode report = new ObjectMapper().readTree(run.resolve("report.json").toFile());
    int images = report.at("/task/testImages").asInt();
    assertTrue(images > 0);
    int right = 0;
    int all = 0;
    for (JsonNode cell : report.at("/predictions/compressed")) {
      all += cell.get("count").asInt();
      right += cell.get("actual").equals(cell.get("predicted")) ? cell.get("count").asInt() : 0;
    }
    assertEquals(images, all);
    assertEquals(report.at("/compressed/top1").asDouble(), right / (double) all, 1e-12);
    assertEquals(
        right,
        report.at("/predictions/bothRight").asInt()
            + report.at("/predictions/onlyCompressedRight").asInt());
    for (JsonNode example : report.at("/predictions/examples")) {
      assertTrue(Files.exists(run.resolve(example.get("thumbnail").asText())));
      double probability = example.at("/compressed/probability").asDouble();
      // The highest of the task's probabilities.
      assertTrue(probability >= 1.0 / TinyTask.CLASSES && probability <= 1, example.toString());
    }
    assertEquals("images", report.at("/contract/input").asText());
    assertEquals("nchw", report.at("/contract/layout").asText());
  }

  @Test
  void aFolderOfRunsGetsAnOverview() throws IOException {
    Path runs = run.getParent();
    Path page = runs.resolve("report.html");
    assertEquals(page + "\n", Cli.run("report", runs).succeeded().out());
    assertTrue(Files.readString(page).contains("href=\"one/report.html\""));
    Path out = folder.resolve("both.html");
    Cli.run("report", run, run, "--out", out, "--title", "Mine").succeeded();
    assertTrue(Files.readString(out).contains("<h1>Mine</h1>"));
  }

  @Test
  void saysWhatIsNoRun() throws IOException {
    Cli.Result missing = Cli.run("report", folder.resolve("nowhere"));
    assertEquals(2, missing.exitCode());
    assertTrue(missing.err().contains("nowhere: no folder"), missing.err());
    Cli.Result empty = Cli.run("report", folder);
    assertEquals(2, empty.exitCode());
    assertTrue(empty.err().contains("neither a run folder nor a folder of them"), empty.err());
    Cli.Result noPlace = Cli.run("report", run, run);
    assertEquals(2, noPlace.exitCode());
    assertTrue(noPlace.err().contains("--out"), noPlace.err());
    Files.writeString(folder.resolve("report.json"), "{\"schemaVersion\": 7}");
    Cli.Result other = Cli.run("report", folder);
    assertEquals(4, other.exitCode());
    assertTrue(other.err().contains("schemaVersion 7"), other.err());
    assertFalse(Files.exists(folder.resolve("report.html")));
  }
}
