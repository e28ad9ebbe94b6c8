package org.taco4j;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.Graphics2D;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.cli.Cli;
import org.taco4j.common.TacoException;
import org.taco4j.compute.ChildJvm;
import org.taco4j.onnx.OnnxModel;

/** A specialist in use: from Java, and from the command line. */
class SpecialistTest {
  @TempDir static Path shared;
  private static Path model;

  /** Pictures of several sizes, which go through both ways of resizing. */
  private static List<Path> pictures;

  @TempDir Path folder;

  @BeforeAll
  static void makeSpecialist() {
    model = specialist(shared, TinyTask.Input.FREE);
    pictures = pictures(shared.resolve("pictures"), 60);
  }

  private static Path specialist(Path folder, TinyTask.Input input) {
    Path dense = TinyTask.convNet(folder.resolve("dense.onnx"), input);
    Path images = TinyTask.images(folder.resolve("images"), dense, 6);
    Taco.specialize(dense)
        .data(images)
        .shots(3)
        .sparsity(0.5)
        .solver("wanda")
        .threads(1)
        .to(folder.resolve("out"));
    return folder.resolve("out").resolve("model.onnx");
  }

  private static List<Path> pictures(Path folder, int count) {
    Random random = new Random(5);
    List<Path> files = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      // Up to 8 pixels are resized straight to the crop, more to the short side first.
      int side = 6 + 10 * (i % 10);
      files.add(folder.resolve("p%02d.png".formatted(i)));
      TinyTask.write(scaled(TinyTask.picture(random), side + 13, side), files.getLast());
    }
    return files;
  }

  private static BufferedImage scaled(BufferedImage image, int width, int height) {
    BufferedImage large = new BufferedImage(width, height, BufferedImage.TYPE_INT_RGB);
    Graphics2D graphics = large.createGraphics();
    graphics.drawImage(image, 0, 0, width, height, null);
    graphics.dispose();
    return large;
  }

  @ParameterizedTest
  @CsvSource({"-1, false", "3, false", "-1, true"})
  void saysWhatEvalSays(long batch, boolean channelsLast) throws IOException {
    Path file = specialist(folder, new TinyTask.Input(batch, channelsLast));
    Path sorted = folder.resolve("sorted");
    List<Specialist.Prediction> predictions;
    try (Specialist specialist = Specialist.open(file, 2)) {
      predictions = specialist.classify(pictures);
    }
    for (int i = 0; i < pictures.size(); i++) {
      Path to = sorted.resolve(predictions.get(i).classes().getFirst().folder());
      Files.createDirectories(to);
      Files.copy(pictures.get(i), to.resolve(pictures.get(i).getFileName()));
    }
    // With each image in the folder that the specialist gave it, eval agrees on all or is wrong.
    Taco.EvalResult result =
        Taco.evaluate(
            new Taco.EvalRequest(
                file,
                List.of(sorted),
                List.of(),
                Optional.empty(),
                PreprocessingOptions.none(),
                Optional.of(1.0),
                Optional.empty(),
                1),
            Progress.SILENT);
    assertTrue(result.classes() >= 3, "the pictures are of several classes");
    assertEquals(pictures.size(), result.images());
    assertEquals(1.0, result.allOutputs().top1());
  }

  @Test
  void givesAllClassesWithTheirProbabilities() {
    try (Specialist specialist = Specialist.open(model)) {
      assertEquals(List.of("c0", "c1", "c2", "c3"), specialist.classes());
      for (Specialist.Prediction prediction : specialist.classify(pictures)) {
        List<Specialist.ClassProbability> classes = prediction.classes();
        assertEquals(
            specialist.classes(),
            classes.stream().map(Specialist.ClassProbability::name).sorted().toList());
        double sum = 0;
        for (int i = 0; i < classes.size(); i++) {
          sum += classes.get(i).probability();
          assertTrue(i == 0 || classes.get(i).probability() <= classes.get(i - 1).probability());
        }
        // Doubles are added.
        assertEquals(1, sum, 1e-12);
        assertEquals(classes.getFirst().name(), prediction.name());
        assertEquals(classes.getFirst().probability(), prediction.probability());
      }
      assertEquals(List.of(), specialist.classify(List.of()));
    }
  }

  @Test
  void aSoftmaxInTheModelIsNotRepeated() {
    Path withSoftmax = folder.resolve("softmax.onnx");
    OnnxModel edited = OnnxModel.read(model);
    String logits = edited.outputs().getFirst().name();
    edited.edit(
        graph -> {
          graph.addNode(
              ai.onnx.proto.OnnxMl.NodeProto.newBuilder()
                  .setOpType("Softmax")
                  .addInput(logits)
                  .addOutput("probabilities"));
          graph.getOutputBuilder(0).setName("probabilities");
        });
    edited.write(withSoftmax);
    try (Specialist plain = Specialist.open(model);
        Specialist softmax = Specialist.open(withSoftmax)) {
      for (Path picture : pictures.subList(0, 10)) {
        Specialist.Prediction expected = plain.classify(picture);
        assertEquals(expected.name(), softmax.classify(picture).name());
        // The model's softmax is of float32.
        assertEquals(expected.probability(), softmax.classify(picture).probability(), 1e-6);
      }
    }
  }

  @Test
  void anImageInMemoryIsTheSameAsItsFile() throws IOException {
    try (Specialist specialist = Specialist.open(model)) {
      for (Path picture : pictures.subList(0, 10)) {
        Specialist.Prediction expected = specialist.classify(picture);
        BufferedImage image = ImageIO.read(picture.toFile());
        assertEquals(expected, specialist.classify(image));
        BufferedImage other =
            new BufferedImage(image.getWidth(), image.getHeight(), BufferedImage.TYPE_4BYTE_ABGR);
        other.createGraphics().drawImage(image, 0, 0, null);
        assertEquals(expected, specialist.classify(other));
      }
    }
  }

  @Test
  void threadsShareOneSpecialist() throws Exception {
    try (Specialist specialist = Specialist.open(model);
        ExecutorService threads = Executors.newFixedThreadPool(4)) {
      List<Specialist.Prediction> expected = pictures.stream().map(specialist::classify).toList();
      List<Future<List<Specialist.Prediction>>> results = new ArrayList<>();
      for (int i = 0; i < 4; i++) {
        results.add(threads.submit(() -> pictures.stream().map(specialist::classify).toList()));
      }
      for (Future<List<Specialist.Prediction>> result : results) {
        assertEquals(expected, result.get());
      }
      List<Specialist.Prediction> together = specialist.classify(pictures);
      for (int i = 0; i < expected.size(); i++) {
        assertEquals(expected.get(i).name(), together.get(i).name());
        // Batches may be summed in another order, in float32.
        assertEquals(expected.get(i).probability(), together.get(i).probability(), 1e-5);
      }
    }
  }

  @Test
  void closingWaitsForCallsAndRefusesLaterOnes() throws Exception {
    Specialist specialist = Specialist.open(model, 2);
    try (ExecutorService threads = Executors.newFixedThreadPool(2)) {
      List<Future<?>> calls = new ArrayList<>();
      for (int i = 0; i < 2; i++) {
        calls.add(
            threads.submit(
                () -> {
                  while (true) {
                    specialist.classify(pictures);
                  }
                }));
      }
      Thread.sleep(20);
      specialist.close();
      for (Future<?> call : calls) {
        Throwable cause =
            assertThrows(java.util.concurrent.ExecutionException.class, call::get).getCause();
        assertEquals(TacoException.Kind.USAGE, ((TacoException) cause).kind());
        assertTrue(cause.getMessage().contains("closed"), cause.getMessage());
      }
    }
    assertDoesNotThrow(specialist::close);
  }

  private static String refused(TacoException.Kind kind, Runnable call) {
    TacoException e = assertThrows(TacoException.class, call::run);
    assertEquals(kind, e.kind(), e.getMessage());
    return e.getMessage();
  }

  @Test
  void aModelThatIsNoSpecialistIsRefused() {
    Path dense = shared.resolve("dense.onnx");
    String message = refused(TacoException.Kind.MODEL, () -> Specialist.open(dense));
    assertTrue(
        message.contains("dense.onnx") && message.contains("taco specialize wrote"), message);
    OnnxModel fewer = OnnxModel.read(model);
    fewer.setMetadata(
        TaskClasses.METADATA_KEY,
        TaskClasses.toJson(TaskClasses.of(fewer).orElseThrow().subList(0, 3)));
    fewer.write(folder.resolve("fewer.onnx"));
    message =
        refused(TacoException.Kind.MODEL, () -> Specialist.open(folder.resolve("fewer.onnx")));
    assertTrue(message.contains("3 classes") && message.contains("4 outputs"), message);
    refused(TacoException.Kind.MODEL, () -> Specialist.open(folder.resolve("none.onnx")));
    refused(TacoException.Kind.USAGE, () -> Specialist.open(model, 0));
  }

  @Test
  void damagedImagesAreNamed() throws IOException {
    Path text = Files.writeString(folder.resolve("photo.jpg"), "no photo");
    try (Specialist specialist = Specialist.open(model, 2)) {
      for (Path bad : List.of(text, folder.resolve("missing.png"), folder)) {
        String message =
            refused(
                TacoException.Kind.DATA,
                () -> specialist.classify(List.of(pictures.getFirst(), bad)));
        assertTrue(message.startsWith(bad.toString()), message);
      }
    }
  }

  /** Classifies an image, and says which classes of natives and solvers were loaded. */
  public static void main(String[] arguments) {
    try (Specialist specialist = Specialist.open(Path.of(arguments[0]))) {
      System.out.println("it is " + specialist.classify(Path.of(arguments[1])).name());
    }
  }

  @Test
  void aServiceNeedsNeitherFlagsNorSolversNorTheirLibraries() {
    UnaryOperator<String> pattern = name -> ".*[/\\\\]" + name + "[^/\\\\]*\\.jar";
    List<String> left =
        List.of("javacpp", "openblas", "pytorch", "mkl").stream().map(pattern).toList();
    ChildJvm.Result result =
        ChildJvm.run(
            SpecialistTest.class,
            List.of("-Xlog:class+load:stdout"),
            entry -> left.stream().noneMatch(entry::matches),
            model.toString(),
            pictures.getFirst().toString());
    assertEquals(0, result.exitCode(), result.output());
    try (Specialist specialist = Specialist.open(model)) {
      String expected = "it is " + specialist.classify(pictures.getFirst()).name();
      assertTrue(result.output().contains(expected), result.output());
    }
    String loaded =
        result
            .output()
            .lines()
            .filter(
                line ->
                    line.matches(
                        ".* (org\\.bytedeco|jdk\\.incubator\\.vector"
                            + "|org\\.taco4j\\.(compute|solve|execute|tune|report))\\..*"))
            .collect(Collectors.joining("\n"));
    assertEquals("", loaded);
    assertTrue(result.output().contains(" org.taco4j.runtime.Session "), "the log lists classes");
  }

  @Test
  void classifyPrintsALineForEachImage() throws IOException {
    Path more = folder.resolve("more");
    Files.createDirectories(more.resolve("sub"));
    Files.copy(pictures.get(0), more.resolve("sub").resolve("a.png"));
    Files.copy(pictures.get(1), more.resolve("b.png"));
    Files.writeString(more.resolve("notes.txt"), "no image");
    Cli.Result result = Cli.run("classify", model, pictures.get(2), more, "--top", "2").succeeded();
    List<String> lines = result.out().lines().toList();
    assertEquals(3, lines.size(), result.out());
    try (Specialist specialist = Specialist.open(model)) {
      Specialist.Prediction third = specialist.classify(pictures.get(2));
      assertTrue(lines.get(0).startsWith(pictures.get(2).toString()), lines.get(0));
      String best = "%.1f %% %s".formatted(100 * third.probability(), third.name());
      assertTrue(lines.get(0).contains(best), lines.get(0));
      assertTrue(lines.get(0).endsWith(" " + third.classes().get(1).name()), lines.get(0));
      assertTrue(lines.get(1).startsWith(more.resolve("b.png").toString()), lines.get(1));
      assertTrue(lines.get(2).contains(specialist.classify(pictures.get(0)).name()), lines.get(2));
    }
  }

  @Test
  void classifyGoesOnAfterADamagedImageAndSaysSo() throws IOException {
    Path text = Files.writeString(folder.resolve("photo.jpg"), "no photo");
    Cli.Result result = Cli.run("classify", model, text, pictures.getFirst(), "--json");
    assertEquals(TacoException.Kind.DATA.exitCode(), result.exitCode());
    assertTrue(result.err().contains(text.toString()), result.err());
    var images =
        new com.fasterxml.jackson.databind.ObjectMapper().readTree(result.out()).path("images");
    assertEquals(2, images.size());
    assertTrue(images.get(0).path("error").asText().contains("unreadable"), result.out());
    assertTrue(images.get(0).path("classes").isNull());
    assertEquals(4, images.get(1).path("classes").size());
    assertTrue(images.get(1).at("/classes/0/probability").asDouble() >= 0.25);
    assertFalse(images.get(1).at("/classes/0/name").asText().isEmpty());
  }

  @Test
  void classifyRefusesWhatIsNoSpecialistAndEmptyFolders() throws IOException {
    Cli.Result dense = Cli.run("classify", shared.resolve("dense.onnx"), pictures.getFirst());
    assertEquals(TacoException.Kind.MODEL.exitCode(), dense.exitCode());
    Path empty = Files.createDirectory(folder.resolve("empty"));
    Cli.Result some = Cli.run("classify", model, empty, pictures.getFirst());
    assertEquals(TacoException.Kind.DATA.exitCode(), some.exitCode());
    assertTrue(some.err().contains(empty.toString()), some.err());
    assertTrue(some.out().startsWith(pictures.getFirst().toString()), some.out());
    assertEquals(TacoException.Kind.USAGE.exitCode(), Cli.run("classify", model).exitCode());
  }
}
