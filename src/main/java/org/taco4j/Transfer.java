package org.taco4j;

import java.util.List;
import java.util.Objects;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageDataset;
import org.taco4j.data.Preprocessor;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.report.RunReport;
import org.taco4j.tune.LinearProbe;
import org.taco4j.tune.TuneTask;

/**
 * Brings a dense model to a task that it was not trained for: {@code --features} puts a classifier
 * for the task's classes behind a node of it. All that follows takes the result for the dense
 * model.
 */
final class Transfer {
  /** The features are computed once, so that passes over them cost next to nothing. */
  private static final int PASSES = 100;

  private Transfer() {}

  /**
   * A dense model with a classifier for the task.
   *
   * @param probe what training the classifier did
   */
  record Transferred(OnnxModel model, LinearProbe.Report probe) {
    RunReport.NewClassifier report() {
      LinearProbe.Pass last = probe.curve().getLast();
      return new RunReport.NewClassifier(
          probe.features(),
          probe.dimension(),
          probe.pooled(),
          probe.bestPass(),
          last.trainLoss(),
          last.trainAccuracy());
    }
  }

  /** Throws an exception of kind USAGE for what cannot be meant by a recipe with defaults. */
  static void check(Recipe recipe) {
    int passes = Objects.requireNonNull(recipe.finetunePasses());
    if (passes < 0) {
      throw TacoException.usage("--finetune-passes must not be negative, it is " + passes);
    }
    if (passes == 0 && recipe.finetuneRate() != null) {
      throw TacoException.usage(
          "--finetune-rate is for --finetune-passes, of which there are none");
    }
    if (recipe.features() != null && recipe.labels() != null) {
      throw TacoException.usage(
          "--features makes new outputs, one for each class folder in alphabetical order; --labels"
              + " is of the outputs that the model has: leave it out");
    }
    if (recipe.comparePtc() != null && (recipe.features() != null || passes > 0)) {
      throw TacoException.usage(
          "--compare-ptc compares behind the model's own classifier, which --features and"
              + " --finetune-passes replace or change: leave out one of them");
    }
  }

  /** A copy of a model, cut behind a node, with a classifier trained on the calibration images. */
  static Transferred newClassifier(
      OnnxModel source,
      String features,
      ImageDataset data,
      Preprocessor preprocessor,
      long seed,
      Workers workers,
      Notices notices,
      long memory) {
    LinearProbe.Settings settings =
        LinearProbe.Settings.usual()
            .withPasses(PASSES)
            .withFeatures(Optional.of(features))
            .withSeed(seed);
    TuneTask task =
        new TuneTask(source, source, List.of(), data.calibration(), List.of(), preprocessor);
    LinearProbe.Probed probed =
        new LinearProbe(workers, notices, memory).probe(task, data.classes().size(), settings);
    return new Transferred(probed.model(), probed.report());
  }

  /** What was done to the dense model, for the report; null where nothing was. */
  static RunReport.@Nullable Transfer report(
      @Nullable Transferred transferred,
      RunReport.@Nullable TopOne before,
      RunReport.@Nullable Tuning finetuning) {
    return transferred == null && finetuning == null
        ? null
        : new RunReport.Transfer(
            transferred == null ? null : transferred.report(), before, finetuning);
  }
}
