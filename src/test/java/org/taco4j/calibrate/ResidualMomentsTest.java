package org.taco4j.calibrate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.FloatBuffer;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.Backends;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.Unfold;

class ResidualMomentsTest {
  private static final Backend BACKEND = Backends.choose("auto", new Workers(1)).backend();

  private static Layer layer(Unfold unfold, int rows, int outputAxis) {
    return new Layer(
        "layer",
        "Conv",
        "x",
        "y",
        unfold,
        rows,
        outputAxis,
        new Layer.WeightSource("w", List.of(0, 1), false),
        Optional.empty(),
        Optional.empty());
  }

  private static Unfold.Convolution conv(int channels, int groups, int kernel, int stride) {
    int pad = kernel / 2;
    return new Unfold.Convolution(
        channels,
        groups,
        kernel,
        kernel,
        stride,
        stride,
        pad,
        pad,
        pad,
        pad,
        1,
        1,
        Unfold.AutoPad.EXPLICIT,
        false);
  }

  static Stream<Arguments> layers() {
    return Stream.of(
        Arguments.of("3x3 by shifts", conv(5, 1, 3, 1), 7),
        Arguments.of("3x3 by shifts, grouped", conv(4, 3, 3, 1), 2),
        Arguments.of("3x3, stride 2", conv(3, 2, 3, 2), 5),
        Arguments.of("depthwise", conv(1, 6, 3, 1), 1),
        Arguments.of("1x1", conv(17, 1, 1, 1), 9));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("layers")
  void convolutionsAgreeWithTheDefinition(String name, Unfold.Convolution unfold, int rows) {
    Layer layer = layer(unfold, rows, 1);
    for (int group = 0; group < unfold.groups(); group++) {
      ResidualMoments moments = new ResidualMoments(layer, group, BACKEND);
      Expected expected = new Expected(rows, unfold.cols());
      Random random = new Random(group);
      for (int images : new int[] {1, 3}) {
        int height = 23;
        int width = 30;
        int outHeight = unfold.outputHeight(height, width);
        int outWidth = unfold.outputWidth(height, width);
        float[] x = random(random, images * unfold.channels() * unfold.groups() * height * width);
        float[] r = random(random, images * rows * unfold.groups() * outHeight * outWidth);
        long[] shape = {images, (long) unfold.channels() * unfold.groups(), height, width};
        long[] outShape = {images, (long) rows * unfold.groups(), outHeight, outWidth};
        moments.add(FloatBuffer.wrap(x), shape, FloatBuffer.wrap(r), outShape);
        for (int n = 0; n < images; n++) {
          for (int oy = 0; oy < outHeight; oy++) {
            for (int ox = 0; ox < outWidth; ox++) {
              double[] sample = new double[unfold.cols()];
              for (int i = 0; i < sample.length; i++) {
                int kernel = unfold.kernelHeight();
                int c = group * unfold.channels() + i / (kernel * kernel);
                int y = oy * unfold.strideHeight() + i / kernel % kernel - unfold.padTop();
                int z = ox * unfold.strideWidth() + i % kernel - unfold.padLeft();
                boolean inside = y >= 0 && y < height && z >= 0 && z < width;
                int at = ((n * unfold.channels() * unfold.groups() + c) * height + y) * width + z;
                sample[i] = inside ? x[at] : 0;
              }
              double[] residual = new double[rows];
              for (int row = 0; row < rows; row++) {
                int c = group * rows + row;
                residual[row] =
                    r[((n * rows * unfold.groups() + c) * outHeight + oy) * outWidth + ox];
              }
              expected.add(sample, residual);
            }
          }
        }
      }
      expected.check(moments.finish());
    }
  }

  @Test
  void rowsAndColumnsAgreeWithTheDefinition() {
    int cols = 300;
    int rows = 40;
    int samples = 1500;
    Random random = new Random(2);
    float[] x = random(random, samples * cols);
    float[] r = random(random, samples * rows);
    Expected expected = new Expected(rows, cols);
    for (int s = 0; s < samples; s++) {
      double[] sample = new double[cols];
      double[] residual = new double[rows];
      for (int i = 0; i < cols; i++) {
        sample[i] = x[s * cols + i];
      }
      for (int i = 0; i < rows; i++) {
        residual[i] = r[s * rows + i];
      }
      expected.add(sample, residual);
    }
    ResidualMoments byRows =
        new ResidualMoments(layer(new Unfold.LastAxis(cols), rows, -1), 0, BACKEND);
    byRows.add(
        FloatBuffer.wrap(x),
        new long[] {3, samples / 3, cols},
        FloatBuffer.wrap(r),
        new long[] {3, samples / 3, rows});
    expected.check(byRows.finish());

    ResidualMoments byColumns =
        new ResidualMoments(layer(new Unfold.SecondToLastAxis(cols), rows, -2), 0, BACKEND);
    byColumns.add(
        FloatBuffer.wrap(transposed(x, samples, cols)),
        new long[] {1, cols, samples},
        FloatBuffer.wrap(transposed(r, samples, rows)),
        new long[] {1, rows, samples});
    expected.check(byColumns.finish());
  }

  @Test
  void inputsAndOutputsOfDifferentSamplesAreRefused() {
    ResidualMoments moments = new ResidualMoments(layer(new Unfold.LastAxis(3), 2, -1), 0, BACKEND);
    assertThrows(
        IllegalArgumentException.class,
        () ->
            moments.add(
                FloatBuffer.allocate(12),
                new long[] {4, 3},
                FloatBuffer.allocate(10),
                new long[] {5, 2}));
  }

  private static float[] random(Random random, int length) {
    float[] values = new float[length];
    for (int i = 0; i < length; i++) {
      values[i] = (float) random.nextGaussian() + 0.5f;
    }
    return values;
  }

  private static float[] transposed(float[] values, int rows, int cols) {
    float[] result = new float[values.length];
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < cols; j++) {
        result[j * rows + i] = values[i * cols + j];
      }
    }
    return result;
  }

  /** The sums in double, one sample after the other. */
  private static final class Expected {
    private final double[] gram;
    private final double[] cross;
    private final double[] input;
    private final double[] residual;
    private long samples;

    Expected(int rows, int cols) {
      gram = new double[cols * cols];
      cross = new double[rows * cols];
      input = new double[cols];
      residual = new double[rows];
    }

    void add(double[] x, double[] r) {
      for (int i = 0; i < x.length; i++) {
        input[i] += x[i];
        for (int j = 0; j < x.length; j++) {
          gram[i * x.length + j] += x[i] * x[j];
        }
      }
      for (int row = 0; row < r.length; row++) {
        residual[row] += r[row];
        for (int j = 0; j < x.length; j++) {
          cross[row * x.length + j] += r[row] * x[j];
        }
      }
      samples++;
    }

    void check(ResidualMoments.Sums sums) {
      assertEquals(samples, sums.samples());
      assertClose(gram, sums.gram());
      assertClose(cross, sums.cross());
      assertClose(input, sums.input());
      assertClose(residual, sums.residual());
    }

    /**
     * Products are about 1, and up to n of them are added in float: rounding, of random sign, errs
     * about √n · 2^-24 of the sum of their sizes, n.
     */
    private void assertClose(double[] expected, double[] actual) {
      assertEquals(expected.length, actual.length);
      for (int i = 0; i < expected.length; i++) {
        assertEquals(expected[i], actual[i], Math.pow(samples, 1.5) * Math.ulp(1f), "at " + i);
      }
    }
  }
}
