package org.taco4j.solve;

import java.util.Arrays;
import org.taco4j.common.Workers;

/**
 * The points that the weights of each row may take: scale · (code - zero), code = 0, 1, …, 2^bits -
 * 1. One scale and zero for each row, that is for each output channel.
 *
 * @param bits of a code
 * @param symmetric whether the zero of every row is 2^(bits-1)
 * @param scale [rows], positive
 * @param zero [rows], whole numbers between 0 and 2^bits - 1: the code of 0
 */
@SuppressWarnings("ArrayRecordComponent") // owned by whoever asked for it
public record QuantizationGrid(int bits, boolean symmetric, float[] scale, float[] zero) {
  /** The search shrinks the range by 0, 1, …, 79 %. */
  private static final int SEARCH_STEPS = 80;

  /** What dividing the bits of 1 by 5 takes off too much. */
  private static final long FIFTH_ROOT_BIAS = 4 * ((1023L << 52) / 5);

  /** Weights added up before it is asked whether a scale can still win. */
  private static final int SEARCH_CHUNK = 64;

  /** Fixed, so that a task is worth its start. */
  private static final int TASK_ROWS = 4;

  /** Checks that there is a zero for each scale. */
  public QuantizationGrid {
    if (scale.length != zero.length) {
      throw new IllegalArgumentException(scale.length + " scales, " + zero.length + " zeros");
    }
  }

  /**
   * The grid that fits the weights: from each row's minimum to its maximum, 0 among them; where it
   * is to be symmetric, from its largest magnitude's negative to itself; both shrunk by up to 79 %
   * where the scale is to be searched, for the least Σ |q - w|^2.4.
   *
   * @param weights [rows, cols] row-major
   */
  static QuantizationGrid fit(
      float[] weights, int rows, Quantization quantization, Workers workers) {
    int cols = weights.length / rows;
    QuantizationGrid grid =
        new QuantizationGrid(
            quantization.bits(), quantization.symmetric(), new float[rows], new float[rows]);
    workers.forEach(
        (rows + TASK_ROWS - 1) / TASK_ROWS,
        task -> {
          int end = Math.min(rows, (task + 1) * TASK_ROWS);
          for (int row = task * TASK_ROWS; row < end; row++) {
            float[] values = Arrays.copyOfRange(weights, row * cols, (row + 1) * cols);
            grid.fitRow(row, values, quantization.searchScale());
          }
        });
    return grid;
  }

  private void fitRow(int row, float[] values, boolean search) {
    float min = 0;
    float max = 0;
    for (float value : values) {
      min = Math.min(min, value);
      max = Math.max(max, value);
    }
    if (symmetric) {
      max = Math.max(-min, max);
      min = -max;
    }
    if (min == 0 && max == 0) {
      min = -1;
      max = 1;
    }
    setRow(row, min, max);
    if (!search) {
      return;
    }
    double least = Double.POSITIVE_INFINITY;
    float bestScale = scale[row];
    float bestZero = zero[row];
    for (int step = 0; step < SEARCH_STEPS; step++) {
      float part = (float) (1 - step / 100.0);
      setRow(row, part * min, part * max);
      double error = searchError(row, values, least);
      if (error < least) {
        least = error;
        bestScale = scale[row];
        bestZero = zero[row];
      }
    }
    scale[row] = bestScale;
    zero[row] = bestZero;
  }

  private void setRow(int row, float min, float max) {
    // The range of a row of the smallest floats must not become the scale 0.
    scale[row] = Math.max(Float.MIN_NORMAL, (max - min) / (levels() - 1));
    zero[row] = symmetric ? levels() / 2 : (float) Math.rint(-min / scale[row]) + 0f;
  }

  /** Σ |q - w|^2.4 of a row, or some sum that is not less than {@code limit}. */
  private double searchError(int row, float[] values, double limit) {
    double sum = 0;
    for (int first = 0; first < values.length && sum < limit; first += SEARCH_CHUNK) {
      int end = Math.min(values.length, first + SEARCH_CHUNK);
      for (int i = first; i < end; i++) {
        sum += searchPower(Math.abs(nearest(row, values[i]) - values[i]));
      }
    }
    return sum;
  }

  /**
   * x^2.4, the power by which GPTQ's published code searches, for x &gt;= 0: (x · x^0.2)², the
   * fifth root by Newton's method from a guess that divides the exponent by 5 and is right to 4 %.
   * Three steps leave 1e-9; several times faster than {@link Math#pow}.
   */
  private static double searchPower(double x) {
    double root = Double.longBitsToDouble(Double.doubleToRawLongBits(x) / 5 + FIFTH_ROOT_BIAS);
    for (int i = 0; i < 3; i++) {
      double square = root * root;
      root = 0.8 * root + 0.2 * x / (square * square);
    }
    double product = x * root;
    return product * product;
  }

  /** How many points a row has: 2^bits. */
  public int levels() {
    return 1 << bits;
  }

  /** The lowest point of a row in units of its scale; not above 0. */
  float lowest(int row) {
    return -zero[row];
  }

  /** The highest point of a row in units of its scale; not below 0. */
  float highest(int row) {
    return levels() - 1 - zero[row];
  }

  /** The point nearest to a weight, half to even; zeros are +0. */
  float nearest(int row, float weight) {
    float rounded = (float) Math.rint(weight / scale[row]);
    return scale[row] * Math.max(lowest(row), Math.min(highest(row), rounded)) + 0f;
  }

  /** {@link #lowest} of all rows. */
  float[] lowest() {
    float[] lowest = new float[scale.length];
    for (int row = 0; row < lowest.length; row++) {
      lowest[row] = lowest(row);
    }
    return lowest;
  }

  /** {@link #highest} of all rows. */
  float[] highest() {
    float[] highest = new float[scale.length];
    for (int row = 0; row < highest.length; row++) {
      highest[row] = highest(row);
    }
    return highest;
  }
}
