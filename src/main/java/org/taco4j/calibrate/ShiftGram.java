package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import java.util.Arrays;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.onnx.Unfold;

/**
 * The Gram matrix of a 3x3 convolution with stride 1 and padding 1, without unfolding. With x_c(q)
 * for channel c at pixel q, the entry of (c, k) and (c', k') is the sum over output positions p of
 * x_c(p + k) · x_c'(p + k'), which depends on k and k' mostly through the shift δ = k' − k:
 *
 * <p>G(k, k') = R(δ) − row(k) − column(k) + corner(k), where R(δ) = Σ_q x(q) x(q + δ)ᵀ runs over
 * all pixels. Only where δ keeps the row (or the column) does the border of the output cut off a
 * row (a column) of that sum: with ky = 0 the last one, with ky = 2 the first one. So 13 products
 * of C x C matrices over all pixels and 16 over borders stand for the 45 of the unfolded form: a
 * third of the work.
 *
 * <p>Images are kept with two zero columns at the right and two zero rows at the bottom, so that a
 * shift is a constant offset and what falls off the image reads zero.
 */
final class ShiftGram implements GramAccumulator {
  /** Pixels, at the least, that are multiplied at a time: small images wait for one another. */
  private static final int PIXELS = 1024;

  /** Channels whose pairs are assembled together: 2 · (9 · BLOCK)² doubles fit in the L2 cache. */
  private static final int BLOCK = 16;

  /** Shifts δ = (dy, dx) whose transposes are not in the list: R(−δ) = R(δ)ᵀ. */
  private static final int[][] SHIFTS = {
    {0, 0}, {0, 1}, {0, 2}, {1, -2}, {1, -1}, {1, 0}, {1, 1}, {1, 2}, {2, -2}, {2, -1}, {2, 0},
    {2, 1}, {2, 2}
  };

  // Where each kind of product starts in the sums: [side][shift] for borders.
  private static final int ROWS = SHIFTS.length;
  private static final int COLUMNS = ROWS + 6;
  private static final int CORNERS = COLUMNS + 6;
  private static final int PRODUCTS = CORNERS + 4;

  private final int channels;
  private final int group;
  private final Backend backend;
  private final FloatMatrix product;
  private final DoubleMatrix[] sums = new DoubleMatrix[PRODUCTS];
  private int height;
  private int width;

  private final PixelLayout pixels = new PixelLayout();

  /** [pixels, channels]: slots for images, each padded, and zeros for the last one's shifts. */
  private float[] buffer = new float[0];

  private int slots;
  private int filled;
  private float[] border = new float[0];
  private long samples;

  ShiftGram(Unfold.Convolution unfold, int group, Backend backend) {
    this.channels = unfold.channels();
    this.group = group;
    this.backend = backend;
    this.product = FloatMatrix.zeros(channels, channels);
    Arrays.setAll(sums, i -> DoubleMatrix.zeros(channels, channels));
  }

  /** Whether this is the kind of convolution that the class is for. */
  static boolean fits(Unfold.Convolution u) {
    return u.autoPad() == Unfold.AutoPad.EXPLICIT
        && !u.oneDimensional()
        && u.kernelHeight() == 3
        && u.kernelWidth() == 3
        && u.strideHeight() == 1
        && u.strideWidth() == 1
        && u.dilationHeight() == 1
        && u.dilationWidth() == 1
        && u.padTop() == 1
        && u.padLeft() == 1
        && u.padBottom() == 1
        && u.padRight() == 1;
  }

  @Override
  public void add(FloatBuffer activation, long[] shape) {
    int images = Math.toIntExact(shape[0]);
    int allChannels = Math.toIntExact(shape[1]);
    layOut(Math.toIntExact(shape[2]), Math.toIntExact(shape[3]));
    int plane = height * width;
    for (int image = 0; image < images; image++) {
      int source = (image * allChannels + group * channels) * plane;
      int target = filled * paddedImage() * channels;
      pixels.write(activation, source, channels, height, width, buffer, target, width + 2);
      if (++filled == slots) {
        flush();
      }
    }
    samples += (long) images * plane;
  }

  private int paddedImage() {
    return (height + 2) * (width + 2);
  }

  /** Makes the buffer fit images of the given size. */
  private void layOut(int imageHeight, int imageWidth) {
    if (imageHeight == height && imageWidth == width) {
      return;
    }
    flush();
    height = imageHeight;
    width = imageWidth;
    slots = (PIXELS + height * width - 1) / (height * width);
    int pixelsOfAll = slots * paddedImage() + 2 * (width + 2) + 2;
    buffer = new float[Math.multiplyExact(channels, pixelsOfAll)];
  }

