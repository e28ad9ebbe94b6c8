package org.taco4j.calibrate;

import java.nio.FloatBuffer;

/**
 * Turns images from channel planes, as ONNX stores them, into pixels of neighbouring channels. The
 * matrix products read samples as rows, so this is the one transposition that an image needs,
 * however often its pixels are read.
 */
final class PixelLayout {
  /** Channels that are moved together: a pixel's share of them is one cache line. */
  private static final int BLOCK = 16;

  private float[] planes = new float[0];

  /**
   * Writes an image as pixels.
   *
   * @param x holds [channels, height, width] from {@code start} on
   * @param out gets [height, rowPixels, channels] from {@code offset} on; of each row the first
   *     {@code width} pixels are written
   */
  void write(
      FloatBuffer x,
      int start,
      int channels,
      int height,
      int width,
      float[] out,
      int offset,
      int rowPixels) {
    int plane = height * width;
    if (planes.length < Math.min(channels, BLOCK) * plane) {
      planes = new float[Math.min(channels, BLOCK) * plane];
    }
    for (int first = 0; first < channels; first += BLOCK) {
      int block = Math.min(BLOCK, channels - first);
      x.get(start + first * plane, planes, 0, block * plane);
      for (int y = 0; y < height; y++) {
        for (int column = 0; column < width; column++) {
          int from = y * width + column;
          int to = offset + (y * rowPixels + column) * channels + first;
          for (int c = 0; c < block; c++) {
            out[to + c] = planes[c * plane + from];
          }
        }
      }
    }
  }
}
