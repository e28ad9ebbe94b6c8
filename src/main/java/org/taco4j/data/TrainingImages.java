package org.taco4j.data;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;

/**
 * A few labelled images that are looked at again and again, in random order and randomly changed.
 * They are decoded once and kept while they fit into the memory allowed; the others are decoded
 * each time. Nothing here depends on threads: a random draw is decided by seed, pass and image.
 */
public final class TrainingImages {
  private static final int MAX_SKIPPED_PERCENT = 5;

  private final List<ImageFile> files;
  private final List<@Nullable RgbImage> decoded;
  private final Preprocessor preprocessor;

  private TrainingImages(
      List<ImageFile> files, List<@Nullable RgbImage> decoded, Preprocessor preprocessor) {
    this.files = files;
    this.decoded = decoded;
    this.preprocessor = preprocessor;
  }

  /**
   * Decodes the images. An unreadable one is left out and noted as {@code image-skipped}; images
   * that are not kept are noted as {@code images-not-kept}.
   *
   * @param memory bytes of pixels to keep at most
   * @throws TacoException of kind DATA when there are no images, or more than 5 % are unreadable
   */
  public static TrainingImages load(
      List<ImageFile> files,
      Preprocessor preprocessor,
      long memory,
      Workers workers,
      Notices notices) {
    if (files.isEmpty()) {
      throw TacoException.data("no images to train on");
    }
    int window = Math.max(16, 4 * workers.threads());
    List<ImageFile> readable = new ArrayList<>();
    List<@Nullable RgbImage> kept = new ArrayList<>();
    List<String> skipped = new ArrayList<>();
    long bytes = 0;
    int dropped = 0;
    for (int first = 0; first < files.size(); first += window) {
      int begin = first;
      int count = Math.min(window, files.size() - first);
      @Nullable RgbImage[] images = new RgbImage[count];
      @Nullable UnreadableImageException[] failures = new UnreadableImageException[count];
      workers.forEach(
          count,
          i -> {
            try {
              images[i] = ImageDecoder.decode(files.get(begin + i).path());
            } catch (UnreadableImageException e) {
              failures[i] = e;
            }
          });
      for (int i = 0; i < count; i++) {
        ImageFile file = files.get(begin + i);
        UnreadableImageException failure = failures[i];
        RgbImage image = images[i];
        if (failure != null) {
          skipped.add(file.path() + " (" + failure.reason() + ")");
          notices.add(
              "image-skipped",
              file.path().toString(),
              "unreadable image skipped: " + failure.reason(),
              1);
        } else if (image != null) {
          boolean fits = bytes + image.rgb().length <= memory;
          bytes += fits ? image.rgb().length : 0;
          dropped += fits ? 0 : 1;
          readable.add(file);
          kept.add(fits ? image : null);
        }
      }
    }
    if (100L * skipped.size() > (long) MAX_SKIPPED_PERCENT * files.size()) {
      throw TacoException.data(
          "%d of %d images are unreadable, more than %d %% of all: %s; replace or remove them"
              .formatted(
                  skipped.size(),
                  files.size(),
                  MAX_SKIPPED_PERCENT,
                  skipped.stream().limit(3).collect(Collectors.joining("; "))));
    }
    if (dropped > 0) {
      notices.add(
          "images-not-kept",
          "training images",
          dropped
              + " of "
              + readable.size()
              + " images do not fit into "
              + (memory >> 20)
              + " MiB and are decoded in each pass",
          dropped);
    }
    return new TrainingImages(List.copyOf(readable), kept, preprocessor);
  }

  /** How many images there are. */
  public int size() {
    return files.size();
  }

  /** The files that the images came from. */
  public List<ImageFile> files() {
    return files;
  }

  /** The class of an image. */
  public int classIndex(int image) {
    return files.get(image).classIndex();
  }

  /** What makes tensors of the images. */
  public Preprocessor preprocessor() {
    return preprocessor;
  }

  /**
   * Some of these images, of which the pixels are shared.
   *
   * @param images indices
   */
  public TrainingImages subset(List<Integer> images) {
    List<@Nullable RgbImage> pixels = new ArrayList<>();
    images.forEach(i -> pixels.add(decoded.get(i)));
    return new TrainingImages(images.stream().map(files::get).toList(), pixels, preprocessor);
  }

  /**
   * Writes the tensor of an image, preprocessed as for evaluation.
   *
   * @param out {@link Preprocessor#length()} values are written from {@code offset} on
   */
  public void plain(int image, float[] out, int offset) {
    preprocessor.apply(pixels(image), out, offset);
  }

  /**
   * Writes the tensor of an image, randomly changed.
   *
   * @param seed of the training
   * @param pass over the images
   * @param out {@link Preprocessor#length()} values are written from {@code offset} on
   */
  public void augmented(
      int image, Augmentation augmentation, long seed, int pass, float[] out, int offset) {
    Random random = new Random(mixed(seed, pass, 1L + image));
    preprocessor.apply(pixels(image), augmentation, random, out, offset);
  }

  /** The order in which a pass takes the images: a random permutation of 0 to n - 1. */
  public static int[] order(int n, long seed, int pass) {
    List<Integer> order = new ArrayList<>(IntStream.range(0, n).boxed().toList());
    Collections.shuffle(order, new Random(mixed(seed, pass, 0)));
    return order.stream().mapToInt(Integer::intValue).toArray();
  }

  private RgbImage pixels(int image) {
    RgbImage kept = decoded.get(image);
    if (kept != null) {
      return kept;
    }
    try {
      return ImageDecoder.decode(files.get(image).path());
    } catch (UnreadableImageException e) {
      throw new TacoException(
          TacoException.Kind.DATA,
          files.get(image).path() + ": could be read before, but no longer: " + e.reason(),
          e);
    }
  }

  /** Seeds that lie close together give random numbers that do, too: their bits are mixed. */
  private static long mixed(long seed, long pass, long image) {
    return mix(mix(mix(seed) + pass) + image);
  }

  /** SplitMix64's next value (Steele, Lea and Flood 2014). */
  private static long mix(long value) {
    long z = value + 0x9e3779b97f4a7c15L;
    z = (z ^ z >>> 30) * 0xbf58476d1ce4e5b9L;
    z = (z ^ z >>> 27) * 0x94d049bb133111ebL;
    return z ^ z >>> 31;
  }
}
