package org.taco4j;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.Predicate;
import java.util.function.ToDoubleBiFunction;
import org.jspecify.annotations.Nullable;
import org.taco4j.bench.OperatorPlan;
import org.taco4j.bench.Scores;
import org.taco4j.calibrate.ActivationRange;
import org.taco4j.calibrate.ActivationRanges;
import org.taco4j.calibrate.RangeMethod;
import org.taco4j.common.Notices;
import org.taco4j.common.Suggestions;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.export.ActivationQuantization;
import org.taco4j.export.IntegerOperators;
import org.taco4j.export.SymmetricQuantization;
import org.taco4j.export.WeightQuantization;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.report.RunReport;

/**
 * Brings the activations of a compressed model to 8 bits, after everything else: its layers then
 * multiply integers. What that does to the model is measured on calibration images, as the distance
 * of its scores from those with float activations; where it is much, the layers to blame stay
 * float.
 */
final class IntegerActivations {
  /** The only number of bits that there are operators for. */
  private static final int BITS = 8;

  /** The method of ranges whose scores are nearest to those with float activations. */
  private static final String AUTO = "auto";

  /** Share of empty blocks from which on a layer becomes a sparse operator of the library. */
  private static final double SPARSE_FROM = 0.5;

  /** Images on which scores are compared. */
  private static final int MOST_IMAGES = 64;

  /**
   * Distance of the scores from which on layers are looked at one by one, and that from which on
   * one of these stays float. Most layers alone move scores by less than 0.02; those that spoil
   * MobileNetV3 by 0.1 to 0.6.
   */
  private static final double MUCH_MOVED = 0.05;

  /** Layers stay float only where that brings the distance below this part of what it was. */
  private static final double WORTH_FLOATS = 0.8;

  /** A range that cuts off more of a tensor's values than this is worth a notice. */
  private static final double MUCH_CLIPPED = 0.01;

  private final OnnxModel model;
  private final List<RangeMethod> methods;
  private final ImageBatches images;
  private final ImageBatches sample;
  private final Workers workers;
  private final Optional<Layer> classifier;
  private final boolean sparse;

  /** Whether the form is that of TensorRT: signed bytes, zero points of 0. */
  private final boolean symmetric;

  private final ToDoubleBiFunction<OnnxModel, OnnxModel> ratio;

  /** Tensors that are 0 on all calibration images, as far as they have been looked at. */
  private final Set<String> empty = new LinkedHashSet<>();

  private IntegerActivations(
      OnnxModel model,
      String runtime,
      ToDoubleBiFunction<OnnxModel, OnnxModel> ratio,
      List<RangeMethod> methods,
      ImageBatches images,
      ImageBatches sample,
      Workers workers) {
    this.model = model;
    this.sparse = runtime.equals(SparseRuntime.TACO4J);
    this.symmetric = runtime.equals(SparseRuntime.TENSORRT);
    this.ratio = ratio;
    this.methods = methods;
    this.images = images;
    this.sample = sample;
    this.workers = workers;
    this.classifier = LayerDiscovery.classifier(model);
  }

  /** The defaults of a recipe that asks for 8-bit activations. */
  static Recipe defaults(Recipe recipe) {
    return recipe.activationBits() == null
        ? Recipe.empty()
        : Recipe.empty().with("activation-range", AUTO);
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
    methods(Objects.requireNonNull(range));
  }

  private static List<RangeMethod> methods(String range) {
    if (range.equals(AUTO)) {
      return List.of(RangeMethod.values());
    }
    List<RangeMethod> named =
        Arrays.stream(RangeMethod.values())
            .filter(method -> method.toString().equals(range))
            .toList();
    if (named.isEmpty()) {
      throw TacoException.usage(
          "--activation-range is auto, minmax, percentile or mse, not '"
              + range
              + "'"
              + Suggestions.didYouMean(range, List.of(AUTO, "minmax", "percentile", "mse")));
    }
    return named;
  }

