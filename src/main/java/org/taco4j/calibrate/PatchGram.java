package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import java.util.Arrays;
import org.taco4j.compute.Backend;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.onnx.Unfold;

/**
 * Samples are the patches of any convolution: they are unfolded into a tile of some hundred
 * positions, [cols, positions], which is multiplied when it is full.
 */
final class PatchGram implements GramAccumulator {
  /** Floats in a tile of a narrow convolution (1 MiB). */
  private static final int TILE_FLOATS = 1 << 18;

  private final Unfold.Convolution unfold;
  private final int group;
  private final int positions;
  private final float[] tile;
  private final DoubleGram gram;
  private float[] imageRow = new float[0];
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
    if (unfold.cols() == unfold.channels() && outputHeight == height && outputWidth == width) {
      // Pointwise: the rows of an image follow one another, so it may as well be one long row.
      width *= height;
      outputWidth = width;
      height = 1;
      outputHeight = 1;
    }
    int plane = height * width;
    for (int image = 0; image < images; image++) {
      int base = (image * allChannels + group * unfold.channels()) * plane;
      for (int oy = 0; oy < outputHeight; oy++) {
        for (int ox = 0; ox < outputWidth; ) {
          int run = Math.min(outputWidth - ox, positions - filled);
          unfoldRun(activation, base, height, width, pads, oy, ox, run);
          ox += run;
          filled += run;
          if (filled == positions) {
            flush();
          }
        }
      }
    }
  }

  /** Fills {@code run} positions of the tile: those of output row oy from ox on. */
  private void unfoldRun(
      FloatBuffer x, int base, int height, int width, int[] pads, int oy, int ox, int run) {
    int stride = unfold.strideWidth();
    // The columns of the image that this run reads at any kernel position.
    int left = Math.clamp(ox * stride - pads[1], 0, width);
    int right =
        Math.clamp(
            (ox + run - 1L) * stride
                + (unfold.kernelWidth() - 1L) * unfold.dilationWidth()
                - pads[1]
                + 1,
            left,
            width);
    if (imageRow.length < right - left) {
      imageRow = new float[right - left];
    }
    int row = 0;
    for (int c = 0; c < unfold.channels(); c++) {
      for (int ky = 0; ky < unfold.kernelHeight(); ky++) {
        int y = oy * unfold.strideHeight() + ky * unfold.dilationHeight() - pads[0];
        boolean inside = y >= 0 && y < height;
        if (inside) {
          x.get(base + (c * height + y) * width + left, imageRow, 0, right - left);
        }
        for (int kx = 0; kx < unfold.kernelWidth(); kx++, row++) {
          int target = row * positions + filled;
          int firstX = ox * stride + kx * unfold.dilationWidth() - pads[1];
          if (!inside) {
            Arrays.fill(tile, target, target + run, 0f);
          } else if (stride == 1) {
            int from = Math.clamp(-firstX, 0, run);
            int to = Math.clamp(width - firstX, from, run);
            Arrays.fill(tile, target, target + from, 0f);
            System.arraycopy(imageRow, firstX + from - left, tile, target + from, to - from);
            Arrays.fill(tile, target + to, target + run, 0f);
          } else {
            for (int i = 0; i < run; i++) {
              int column = firstX + i * stride;
              tile[target + i] = column >= 0 && column < width ? imageRow[column - left] : 0f;
            }
          }
        }
      }
    }
  }

  private void flush() {
    if (filled > 0) {
      gram.add(new FloatMatrix(tile, 0, unfold.cols(), filled, positions, 1).transposed());
      filled = 0;
    }
  }

  @Override
  public GramMatrix finish() {
    flush();
    return gram.finish();
  }
}
