package org.taco4j.reconstruct;

import java.util.Arrays;

/**
 * Mean and variance of each channel of a tensor over all images and positions, accumulated in
 * double. Merging partial results in a fixed order gives the same bytes at any thread count.
 */
final class ChannelMoments {
  private final double[] mean;
  private final double[] squares;
  private long count;

  ChannelMoments(int channels) {
    this.mean = new double[channels];
    this.squares = new double[channels];
  }

  /**
   * The moments of one tensor.
   *
   * @param values row-major
   * @param shape its dimensions
   * @param axis the channel axis; negative counts from the end
   */
  static ChannelMoments of(float[] values, long[] shape, int axis) {
    int a = axis < 0 ? axis + shape.length : axis;
    int channels = Math.toIntExact(shape[a]);
    int inner = 1;
    for (int i = a + 1; i < shape.length; i++) {
      inner *= Math.toIntExact(shape[i]);
    }
    int outer = values.length / (channels * inner);
    ChannelMoments moments = new ChannelMoments(channels);
    moments.count = (long) outer * inner;
    // Two passes: sums of squares about the true mean do not cancel.
    for (int o = 0; o < outer; o++) {
      for (int c = 0; c < channels; c++) {
        int at = (o * channels + c) * inner;
        double sum = 0;
        for (int i = 0; i < inner; i++) {
          sum += values[at + i];
        }
        moments.mean[c] += sum;
      }
    }
    for (int c = 0; c < channels; c++) {
      moments.mean[c] /= Math.max(1, moments.count);
    }
    for (int o = 0; o < outer; o++) {
      for (int c = 0; c < channels; c++) {
        int at = (o * channels + c) * inner;
        double m = moments.mean[c];
        double sum = 0;
        for (int i = 0; i < inner; i++) {
          double d = values[at + i] - m;
          sum += d * d;
        }
        moments.squares[c] += sum;
      }
    }
    return moments;
  }

  /** Adds the samples of {@code other} (Chan, Golub, LeVeque 1979, equation 2.1). */
  void merge(ChannelMoments other) {
    if (other.count == 0) {
      return;
    }
    double total = (double) count + other.count;
    for (int c = 0; c < mean.length; c++) {
      double delta = other.mean[c] - mean[c];
      squares[c] += other.squares[c] + delta * delta * count * other.count / total;
      mean[c] += delta * other.count / total;
    }
    count += other.count;
  }

  double mean(int channel) {
    return mean[channel];
  }

  /** Population variance. */
  double variance(int channel) {
    return squares[channel] / Math.max(1, count);
  }

  int channels() {
    return mean.length;
  }

  /**
   * Applies values ← scale[c] · values + shift[c] along a channel axis.
   *
   * @return a new array
   */
  static float[] affine(float[] values, long[] shape, int axis, float[] scale, float[] shift) {
    int a = axis < 0 ? axis + shape.length : axis;
    int channels = Math.toIntExact(shape[a]);
    int inner = 1;
    for (int i = a + 1; i < shape.length; i++) {
      inner *= Math.toIntExact(shape[i]);
    }
    float[] result = Arrays.copyOf(values, values.length);
    for (int at = 0, c = 0; at < result.length; at += inner, c = c + 1 == channels ? 0 : c + 1) {
      for (int i = at; i < at + inner; i++) {
        result[i] = scale[c] * result[i] + shift[c];
      }
    }
    return result;
  }
}
