package org.taco4j;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.LocalTime;
import java.time.ZoneId;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.zip.GZIPOutputStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.bench.Accuracy;
import org.taco4j.bench.Evaluator;
import org.taco4j.bench.LatencyComparison;
import org.taco4j.bench.LayerMacs;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.Notice;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.Backends;
import org.taco4j.data.DataFingerprint;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageDataset;
import org.taco4j.data.ImageFile;
import org.taco4j.data.ImageFolders;
import org.taco4j.data.Preprocessing;
import org.taco4j.data.Preprocessor;
import org.taco4j.data.TaskClass;
import org.taco4j.onnx.BatchNormFolding;
import org.taco4j.onnx.HeadRestriction;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.reconstruct.ChannelCorrection;
import org.taco4j.reconstruct.LayerWise;
import org.taco4j.report.ReportFiles;
import org.taco4j.report.RunReport;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.solve.Damping;
import org.taco4j.solve.Solver;
import org.taco4j.solve.Solvers;

/** The main job: a dense model and a task's images in, a specialist and its report out. */
final class Specializer {
  /** About how long latency is measured. */
  private static final double LATENCY_SECONDS = 3;

  /** Threads inside an operator while latency is measured, as in {@code taco bench}. */
  private static final int LATENCY_THREADS = 1;

  /** Enough pairs of runs for the percentiles of models that take less than milliseconds. */
  private static final int LATENCY_PAIRS = 1000;

  /** Test images from which on an accuracy at chance is an error and not only worth a notice. */
  private static final int ENOUGH_TO_JUDGE = 20;

  /**
   * Images for the channel correction at most: it keeps activations of all of them, some MB each,
   * and a channel's mean and variance gain nothing from more.
   */
  private static final int CORRECTION_IMAGES = 1024;

  private static final String LEFT_OUT = "left out by --include or --exclude";

  private final Recipe recipe;
  private final Path out;
  private final boolean overwrite;
  private final Progress progress;
  private final Notices notices;
  private final List<String> log = new ArrayList<>();

  Specializer(Recipe recipe, Path out, boolean overwrite, Progress progress) {
    this.recipe = recipe.resolved();
    this.out = out;
    this.overwrite = overwrite;
    this.progress = progress;
    this.notices = new Notices(this::noticed);
  }

  private void noticed(Notice notice) {
    log("note [" + notice.code() + "] " + notice.subject() + ": " + notice.message());
    progress.notice(notice);
  }

  private void log(String line) {
    log.add(LocalTime.now(ZoneId.systemDefault()).truncatedTo(ChronoUnit.MILLIS) + " " + line);
  }

  private void say(String line) {
    log(line);
    progress.message(line);
  }

  private void stage(String name, int steps) {
    log(name);
    progress.stage(name, steps);
  }

  private static double secondsSince(long start) {
    return (System.nanoTime() - start) / 1e9;
  }

  RunReport run() {
    List<Path> inputs = new ArrayList<>();
    inputs.add(Path.of(Objects.requireNonNull(recipe.model())));
    Objects.requireNonNull(recipe.data()).forEach(folder -> inputs.add(Path.of(folder)));
    RunFolder.refuseInputsIn(out, inputs);
    try (RunFolder folder = RunFolder.begin(out, overwrite, progress::message);
        Workers workers = new Workers(Objects.requireNonNull(recipe.threads()))) {
      RunReport report = run(folder, workers);
      folder.write("recipe.resolved.yaml", f -> AtomicFiles.writeString(f, recipe.toYaml()));
      folder.write(work -> ReportFiles.write(work, report));
      folder.write("run.log", f -> AtomicFiles.writeString(f, String.join("\n", log) + "\n"));
      folder.commit();
      return report;
    }
  }

