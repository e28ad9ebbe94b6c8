package org.taco4j;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.bench.Evaluator;
import org.taco4j.common.Notices;
import org.taco4j.compute.Backend;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageFile;
import org.taco4j.data.Preprocessor;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.reconstruct.ChannelCorrection;
import org.taco4j.reconstruct.LayerCheckpoints;
import org.taco4j.reconstruct.LayerWise;
import org.taco4j.reconstruct.Sequential;
import org.taco4j.report.RunReport;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.solve.Damping;
import org.taco4j.tune.HoldOut;
import org.taco4j.tune.LayerMask;

/**
 * Compression of one copy of a model on some images: removal of units, solving of layers with what
 * belongs to it, tuning; with the time that each took.
 */
final class Compression {
  /** By how much the learning rate falls for a second trial. */
  private static final double SMALLER_STEPS = 0.1;

  private final Recipe recipe;
  private final LayerSelection selection;
  private final Backend backend;
  private final RunFolder folder;
  private final LayerCheckpoints checkpoints;
  private final Images images;
  private final RunLog log;
  private final Notices notices;
  private double calibrateSeconds;
  private double solveSeconds;
  private double correctSeconds;
  private double tuneSeconds;

  /**
   * The images that compression sees.
   *
   * @param files the calibration images
   * @param labelled whether their class indices are those of the task
   * @param calibration the same as batches
   * @param heldOut on which layer errors are measured; null for none
   * @param correction for the channel correction
   * @param batches makes the like of some of the files, without held-out images
   */
  record Images(
      List<ImageFile> files,
      boolean labelled,
      ImageBatches calibration,
      @Nullable ImageBatches heldOut,
      ImageBatches correction,
      Function<List<ImageFile>, Images> batches) {}

  /**
   * A compressed copy.
   *
   * @param untuned the model before tuning; null where there was no tuning
   * @param unitOutcomes of the layers that read removed units
   * @param outcomes of the pruned layers
   * @param steps of a schedule; empty without one
   */
  record Compressed(
      OnnxModel model,
      @Nullable OnnxModel untuned,
      List<LayerWise.Outcome> unitOutcomes,
      List<LayerWise.Outcome> outcomes,
      RunReport.@Nullable Tuning tuning,
      @Nullable Course course,
      List<RunReport.Step> steps,
      Optional<String> failure) {}

  Compression(
      Recipe recipe,
      LayerSelection selection,
      Backend backend,
      RunFolder folder,
      LayerCheckpoints checkpoints,
      Images images,
      RunLog log,
      Notices notices) {
    this.recipe = recipe;
    this.selection = selection;
    this.backend = backend;
    this.folder = folder;
    this.checkpoints = checkpoints;
    this.images = images;
    this.log = log;
    this.notices = notices;
  }

  double tuneSeconds() {
    return tuneSeconds;
  }

  /**
   * What is compressed.
   *
   * @param dense not changed
   * @param structured which units to remove; null for none
   * @param plans for the layers of the dense model; empty where units only are removed
   * @param steps plans for each step of a schedule; empty without one
   * @param pretrained the dense model before it was fine-tuned; the same where it was not
   * @param planner plans for the layers of a model without its removed units
   * @param classes of the task
   */
  record Target(
      OnnxModel dense,
      @Nullable StructuredPruning structured,
      List<LayerWise.Plan> plans,
      List<List<LayerWise.Plan>> steps,
      OnnxModel pretrained,
      Function<OnnxModel, List<LayerWise.Plan>> planner,
      int classes,
      Preprocessor preprocessor) {}

