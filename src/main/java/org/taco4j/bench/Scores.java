package org.taco4j.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/** What a classifier gives for some images, to be compared with what another one gives. */
public final class Scores {
  /** For each batch [images, classes], row-major, each image's scores less their mean. */
  private final List<float[]> batches;

  private Scores(List<float[]> batches) {
    this.batches = batches;
  }

  /**
   * Runs a model over images.
   *
   * @param workers not called from one of their tasks
   */
  public static Scores of(OnnxModel model, ImageBatches images, Workers workers) {
    ModelInput input = ModelInput.of(model);
    List<float[]> batches = new ArrayList<>();
    try (Session session = Session.open(model, 1)) {
      images.forEachWave(
          workers.threads(),
          wave -> {
            float[][] scores = new float[wave.size()][];
            workers.forEach(
                wave.size(),
                i -> scores[i] = run(session, input, wave.get(i), images.imageShape()));
            batches.addAll(List.of(scores));
          });
    }
    return new Scores(batches);
  }

  private static float[] run(
      Session session, ModelInput input, ImageBatches.Batch batch, long[] imageShape) {
    Map<String, Tensor> feed = input.feed(batch.data(), batch.count(), imageShape);
    Map<String, Tensor> results = session.run(feed);
    try {
      Tensor scores = results.values().iterator().next();
      int rows = Math.toIntExact(scores.shape()[0]);
      float[] values = scores.floats();
      int classes = values.length / rows;
      float[] centred = new float[batch.count() * classes];
      for (int row = 0; row < batch.count(); row++) {
        double mean = 0;
        for (int i = row * classes; i < (row + 1) * classes; i++) {
          mean += values[i] / (double) classes;
        }
        for (int i = row * classes; i < (row + 1) * classes; i++) {
          centred[i] = (float) (values[i] - mean);
        }
      }
      return centred;
    } finally {
      feed.values().forEach(Tensor::close);
      results.values().forEach(Tensor::close);
    }
  }

  /**
   * How far other scores for the same images are from these: ‖other − these‖ / ‖these‖ over all
   * images, where what is added to all scores of an image does not count, as it changes no class.
   */
  public double distance(Scores other) {
    double difference = 0;
    double square = 0;
    for (int b = 0; b < batches.size(); b++) {
      float[] own = batches.get(b);
      float[] others = other.batches.get(b);
      for (int i = 0; i < own.length; i++) {
        difference += ((double) others[i] - own[i]) * ((double) others[i] - own[i]);
        square += (double) own[i] * own[i];
      }
    }
    return difference == 0 ? 0 : Math.sqrt(difference / square);
  }
}
