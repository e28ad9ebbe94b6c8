package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.TinyTask;
import org.taco4j.export.IntegerOperators;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.OperatorLibrary;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/** {@code taco specialize} from the command line to the files, on networks made here. */
class SpecializeTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TempDir static Path shared;
  private static Path convNet;
  private static Path mlp;
  private static Path images;
  private static Path mlpImages;

  @TempDir Path folder;

  @BeforeAll
  static void makeTasks() {
    convNet = TinyTask.convNet(shared.resolve("conv.onnx"), TinyTask.Input.FREE);
    images = TinyTask.images(shared.resolve("images"), convNet, 12);
    mlp = TinyTask.mlp(shared.resolve("mlp.onnx"));
    mlpImages = TinyTask.images(shared.resolve("mlp-images"), mlp, 12);
  }

  private static Object[] arguments(Object... all) {
    return all;
  }

  /** Runs specialize with these arguments, to a folder of that name. */
  private Path specialize(String name, Object... arguments) {
    Path out = folder.resolve(name);
    List<Object> all = new ArrayList<>(List.of("specialize"));
    all.addAll(List.of(arguments));
    all.addAll(List.of("--out", out));
    Cli.run(all.toArray()).succeeded();
    return out;
  }

  private static JsonNode report(Path run) throws IOException {
    return JSON.readTree(run.resolve("report.json").toFile());
  }

  private static long zeros(OnnxModel model, String layer) {
    return LayerWeights.zeros(model, layer(model, layer));
  }

  private static Layer layer(OnnxModel model, String name) {
    return LayerDiscovery.discover(model).stream()
        .filter(l -> l.name().equals(name))
        .findFirst()
        .orElseThrow();
  }

  private static Set<String> filesIn(Path run) throws IOException {
    try (Stream<Path> files = Files.list(run)) {
      return new TreeSet<>(files.map(f -> f.getFileName().toString()).toList());
    }
  }

  @Test
  void aRunFolderHoldsWhatTheScriptsRelyOn() throws IOException {
    Path out = folder.resolve("out");
    Cli.Result result =
        Cli.run(
            "specialize",
            convNet,
            "--data",
            images,
            "--shots",
            "4",
            "--sparsity",
            "0.5",
            "--json",
            "--out",
            out);
    result.succeeded();

    assertEquals(
        Set.of(
            "model.onnx",
            "report.json",
            "report.html",
            "examples",
            "layers.csv",
            "MODEL_CARD.md",
            "recipe.resolved.yaml",
            "run.log"),
        filesIn(out));
    assertEquals(Set.of("out"), filesIn(folder));
    JsonNode report = report(out);
    assertEquals(report, JSON.readTree(result.out()), "--json prints report.json and nothing else");

    assertEquals(1, report.path("schemaVersion").asInt());
    assertEquals(
        1.0, report.at("/dense/top1").asDouble(), "the network labelled the images itself");
    assertTrue(report.at("/compressed/top1").isNumber());
    assertTrue(report.at("/compressed/top1").asDouble() > 0.5, "far above chance, 0.25");
    // 30 % of 12 images a class, rounded, are for the test.
    assertEquals(16, report.at("/dense/images").asInt());
    assertEquals(16, report.at("/task/calibrationImages").asInt());
    assertTrue(report.at("/latency/dense/p50Millis").asDouble() > 0);
    assertTrue(report.at("/latency/compressed/p50Millis").asDouble() > 0);
    for (String stage : List.of("calibrate", "solve", "tune", "evaluate")) {
      assertTrue(report.at("/seconds/" + stage).isNumber(), stage);
    }
    assertEquals(4, report.path("layers").size());
    for (JsonNode layer : report.path("layers")) {
      for (String name :
          List.of(
              "rows",
              "cols",
              "sparsity",
              "layerError",
              "heldOutError",
              "damping",
              "deadColumns",
              "seconds")) {
        assertTrue(layer.path(name).isNumber(), layer.path("name") + " " + name);
      }
      assertEquals("obc", layer.path("solver").asText());
      assertTrue(layer.path("sparsity").asDouble() >= 0.5, layer.path("name").asText());
    }

    // The zeros are in the file.
    OnnxModel written = OnnxModel.read(out.resolve("model.onnx"));
    long zeros = 0;
    long weights = 0;
    for (Layer layer : LayerDiscovery.discover(written)) {
      zeros += LayerWeights.zeros(written, layer);
      weights += layer.parameters();
    }
    assertEquals(report.path("sparsity").asDouble(), zeros / (double) weights, 1e-12);
    assertTrue(2 * zeros >= weights, zeros + " zeros of " + weights);
    assertEquals(weights - zeros, report.at("/compressed/nonZeroWeights").asLong());

    String csv = Files.readString(out.resolve("layers.csv"));
    assertEquals(5, csv.lines().count(), csv);
    assertTrue(csv.startsWith("name,opType,rows,cols,"), csv);
    assertTrue(Files.readString(out.resolve("MODEL_CARD.md")).contains("top-1"));
    assertTrue(Files.readString(out.resolve("run.log")).contains("conv2"));
  }

  @Test
  void aSearchIsReportedForEachLayer() throws IOException {
    Path out =
        specialize(
            "out",
            convNet,
            "--data",
            images,
            "--sparsity",
            "0.5",
            "--solver",
            "fast",
            "--search",
            "swap",
            "--exclude",
            "head");
    JsonNode layers = report(out).path("layers");
    long swaps = layers.get(0).at("/search/swaps").asLong();
    assertTrue(layers.get(3).path("search").isNull(), "head");
    List<String> csv = Files.readAllLines(out.resolve("layers.csv"));
    List<String> names = List.of(csv.getFirst().split(","));
    String[] conv1 = csv.get(1).split(",");
    assertEquals(swaps, Long.parseLong(conv1[names.indexOf("search.swaps")]));
    assertEquals("\"fast+swap\"", conv1[names.indexOf("solver")]);
    assertEquals(5, csv.size());
  }

  @Test
  void keepsTheClassesAskedForAndRuns() throws IOException {
    Path out =
        specialize("out", convNet, "--data", images, "--classes", "c3,c1", "--sparsity", "0.5");
    OnnxModel written = OnnxModel.read(out.resolve("model.onnx"));
    assertEquals(List.of(-1L, 2L), written.outputs().getFirst().shape());
    float[] image = new float[3 * TinyTask.SIDE * TinyTask.SIDE];
    java.util.Arrays.fill(image, 0.3f);
    float[] dense = run(convNet, image);
    float[] specialist = run(out.resolve("model.onnx"), image);
    assertEquals(2, specialist.length);

    // Nothing pruned: the specialist's outputs are the dense model's for the classes kept.
    Path same =
        specialize("same", convNet, "--data", images, "--classes", "c3,c1", "--sparsity", "0");
    assertEquals(
        List.of("c1", "c3"), JSON.convertValue(report(same).at("/task/classes"), List.class));
    // The correction recomputes means and variances in float32: not to the last bit.
    assertArrayEquals(
        new float[] {dense[1], dense[3]}, run(same.resolve("model.onnx"), image), 1e-3f);
    Path uncorrected =
        specialize(
            "uncorrected",
            convNet,
            "--data",
            images,
            "--classes",
            "c3,c1",
            "--sparsity",
            "0",
            "--correct",
            "none");
    assertArrayEquals(
        new float[] {dense[1], dense[3]}, run(uncorrected.resolve("model.onnx"), image), 1e-6f);
  }

  private static float[] run(Path model, float[] image) {
    try (Session session = Session.open(model, 1);
        Tensor tensor = Tensor.ofFloats(image, 1, 3, TinyTask.SIDE, TinyTask.SIDE)) {
      Map<String, Tensor> results = session.run(Map.of("images", tensor));
      float[] scores = results.values().iterator().next().floats();
      results.values().forEach(Tensor::close);
      return scores;
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"sequential", "layerwise"})
  void threadsAndPassesDoNotChangeTheBytes(String how) throws IOException {
    Object[] task =
        arguments(
            convNet, "--data", images, "--shots", "5", "--sparsity", "0.6", "--reconstruct", how);
    byte[] one = model(specialize("one", with(task, "--threads", "1")));
    assertArrayEquals(one, model(specialize("two", with(task, "--threads", "2"))));
    assertArrayEquals(one, model(specialize("three", with(task, "--threads", "3"))));
    // Less than any Gram matrix takes: one layer a pass, and activations in files.
    Path small = specialize("small", with(task, "--memory", "1k"));
    assertTrue(
        how.equals("sequential")
            || Files.readString(small.resolve("run.log")).contains("(pass 4 of 4)"),
        Files.readString(small.resolve("run.log")));
    assertArrayEquals(one, model(small));
    assertFalse(
        java.util.Arrays.equals(one, model(specialize("other", with(task, "--seed", "4")))),
        "another seed draws other images");
  }

  @Test
  void dampingIsChosenLayerByLayer() throws IOException {
    Object[] task =
        arguments(
            convNet, "--data", images, "--shots", "3", "--sparsity", "0.6", "--damping", "auto");
    Path run = specialize("auto", with(task, "--threads", "2"));
    JsonNode report = report(run);
    assertEquals("auto", report.at("/recipe/damping").asText());
    List<Double> dampings = new ArrayList<>();
    report.path("layers").forEach(layer -> dampings.add(layer.path("damping").asDouble()));
    // Three images a class: the head sees fewer samples than it has columns.
    assertTrue(dampings.stream().anyMatch(damping -> damping > 0.01), dampings.toString());
    Path small = specialize("small", with(task, "--threads", "1", "--memory", "1k"));
    assertArrayEquals(model(run), model(small));
  }

  private static Object[] with(Object[] arguments, Object... more) {
    return Stream.concat(Stream.of(arguments), Stream.of(more)).toArray();
  }

  private static byte[] model(Path run) throws IOException {
    return Files.readAllBytes(run.resolve("model.onnx"));
  }

  @ParameterizedTest
  @ValueSource(strings = {"fast", "wanda", "magnitude"})
  void groupsOfAPatternRunAlongTheInputChannels(String solver) throws IOException {
    // The first convolution has 3 input channels, which 4 does not divide.
    Object[] task = arguments(convNet, "--data", images, "--solver", solver, "--exclude", "conv1");
    OnnxModel twoOfFour = written(specialize("nm", with(task, "--pattern", "2:4")));
    OnnxModel blocks =
        written(specialize("block", with(task, "--pattern", "block4", "--sparsity", "0.5")));
    assertEquals(0, zeros(twoOfFour, "conv1"));
    for (String name : List.of("conv2", "conv3", "head")) {
      Layer layer = layer(twoOfFour, name);
      assertEquals(layer.parameters() / 2, zeros(twoOfFour, name), name);
      assertTrue(2 * zeros(blocks, name) >= layer.parameters(), name);
      assertEquals(0, zeros(blocks, name) % 4, name);
      int positions = layer.cols() / layer.groupingExtent();
      for (int group = 0; group < layer.groups(); group++) {
        // Rows of [I, kh, kw] as stored in the file: [O, I, kh, kw] is unfolded as it lies.
        float[] nm = LayerWeights.unfold(twoOfFour, layer, group);
        float[] block = LayerWeights.unfold(blocks, layer, group);
        for (int row = 0; row < layer.rows(); row++) {
          for (int position = 0; position < positions; position++) {
            for (int channel = 0; channel < layer.groupingExtent(); channel += 4) {
              int kept = 0;
              int blockKept = 0;
              for (int i = channel; i < channel + 4; i++) {
                int at = row * layer.cols() + i * positions + position;
                kept += nm[at] == 0 ? 0 : 1;
                blockKept += block[at] == 0 ? 0 : 1;
              }
              assertEquals(2, kept, name);
              assertTrue(blockKept == 0 || blockKept == 4, name + ": " + blockKept);
            }
          }
        }
      }
    }
  }

  private static OnnxModel written(Path run) {
    return OnnxModel.read(run.resolve("model.onnx"));
  }

  @Test
  void aRecipeSaysWhatTheFlagsDoNotAndRunsAgainToTheSameBytes() throws IOException {
    Path recipe = folder.resolve("recipe.yaml");
    Files.writeString(
        recipe,
        """
        model: %s
        data: [%s]
        shots: 4
        sparsity: 0.5
        solver: wanda
        layers:
          - match: conv2
            sparsity: 0.75
          - match: 'conv*'
            sparsity: 0.25
            solver: magnitude
        """
            .formatted(convNet, images));
    Path out = specialize("out", "--recipe", recipe, "--shots", "3");
    JsonNode report = report(out);
    assertEquals(12, report.at("/task/calibrationImages").asInt(), "the flag goes before the file");
    Map<String, Double> sparsity = new java.util.HashMap<>();
    Map<String, String> solver = new java.util.HashMap<>();
    for (JsonNode layer : report.path("layers")) {
      sparsity.put(layer.path("name").asText(), layer.path("sparsity").asDouble());
      solver.put(layer.path("name").asText(), layer.path("solver").asText());
    }
    assertEquals(Map.of("conv1", 0.25, "conv2", 0.75, "conv3", 0.25, "head", 0.5), sparsity);
    assertEquals(
        Map.of("conv1", "magnitude", "conv2", "wanda", "conv3", "magnitude", "head", "wanda"),
        solver);

    Path again = specialize("again", "--recipe", out.resolve("recipe.resolved.yaml"));
    assertArrayEquals(model(out), model(again));
    assertEquals(
        Files.readString(out.resolve("recipe.resolved.yaml")),
        Files.readString(again.resolve("recipe.resolved.yaml")));
  }

  @Test
  void globsChooseLayersAndTheReportSaysWhyOthersStayDense() throws IOException {
    Path out =
        specialize(
            "out",
            convNet,
            "--data",
            images,
            "--sparsity",
            "0.5",
            "--include",
            "conv*",
            "--exclude",
            "*3");
    OnnxModel written = written(out);
    assertTrue(zeros(written, "conv1") > 0);
    assertTrue(zeros(written, "conv2") > 0);
    assertEquals(0, zeros(written, "conv3"));
    assertEquals(0, zeros(written, "head"));
    JsonNode layers = report(out).path("layers");
    assertTrue(layers.get(0).path("whyDense").isNull());
    assertTrue(layers.get(2).path("whyDense").asText().contains("--exclude"));
    assertTrue(layers.get(2).path("layerError").isNull());
    assertTrue(report(out).path("notices").findValuesAsText("code").contains("layers-left-dense"));
  }

  @Test
  void overwriteReplacesAnEarlierRunOnly() throws IOException {
    Object[] task = arguments("specialize", mlp, "--data", mlpImages, "--sparsity", "0.5");
    Path out = folder.resolve("out");
    Cli.run(with(task, "--out", out)).succeeded();
    Files.writeString(out.resolve("mine.txt"), "goes with the folder");
    assertEquals(2, Cli.run(with(task, "--out", out)).exitCode());
    assertTrue(Files.exists(out.resolve("mine.txt")));
    Cli.run(with(task, "--out", out, "--overwrite")).succeeded();
    assertFalse(Files.exists(out.resolve("mine.txt")));

    Path other = Files.createDirectories(folder.resolve("other"));
    Files.writeString(other.resolve("precious.txt"), "no run folder");
    Cli.Result refused = Cli.run(with(task, "--out", other, "--overwrite"));
    assertEquals(2, refused.exitCode());
    assertTrue(refused.err().contains("other"), refused.err());
    assertTrue(Files.exists(other.resolve("precious.txt")));
    assertEquals(Set.of("other", "out"), filesIn(folder));
  }

  @Test
  void aSpecialistIsReadableToOthersLikeAnyFileOfTheirs() throws IOException {
    Path out = specialize("out", mlp, "--data", mlpImages, "--sparsity", "0.5");
    Path plain = Files.createDirectory(folder.resolve("plain"));
    assertEquals(Files.getPosixFilePermissions(plain), Files.getPosixFilePermissions(out));
  }

  @ParameterizedTest
  @ValueSource(longs = {1, 3})
  void modelsOfAFixedBatchGiveTheSameSpecialistAsOthers(long batch) throws IOException {
    Path fixed = TinyTask.convNet(folder.resolve("fixed.onnx"), new TinyTask.Input(batch, false));
    // 5 images a class: 3 does not divide their number.
    Path out = specialize("out", fixed, "--data", images, "--shots", "5", "--sparsity", "0.5");
    Path free = specialize("free", convNet, "--data", images, "--shots", "5", "--sparsity", "0.5");
    OnnxModel written = written(out);
    assertEquals(batch, written.inputs().getFirst().shape().getFirst());
    assertEquals(1.0, report(out).at("/dense/top1").asDouble());
    assertEquals(
        report(free).at("/compressed/top1").asDouble(),
        report(out).at("/compressed/top1").asDouble(),
        1.0 / 16);
    OnnxModel other = written(free);
    for (Layer layer : LayerDiscovery.discover(written)) {
      assertEquals(zeros(other, layer.name()), zeros(written, layer.name()));
      float[] expected = LayerWeights.unfold(other, layer, 0);
      float[] actual = LayerWeights.unfold(written, layer, 0);
      // Batches are added in other portions: float products, double sums.
      assertArrayEquals(expected, actual, 1e-3f, layer.name());
    }
  }

  @Test
  void channelsMayBeLast() throws IOException {
    Path nhwc = TinyTask.convNet(folder.resolve("nhwc.onnx"), new TinyTask.Input(1, true));
    Path out = specialize("out", nhwc, "--data", images, "--shots", "5", "--sparsity", "0.5");
    assertEquals(1.0, report(out).at("/dense/top1").asDouble());
    assertTrue(report(out).at("/compressed/top1").asDouble() > 0.5);
    assertTrue(report(out).at("/task/preprocessing").asText().contains("NHWC"));
  }

  @Test
  void theSpecialistCarriesItsPreprocessingItsClassesAndItsSplit() throws IOException {
    Path out =
        specialize(
            "out",
            convNet,
            "--data",
            images,
            "--classes",
            "c1,c3",
            "--sparsity",
            "0.5",
            "--seed",
            "9",
            "--test-fraction",
            "0.25");
    Cli.Result result =
        Cli.run("eval", out.resolve("model.onnx"), "--data", images, "--json").succeeded();
    JsonNode eval = JSON.readTree(result.out());
    // The folder has no test images: those that the run did not calibrate on, not all.
    assertEquals(6, eval.path("images").asInt());
    assertEquals(report(out).at("/compressed/top1"), eval.path("top1"));
    assertEquals(report(out).at("/task/preprocessing"), eval.path("preprocessing"));
    List<String> codes = eval.path("notices").findValuesAsText("code");
    assertTrue(codes.contains("split-by-seed"));
    assertFalse(codes.contains("preprocessing-overridden"));
    Cli.Result otherwise =
        Cli.run("eval", out.resolve("model.onnx"), "--data", images, "--preset", "unit", "--json");
    assertTrue(
        JSON.readTree(otherwise.succeeded().out())
            .path("notices")
            .findValuesAsText("code")
            .contains("preprocessing-overridden"));

    JsonNode all =
        JSON.readTree(
            Cli.run(
                    "eval",
                    out.resolve("model.onnx"),
                    "--data",
                    images,
                    "--json",
                    "--test-fraction",
                    "1")
                .succeeded()
                .out());
    assertEquals(24, all.path("images").asInt());
    JsonNode dense =
        JSON.readTree(Cli.run("eval", convNet, "--data", images, "--json").succeeded().out());
    assertEquals(48, dense.path("images").asInt(), "a dense model has calibrated on none of them");
    assertFalse(dense.path("notices").findValuesAsText("code").contains("split-by-seed"));
    assertEquals(1.0, dense.path("top1").asDouble());
    assertEquals(1.0, dense.path("top5").asDouble());
    JsonNode half =
        JSON.readTree(
            Cli.run(
                    "eval",
                    convNet,
                    "--data",
                    images,
                    "--json",
                    "--test-fraction",
                    "0.5",
                    "--seed",
                    "1")
                .succeeded()
                .out());
    assertEquals(24, half.path("images").asInt());
  }

  @Test
  void structuredPruningMakesTheModelSmaller() throws IOException {
    Path out = specialize("structured", mlp, "--data", mlpImages, "--structured", "0.5");

    JsonNode report = report(out);
    assertTrue(report.path("structures").size() > 0, report.toString());
    OnnxModel dense = OnnxModel.read(mlp);
    OnnxModel written = OnnxModel.read(out.resolve("model.onnx"));
    for (JsonNode structure : report.path("structures")) {
      int units = structure.path("units").asInt();
      assertEquals(units - units / 2, structure.path("kept").asInt());
      String producer = structure.path("name").asText();
      String consumer = structure.path("consumer").asText();
      assertEquals(units, layer(dense, producer).rows());
      assertEquals(units - units / 2, layer(written, producer).rows());
      assertEquals(units - units / 2, layer(written, consumer).cols());
      assertTrue(structure.path("heldOutError").isNumber());
    }
    long macs = report.at("/compressed/macs").asLong();
    assertTrue(macs < report.at("/dense/macs").asLong());
    long weights = 0;
    for (Layer layer : LayerDiscovery.discover(written)) {
      weights += layer.parameters() - LayerWeights.zeros(written, layer);
    }
    assertEquals(weights, report.at("/compressed/nonZeroWeights").asLong());
  }

  @Test
  void weightsCanBePrunedInTheSmallerModel() throws IOException {
    Path out =
        specialize(
            "both",
            mlp,
            "--data",
            mlpImages,
            "--structured",
            "0.5",
            "--sparsity",
            "0.5",
            "--classifier",
            "prune");

    OnnxModel written = OnnxModel.read(out.resolve("model.onnx"));
    for (Layer layer : LayerDiscovery.discover(written)) {
      assertTrue(2 * LayerWeights.zeros(written, layer) >= layer.parameters(), layer.name());
    }
    assertTrue(report(out).path("sparsity").asDouble() > 0.7, "a half of a smaller model's");
  }

  @Test
  void unitsAreKeptInGroupsThatTheLaterPatternNeeds() throws IOException {
    Path out =
        specialize(
            "groups",
            mlp,
            "--data",
            mlpImages,
            "--structured",
            "0.3",
            "--pattern",
            "2:4",
            "--classifier",
            "prune");

    for (JsonNode structure : report(out).path("structures")) {
      assertEquals(0, structure.path("kept").asInt() % 4, structure.toString());
    }
    OnnxModel written = OnnxModel.read(out.resolve("model.onnx"));
    for (Layer layer : LayerDiscovery.discover(written)) {
      assertTrue(2 * LayerWeights.zeros(written, layer) >= layer.parameters(), layer.name());
    }
  }

  @Test
  void layersThatAreExcludedKeepAllUnits() throws IOException {
    Path out =
        specialize("excluded", mlp, "--data", mlpImages, "--structured", "0.5", "--exclude", "fc1");

    OnnxModel dense = OnnxModel.read(mlp);
    OnnxModel written = OnnxModel.read(out.resolve("model.onnx"));
    assertArrayEquals(
        LayerWeights.unfold(dense, layer(dense, "fc1"), 0),
        LayerWeights.unfold(written, layer(written, "fc1"), 0));
    assertEquals(1, report(out).path("structures").size());
    assertTrue(report(out).path("notices").toString().contains("structures-left"));
    for (JsonNode layer : report(out).path("layers")) {
      boolean solved = layer.path("solver").asText().equals("ziplm");
      assertEquals(solved, layer.path("whyDense").isNull(), layer.toString());
    }
    assertEquals(
        2,
        Cli.run(
                "specialize",
                mlp,
                "--data",
                mlpImages,
                "--structured",
                "0.5",
                "--include",
                "fc1",
                "--out",
                folder.resolve("none"))
            .exitCode());
  }

  @Test
  void quantisedWeightsAreStoredAsIntegersAndKeepTheirZeros() throws IOException {
    Path out =
        specialize(
            "int8", convNet, "--data", images, "--sparsity", "0.5", "--bits", "8", "--seed", "1");

    OnnxModel written = OnnxModel.read(out.resolve("model.onnx"));
    List<Layer> layers = LayerDiscovery.discover(written);
    assertEquals(layers.size(), written.operatorCounts().get("DequantizeLinear"));
    for (Layer layer : layers) {
      assertTrue(2 * LayerWeights.zeros(written, layer) >= layer.parameters(), layer.name());
    }
    JsonNode report = report(out);
    assertTrue(report.path("sparsity").asDouble() >= 0.5);
    assertTrue(report.at("/compressed/top1").asDouble() > 0.5, "far above chance, 0.25");
  }

  @Test
  void integerLayersKeepTheirZerosAndTheReportHasTheirRanges() throws IOException {
    assumeTrue(OperatorLibrary.isAvailable(), "no operator library was built: no cmake?");
    Path out =
        specialize(
            "integers",
            convNet,
            "--data",
            images,
            "--pattern",
            "block4:0.5",
            "--misfit",
            "dense",
            "--bits",
            "8",
            "--activation-bits",
            "8",
            "--classifier",
            "prune",
            "--runtime",
            "taco4j");

    OnnxModel written = OnnxModel.read(out.resolve("model.onnx"));
    assertFalse(written.operatorCounts().containsKey("Conv"), written.operatorCounts().toString());
    Map<String, Long> zeros = IntegerOperators.zeros(written);
    assertTrue(2 * zeros.get("conv2") >= 8 * 4 * 9, zeros.toString());
    assertTrue(2 * zeros.get("conv3") >= 16 * 8, zeros.toString());
    JsonNode report = report(out);
    long nonZero = 0;
    for (JsonNode layer : report.path("layers")) {
      nonZero +=
          Math.round(layer.path("parameters").asLong() * (1 - layer.path("sparsity").asDouble()));
      assertEquals(
          zeros.get(layer.path("name").asText()) / layer.path("parameters").asDouble(),
          layer.path("sparsity").asDouble(),
          1e-12,
          layer.toString());
    }
    assertEquals(nonZero, report.at("/compressed/nonZeroWeights").asLong());
    assertEquals(report.at("/dense/macs"), report.at("/compressed/macs"));
    // Steps of 1/255, and images on which the network is sure of its answer.
    assertTrue(report.at("/compressed/top1").asDouble() > 0.5, "far above chance, 0.25");
    JsonNode activations = report.path("activations");
    assertEquals(8, activations.path("bits").asInt());
    assertTrue(activations.path("scoreDistance").asDouble() < 0.1, activations.toString());
    assertFalse(activations.at("/floatActivations/top1").isMissingNode());
    assertEquals(4, activations.path("layers").size());
    for (JsonNode layer : activations.path("layers")) {
      assertTrue(layer.path("whyFloat").isNull(), layer.toString());
      // Three input channels are no block of four, so the first is not solved.
      assertEquals(layer.path("name").asText().equals("conv1"), layer.path("rounded").asBoolean());
    }
    assertEquals("images", activations.at("/ranges/0/tensor").asText());
    for (JsonNode range : activations.path("ranges")) {
      assertTrue(range.path("minimum").asDouble() <= 0 && range.path("maximum").asDouble() >= 0);
      assertTrue(range.path("lowest").asDouble() <= range.path("highest").asDouble());
    }
    String page = Files.readString(out.resolve("report.html"));
    // Whether operators of the library are faster here is for this machine to say.
    boolean sparse = written.hasSparseOperators();
    assertTrue(activations.path("libraryRatio").isNumber(), activations.toString());
    assertEquals(sparse, activations.path("libraryRatio").asDouble() >= 1.02);
    assertEquals(!sparse, report.path("notices").toString().contains("operators-not-used"));
    for (int i = 0; i < 4; i++) {
      assertEquals(
          activations.path("layers").path(i).path("operator"),
          report.path("layers").path(i).path("operator").path("name"));
    }
    assertEquals(
        sparse,
        Files.readString(out.resolve("MODEL_CARD.md")).contains("Layers are sparse operators"));
    assertEquals(sparse, page.contains("taco export --library DIR"));
    assertEquals(
        written.hasSparseOperators(), page.contains("register_custom_ops_library"), "Python");
    assertEquals(written.hasSparseOperators(), page.contains("RegisterCustomOpsLibrary"), "C++");
    String ranges = activations.path("ranges").size() + " activations in 8 bits";
    assertTrue(page.contains("Ranges of " + ranges), ranges);
  }

  @Test
  void excludedLayersMultiplyFloats() throws IOException {
    Path out =
        specialize(
            "mixed",
            convNet,
            "--data",
            images,
            "--sparsity",
            "0.5",
            "--bits",
            "8",
            "--activation-bits",
            "8",
            "--activation-range",
            "percentile",
            "--exclude",
            "conv2");
    OnnxModel written = OnnxModel.read(out.resolve("model.onnx"));
    assertEquals(1, written.operatorCounts().get("Conv"));
    assertFalse(written.hasSparseOperators(), "those are for --runtime taco4j");
    JsonNode activations = report(out).path("activations");
    assertEquals("percentile", activations.path("range").asText());
    assertEquals("left out", activations.at("/layers/1/whyFloat").asText());
  }

  @Test
  void layersThatDoNotBearEightBitsStayFloat() throws IOException {
    // One channel between the first two layers is 10,000 times as wide: no step is left to others.
    OnnxModel model = OnnxModel.read(convNet);
    Layer first = layer(model, "conv1");
    Layer second = layer(model, "conv2");
    float[][] wide = LayerWeights.unfold(model, first);
    for (int i = 0; i < first.cols(); i++) {
      wide[0][i] *= 10_000;
    }
    LayerWeights.fold(model, first, wide);
    float[] bias = LayerWeights.bias(model, first);
    bias[0] *= 10_000;
    LayerWeights.setBias(model, first, bias);
    float[][] narrow = LayerWeights.unfold(model, second);
    for (int row = 0; row < second.rows(); row++) {
      for (int tap = 0; tap < 9; tap++) {
        narrow[0][row * second.cols() + tap] /= 10_000;
      }
    }
    LayerWeights.fold(model, second, narrow);
    Path file = folder.resolve("wide.onnx");
    model.write(file);

    Path out =
        specialize(
            "guarded",
            file,
            "--data",
            images,
            "--sparsity",
            "0.25",
            "--bits",
            "8",
            "--activation-bits",
            "8");
    JsonNode activations = report(out).path("activations");
    for (JsonNode layer : activations.path("layers")) {
      boolean stays = List.of("conv1", "conv2").contains(layer.path("name").asText());
      assertEquals(
          stays, layer.path("whyFloat").asText().contains("alone moves"), layer.toString());
    }
    assertTrue(activations.path("scoreDistance").asDouble() < 0.1, activations.toString());
    assertEquals(2, OnnxModel.read(out.resolve("model.onnx")).operatorCounts().get("Conv"));
    long noted = 0;
    for (JsonNode notice : report(out).path("notices")) {
      noted += notice.path("code").asText().equals("layer-left-float") ? 1 : 0;
    }
    assertEquals(2, noted, "and not the classifier");
  }

  @Test
  void activationBitsNeedIntegerWeights() {
    for (List<String> options :
        List.of(
            List.of("--activation-bits", "8"),
            List.of("--bits", "8", "--activation-bits", "4"),
            List.of("--bits", "8", "--activation-range", "mse"),
            List.of("--bits", "8", "--activation-bits", "8", "--activation-range", "msr"))) {
      List<Object> all = new ArrayList<>();
      all.addAll(List.of("specialize", convNet, "--data", images, "--sparsity", "0.5"));
      all.addAll(options);
      all.addAll(List.of("--out", folder.resolve("x")));
      Cli.Result result = Cli.run(all.toArray());
      assertEquals(2, result.exitCode(), options + result.err());
    }
  }

  @Test
  void whatStructuredPruningCannotDoIsAnError() {
    checkStructuresRefused("heads", 3, "no hidden dimension of kind [heads]");
    checkStructuresRefused("rows", 2, "mlp, channels, heads");
  }

  private void checkStructuresRefused(String kind, int exitCode, String words) {
    Cli.Result result =
        Cli.run(
            "specialize",
            convNet,
            "--data",
            images,
            "--structured",
            "0.5",
            "--structures",
            kind,
            "--out",
            folder.resolve("x"));
    assertEquals(exitCode, result.exitCode(), result.err());
    assertTrue(result.err().contains(words), result.err());
    assertFalse(Files.exists(folder.resolve("x")));
  }
}
