package org.taco4j.calibrate;

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

  /** Positions in a tile at the least: adding the product in double is then little beside it. */
  private static final int LEAST_POSITIONS = 512;

  private final Unfold.Convolution unfold;
  private final int group;
  private final int positions;
  private final float[] tile;
  private final DoubleGram gram;
  private int filled;

  PatchGram(Unfold.Convolution unfold, int group, Backend backend) {
    this.unfold = unfold;
    this.group = group;
    this.positions = Math.max(LEAST_POSITIONS, TILE_FLOATS / unfold.cols());
    this.tile = new float[Math.multiplyExact(positions, unfold.cols())];
    this.gram = new DoubleGram(unfold.cols(), backend);
  }

  @Override
  public void add(float[] activation, long[] shape) {
    int images = Math.toIntExact(shape[0]);
    int allChannels = Math.toIntExact(shape[1]);
    int height = unfold.oneDimensional() ? 1 : Math.toIntExact(shape[2]);
    int width = Math.toIntExact(shape[shape.length - 1]);
    int outputHeight = unfold.outputHeight(height, width);
    int outputWidth = unfold.outputWidth(height, width);
    int[] pads = unfold.pads(height, width);
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
      float[] x, int base, int height, int width, int[] pads, int oy, int ox, int run) {
    int stride = unfold.strideWidth();
    int row = 0;
    for (int c = 0; c < unfold.channels(); c++) {
      for (int ky = 0; ky < unfold.kernelHeight(); ky++) {
        int y = oy * unfold.strideHeight() + ky * unfold.dilationHeight() - pads[0];
        int source = base + (c * height + y) * width;
        for (int kx = 0; kx < unfold.kernelWidth(); kx++, row++) {
          int target = row * positions + filled;
          int firstX = ox * stride + kx * unfold.dilationWidth() - pads[1];
          if (y < 0 || y >= height) {
            Arrays.fill(tile, target, target + run, 0f);
          } else if (stride == 1) {
            int from = Math.clamp(-firstX, 0, run);
            int to = Math.clamp(width - firstX, from, run);
            Arrays.fill(tile, target, target + from, 0f);
            System.arraycopy(x, source + firstX + from, tile, target + from, to - from);
            Arrays.fill(tile, target + to, target + run, 0f);
          } else {
            for (int i = 0; i < run; i++) {
              int column = firstX + i * stride;
              tile[target + i] = column >= 0 && column < width ? x[source + column] : 0f;
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
