package org.taco4j.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.image.BufferedImage;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.common.Notices;
import org.taco4j.common.Workers;
import org.taco4j.data.Preprocessing.Layout;

class AugmentationTest {
  @TempDir Path folder;
  private final Notices notices = new Notices();
  private final Preprocessor preprocessor =
      new Preprocessor(Preprocessing.preset("cifar10", 6, 6, Layout.NCHW));

  @Test
  void cropsAreSpreadAsTorchvisionSpreadsThem() {
    Augmentation augmentation = new Augmentation(0.1, 0.5, 3 / 4.0, 4 / 3.0, 0.5);
    Random random = new Random(1);
    int draws = 20_000;
    double area = 0;
    double logRatio = 0;
    double x = 0;
    int flips = 0;
    for (int i = 0; i < draws; i++) {
      Augmentation.Draw draw = augmentation.draw(1000, 1000, random);
      Resampler.Window crop = draw.crop();
      assertTrue(crop.x() >= 0 && crop.x() + crop.width() <= 1000);
      assertTrue(crop.y() >= 0 && crop.y() + crop.height() <= 1000);
      double scale = crop.width() * crop.height() / 1e6;
      // Sides are rounded to whole pixels of 300 or more: areas by less than 1 %.
      assertTrue(scale > 0.099 && scale < 0.505, "scale " + scale);
      area += scale / draws;
      logRatio += Math.log(crop.width() / (double) crop.height()) / draws;
      x += crop.x() / (1000.0 - crop.width()) / draws;
      flips += draw.flip() ? 1 : 0;
    }
    // Standard errors: of a uniform of width w it is w / sqrt(12 · draws); five of them.
    assertEquals(0.3, area, 5 * 0.4 / Math.sqrt(12.0 * draws));
    assertEquals(0, logRatio, 5 * 0.58 / Math.sqrt(12.0 * draws));
    assertEquals(0.5, x, 5 / Math.sqrt(12.0 * draws));
    assertEquals(0.5, flips / (double) draws, 5 * 0.5 / Math.sqrt(draws));
  }

  @Test
  void imagesThatNoCropFitsGiveTheirCentre() {
    Augmentation whole = new Augmentation(1, 1, 3 / 4.0, 4 / 3.0, 0);
    assertEquals(new Resampler.Window(43, 0, 13, 10), whole.draw(100, 10, new Random(1)).crop());
    assertEquals(new Resampler.Window(0, 43, 10, 13), whole.draw(10, 100, new Random(1)).crop());
    assertEquals(new Resampler.Window(0, 0, 1, 1), whole.draw(1, 1, new Random(1)).crop());
  }

  @Test
  void theWholeImageIsThePlainOneAndAFlipMirrorsIt() throws Exception {
    List<ImageFile> files = files(1);
    try (Workers workers = new Workers(1)) {
      TrainingImages images = TrainingImages.load(files, preprocessor, 1 << 20, workers, notices);
      float[] plain = new float[preprocessor.length()];
      float[] same = new float[preprocessor.length()];
      float[] mirrored = new float[preprocessor.length()];
      images.plain(0, plain, 0);
      images.augmented(0, new Augmentation(1, 1, 1, 1, 0), 3, 1, same, 0);
      images.augmented(0, new Augmentation(1, 1, 1, 1, 1), 3, 1, mirrored, 0);
      assertArrayEquals(plain, same);
      for (int i = 0; i < plain.length; i++) {
        assertEquals(plain[i], mirrored[i / 6 * 6 + 5 - i % 6]);
      }
    }
  }

  @Test
  void drawsDependOnSeedPassAndImageOnly() throws Exception {
    List<ImageFile> files = files(5);
    Augmentation augmentation = Augmentation.torchvision();
    try (Workers one = new Workers(1);
        Workers three = new Workers(3)) {
      TrainingImages kept = TrainingImages.load(files, preprocessor, 1 << 20, one, notices);
      assertTrue(notices.list().isEmpty());
      // Room for two of the images: the others are decoded each time.
      TrainingImages decoded = TrainingImages.load(files, preprocessor, 2 * 3 * 36, three, notices);
      assertEquals(3, notices.list().getFirst().value());
      List<float[]> seen = new ArrayList<>();
      for (int pass = 1; pass < 4; pass++) {
        for (int image = 0; image < files.size(); image++) {
          float[] first = new float[preprocessor.length()];
          float[] second = new float[preprocessor.length()];
          kept.augmented(image, augmentation, 7, pass, first, 0);
          decoded.augmented(image, augmentation, 7, pass, second, 0);
          assertArrayEquals(first, second);
          seen.forEach(other -> assertFalse(Arrays.equals(other, first)));
          seen.add(first);
        }
      }
    }
  }

  @Test
  void ordersArePermutationsOfTheirOwn() {
    int[] first = TrainingImages.order(50, 1, 1);
    assertArrayEquals(first, TrainingImages.order(50, 1, 1));
    assertFalse(Arrays.equals(first, TrainingImages.order(50, 1, 2)));
    assertFalse(Arrays.equals(first, TrainingImages.order(50, 2, 1)));
    assertArrayEquals(IntStream.range(0, 50).toArray(), Arrays.stream(first).sorted().toArray());
  }

  @Test
  void unreadableImagesAreLeftOut() throws Exception {
    List<ImageFile> files = files(30);
    Files.writeString(files.get(4).path(), "broken");
    try (Workers workers = new Workers(2)) {
      TrainingImages images = TrainingImages.load(files, preprocessor, 1 << 20, workers, notices);
      assertEquals(29, images.size());
      assertEquals(files.get(5), images.files().get(4));
      assertEquals("image-skipped", notices.list().getFirst().code());
      Files.writeString(files.get(5).path(), "broken");
      Expect.data(
          () -> TrainingImages.load(files, preprocessor, 1 << 20, workers, notices),
          "2 of 30",
          "unreadable");
    }
  }

  /** Images of 6 x 6 pixels of noise. */
  private List<ImageFile> files(int count) throws Exception {
    Random random = new Random(5);
    List<ImageFile> files = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      BufferedImage image = new BufferedImage(6, 6, BufferedImage.TYPE_INT_RGB);
      for (int p = 0; p < 36; p++) {
        image.setRGB(p % 6, p / 6, random.nextInt(1 << 24));
      }
      Path file = folder.resolve("i%02d.png".formatted(i));
      ImageIO.write(image, "png", file.toFile());
      files.add(new ImageFile(file, i % 3));
    }
    return files;
  }
}