  private RunReport run(RunFolder folder, Workers workers) {
    long begin = System.nanoTime();
    Backends.Choice choice = Backends.choose(Objects.requireNonNull(recipe.backend()), workers);
    Backend backend = choice.backend();
    // Backends has said so to the console.
    log("backend " + backend.description() + " (" + choice.reason() + ")");

    // The model, the task and the dense baseline.
    Path file = Path.of(Objects.requireNonNull(recipe.model()));
    OnnxModel source = OnnxModel.read(file);
    String sourceSha256 = sha256(file);
    ModelInput input = ModelInput.of(source);
    Preprocessing preprocessing = PreprocessingOptions.of(recipe).resolve(source, input);
    Preprocessor preprocessor = new Preprocessor(preprocessing);
    say("preprocessing: " + preprocessing.describe());
    int outputs = HeadRestriction.classes(source);
    ImageDataset data = ImageFolders.load(request(source, outputs), notices);
    say(
        data.classes().size()
            + " classes; images: "
            + data.calibration().size()
            + " to calibrate, "
            + data.heldOut().size()
            + " held out, "
            + data.test().size()
            + " to test");

    if (data.classes().size() < 2) {
      throw TacoException.data(
          "the task has one class, "
              + data.classes().getFirst().name()
              + "; a classifier needs at least two");
    }
    OnnxModel dense = source.copy();
    List<String> folded = BatchNormFolding.fold(dense);
    restrictHead(dense, data.classes(), outputs);
    List<Layer> layers = LayerDiscovery.discover(dense);
    List<LayerWise.Plan> plans = plan(dense, layers);
    long[] imageShape = preprocessor.shape(1);
    int batch = input.batchSize(preprocessing.cropHeight(), preprocessing.cropWidth());
    List<Integer> outputsOfTask = IntStream.range(0, data.classes().size()).boxed().toList();

    long start = System.nanoTime();
    stage("dense accuracy", 0);
    ImageBatches test = new ImageBatches(data.test(), preprocessor, batch, workers, notices);
    Accuracy denseAccuracy;
    try (Session session = Session.open(dense, 1)) {
      denseAccuracy = Evaluator.evaluate(session, input, test, outputsOfTask, workers).task();
    }
    double evaluateSeconds = secondsSince(start);
    say("dense: " + describe(denseAccuracy));
    checkAboveChance(denseAccuracy, data.classes().size(), preprocessing);

    // Compression.
    OnnxModel compressed = dense.copy();
    ImageBatches calibration =
        new ImageBatches(data.calibration(), preprocessor, batch, workers, notices);
    ImageBatches heldOut =
        data.heldOut().isEmpty()
            ? null
            : new ImageBatches(data.heldOut(), preprocessor, batch, workers, notices);
    LayerWise.Result solved =
        new LayerWise(
                dense,
                compressed,
                backend,
                workers,
                notices,
                folder.checkpoints(
                    fingerprint(dense, plans, data, preprocessing, backend), notices))
            .run(
                plans,
                Damping.parse(Objects.requireNonNull(recipe.damping())),
                memory(),
                calibration,
                heldOut,
                new SolveProgress(plans.size()));
    double correctSeconds = 0;
    if ("mean-variance".equals(recipe.correct())) {
      start = System.nanoTime();
      List<ImageFile> images = correctionImages(data.calibration());
      folder.withScratch(
          scratch ->
              correct(
                  dense,
                  compressed,
                  plans,
                  new ImageBatches(images, preprocessor, batch, workers, notices),
                  workers,
                  scratch));
      correctSeconds = secondsSince(start);
    }

    // What goes out is written first, and measured as it was written.
    compressed.setMetadata(PreprocessingOptions.METADATA_KEY, preprocessing.toJson());
    compressed.setMetadata(TaskClasses.METADATA_KEY, TaskClasses.toJson(data.classes()));
    compressed.setMetadata("taco4j.version", Taco.version());
    compressed.setMetadata("taco4j.source.sha256", sourceSha256);
    compressed.setMetadata(Recipe.METADATA_KEY, recipe.forProvenance().toYaml());
    stage("writing the model", 0);
    Path written = folder.write("model.onnx", compressed::write);
    Path writtenDense = folder.write(".dense.onnx", dense::write);

    start = System.nanoTime();
    stage("compressed accuracy", 0);
    Accuracy compressedAccuracy;
    OnnxModel specialist = OnnxModel.read(written);
    try (Session session = Session.open(written, 1)) {
      compressedAccuracy = Evaluator.evaluate(session, input, test, outputsOfTask, workers).task();
    }
    say("compressed: " + describe(compressedAccuracy));
    stage("latency, dense and compressed in turns", 0);
    LatencyComparison latency;
    try (Session a = Session.open(writtenDense, LATENCY_THREADS);
        Session b = Session.open(written, LATENCY_THREADS)) {
      latency =
          LatencyComparison.measure(
              a, input, b, input, imageShape, LATENCY_THREADS, 1, LATENCY_SECONDS, LATENCY_PAIRS);
    }
    evaluateSeconds += secondsSince(start);

    Map<String, Long> macs = LayerMacs.count(dense, layers, input, imageShape);
    List<RunReport.LayerReport> layerReports =
        layerReports(layers, solved.outcomes(), specialist, macs);
    long parameters = 0;
    long nonZero = 0;
    long denseNonZero = 0;
    for (Layer layer : layers) {
      if (!layer.prunable()) {
        continue;
      }
      parameters += layer.parameters();
      nonZero += layer.parameters() - LayerWeights.zeros(specialist, layer);
      denseNonZero += layer.parameters() - LayerWeights.zeros(dense, layer);
    }
    RunReport.ModelResult denseResult = result(denseAccuracy, writtenDense, denseNonZero);
    delete(writtenDense);
    return new RunReport(
        RunReport.SCHEMA_VERSION,
        new RunReport.Tool("taco4j", Taco.version(), Session.runtimeVersion()),
        new RunReport.Model(file.toString(), sourceSha256, source.opset(), outputs, folded.size()),
        new RunReport.Task(
            data.classes().stream().map(TaskClass::name).toList(),
            data.classes().stream().map(TaskClass::modelIndex).toList(),
            data.calibration().size(),
            data.heldOut().size(),
            data.test().size(),
            DataFingerprint.of(data.classes(), data.calibration()),
            preprocessing.describe()),
        denseResult,
        result(compressedAccuracy, written, nonZero),
        parameters == 0 ? 0 : 1 - nonZero / (double) parameters,
        new RunReport.Latency(
            latency(latency.dense()),
            latency(latency.compressed()),
            latency.ratio(),
            latency.ratioLow(),
            latency.ratioHigh(),
            latency.pairs(),
            latency.threads(),
            latency.batch()),
        new RunReport.Seconds(
            solved.calibrateSeconds(),
            solved.solveSeconds(),
            correctSeconds,
            0,
            evaluateSeconds,
            secondsSince(begin)),
        layerReports,
        notices.list(),
        Doctor.machine(backend.description() + "; " + choice.reason()),
        recipe.toMap());
  }