  /** How many images {@link #apply} compares scores on. */
  static int sampleSize(int images) {
    return Math.min(images, MOST_IMAGES);
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
   * @param images calibration images, for ranges
   * @param sample some of them, for scores
   * @param ratio how many times faster the second of two whole models is; asked only where a recipe
   *     is for the operator library
   */
  static Result apply(
      Recipe recipe,
      OnnxModel model,
      Predicate<Layer> chosen,
      ImageBatches images,
      ImageBatches sample,
      Workers workers,
      ToDoubleBiFunction<OnnxModel, OnnxModel> ratio,
      Notices notices,
      Progress progress) {
    List<RangeMethod> methods = methods(Objects.requireNonNull(recipe.activationRange()));
    String runtime = Objects.requireNonNull(recipe.runtime());
    return new IntegerActivations(model, runtime, ratio, methods, images, sample, workers)
        .apply(chosen, notices, progress);
  }

  /**
   * A model whose chosen layers multiply integers.
   *
   * @param distance of its scores from those with float activations
   */
  private record Candidate(
      OnnxModel model,
      ActivationQuantization.Outcome outcome,
      RangeMethod method,
      Map<String, ActivationRange> ranges,
      double distance) {}

  private Result apply(Predicate<Layer> chosen, Notices notices, Progress progress) {
    Set<String> names = new LinkedHashSet<>();
    LayerDiscovery.discover(model).stream()
        .filter(chosen)
        .forEach(layer -> names.add(layer.name()));
    Scores scores = Scores.of(model, sample, workers);
    Candidate best = best(names, scores, methods, sparse);
    Map<String, Double> alone = new LinkedHashMap<>();
    if (best.distance() > MUCH_MOVED) {
      alone = distances(names, best.method());
      alone.values().removeIf(distance -> distance <= MUCH_MOVED);
      Set<String> rest = new LinkedHashSet<>(names);
      rest.removeAll(alone.keySet());
      Candidate without = alone.isEmpty() ? best : best(rest, scores, methods, sparse);
      if (without.distance() < WORTH_FLOATS * best.distance()) {
        best = without;
        names.retainAll(rest);
      } else {
        alone.clear();
      }
    }
    Double gain = null;
    if (best.model().hasSparseOperators()) {
      progress.stage("comparing integer operators", 0);
      Candidate plain = best(names, scores, List.of(best.method()), false);
      gain = ratio.applyAsDouble(plain.model(), best.model());
      String than =
          String.format(
              Locale.ROOT,
              "with the library's integer operators the whole model is %.2f times as fast as with"
                  + " those of ONNX",
              gain);
      if (gain < OperatorPlan.NOTABLE) {
        best = plain;
        notices.add("operators-not-used", model.source(), than + ", which it gets", gain);
      } else {
        progress.message(than);
      }
    } else if (sparse) {
      notices.add(
          "operators-not-used",
          model.source(),
          String.format(
              Locale.ROOT,
              "no layer that multiplies integers has %.0f %% empty blocks of four weights, from which"
                  + " on operators of the library may gain",
              100 * SPARSE_FROM),
          0);
    }
    Map<String, String> floats = new LinkedHashMap<>(best.outcome().floats());
    alone.forEach(
        (name, distance) ->
            floats.put(
                name,
                String.format(
                    Locale.ROOT,
                    "in 8 bits it alone moves the model's scores by %.0f %%",
                    100 * distance)));
    List<RunReport.IntegerLayer> layers = new ArrayList<>();
    Set<String> rounded = rounded(names);
    for (Layer layer : LayerDiscovery.discover(model)) {
      String name = layer.name();
      layers.add(
          new RunReport.IntegerLayer(
              name,
              best.outcome().rewritten().get(name),
              rounded.contains(name),
              floats.get(name)));
    }
    note(best, rounded, floats, notices);
    return new Result(
        best.model(),
        new RunReport.Activations(
            BITS,
            best.method().toString(),
            best.distance(),
            null,
            gain,
            best.ranges().values().stream().map(this::report).toList(),
            layers));
  }

  /** Of some layers those whose weights are float, and are to be rounded; not the classifier. */
  private Set<String> rounded(Set<String> names) {
    Set<String> rounded = new HashSet<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      boolean may =
          names.contains(layer.name())
              && !classifier.equals(Optional.of(layer))
              && LayerWeights.canFold(model, layer);
      if (may) {
        WeightQuantization.requireSupport(model, layer);
        rounded.add(layer.name());
      }
    }
    return rounded;
  }

