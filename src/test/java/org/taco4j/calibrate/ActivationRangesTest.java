package org.taco4j.calibrate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.taco4j.TinyTask;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageFile;
import org.taco4j.data.Preprocessor;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;

class ActivationRangesTest {
  @TempDir Path folder;

  private static ActivationRange range(RangeMethod method, float... values) {
    ActivationHistogram histogram = new ActivationHistogram("t");
    // In two parts of different extremes, as batches come.
    FloatBuffer all = FloatBuffer.wrap(values);
    FloatBuffer first = all.slice(0, values.length / 3);
    FloatBuffer second = all.slice(values.length / 3, values.length - values.length / 3);
    List.of(first, second).forEach(histogram::addExtremes);
    List.of(second, first).forEach(histogram::addCounts);
    return histogram.range(method);
  }

  private static float[] normal(int n) {
    Random random = new Random(5);
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /** Mean squared error of values on the grid of a range. */
  private static double error(ActivationRange range, float[] values) {
    double sum = 0;
    for (float value : values) {
      double code = Math.clamp(Math.rint(value / range.scale()) + range.zeroPoint(), 0, 255);
      double error = value - range.scale() * (code - range.zeroPoint());
      sum += error * error;
    }
    return sum / values.length;
  }

  @ParameterizedTest
  @EnumSource
  void zeroIsAPointOfEveryRange(RangeMethod method) {
    ActivationRange above = range(method, 2, 3, 2.5f, 5);
    assertEquals(0, above.minimum());
    assertEquals(0, above.zeroPoint());
    ActivationRange below = range(method, -2, -3, -2.5f, -5);
    assertEquals(0, below.maximum());
    assertEquals(255, below.zeroPoint());
    ActivationRange both = range(method, normal(1000));
    assertEquals(-both.minimum() / both.scale(), both.zeroPoint(), 0.5001, "rounded");
  }

  @ParameterizedTest
  @EnumSource
  void constantsHaveARangeToo(RangeMethod method) {
    ActivationRange zero = range(method, 0, 0, 0, 0);
    assertTrue(zero.isEmpty());
    assertEquals(1, zero.scale());
    assertEquals(0, zero.zeroPoint());
    ActivationRange seven = range(method, 7, 7, 7, 7);
    assertEquals(7, seven.maximum());
    assertEquals(7f / 255, seven.scale());
    // The difference of the extremes is beyond float32, or below its normal numbers.
    assertTrue(Float.isFinite(range(method, -3e38f, 3e38f, 0, 1).scale()));
    assertTrue(range(method, 0, Float.MIN_VALUE, 0, 0).scale() >= Float.MIN_NORMAL);
  }

  @Test
  void minMaxClipsNothing() {
    ActivationRange range = range(RangeMethod.MIN_MAX, 1, -2, 0.5f, 7, 3);
    assertEquals(-2, range.minimum());
    assertEquals(7, range.maximum());
    assertEquals(9f / 255, range.scale());
    assertEquals(Math.round(2 / (9f / 255)), range.zeroPoint());
    assertEquals(0, range.clipped());
  }

  @Test
  void thePercentileLeavesOutATenThousandthAtEachEnd() {
    // -1, -0.9999, ..., 1: the extremes of 20,001 values, 2 at each end are beyond 0.01 %.
    float[] values = new float[20_001];
    for (int i = 0; i < values.length; i++) {
      values[i] = i / 10_000f - 1;
    }
    ActivationRange range = range(RangeMethod.PERCENTILE, values);
    // A bin is 2.4e-4 wide.
    assertEquals(-0.9998, range.minimum(), 2.5e-4);
    assertEquals(0.9998, range.maximum(), 2.5e-4);
    values[777] = 1000;
    ActivationRange withOutlier = range(RangeMethod.PERCENTILE, values);
    assertEquals(1, withOutlier.maximum(), 1001.0 / 8192, "one bin beyond the others");
    assertEquals(1000, withOutlier.highest());
    assertEquals(1.0 / 20_001, withOutlier.clipped(), 1e-9);
  }

  @Test
  void leastSquaresIsBetterThanAnyOtherRange() {
    float[] values = normal(20_000);
    for (int i = 0; i < values.length; i++) {
      values[i] *= values[i] * values[i]; // Long tails, as outliers make them.
    }
    ActivationRange best = range(RangeMethod.MSE, values);
    double least = error(best, values);
    assertTrue(least <= error(range(RangeMethod.MIN_MAX, values), values));
    for (int low = 50; low <= 100; low += 5) {
      for (int high = 50; high <= 100; high += 5) {
        ActivationRange other =
            ActivationRange.of(
                "t",
                RangeMethod.MSE,
                0,
                0,
                best.lowest() * low / 100,
                best.highest() * high / 100,
                0);
        // Bins, and one end at a time: not more than a hundredth is lost by that.
        assertTrue(least <= 1.01 * error(other, values), low + " " + high);
      }
    }
    long outside = 0;
    for (float value : values) {
      outside += value < best.minimum() || value > best.maximum() ? 1 : 0;
    }
    assertEquals(outside / 20_000.0, best.clipped(), 5e-4, "to a bin");
  }

  @Test
  void leastSquaresClipsAnOutlierAmongMany() {
    float[] values = new float[1 << 20];
    for (int i = 0; i < values.length; i++) {
      values[i] = i / (float) values.length;
    }
    values[0] = 2;
    // Clipping costs 1 / 2^20, and steps half as wide spare (2² - 1) / 255² / 12, four times that.
    ActivationRange range = range(RangeMethod.MSE, values);
    assertEquals(1, range.maximum(), 0.05);
    assertEquals(1.0 / values.length, range.clipped(), 1e-12);
  }

  @Test
  void aHalfThatReluCutsKeepsItsZeros() {
    float[] values = normal(5000);
    for (int i = 0; i < values.length; i++) {
      values[i] = Math.max(0, values[i]);
    }
    ActivationRange range = range(RangeMethod.MSE, values);
    assertEquals(0, range.minimum());
    assertEquals(0, range.zeroPoint());
  }

  private List<ImageFile> images() throws java.io.IOException {
    List<ImageFile> files = new ArrayList<>();
    Random random = new Random(1);
    // No multiple of the batch size.
    for (int i = 0; i < 21; i++) {
      Path file = folder.resolve("i" + i + ".png");
      TinyTask.write(TinyTask.picture(random), file);
      files.add(new ImageFile(file, 0));
    }
    return files;
  }

  private Map<String, ActivationRange> find(
      OnnxModel model, List<String> tensors, RangeMethod method, int threads, int batch)
      throws java.io.IOException {
    try (Workers workers = new Workers(threads)) {
      Preprocessor preprocessor = new Preprocessor(TinyTask.preprocessing(false));
      return ActivationRanges.measure(
              model,
              tensors,
              new ImageBatches(images(), preprocessor, batch, workers, new Notices()),
              workers)
          .by(method);
    }
  }

  @ParameterizedTest
  @EnumSource
  void threadsDoNotMatter(RangeMethod method) throws Exception {
    OnnxModel model =
        OnnxModel.read(TinyTask.convNet(folder.resolve("net.onnx"), TinyTask.Input.FREE));
    List<String> tensors = List.of("r2", "images", "c1", "logits");
    Map<String, ActivationRange> one = find(model, tensors, method, 1, 5);
    assertEquals(tensors, List.copyOf(one.keySet()));
    assertEquals(one, find(model, tensors, method, 3, 5));
    assertEquals(0, one.get("r2").minimum());
    // Pixels are brought to -1..1.
    assertTrue(one.get("images").lowest() >= -1 && one.get("images").highest() <= 1);
    assertEquals(
        List.of("images"), List.copyOf(find(model, List.of("images"), method, 2, 4).keySet()));
  }

  @Test
  void fillingOfAFixedBatchDoesNotCount() throws Exception {
    OnnxModel model =
        OnnxModel.read(TinyTask.convNet(folder.resolve("net.onnx"), new TinyTask.Input(4, false)));
    OnnxModel free =
        OnnxModel.read(TinyTask.convNet(folder.resolve("free.onnx"), TinyTask.Input.FREE));
    ActivationRange fixed =
        find(model, List.of("images"), RangeMethod.PERCENTILE, 2, 4).get("images");
    assertEquals(fixed, find(free, List.of("images"), RangeMethod.PERCENTILE, 2, 4).get("images"));
  }

  @Test
  void infiniteValuesAreRefused() {
    OnnxModel model =
        new ModelBuilder(13)
            .input("images", -1, 3, 8, 8)
            .floats("zero", new long[0], 0)
            .node("Div", List.of("images", "zero"), List.of("y"))
            .output("y", -1, 3, 8, 8)
            .model();
    TacoException e =
        assertThrows(
            TacoException.class, () -> find(model, List.of("y"), RangeMethod.MIN_MAX, 2, 4));
    assertEquals(TacoException.Kind.NUMERICAL, e.kind());
    assertTrue(e.getMessage().contains("tensor y"), e.getMessage());
  }
}
