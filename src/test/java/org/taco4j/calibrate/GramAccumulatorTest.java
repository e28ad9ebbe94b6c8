package org.taco4j.calibrate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;

import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.Backends;
import org.taco4j.onnx.Unfold;
import org.taco4j.onnx.Unfold.AutoPad;

class GramAccumulatorTest {
  private static final Backend BACKEND = Backends.choose("auto", new Workers(1)).backend();

  /** kernel, stride, pads (top, left, bottom, right), dilation, groups, automatic padding. */
  static Stream<Arguments> convolutions() {
    return Stream.of(
        Arguments.of("3x3 same", conv(5, 1, 3, 3, 1, 1, new int[] {1, 1, 1, 1}, 1)),
        Arguments.of("3x3 same, grouped", conv(3, 2, 3, 3, 1, 1, new int[] {1, 1, 1, 1}, 1)),
        Arguments.of("3x3 valid", conv(4, 1, 3, 3, 1, 1, new int[] {0, 0, 0, 0}, 1)),
        Arguments.of("3x3 stride 2", conv(4, 1, 3, 3, 2, 2, new int[] {1, 1, 1, 1}, 1)),
        Arguments.of("3x3 dilated", conv(3, 1, 3, 3, 1, 1, new int[] {2, 2, 2, 2}, 2)),
        Arguments.of("1x1", conv(7, 1, 1, 1, 1, 1, new int[] {0, 0, 0, 0}, 1)),
        Arguments.of("1x1 stride 2", conv(7, 1, 1, 1, 2, 2, new int[] {0, 0, 0, 0}, 1)),
        Arguments.of("5x3 uneven pads", conv(2, 1, 5, 3, 1, 2, new int[] {2, 0, 1, 1}, 1)),
        Arguments.of("3x3 same, auto", conv(3, 1, 3, 3, 2, 2, AutoPad.SAME_UPPER)),
        Arguments.of("4x4 lower, auto", conv(3, 1, 4, 4, 3, 3, AutoPad.SAME_LOWER)));
  }

  private static Unfold.Convolution conv(
      int channels, int groups, int kh, int kw, int sh, int sw, int[] pads, int dilation) {
    return new Unfold.Convolution(
        channels,
        groups,
        kh,
        kw,
        sh,
        sw,
        pads[0],
        pads[1],
        pads[2],
        pads[3],
        dilation,
        dilation,
        AutoPad.EXPLICIT,
        false);
  }

