package org.taco4j.reconstruct;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.TinyTask;
import org.taco4j.common.Notices;
import org.taco4j.common.Workers;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageFile;
import org.taco4j.data.Preprocessor;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.solve.Damping;
import org.taco4j.solve.Pattern;
import org.taco4j.solve.Solvers;

class LayerWiseTest {
  @TempDir Path folder;

  @ParameterizedTest
  @ValueSource(strings = {"fast", "wanda", "magnitude"})
  void deadInputsAreCountedForEverySolver(String solver) {
    OnnxModel dense =
        OnnxModel.read(TinyTask.convNet(folder.resolve("net.onnx"), TinyTask.Input.FREE));
    // Channel 0 behind the first convolution is silent: 3 x 3 columns of the second read it.
    Layer first = LayerDiscovery.discover(dense).getFirst();
    float[][] weights = LayerWeights.unfold(dense, first);
    Arrays.fill(weights[0], 0, first.cols(), 0f);
    LayerWeights.fold(dense, first, weights);
    float[] bias = LayerWeights.bias(dense, first);
    bias[0] = 0;
    LayerWeights.setBias(dense, first, bias);
    Layer second = LayerDiscovery.discover(dense).get(1);
    Random random = new Random(5);
    List<ImageFile> files = new ArrayList<>();
    for (int i = 0; i < 20; i++) {
      Path file = folder.resolve(i + ".png");
      TinyTask.write(TinyTask.picture(random), file);
      files.add(new ImageFile(file, 0));
    }
    Notices notices = new Notices();
    try (Workers workers = new Workers(2)) {
      ImageBatches images =
          new ImageBatches(
              files, new Preprocessor(TinyTask.preprocessing(false)), 7, workers, new Notices());
      LayerWise.Plan plan =
          new LayerWise.Plan(second, Pattern.parse("0.5"), Solvers.byName(solver));
      LayerWise.Result result =
          new LayerWise(dense, dense.copy(), new ScalarBackend(workers), workers, notices)
              .run(
                  List.of(plan),
                  new Damping.Fixed(0.1),
                  1 << 20,
                  images,
                  null,
                  new LayerWise.Listener() {
                    @Override
                    public void calibrating(int pass, int passes, int layers) {}

                    @Override
                    public void solved(LayerWise.Outcome outcome) {}
                  });
      assertEquals(9, result.outcomes().getFirst().deadColumns());
      assertNull(result.outcomes().getFirst().heldOutError());
    }
    assertEquals(
        List.of("dead-columns"), notices.list().stream().map(notice -> notice.code()).toList());
    assertEquals(9, notices.list().getFirst().value());
  }
}
