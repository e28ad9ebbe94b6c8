package org.taco4j;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.Suggestions;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.Augmentation;
import org.taco4j.data.ImageFile;
import org.taco4j.data.Preprocessor;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.report.RunReport;
import org.taco4j.tune.LayerMask;
import org.taco4j.tune.LinearProbe;
import org.taco4j.tune.Objective;
import org.taco4j.tune.TuneListener;
import org.taco4j.tune.TuneReport;
import org.taco4j.tune.TuneSettings;
import org.taco4j.tune.TuneTask;
import org.taco4j.tune.Tuned;
import org.taco4j.tune.Tuner;

/** What {@code --tune} asks for, done to a compressed model. */
final class Tuning {
  /** The words of {@code --tune}. */
  static final List<String> WORDS = List.of("none", "probe", "taco-v1", "taco-tmlr");

  /**
   * A tenth of taco-tmlr's: no teacher holds a fine-tuned model to what it could do. With a hundred
   * images and 3e-4 MobileNetV2 lost half of its accuracy.
   */
  private static final double FINETUNE_RATE = 3e-5;

  private final Recipe recipe;
  private final Workers workers;
  private final RunLog log;
  private final Notices notices;
  private final long memory;

  Tuning(Recipe recipe, Workers workers, RunLog log, Notices notices, long memory) {
    this.recipe = recipe;
    this.workers = workers;
    this.log = log;
    this.notices = notices;
    this.memory = memory;
  }

  /**
   * A tuned model.
   *
   * @param failure what went wrong, where the model is the best before that
   */
  record Result(OnnxModel model, RunReport.Tuning report, Optional<String> failure) {}

  /** Whether the recipe asks for tuning. */
  static boolean isAsked(Recipe recipe) {
    return !"none".equals(recipe.tune());
  }

  /** What a recipe that asks for training does not say of it: the numbers of the method. */
  static Recipe defaults(Recipe recipe) {
    Recipe defaults = Recipe.empty();
    String how = String.valueOf(recipe.tune());
    if (how.equals("probe")) {
      LinearProbe.Settings usual = LinearProbe.Settings.usual();
      defaults =
          defaults.with("tune-passes", usual.passes()).with("tune-rate", usual.learningRate());
    } else if (WORDS.contains(how) && isAsked(recipe)) {
      TuneSettings usual = usual(how);
      defaults =
          defaults
              .with("tune-passes", usual.passes())
              .with("tune-rate", usual.optimizer().learningRate());
      if (usual.augmentation().isPresent()) {
        defaults = defaults.with("tune-crop", usual.augmentation().get().minScale());
      }
    }
    return recipe.finetunePasses() == null || recipe.finetunePasses() <= 0
        ? defaults
        : defaults.with("finetune-rate", FINETUNE_RATE);
  }

  private static TuneSettings usual(String method) {
    return method.equals("taco-v1") ? TuneSettings.tacoV1() : TuneSettings.tacoTmlr();
  }

  /** Whether the learning rate is the method's own, of which a second trial may take a tenth. */
  boolean hasUsualRate() {
    Double usual = defaults(recipe).tuneRate();
    return recipe.tuneRate() == null || recipe.tuneRate().equals(usual);
  }

  /** Throws an exception of kind USAGE for what cannot be meant. */
  static void check(Recipe recipe) {
    String how = Objects.requireNonNull(recipe.tune());
    if (!WORDS.contains(how)) {
      throw TacoException.usage(
          "--tune is "
              + String.join(", ", WORDS)
              + "; not '"
              + how
              + "'"
              + Suggestions.didYouMean(how, WORDS));
    }
    if (!List.of("auto", "none").contains(String.valueOf(recipe.tuneHoldOut()))) {
      throw TacoException.usage(
          "--tune-hold-out is auto or none, not '" + recipe.tuneHoldOut() + "'");
    }
    if ("probe".equals(how) && recipe.comparePtc() != null) {
      throw TacoException.usage(
          "--tune probe trains on labels of the task, which the generic images of --compare-ptc do"
              + " not have; choose another --tune, or leave out one of them");
    }
    if (!isAsked(recipe) && (recipe.tunePasses() != null || recipe.tuneRate() != null)) {
      throw TacoException.usage("--tune-passes and --tune-rate are for --tune, which is not given");
    }
    if (!how.startsWith("taco") && recipe.tuneCrop() != null) {
      throw TacoException.usage("--tune-crop is for --tune taco-tmlr, not " + how);
    }
    if (Objects.requireNonNull(recipe.finetunePasses()) > 0) {
      finetuneSettings(recipe);
    }
    if (how.startsWith("taco")) {
      settings(recipe, true);
    } else if (how.equals("probe")) {
      probeSettings(recipe);
    }
  }