  /**
   * Compresses a model: units first, then weights, then tuning.
   *
   * @param given for how long to tune, and how; empty to let held-out images decide, where there
   *     are enough
   */
  Compressed compress(Target target, Optional<Course> given) {
    if (!target.steps().isEmpty()) {
      return compressInSteps(target);
    }
    if (!Tuning.isAsked(recipe)) {
      return reconstruct("", target, images, notices);
    }
    Trial trial = null;
    if (given.isEmpty() && !"none".equals(recipe.tuneHoldOut())) {
      trial = trial(target);
    }
    Compressed untuned = reconstruct("", target, images, notices);
    Tuning tuning = new Tuning(recipe, backend.workers(), log, notices, recipe.memoryBytes());
    Course course =
        trial != null ? trial.course() : given.orElse(new Course(tuning.passes(), tuning.rate()));
    int lastPass = course.lastPass();
    if (lastPass == 0 && trial != null) {
      notices.add(
          "tuning-not-used",
          target.dense().source(),
          trial.failure().isPresent()
              ? "the trial stopped before any pass was better than the untuned model, which is the result: "
                  + trial.failure().get()
              : "on the %d calibration images held out for a trial, the untuned model was better than after any pass of tuning; it is the result"
                  .formatted(trial.report().heldOutImages()),
          0);
    }
    if (lastPass == 0) {
      return new Compressed(
          untuned.model(),
          null,
          untuned.unitOutcomes(),
          untuned.outcomes(),
          trial == null ? null : trial.report(),
          course,
          List.of(),
          trial == null ? Optional.empty() : trial.failure());
    }
    Tuning.Result tuned =
        tune(
            "",
            target,
            untuned,
            images,
            images.files(),
            List.of(),
            lastPass,
            course.rate(),
            notices);
    RunReport.Tuning t = tuned.report();
    RunReport.Tuning report =
        trial == null
            ? t
            : new RunReport.Tuning(
                t.method(),
                t.passes(),
                t.bestPass(),
                t.stop(),
                t.trainImages(),
                trial.report().heldOutImages(),
                t.trainedValues(),
                t.features(),
                t.seconds() + trial.report().seconds(),
                t.curve(),
                trial.report().trial(),
                t.failure() != null ? t.failure() : trial.report().failure());
    return new Compressed(
        tuned.model(),
        untuned.model(),
        untuned.unitOutcomes(),
        untuned.outcomes(),
        report,
        course,
        List.of(),
        trial == null ? tuned.failure() : tuned.failure().or(trial::failure));
  }

  /** For how long to tune, and the learning rate at the start. */
  record Course(int lastPass, double rate) {}

  /** What the trial said; its curve is the report's trial. */
  private record Trial(Course course, RunReport.Tuning report, Optional<String> failure) {}

  /**
   * Compresses and tunes without a quarter of the images, which then judge without having been
   * seen: by the compression neither, whose fit would let the untuned model look better than it is.
   * Null where there are too few images.
   */
  private @Nullable Trial trial(Target target) {
    HoldOut split =
        HoldOut.split(
            images.files().stream().map(ImageFile::classIndex).toList(),
            Objects.requireNonNull(recipe.seed()));
    if (split.heldOut().isEmpty()) {
      notices.add(
          "no-held-out-images",
          "tuning",
          "of %d calibration images none are held out (that takes %d, and %d of each class): all passes of tuning are done, better or not"
              .formatted(images.files().size(), HoldOut.LEAST_IMAGES, HoldOut.LEAST_PER_CLASS),
          images.files().size());
      return null;
    }
    List<ImageFile> train = split.train().stream().map(images.files()::get).toList();
    List<ImageFile> heldOut = split.heldOut().stream().map(images.files()::get).toList();
    log.say(
        "trial: compression and tuning on %d of the calibration images, judged on the other %d"
            .formatted(train.size(), heldOut.size()));
    Notices quiet =
        new Notices(
            notice -> {
              if (notice.code().equals("search-stopped")) {
                notices.add(notice); // It decides bytes: of how long the model is tuned.
              } else {
                log.write("note on the trial [" + notice.code() + "] " + notice.message());
              }
            });
    Images fewer = images.batches().apply(train);
    Compressed untuned = reconstruct("trial/", target, fewer, quiet);
    Tuning tuning = new Tuning(recipe, backend.workers(), log, quiet, recipe.memoryBytes());
    double rate = tuning.rate();
    Tuning.Result tuned =
        tune("trial/", target, untuned, fewer, train, heldOut, tuning.passes(), rate, quiet);
    if (tuned.report().bestPass() == 0 && tuning.hasUsualRate() && !isProbe()) {
      // Convolutional nets with folded BatchNorm often want smaller steps.
      rate *= SMALLER_STEPS;
      log.say(
          String.format(
              Locale.ROOT,
              "trial: no pass was better than the untuned model; again with learning rate %.2g",
              rate));
      tuned = tune("trial2/", target, untuned, fewer, train, heldOut, tuning.passes(), rate, quiet);
    }
    RunReport.Tuning t = tuned.report();
    log.say(
        String.format(
            Locale.ROOT,
            "trial: best %s; now compression on all %d images%s",
            t.bestPass() == 0 ? "without tuning" : "after pass " + t.bestPass(),
            images.files().size(),
            t.bestPass() == 0 ? "" : ", and tuning to that pass"));
    return new Trial(
        new Course(t.bestPass(), rate),
        new RunReport.Tuning(
            t.method(),
            t.passes(),
            0,
            t.stop(),
            t.trainImages(),
            t.heldOutImages(),
            t.trainedValues(),
            t.features(),
            t.seconds(),
            List.of(),
            t.curve(),
            t.failure()),
        tuned.failure());
  }

