package org.taco4j.data;

import java.util.random.RandomGenerator;
import org.taco4j.common.TacoException;

/**
 * Random changes of a training image: torchvision's {@code RandomResizedCrop} and {@code
 * RandomHorizontalFlip}. A crop covers a part of the image's area that is uniform between {@code
 * minScale} and {@code maxScale}, with an aspect ratio whose logarithm is uniform between those of
 * {@code minRatio} and {@code maxRatio}; after ten tries that do not fit into the image the largest
 * centre crop of an allowed ratio is taken. It is resized straight to the model's input by the
 * filter of the {@link Preprocessing}, antialiased.
 *
 * @param minScale least part of the area, above 0
 * @param maxScale greatest part of the area, at most 1
 * @param minRatio least width / height
 * @param maxRatio greatest width / height
 * @param flip probability of a horizontal flip
 */
public record Augmentation(
    double minScale, double maxScale, double minRatio, double maxRatio, double flip) {
  private static final int TRIES = 10;

  /** Checks the ranges. */
  public Augmentation {
    if (!(minScale > 0 && minScale <= maxScale && maxScale <= 1)) {
      throw TacoException.usage(
          "the scale of random crops is a range within 0..1, such as 0.08 to 1, not %s to %s"
              .formatted(minScale, maxScale));
    }
    if (!(minRatio > 0 && minRatio <= maxRatio && Double.isFinite(maxRatio))) {
      throw TacoException.usage(
          "the ratio of random crops is a range above 0, such as 0.75 to 1.333, not %s to %s"
              .formatted(minRatio, maxRatio));
    }
    if (!(flip >= 0 && flip <= 1)) {
      throw TacoException.usage("the probability of a flip is within 0..1, not " + flip);
    }
  }

  /** torchvision's defaults: 8 to 100 % of the area, ratios 3/4 to 4/3, every other one flipped. */
  public static Augmentation torchvision() {
    return new Augmentation(0.08, 1, 3 / 4.0, 4 / 3.0, 0.5);
  }

  /** This with another least part of the area. */
  public Augmentation withMinScale(double newMinScale) {
    return new Augmentation(newMinScale, maxScale, minRatio, maxRatio, flip);
  }

  /**
   * One draw.
   *
   * @param crop the part of the image to keep
   * @param flip whether to mirror it
   */
  record Draw(Resampler.Window crop, boolean flip) {}

  /** What is done to an image of that size. */
  Draw draw(int width, int height, RandomGenerator random) {
    Resampler.Window crop = crop(width, height, random);
    return new Draw(crop, random.nextDouble() < flip);
  }

  private Resampler.Window crop(int width, int height, RandomGenerator random) {
    double area = (double) width * height;
    double low = StrictMath.log(minRatio);
    double high = StrictMath.log(maxRatio);
    for (int i = 0; i < TRIES; i++) {
      double target = area * (minScale + (maxScale - minScale) * random.nextDouble());
      double ratio = StrictMath.exp(low + (high - low) * random.nextDouble());
      int w = (int) Math.rint(Math.sqrt(target * ratio));
      int h = (int) Math.rint(Math.sqrt(target / ratio));
      if (w > 0 && w <= width && h > 0 && h <= height) {
        int y = random.nextInt(height - h + 1);
        int x = random.nextInt(width - w + 1);
        return new Resampler.Window(x, y, w, h);
      }
    }
    double ratio = (double) width / height;
    int w = width;
    int h = height;
    if (ratio < minRatio) {
      h = Math.clamp(Math.round(width / minRatio), 1, height);
    } else if (ratio > maxRatio) {
      w = Math.clamp(Math.round(height * maxRatio), 1, width);
    }
    return new Resampler.Window((width - w) / 2, (height - h) / 2, w, h);
  }
}
