package org.taco4j;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;
import org.taco4j.calibrate.ActivationRange;
import org.taco4j.calibrate.ActivationRanges;
import org.taco4j.calibrate.RangeMethod;
import org.taco4j.common.Notices;
import org.taco4j.common.Suggestions;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.export.IntegerOperators;
import org.taco4j.export.WeightQuantization;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.report.RunReport;
import org.taco4j.solve.SolverOptions;

/**
 * Brings the activations of a compressed model to 8 bits, after everything else: layers then
 * multiply integers.
 */
final class IntegerActivations {
  /** The only number of bits that there are operators for. */
  private static final int BITS = 8;

  /** How ranges are chosen where nobody says it: see benchmarks/README.md. */
  private static final RangeMethod USUAL = RangeMethod.MIN_MAX;

  /** Share of empty blocks from which on a layer becomes a sparse operator. */
  private static final double SPARSE_FROM = 0.5;

  /** A range that cuts off more of a tensor's values than this is worth a notice. */
  private static final double MUCH_CLIPPED = 0.01;

  private IntegerActivations() {}

  /** The defaults of a recipe that asks for 8-bit activations. */
  static Recipe defaults(Recipe recipe) {
    return recipe.activationBits() == null
        ? Recipe.empty()
        : Recipe.empty().with("activation-range", USUAL.toString());
  }

  /** Throws an exception of kind USAGE for what cannot be meant. */
  static void check(Recipe recipe) {
    Integer bits = recipe.activationBits();
    String range = recipe.activationRange();
    if (bits == null) {
      if (range != null) {
        throw TacoException.usage(
            "--activation-range is about quantised activations; give --activation-bits 8");
      }
      return;
    }
    if (bits != BITS) {
      throw TacoException.usage(
          "--activation-bits is 8, the only number of bits with operators, not " + bits);
    }
    if (recipe.bits() == null) {
      throw TacoException.usage(
          "--activation-bits 8 multiplies integers, so weights must be some too: give --bits 8");
    }
    method(Objects.requireNonNull(range));
  }

  private static RangeMethod method(String range) {
    List<String> names = List.of("minmax", "percentile", "mse");
    if (!names.contains(range)) {
      throw TacoException.usage(
          "--activation-range is minmax, percentile or mse, not '"
              + range
              + "'"
              + Suggestions.didYouMean(range, names));
    }
    return SolverOptions.parse(RangeMethod.class, "--activation-range", range);
  }

  /**
   * What came of it.
   *
   * @param model with integer operators
   * @param report without the accuracy of the model with float activations
   */
  record Result(OnnxModel model, RunReport.Activations report) {}

  /**
   * Brings a model's activations to 8 bits, and the weights of chosen layers that are still float.
   *
   * @param model not changed
   * @param chosen the layers that may multiply integers
   * @param images calibration images
   */
  static Result apply(
      Recipe recipe,
      OnnxModel model,
      Predicate<Layer> chosen,
      ImageBatches images,
      Workers workers,
      Notices notices) {
    OnnxModel work = model.copy();
    Optional<Layer> classifier = LayerDiscovery.classifier(work);
    List<String> rounded = new ArrayList<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      boolean quantizable =
          chosen.test(layer)
              && !classifier.equals(Optional.of(layer))
              && LayerWeights.canFold(work, layer);
      if (quantizable) {
        WeightQuantization.requireSupport(work, layer);
        WeightQuantization.round(work, layer);
        rounded.add(layer.name());
      }
    }
    IntegerOperators plan =
        IntegerOperators.plan(work, chosen, IntegerOperators.sparserThan(work, SPARSE_FROM));
    RangeMethod method = method(Objects.requireNonNull(recipe.activationRange()));
    Map<String, ActivationRange> ranges =
        ActivationRanges.find(work, plan.tensors(), method, images, workers);
    IntegerOperators.Outcome outcome = plan.rewrite(work, ranges);
    note(ranges, outcome, rounded, classifier, model, notices);
    List<RunReport.IntegerLayer> layers = new ArrayList<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      layers.add(
          new RunReport.IntegerLayer(
              layer.name(),
              outcome.rewritten().get(layer.name()),
              rounded.contains(layer.name()),
              outcome.floats().get(layer.name())));
    }
    return new Result(
        work,
        new RunReport.Activations(
            BITS,
            method.toString(),
            null,
            ranges.values().stream().map(IntegerActivations::report).toList(),
            layers));
  }

  private static RunReport.ActivationRange report(ActivationRange range) {
    return new RunReport.ActivationRange(
        range.tensor(),
        range.lowest(),
        range.highest(),
        range.minimum(),
        range.maximum(),
        range.scale(),
        range.zeroPoint(),
        range.clipped());
  }

  private static void note(
      Map<String, ActivationRange> ranges,
      IntegerOperators.Outcome outcome,
      List<String> rounded,
      Optional<Layer> classifier,
      OnnxModel model,
      Notices notices) {
    for (ActivationRange range : ranges.values()) {
      if (range.isEmpty()) {
        notices.add(
            "activation-range-empty",
            range.tensor(),
            "is 0 on all calibration images, and so always 0 in 8 bits",
            0);
      } else if (range.clipped() > MUCH_CLIPPED) {
        notices.add(
            "activations-clipped",
            range.tensor(),
            String.format(
                Locale.ROOT,
                "%.1f %% of its values on the calibration images lie outside its range of %.4g to"
                    + " %.4g; --activation-range minmax clips none",
                100 * range.clipped(),
                range.minimum(),
                range.maximum()),
            range.clipped());
      }
    }
    if (!rounded.isEmpty()) {
      notices.add(
          "weights-rounded",
          model.source(),
          rounded.size()
              + " layers that were not solved have their weights rounded to 8 bits, as the"
              + " activations between layers are (--exclude keeps layers float): "
              + String.join(", ", rounded),
          rounded.size());
    }
    outcome
        .floats()
        .forEach(
            (layer, reason) -> {
              // That the classifier stays as it is is a decision, and no surprise.
              if (classifier.filter(last -> last.name().equals(layer)).isEmpty()) {
                notices.add("layer-left-float", layer, "multiplies floats: " + reason, 1);
              }
            });
  }

  /** The report of a result, with the accuracy of the same weights with float activations. */
  static RunReport.Activations withAccuracy(
      RunReport.Activations report, RunReport.@Nullable TopOne floatActivations) {
    return new RunReport.Activations(
        report.bits(), report.range(), floatActivations, report.ranges(), report.layers());
  }
}
