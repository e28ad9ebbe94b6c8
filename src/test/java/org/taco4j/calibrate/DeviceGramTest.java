package org.taco4j.calibrate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.taco4j.TinyTask;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.cuda.CudaBackend;
import org.taco4j.compute.cuda.FakeCuda;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageFile;
import org.taco4j.data.Preprocessor;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Unfold;
import org.taco4j.onnx.Unfold.AutoPad;

/** Sums on a device, its kernels run on the CPU, agree with the host's. */
class DeviceGramTest {
  /** Samples that are added up in float32. */
  private static final int SLICE = 4096;

  private final Workers workers = new Workers(2);
  private final Backend host = new ScalarBackend(workers);
  private FakeCuda cuda;
  private Backend device;

  @TempDir Path folder;

  @BeforeEach
  void open() {
    cuda = FakeCuda.load();
    device = CudaBackend.open(host, 0);
  }

  @AfterEach
  void close() {
    if (device != null) {
      device.close();
      cuda.close();
    }
    workers.close();
  }

  static Stream<Arguments> convolutions() {
    int[] same = {1, 1, 1, 1};
    int[] none = {0, 0, 0, 0};
    return Stream.of(
        Arguments.of("3x3, small", conv(5, 1, 3, 3, 1, 1, same, 1)),
        Arguments.of("3x3 by shifts", conv(34, 1, 3, 3, 1, 1, same, 1)),
        Arguments.of("3x3 by shifts, grouped", conv(32, 2, 3, 3, 1, 1, same, 1)),
        Arguments.of("3x3 grouped", conv(3, 4, 3, 3, 1, 1, same, 1)),
        Arguments.of("depthwise", conv(1, 7, 3, 3, 1, 1, same, 1)),
        Arguments.of("3x3 stride 2", conv(4, 1, 3, 3, 2, 2, same, 1)),
        Arguments.of("3x3 dilated", conv(3, 1, 3, 3, 1, 1, new int[] {2, 2, 2, 2}, 2)),
        Arguments.of("1x1", conv(130, 1, 1, 1, 1, 1, none, 1)),
        Arguments.of("1x1 stride 2", conv(7, 1, 1, 1, 2, 2, none, 1)),
        Arguments.of("1x1, cut off", conv(3, 1, 1, 1, 1, 1, new int[] {-1, -2, 0, -1}, 1)),
        Arguments.of("5x3 uneven pads", conv(2, 1, 5, 3, 1, 2, new int[] {2, 0, 1, 1}, 1)),
        Arguments.of(
            "4x4 lower, auto",
            new Unfold.Convolution(3, 1, 4, 4, 3, 3, 0, 0, 0, 0, 1, 1, AutoPad.SAME_LOWER, false)));
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

  @ParameterizedTest(name = "{0}")
  @MethodSource("convolutions")
  void convolutionsAgreeWithTheHost(String name, Unfold.Convolution unfold) {
    int channels = unfold.channels() * unfold.groups();
    // Images change their size, and come one by one and together.
    List<Batch> batches =
        List.of(
            Batch.random(1, channels, 7, 7),
            Batch.random(3, channels, 7, 7),
            Batch.random(2, channels, 5, 9),
            Batch.random(1, channels, 6, 7));
    check(unfold, batches);
  }

  @Test
  void signalsAgreeWithTheHost() {
    Unfold unfold =
        new Unfold.Convolution(
            9, 1, 1, 5, 1, 2, 0, 2, 0, 1, 1, 1, AutoPad.EXPLICIT, /* oneDimensional= */ true);
    check(unfold, List.of(Batch.random(3, 9, 41), Batch.random(2, 9, 6)));
  }

  @ParameterizedTest
  @CsvSource({"1, 1", "3, 17", "17, 1021", "128, 130", "200, 300"})
  void rowsAndColumnsAgreeWithTheHost(int features, int samples) {
    check(
        new Unfold.LastAxis(features),
        List.of(Batch.random(2, samples, features), Batch.random(1, 1, features)));
    check(
        new Unfold.SecondToLastAxis(features),
        List.of(Batch.random(2, features, samples), Batch.random(1, features, 3)));
  }

  @Test
  void sumsDoNotDependOnBatches() {
    Unfold.Convolution unfold = conv(6, 1, 3, 3, 1, 1, new int[] {1, 1, 1, 1}, 1);
    int image = 6 * 20 * 20;
    float[] values = Batch.random(7, 6, 20, 20).values;
    double[] whole = null;
    for (int[] batches : new int[][] {{7}, {1, 2, 4}, {3, 3, 1}}) {
      List<Batch> parts = new ArrayList<>();
      int done = 0;
      for (int count : batches) {
        float[] part = Arrays.copyOfRange(values, done * image, (done + count) * image);
        parts.add(new Batch(part, new long[] {count, 6, 20, 20}));
        done += count;
      }
      double[] sum = grams(unfold, parts, device).getFirst().values();
      if (whole == null) {
        whole = sum;
      }
      assertArrayEquals(whole, sum);
    }
  }

  /** A tensor. */
  @SuppressWarnings("ArrayRecordComponent")
  private record Batch(float[] values, long[] shape) {
    static Batch random(long... shape) {
      int size = 1;
      for (long axis : shape) {
        size *= (int) axis;
      }
      Random random = new Random(size);
      float[] values = new float[size];
      for (int i = 0; i < size; i++) {
        values[i] = (float) random.nextGaussian() + 0.3f;
      }
      return new Batch(values, shape);
    }
  }

  private static List<GramMatrix> grams(Unfold unfold, List<Batch> batches, Backend backend) {
    List<GramKey> keys = new ArrayList<>();
    for (int group = 0; group < unfold.groups(); group++) {
      keys.add(new GramKey("x", unfold, group));
    }
    List<GramAccumulator> accumulators = GramAccumulator.create(keys, backend);
    for (Batch batch : batches) {
      for (GramAccumulator accumulator : accumulators) {
        // Not at the buffer's beginning.
        float[] shifted = new float[batch.values.length + 5];
        System.arraycopy(batch.values, 0, shifted, 5, batch.values.length);
        accumulator.add(FloatBuffer.wrap(shifted).position(5).slice(), batch.shape);
      }
    }
    List<GramMatrix> matrices = accumulators.stream().map(GramAccumulator::finish).toList();
    accumulators.forEach(GramAccumulator::close);
    return matrices;
  }

  private void check(Unfold unfold, List<Batch> batches) {
    List<GramMatrix> expected = grams(unfold, batches, host);
    List<GramMatrix> actual = grams(unfold, batches, device);
    assertEquals(expected.size(), actual.size());
    for (int group = 0; group < expected.size(); group++) {
      assertGram(expected.get(group), actual.get(group));
    }
  }

  private static void assertGram(GramMatrix expected, GramMatrix actual) {
    assertEquals(expected.cols(), actual.cols());
    assertEquals(expected.samples(), actual.samples());
    assertClose(expected.values(), actual.values(), expected.samples(), largest(expected));
    int n = actual.cols();
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < i; j++) {
        assertEquals(actual.values()[i * n + j], actual.values()[j * n + i]);
      }
    }
  }

  /** Of the sums of magnitudes, by the inequality of Cauchy and Schwarz. */
  private static double largest(GramMatrix gram) {
    double most = 0;
    for (int i = 0; i < gram.cols(); i++) {
      most = Math.max(most, gram.values()[i * gram.cols() + i]);
    }
    return most;
  }

  /**
   * Float sums of n products err by n·u times the sum of their magnitudes at the most, on both
   * sides; where shifts make up for borders, four of them.
   */
  private static void assertClose(
      double[] expected, double[] actual, long samples, double magnitude) {
    assertEquals(expected.length, actual.length);
    double u = 0x1p-24;
    double bound = 8 * Math.min(samples, SLICE) * u * magnitude;
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], actual[i], bound, "element " + i);
    }
  }

  static Stream<Arguments> layers() {
    int[] same = {1, 1, 1, 1};
    return Stream.of(
        Arguments.of(conv(5, 1, 3, 3, 1, 1, same, 1), 7),
        Arguments.of(conv(33, 1, 3, 3, 1, 1, same, 1), 3),
        Arguments.of(conv(3, 2, 3, 3, 2, 2, same, 1), 5),
        Arguments.of(conv(1, 6, 3, 3, 1, 1, same, 1), 1),
        Arguments.of(conv(17, 1, 1, 1, 1, 1, new int[4], 1), 68));
  }

  @ParameterizedTest
  @MethodSource("layers")
  void momentsOfConvolutionsAgreeWithTheHost(Unfold.Convolution unfold, int rows) {
    Layer layer = layer(unfold, rows, 1);
    List<Batch> inputs = new ArrayList<>();
    List<Batch> residuals = new ArrayList<>();
    for (int[] size : new int[][] {{1, 9, 8}, {3, 9, 8}, {2, 6, 7}}) {
      inputs.add(Batch.random(size[0], unfold.channels() * unfold.groups(), size[1], size[2]));
      residuals.add(
          Batch.random(
              size[0],
              rows * unfold.groups(),
              unfold.outputHeight(size[1], size[2]),
              unfold.outputWidth(size[1], size[2])));
    }
    checkMoments(layer, inputs, residuals);
  }

  @Test
  void momentsOfProductsAgreeWithTheHost() {
    List<Batch> rows = List.of(Batch.random(3, 129, 20), Batch.random(1, 2, 20));
    List<Batch> columns = List.of(Batch.random(3, 20, 129), Batch.random(1, 20, 2));
    List<Batch> rowResiduals = List.of(Batch.random(3, 129, 33), Batch.random(1, 2, 33));
    List<Batch> columnResiduals = List.of(Batch.random(3, 33, 129), Batch.random(1, 33, 2));
    checkMoments(layer(new Unfold.LastAxis(20), 33, -1), rows, rowResiduals);
    checkMoments(layer(new Unfold.LastAxis(20), 33, -2), rows, columnResiduals);
    checkMoments(layer(new Unfold.SecondToLastAxis(20), 33, -2), columns, columnResiduals);
    checkMoments(layer(new Unfold.SecondToLastAxis(20), 33, -1), columns, rowResiduals);
  }

  private void checkMoments(Layer layer, List<Batch> inputs, List<Batch> residuals) {
    ResidualMoments.Sums[] expected = moments(layer, host, inputs, residuals);
    ResidualMoments.Sums[] actual = moments(layer, device, inputs, residuals);
    for (int group = 0; group < layer.groups(); group++) {
      ResidualMoments.Sums e = expected[group];
      ResidualMoments.Sums a = actual[group];
      assertGram(
          new GramMatrix(e.cols(), e.samples(), e.gram()),
          new GramMatrix(a.cols(), a.samples(), a.gram()));
      // Values have a mean square of 1.1, so |Σ r x| and |Σ x| stay below some 1.1 a sample.
      double magnitude = 1.5 * e.samples();
      assertClose(e.cross(), a.cross(), e.samples(), magnitude);
      assertClose(e.input(), a.input(), e.samples(), magnitude);
      assertClose(e.residual(), a.residual(), e.samples(), magnitude);
    }
  }

  private static ResidualMoments.Sums[] moments(
      Layer layer, Backend backend, List<Batch> inputs, List<Batch> residuals) {
    try (LayerMoments moments = LayerMoments.of(layer, backend)) {
      for (int i = 0; i < inputs.size(); i++) {
        moments.add(
            FloatBuffer.wrap(inputs.get(i).values),
            inputs.get(i).shape,
            FloatBuffer.wrap(residuals.get(i).values),
            residuals.get(i).shape);
      }
      return moments.finish();
    }
  }

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

  @Test
  void modelsAreCalibratedOnTheDevice() {
    OnnxModel model =
        OnnxModel.read(TinyTask.convNet(folder.resolve("net.onnx"), TinyTask.Input.FREE));
    List<Layer> layers = LayerDiscovery.discover(model);
    List<ImageFile> files = new ArrayList<>();
    Random random = new Random(5);
    for (int i = 0; i < 11; i++) {
      Path file = folder.resolve(i + ".png");
      TinyTask.write(TinyTask.picture(random), file);
      files.add(new ImageFile(file, 0));
    }
    Map<GramKey, GramMatrix> expected = calibrate(model, layers, files, host, 2);
    Map<GramKey, GramMatrix> actual = calibrate(model, layers, files, device, 1);
    assertEquals(expected.keySet(), actual.keySet());
    expected.forEach((key, gram) -> assertGram(gram, actual.get(key)));
    calibrate(model, layers, files, device, 3)
        .forEach((key, gram) -> assertArrayEquals(actual.get(key).values(), gram.values()));
  }

  private static Map<GramKey, GramMatrix> calibrate(
      OnnxModel model, List<Layer> layers, List<ImageFile> files, Backend backend, int threads) {
    try (Workers some = new Workers(threads)) {
      ImageBatches images =
          new ImageBatches(
              files, new Preprocessor(TinyTask.preprocessing(false)), 4, some, new Notices());
      return new Calibrator(model, backend, some).gramMatrices(layers, images);
    }
  }

  @Test
  void passesFitTheDevice() {
    List<Layer> layers = new ArrayList<>();
    for (int features : new int[] {100, 200, 300, 400}) {
      layers.add(layer(new Unfold.LastAxis(features), 10, -1));
    }
    long bytes = Long.MAX_VALUE / 4;
    assertEquals(1, Calibrator.passes(layers, 1, bytes, host).size());
    assertEquals(1, Calibrator.passes(layers, 1, bytes, device).size());
    long two =
        layers.subList(2, 4).stream()
            .mapToLong(l -> device.device().gramBytes(DevicePatches.of(l.unfold())))
            .sum();
    try (Backend small = CudaBackend.open(new ScalarBackend(workers), two)) {
      List<List<Layer>> passes = Calibrator.passes(layers, 1, bytes, small);
      assertTrue(passes.size() > 1);
      assertEquals(layers, passes.stream().flatMap(List::stream).toList());
      assertEquals(layers.subList(2, 4), passes.getLast());
    }
  }

  @Test
  void whatDoesNotFitIsRefused() {
    try (Backend small = CudaBackend.open(new ScalarBackend(workers), 1 << 20)) {
      TacoException e =
          assertThrows(
              TacoException.class,
              () ->
                  GramAccumulator.create(
                      List.of(new GramKey("x", new Unfold.LastAxis(300), 0)), small));
      assertEquals(TacoException.Kind.RUNTIME, e.kind());
      assertTrue(e.getMessage().contains("--gpu-memory"), e.getMessage());
    }
  }
}
