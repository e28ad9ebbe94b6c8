package org.taco4j.calibrate;

import java.nio.FloatBuffer;

/**
 * How often a tensor takes which values. Counts are whole numbers, so they do not depend on the
 * order in which values are added. First all values go to {@link #addExtremes}, then once more to
 * {@link #addCounts}. Not thread-safe.
 */
final class ActivationHistogram {
  /**
   * Bins between the least and the greatest value. A range a hundred times narrower than that still
   * spans 80 of them.
   */
  private static final int BINS = 1 << 13;

  /** Part of the values that the percentile leaves out at each end. */
  private static final double TAIL = 1e-4;

  /** The ends of a range are tried at each of that many equal parts of the extremes. */
  private static final int PARTS = 100;

  /** Rounds over both ends; the search ends before when neither moves. */
  private static final int MOST_ROUNDS = 8;

  private final String tensor;
  private float lowest = Float.POSITIVE_INFINITY;
  private float highest = Float.NEGATIVE_INFINITY;
  private boolean finite = true;
  private long count;
  private long[] counts = {};

  ActivationHistogram(String tensor) {
    this.tensor = tensor;
  }

  String tensor() {
    return tensor;
  }

  /** Whether all values were finite. */
  boolean isFinite() {
    return finite;
  }

  /** Takes in the least and the greatest of some values. */
  void addExtremes(FloatBuffer values) {
    for (int i = 0; i < values.limit(); i++) {
      float value = values.get(i);
      lowest = Math.min(lowest, value);
      highest = Math.max(highest, value);
    }
    // A NaN makes both NaN, and stays.
    finite &= values.limit() == 0 || (Float.isFinite(lowest) && Float.isFinite(highest));
  }

  /** Counts values that {@link #addExtremes} has seen. */
  void addCounts(FloatBuffer values) {
    if (counts.length == 0) {
      counts = new long[BINS];
    }
    double perBin = BINS / ((double) highest - lowest);
    for (int i = 0; i < values.limit(); i++) {
      int bin = (int) ((values.get(i) - (double) lowest) * perBin);
      counts[Math.clamp(bin, 0, BINS - 1)]++;
    }
    count += values.limit();
  }

  /** The range that a method chooses. */
  ActivationRange range(RangeMethod method) {
    float minimum = Math.min(0, lowest);
    float maximum = Math.max(0, highest);
    // Of a constant there is no distribution.
    if (method == RangeMethod.MIN_MAX || lowest == highest) {
      return ActivationRange.of(tensor, method, lowest, highest, minimum, maximum, 0);
    }
    if (method == RangeMethod.PERCENTILE) {
      float below = (float) Math.clamp(edge(firstAbove(TAIL)), minimum, 0);
      float above = (float) Math.clamp(edge(firstAbove(1 - TAIL) + 1), 0, maximum);
      return range(method, below, above);
    }
    return leastSquares(minimum, maximum);
  }

  private ActivationRange range(RangeMethod method, float minimum, float maximum) {
    long clipped = 0;
    for (int bin = 0; bin < BINS; bin++) {
      clipped += edge(bin + 1) <= minimum || edge(bin) >= maximum ? counts[bin] : 0;
    }
    // The greatest value itself lies on the upper edge of the last bin.
    return ActivationRange.of(
        tensor, method, lowest, highest, minimum, maximum, clipped / (double) count);
  }

  private double width() {
    return ((double) highest - lowest) / BINS;
  }

  /** The lower edge of a bin. */
  private double edge(int bin) {
    return lowest + bin * width();
  }

  /** The first bin up to which there is more than that share of all values. */
  private int firstAbove(double share) {
    long sum = 0;
    for (int bin = 0; bin < BINS; bin++) {
      sum += counts[bin];
      if (sum > share * count) {
        return bin;
      }
    }
    return BINS - 1;
  }

  /** Both ends in turns, each at the best of {@value #PARTS} places. */
  private ActivationRange leastSquares(float minimum, float maximum) {
    int bins = 0;
    double[] values = new double[BINS];
    double[] weights = new double[BINS];
    for (int bin = 0; bin < BINS; bin++) {
      if (counts[bin] > 0) {
        values[bins] = edge(bin) + width() / 2;
        weights[bins++] = counts[bin];
      }
    }
    int low = PARTS;
    int high = PARTS;
    double least = error(values, weights, bins, minimum, maximum);
    for (int round = 0; round < MOST_ROUNDS; round++) {
      int lowBefore = low;
      int highBefore = high;
      for (int part = 1; part <= PARTS && maximum > 0; part++) {
        double error = error(values, weights, bins, part(minimum, low), part(maximum, part));
        if (error < least) {
          least = error;
          high = part;
        }
      }
      for (int part = 1; part <= PARTS && minimum < 0; part++) {
        double error = error(values, weights, bins, part(minimum, part), part(maximum, high));
        if (error < least) {
          least = error;
          low = part;
        }
      }
      if (low == lowBefore && high == highBefore) {
        break;
      }
    }
    return range(RangeMethod.MSE, part(minimum, low), part(maximum, high));
  }

  private static float part(float end, int parts) {
    return (float) ((double) end * parts / PARTS);
  }

  /** Σ weight · (value - its nearest code's value)². */
  private static double error(
      double[] values, double[] weights, int bins, float minimum, float maximum) {
    double scale = ActivationRange.scale(minimum, maximum);
    int zeroPoint = ActivationRange.zeroPoint(minimum, (float) scale);
    double sum = 0;
    for (int i = 0; i < bins; i++) {
      double code =
          Math.clamp(Math.rint(values[i] / scale), -zeroPoint, ActivationRange.CODES - zeroPoint);
      double error = values[i] - scale * code;
      sum += weights[i] * error * error;
    }
    return sum;
  }
}
