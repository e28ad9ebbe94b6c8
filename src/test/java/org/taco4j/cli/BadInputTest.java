package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.awt.image.BufferedImage;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import java.util.zip.CRC32;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.TinyTask;
import org.taco4j.onnx.ModelBuilder;

/**
 * What bad input gets: its exit code, a message that names what is wrong, no stack trace, and no
 * output folder, hidden ones included.
 */
class BadInputTest {
  private static final int USAGE = 2;
  private static final int MODEL = 3;
  private static final int DATA = 4;
  private static final int RUNTIME = 7;

  @TempDir static Path shared;
  private static Path model;
  private static Path images;

  @TempDir Path folder;

  /** Where the output would stand. */
  private Path outputs;

  @BeforeAll
  static void makeTask() {
    model = TinyTask.convNet(shared.resolve("conv.onnx"), TinyTask.Input.FREE);
    images = TinyTask.images(shared.resolve("images"), model, 12);
  }

  @BeforeEach
  void makeOutputs() throws IOException {
    outputs = Files.createDirectory(folder.resolve("outputs"));
  }

  @AfterEach
  void nothingIsHalfWritten() throws IOException {
    try (Stream<Path> files = Files.list(outputs)) {
      assertEquals(List.of(), files.toList());
    }
  }

  /** Runs specialize with these arguments and holds the promises that all errors share. */
  private String refused(int exitCode, Path network, Path data, Object... more) {
    List<Object> arguments =
        new ArrayList<>(List.of("specialize", network, "--data", data, "--out"));
    arguments.add(outputs.resolve("a").resolve("run"));
    arguments.addAll(Arrays.asList(more));
    if (!arguments.contains("--sparsity") && !arguments.contains("--pattern")) {
      arguments.addAll(List.of("--sparsity", "0.5"));
    }
    return checked(exitCode, Cli.run(arguments.toArray()));
  }

  private static String checked(int exitCode, Cli.Result result) {
    assertEquals(exitCode, result.exitCode(), result.err());
    List<String> messages = result.err().lines().filter(line -> line.startsWith("taco: ")).toList();
    assertEquals(1, messages.size(), result.err());
    assertTrue(messages.getFirst().length() > 20, messages.getFirst());
    assertFalse(result.err().contains("\tat "), result.err());
    assertEquals("", result.out());
    return messages.getFirst();
  }

  private static void assertNames(String message, Object... parts) {
    for (Object part : parts) {
      assertTrue(message.contains(part.toString()), () -> message + "\ndoes not name " + part);
    }
  }

  @Test
  void aFileThatIsNoModel() throws IOException {
    Path text = Files.writeString(folder.resolve("notes.onnx"), "This is no model.\n".repeat(30));
    assertNames(refused(MODEL, text, images), "notes.onnx");
    assertNames(refused(MODEL, folder.resolve("absent.onnx"), images), "absent.onnx");
    Path empty = Files.createFile(folder.resolve("empty.onnx"));
    assertNames(refused(MODEL, empty, images), "empty.onnx");
    assertNames(refused(MODEL, folder, images), folder.getFileName());
  }

  @ParameterizedTest
  @ValueSource(doubles = {0.1, 0.5, 0.99})
  void aTruncatedModel(double part) throws IOException {
    byte[] bytes = Files.readAllBytes(model);
    Path cut = folder.resolve("cut.onnx");
    Files.write(cut, Arrays.copyOf(bytes, (int) (part * bytes.length)));
    assertNames(refused(MODEL, cut, images), "cut.onnx");
  }

