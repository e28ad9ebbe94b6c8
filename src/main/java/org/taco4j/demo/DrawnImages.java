package org.taco4j.demo;

import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import javax.imageio.ImageIO;
import javax.imageio.ImageWriter;
import javax.imageio.stream.MemoryCacheImageOutputStream;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;

/** Writes drawn pictures as a data folder. */
public final class DrawnImages {
  /** The first index of test pictures, so that they do not depend on how many others there are. */
  private static final int FIRST_TEST = 1 << 24;

  private DrawnImages() {}

  /**
   * Writes {@code train/CLASS/*.png} and {@code test/CLASS/*.png}, and {@code classes.tsv} with the
   * outputs of the generalist.
   *
   * @param seed of the pictures; the same ones have the same pictures, whatever the other arguments
   * @param train pictures of each class to calibrate with
   * @param test pictures of each class to measure with, all different from those
   * @throws TacoException of kind USAGE for numbers that mean nothing, of kind RUNTIME when the
   *     file system refuses
   */
  public static void write(
      Path folder, List<DrawnClass> classes, long seed, int train, int test, Workers workers) {
    if (classes.isEmpty() || train < 0 || test < 0 || train + test < 1 || train > FIRST_TEST) {
      throw TacoException.usage(
          "pictures can be drawn of some classes, in some number; not %d and %d of %d classes"
              .formatted(train, test, classes.size()));
    }
    int each = train + test;
    workers.forEach(
        classes.size() * each,
        task -> {
          DrawnClass thing = classes.get(task / each);
          int i = task % each;
          boolean calibrates = i < train;
          int number = calibrates ? i : i - train;
          Path file =
              folder
                  .resolve(calibrates ? "train" : "test")
                  .resolve(thing.toString())
                  .resolve(String.format(Locale.ROOT, "%04d.png", number));
          byte[] png = png(Drawing.draw(thing, seed, calibrates ? number : FIRST_TEST + number));
          AtomicFiles.write(file, out -> out.write(png));
        });
    StringBuilder table = new StringBuilder("folder\tmodel_index\tname\n");
    for (DrawnClass thing : classes) {
      table.append("%s\t%d\t%s\n".formatted(thing, thing.modelIndex(), thing));
    }
    AtomicFiles.writeString(folder.resolve("classes.tsv"), table.toString());
  }

  private static byte[] png(BufferedImage image) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    ImageWriter writer = ImageIO.getImageWritersByFormatName("png").next();
    // Not through ImageIO.write, which makes a temporary file for each image.
    try (MemoryCacheImageOutputStream out = new MemoryCacheImageOutputStream(bytes)) {
      writer.setOutput(out);
      writer.write(image);
    } catch (IOException e) {
      throw new UncheckedIOException("a picture could not be written to memory", e);
    } finally {
      writer.dispose();
    }
    return bytes.toByteArray();
  }
}
