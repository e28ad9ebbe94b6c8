package org.taco4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.bench.Evaluator.Prediction;
import org.taco4j.common.AtomicFiles;
import org.taco4j.data.ImageFile;
import org.taco4j.report.RunReport;

/** Confusion matrices and the choice of example images. */
class TestPredictionsTest {
  private static final int CLASSES = 5;

  @TempDir Path folder;

  private final List<Prediction> dense = new ArrayList<>();
  private final List<Prediction> compressed = new ArrayList<>();

  /** Adds {@code count} images of each class, right or wrong. */
  private void add(int count, boolean isDenseRight, boolean isCompressedRight) throws IOException {
    for (int i = 0; i < count * CLASSES; i++) {
      int actual = i % CLASSES;
      Path file = folder.resolve("images/%d/%03d.png".formatted(actual, dense.size()));
      Files.createDirectories(file.getParent());
      ImageIO.write(new BufferedImage(20, 10, BufferedImage.TYPE_INT_RGB), "png", file.toFile());
      ImageFile image = new ImageFile(file, actual);
      int wrong = (actual + 1) % CLASSES;
      dense.add(new Prediction(image, isDenseRight ? actual : wrong, 0.9));
      compressed.add(
          new Prediction(image, isCompressedRight ? actual : wrong, 0.5 + 0.001 * dense.size()));
    }
  }

  private RunReport.Predictions report() {
    RunReport.Predictions report;
    try (RunFolder run = RunFolder.begin(folder.resolve("run"), true, text -> {})) {
      report = TestPredictions.report(dense, compressed, run);
      run.write("report.json", file -> AtomicFiles.writeString(file, "{}"));
      run.commit();
    }
    assertNotNull(report);
    return report;
  }

  @Test
  void countsAndConfusionMatricesAreThoseOfTheImages() throws IOException {
    add(4, true, true);
    add(2, true, false);
    add(1, false, true);
    RunReport.Predictions report = report();
    assertEquals(20, report.bothRight());
    assertEquals(10, report.onlyDenseRight());
    assertEquals(5, report.onlyCompressedRight());
    assertEquals(0, report.bothWrong());
    assertEquals(new RunReport.Confusion(0, 0, 6), report.dense().getFirst());
    assertEquals(new RunReport.Confusion(0, 1, 1), report.dense().get(1));
    assertEquals(new RunReport.Confusion(0, 0, 5), report.compressed().getFirst());
    assertEquals(new RunReport.Confusion(4, 4, 5), report.compressed().getLast());
    assertEquals(35, report.dense().stream().mapToInt(RunReport.Confusion::count).sum());
  }

  @Test
  void examplesShowDifferencesFirstAndManyClasses() throws IOException {
    add(10, true, true);
    add(3, true, false);
    add(1, false, true);
    add(1, false, false);
    List<RunReport.Example> examples = report().examples();
    assertEquals(12, examples.size());
    for (int i = 0; i < 5; i++) {
      assertEquals(examples.get(i).actual(), examples.get(i).dense().predicted());
      assertTrue(examples.get(i).actual() != examples.get(i).compressed().predicted());
    }
    assertEquals(
        CLASSES,
        examples.subList(0, CLASSES).stream().map(RunReport.Example::actual).distinct().count());
    assertTrue(examples.get(5).actual() != examples.get(5).dense().predicted());
    assertEquals(examples.getLast().actual(), examples.getLast().compressed().predicted());
    assertEquals(12, new HashSet<>(examples).size(), "no image twice");
    BufferedImage thumbnail =
        ImageIO.read(folder.resolve("run").resolve(examples.getFirst().thumbnail()).toFile());
    // 20 x 10 pixels, eight times as large.
    assertEquals(160, thumbnail.getWidth());
    assertEquals(80, thumbnail.getHeight());
  }

  @Test
  void theOrderOfTheImagesDoesNotMatter() throws IOException {
    add(4, true, true);
    add(2, true, false);
    List<RunReport.Example> examples = report().examples();
    Collections.shuffle(dense, new Random(1));
    assertEquals(examples, report().examples());
  }

  @Test
  void withoutTestImagesThereIsNothing() {
    try (RunFolder run = RunFolder.begin(folder.resolve("run"), true, text -> {})) {
      assertNull(TestPredictions.report(List.of(), List.of(), run));
    }
  }
}