  /** The learning rate that the recipe asks for. */
  double rate() {
    return "probe".equals(recipe.tune())
        ? probeSettings(recipe).learningRate()
        : settings(recipe, true).optimizer().learningRate();
  }

  /** The settings of the tuner; without labels of the task there is no task loss. */
  private static TuneSettings settings(Recipe recipe, boolean labelled) {
    TuneSettings settings = usual(String.valueOf(recipe.tune()));
    if (recipe.tunePasses() != null) {
      settings = settings.withPasses(recipe.tunePasses());
    }
    if (recipe.tuneRate() != null) {
      settings = settings.withLearningRate(recipe.tuneRate());
    }
    if (recipe.tuneCrop() != null) {
      Augmentation augmentation =
          settings
              .augmentation()
              .orElseThrow(
                  () -> TacoException.usage("--tune-crop is for --tune taco-tmlr, not taco-v1"));
      settings =
          settings.withAugmentation(Optional.of(augmentation.withMinScale(recipe.tuneCrop())));
    }
    if (!labelled && settings.objective().taskWeight() > 0) {
      Objective o = settings.objective();
      settings =
          settings.withObjective(
              new Objective(
                  0,
                  o.distillation(),
                  o.logitWeight(),
                  o.temperature(),
                  o.featureWeight(),
                  o.features()));
    }
    // What is held out is held out of the compression too: Compression sees to it.
    return settings.withHoldOut(false).withSeed(Objects.requireNonNull(recipe.seed()));
  }

  private static LinearProbe.Settings probeSettings(Recipe recipe) {
    LinearProbe.Settings usual = LinearProbe.Settings.usual();
    return new LinearProbe.Settings(
        recipe.tuneRate() == null ? usual.learningRate() : recipe.tuneRate(),
        usual.momentum(),
        usual.batch(),
        recipe.tunePasses() == null ? usual.passes() : recipe.tunePasses(),
        Optional.empty(),
        /* holdOut= */ false,
        Objects.requireNonNull(recipe.seed()));
  }

  /** How many passes the recipe asks for. */
  int passes() {
    return "probe".equals(recipe.tune())
        ? probeSettings(recipe).passes()
        : settings(recipe, true).passes();
  }

  /**
   * Tunes.
   *
   * @param masks which weights stay zero
   * @param images gives gradients
   * @param heldOut chooses the best pass; where there are none it is the last one
   * @param labelled whether the images' class is one of the task
   * @param classes of the task
   * @param lastPass at which to stop
   * @param rate the learning rate at the start
   * @param checkpoint where the state after each pass is kept
   */
  Result tune(
      OnnxModel dense,
      OnnxModel compressed,
      List<LayerMask> masks,
      List<ImageFile> images,
      List<ImageFile> heldOut,
      boolean labelled,
      int classes,
      int lastPass,
      double rate,
      Preprocessor preprocessor,
      Path checkpoint) {
    TuneTask task = new TuneTask(dense, compressed, masks, images, heldOut, preprocessor);
    if ("probe".equals(recipe.tune())) {
      return probe(task, classes, lastPass);
    }
    Tuned tuned =
        new Tuner(workers, notices, memory)
            .tune(
                task,
                settings(recipe, labelled).withLearningRate(rate),
                lastPass,
                Optional.of(checkpoint),
                new Listener("tuning"));
    return result(tuned, Objects.requireNonNull(recipe.tune()));
  }

  private static TuneSettings finetuneSettings(Recipe recipe) {
    TuneSettings settings =
        TuneSettings.tacoTmlr()
            .withObjective(
                new Objective(1, Objective.Distillation.L2, 0, 1, 0, /* features= */ List.of()))
            .withPasses(Objects.requireNonNull(recipe.finetunePasses()))
            .withLearningRate(recipe.finetuneRate() == null ? FINETUNE_RATE : recipe.finetuneRate())
            .withHoldOut(false)
            .withSeed(Objects.requireNonNull(recipe.seed()));
    Double crop = recipe.tuneCrop();
    return crop == null || !"taco-tmlr".equals(recipe.tune())
        ? settings
        : settings.withAugmentation(settings.augmentation().map(a -> a.withMinScale(crop)));
  }

