package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.Specialist;
import org.taco4j.Taco;
import org.taco4j.TinyTask;
import org.taco4j.compute.ChildJvm;
import org.taco4j.data.Shared;
import org.taco4j.export.MagnitudePruning;
import org.taco4j.export.SparseOperators;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.report.ReportFiles;
import org.taco4j.report.RunReport;
import org.taco4j.runtime.OperatorLibrary;

/** The commands around the operator library. What is faster here is asked, never asserted. */
class SparseRuntimeTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TempDir static Path folder;
  private static Path dense;
  private static Path pruned;

  /** All its layers but the one in groups are sparse operators. */
  private static Path rewritten;

  private static Path images;

  @BeforeAll
  static void makeModels() {
    assumeTrue(OperatorLibrary.isAvailable(), "no operator library was built: no cmake?");
    dense = TinyTask.convNet(folder.resolve("dense.onnx"), TinyTask.Input.FREE);
    OnnxModel model = OnnxModel.read(dense);
    MagnitudePruning.prune(model, 0.5, 1, layer -> layer.name().startsWith("conv"));
    model.setMetadata(
        "taco4j.classes",
        IntStream.range(0, TinyTask.CLASSES)
            .mapToObj(
                i -> "{\"folder\":\"c%1$d\",\"name\":\"c%1$d\",\"sourceIndex\":%1$d}".formatted(i))
            .collect(Collectors.joining(",", "[", "]")));
    pruned = folder.resolve("pruned.onnx");
    model.write(pruned);
    SparseOperators.rewrite(model, layer -> layer.groups() == 1);
    rewritten = folder.resolve("rewritten.onnx");
    model.write(rewritten);
    images = TinyTask.images(folder.resolve("images"), dense, 8);
  }

  private static JsonNode json(Object... arguments) throws IOException {
    return JSON.readTree(Cli.run(arguments).succeeded().out());
  }

  private static void assertFails(int exitCode, String message, Object... arguments) {
    Cli.Result result = Cli.run(arguments);
    assertEquals(exitCode, result.exitCode(), result.err());
    assertTrue(result.err().contains(message), result.err());
    assertEquals("", result.out());
  }

  /** That the file has the operators that the result speaks of, and the zeros that it had. */
  private static void assertIsAsSaid(Path before, Path after, JsonNode layers) {
    OnnxModel source = OnnxModel.read(before);
    OnnxModel written = OnnxModel.read(after);
    assertEquals(LayerDiscovery.discover(source).size(), layers.size());
    for (JsonNode layer : layers) {
      String name = layer.path("layer").asText();
      Layer now = LayerDiscovery.find(written, name);
      JsonNode operator = layer.path("operator");
      assertEquals(!operator.isNull(), now.isSparseOperator(), name);
      assertEquals(operator.isNull(), !layer.path("whyDense").isNull(), name);
      if (!operator.isNull()) {
        assertEquals(operator.asText(), now.opType());
        assertTrue(layer.path("denseMillis").asDouble() > 0, name);
        assertTrue(layer.path("sparseMillis").asDouble() > 0, name);
      }
      assertEquals(
          LayerWeights.zeros(source, LayerDiscovery.find(source, name)),
          LayerWeights.zeros(written, now),
          name);
    }
  }

  @Test
  void exportWritesWhatItSays() throws IOException {
    Path out = folder.resolve("export").resolve("model.onnx");
    Path library = folder.resolve("export").resolve("lib");
    JsonNode result =
        json(
            "export",
            pruned,
            "--runtime",
            "taco4j",
            "-o",
            out,
            "--library",
            library,
            "--seconds",
            "0.1",
            "--json");
    assertIsAsSaid(pruned, out, result.path("layers"));
    assertEquals(0, result.path("normalizations").asInt());
    assertEquals(result.path("rewritten").asInt() > 0, OnnxModel.read(out).hasSparseOperators());
    assertEquals(result.path("rewritten").asInt() == 0, result.path("latency").isNull());
    if (result.path("rewritten").asInt() == 0) {
      assertArrayEquals(Files.readAllBytes(pruned), Files.readAllBytes(out));
      assertTrue(result.path("notices").toString().contains("operators-not-used"));
    }
    assertEquals(
        OnnxModel.read(pruned).metadata(), OnnxModel.read(out).metadata(), "metadata is kept");
    Path file = Path.of(result.path("library").asText());
    assertEquals(library, file.getParent());
    assertArrayEquals(Files.readAllBytes(OperatorLibrary.file()), Files.readAllBytes(file));

    String text =
        Cli.run("export", pruned, "--runtime", "taco4j", "-o", out, "--layers", "--seconds", "0.1")
            .succeeded()
            .out();
    assertTrue(text.contains("conv2") && text.contains("layers rewritten"), text);
  }

  @Test
  void exportPacksWeights() throws IOException {
    OnnxModel model = OnnxModel.read(dense);
    MagnitudePruning.prune(model, 0.9, 1, layer -> layer.name().startsWith("conv"));
    Path source = folder.resolve("sparser.onnx");
    model.write(source);
    Path out = folder.resolve("packed.onnx");
    JsonNode result = json("export", source, "--pack-weights", "-o", out, "--json");
    assertEquals(Files.size(out), result.path("bytes").asLong());
    assertEquals(Files.size(source), result.path("sourceBytes").asLong());
    assertEquals(0, result.path("layers").size());
    OnnxModel read = OnnxModel.read(out);
    for (Layer layer : LayerDiscovery.discover(model)) {
      assertArrayEquals(
          LayerWeights.unfold(model, layer, 0),
          LayerWeights.unfold(read, LayerDiscovery.find(read, layer.name()), 0));
    }
    assertEquals(0, result.path("notices").size(), result.toString());
    assertTrue(Files.size(out) < Files.size(source));
    if (OperatorLibrary.isAvailable()) {
      Path again = folder.resolve("unpacked.onnx");
      JsonNode unpacked =
          json("export", out, "--runtime", "taco4j", "-o", again, "--seconds", "0.1", "--json");
      assertTrue(unpacked.path("notices").toString().contains("weights-unpacked"));
      assertEquals(Files.size(out), unpacked.path("sourceBytes").asLong());
      assertEquals(Files.size(again), unpacked.path("bytes").asLong());
    }

    String notices = json("export", dense, "--pack-weights", "-o", out, "--json").toString();
    assertTrue(notices.contains("weights-not-packed"), notices);
    assertArrayEquals(Files.readAllBytes(dense), Files.readAllBytes(out));
  }

  @Test
  void exportRefusesWhatCannotBeMeant() throws IOException {
    Path out = folder.resolve("never.onnx");
    assertFails(2, "--pack-weights", "export", pruned, "-o", out);
    assertFails(2, "taco4j", "export", pruned, "--runtime", "taco", "-o", out);
    assertFails(2, "the model itself", "export", pruned, "--runtime", "taco4j", "-o", pruned);
    assertFails(2, "as it is", "export", pruned, "--runtime", "onnxruntime", "-o", out);
    assertFails(
        2, "positive", "export", pruned, "--runtime", "taco4j", "-o", out, "--threads", "0");
    assertFails(3, "sparse operators", "export", rewritten, "--runtime", "taco4j", "-o", out);
    assertFails(
        3, "no such file", "export", folder.resolve("none"), "--runtime", "taco4j", "-o", out);
    Path file = Files.writeString(folder.resolve("in-the-way"), "");
    assertFails(
        7,
        "cannot be written",
        "export",
        pruned,
        "--runtime",
        "taco4j",
        "-o",
        file.resolve("model.onnx"));
    assertFails(
        7,
        "cannot be",
        "export",
        pruned,
        "--pack-weights",
        "--library",
        file.resolve("library"),
        "-o",
        out);
    assertFalse(Files.exists(out));
  }

  @Test
  void checkPrunesACopyAndMeasures() throws IOException {
    byte[] before = Files.readAllBytes(dense);
    JsonNode result = json("check", dense, "--sparsity", "0.5,0.9", "--seconds", "0.1", "--json");
    assertArrayEquals(before, Files.readAllBytes(dense));
    assertEquals("unstructured", result.path("pattern").asText());
    assertEquals(2, result.path("sparsities").size());
    for (JsonNode checked : result.path("sparsities")) {
      assertEquals(3, checked.path("pruned").asInt(), "all but the classifier");
      assertEquals(4, checked.path("layers").size());
      assertTrue(checked.at("/latency/ratio").asDouble() > 0);
      // The same products in another order: rounding of float32.
      assertTrue(checked.path("difference").asDouble() < 1e-5, checked.toString());
    }
    String text =
        Cli.run(
                "check",
                dense,
                "--sparsity",
                "0.9",
                "--pattern",
                "rows4",
                "--batch",
                "3",
                "--seconds",
                "0.1",
                "--layers")
            .succeeded()
            .out();
    assertTrue(text.contains("90.0 %") && text.contains("rows4 zeros, batch 3"), text);
    assertTrue(text.contains("conv3"), text);
  }

  @Test
  void checkRefusesWhatCannotBeMeant() {
    assertFails(2, "--sparsity", "check", dense);
    assertFails(2, "1.5", "check", dense, "--sparsity", "1.5");
    assertFails(2, "rows4", "check", dense, "--sparsity", "0.5", "--pattern", "2:4");
    assertFails(3, "sparse operators", "check", rewritten, "--sparsity", "0.5");
  }

  @Test
  void benchFillsTheTableThatDoctorFinds() throws IOException {
    JsonNode first = json("bench", "--calibrate-ops", dense, "--json");
    assertTrue(Files.exists(Path.of(first.path("table").asText())));
    assertTrue(first.path("layers").asInt() >= 4, first.toString());
    JsonNode second = json("bench", "--calibrate-ops", dense, "--json");
    assertEquals(0, second.path("measured").asInt());
    assertEquals(first.path("layers"), second.path("layers"));
    JsonNode operators = json("doctor", "--json").path("operators");
    assertTrue(operators.path("available").asBoolean());
    assertEquals(first.path("table"), operators.path("table"));
    assertEquals(first.path("layers"), operators.path("timedLayers"));
    assertEquals(
        OperatorLibrary.instructionSets(),
        JSON.convertValue(operators.path("instructionSets"), List.class));
    String text = Cli.run("doctor").succeeded().out();
    assertTrue(text.contains("sparse ops") && text.contains("layers timed"), text);

    assertFails(2, "--against", "bench", "--calibrate-ops", dense, "--against", dense);
    assertFails(2, "--calibrate-ops", "bench", dense);
    assertFails(2, "two models", "bench");
  }

  @Test
  void commandsOpenARewrittenModelAndSeeItsLayers() throws IOException {
    JsonNode inspection = json("inspect", rewritten, "--json");
    JsonNode before = json("inspect", pruned, "--json");
    assertEquals(before.path("macs"), inspection.path("macs"));
    assertEquals(before.path("parameters"), inspection.path("parameters"));
    assertEquals(before.path("sparsity"), inspection.path("sparsity"));
    assertEquals(
        "taco4j.SparseConvRelu", inspection.at("/layers/0/opType").asText(), inspection.toString());
    assertEquals("conv1", inspection.at("/layers/0/name").asText());
    assertEquals(
        json("eval", pruned, "--data", images, "--json").path("top1"),
        json("eval", rewritten, "--data", images, "--json").path("top1"));
    assertTrue(
        json("bench", rewritten, "--against", dense, "--seconds", "0.1", "--json")
                .path("ratio")
                .asDouble()
            > 0);
    Path image = images.resolve("c0").resolve("i000.png");
    try (Specialist a = Specialist.open(pruned);
        Specialist b = Specialist.open(rewritten)) {
      // Probabilities; sums in another order change the seventh digit.
      assertEquals(a.classify(image).probability(), b.classify(image).probability(), 1e-5);
      assertEquals(a.classify(image).name(), b.classify(image).name());
    }
  }

  @Test
  void aRewrittenModelIsNotSpecializedAgain() {
    assertFails(
        3,
        "sparse operators",
        "specialize",
        rewritten,
        "--data",
        images,
        "--sparsity",
        "0.5",
        "--out",
        folder.resolve("again"));
    assertFails(
        2,
        "--runtime is onnxruntime, taco4j or tensorrt",
        "specialize",
        dense,
        "--data",
        images,
        "--sparsity",
        "0.5",
        "--runtime",
        "tako4j",
        "--out",
        folder.resolve("again"));
  }

  @Test
  void specializeRecordsWhatRunsEachLayer() throws IOException {
    Path out = folder.resolve("run");
    RunReport report =
        Taco.specialize(dense)
            .data(images)
            .sparsity(0.75)
            .solver("magnitude")
            .runtime("taco4j")
            .to(out);
    assertEquals("taco4j", report.recipe().get("runtime"));
    OnnxModel specialist = OnnxModel.read(out.resolve("model.onnx"));
    int sparse = 0;
    for (RunReport.LayerReport layer : report.layers()) {
      RunReport.Operator operator = layer.operator();
      assertNotNull(operator, layer.name());
      Layer now = LayerDiscovery.find(specialist, layer.name());
      assertEquals(operator.name() != null, now.isSparseOperator(), layer.name());
      assertEquals(operator.name() == null, operator.whyDense() != null, layer.name());
      assertEquals(
          layer.sparsity(),
          LayerWeights.zeros(specialist, now) / (double) now.parameters(),
          1e-12,
          layer.name());
      sparse += operator.name() == null ? 0 : 1;
    }
    assertEquals(
        sparse == 0,
        report.notices().stream().anyMatch(n -> n.code().equals("operators-not-used")));
    assertEquals(report.dense().macs(), report.compressed().macs());
    assertTrue(specialist.metadata().containsKey("taco4j.classes"));
    String csv = Files.readString(out.resolve("layers.csv"));
    assertTrue(csv.lines().findFirst().orElse("").contains("operator.sparseMillis"), csv);
    assertTrue(
        Files.readString(out.resolve(ReportFiles.PAGE)).contains("Which operators run the layers"));
    assertTrue(Files.readString(out.resolve("recipe.resolved.yaml")).contains("runtime: taco4j"));
    // Plain runs say nothing of operators.
    RunReport plain =
        Taco.specialize(dense)
            .data(images)
            .sparsity(0.75)
            .solver("magnitude")
            .to(folder.resolve("plain"));
    assertTrue(plain.layers().stream().allMatch(layer -> layer.operator() == null));
    assertFalse(
        Files.readString(folder.resolve("plain").resolve(ReportFiles.PAGE))
            .contains("Which operators"));
  }

  @Test
  void realModelsAreExported() throws IOException {
    Path source = Shared.at("real/models/cifar10-resnet20.onnx");
    OnnxModel model = OnnxModel.read(source);
    MagnitudePruning.prune(model, 0.95, 1, Layer::prunable);
    Path sparse = folder.resolve("resnet20.onnx");
    model.write(sparse);
    Path out = folder.resolve("resnet20-taco4j.onnx");
    JsonNode result =
        json("export", sparse, "--runtime", "taco4j", "-o", out, "--seconds", "0.2", "--json");
    assertIsAsSaid(sparse, out, result.path("layers"));
  }

  /** Where the library is missing, models run densely, and what needs it says so. */
  @Test
  void withoutTheLibraryARewrittenModelRunsDensely() throws IOException {
    Path classes = folder.resolve("classes");
    copyWithoutNatives(Path.of("target", "classes").toAbsolutePath(), classes);
    Path image = images.resolve("c0").resolve("i000.png");
    Cli.Result here = Cli.run("classify", rewritten, image).succeeded();
    List<String> flags = List.of("--add-modules=jdk.incubator.vector");
    ChildJvm.Result child =
        child(classes, flags, "classify", rewritten.toString(), image.toString());
    assertEquals(0, child.exitCode(), child.output());
    assertTrue(child.output().contains(here.out().strip()), child.output());
    assertEquals(1, count(child.output(), "runs densely"), child.output());

    child =
        child(
            classes,
            flags,
            "bench",
            rewritten.toString(),
            "--against",
            rewritten.toString(),
            "--seconds",
            "0.1",
            "--json");
    assertEquals(0, child.exitCode(), child.output());
    assertEquals(1, count(child.output(), "runs densely"), child.output());
    assertEquals(1, count(child.output(), "\"operators-without-library\""), child.output());
    child =
        child(classes, flags, "eval", rewritten.toString(), "--data", images.toString(), "--json");
    assertEquals(0, child.exitCode(), child.output());
    assertEquals(1, count(child.output(), "\"operators-without-library\""), child.output());
    child = child(classes, flags, "doctor");
    assertTrue(child.output().contains("no library for this platform"), child.output());
    for (List<String> command :
        List.of(
            List.of("export", pruned.toString(), "--runtime", "taco4j", "-o", "never.onnx"),
            List.of("check", dense.toString(), "--sparsity", "0.5"),
            List.of("bench", "--calibrate-ops", dense.toString()),
            List.of(
                "specialize",
                dense.toString(),
                "--data",
                images.toString(),
                "--sparsity",
                "0.5",
                "--runtime",
                "taco4j",
                "--out",
                folder.resolve("none").toString()))) {
      child = child(classes, flags, command.toArray(String[]::new));
      assertEquals(7, child.exitCode(), command + child.output());
      assertTrue(child.output().contains("no sparse operators for"), child.output());
    }
    assertFalse(Files.exists(folder.resolve("none")));
  }

  /** Runs a command with other classes in the place of the project's. */
  private static ChildJvm.Result child(Path classes, List<String> flags, String... arguments) {
    Path own = Path.of("target", "classes").toAbsolutePath();
    return ChildJvm.runWith(
        Main.class,
        flags,
        entry -> Path.of(entry).toAbsolutePath().equals(own) ? classes.toString() : entry,
        arguments);
  }

  private static int count(String text, String word) {
    return text.split(java.util.regex.Pattern.quote(word), -1).length - 1;
  }

  private static void copyWithoutNatives(Path from, Path to) throws IOException {
    Files.walkFileTree(
        from,
        new SimpleFileVisitor<>() {
          @Override
          public FileVisitResult preVisitDirectory(Path at, BasicFileAttributes attributes) {
            if (at.endsWith(Path.of("META-INF", "native"))) {
              return FileVisitResult.SKIP_SUBTREE;
            }
            try {
              Files.createDirectories(to.resolve(from.relativize(at).toString()));
            } catch (IOException e) {
              throw new UncheckedIOException(e);
            }
            return FileVisitResult.CONTINUE;
          }

          @Override
          public FileVisitResult visitFile(Path file, BasicFileAttributes attributes)
              throws IOException {
            Files.copy(file, to.resolve(from.relativize(file).toString()));
            return FileVisitResult.CONTINUE;
          }
        });
  }
}
