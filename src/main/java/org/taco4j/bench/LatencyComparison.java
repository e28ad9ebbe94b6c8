package org.taco4j.bench;

import java.util.Arrays;
import java.util.Map;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/**
 * Latency of two models, measured in turns in one process: machines drift, ratios of neighbours do
 * not.
 *
 * @param dense latency of the first model
 * @param compressed latency of the second
 * @param ratio how many times faster the second is: median over pairs of dense / compressed
 * @param ratioLow the 5th percentile of that ratio over pairs
 * @param ratioHigh the 95th percentile
 * @param ratioOfFastest the same ratio of the means of each one's fastest quarter of runs: what it
 *     is when nothing else runs, as whatever does makes a run longer, never shorter
 * @param pairs how many pairs of runs were measured
 * @param threads threads inside one operator
 * @param batch images in a run
 */
public record LatencyComparison(
    Percentiles dense,
    Percentiles compressed,
    double ratio,
    double ratioLow,
    double ratioHigh,
    double ratioOfFastest,
    int pairs,
    int threads,
    int batch) {

  /**
   * Percentiles of the time of one run, in milliseconds.
   *
   * @param p50Millis the median
   */
  public record Percentiles(double p50Millis, double p90Millis, double p99Millis) {
    static Percentiles of(double[] millis) {
      return new Percentiles(
          percentile(millis, 0.5), percentile(millis, 0.9), percentile(millis, 0.99));
    }
  }

  /** Pairs that are run first and not counted. */
  private static final int WARM_UP = 5;

  /** Pairs that are measured at the least, however long they take. */
  private static final int LEAST_PAIRS = 11;

  /**
   * Measures two models on the same random images.
   *
   * @param imageShape shape of a batch of one image, in the models' layout
   * @param batch images in a run; where a model has a fixed batch, both run that instead
   * @param seconds about how long to measure
   * @param mostPairs where measuring ends, too: enough for the percentiles of a quick model
   */
  public static LatencyComparison measure(
      Session dense,
      ModelInput denseInput,
      Session compressed,
      ModelInput compressedInput,
      long[] imageShape,
      int threads,
      int batch,
      double seconds,
      int mostPairs) {
    int images = images(denseInput, compressedInput, batch);
    double[][] millis =
        pairs(
            dense, denseInput, compressed, compressedInput, imageShape, images, seconds, mostPairs);
    return of(millis, threads, images);
  }

  /**
   * Of times that were taken in turns.
   *
   * @param millis [2, pairs]: milliseconds of the dense model and of the compressed one
   */
  static LatencyComparison of(double[][] millis, int threads, int images) {
    int pairs = millis[0].length;
    double[] ratios = new double[pairs];
    for (int i = 0; i < pairs; i++) {
      ratios[i] = millis[0][i] / millis[1][i];
    }
    return new LatencyComparison(
        Percentiles.of(millis[0]),
        Percentiles.of(millis[1]),
        percentile(ratios, 0.5),
        percentile(ratios, 0.05),
        percentile(ratios, 0.95),
        LayerClock.ofFastest(millis[0]) / LayerClock.ofFastest(millis[1]),
        pairs,
        threads,
        images);
  }

  /** Whether pairs differ so much that their median says little. */
  public boolean noisy() {
    return ratioHigh > 2 * ratioLow;
  }

  /** How many images both run at once. */
  static int images(ModelInput dense, ModelInput compressed, int batch) {
    return dense.batch() > 0 || compressed.batch() > 0
        ? Math.max(dense.batch(), compressed.batch())
        : batch;
  }

  /**
   * Runs two models in turns.
   *
   * @param images in a run
   * @return [2, pairs]: milliseconds of the first and of the second
   */
  static double[][] pairs(
      Session dense,
      ModelInput denseInput,
      Session compressed,
      ModelInput compressedInput,
      long[] imageShape,
      int images,
      double seconds,
      int mostPairs) {
    float[] data = randomImages(images, imageShape);
    Map<String, Tensor> denseFeed = denseInput.feed(data, images, imageShape);
    Map<String, Tensor> compressedFeed = compressedInput.feed(data, images, imageShape);
    try {
      return inTurns(
          () -> time(dense, denseFeed),
          () -> time(compressed, compressedFeed),
          WARM_UP,
          0,
          seconds,
          mostPairs);
    } finally {
      denseFeed.values().forEach(Tensor::close);
      compressedFeed.values().forEach(Tensor::close);
    }
  }

  /** Runs something once. */
  @FunctionalInterface
  interface Run {
    /** How many milliseconds that took. */
    double millis();
  }

  /**
   * Takes times in turns.
   *
   * @param warmUp pairs that are run first and not counted, at the least
   * @param warmUpSeconds for which pairs are run first, at the least
   * @return [2, pairs]: milliseconds of the first and of the second
   */
  static double[][] inTurns(
      Run first, Run second, int warmUp, double warmUpSeconds, double seconds, int mostPairs) {
    long warm = System.nanoTime() + (long) (warmUpSeconds * 1e9);
    for (int i = 0; i < warmUp || System.nanoTime() < warm; i++) {
      first.millis();
      second.millis();
    }
    double[] a = new double[Math.max(mostPairs, LEAST_PAIRS)];
    double[] b = new double[a.length];
    int pairs = 0;
    long end = System.nanoTime() + (long) (seconds * 1e9);
    while (pairs < a.length && (pairs < LEAST_PAIRS || System.nanoTime() < end)) {
      // Each goes first half of the time, so that neither always finds warm caches.
      if (pairs % 2 == 0) {
        a[pairs] = first.millis();
        b[pairs] = second.millis();
      } else {
        b[pairs] = second.millis();
        a[pairs] = first.millis();
      }
      pairs++;
    }
    return new double[][] {Arrays.copyOf(a, pairs), Arrays.copyOf(b, pairs)};
  }

  /** Normally distributed pixels, the same ones every time. */
  static float[] randomImages(int images, long[] imageShape) {
    float[] data =
        new float[Math.toIntExact(images * imageShape[1] * imageShape[2] * imageShape[3])];
    java.util.Random random = new java.util.Random(1);
    for (int i = 0; i < data.length; i++) {
      data[i] = (float) random.nextGaussian();
    }
    return data;
  }

  private static double time(Session session, Map<String, Tensor> feed) {
    long start = System.nanoTime();
    Map<String, Tensor> outputs = session.run(feed);
    double millis = (System.nanoTime() - start) / 1e6;
    outputs.values().forEach(Tensor::close);
    return millis;
  }

  /** The percentile by linear interpolation between order statistics, as NumPy's default. */
  static double percentile(double[] values, double fraction) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    double at = fraction * (sorted.length - 1);
    int below = (int) at;
    int above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
  }
}
