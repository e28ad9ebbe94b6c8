package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.onnx.Unfold;

/**
 * Reads the samples of a layer problem out of a tensor into the rows of a tile, as matrix products
 * want them. Used by one thread at a time.
 */
abstract class SampleReader {
  private final int cols;

  private SampleReader(int cols) {
    this.cols = cols;
  }

  /** The reader that fits the way samples are laid out. */
  static SampleReader of(Unfold unfold, int group) {
    return switch (unfold) {
      case Unfold.LastAxis u -> new Rows(u.features());
      case Unfold.SecondToLastAxis u -> new Columns(u.features());
      case Unfold.Convolution u -> new Patches(u, group);
    };
  }

  /** The length of a sample. */
  final int cols() {
    return cols;
  }

  /** How many samples a tensor of the given shape holds. */
  abstract int samples(long[] shape);

  /**
   * Writes samples into a tile. A tensor is read from its first sample to its last, in as many
   * calls as one likes, before the next one is begun.
   *
   * @param tensor row-major; borrowed
   * @param shape its dimensions
   * @param first the first sample
   * @param count how many
   * @param tile [rows, cols]; the samples go into the rows from {@code row} on
   */
  abstract void read(FloatBuffer tensor, long[] shape, int first, int count, float[] tile, int row);

  /** [cols]: the column of the layer problem that each column of a tile is; null for the same. */
  int @Nullable [] columns() {
    return null;
  }

  /** A matrix, [rows, cols], whose rows run over the columns of a tile, in the layer's order. */
  final double[] columnsInLayerOrder(double[] matrix) {
    int[] columns = columns();
    if (columns == null) {
      return matrix;
    }
    double[] ordered = new double[matrix.length];
    for (int row = 0; row < matrix.length; row += cols) {
      for (int i = 0; i < cols; i++) {
        ordered[row + columns[i]] = matrix[row + i];
      }
    }
    return ordered;
  }

  /** A matrix, [cols, cols], over the columns of a tile on both sides, in the layer's order. */
  final double[] gramInLayerOrder(double[] matrix) {
    int[] columns = columns();
    if (columns == null) {
      return matrix;
    }
    double[] ordered = new double[matrix.length];
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j < cols; j++) {
        ordered[columns[i] * cols + columns[j]] = matrix[i * cols + j];
      }
    }
    return ordered;
  }

  /** Samples are the rows of the last axis: the inputs of Gemm and MatMul. */
  private static final class Rows extends SampleReader {
    Rows(int features) {
      super(features);
    }

    @Override
    int samples(long[] shape) {
      int samples = 1;
      for (int i = 0; i < shape.length - 1; i++) {
        samples = Math.multiplyExact(samples, Math.toIntExact(shape[i]));
      }
      return samples;
    }

    @Override
    void read(FloatBuffer tensor, long[] shape, int first, int count, float[] tile, int row) {
      tensor.get(first * cols(), tile, row * cols(), count * cols());
    }
  }

  /** Samples are the columns of the last two axes: MatMul with its constant on the left. */
  private static final class Columns extends SampleReader {
    private float[] line = new float[0];

    Columns(int features) {
      super(features);
    }

    @Override
    int samples(long[] shape) {
      int samples = Math.toIntExact(shape[shape.length - 1]);
      for (int i = 0; i < shape.length - 2; i++) {
        samples = Math.multiplyExact(samples, Math.toIntExact(shape[i]));
      }
      return samples;
    }

    @Override
    void read(FloatBuffer tensor, long[] shape, int first, int count, float[] tile, int row) {
      int width = Math.toIntExact(shape[shape.length - 1]);
      if (line.length < width) {
        line = new float[width];
      }
      for (int done = 0; done < count; ) {
        int matrix = (first + done) / width;
        int column = (first + done) % width;
        int run = Math.min(count - done, width - column);
        for (int i = 0; i < cols(); i++) {
          tensor.get((matrix * cols() + i) * width + column, line, 0, run);
          for (int s = 0, at = (row + done) * cols() + i; s < run; s++, at += cols()) {
            tile[at] = line[s];
          }
        }
        done += run;
      }
    }
  }

  /**
   * Samples are the patches of a convolution. In a tile the columns are in the order (ky, kx, c),
   * in which patches are runs of memory.
   */
  private static final class Patches extends SampleReader {
    private final Unfold.Convolution unfold;
    private final int group;
    private final PixelLayout pixels = new PixelLayout();

    /** One image: [height, width, channels]. */
    private float[] image = new float[0];

    Patches(Unfold.Convolution unfold, int group) {
      super(unfold.cols());
      this.unfold = unfold;
      this.group = group;
    }

    private int height(long[] shape) {
      return unfold.oneDimensional() ? 1 : Math.toIntExact(shape[2]);
    }

    private static int width(long[] shape) {
      return Math.toIntExact(shape[shape.length - 1]);
    }

    @Override
    int samples(long[] shape) {
      int height = height(shape);
      int width = width(shape);
      return Math.multiplyExact(
          Math.toIntExact(shape[0]),
          unfold.outputHeight(height, width) * unfold.outputWidth(height, width));
    }

    @Override
    void read(FloatBuffer tensor, long[] shape, int first, int count, float[] tile, int row) {
      int height = height(shape);
      int width = width(shape);
      int outputWidth = unfold.outputWidth(height, width);
      int positions = unfold.outputHeight(height, width) * outputWidth;
      int[] pads = unfold.pads(height, width);
      for (int i = 0; i < count; i++) {
        int position = (first + i) % positions;
        if (position == 0) {
          load(tensor, shape, (first + i) / positions);
        }
        int top = position / outputWidth * unfold.strideHeight() - pads[0];
        int left = position % outputWidth * unfold.strideWidth() - pads[1];
        unfold(top, left, height, width, tile, (row + i) * cols());
      }
    }

    private void load(FloatBuffer tensor, long[] shape, int index) {
      int plane = height(shape) * width(shape);
      if (image.length < plane * unfold.channels()) {
        image = new float[plane * unfold.channels()];
      }
      int start = (index * Math.toIntExact(shape[1]) + group * unfold.channels()) * plane;
      pixels.write(
          tensor, start, unfold.channels(), height(shape), width(shape), image, 0, width(shape));
    }

    /** Writes the patch whose first pixel is at the given row and column of the image. */
    private void unfold(int top, int left, int height, int width, float[] tile, int offset) {
      int channels = unfold.channels();
      int target = offset;
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

    @Override
    int @Nullable [] columns() {
      int kernel = unfold.kernelHeight() * unfold.kernelWidth();
      if (kernel == 1) {
        return null;
      }
      return IntStream.range(0, cols())
          .map(i -> i % unfold.channels() * kernel + i / unfold.channels())
          .toArray();
    }
  }
}
