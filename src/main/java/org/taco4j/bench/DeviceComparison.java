package org.taco4j.bench;

import java.util.Arrays;
import java.util.Locale;
import java.util.function.BiFunction;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.runtime.TimedModel;

/**
 * Two models on a device at one size of batch, in turns in one process; their results are compared
 * with those of ONNX Runtime on the CPU first.
 *
 * @param batch images in a run
 * @param onDevice times by the device's clock, the images in its memory; null where the runtime
 *     does not tell them
 * @param withCopies times with the copies of images and results
 * @param denseImagesPerSecond batch over the median time, that on the device where it is known
 * @param compressedImagesPerSecond the same of the compressed model
 * @param denseDifference of the dense model's results from those on the CPU, ‖a − b‖ / ‖b‖
 * @param compressedDifference the same of the compressed model
 */
public record DeviceComparison(
    int batch,
    @Nullable LatencyComparison onDevice,
    LatencyComparison withCopies,
    double denseImagesPerSecond,
    double compressedImagesPerSecond,
    double denseDifference,
    double compressedDifference) {
  /** Pairs that are run first and not counted, at the least. */
  private static final int WARM_UP = 10;

  /** A GPU takes some tenths of a second to bring its clocks up. */
  private static final double WARM_UP_SECONDS = 0.5;

  /** Images whose results are compared with the CPU's, at most: there each takes its time. */
  private static final int MOST_COMPARED = 4;

  /** What the CPU gives for images [count, ...]: the first output, [count, ...] row-major. */
  public interface Reference extends BiFunction<float[], Integer, float[]> {}

  /**
   * Two models that are to be measured.
   *
   * @param dense on the device
   * @param denseReference the same on the CPU
   * @param compressed on the device
   * @param compressedReference the same on the CPU
   * @param imageShape shape of a batch of one image, in the models' layout
   * @param tolerance how far results may be from the CPU's, relative
   */
  @SuppressWarnings("ArrayRecordComponent") // a shape: comparing these pairs by value is no use
  public record Pair(
      TimedModel dense,
      Reference denseReference,
      TimedModel compressed,
      Reference compressedReference,
      long[] imageShape,
      double tolerance) {}

  /**
   * Measures at one size of batch.
   *
   * @param seconds about how long to measure; as long again with copies, where both are known
   * @throws TacoException of kind NUMERICAL where a model's results are not those of the CPU: then
   *     its time says nothing
   */
  public static DeviceComparison measure(Pair pair, int batch, double seconds, int mostPairs) {
    float[] images = LatencyComparison.randomImages(batch, pair.imageShape());
    pair.dense().load(images, batch);
    pair.compressed().load(images, batch);
    double denseDifference =
        requireAgreement("dense", pair.dense(), pair.denseReference(), images, batch, pair);
    double compressedDifference =
        requireAgreement(
            "compressed", pair.compressed(), pair.compressedReference(), images, batch, pair);
    LatencyComparison onDevice = null;
    if (pair.dense().timesDevice() && pair.compressed().timesDevice()) {
      onDevice =
          LatencyComparison.of(
              LatencyComparison.inTurns(
                  pair.dense()::millisOnDevice,
                  pair.compressed()::millisOnDevice,
                  WARM_UP,
                  WARM_UP_SECONDS,
                  seconds,
                  mostPairs),
              1,
              batch);
    }
    LatencyComparison withCopies =
        LatencyComparison.of(
            LatencyComparison.inTurns(
                pair.dense()::millisWithCopies,
                pair.compressed()::millisWithCopies,
                WARM_UP,
                onDevice == null ? WARM_UP_SECONDS : 0,
                seconds,
                mostPairs),
            1,
            batch);
    LatencyComparison best = onDevice != null ? onDevice : withCopies;
    return new DeviceComparison(
        batch,
        onDevice,
        withCopies,
        batch / best.dense().p50Millis() * 1e3,
        batch / best.compressed().p50Millis() * 1e3,
        denseDifference,
        compressedDifference);
  }

  private static double requireAgreement(
      String name, TimedModel model, Reference reference, float[] images, int batch, Pair pair) {
    int count = Math.min(batch, MOST_COMPARED);
    float[] expected = reference.apply(Arrays.copyOf(images, images.length / batch * count), count);
    float[] actual = model.run();
    if ((long) actual.length * count != (long) expected.length * batch) {
      throw TacoException.numerical(
          "the %s model gives %d values for %d images on the device, and %d for %d on the CPU"
              .formatted(name, actual.length, batch, expected.length, count));
    }
    double difference = difference(expected, actual);
    if (!(difference <= pair.tolerance())) {
      throw TacoException.numerical(
          String.format(
              Locale.ROOT,
              "the %s model gives other results on the device than in ONNX Runtime on the CPU"
                  + " (relative difference %.1e, up to %.1e is rounding), so its time says nothing;"
                  + " try --precision fp32",
              name,
              difference,
              pair.tolerance()));
    }
    return difference;
  }

  /** ‖a − b‖ / ‖a‖ over the values that both have; NaN where either has a NaN. */
  static double difference(float[] expected, float[] actual) {
    double error = 0;
    double norm = 0;
    for (int i = 0; i < Math.min(expected.length, actual.length); i++) {
      error += Math.pow(expected[i] - (double) actual[i], 2);
      norm += Math.pow(expected[i], 2);
    }
    return error == 0 ? 0 : Math.sqrt(error / norm);
  }
}
