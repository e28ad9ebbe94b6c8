package org.taco4j.data;

/**
 * An 8-bit RGB image.
 *
 * @param width columns
 * @param height rows
 * @param rgb samples, [height, width, 3], row-major; borrowed, not copied: whoever gets an image
 *     leaves them as they are
 */
@SuppressWarnings("ArrayRecordComponent") // Pixels: copying or comparing them by value is no use.
public record RgbImage(int width, int height, byte[] rgb) {
  /** Checks that the sizes fit together. */
  public RgbImage {
    if (width < 1 || height < 1 || rgb.length != 3L * width * height) {
      throw new IllegalArgumentException(
          "an RGB image of " + width + "x" + height + " has not " + rgb.length + " samples");
    }
  }
}
