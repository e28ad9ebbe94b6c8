package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.TinyTask;

/** The commands that look and measure, and what they print. */
class CommandsTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TempDir static Path folder;
  private static Path model;

  @BeforeAll
  static void makeModel() {
    model = TinyTask.convNet(folder.resolve("conv.onnx"), TinyTask.Input.FREE);
  }

  private static JsonNode json(Object... arguments) throws IOException {
    return JSON.readTree(Cli.run(arguments).succeeded().out());
  }

  @Test
  void inspectListsTheLayers() throws IOException {
    JsonNode inspection = json("inspect", model, "--json");
    assertEquals(17, inspection.path("opset").asInt());
    assertEquals(TinyTask.CLASSES, inspection.path("classes").asInt());
    assertEquals(4, inspection.path("layers").size());
    JsonNode second = inspection.path("layers").get(1);
    assertEquals("conv2", second.path("name").asText());
    assertEquals("Conv", second.path("opType").asText());
    assertEquals(8, second.path("rows").asInt());
    assertEquals(4 * 9, second.path("cols").asInt());
    assertEquals(2, second.path("groups").asInt());
    assertEquals(8 * 36, second.path("parameters").asLong());
    // A stride of 2 leaves 4 x 4 positions.
    assertEquals(8 * 36 * 16, second.path("macs").asLong());
    assertEquals(0, second.path("sparsity").asDouble());
    assertTrue(second.path("whyNotPrunable").isNull());
    assertEquals(216 + 288 + 128 + 64, inspection.path("parameters").asLong());

    String table = Cli.run("inspect", model).succeeded().out();
    assertTrue(table.contains("conv2") && table.contains("4 layers"), table);
  }

  @Test
  void benchComparesTwoModels() throws IOException {
    JsonNode result = json("bench", model, "--against", model, "--seconds", "0.2", "--json");
    assertTrue(result.at("/dense/p50Millis").asDouble() > 0);
    assertTrue(result.at("/compressed/p50Millis").asDouble() > 0);
    assertTrue(result.path("ratio").asDouble() > 0);
    assertEquals(1, result.path("batch").asInt());
    assertEquals(1, result.path("threads").asInt());
    String table =
        Cli.run("bench", model, "--against", model, "--seconds", "0.1").succeeded().out();
    assertTrue(table.contains("p99") && table.contains("ratio"), table);
  }

  @Test
  void benchRunsTheSameBatchOnBothWhereOneIsFixed() throws IOException {
    Path fixed = TinyTask.convNet(folder.resolve("fixed.onnx"), new TinyTask.Input(3, false));
    for (List<Path> pair : List.of(List.of(model, fixed), List.of(fixed, model))) {
      Cli.Result result =
          Cli.run(
              "bench",
              pair.get(0),
              "--against",
              pair.get(1),
              "--seconds",
              "0.1",
              "--json",
              "--batch",
              "2");
      result.succeeded();
      assertEquals(3, JSON.readTree(result.out()).path("batch").asInt());
      assertTrue(result.err().contains("batch"), "says that it is not 2: " + result.err());
    }
  }

  @Test
  void doctorDescribesTheMachine() throws IOException {
    JsonNode doctor = json("doctor", "--json");
    assertFalse(doctor.path("onnxRuntime").asText().isEmpty());
    assertFalse(doctor.at("/machine/cpu").asText().isEmpty());
    assertFalse(doctor.at("/machine/backend").asText().isEmpty());
    assertEquals(Runtime.getRuntime().availableProcessors(), doctor.at("/machine/cores").asInt());
    String text = Cli.run("doctor").succeeded().out();
    assertTrue(text.contains("ONNX Runtime") && text.contains("backend"), text);
    JsonNode tensorRt = doctor.path("tensorRt");
    assertFalse(tensorRt.path("parts").isEmpty());
    // Whichever part is missing here, the reason is told.
    boolean complete = true;
    for (JsonNode part : tensorRt.path("parts")) {
      complete &= part.path("available").asBoolean();
      assertTrue(
          part.path("available").asBoolean() || text.contains(part.path("detail").asText()), text);
    }
    assertEquals(tensorRt.path("available").asBoolean(), complete);
    assertTrue(doctor.path("onnxRuntimeProviders").toString().contains("\"CPU\""));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "specialize",
        "eval",
        "classify",
        "check",
        "export",
        "bench",
        "inspect",
        "solve",
        "doctor"
      })
  void everyCommandExplainsItself(String command) {
    Cli.Result result = Cli.run(command, "--help").succeeded();
    assertTrue(result.out().contains("Usage: taco " + command), result.out());
    assertEquals("", result.err());
  }

  @Test
  void helpNamesTheCommandsAndExitCodes() {
    String help = Cli.run("--help").succeeded().out();
    for (String command :
        List.of(
            "specialize",
            "eval",
            "classify",
            "check",
            "export",
            "bench",
            "inspect",
            "solve",
            "doctor")) {
      assertTrue(help.contains(command), command);
    }
    assertTrue(help.contains("Exit codes"), help);
    assertTrue(Cli.run("--version").succeeded().out().startsWith("taco4j "));
  }
}
