package org.taco4j.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.IntConsumer;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageFile;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/** Measures the accuracy of a classifier on labelled images. */
public final class Evaluator {
  /** Scores that count for top-5. */
  private static final int FIVE = 5;

  private Evaluator() {}

  /**
   * Accuracy over the task's classes, and over all of the model's outputs.
   *
   * @param task only the task's outputs compete
   * @param all all outputs compete
   * @param predictions what each image was taken for, only the task's outputs competing; in the
   *     order of the images
   */
  public record Result(Accuracy task, Accuracy all, List<Prediction> predictions) {}

  /**
   * What an image was taken for. Classes are positions in the task's list.
   *
   * @param file the image, with its true class
   * @param predicted the class of the highest score
   * @param probability of that class, among the task's
   */
  public record Prediction(ImageFile file, int predicted, double probability) {
    /** Whether that is what the image shows. */
    public boolean isRight() {
      return predicted == file.classIndex();
    }
  }

  /**
   * Classifies images.
   *
   * @param session with one thread inside operators: batches run in parallel
   * @param outputs for each class of the task, its index in the model's output
   * @param workers not called from one of their tasks
   */
  public static Result evaluate(
      Session session,
      ModelInput input,
      ImageBatches images,
      List<Integer> outputs,
      Workers workers) {
    return evaluate(session, input, images, outputs, workers, done -> {});
  }

  /**
   * {@link #evaluate(Session, ModelInput, ImageBatches, List, Workers)}.
   *
   * @param progress is told how many images are done, time and again
   */
  public static Result evaluate(
      Session session,
      ModelInput input,
      ImageBatches images,
      List<Integer> outputs,
      Workers workers,
      IntConsumer progress) {
    int[] totals = new int[5];
    List<Prediction> predictions = new ArrayList<>();
    images.forEachWave(
        workers.threads(),
        wave -> {
          Batch[] batches = new Batch[wave.size()];
          workers.forEach(
              wave.size(),
              i ->
                  batches[i] = classify(session, input, wave.get(i), images.imageShape(), outputs));
          for (Batch batch : batches) {
            for (int i = 0; i < totals.length; i++) {
              totals[i] += batch.counts()[i];
            }
            predictions.addAll(batch.predictions());
          }
          progress.accept(totals[0]);
        });
    return new Result(
        new Accuracy(totals[0], totals[1], totals[2]),
        new Accuracy(totals[0], totals[3], totals[4]),
        List.copyOf(predictions));
  }

  /**
   * A batch that was classified.
   *
   * @param counts {images, top-1 and top-5 over the task, top-1 and top-5 over all outputs}
   */
  @SuppressWarnings("ArrayRecordComponent") // Summed up at once, never compared.
  private record Batch(int[] counts, List<Prediction> predictions) {}

  private static Batch classify(
      Session session,
      ModelInput input,
      ImageBatches.Batch batch,
      long[] imageShape,
      List<Integer> outputs) {
    Map<String, Tensor> feed = input.feed(batch.data(), batch.count(), imageShape);
    Map<String, Tensor> results = session.run(feed);
    try {
      Tensor scores = results.values().iterator().next();
      float[] values = scores.floats();
      int rows = Math.toIntExact(scores.shape()[0]);
      int classes = values.length / rows;
      int[] counts = new int[5];
      List<Prediction> predictions = new ArrayList<>(batch.count());
      for (int i = 0; i < batch.count(); i++) {
        int truth = outputs.get(batch.classIndices()[i]);
        if (truth >= classes) {
          throw TacoException.data(
              "class index " + truth + " is beyond the model's " + classes + " outputs");
        }
        int at = i * classes;
        float score = values[at + truth];
        if (!Float.isFinite(score)) {
          throw TacoException.numerical(
              "the model's scores for "
                  + batch.files().get(i).path()
                  + " are not finite; check the model and the preprocessing");
        }
        int aheadInTask = 0;
        for (int o = 0; o < outputs.size(); o++) {
          aheadInTask += isAhead(values, at, outputs.get(o), truth, score) ? 1 : 0;
        }
        int aheadOfAll = 0;
        for (int o = 0; o < classes; o++) {
          aheadOfAll += isAhead(values, at, o, truth, score) ? 1 : 0;
        }
        counts[0]++;
        counts[1] += aheadInTask == 0 ? 1 : 0;
        counts[2] += aheadInTask < FIVE ? 1 : 0;
        counts[3] += aheadOfAll == 0 ? 1 : 0;
        counts[4] += aheadOfAll < FIVE ? 1 : 0;
        predictions.add(prediction(values, at, classes, outputs, batch.files().get(i)));
      }
      return new Batch(counts, predictions);
    } finally {
      feed.values().forEach(Tensor::close);
      results.values().forEach(Tensor::close);
    }
  }

  /** Whether output o beats the true one; among equals the lower index wins, as in argmax. */
  private static boolean isAhead(float[] values, int at, int o, int truth, float score) {
    return values[at + o] > score || (values[at + o] == score && o < truth);
  }

  /** The class of the highest score, and its share of the task's probability. */
  private static Prediction prediction(
      float[] values, int at, int classes, List<Integer> outputs, ImageFile file) {
    int best = 0;
    for (int o = 1; o < outputs.size(); o++) {
      int leader = outputs.get(best);
      if (isAhead(values, at, outputs.get(o), leader, values[at + leader])) {
        best = o;
      }
    }
    boolean isDistribution = isDistribution(values, at, classes);
    float highest = values[at + outputs.get(best)];
    double sum = 0;
    for (int output : outputs) {
      float score = values[at + output];
      sum += isDistribution ? score : Math.exp(score - highest);
    }
    double probability = isDistribution ? highest / sum : 1 / sum;
    return new Prediction(file, best, Double.isFinite(probability) ? probability : 0);
  }

  /** Whether the model ends in a softmax: its scores are probabilities, not logits. */
  private static boolean isDistribution(float[] values, int at, int classes) {
    double sum = 0;
    for (int o = 0; o < classes; o++) {
      float value = values[at + o];
      if (!(value >= 0 && value <= 1)) {
        return false;
      }
      sum += value;
    }
    return Math.abs(sum - 1) < 1e-3;
  }
}
