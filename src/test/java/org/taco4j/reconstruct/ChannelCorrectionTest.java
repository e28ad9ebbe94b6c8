package org.taco4j.reconstruct;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

class ChannelCorrectionTest {
  private static final int IMAGES = 37;

  /** Bytes; enough for all activations. */
  private static final long MEMORY = 1 << 30;

  @TempDir Path folder;

  private Path network(String kind) {
    return Networks.write(folder, kind);
  }

  private ImageBatches images(boolean channelsLast, int batch, Workers workers) {
    return Networks.images(folder, IMAGES, channelsLast, batch, workers);
  }

  /** Removes the smaller half of each layer's weights. */
  private static OnnxModel halved(OnnxModel dense) {
    OnnxModel pruned = dense.copy();
    for (Layer layer : LayerDiscovery.discover(dense)) {
      float[][] groups = LayerWeights.unfold(dense, layer);
      for (float[] weights : groups) {
        float[] sorted = new float[weights.length];
        for (int i = 0; i < sorted.length; i++) {
          sorted[i] = Math.abs(weights[i]);
        }
        java.util.Arrays.sort(sorted);
        for (int i = 0; i < weights.length; i++) {
          weights[i] = Math.abs(weights[i]) < sorted[sorted.length / 2] ? 0 : weights[i];
        }
      }
      LayerWeights.fold(pruned, layer, groups);
    }
    return pruned;
  }

  /** Mean and variance of each channel of a tensor over the images, in the model as it stands. */
  private static ChannelMoments moments(
      OnnxModel model, String tensor, int axis, ImageBatches images) {
    ModelInput input = ModelInput.of(model);
    ChannelMoments[] sum = new ChannelMoments[1];
    try (Session session = Session.open(model.withOutputs(List.of(tensor), true), 1)) {
      for (ImageBatches.Batch batch : images) {
        Map<String, Tensor> feed = input.feed(batch.data(), batch.count(), images.imageShape());
        Map<String, Tensor> results = session.run(feed);
        long[] shape = results.get(tensor).shape();
        float[] values = results.get(tensor).floats();
        int perImage = values.length / (int) shape[0];
        shape[0] = batch.count();
        ChannelMoments part =
            ChannelMoments.of(
                java.util.Arrays.copyOf(values, batch.count() * perImage), shape, axis);
        if (sum[0] == null) {
          sum[0] = new ChannelMoments(part.channels());
        }
        sum[0].merge(part);
        feed.values().forEach(Tensor::close);
        results.values().forEach(Tensor::close);
      }
    }
    return sum[0];
  }

  /** The tensor that stands for a layer's output with its bias, by the same name in both models. */
  private static String biased(Layer dense) {
    return dense.bias().map(Layer.BiasSource::node).orElse(dense.output());
  }

  @ParameterizedTest
  @CsvSource({
    "conv, 16",
    "conv, 64",
    "conv of batch 5, 5",
    "conv NHWC, 1",
    "conv FLOAT16, 16",
    "mlp, 16"
  })
  void eachChannelHasTheDenseModelsMeanAndVariance(String kind, int batch) throws Exception {
    OnnxModel dense = OnnxModel.read(network(kind));
    OnnxModel compressed = halved(dense);
    long[] zeros =
        LayerDiscovery.discover(compressed).stream()
            .mapToLong(layer -> LayerWeights.zeros(compressed, layer))
            .toArray();
    Notices notices = new Notices();
    List<String> told = new ArrayList<>();
    List<Layer> layers = LayerDiscovery.discover(compressed);
    try (Workers workers = new Workers(2)) {
      ImageBatches images = images(kind.endsWith("NHWC"), batch, workers);
      boolean differed = false;
      for (Layer layer : layers) {
        String tensor = biased(layer);
        double denseMean = moments(dense, tensor, layer.outputAxis(), images).mean(0);
        double mean = moments(compressed, tensor, layer.outputAxis(), images).mean(0);
        differed |= Math.abs(denseMean - mean) > 0.05;
      }
      assertTrue(differed, "pruning changes the means, or this test shows nothing");

      new ChannelCorrection(dense, compressed, workers, notices)
          .correct(layers, images, MEMORY, folder, told::add);

      // As it would be read back from the file.
      Path written = folder.resolve("written.onnx");
      compressed.write(written);
      OnnxModel corrected = OnnxModel.read(written);
      for (Layer layer : layers) {
        String tensor = biased(layer);
        ChannelMoments expected = moments(dense, tensor, layer.outputAxis(), images);
        ChannelMoments actual = moments(corrected, tensor, layer.outputAxis(), images);
        assertEquals(layer.rows() * layer.groups(), expected.channels());
        for (int c = 0; c < expected.channels(); c++) {
          // Float32 (float16) weights and activations through four layers.
          double tolerance =
              (kind.endsWith("FLOAT16") ? 1e-2 : 1e-4) * (1 + Math.sqrt(expected.variance(c)));
          String channel = layer.name() + " channel " + c;
          assertEquals(expected.mean(c), actual.mean(c), tolerance, channel);
          assertEquals(
              Math.sqrt(expected.variance(c)), Math.sqrt(actual.variance(c)), tolerance, channel);
        }
      }
      assertEquals(layers.stream().map(Layer::name).toList(), told);
      assertEquals(List.of(), notices.list());
      assertArrayEquals(
          zeros,
          layers.stream().mapToLong(layer -> LayerWeights.zeros(corrected, layer)).toArray(),
          "zeros stay zeros");
    }
  }

