package org.taco4j.reconstruct;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.Notices;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.cuda.CudaBackend;
import org.taco4j.compute.cuda.FakeCuda;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.data.ImageBatches;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.solve.Damping;
import org.taco4j.solve.Pattern;
import org.taco4j.solve.Solvers;

/** Reconstruction whose sums over images are taken on a device, its kernels run on the CPU. */
class DeviceSumsTest {
  private static final long MEMORY = 1 << 30;

  @TempDir Path folder;

  /** Weights of all layers that were compressed. */
  private List<float[]> run(OnnxModel dense, Backend backend, int threads) throws IOException {
    List<LayerWise.Plan> plans =
        LayerDiscovery.discover(dense).stream()
            .filter(Layer::prunable)
            .map(l -> new LayerWise.Plan(l, Pattern.parse("0.5"), Solvers.byName("magnitude")))
            .toList();
    OnnxModel compressed = dense.copy();
    Path scratch = Files.createDirectories(folder.resolve("scratch"));
    try (Workers workers = new Workers(threads)) {
      ImageBatches images = Networks.images(folder, 37, false, 16, workers);
      new Sequential(dense, compressed, backend, new Notices(), null)
          .run(
              plans,
              layer -> true,
              new Damping.Fixed(0.01),
              MEMORY,
              scratch,
              images,
              null,
              new Sequential.Listener() {
                @Override
                public void calibrating(int pass, int passes, int layers) {}

                @Override
                public void solved(LayerWise.Outcome outcome) {}

                @Override
                public void refitted(Layer layer) {}
              });
    }
    List<float[]> weights = new ArrayList<>();
    for (LayerWise.Plan plan : plans) {
      weights.addAll(List.of(LayerWeights.unfold(compressed, plan.layer())));
    }
    return weights;
  }

  @ParameterizedTest
  @ValueSource(strings = {"conv", "residual", "mlp"})
  void sequentialAgreesWithTheHost(String network) throws IOException {
    OnnxModel dense = OnnxModel.read(Networks.write(folder, network));
    try (FakeCuda cuda = FakeCuda.load();
        Workers workers = new Workers(2);
        Backend device = CudaBackend.open(new ScalarBackend(workers), 0)) {
      List<float[]> expected = run(dense, new ScalarBackend(workers), 2);
      List<float[]> actual = run(dense, device, 2);
      // The fit to the dense outputs solves with damping of 1 %, so errors of 1e-6 in the sums
      // become some 1e-4 in weights.
      for (int layer = 0; layer < expected.size(); layer++) {
        float most = 0;
        for (float weight : expected.get(layer)) {
          most = Math.max(most, Math.abs(weight));
        }
        for (int i = 0; i < expected.get(layer).length; i++) {
          assertEquals(
              expected.get(layer)[i], actual.get(layer)[i], 1e-3f * most, layer + ", " + i);
        }
      }
      List<float[]> again = run(dense, device, 3);
      for (int layer = 0; layer < expected.size(); layer++) {
        assertArrayEquals(actual.get(layer), again.get(layer));
      }
    }
  }
}