  @Test
  void aCorruptModel() throws IOException {
    byte[] bytes = Files.readAllBytes(model);
    Path corrupt = folder.resolve("corrupt.onnx");
    Random random = new Random(1);
    int refusals = 0;
    for (int round = 0; round < 20; round++) {
      byte[] changed = bytes.clone();
      // The first bytes hold the headers; further on, most bytes are weights.
      for (int i = 0; i < 10; i++) {
        changed[random.nextInt(400)] = (byte) random.nextInt();
      }
      Files.write(corrupt, changed);
      Cli.Result result = Cli.run("inspect", corrupt);
      assertFalse(result.err().contains("internal error"), result.err());
      refusals += result.exitCode() == MODEL ? 1 : 0;
    }
    assertTrue(refusals >= 15, refusals + " of 20 corrupt files were refused");
  }

  @Test
  void aModelWithoutAnythingToPrune() throws IOException {
    Path nothing =
        new ModelBuilder(17)
            .input("images", -1, 3, 8, 8)
            .node("pool", "GlobalAveragePool", List.of("images"), List.of("p"))
            .node("flatten", "Flatten", List.of("p"), List.of("logits"))
            .output("logits", -1, 3)
            .write(folder.resolve("pooling.onnx"));
    assertNames(refused(MODEL, nothing, threeClasses()), "pooling.onnx", "prunable");
  }

  @Test
  void aModelWhoseOnlyConvolutionsAreDepthwise() throws IOException {
    Path depthwise =
        new ModelBuilder(17)
            .input("images", -1, 3, 8, 8)
            .random("w", 3, 1, 3, 3)
            .node(
                "dw",
                "Conv",
                List.of("images", "w"),
                List.of("c"),
                ModelBuilder.attribute("group", 3))
            .node("pool", "GlobalAveragePool", List.of("c"), List.of("p"))
            .node("flatten", "Flatten", List.of("p"), List.of("logits"))
            .output("logits", -1, 3)
            .write(folder.resolve("depthwise.onnx"));
    String message = refused(MODEL, depthwise, threeClasses());
    assertNames(message, "depthwise.onnx", "prunable", "dw");
  }

  private Path threeClasses() throws IOException {
    Path data = copyOfImages();
    for (Path file : filesIn(data.resolve("c3"))) {
      Files.delete(file);
    }
    Files.delete(data.resolve("c3"));
    return data;
  }

  @ParameterizedTest
  @ValueSource(floats = {Float.NaN, Float.POSITIVE_INFINITY})
  void weightsThatAreNotFinite(float value) {
    float[] weights = new float[4 * 192];
    Arrays.fill(weights, 0.1f);
    weights[77] = value;
    Path broken =
        new ModelBuilder(17)
            .input("images", -1, 3, 8, 8)
            .floats("weights_of_fc", new long[] {192, 4}, weights)
            .node("flatten", "Flatten", List.of("images"), List.of("f"))
            .node("fc", "MatMul", List.of("f", "weights_of_fc"), List.of("logits"))
            .output("logits", -1, 4)
            .write(folder.resolve("broken.onnx"));
    assertNames(refused(MODEL, broken, images), "broken.onnx", "weights_of_fc");
  }