  private boolean isProbe() {
    return "probe".equals(recipe.tune());
  }

  private Tuning.Result tune(
      String prefix,
      Target target,
      Compressed untuned,
      Images seen,
      List<ImageFile> train,
      List<ImageFile> heldOut,
      int lastPass,
      double rate,
      Notices told) {
    Set<String> pruned =
        untuned.outcomes().stream().map(o -> o.plan().layer().name()).collect(Collectors.toSet());
    List<Layer> layers =
        LayerDiscovery.discover(untuned.model()).stream()
            .filter(layer -> pruned.contains(layer.name()))
            .toList();
    return tune(
        prefix,
        target,
        untuned.model(),
        LayerMask.ofZeros(untuned.model(), layers),
        seen.labelled(),
        train,
        heldOut,
        lastPass,
        rate,
        told);
  }

  private Tuning.Result tune(
      String prefix,
      Target target,
      OnnxModel student,
      List<LayerMask> masks,
      boolean labelled,
      List<ImageFile> train,
      List<ImageFile> heldOut,
      int lastPass,
      double rate,
      Notices told) {
    long start = System.nanoTime();
    Tuning.Result result =
        new Tuning(recipe, backend.workers(), log, told, recipe.memoryBytes())
            .tune(
                target.dense(),
                student,
                masks,
                train,
                heldOut,
                labelled,
                target.classes(),
                lastPass,
                rate,
                target.preprocessor(),
                checkpoints.fileOf(prefix + "tuning"));
    tuneSeconds += (System.nanoTime() - start) / 1e9;
    return result;
  }

  /**
   * Prunes and tunes step by step. Each step goes on from the model as the one before left it:
   * sequentially reconstructed towards the dense model's outputs; in the layer-wise form towards
   * its own, on what it gives itself. Zeros of a step may come back in the next, where the fit
   * finds that others matter less; there are as many in the end as were asked for.
   *
   * <p>No images are held out: each step does all passes of tuning, as all weights that a step
   * removes are to be made up for before the next one.
   */
  private Compressed compressInSteps(Target target) {
    if (!"none".equals(recipe.tuneHoldOut())) {
      notices.add(
          "no-held-out-images",
          "tuning",
          "no images are held out in the steps of a schedule: all passes of tuning are done, better or not",
          0);
    }
    boolean rewinds = Schedule.rewinds(recipe);
    List<RunReport.Step> reports = new ArrayList<>();
    Optional<String> failure = Optional.empty();
    OnnxModel current = target.dense();
    int steps = target.steps().size();
    if (rewinds && target.pretrained().sha256().equals(target.dense().sha256())) {
      log.say("step 0 of %d: training the dense model".formatted(steps));
      Tuning.Result trained = tuneStep(0, target, current, List.of());
      reports.add(
          new RunReport.Step(
              0,
              0,
              null,
              top1(current, target.classes()),
              top1(trained.model(), target.classes()),
              trained.report()));
      current = trained.model();
      failure = trained.failure();
    }
    OnnxModel untuned = current;
    List<LayerWise.Outcome> outcomes = List.of();
    for (int step = 1; step <= steps; step++) {
      List<LayerWise.Plan> plans = target.steps().get(step - 1);
      log.say(
          "step %d of %d: %s"
              .formatted(
                  step,
                  steps,
                  plans.stream()
                      .map(plan -> plan.pattern().toString())
                      .distinct()
                      .collect(Collectors.joining(", "))));
      OnnxModel pruned = current.copy();
      OnnxModel reference = recipe.isSequential() ? target.dense() : current;
      outcomes = run("step" + step + "/weights", reference, pruned, plans, images, notices);
      List<Layer> layers = plans.stream().map(LayerWise.Plan::layer).toList();
      List<LayerMask> masks = LayerMask.ofZeros(pruned, layers);
      untuned = rewinds ? rewound(target.pretrained(), masks) : pruned;
      Tuning.Result tuned = tuneStep(step, target, untuned, masks);
      reports.add(
          new RunReport.Step(
              step,
              sparsity(tuned.model(), layers),
              outcomes.stream().mapToDouble(LayerWise.Outcome::layerError).average().orElse(0),
              top1(untuned, target.classes()),
              top1(tuned.model(), target.classes()),
              tuned.report()));
      current = tuned.model();
      if (failure.isEmpty()) {
        failure = tuned.failure();
      }
    }
    return new Compressed(
        current,
        untuned,
        List.of(),
        outcomes,
        reports.getLast().tuning(),
        null,
        List.copyOf(reports),
        failure);
  }