  /** All that decides the solved layers. */
  private RunFingerprint fingerprint(
      OnnxModel dense,
      List<LayerWise.Plan> plans,
      ImageDataset data,
      Preprocessing preprocessing,
      Backend backend) {
    Map<String, String> parts = new LinkedHashMap<>();
    parts.put("recipe", recipe.forProvenance().toYaml());
    parts.put(
        "layers",
        plans.stream()
            .map(p -> p.layer().name() + " " + p.solver().name() + " " + p.pattern())
            .collect(Collectors.joining("\n")));
    parts.put("model", dense.sha256());
    parts.put("preprocessing", preprocessing.toJson());
    parts.put("calibration images", DataFingerprint.inOrder(data.calibration()));
    parts.put("held-out images", DataFingerprint.inOrder(data.heldOut()));
    parts.put("version of taco4j", Taco.version());
    parts.put("version of ONNX Runtime", Session.runtimeVersion());
    parts.put("backend", backend.kernels());
    parts.put("processor", Doctor.machine("").cpu());
    return new RunFingerprint(parts);
  }

  private long memory() {
    return recipe.memory() == null ? MemorySize.defaultBytes() : MemorySize.parse(recipe.memory());
  }

  /** The calibration images, or of very many some that are spread over the classes. */
  private List<ImageFile> correctionImages(List<ImageFile> calibration) {
    if (calibration.size() <= CORRECTION_IMAGES) {
      return calibration;
    }
    notices.add(
        "fewer-correction-images",
        "calibration images",
        "the channel correction, which needs means and variances only, runs on "
            + CORRECTION_IMAGES
            + " of "
            + calibration.size()
            + " images",
        CORRECTION_IMAGES);
    // Files are ordered by class: evenly spaced ones are spread over the classes.
    return IntStream.range(0, CORRECTION_IMAGES)
        .mapToObj(i -> calibration.get((int) ((long) i * calibration.size() / CORRECTION_IMAGES)))
        .toList();
  }

