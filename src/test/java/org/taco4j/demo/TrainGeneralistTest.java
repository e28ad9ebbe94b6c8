package org.taco4j.demo;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.bytedeco.javacpp.PointerScope;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.PreprocessingOptions;
import org.taco4j.TaskClasses;
import org.taco4j.common.Workers;
import org.taco4j.execute.Tensors;
import org.taco4j.execute.TorchGraph;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;
import org.taco4j.tune.Optimizer;
import org.taco4j.tune.Trainer;

/** A training in miniature: two things that colours tell apart, a net of some thousand weights. */
@SuppressWarnings("try")
class TrainGeneralistTest {
  private static final List<DrawnClass> CLASSES = List.of(DrawnClass.STRAWBERRY, DrawnClass.BUS);

  @TempDir Path folder;

  private static OnnxModel train(int threads, int steps, List<Double> losses) {
    Trainer.Settings settings =
        new Trainer.Settings(
            new Optimizer(Optimizer.Rule.ADAMW, 0.02, Optimizer.Schedule.LINEAR, 0.01, 0),
            steps,
            16,
            8,
            0.05);
    try (Workers workers = new Workers(threads)) {
      return TrainGeneralist.train(
          CLASSES,
          new int[] {8, 12},
          1,
          settings,
          8,
          workers,
          (step, loss, top1) -> losses.add(loss));
    }
  }

  private static void assumeLibTorch() {
    TorchGraph.unavailable().ifPresent(why -> Assumptions.abort("no libtorch: " + why));
  }

  @Test
  void theSameBytesAtAnyNumberOfThreads() {
    assumeLibTorch();
    assertEquals(train(1, 4, new ArrayList<>()).sha256(), train(3, 4, new ArrayList<>()).sha256());
  }

  @Test
  void lossFallsAndTheModelIsPlainOnnx() {
    assumeLibTorch();
    List<Double> losses = new ArrayList<>();
    int steps = 60;
    OnnxModel model = train(2, steps, losses);
    assertEquals(steps, losses.size());
    // From ln 2 = 0.69, the loss of a guess; single steps of 16 pictures go up and down.
    double first = mean(losses.subList(0, 5));
    double last = mean(losses.subList(steps - 10, steps));
    assertTrue(last < 0.75 * first, () -> "from " + first + " to " + last);

    model.write(folder.resolve("model.onnx"));
    OnnxModel written = OnnxModel.read(folder.resolve("model.onnx"));
    assertEquals(
        Set.of("Conv", "Relu", "Add", "GlobalAveragePool", "Flatten", "Gemm"),
        written.operatorCounts().keySet());
    assertTrue(written.metadata().containsKey(PreprocessingOptions.METADATA_KEY));
    assertTrue(written.metadata().get(TaskClasses.METADATA_KEY).contains("strawberry"));

    Ort.Tensor image = Ort.Tensor.random(2, 3, Drawing.SIDE, Drawing.SIDE);
    try (TorchGraph graph = TorchGraph.of(written);
        PointerScope scope = new PointerScope()) {
      Map<String, org.bytedeco.pytorch.Tensor> feed =
          Map.of("image", Tensors.of(image.values(), image.shape()));
      float[] logits = Tensors.floats(graph.run(Map.of(), feed, List.of("logits")).get("logits"));
      // Sums of some hundred products in another order.
      Ort.assertSame(
          Map.of("logits", new Ort.Tensor(logits, 2, CLASSES.size())),
          Ort.run(written, image),
          1e-4f);
    }
  }

  private static double mean(List<Double> values) {
    return values.stream().mapToDouble(Double::doubleValue).average().orElseThrow();
  }
}
