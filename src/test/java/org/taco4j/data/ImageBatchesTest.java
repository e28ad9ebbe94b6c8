package org.taco4j.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.Notice;
import org.taco4j.common.Notices;
import org.taco4j.common.Workers;
import org.taco4j.data.Preprocessing.Layout;

class ImageBatchesTest {
  @TempDir Path folder;
  private final Notices notices = new Notices();
  private final Preprocessor preprocessor =
      new Preprocessor(Preprocessing.preset("cifar10", 5, 3, Layout.NCHW));

  @ParameterizedTest
  @ValueSource(ints = {1, 7, 16, 17, 100})
  void batchesAreTheSameAtAnyThreadCount(int batchSize) throws Exception {
    List<ImageFile> files = files(41);
    Files.writeString(files.get(6).path(), "broken");
    Files.writeString(files.get(40).path(), "");
    List<ImageFile> readable = new ArrayList<>(files);
    readable.remove(40);
    readable.remove(6);
    try (Workers one = new Workers(1);
        Workers four = new Workers(4)) {
      int at = 0;
      Iterator<ImageBatches.Batch> expected =
          new ImageBatches(files, preprocessor, batchSize, one, notices).iterator();
      for (ImageBatches.Batch batch :
          new ImageBatches(files, preprocessor, batchSize, four, notices)) {
        ImageBatches.Batch other = expected.next();
        assertArrayEquals(other.data(), batch.data());
        assertEquals(batchSize * preprocessor.length(), batch.data().length);
        assertEquals(Math.min(batchSize, 39 - at), batch.count());
        assertEquals(readable.subList(at, at + batch.count()), batch.files());
        for (int i = 0; i < batch.count(); i++) {
          assertEquals(readable.get(at + i).classIndex(), batch.classIndices()[i]);
          float[] tensor = new float[preprocessor.length()];
          preprocessor.apply(ImageDecoder.decode(batch.files().get(i).path()), tensor, 0);
          for (int k = 0; k < tensor.length; k++) {
            assertEquals(tensor[k], batch.data()[i * tensor.length + k]);
          }
        }
        for (int k = batch.count() * preprocessor.length(); k < batch.data().length; k++) {
          assertEquals(0, batch.data()[k], "the rest is zero");
        }
        at += batch.count();
      }
      assertFalse(expected.hasNext());
      assertThrows(NoSuchElementException.class, expected::next);
      assertEquals(39, at);
    }
  }

  @Test
  void skippedImagesAreNotedOnce() throws Exception {
    List<ImageFile> files = files(40);
    Files.writeString(files.get(3).path(), "broken");
    Files.delete(files.get(9).path());
    try (Workers workers = new Workers(2)) {
      ImageBatches batches = new ImageBatches(files, preprocessor, 8, workers, notices);
      for (int pass = 0; pass < 3; pass++) {
        int count = 0;
        for (ImageBatches.Batch batch : batches) {
          count += batch.count();
        }
        assertEquals(38, count);
      }
    }
    List<Notice> skipped = notices.list();
    assertEquals(2, skipped.size());
    assertEquals("image-skipped", skipped.get(0).code());
    assertEquals(files.get(3).path().toString(), skipped.get(0).subject());
    assertEquals(files.get(9).path().toString(), skipped.get(1).subject());
  }

  @Test
  void moreThanFivePercentIsAnError() throws Exception {
    List<ImageFile> files = files(40);
    for (int i : new int[] {1, 20, 39}) {
      Files.writeString(files.get(i).path(), "broken");
    }
    try (Workers workers = new Workers(2)) {
      ImageBatches batches = new ImageBatches(files, preprocessor, 8, workers, notices);
      Expect.data(() -> batches.forEach(batch -> {}), "3 of", "40", "1.png", "39.png", "5 %");
    }
  }

  @Test
  void allUnreadableIsAnError() throws Exception {
    List<ImageFile> files = files(1);
    Files.writeString(files.getFirst().path(), "broken");
    try (Workers workers = new Workers(1)) {
      ImageBatches batches = new ImageBatches(files, preprocessor, 8, workers, notices);
      Expect.data(() -> batches.iterator().hasNext(), "0.png");
    }
  }

  @Test
  void halvesHaveEveryOtherImageOfEachClass() throws Exception {
    List<ImageFile> files = files(23); // classes of 8, 8 and 7 images
    Files.writeString(files.get(6).path(), "broken"); // 1 of 23 is allowed, in a half of 11 too
    try (Workers workers = new Workers(2)) {
      ImageBatches all = new ImageBatches(files, preprocessor, 4, workers, notices);
      List<ImageFile> seen = new ArrayList<>();
      int[][] counts = new int[2][3];
      List<ImageBatches> halves = all.halves();
      for (int half = 0; half < 2; half++) {
        for (ImageBatches.Batch batch : halves.get(half)) {
          seen.addAll(batch.files());
          for (int index : batch.classIndices()) {
            counts[half][index]++;
          }
        }
      }
      // Class 0 has lost its third image; odd images fall to the halves in turn.
      assertArrayEquals(new int[] {3, 4, 4}, counts[0]);
      assertArrayEquals(new int[] {4, 4, 3}, counts[1]);
      assertEquals(22, new HashSet<>(seen).size());
      assertEquals(
          1,
          new ImageBatches(files.subList(0, 1), preprocessor, 4, workers, notices).halves().size());
    }
  }

  @Test
  void noFilesNoBatches() {
    try (Workers workers = new Workers(1)) {
      assertFalse(
          new ImageBatches(List.of(), preprocessor, 8, workers, notices).iterator().hasNext());
      Expect.usage(
          () -> new ImageBatches(List.of(), preprocessor, 0, workers, notices), "batch size");
    }
  }

  @Test
  void realJpegsStream() {
    Path set = Shared.at("real/images/in1k-music");
    ImageDataset data =
        ImageFolders.load(ImageFolders.Request.of(List.of(set), 1000).withShots(2), notices);
    assertEquals(30, data.calibration().size());
    assertEquals(15, data.heldOut().size());
    Preprocessor imageNet = new Preprocessor(Preprocessing.imageNet(224, 224, Layout.NCHW));
    double sum = 0;
    int count = 0;
    try (Workers workers = new Workers(2)) {
      for (ImageBatches.Batch batch :
          new ImageBatches(data.test(), imageNet, 16, workers, notices)) {
        count += batch.count();
        for (float value : batch.data()) {
          sum += value;
        }
      }
    }
    assertEquals(45, count);
    // Normalised photographs have a mean near 0; a wrong scale or offset would show.
    assertEquals(0, sum / (45.0 * imageNet.length()), 0.5);
  }

  private List<ImageFile> files(int count) throws IOException {
    List<ImageFile> files = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      Path file = folder.resolve(i + ".png");
      BufferedImage image = new BufferedImage(3 + i % 5, 2 + i % 7, BufferedImage.TYPE_INT_RGB);
      image.setRGB(0, 0, 0x010203 * i);
      ImageIO.write(image, "png", file.toFile());
      files.add(new ImageFile(file, i % 3));
    }
    return files;
  }
}