  private void correct(
      OnnxModel dense,
      OnnxModel compressed,
      List<LayerWise.Plan> plans,
      ImageBatches images,
      Workers workers,
      Path scratch) {
    // Depthwise layers are not pruned, but what they read has changed.
    Set<String> pruned =
        plans.stream().map(plan -> plan.layer().name()).collect(Collectors.toSet());
    List<Glob> include = globs(recipe.include());
    List<Glob> exclude = globs(recipe.exclude());
    List<Layer> layers = new ArrayList<>();
    for (Layer layer : LayerDiscovery.discover(compressed)) {
      boolean wanted =
          pruned.contains(layer.name())
              || (layer.isDepthwise() && isChosen(layer, include, exclude));
      if (!wanted) {
        continue;
      }
      if (LayerWeights.canFold(compressed, layer)
          && !LayerWeights.hasUnknownBias(compressed, layer)) {
        layers.add(layer);
      } else {
        notices.add(
            "layer-not-corrected",
            layer.name(),
            "left out of the channel correction: its weights or bias cannot be rewritten",
            1);
      }
    }
    stage("channel correction", layers.size());
    new ChannelCorrection(dense, compressed, workers, notices)
        .correct(layers, images, memory(), scratch, progress::step);
  }

  private ImageFolders.Request request(OnnxModel source, int outputs) {
    return new ImageFolders.Request(
        Objects.requireNonNull(recipe.data()).stream().map(Path::of).toList(),
        Objects.requireNonNull(recipe.shots()),
        Objects.requireNonNull(recipe.heldOut()),
        recipe.classes() == null ? List.of() : recipe.classes(),
        Optional.ofNullable(recipe.labels()).map(Path::of),
        outputs,
        TaskClasses.of(source),
        Objects.requireNonNull(recipe.seed()),
        Objects.requireNonNull(recipe.testFraction()),
        true);
  }

  private static void restrictHead(OnnxModel dense, List<TaskClass> classes, int outputs) {
    List<Integer> indices = classes.stream().map(TaskClass::modelIndex).toList();
    List<Integer> all = IntStream.range(0, outputs).boxed().toList();
    if (!indices.equals(all)) {
      HeadRestriction.restrict(dense, indices);
    }
  }

  /** What to do to which layer; the layers that the recipe leaves out are noted. */
  private List<LayerWise.Plan> plan(OnnxModel model, List<Layer> layers) {
    List<Layer> prunable = layers.stream().filter(Layer::prunable).toList();
    if (prunable.isEmpty()) {
      throw TacoException.model(
          model.source()
              + ": no prunable layer (no Conv, Gemm or MatMul with constant float weights)"
              + layers.stream()
                  .findFirst()
                  .map(l -> "; " + l.name() + ": " + l.whyNotPrunable().orElse(""))
                  .orElse(""));
    }
    List<Glob> include = globs(recipe.include());
    List<Glob> exclude = globs(recipe.exclude());
    requireMatches("--include", include, layers);
    requireMatches("--exclude", exclude, layers);
    if (recipe.layers() != null) {
      requireMatches(
          "the rule for", recipe.layers().stream().map(Recipe.LayerRule::glob).toList(), layers);
    }
    List<LayerWise.Plan> plans = new ArrayList<>();
    List<String> undividable = new ArrayList<>();
    Set<String> patterns = new LinkedHashSet<>();
    for (Layer layer : prunable) {
      if (!isChosen(layer, include, exclude)) {
        continue;
      }
      Recipe.LayerChoice choice = recipe.choiceFor(layer.name());
      if (layer.groupingExtent() % choice.pattern().groupSize() != 0) {
        undividable.add(layer.name());
        patterns.add(choice.pattern() + " (" + layer.groupingExtent() + " input channels)");
      }
      Solver solver = Solvers.create(choice.solver(), recipe.solverOptions());
      if (!solver.supports(choice.pattern())) {
        throw TacoException.usage(
            "layer %s: solver %s cannot follow the pattern %s"
                .formatted(layer.name(), solver.name(), choice.pattern()));
      }
      plans.add(new LayerWise.Plan(layer, choice.pattern(), solver));
    }
    if (plans.isEmpty()) {
      throw TacoException.usage(
          "--include and --exclude leave no layer to prune; `taco inspect` lists the names");
    }
    if (!undividable.isEmpty()) {
      throw TacoException.usage(
          "the groups of a pattern must divide a layer's input channels, and do not for "
              + String.join(", ", patterns)
              + "; leave the layers dense with"
              + undividable.stream()
                  .map(name -> " --exclude '" + name + "'")
                  .reduce("", String::concat));
    }
    for (LayerDiscovery.Skipped skipped : LayerDiscovery.skipped(model)) {
      notices.add(
          "layer-skipped",
          skipped.name(),
          skipped.operator() + " stays as it is: " + skipped.reason(),
          1);
    }
    int leftDense = layers.size() - plans.size();
    if (leftDense > 0) {
      notices.add(
          "layers-left-dense",
          model.source(),
          leftDense + " of " + layers.size() + " layers stay dense: " + reasons(layers, plans),
          leftDense);
    }
    return plans;
  }

