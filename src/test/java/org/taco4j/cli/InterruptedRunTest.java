package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.Progress;
import org.taco4j.Recipe;
import org.taco4j.Taco;
import org.taco4j.TinyTask;
import org.taco4j.common.TacoException;

/** Runs that are stopped at some layer, from outside or by an error, and started again. */
class InterruptedRunTest {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final int LAYERS = 4;
  private static final int SIGTERM = 15;
  private static final int SIGKILL = 9;

  @TempDir static Path shared;
  private static Path recipe;

  /** A run that nobody stopped. */
  private static Path whole;

  @TempDir Path folder;

  @BeforeAll
  static void runWithoutInterruption() throws IOException {
    Path model = TinyTask.convNet(shared.resolve("conv.onnx"), TinyTask.Input.FREE);
    Path images = TinyTask.images(shared.resolve("images"), model, 12);
    recipe =
        Files.writeString(
            shared.resolve("recipe.yaml"),
            "model: '%s'\ndata: ['%s']\nshots: 5\nsparsity: 0.6\n".formatted(model, images));
    whole = shared.resolve("whole");
    Cli.run("specialize", "--recipe", recipe, "--out", whole).succeeded();
  }

  /** Does something after a number of solved layers; 0 for when the calibration begins. */
  private static final class AtLayer implements Progress {
    private final int layer;
    private final Runnable then;
    private final Consumer<String> said;
    private boolean solving;
    private int solved;

    AtLayer(int layer, Runnable then, Consumer<String> said) {
      this.layer = layer;
      this.then = then;
      this.said = said;
    }

    @Override
    public void stage(String name, int steps) {
      solving = name.equals("solving") || name.equals("reconstructing");
      if (layer == 0 && (name.startsWith("calibrating") || name.equals("reconstructing"))) {
        then.run();
      }
    }

    @Override
    public void step(String what) {
      if (solving && ++solved == layer) {
        then.run();
      }
    }

    @Override
    public void message(String text) {
      said.accept(text);
    }
  }

  /** A process that runs a recipe and stands still after some layers until it is killed. */
  static final class Stopping {
    private Stopping() {}

    public static void main(String[] args) {
      Runnable wait =
          () -> {
            System.out.println("at layer");
            try {
              new CountDownLatch(1).await();
            } catch (InterruptedException e) {
              throw new IllegalStateException(e);
            }
          };
      Taco.run(
          Recipe.read(Path.of(args[0])),
          Path.of(args[1]),
          false,
          new AtLayer(Integer.parseInt(args[2]), wait, System.out::println));
    }
  }

  /** Begins the recipe in a process that stands still after that many layers. */
  private static Process startStopping(Path out, int layer) throws IOException {
    ProcessBuilder builder =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--add-modules=jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED",
                Stopping.class.getName(),
                recipe.toString(),
                out.toString(),
                Integer.toString(layer))
            .redirectErrorStream(true);
    // Not -cp: ONNX Runtime 1.29 crashes where the command line has more than 4096 bytes.
    builder
        .environment()
        .put(
            "CLASSPATH",
            System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")));
    return builder.start();
  }

