package org.taco4j.demo;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageDataset;
import org.taco4j.data.ImageDecoder;
import org.taco4j.data.ImageFolders;

class DrawnImagesTest {
  @TempDir Path folder;

  @Test
  void aFolderLoadsWithTheOutputsOfTheGeneralist() throws Exception {
    List<DrawnClass> classes = Family.FRUIT.classes();
    try (Workers workers = new Workers(2)) {
      DrawnImages.write(folder, classes, 3, 4, 2, workers);
    }
    ImageDataset data =
        ImageFolders.load(
            ImageFolders.Request.of(List.of(folder), DrawnClass.values().length).withShots(3),
            new Notices());
    assertEquals(
        classes.stream().map(c -> c + " " + c.modelIndex()).sorted().toList(),
        data.classes().stream().map(c -> c.name() + " " + c.modelIndex()).sorted().toList());
    assertEquals(3 * classes.size(), data.calibration().size());
    assertEquals(2 * classes.size(), data.test().size());
    assertEquals(Drawing.SIDE, ImageDecoder.decode(data.test().getFirst().path()).width());
  }

  @Test
  void testPicturesStayWhenTheNumberOfOthersChanges() throws IOException {
    List<DrawnClass> one = List.of(DrawnClass.TEAPOT);
    try (Workers workers = new Workers(1)) {
      DrawnImages.write(folder.resolve("a"), one, 3, 1, 1, workers);
      DrawnImages.write(folder.resolve("b"), one, 3, 2, 1, workers);
    }
    assertArrayEquals(
        Files.readAllBytes(folder.resolve("a/test/teapot/0000.png")),
        Files.readAllBytes(folder.resolve("b/test/teapot/0000.png")));
  }

  @Test
  void nothingToDrawIsAnError() {
    try (Workers workers = new Workers(1)) {
      TacoException error =
          assertThrows(
              TacoException.class, () -> DrawnImages.write(folder, List.of(), 3, 1, 1, workers));
      assertEquals(TacoException.Kind.USAGE, error.kind());
    }
  }
}
