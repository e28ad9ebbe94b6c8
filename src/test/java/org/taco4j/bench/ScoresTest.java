package org.taco4j.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.TinyTask;
import org.taco4j.common.Notices;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageFile;
import org.taco4j.data.Preprocessor;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;

class ScoresTest {
  @TempDir Path folder;
  private OnnxModel model;
  private List<ImageFile> files;

  @BeforeEach
  void makeTask() throws IOException {
    Path file = TinyTask.convNet(folder.resolve("net.onnx"), TinyTask.Input.FREE);
    model = OnnxModel.read(file);
    try (Stream<Path> images = Files.walk(TinyTask.images(folder.resolve("images"), file, 3))) {
      files =
          images.filter(Files::isRegularFile).sorted().map(path -> new ImageFile(path, 0)).toList();
    }
  }

  private Scores scores(OnnxModel scored, int threads) {
    try (Workers workers = new Workers(threads)) {
      Preprocessor preprocessor = new Preprocessor(TinyTask.preprocessing(false));
      return Scores.of(
          scored, new ImageBatches(files, preprocessor, 5, workers, new Notices()), workers);
    }
  }

  private OnnxModel changed(float factor, float addend) {
    OnnxModel other = model.copy();
    Layer head = LayerDiscovery.find(other, "head");
    float[][] weights = LayerWeights.unfold(other, head);
    for (int i = 0; i < weights[0].length; i++) {
      weights[0][i] *= factor;
    }
    float[] bias = LayerWeights.bias(other, head);
    for (int i = 0; i < bias.length; i++) {
      bias[i] = bias[i] * factor + addend;
    }
    LayerWeights.fold(other, head, weights);
    LayerWeights.setBias(other, head, bias);
    return other;
  }

  @Test
  void distancesAreRelativeAndKnowNoOffset() {
    Scores scores = scores(model, 1);
    assertEquals(0, scores.distance(scores(model, 3)), "at any number of threads");
    assertEquals(0.25, scores.distance(scores(changed(1.25f, 0), 2)), 1e-5);
    assertEquals(0, scores.distance(scores(changed(1, 3), 1)), 1e-5);
    assertEquals(1, scores.distance(scores(changed(0, 7), 1)), 1e-5);
    assertTrue(scores(changed(0, 7), 1).distance(scores) > 1e3, "nothing but noise to compare");
  }
}
