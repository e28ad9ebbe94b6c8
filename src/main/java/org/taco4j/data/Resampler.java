package org.taco4j.data;

import java.util.Arrays;
import java.util.function.DoubleUnaryOperator;

/**
 * Resizes images to the byte as Pillow's {@code Image.resize} does, and computes only the part of
 * the result that a crop keeps.
 *
 * <p>A resize is two passes, horizontal then vertical, and each rounds to 8 bits. An output sample
 * is a weighted sum of the input samples under its filter; the weights are fixed-point numbers with
 * {@value #PRECISION_BITS} fractional bits. When an axis shrinks, the filter is stretched by the
 * factor (antialiasing). A pass whose axis keeps its size is left out.
 */
final class Resampler {
  /** 32 bits less 8 of a sample, less 2: negative lobes let a sum leave 0..255 before clipping. */
  private static final int PRECISION_BITS = 32 - 8 - 2;

  private static final int HALF = 1 << (PRECISION_BITS - 1);

  private Resampler() {}

  /**
   * A part of the resized image.
   *
   * @param x first column
   * @param y first row
   * @param width columns
   * @param height rows
   */
  record Window(int x, int y, int width, int height) {}

  /**
   * The {@code window} of {@code image} resized to {@code width} x {@code height}. The window lies
   * inside; {@code image} itself comes back when nothing is to be done.
   */
  static RgbImage resize(
      RgbImage image, int width, int height, Preprocessing.Filter filter, Window window) {
    if (image.width() == width && image.height() == height) {
      return crop(image, window);
    }
    return switch (filter) {
      case NEAREST -> nearest(image, width, height, window);
      case BILINEAR -> convolve(image, width, height, 1, Resampler::triangle, window);
      case BICUBIC -> convolve(image, width, height, 2, Resampler::cubic, window);
      case LANCZOS -> convolve(image, width, height, 3, Resampler::lanczos, window);
    };
  }

  private static RgbImage crop(RgbImage image, Window window) {
    if (window.width() == image.width() && window.height() == image.height()) {
      return image;
    }
    byte[] out = new byte[3 * window.width() * window.height()];
    int rowLength = 3 * window.width();
    for (int y = 0; y < window.height(); y++) {
      int from = 3 * ((window.y() + y) * image.width() + window.x());
      System.arraycopy(image.rgb(), from, out, y * rowLength, rowLength);
    }
    return new RgbImage(window.width(), window.height(), out);
  }

  private static RgbImage convolve(
      RgbImage image,
      int width,
      int height,
      double support,
      DoubleUnaryOperator kernel,
      Window window) {
    Weights vertical =
        image.height() == height
            ? null
            : Weights.of(image.height(), height, window.y(), window.height(), support, kernel);
    // Only the rows that the vertical pass will read go through the horizontal one.
    int firstRow = vertical == null ? window.y() : vertical.start();
    int rows = vertical == null ? window.height() : vertical.end() - firstRow;
    RgbImage between;
    if (image.width() == width) {
      between = crop(image, new Window(window.x(), firstRow, window.width(), rows));
    } else {
      Weights horizontal =
          Weights.of(image.width(), width, window.x(), window.width(), support, kernel);
      between =
          new RgbImage(window.width(), rows, horizontalPass(image, firstRow, rows, horizontal));
    }
    if (vertical == null) {
      return between;
    }
    byte[] out = verticalPass(between.rgb(), 3 * window.width(), firstRow, vertical);
    return new RgbImage(window.width(), window.height(), out);
  }

  /** Result: [rows, outputs of {@code weights}, 3]. */
  private static byte[] horizontalPass(RgbImage image, int firstRow, int rows, Weights weights) {
    byte[] in = image.rgb();
    int outputs = weights.first.length;
    byte[] out = new byte[Math.multiplyExact(3 * rows, outputs)];
    int at = 0;
    for (int y = firstRow; y < firstRow + rows; y++) {
      int row = 3 * y * image.width();
      for (int x = 0; x < outputs; x++) {
        int red = HALF;
        int green = HALF;
        int blue = HALF;
        int sample = row + 3 * weights.first[x];
        int weight = x * weights.stride;
        for (int end = weight + weights.count[x]; weight < end; weight++, sample += 3) {
          int w = weights.values[weight];
          red += w * (in[sample] & 0xff);
          green += w * (in[sample + 1] & 0xff);
          blue += w * (in[sample + 2] & 0xff);
        }
        out[at++] = clip(red);
        out[at++] = clip(green);
        out[at++] = clip(blue);
      }
    }
    return out;
  }

