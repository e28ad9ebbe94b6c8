package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import java.util.Arrays;
import org.taco4j.compute.Backend;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.onnx.Unfold;

/**
 * Samples are the patches of any convolution: they are unfolded into a tile of some hundred
 * positions, [positions, cols], which is multiplied when it is full. Within a tile the columns are
 * in the order (ky, kx, c), in which patches are runs of memory; the Gram matrix is put in the
 * layer's order (c, ky, kx) at the end.
 */
final class PatchGram implements GramAccumulator {
  /** Floats in a tile of a narrow convolution (1 MiB). */
  private static final int TILE_FLOATS = 1 << 18;

  private final Unfold.Convolution unfold;
  private final int group;
  private final int positions;

  /** [positions, cols]. */
  private final float[] tile;

  private final DoubleGram gram;
  private final PixelLayout pixels = new PixelLayout();

  /** One image: [height, width, channels]. */
  private float[] image = new float[0];

  private int filled;

  PatchGram(Unfold.Convolution unfold, int group, Backend backend) {
    this.unfold = unfold;
    this.group = group;
    this.positions = Math.max(TILE_SAMPLES, TILE_FLOATS / unfold.cols());
    this.tile = new float[Math.multiplyExact(positions, unfold.cols())];
    this.gram = new DoubleGram(unfold.cols(), backend);
  }

  @Override
  public void add(FloatBuffer activation, long[] shape) {
    int images = Math.toIntExact(shape[0]);
    int allChannels = Math.toIntExact(shape[1]);
    int height = unfold.oneDimensional() ? 1 : Math.toIntExact(shape[2]);
    int width = Math.toIntExact(shape[shape.length - 1]);
    int outputHeight = unfold.outputHeight(height, width);
    int outputWidth = unfold.outputWidth(height, width);
    int[] pads = unfold.pads(height, width);
    int plane = height * width;
    if (image.length < plane * unfold.channels()) {
      image = new float[plane * unfold.channels()];
    }
    for (int i = 0; i < images; i++) {
      int start = (i * allChannels + group * unfold.channels()) * plane;
      pixels.write(activation, start, unfold.channels(), height, width, image, 0, width);
      for (int oy = 0; oy < outputHeight; oy++) {
        for (int ox = 0; ox < outputWidth; ox++) {
          unfold(
              oy * unfold.strideHeight() - pads[0],
              ox * unfold.strideWidth() - pads[1],
              height,
              width);
          if (++filled == positions) {
            flush();
          }
        }
      }
    }
  }

  /** Writes the patch whose first pixel is at the given row and column into the tile. */
  private void unfold(int top, int left, int height, int width) {
    int channels = unfold.channels();
    int target = filled * unfold.cols();
    for (int ky = 0; ky < unfold.kernelHeight(); ky++) {
      int y = top + ky * unfold.dilationHeight();
      if (y < 0 || y >= height) {
        Arrays.fill(tile, target, target + unfold.kernelWidth() * channels, 0f);
        target += unfold.kernelWidth() * channels;
      } else if (unfold.dilationWidth() == 1) {
        int from = Math.clamp(-left, 0, unfold.kernelWidth());
        int to = Math.clamp(width - left, from, unfold.kernelWidth());
        int end = target + unfold.kernelWidth() * channels;
        Arrays.fill(tile, target, target + from * channels, 0f);
        System.arraycopy(
            image,
            (y * width + left + from) * channels,
            tile,
            target + from * channels,
            (to - from) * channels);
        Arrays.fill(tile, target + to * channels, end, 0f);
        target = end;
      } else {
        for (int kx = 0; kx < unfold.kernelWidth(); kx++, target += channels) {
          int x = left + kx * unfold.dilationWidth();
          if (x < 0 || x >= width) {
            Arrays.fill(tile, target, target + channels, 0f);
          } else {
            System.arraycopy(image, (y * width + x) * channels, tile, target, channels);
          }
        }
      }
    }
  }

  private void flush() {
    if (filled > 0) {
      gram.add(FloatMatrix.of(tile, filled, unfold.cols()));
      filled = 0;
    }
  }

  @Override
  public GramMatrix finish() {
    flush();
    GramMatrix sum = gram.finish();
    int kernel = unfold.kernelHeight() * unfold.kernelWidth();
    if (kernel == 1) {
      return sum;
    }
    int cols = unfold.cols();
    int channels = unfold.channels();
    double[] ordered = new double[cols * cols];
    for (int k = 0; k < kernel; k++) {
      for (int c = 0; c < channels; c++) {
        int from = (k * channels + c) * cols;
        int to = (c * kernel + k) * cols;
        for (int k2 = 0; k2 < kernel; k2++) {
          for (int c2 = 0; c2 < channels; c2++) {
            ordered[to + c2 * kernel + k2] = sum.values()[from + k2 * channels + c2];
          }
        }
      }
    }
    return new GramMatrix(cols, sum.samples(), ordered);
  }
}