  /** Reads what a process prints up to a line that begins so. */
  private static void awaitLine(BufferedReader lines, String start) throws IOException {
    StringBuilder seen = new StringBuilder();
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      seen.append(line).append('\n');
      if (line.startsWith(start)) {
        return;
      }
    }
    throw new AssertionError("the process ended before it printed '" + start + "':\n" + seen);
  }

  private static List<String> filesIn(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.map(file -> file.getFileName().toString()).sorted().toList();
    }
  }

  private static List<Path> savedLayers(Path part) throws IOException {
    try (Stream<Path> files = Files.list(part.resolve("checkpoints"))) {
      return files
          .filter(file -> file.getFileName().toString().startsWith("layer-"))
          .sorted()
          .toList();
    }
  }

  /** The value of the notice of that code; null where there is none. */
  private static Double notice(Path run, String code) throws IOException {
    for (JsonNode notice : JSON.readTree(run.resolve("report.json").toFile()).path("notices")) {
      if (notice.path("code").asText().equals(code)) {
        return notice.path("value").asDouble();
      }
    }
    return null;
  }

  /** The layers of a report, without the times. */
  private static List<Map<String, Object>> layers(Path run) throws IOException {
    List<Map<String, Object>> layers = new ArrayList<>();
    for (JsonNode layer : JSON.readTree(run.resolve("report.json").toFile()).path("layers")) {
      Map<String, Object> values = new TreeMap<>();
      layer.properties().forEach(property -> values.put(property.getKey(), property.getValue()));
      values.remove("seconds");
      layers.add(values);
    }
    return layers;
  }

  private static void assertSameResult(Path expected, Path run) throws IOException {
    assertArrayEquals(
        Files.readAllBytes(expected.resolve("model.onnx")),
        Files.readAllBytes(run.resolve("model.onnx")));
    assertEquals(layers(expected), layers(run));
    assertEquals(filesIn(expected), filesIn(run));
  }

  /** Runs the recipe until some layers are done, then fails. */
  private Path failAfter(int layers) {
    return failAfter(layers, recipe);
  }

  private Path failAfter(int layers, Path recipe) {
    Path out = folder.resolve("run");
    List<String> said = new ArrayList<>();
    Progress failing =
        new AtLayer(
            layers,
            () -> {
              throw TacoException.runtime("the disk is full");
            },
            said::add);
    assertThrows(TacoException.class, () -> Taco.run(Recipe.read(recipe), out, true, failing));
    assertEquals(
        "not finished; run the same command again to resume (%d finished layers are kept in %s)"
            .formatted(layers, folder.resolve(".run.part")),
        said.getLast());
    return out;
  }

  // Signals do not exist there. SIGTERM stands in for Ctrl-C: both run the shutdown hooks.
  @Test
  @DisabledOnOs(OS.WINDOWS)
  void aRunStoppedBeforeItsFirstLayerLeavesNothing() throws IOException, InterruptedException {
    Process process = startStopping(folder.resolve("a/run"), 0);
    try (BufferedReader lines = process.inputReader()) {
      awaitLine(lines, "at layer");
      assertEquals(List.of(".run.part"), filesIn(folder.resolve("a")));
      process.toHandle().destroy();
      assertTrue(process.waitFor(30, TimeUnit.SECONDS));
      assertEquals(128 + SIGTERM, process.exitValue());
    } finally {
      process.destroyForcibly();
    }
    assertEquals(List.of(), filesIn(folder));
  }

  @ParameterizedTest
  @CsvSource({"1, 9", "3, 9", "2, 15"})
  @DisabledOnOs(OS.WINDOWS)
  void aRunKilledAtALayerIsResumedToTheSameBytes(int layer, int signal)
      throws IOException, InterruptedException {
    Path out = folder.resolve("run");
    Process process = startStopping(out, layer);
    try (BufferedReader lines = process.inputReader()) {
      awaitLine(lines, "at layer");
      Cli.Result second = Cli.run("specialize", "--recipe", recipe, "--out", out);
      assertEquals(2, second.exitCode(), second.err());
      assertTrue(second.err().contains("another run is writing"), second.err());
      if (signal == SIGKILL) {
        process.toHandle().destroyForcibly();
      } else {
        process.toHandle().destroy(); // The process's own method would close its output, too.
      }
      String rest = lines.lines().collect(Collectors.joining("\n"));
      assertTrue(process.waitFor(30, TimeUnit.SECONDS));
      assertEquals(128 + signal, process.exitValue());
      if (signal == SIGTERM) {
        assertTrue(
            rest.contains("interrupted; run the same command again to resume (2 finished layers"),
            rest);
      }
    } finally {
      process.destroyForcibly();
    }
    assertEquals(List.of(".run.part"), filesIn(folder));
    assertEquals(layer, savedLayers(folder.resolve(".run.part")).size());

    // Neither threads nor memory change the bytes, so they may change in between.
    Cli.Result resumed =
        Cli.run("specialize", "--recipe", recipe, "--threads", "1", "--memory", "1k", "--out", out);
    resumed.succeeded();
    assertTrue(
        resumed.err().contains("resuming: " + layer + " of 4 layers are done"), resumed.err());
    assertEquals(layer, notice(out, "resumed"));
    long solved =
        Files.readAllLines(out.resolve("run.log")).stream()
            .filter(line -> line.contains(": layer error "))
            .count();
    assertEquals(LAYERS - layer, solved, "the layers that were left");
    assertEquals(List.of("run"), filesIn(folder));
    assertSameResult(whole, out);
  }

  @Test
  void aRunThatFailedAfterItsLastLayerIsResumed() throws IOException {
    Path out = failAfter(LAYERS);
    Cli.run("specialize", "--recipe", recipe, "--out", out).succeeded();
    assertEquals(LAYERS, notice(out, "resumed"));
    assertSameResult(whole, out);
  }

  @Test
  void aLayerWiseRunIsResumedToTheSameBytes() throws IOException {
    Path layerWise =
        Files.writeString(
            folder.resolve("layerwise.yaml"),
            Files.readString(recipe) + "reconstruct: layerwise\n");
    Path expected = folder.resolve("expected");
    Cli.run("specialize", "--recipe", layerWise, "--out", expected).succeeded();
    Path out = failAfter(2, layerWise);
    Cli.run("specialize", "--recipe", layerWise, "--out", out).succeeded();
    assertEquals(2, notice(out, "resumed"));
    assertSameResult(expected, out);
  }

  @Test
  void aQuantisedRunIsResumedToTheSameBytes() throws IOException {
    Path quantised =
        Files.writeString(
            folder.resolve("quantised.yaml"), Files.readString(recipe) + "bits: 4\nsweeps: 1\n");
    Path expected = folder.resolve("expected");
    Cli.run("specialize", "--recipe", quantised, "--out", expected).succeeded();
    Path out = failAfter(3, quantised);
    Cli.run("specialize", "--recipe", quantised, "--out", out).succeeded();
    assertEquals(3, notice(out, "resumed"));
    assertSameResult(expected, out);
    // Integers are stored, and not what float weights come to.
    assertTrue(Files.size(out.resolve("model.onnx")) < Files.size(whole.resolve("model.onnx")));
  }

  @Test
  void aRunWithIntegerActivationsIsResumedToTheSameBytes() throws IOException {
    Path integers =
        Files.writeString(
            folder.resolve("integers.yaml"),
            Files.readString(recipe) + "bits: 8\nactivation-bits: 8\n");
    Path expected = folder.resolve("expected");
    Cli.run("specialize", "--recipe", integers, "--out", expected).succeeded();
    Path out = failAfter(2, integers);
    Cli.run("specialize", "--recipe", integers, "--threads", "1", "--out", out).succeeded();
    assertEquals(2, notice(out, "resumed"));
    assertSameResult(expected, out);
  }

  @Test
  void aDamagedCheckpointIsNotedAndItsLayerSolvedAgain() throws IOException {
    Path out = failAfter(3);
    Path damaged = savedLayers(folder.resolve(".run.part")).getFirst();
    byte[] bytes = Files.readAllBytes(damaged);
    bytes[bytes.length / 2] ^= 64;
    Files.write(damaged, bytes);
    Cli.run("specialize", "--recipe", recipe, "--out", out).succeeded();
    assertEquals(2, notice(out, "resumed"));
    assertEquals(1, notice(out, "checkpoint-damaged"));
    assertSameResult(whole, out);
  }

  @Test
  void anotherRecipeBeginsAnewAndSaysSo() throws IOException {
    Path out = failAfter(2);
    Path other = folder.resolve("other");
    Object[] task = {"specialize", "--recipe", recipe, "--sparsity", "0.5", "--out"};
    Cli.Result result = Cli.run(with(task, out)).succeeded();
    Cli.run(with(task, other)).succeeded();
    assertTrue(
        result.err().contains("2 finished layers of an unfinished run were deleted"), result.err());
    assertTrue(result.err().contains("it differs from this one in recipe, layers"), result.err());
    assertEquals(2, notice(out, "checkpoints-discarded"));
    assertEquals(null, notice(out, "resumed"));
    assertSameResult(other, out);
    assertEquals(List.of("other", "run"), filesIn(folder));
  }

  @Test
  void anEarlierRunsFolderStaysUntilTheResumedOneIsDone() throws IOException {
    Path out = folder.resolve("run");
    Object[] other = {"specialize", "--recipe", recipe, "--sparsity", "0.5", "--out", out};
    Cli.run(other).succeeded();
    byte[] before = Files.readAllBytes(out.resolve("model.onnx"));
    failAfter(2);
    assertArrayEquals(before, Files.readAllBytes(out.resolve("model.onnx")));
    Cli.run("specialize", "--recipe", recipe, "--overwrite", "--out", out).succeeded();
    assertEquals(2, notice(out, "resumed"));
    assertSameResult(whole, out);
    assertEquals(List.of("run"), filesIn(folder));
  }

  private static Object[] with(Object[] arguments, Object... more) {
    return Stream.concat(Stream.of(arguments), Stream.of(more)).toArray();
  }
}