  private static List<Glob> globs(@Nullable List<String> texts) {
    return texts == null ? List.of() : texts.stream().map(Glob::new).toList();
  }

  private static void requireMatches(String option, List<Glob> globs, List<Layer> layers) {
    for (Glob glob : globs) {
      if (layers.stream().noneMatch(layer -> glob.matches(layer.name()))) {
        throw TacoException.usage(
            option + " '" + glob + "' matches no layer; `taco inspect` lists the names");
      }
    }
  }

  private static boolean isChosen(Layer layer, List<Glob> include, List<Glob> exclude) {
    return (include.isEmpty() || include.stream().anyMatch(g -> g.matches(layer.name())))
        && exclude.stream().noneMatch(g -> g.matches(layer.name()));
  }

  /** Why layers are left dense, with how many for each reason. */
  private static String reasons(List<Layer> layers, List<LayerWise.Plan> plans) {
    Map<String, Integer> counts = new LinkedHashMap<>();
    for (Layer layer : layers) {
      if (plans.stream().noneMatch(plan -> plan.layer().equals(layer))) {
        counts.merge(layer.whyNotPrunable().orElse(LEFT_OUT), 1, Integer::sum);
      }
    }
    List<String> texts = new ArrayList<>();
    counts.forEach((reason, count) -> texts.add(count + " " + reason));
    return String.join(", ", texts);
  }

  private void checkAboveChance(Accuracy accuracy, int classes, Preprocessing preprocessing) {
    double chance = 1.0 / classes;
    if (classes < 2 || accuracy.images() == 0 || accuracy.top1Low() > chance) {
      return;
    }
    String message =
        String.format(
            Locale.ROOT,
            "the dense model is right on %d of %d test images; chance is %.1f %%. The first suspect is"
                + " the preprocessing (%s): set --mean and --std (of values in 0..1), --resize, --channel-order or --preset as"
                + " in the model's training; then the class order (classes.tsv, --labels)",
            accuracy.top1Correct(),
            accuracy.images(),
            100 * chance,
            preprocessing.describe());
    double deviation = Math.sqrt(chance * (1 - chance) / accuracy.images());
    if (accuracy.images() >= ENOUGH_TO_JUDGE && accuracy.top1() <= chance + deviation) {
      throw TacoException.data(recipe.model() + ": " + message);
    }
    if (accuracy.images() < ENOUGH_TO_JUDGE && accuracy.top1() > chance + deviation) {
      return; // Too few images for the interval to leave chance out.
    }
    notices.add(
        "dense-accuracy-at-chance", String.valueOf(recipe.model()), message, accuracy.top1());
  }

  private List<RunReport.LayerReport> layerReports(
      List<Layer> layers,
      List<LayerWise.Outcome> outcomes,
      OnnxModel specialist,
      Map<String, Long> macs) {
    Map<String, LayerWise.Outcome> byName = new HashMap<>();
    outcomes.forEach(outcome -> byName.put(outcome.plan().layer().name(), outcome));
    List<RunReport.LayerReport> reports = new ArrayList<>();
    for (Layer layer : layers) {
      LayerWise.Outcome outcome = byName.get(layer.name());
      double sparsity =
          layer.prunable()
              ? LayerWeights.zeros(specialist, layer) / (double) layer.parameters()
              : 0;
      reports.add(
          new RunReport.LayerReport(
              layer.name(),
              layer.opType(),
              layer.rows() * layer.groups(),
              layer.cols(),
              layer.groups(),
              layer.parameters(),
              macs.getOrDefault(layer.name(), 0L),
              outcome == null ? null : outcome.plan().solver().name(),
              outcome == null ? null : outcome.plan().pattern().toString(),
              sparsity,
              outcome == null ? null : outcome.layerError(),
              outcome == null ? null : outcome.heldOutError(),
              outcome == null ? null : outcome.damping(),
              outcome == null ? 0 : outcome.deadColumns(),
              outcome == null ? 0 : outcome.seconds(),
              outcome == null ? layer.whyNotPrunable().orElse(LEFT_OUT) : null));
    }
    return reports;
  }