  @Test
  void aMatMulWithoutABiasGetsOne() {
    OnnxModel dense = OnnxModel.read(network("mlp"));
    OnnxModel compressed = halved(dense);
    List<Layer> layers = LayerDiscovery.discover(compressed);
    assertTrue(layers.get(1).bias().isEmpty());
    try (Workers workers = new Workers(1)) {
      new ChannelCorrection(dense, compressed, workers, new Notices())
          .correct(layers, images(false, 16, workers), MEMORY, folder, name -> {});
    }
    Layer second = LayerDiscovery.discover(compressed).get(1);
    assertEquals("fc2", second.name());
    assertTrue(second.bias().isPresent());
  }

  @Test
  void aChannelThatPruningSilencedGetsTheMeanAndIsLeftAtThat() {
    OnnxModel dense = OnnxModel.read(network("conv"));
    OnnxModel compressed = dense.copy();
    Layer first = LayerDiscovery.discover(dense).getFirst();
    float[][] weights = LayerWeights.unfold(dense, first);
    java.util.Arrays.fill(weights[0], 0, first.cols(), 0f);
    LayerWeights.fold(compressed, first, weights);
    try (Workers workers = new Workers(1)) {
      ImageBatches images = images(false, 16, workers);
      new ChannelCorrection(dense, compressed, workers, new Notices())
          .correct(
              List.of(LayerDiscovery.discover(compressed).getFirst()),
              images,
              MEMORY,
              folder,
              name -> {});
      ChannelMoments expected = moments(dense, "c1", 1, images);
      ChannelMoments actual = moments(compressed, "c1", 1, images);
      assertEquals(expected.mean(0), actual.mean(0), 1e-5);
      assertEquals(0, actual.variance(0), 1e-9);
    }
  }

  @Test
  void aScaleOutOfBoundsIsClampedAndNoted() {
    OnnxModel dense = OnnxModel.read(network("conv"));
    OnnxModel compressed = dense.copy();
    Layer first = LayerDiscovery.discover(dense).getFirst();
    float[][] weights = LayerWeights.unfold(dense, first);
    for (int i = 0; i < 2 * first.cols(); i++) {
      weights[0][i] *= i < first.cols() ? 0.1f : 10f;
    }
    LayerWeights.fold(compressed, first, weights);
    Notices notices = new Notices();
    try (Workers workers = new Workers(1)) {
      new ChannelCorrection(dense, compressed, workers, notices)
          .correct(
              List.of(LayerDiscovery.discover(compressed).getFirst()),
              images(false, 16, workers),
              MEMORY,
              folder,
              name -> {});
    }
    assertEquals(1, notices.list().size());
    assertEquals("channel-correction-clamped", notices.list().getFirst().code());
    assertEquals(2, notices.list().getFirst().value());
  }

  @ParameterizedTest
  @ValueSource(strings = {"conv", "conv FLOAT16"})
  void neitherThreadsNorMemoryChangeTheBytes(String kind) throws IOException {
    OnnxModel dense = OnnxModel.read(network(kind));
    Path scratch = Files.createDirectory(folder.resolve("scratch"));
    List<byte[]> results = new ArrayList<>();
    // The images alone take 28 KB: at 0 bytes all is in files, at 20,000 some.
    for (long memory : new long[] {MEMORY, 20_000, 0}) {
      for (int threads : new int[] {1, 2, 5}) {
        OnnxModel compressed = halved(dense);
        try (Workers workers = new Workers(threads)) {
          new ChannelCorrection(dense, compressed, workers, new Notices())
              .correct(
                  LayerDiscovery.discover(compressed),
                  images(false, 7, workers),
                  memory,
                  scratch,
                  name -> {});
        }
        results.add(compressed.toBytes());
        try (Stream<Path> left = Files.list(scratch)) {
          assertEquals(List.of(), left.toList());
        }
      }
    }
    results.forEach(result -> assertArrayEquals(results.getFirst(), result));
    assertFalse(java.util.Arrays.equals(halved(dense).toBytes(), results.getFirst()));
  }

  @Test
  void aScratchFolderThatCannotBeWrittenIsNamed() {
    OnnxModel dense = OnnxModel.read(network("conv"));
    OnnxModel compressed = halved(dense);
    Path absent = folder.resolve("absent");
    try (Workers workers = new Workers(1)) {
      TacoException e =
          assertThrows(
              TacoException.class,
              () ->
                  new ChannelCorrection(dense, compressed, workers, new Notices())
                      .correct(
                          LayerDiscovery.discover(compressed),
                          images(false, 16, workers),
                          0,
                          absent,
                          name -> {}));
      assertEquals(TacoException.Kind.RUNTIME, e.kind());
      assertTrue(e.getMessage().contains("absent"), e.getMessage());
    }
  }
}