  private OnnxModel withIntegerWeights(Set<String> names) {
    OnnxModel work = model.copy();
    Set<String> rounded = rounded(names);
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (rounded.contains(layer.name())) {
        WeightQuantization.round(work, layer);
      }
    }
    return work;
  }

  private ActivationQuantization plan(OnnxModel work, Set<String> names, boolean withLibrary) {
    if (symmetric) {
      return SymmetricQuantization.plan(work, layer -> names.contains(layer.name()), empty);
    }
    return IntegerOperators.plan(
        work,
        layer -> names.contains(layer.name()),
        withLibrary ? IntegerOperators.sparserThan(work, SPARSE_FROM) : layer -> false,
        empty);
  }

  /** Takes down which tensors are always 0; gives whether there are new ones. */
  private boolean findEmpty(ActivationRanges measured) {
    boolean found = false;
    for (ActivationRange range : measured.by(RangeMethod.MIN_MAX).values()) {
      found |= range.isEmpty() && empty.add(range.tensor());
    }
    return found;
  }

  /** These layers with integers, by the method of ranges that moves the scores least. */
  private Candidate best(
      Set<String> names, Scores scores, List<RangeMethod> methods, boolean withLibrary) {
    OnnxModel work = withIntegerWeights(names);
    ActivationQuantization plan = plan(work, names, withLibrary);
    ActivationRanges measured = ActivationRanges.measure(work, plan.tensors(), images, workers);
    while (findEmpty(measured)) {
      // What stays float for it may need other ranges.
      plan = plan(work, names, withLibrary);
      measured = ActivationRanges.measure(work, plan.tensors(), images, workers);
    }
    Map<RangeMethod, Candidate> candidates = new EnumMap<>(RangeMethod.class);
    for (RangeMethod method : methods) {
      Map<String, ActivationRange> ranges = measured.by(method);
      OnnxModel integers = work.copy();
      ActivationQuantization.Outcome outcome = plan.rewrite(integers, ranges);
      double distance = scores.distance(Scores.of(integers, sample, workers));
      candidates.put(method, new Candidate(integers, outcome, method, ranges, distance));
    }
    Map<RangeMethod, Double> distances = new EnumMap<>(RangeMethod.class);
    candidates.forEach((method, candidate) -> distances.put(method, candidate.distance()));
    return Objects.requireNonNull(candidates.get(nearest(model.source(), distances)));
  }

  /**
   * The method with the least distance, the first of those that have it.
   *
   * @throws TacoException of kind NUMERICAL where all are NaN
   */
  static RangeMethod nearest(String model, Map<RangeMethod, Double> distances) {
    // NaN is the largest in this order.
    Map.Entry<RangeMethod, Double> least =
        distances.entrySet().stream().min(Map.Entry.comparingByValue()).orElseThrow();
    if (least.getValue().isNaN()) {
      throw TacoException.numerical(
          model
              + ": with 8-bit activations its scores on calibration images are NaN, by any of the"
              + " ranges "
              + distances.keySet()
              + "; keep layers float with --exclude, or leave out --activation-bits");
    }
    return least.getKey();
  }

  /** How far each layer alone moves the scores. */
  private Map<String, Double> distances(Set<String> names, RangeMethod method) {
    OnnxModel work = withIntegerWeights(names);
    Scores scores = Scores.of(work, sample, workers);
    Map<String, ActivationQuantization> plans = new LinkedHashMap<>();
    ActivationRanges measured;
    do {
      plans.clear();
      Set<String> tensors = new LinkedHashSet<>();
      for (String name : names) {
        ActivationQuantization plan = plan(work, Set.of(name), sparse);
        if (!plan.tensors().isEmpty()) {
          plans.put(name, plan);
          tensors.addAll(plan.tensors());
        }
      }
      measured = ActivationRanges.measure(work, tensors, images, workers);
    } while (findEmpty(measured));
    Map<String, ActivationRange> ranges = measured.by(method);
    Map<String, Double> distances = new LinkedHashMap<>();
    plans.forEach(
        (name, plan) -> {
          OnnxModel one = work.copy();
          plan.rewrite(one, ranges);
          distances.put(name, scores.distance(Scores.of(one, sample, workers)));
        });
    return distances;
  }

  private RunReport.ActivationRange report(ActivationRange range) {
    if (symmetric) {
      float scale = range.symmetricScale();
      float largest = scale * Byte.MAX_VALUE;
      return new RunReport.ActivationRange(
          range.tensor(),
          range.lowest(),
          range.highest(),
          -largest,
          largest,
          scale,
          0,
          range.clipped());
    }
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

  private void note(
      Candidate best, Set<String> rounded, Map<String, String> floats, Notices notices) {
    for (String tensor : empty) {
      notices.add(
          "activation-range-empty",
          tensor,
          "is 0 on all calibration images, which tells no range: the layers that read or write it"
              + " multiply floats",
          0);
    }
    for (ActivationRange range : best.ranges().values()) {
      if (range.clipped() > MUCH_CLIPPED) {
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
          "layers that were not solved multiply integers like the others, their weights rounded to 8"
              + " bits (--exclude keeps layers float): "
              + rounded.size(),
          rounded.size());
    }
    // That the classifier stays as it is is a decision, and no surprise.
    classifier.ifPresent(layer -> floats.remove(layer.name()));
    floats.forEach(
        (layer, reason) ->
            notices.add("layer-left-float", layer, "multiplies floats: " + reason, 1));
  }

  /** The report of a result, with the accuracy of the same weights with float activations. */
  static RunReport.Activations withAccuracy(
      RunReport.Activations report, RunReport.@Nullable TopOne floatActivations) {
    return new RunReport.Activations(
        report.bits(),
        report.range(),
        report.scoreDistance(),
        floatActivations,
        report.libraryRatio(),
        report.ranges(),
        report.layers());
  }
}