  /** Tuning with all passes; what a step notes is for the log but for the last step. */
  private Tuning.Result tuneStep(
      int step, Target target, OnnxModel student, List<LayerMask> masks) {
    boolean isLast = step == target.steps().size();
    Notices told =
        isLast
            ? notices
            : new Notices(
                notice ->
                    log.write(
                        "note on step %d [%s] %s"
                            .formatted(step, notice.code(), notice.message())));
    Tuning tuning = new Tuning(recipe, backend.workers(), log, told, recipe.memoryBytes());
    return tune(
        "step" + step + "/",
        target,
        student,
        masks,
        images.labelled(),
        images.files(),
        List.of(),
        tuning.passes(),
        tuning.rate(),
        told);
  }

  /**
   * A model as it was before training, with the weights gone that masks do not keep (Frankle and
   * Carbin 2019).
   *
   * @param pretrained not changed
   */
  static OnnxModel rewound(OnnxModel pretrained, List<LayerMask> masks) {
    OnnxModel model = pretrained.copy();
    for (LayerMask mask : masks) {
      Layer layer = LayerDiscovery.find(model, mask.layer());
      float[][] weights = LayerWeights.unfold(model, layer);
      for (int g = 0; g < weights.length; g++) {
        for (int i = 0; i < weights[g].length; i++) {
          if (!mask.keep()[g][i]) {
            weights[g][i] = 0;
          }
        }
      }
      LayerWeights.fold(model, layer, weights);
    }
    return model;
  }

  private static double sparsity(OnnxModel model, List<Layer> layers) {
    long weights = layers.stream().mapToLong(Layer::parameters).sum();
    long zeros = layers.stream().mapToLong(layer -> LayerWeights.zeros(model, layer)).sum();
    return weights == 0 ? 0 : zeros / (double) weights;
  }

  /** On the calibration images; null where they are none of the task. */
  private @Nullable Double top1(OnnxModel model, int classes) {
    if (!images.labelled()) {
      return null;
    }
    try (Session session = Session.open(model, 1)) {
      return Evaluator.evaluate(
              session,
              ModelInput.of(model),
              images.calibration(),
              IntStream.range(0, classes).boxed().toList(),
              backend.workers())
          .all()
          .top1();
    }
  }

  /** Removes units, then weights. */
  private Compressed reconstruct(String prefix, Target target, Images seen, Notices told) {
    OnnxModel compressed = target.dense().copy();
    StructuredPruning structured = target.structured();
    List<LayerWise.Outcome> unitOutcomes = List.of();
    if (structured != null) {
      unitOutcomes =
          run(prefix + "units", target.dense(), compressed, structured.plans(), seen, told);
      structured.remove(compressed);
    }
    List<LayerWise.Outcome> outcomes = List.of();
    if (!target.plans().isEmpty()) {
      // Without its removed units the model is another one: what its layers read has changed.
      OnnxModel reference = structured == null ? target.dense() : compressed.copy();
      List<LayerWise.Plan> plans =
          structured == null ? target.plans() : target.planner().apply(compressed);
      outcomes = run(prefix + "weights", reference, compressed, plans, seen, told);
    }
    return new Compressed(
        compressed, null, unitOutcomes, outcomes, null, null, List.of(), Optional.empty());
  }

  double calibrateSeconds() {
    return calibrateSeconds;
  }

  double solveSeconds() {
    return solveSeconds;
  }

  double correctSeconds() {
    return correctSeconds;
  }

  /**
   * Solves layers on what the reference gives them, and corrects their channels.
   *
   * @param stage distinguishes the parts of a run that solve layers
   * @param reference not changed
   * @param compressed a copy of it, whose weights are changed
   */
  private List<LayerWise.Outcome> run(
      String stage,
      OnnxModel reference,
      OnnxModel compressed,
      List<LayerWise.Plan> plans,
      Images seen,
      Notices told) {
    LayerWise.Result solved = solve(stage, reference, compressed, plans, seen, told);
    QuantizedLayers quantized = new QuantizedLayers(compressed, solved.outcomes());
    calibrateSeconds += solved.calibrateSeconds();
    solveSeconds += solved.solveSeconds();
    if ("mean-variance".equals(recipe.correct())) {
      long start = System.nanoTime();
      folder.withScratch(scratch -> correct(reference, compressed, plans, seen, told, scratch));
      correctSeconds += (System.nanoTime() - start) / 1e9;
    }
    quantized.store(compressed);
    return solved.outcomes();
  }