  private Path linear(int opset, ModelBuilder builder) {
    return builder
        .random("w", 192, 4)
        .node("flatten", "Flatten", List.of("images"), List.of("f"))
        .node("fc", "MatMul", List.of("f", "w"), List.of("logits"))
        .output("logits", -1, 4)
        .write(folder.resolve("opset" + opset + ".onnx"));
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 6, 99})
  void anOpsetThatTheRuntimeRefuses(int opset) {
    Path old = linear(opset, new ModelBuilder(opset).input("images", -1, 3, 8, 8));
    assertNames(refused(MODEL, old, images), "opset" + opset + ".onnx", String.valueOf(opset));
  }

  @Test
  void anOperatorThatTheRuntimeDoesNotHave() {
    Path unknown =
        new ModelBuilder(17)
            .input("images", -1, 3, 8, 8)
            .random("w", 192, 4)
            .node("strange", "Teleport", List.of("images"), List.of("t"))
            .node("flatten", "Flatten", List.of("t"), List.of("f"))
            .node("fc", "MatMul", List.of("f", "w"), List.of("logits"))
            .output("logits", -1, 4)
            .write(folder.resolve("unknown.onnx"));
    assertNames(refused(MODEL, unknown, images), "unknown.onnx", "Teleport");
  }

  @Test
  void anInputThatCannotBeAnImage() {
    Path unranked = linear(17, new ModelBuilder(17).inputOfUnknownRank("images"));
    assertNames(refused(MODEL, unranked, images), "opset17.onnx", "images");
    Path grey = linear(17, new ModelBuilder(17).input("images", -1, 1, 8, 24));
    assertNames(refused(MODEL, grey, images), "opset17.onnx", "images");
    Path flat = linear(17, new ModelBuilder(17).input("images", -1, 192));
    assertNames(refused(MODEL, flat, images), "opset17.onnx", "images");
    Path two = linear(17, new ModelBuilder(17).input("images", -1, 3, 8, 8).input("more", 1));
    assertNames(refused(MODEL, two, images), "opset17.onnx", "more");
  }

  /** A copy of the images to be spoilt. */
  private Path copyOfImages() throws IOException {
    Path copy = folder.resolve("data");
    try (Stream<Path> files = Files.walk(images)) {
      for (Path file : files.toList()) {
        Files.copy(file, copy.resolve(images.relativize(file).toString()));
      }
    }
    return copy;
  }

  private static List<Path> filesIn(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.sorted().toList();
    }
  }

  @Test
  void anEmptyClassFolder() throws IOException {
    Path data = copyOfImages();
    for (Path file : filesIn(data.resolve("c2"))) {
      Files.delete(file);
    }
    assertNames(refused(DATA, model, data), "c2");
    assertNames(refused(DATA, model, Files.createDirectory(folder.resolve("none"))), "none");
    assertNames(refused(DATA, model, folder.resolve("absent")), "absent");
  }

  @Test
  void aClassWithoutACalibrationImage() throws IOException {
    Path data = folder.resolve("data");
    for (Path classFolder : filesIn(images)) {
      String name = classFolder.getFileName().toString();
      for (Path file : filesIn(classFolder)) {
        boolean train = !name.equals("c1") && file.compareTo(classFolder.resolve("i006.png")) < 0;
        Path to = data.resolve(train ? "train" : "test").resolve(name);
        Files.createDirectories(to);
        Files.copy(file, to.resolve(file.getFileName()));
      }
    }
    assertNames(refused(DATA, model, data), "c1");
  }

  @Test
  void aClassThatTheModelDoesNotHave() throws IOException {
    Path data = copyOfImages();
    Files.writeString(
        data.resolve("classes.tsv"),
        "folder\tmodel_index\tname\nc0\t0\tcat\nc1\t1\tdog\nc2\t2\towl\nc3\t4\teel\n");
    assertNames(refused(DATA, model, data), "eel", "4");
    assertNames(refused(DATA, model, data, "--classes", "cat,gnu"), "gnu");
    Files.delete(data.resolve("classes.tsv"));
    Files.move(data.resolve("c3"), data.resolve("x"));
    Files.createDirectory(data.resolve("y"));
    Files.copy(data.resolve("x").resolve("i000.png"), data.resolve("y").resolve("i.png"));
    assertNames(refused(DATA, model, data), "y");
  }

  @Test
  void unreadableImagesAboveFivePercent() throws IOException {
    Path data = copyOfImages();
    List<Path> files = new ArrayList<>();
    for (Path classFolder : filesIn(data)) {
      files.addAll(filesIn(classFolder));
    }
    for (Path file : files) {
      Files.writeString(file, "no image: " + file.getFileName() + file.getParent());
    }
    assertNames(refused(DATA, model, data), "c0");
    // One class of four.
    Path spoilt = folder.resolve("data");
    for (Path file : files) {
      if (!file.startsWith(spoilt.resolve("c1"))) {
        Files.copy(
            images.resolve(data.relativize(file).toString()),
            file,
            java.nio.file.StandardCopyOption.REPLACE_EXISTING);
      }
    }
    assertNames(refused(DATA, model, spoilt), "c1");
  }

  @Test
  void upToFivePercentUnreadableImagesAreSkippedAndCounted() throws IOException {
    Path data = folder.resolve("data");
    for (Path classFolder : filesIn(images)) {
      for (Path file : filesIn(classFolder)) {
        boolean train = file.compareTo(classFolder.resolve("i006.png")) < 0;
        Path to = data.resolve(train ? "train" : "test").resolve(classFolder.getFileName());
        Files.createDirectories(to);
        Files.copy(file, to.resolve(file.getFileName()));
      }
    }
    // 1 of 24 test images is 4.2 %.
    Files.writeString(data.resolve("test/c1/i008.png"), "no image");
    Path out = folder.resolve("out");
    Cli.run("specialize", model, "--data", data, "--sparsity", "0.5", "--out", out).succeeded();
    JsonNode report = new ObjectMapper().readTree(out.resolve("report.json").toFile());
    assertEquals(23, report.at("/dense/images").asInt());
    assertEquals(23, report.at("/compressed/images").asInt());
    List<String> codes = report.path("notices").findValuesAsText("code");
    assertEquals(1, codes.stream().filter("image-skipped"::equals).count(), codes.toString());
  }

  @Test
  void anImageOfMoreThanAHundredMegapixelsIsNotDecoded() throws IOException {
    Path data = copyOfImages();
    // A PNG header that promises 20,000 x 20,000 pixels, which would take 1.6 GB.
    Path huge = data.resolve("c0").resolve("huge.png");
    try (DataOutputStream out = new DataOutputStream(Files.newOutputStream(huge))) {
      out.write(new byte[] {(byte) 0x89, 'P', 'N', 'G', 13, 10, 26, 10});
      java.nio.ByteBuffer chunk = java.nio.ByteBuffer.allocate(17);
      chunk.put(new byte[] {'I', 'H', 'D', 'R'}).putInt(20_000).putInt(20_000);
      chunk.put(new byte[] {8, 2, 0, 0, 0});
      CRC32 crc = new CRC32();
      crc.update(chunk.array());
      out.writeInt(13);
      out.write(chunk.array());
      out.writeInt((int) crc.getValue());
    }
    assertNames(refused(DATA, model, data), "huge.png", "20000");
  }

  @Test
  void aTestImageThatIsAmongTheCalibrationImages() throws IOException {
    Path data = folder.resolve("data");
    for (Path classFolder : filesIn(images)) {
      Path train = data.resolve("train").resolve(classFolder.getFileName());
      Path test = data.resolve("test").resolve(classFolder.getFileName());
      Files.createDirectories(train);
      Files.createDirectories(test);
      Files.copy(classFolder.resolve("i000.png"), train.resolve("a.png"));
      Files.copy(classFolder.resolve("i001.png"), test.resolve("b.png"));
    }
    Files.copy(images.resolve("c2/i000.png"), data.resolve("test/c2/other-name.png"));
    assertNames(refused(DATA, model, data), "other-name.png", "a.png");
  }

  @Test
  void aModelAtChancePointsToThePreprocessing() throws IOException {
    // Labels by turns: the network can only guess.
    Path data = folder.resolve("data");
    Random random = new Random(17);
    for (int i = 0; i < 120; i++) {
      BufferedImage image = TinyTask.picture(random);
      TinyTask.write(image, data.resolve("c" + i % 4).resolve("i" + i + ".png"));
    }
    Cli.Result result =
        Cli.run(
            "specialize",
            model,
            "--data",
            data,
            "--sparsity",
            "0.5",
            "--out",
            outputs.resolve("run"),
            "--mean",
            "5,5,5");
    String message = checked(DATA, result);
    assertNames(message, "conv.onnx", "first suspect is the preprocessing", "mean 5");
  }

  @ParameterizedTest
  @ValueSource(strings = {"1", "1.5", "-0.1", "NaN"})
  void aSparsityOutsideItsRange(String sparsity) {
    assertNames(refused(USAGE, model, images, "--sparsity", sparsity), "sparsity", sparsity);
  }

  @Test
  void optionsThatDoNotGoTogether() {
    assertNames(
        refused(USAGE, model, images, "--sparsity", "0.5", "--sweeps", "2"), "--sweeps", "--bits");
    assertNames(
        refused(USAGE, model, images, "--solver", "gptq", "--bits", "4", "--search", "swap"),
        "--search swap",
        "gptq");
    assertNames(
        refused(USAGE, model, images, "--sparsity", "0", "--structured", "0.5", "--search", "full"),
        "--search",
        "--structured");
  }

  @Test
  void aPatternThatDoesNotDivide() {
    assertNames(refused(USAGE, model, images, "--pattern", "2:4"), "2:4", "conv1");
    assertNames(
        refused(USAGE, model, images, "--pattern", "block3", "--sparsity", "0.5"),
        "block3",
        "conv2",
        "conv3",
        "head");
  }

  @ParameterizedTest
  @CsvSource({
    "--pattern, 4:2",
    "--pattern, 0:4",
    "--pattern, stripes",
    "--pattern, block4",
    "--solver, best",
    "--solver, gptq",
    "--correct, mean",
    "--shots, -1",
    "--shots, many",
    "--held-out, -1",
    "--test-fraction, 0",
    "--test-fraction, 1",
    "--damping, -1",
    "--damping, NaN",
    "--threads, 0",
    "--memory, lots",
    "--memory, 0",
    "--backend, gpu",
    "--include, nothing*",
    "--exclude, nothing*",
    "--exclude, *",
    "--preset, moon",
    "--mean, '1,2'",
    "--std, '0,0,0'",
    "--filter, wobbly",
    "--resize, -4",
    "--crop, big",
    "--channel-order, grb",
    "--layout, chwn",
    "--unknown, 1",
  })
  void anOptionThatCannotBeMeant(String option, String value) {
    refused(USAGE, model, images, option, value);
  }

  @Test
  void aCropThatTheModelDoesNotTake() {
    assertNames(refused(DATA, model, images, "--crop", "16"), "conv.onnx", "8x8", "16x16");
    assertNames(refused(DATA, model, images, "--layout", "nhwc"), "conv.onnx", "NHWC");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "sparsty: 0.5",
        "sparsity: lots",
        "data: {a: b}",
        "sparsity: 0.5\nlayers: [{sparsity: 0.2}]",
        "sparsity: 0.5\nlayers: [{match: 'x*', sparsity: 0.2}]",
        "sparsity: 0.5\nlayers: [{match: '*', sparsity: 1.2}]",
        "sparsity: 0.5\nlayers: [{match: '*', solver: best}]",
        "sparsity: 0.5\nlayers: [{match: '*', speed: 1}]",
        "- 1",
        "sparsity: [",
      })
  void aRecipeThatIsNone(String yaml) throws IOException {
    Path recipe = Files.writeString(folder.resolve("recipe.yaml"), yaml);
    Cli.Result result =
        Cli.run(
            "specialize",
            model,
            "--data",
            images,
            "--recipe",
            recipe,
            "--out",
            outputs.resolve("run"));
    checked(USAGE, result);
  }

  @Test
  void anUnknownRecipeKeyIsNamedWithItsLine() throws IOException {
    Path recipe = Files.writeString(folder.resolve("recipe.yaml"), "shots: 4\nsparsty: 0.5\n");
    Cli.Result result =
        Cli.run(
            "specialize",
            model,
            "--data",
            images,
            "--recipe",
            recipe,
            "--out",
            outputs.resolve("run"));
    assertNames(checked(USAGE, result), "recipe.yaml", "sparsty", "sparsity");
    Cli.Result absent =
        Cli.run(
            "specialize",
            model,
            "--recipe",
            folder.resolve("absent.yaml"),
            "--out",
            outputs.resolve("run"));
    assertNames(checked(USAGE, absent), "absent.yaml");
  }

  @Test
  void missingArguments() {
    assertNames(checked(USAGE, Cli.run("specialize", model, "--data", images)), "--out");
    Path out = outputs.resolve("run");
    assertNames(checked(USAGE, Cli.run("specialize", "--out", out)), "model");
    assertNames(checked(USAGE, Cli.run("specialize", model, "--out", out)), "--data");
    assertNames(
        checked(USAGE, Cli.run("specialize", model, "--data", images, "--out", out)), "--sparsity");
    checked(USAGE, Cli.run("eval", model));
    checked(USAGE, Cli.run("bench", model));
    checked(USAGE, Cli.run("inspect"));
    checked(USAGE, Cli.run("specialise"));
    checked(USAGE, Cli.run());
  }

  @Test
  void anOutputFolderThatCannotBe() throws IOException {
    Path file = Files.createFile(folder.resolve("file"));
    Cli.Result onFile =
        Cli.run("specialize", model, "--data", images, "--sparsity", "0.5", "--out", file);
    assertNames(checked(USAGE, onFile), file.getFileName());
    Cli.Result overFile =
        Cli.run(
            "specialize",
            model,
            "--data",
            images,
            "--sparsity",
            "0.5",
            "--out",
            file,
            "--overwrite");
    assertNames(checked(USAGE, overFile), file.getFileName());
    assertTrue(Files.isRegularFile(file));
    Cli.Result underFile =
        Cli.run(
            "specialize",
            model,
            "--data",
            images,
            "--sparsity",
            "0.5",
            "--out",
            file.resolve("run"));
    assertNames(checked(RUNTIME, underFile), "run");
  }

  @Test
  void aFullDisk() {
    // The one device of Linux that is always full stands in for the file system.
    Path full = Path.of("/dev/full");
    assumeTrue(Files.exists(full), "no /dev/full on this system");
    org.taco4j.common.TacoException e =
        org.junit.jupiter.api.Assertions.assertThrows(
            org.taco4j.common.TacoException.class,
            () ->
                org.taco4j.common.AtomicFiles.write(
                    outputs.resolve("model.onnx"),
                    out -> {
                      out.write(new byte[1 << 10]);
                      try (var device = Files.newOutputStream(full)) {
                        device.write(1);
                      }
                    }));
    assertEquals(RUNTIME, e.kind().exitCode());
    assertNames(e.getMessage(), "model.onnx", "No space left");
  }

  @Test
  void evalOfImagesThatFitNoOutput() throws IOException {
    Path data = copyOfImages();
    Files.move(data.resolve("c3"), data.resolve("x"));
    Files.createDirectory(data.resolve("y"));
    Files.copy(data.resolve("x").resolve("i000.png"), data.resolve("y").resolve("i.png"));
    assertNames(checked(DATA, Cli.run("eval", model, "--data", data)), "y");
    checked(USAGE, Cli.run("eval", model, "--data", images, "--test-fraction", "2"));
    checked(USAGE, Cli.run("eval", model, "--data", images, "--threads", "0"));
  }

  @Test
  void benchOfModelsThatTakeDifferentImages() {
    Path other = linear(17, new ModelBuilder(17).input("images", -1, 3, 4, 16));
    String message =
        checked(MODEL, Cli.run("bench", model, "--against", other, "--seconds", "0.1"));
    assertNames(message, "opset17.onnx", "conv.onnx", "16");
    checked(USAGE, Cli.run("bench", model, "--against", model, "--batch", "0"));
  }
}