  /** Adds what is in the buffer to the sums. */
  private void flush() {
    if (filled == 0) {
      return;
    }
    Arrays.fill(buffer, filled * paddedImage() * channels, slots * paddedImage() * channels, 0f);
    int paddedWidth = width + 2;
    for (int s = 0; s < SHIFTS.length; s++) {
      multiply(buffer, SHIFTS[s][0] * paddedWidth + SHIFTS[s][1], filled * paddedImage(), s);
    }

    // Border rows: of each image one padded row; then border columns, likewise.
    for (int side = 0; side < 2; side++) {
      int row = side == 0 ? 0 : height - 1;
      int length = gather(row * paddedWidth, 1, paddedWidth);
      for (int dx = 0; dx < 3; dx++) {
        multiply(border, dx, length, ROWS + side * 3 + dx);
      }
    }
    for (int side = 0; side < 2; side++) {
      int column = side == 0 ? 0 : width - 1;
      int length = gather(column, paddedWidth, height + 2);
      for (int dy = 0; dy < 3; dy++) {
        multiply(border, dy, length, COLUMNS + side * 3 + dy);
      }
      for (int rowSide = 0; rowSide < 2; rowSide++) {
        int row = rowSide == 0 ? 0 : height - 1;
        int corners = gather(row * paddedWidth + column, 1, 1);
        multiply(border, 0, corners, CORNERS + rowSide * 2 + side);
      }
    }
    filled = 0;
  }

  /**
   * Copies {@code length} pixels of each image, {@code step} apart from {@code start} on, into the
   * border buffer, [images · length + 2, channels] with two zero pixels at the end.
   *
   * @return images · length
   */
  private int gather(int start, int step, int length) {
    int size = (filled * length + 2) * channels;
    if (border.length < size) {
      border = new float[size];
    }
    int target = 0;
    for (int image = 0; image < filled; image++) {
      int source = (image * paddedImage() + start) * channels;
      for (int i = 0; i < length; i++) {
        System.arraycopy(buffer, source + i * step * channels, border, target, channels);
        target += channels;
      }
    }
    Arrays.fill(border, target, size, 0f);
    return filled * length;
  }

  /**
   * sums[index] += AᵀB, A: the first [count, channels] of x, B the same {@code shift} pixels on.
   */
  private void multiply(float[] x, int shift, int count, int index) {
    FloatMatrix left = new FloatMatrix(x, 0, count, channels, channels, 1);
    FloatMatrix right = new FloatMatrix(x, shift * channels, count, channels, channels, 1);
    backend.gramTile(left, right, product);
    sums[index].add(product);
  }

  @Override
  public GramMatrix finish() {
    flush();
    int cols = channels * 9;
    double[] gram = new double[Math.multiplyExact(cols, cols)];
    // Blocks of channel pairs, so that what is written of the 81 kernel pairs stays in cache.
    for (int c = 0; c < channels; c += BLOCK) {
      for (int d = 0; d < channels; d += BLOCK) {
        for (int s = 0; s < SHIFTS.length; s++) {
          assemble(gram, s, c, Math.min(channels, c + BLOCK), d, Math.min(channels, d + BLOCK));
        }
      }
    }
    return new GramMatrix(cols, samples, gram);
  }

  /** Writes the entries of one shift, and of its opposite, for a block of channel pairs. */
  private void assemble(double[] gram, int shift, int c0, int c1, int d0, int d1) {
    int cols = channels * 9;
    int dy = SHIFTS[shift][0];
    int dx = SHIFTS[shift][1];
    double[] all = sums[shift].data();
    for (int ky = 0; ky + dy < 3; ky++) {
      for (int kx = Math.max(0, -dx); kx < 3 && kx + dx < 3; kx++) {
        double[] row = dy == 0 && ky != 1 ? sums[ROWS + side(ky) * 3 + dx].data() : null;
        double[] column = dx == 0 && kx != 1 ? sums[COLUMNS + side(kx) * 3 + dy].data() : null;
        double[] corner =
            row != null && column != null ? sums[CORNERS + side(ky) * 2 + side(kx)].data() : null;
        int k = ky * 3 + kx;
        int shifted = (ky + dy) * 3 + kx + dx;
        for (int c = c0; c < c1; c++) {
          for (int d = d0; d < d1; d++) {
            int at = c * channels + d;
            double value = all[at];
            if (row != null) {
              value -= row[at];
            }
            if (column != null) {
              value -= column[at];
            }
            if (corner != null) {
              value += corner[at];
            }
            gram[(c * 9 + k) * cols + d * 9 + shifted] = value;
            gram[(d * 9 + shifted) * cols + c * 9 + k] = value;
          }
        }
      }
    }
  }

  /** Kernel row 0 never sees the last image row (side 1), kernel row 2 never the first (side 0). */
  private static int side(int kernelRow) {
    return kernelRow == 0 ? 1 : 0;
  }
}