  private LayerWise.Result solve(
      String stage,
      OnnxModel reference,
      OnnxModel compressed,
      List<LayerWise.Plan> plans,
      Images seen,
      Notices told) {
    Damping damping = Damping.parse(Objects.requireNonNull(recipe.damping()));
    LayerCheckpoints saved = checkpoints.ofStage(stage);
    SolveProgress progress = new SolveProgress(plans.size(), told);
    if (!recipe.isSequential()) {
      return new LayerWise(reference, compressed, backend, backend.workers(), told, saved)
          .run(plans, damping, recipe.memoryBytes(), seen.calibration(), seen.heldOut(), progress);
    }
    LayerWise.Result[] result = new LayerWise.Result[1];
    folder.withScratch(
        scratch ->
            result[0] =
                new Sequential(reference, compressed, backend, told, saved)
                    .run(
                        plans,
                        layer -> selection.chooses(layer.name()),
                        damping,
                        recipe.memoryBytes(),
                        scratch,
                        seen.calibration(),
                        seen.heldOut(),
                        progress));
    return result[0];
  }

  private void correct(
      OnnxModel reference,
      OnnxModel compressed,
      List<LayerWise.Plan> plans,
      Images seen,
      Notices told,
      Path scratch) {
    // Depthwise layers are not pruned, but what they read has changed.
    Set<String> pruned =
        plans.stream().map(plan -> plan.layer().name()).collect(Collectors.toSet());
    List<Layer> layers = new ArrayList<>();
    for (Layer layer : LayerDiscovery.discover(compressed)) {
      boolean wanted =
          pruned.contains(layer.name()) || (layer.isDepthwise() && selection.chooses(layer.name()));
      if (!wanted) {
        continue;
      }
      if (LayerWeights.canFold(compressed, layer)
          && !LayerWeights.hasUnknownBias(compressed, layer)) {
        layers.add(layer);
      } else {
        told.add(
            "layer-not-corrected",
            layer.name(),
            "left out of the channel correction: its weights or bias cannot be rewritten",
            1);
      }
    }
    log.stage("channel correction", layers.size());
    new ChannelCorrection(reference, compressed, backend.workers(), told)
        .correct(layers, seen.correction(), recipe.memoryBytes(), scratch, log::step);
  }

  /** Passes on what the layer-wise solving says. */
  private final class SolveProgress implements Sequential.Listener {
    private final int layers;
    private final Notices told;
    private int solved;
    private boolean solving;

    SolveProgress(int layers, Notices told) {
      this.layers = layers;
      this.told = told;
    }

    @Override
    public void calibrating(int pass, int passes, int passLayers) {
      if (recipe.isSequential()) {
        log.stage("reconstructing", passLayers - solved);
        solving = true;
        return;
      }
      log.stage(
          passes == 1
              ? "calibrating " + passLayers + " layers"
              : "calibrating " + passLayers + " layers (pass " + (pass + 1) + " of " + passes + ")",
          0);
      solving = false;
    }

    @Override
    public void resumed(List<LayerWise.Outcome> outcomes) {
      solved = outcomes.size();
      told.add(
          "resumed",
          String.valueOf(recipe.model()),
          "resuming: " + solved + " of " + layers + " layers are done",
          solved);
    }

    @Override
    public void refitted(Layer layer) {
      log.write(layer.name() + " refitted");
      log.step(layer.name() + " refitted");
    }

    @Override
    public void solved(LayerWise.Outcome outcome) {
      if (!solving) {
        log.stage("solving", layers - solved);
        solving = true;
      }
      solved++;
      String name = outcome.plan().layer().name();
      String solver = outcome.solver();
      log.write(
          String.format(
              Locale.ROOT,
              "(%d/%d) %s %s %s: layer error %.3g%s, damping %.3g, %.3f s",
              solved,
              layers,
              name,
              solver,
              outcome.plan().pattern(),
              outcome.layerError(),
              outcome.heldOutError() == null
                  ? ""
                  : String.format(Locale.ROOT, ", held out %.3g", outcome.heldOutError()),
              outcome.damping(),
              outcome.seconds()));
      log.step(name + " " + solver);
    }
  }
}