  private static Result result(Tuned tuned, String method) {
    return new Result(tuned.model(), report(tuned.report(), method), tuned.report().failure());
  }

  /**
   * Fine-tunes a dense model with the task loss alone, in the random crops of taco-tmlr.
   *
   * @param images labelled
   * @param checkpoint where the state after each pass is kept
   */
  Result finetune(
      OnnxModel dense, List<ImageFile> images, Preprocessor preprocessor, Path checkpoint) {
    TuneSettings settings = finetuneSettings(recipe);
    TuneTask task = new TuneTask(dense, dense, List.of(), images, List.of(), preprocessor);
    Tuned tuned =
        new Tuner(workers, notices, memory)
            .tune(task, settings, Optional.of(checkpoint), new Listener("fine-tuning"));
    return result(tuned, "finetune");
  }

  private Result probe(TuneTask task, int classes, int lastPass) {
    long start = System.nanoTime();
    LinearProbe.Settings settings = probeSettings(recipe).withPasses(lastPass);
    log.stage("linear probing", 0);
    LinearProbe.Probed probed =
        new LinearProbe(workers, notices, memory).probe(task, classes, settings);
    LinearProbe.Report report = probed.report();
    List<RunReport.TunePass> curve = new ArrayList<>();
    for (LinearProbe.Pass pass : report.curve()) {
      curve.add(
          new RunReport.TunePass(
              pass.pass(),
              pass.pass() == 0 ? null : settings.learningRate(),
              new RunReport.Losses(
                  pass.trainLoss(), pass.trainLoss(), 0, 0, pass.trainAccuracy(), 0),
              pass.heldOutLoss() == null || pass.heldOutAccuracy() == null
                  ? null
                  : new RunReport.Losses(
                      pass.heldOutLoss(), pass.heldOutLoss(), 0, 0, pass.heldOutAccuracy(), 0)));
    }
    return new Result(
        probed.model(),
        new RunReport.Tuning(
            "probe",
            passes(),
            report.bestPass(),
            report.failure().isPresent() ? "not-finite" : "finished",
            report.trainImages(),
            report.heldOutImages(),
            (long) classes * (report.dimension() + 1),
            List.of(report.features()),
            (System.nanoTime() - start) / 1e9,
            curve,
            List.of(),
            report.failure().orElse(null)),
        report.failure());
  }

  private static RunReport.Tuning report(TuneReport report, String method) {
    return new RunReport.Tuning(
        method,
        report.passesPlanned(),
        report.bestPass(),
        report.stop().toString().toLowerCase(Locale.ROOT).replace('_', '-'),
        report.trainImages(),
        report.heldOutImages(),
        report.trainedValues(),
        report.features(),
        report.seconds(),
        report.curve().stream()
            .map(
                pass ->
                    new RunReport.TunePass(
                        pass.pass(),
                        pass.learningRate(),
                        losses(pass.train()),
                        losses(pass.heldOut())))
            .toList(),
        List.of(),
        report.failure().orElse(null));
  }

  private static RunReport.@Nullable Losses losses(TuneReport.@Nullable Losses l) {
    return l == null
        ? null
        : new RunReport.Losses(
            l.loss(), l.task(), l.logit(), l.feature(), l.accuracy(), l.distance());
  }

  /** Passes on how the tuning gets on. */
  private final class Listener implements TuneListener {
    private final String what;

    Listener(String what) {
      this.what = what;
    }

    @Override
    public void begin(int passes, int done) {
      if (done > 0) {
        notices.add(
            "tuning-resumed",
            String.valueOf(recipe.model()),
            "resuming: " + done + " of " + passes + " passes of " + what + " are done",
            done);
      }
      log.stage(what, passes - done);
    }

    @Override
    public void images(int pass, int done, int of) {
      log.within("pass " + pass + ", " + done + " of " + of + " images");
    }

    @Override
    public void pass(TuneReport.Pass pass) {
      StringBuilder text = new StringBuilder("pass " + pass.pass());
      append(text, "loss", pass.train());
      append(text, "held out", pass.heldOut());
      log.write(text.toString());
      if (pass.pass() > 0) {
        log.step(text.toString());
      }
    }

    private static void append(
        StringBuilder text, String what, TuneReport.@Nullable Losses losses) {
      if (losses != null) {
        text.append(String.format(Locale.ROOT, ", %s %.4g", what, losses.loss()));
      }
    }
  }
}