  private static Unfold.Convolution conv(
      int channels, int groups, int kh, int kw, int sh, int sw, AutoPad autoPad) {
    return new Unfold.Convolution(
        channels, groups, kh, kw, sh, sw, 0, 0, 0, 0, 1, 1, autoPad, false);
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("convolutions")
  void agreesWithTheDefinition(String name, Unfold.Convolution unfold) {
    // Sizes around the kernel, odd, larger than a tile; more images than slots and fewer.
    int[][] sizes = {{7, 7}, {5, 9}, {13, 4}, {33, 40}};
    for (int[] size : sizes) {
      for (int group = 0; group < unfold.groups(); group++) {
        check(unfold, group, size[0], size[1], new int[] {1, 3, 2});
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"1, 1", "1, 5", "5, 1", "2, 2", "2, 3", "3, 2"})
  void shiftsWorkOnImagesSmallerThanTheKernel(int height, int width) {
    Unfold.Convolution unfold = conv(3, 1, 3, 3, 1, 1, new int[] {1, 1, 1, 1}, 1);
    check(unfold, 0, height, width, new int[] {2, 1});
  }

  @Test
  void imagesMayChangeSizeBetweenBatches() {
    Unfold.Convolution unfold = conv(2, 1, 3, 3, 1, 1, new int[] {1, 1, 1, 1}, 1);
    GramKey key = new GramKey("x", unfold, 0);
    GramAccumulator accumulator = GramAccumulator.create(key, BACKEND);
    double[] expected = new double[unfold.cols() * unfold.cols()];
    long samples = 0;
    for (int[] size : new int[][] {{4, 6}, {8, 3}, {4, 6}}) {
      float[] x = random(2 * size[0] * size[1], size[0]);
      accumulator.add(FloatBuffer.wrap(x), new long[] {1, 2, size[0], size[1]});
      samples += naive(unfold, 0, x, 1, size[0], size[1], expected);
    }
    assertGram(expected, samples, accumulator.finish());
  }

  @Test
  void picksShiftsForPlain3x3Only() {
    assertInstanceOf(
        ShiftGram.class,
        GramAccumulator.create(
            new GramKey("x", conv(4, 1, 3, 3, 1, 1, new int[] {1, 1, 1, 1}, 1), 0), BACKEND));
    assertInstanceOf(
        TileGram.class,
        GramAccumulator.create(
            new GramKey("x", conv(4, 1, 3, 3, 2, 2, new int[] {1, 1, 1, 1}, 1), 0), BACKEND));
  }

  @ParameterizedTest
  @CsvSource({"1, 1", "3, 17", "17, 1021", "200, 300", "600, 5", "1030, 700"})
  void rowsAndColumnsAgreeWithTheDefinition(int features, int samples) {
    float[] rows = random(features * samples, 3);
    double[] expected = new double[features * features];
    for (int s = 0; s < samples; s++) {
      for (int i = 0; i < features; i++) {
        for (int j = 0; j < features; j++) {
          expected[i * features + j] += (double) rows[s * features + i] * rows[s * features + j];
        }
      }
    }
    GramAccumulator byRows =
        GramAccumulator.create(new GramKey("x", new Unfold.LastAxis(features), 0), BACKEND);
    // In uneven pieces, as batches come.
    int done = 0;
    for (int piece = 1; done < samples; piece = piece * 3 + 1) {
      int count = Math.min(piece, samples - done);
      byRows.add(
          FloatBuffer.wrap(Arrays.copyOfRange(rows, done * features, (done + count) * features)),
          new long[] {count, features});
      done += count;
    }
    assertGram(expected, samples, byRows.finish());

    float[] columns = new float[features * samples];
    for (int s = 0; s < samples; s++) {
      for (int i = 0; i < features; i++) {
        columns[i * samples + s] = rows[s * features + i];
      }
    }
    GramAccumulator byColumns =
        GramAccumulator.create(new GramKey("x", new Unfold.SecondToLastAxis(features), 0), BACKEND);
    byColumns.add(FloatBuffer.wrap(columns), new long[] {1, features, samples});
    assertGram(expected, samples, byColumns.finish());
  }

  private static void check(
      Unfold.Convolution unfold, int group, int height, int width, int[] batches) {
    int channels = unfold.channels() * unfold.groups();
    GramAccumulator accumulator = GramAccumulator.create(new GramKey("x", unfold, group), BACKEND);
    double[] expected = new double[unfold.cols() * unfold.cols()];
    long samples = 0;
    for (int images : batches) {
      float[] x = random(images * channels * height * width, images);
      accumulator.add(FloatBuffer.wrap(x), new long[] {images, channels, height, width});
      samples += naive(unfold, group, x, images, height, width, expected);
    }
    assertGram(expected, samples, accumulator.finish());
  }

  /** The definition: unfolds position by position. Returns how many samples there were. */
  private static long naive(
      Unfold.Convolution u,
      int group,
      float[] x,
      int images,
      int height,
      int width,
      double[] gram) {
    int cols = u.cols();
    int channels = u.channels() * u.groups();
    int[] pads = u.pads(height, width);
    int outputHeight = u.outputHeight(height, width);
    int outputWidth = u.outputWidth(height, width);
    double[] sample = new double[cols];
    for (int n = 0; n < images; n++) {
      for (int oy = 0; oy < outputHeight; oy++) {
        for (int ox = 0; ox < outputWidth; ox++) {
          for (int col = 0; col < cols; col++) {
            int kx = col % u.kernelWidth();
            int ky = col / u.kernelWidth() % u.kernelHeight();
            int c = col / (u.kernelWidth() * u.kernelHeight());
            int y = oy * u.strideHeight() + ky * u.dilationHeight() - pads[0];
            int xx = ox * u.strideWidth() + kx * u.dilationWidth() - pads[1];
            boolean inside = y >= 0 && y < height && xx >= 0 && xx < width;
            int at = ((n * channels + group * u.channels() + c) * height + y) * width + xx;
            sample[col] = inside ? x[at] : 0;
          }
          for (int i = 0; i < cols; i++) {
            for (int j = 0; j < cols; j++) {
              gram[i * cols + j] += sample[i] * sample[j];
            }
          }
        }
      }
    }
    return (long) images * outputHeight * outputWidth;
  }

  private static void assertGram(double[] expected, long samples, GramMatrix actual) {
    assertEquals(samples, actual.samples());
    double[] values = actual.values();
    int n = actual.cols();
    double largest = 0;
    for (int i = 0; i < n; i++) {
      largest = Math.max(largest, expected[i * n + i]);
    }
    // Products are added up in float over about a thousand samples at most: rounding errors of
    // 2^-24
    // each, relative to the largest diagonal element, which bounds every sum of products.
    double tolerance = largest * 1024 * Math.scalb(1.0, -24) + 1e-12;
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], values[i], tolerance, "entry " + i / n + ", " + i % n);
    }
  }

  private static float[] random(int length, long seed) {
    Random random = new Random(seed);
    float[] values = new float[length];
    for (int i = 0; i < length; i++) {
      values[i] = (float) random.nextGaussian() + 0.5f;
    }
    return values;
  }
}