  /** {@code in}: rows of {@code rowLength} samples, the first of which is row {@code firstRow}. */
  private static byte[] verticalPass(byte[] in, int rowLength, int firstRow, Weights weights) {
    int outputs = weights.first.length;
    byte[] out = new byte[rowLength * outputs];
    int[] sums = new int[rowLength];
    for (int y = 0; y < outputs; y++) {
      Arrays.fill(sums, HALF);
      for (int k = 0; k < weights.count[y]; k++) {
        int w = weights.values[y * weights.stride + k];
        int row = (weights.first[y] + k - firstRow) * rowLength;
        for (int i = 0; i < rowLength; i++) {
          sums[i] += w * (in[row + i] & 0xff);
        }
      }
      for (int i = 0; i < rowLength; i++) {
        out[y * rowLength + i] = clip(sums[i]);
      }
    }
    return out;
  }

  private static byte clip(int sum) {
    return (byte) Math.clamp(sum >> PRECISION_BITS, 0, 255);
  }

  private static RgbImage nearest(RgbImage image, int width, int height, Window window) {
    int[] columns = nearestIndices(image.width(), width, window.x(), window.width());
    int[] rows = nearestIndices(image.height(), height, window.y(), window.height());
    byte[] out = new byte[3 * window.width() * window.height()];
    int at = 0;
    for (int row : rows) {
      for (int column : columns) {
        System.arraycopy(image.rgb(), 3 * (row * image.width() + column), out, at, 3);
        at += 3;
      }
    }
    return new RgbImage(window.width(), window.height(), out);
  }

  private static int[] nearestIndices(int inSize, int outSize, int from, int count) {
    int[] indices = new int[count];
    double scale = (double) inSize / outSize;
    // Pillow adds the step again and again; a product would round differently now and then.
    double centre = scale * 0.5;
    for (int i = 0; i < from + count; i++) {
      if (i >= from) {
        indices[i - from] = Math.min((int) centre, inSize - 1);
      }
      centre += scale;
    }
    return indices;
  }

  private static double triangle(double x) {
    double distance = Math.abs(x);
    return distance < 1 ? 1 - distance : 0;
  }

  private static double cubic(double x) {
    double a = -0.5;
    double d = Math.abs(x);
    if (d < 1) {
      return ((a + 2) * d - (a + 3)) * d * d + 1;
    }
    return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
  }

  private static double lanczos(double x) {
    return -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0;
  }

  private static double sinc(double x) {
    if (x == 0) {
      return 1;
    }
    double radians = x * Math.PI;
    return Math.sin(radians) / radians;
  }

  /** The fixed-point weights of one axis, for a range of output positions. */
  private static final class Weights {
    /** Of each output position: the first input position under the filter. */
    final int[] first;

    /** Of each output position: how many input positions are under the filter. */
    final int[] count;

    /** Of each output position, {@code stride} apart: its weights. */
    final int[] values;

    final int stride;

    private Weights(int outputs, int stride) {
      this.first = new int[outputs];
      this.count = new int[outputs];
      this.values = new int[outputs * stride];
      this.stride = stride;
    }

    /** The first input position that any output needs. */
    int start() {
      return first[0];
    }

    /** One past the last input position that any output needs. */
    int end() {
      int last = first.length - 1;
      return first[last] + count[last];
    }

    static Weights of(
        int inSize,
        int outSize,
        int from,
        int outputs,
        double kernelSupport,
        DoubleUnaryOperator kernel) {
      double scale = (double) inSize / outSize;
      double stretch = Math.max(scale, 1.0);
      double support = kernelSupport * stretch;
      double inverseStretch = 1.0 / stretch;
      int stride = (int) Math.ceil(support) * 2 + 1;
      Weights weights = new Weights(outputs, stride);
      double[] exact = new double[stride];
      for (int i = 0; i < outputs; i++) {
        double centre = (from + i + 0.5) * scale;
        int low = Math.max((int) (centre - support + 0.5), 0);
        int high = Math.min((int) (centre + support + 0.5), inSize);
        int count = high - low;
        double sum = 0;
        for (int k = 0; k < count; k++) {
          exact[k] = kernel.applyAsDouble((k + low - centre + 0.5) * inverseStretch);
          sum += exact[k];
        }
        for (int k = 0; k < count; k++) {
          double weight = (sum == 0 ? exact[k] : exact[k] / sum) * (1 << PRECISION_BITS);
          // To the nearest, halves away from zero.
          weights.values[i * stride + k] = (int) (weight < 0 ? weight - 0.5 : weight + 0.5);
        }
        weights.first[i] = low;
        weights.count[i] = count;
      }
      return weights;
    }
  }
}