  private static RunReport.ModelResult result(Accuracy accuracy, Path file, long nonZeroWeights) {
    boolean measured = accuracy.images() > 0;
    return new RunReport.ModelResult(
        measured ? accuracy.top1() : null,
        measured ? accuracy.top1Low() : null,
        measured ? accuracy.top1High() : null,
        measured ? accuracy.top5() : null,
        accuracy.images(),
        sizeOf(file),
        gzipSizeOf(file),
        nonZeroWeights);
  }

  private static RunReport.ModelLatency latency(LatencyComparison.Percentiles p) {
    return new RunReport.ModelLatency(p.p50Millis(), p.p90Millis(), p.p99Millis());
  }

  private static String describe(Accuracy accuracy) {
    return accuracy.images() == 0
        ? "no test images"
        : String.format(
            Locale.ROOT,
            "top-1 %.1f %% (95 %% interval %.1f to %.1f) on %d images",
            100 * accuracy.top1(),
            100 * accuracy.top1Low(),
            100 * accuracy.top1High(),
            accuracy.images());
  }

  private static String sha256(Path file) {
    try (InputStream in = Files.newInputStream(file)) {
      DigestInputStream digest = new DigestInputStream(in, MessageDigest.getInstance("SHA-256"));
      digest.transferTo(OutputStream.nullOutputStream());
      return HexFormat.of().formatHex(digest.getMessageDigest().digest());
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.MODEL, file + ": cannot be read: " + e, e);
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  /** A model's file and, where it has one, its external data. */
  private static List<Path> filesOf(Path model) {
    Path data = model.resolveSibling(model.getFileName() + ".data");
    return Files.exists(data) ? List.of(model, data) : List.of(model);
  }

  private static long sizeOf(Path model) {
    long bytes = 0;
    try {
      for (Path file : filesOf(model)) {
        bytes += Files.size(file);
      }
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, model + ": cannot be read: " + e, e);
    }
    return bytes;
  }

  private static long gzipSizeOf(Path model) {
    long[] bytes = new long[1];
    OutputStream counter =
        new OutputStream() {
          @Override
          public void write(int b) {
            bytes[0]++;
          }

          @Override
          public void write(byte[] b, int offset, int length) {
            bytes[0] += length;
          }
        };
    try {
      for (Path file : filesOf(model)) {
        try (GZIPOutputStream gzip = new GZIPOutputStream(counter, 1 << 16)) {
          Files.copy(file, gzip);
        }
      }
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, model + ": cannot be read: " + e, e);
    }
    return bytes[0];
  }

  private static void delete(Path model) {
    try {
      for (Path file : filesOf(model)) {
        Files.delete(file);
      }
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, model + ": cannot be deleted: " + e, e);
    }
  }

  /** Passes on what the layer-wise solving says. */
  private final class SolveProgress implements LayerWise.Listener {
    private final int layers;
    private int solved;
    private boolean solving;

    SolveProgress(int layers) {
      this.layers = layers;
    }

    @Override
    public void calibrating(int pass, int passes, int passLayers) {
      stage(
          passes == 1
              ? "calibrating " + passLayers + " layers"
              : "calibrating " + passLayers + " layers (pass " + (pass + 1) + " of " + passes + ")",
          0);
      solving = false;
    }

    @Override
    public void resumed(List<LayerWise.Outcome> outcomes) {
      solved = outcomes.size();
      notices.add(
          "resumed",
          out.toString(),
          "resuming: " + solved + " of " + layers + " layers are done",
          solved);
    }

    @Override
    public void solved(LayerWise.Outcome outcome) {
      if (!solving) {
        stage("solving", layers - solved);
        solving = true;
      }
      solved++;
      String name = outcome.plan().layer().name();
      String solver = outcome.plan().solver().name();
      log(
          String.format(
              Locale.ROOT,
              "(%d/%d) %s %s %s: layer error %.3g, held out %.3g, damping %.3g, %.3f s",
              solved,
              layers,
              name,
              solver,
              outcome.plan().pattern(),
              outcome.layerError(),
              outcome.heldOutError() == null ? Double.NaN : outcome.heldOutError(),
              outcome.damping(),
              outcome.seconds()));
      progress.step(name + " " + solver);
    }
  }
}
