package org.taco4j.bench;

/**
 * How often a classifier is right.
 *
 * @param images how many images were classified
 * @param top1Correct images whose class got the highest score
 * @param top5Correct images whose class is among the five highest scores
 */
public record Accuracy(int images, int top1Correct, int top5Correct) {
  /** Standard normal quantile of a two-sided 95 % interval. */
  private static final double Z = 1.959963984540054;

  /** Fraction of images whose class got the highest score; 0 without images. */
  public double top1() {
    return images == 0 ? 0 : (double) top1Correct / images;
  }

  /** Fraction of images whose class is among the five highest scores; 0 without images. */
  public double top5() {
    return images == 0 ? 0 : (double) top5Correct / images;
  }

  /** Lower end of the 95 % interval of {@link #top1} (Wilson 1927). */
  public double top1Low() {
    return wilson(-1);
  }

  /** Upper end of the 95 % interval of {@link #top1} (Wilson 1927). */
  public double top1High() {
    return wilson(1);
  }

  private double wilson(int side) {
    if (images == 0) {
      return side < 0 ? 0 : 1;
    }
    double n = images;
    double p = top1();
    double centre = p + Z * Z / (2 * n);
    double spread = Z * Math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n));
    return Math.clamp((centre + side * spread) / (1 + Z * Z / n), 0, 1);
  }
}
