package org.taco4j;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.Function;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.taco4j.bench.Accuracy;
import org.taco4j.bench.Evaluator;
import org.taco4j.bench.LatencyComparison;
import org.taco4j.bench.LayerMacs;
import org.taco4j.bench.OperatorPlan;
import org.taco4j.common.AtomicFiles;
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
import org.taco4j.execute.TorchGraph;
import org.taco4j.export.IntegerOperators;
import org.taco4j.export.LayerNormalizations;
import org.taco4j.export.TensorRtForm;
import org.taco4j.export.WeightQuantization;
import org.taco4j.onnx.BatchNormFolding;
import org.taco4j.onnx.HeadRestriction;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.PackedWeights;
import org.taco4j.reconstruct.LayerCheckpoints;
import org.taco4j.reconstruct.LayerWise;
import org.taco4j.report.ReportFiles;
import org.taco4j.report.RunReport;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.OperatorLibrary;
import org.taco4j.runtime.Session;
import org.taco4j.solve.HybridObcSolver;
import org.taco4j.solve.Pattern;
import org.taco4j.solve.SearchReport;
import org.taco4j.solve.Solver;
import org.taco4j.solve.SolverPlan;
import org.taco4j.solve.Solvers;
import org.taco4j.tune.LinearProbe;

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

  /** A classifier with no more than this part of the weights stays dense unless asked for. */
  private static final double CLASSIFIER_SHARE = 0.05;

  private static final String CLASSIFIER =
      "the classifier, which holds few of the weights (--classifier prune removes them too)";

  private final Recipe recipe;
  private final LayerSelection selection;
  private final Path out;
  private final boolean overwrite;
  private final RunLog log;
  private final Notices notices;

  /** Why layers that the pattern's groups do not divide stay dense, by layer. */
  private final Map<String, String> misfits = new HashMap<>();

  /** Of a tuning that had to stop; the run fails, once its folder is there. */
  private Optional<String> failure = Optional.empty();

  Specializer(Recipe recipe, Path out, boolean overwrite, Progress progress) {
    this.recipe = recipe.resolved();
    this.selection = new LayerSelection(this.recipe);
    this.out = out;
    this.overwrite = overwrite;
    this.log = new RunLog(progress);
    this.notices = new Notices(log::notice);
  }

  private boolean isForOperatorLibrary() {
    return SparseRuntime.TACO4J.equals(recipe.runtime());
  }

  private boolean packsWeights() {
    return Boolean.TRUE.equals(recipe.packWeights());
  }

  private static double secondsSince(long start) {
    return (System.nanoTime() - start) / 1e9;
  }

  RunReport run() {
    List<Path> inputs = new ArrayList<>();
    inputs.add(Path.of(Objects.requireNonNull(recipe.model())));
    Objects.requireNonNull(recipe.data()).forEach(folder -> inputs.add(Path.of(folder)));
    if (recipe.comparePtc() != null) {
      inputs.add(Path.of(recipe.comparePtc()));
    }
    RunFolder.refuseInputsIn(out, inputs);
    try (RunFolder folder = RunFolder.begin(out, overwrite, log::say);
        Workers workers = new Workers(Objects.requireNonNull(recipe.threads()))) {
      RunReport report = run(folder, workers);
      folder.write("recipe.resolved.yaml", f -> AtomicFiles.writeString(f, recipe.toYaml()));
      folder.write(work -> ReportFiles.write(work, report));
      folder.write("run.log", f -> AtomicFiles.writeString(f, log.text()));
      folder.commit();
      failure.ifPresent(
          text -> {
            throw TacoException.numerical(text + "; the best model before that is in " + out);
          });
      return report;
    }
  }

  private RunReport run(RunFolder folder, Workers workers) {
    long begin = System.nanoTime();
    log.stage("reading " + recipe.model(), 0);
    Backends.Choice choice =
        Backends.choose(Objects.requireNonNull(recipe.backend()), recipe.gpuMemoryBytes(), workers);
    try (Backend backend = choice.backend()) {
      log.write("backend " + backend.description() + " (" + choice.reason() + ")");
      LayerProblemSolver.noteCaveat(backend, notices);
      return run(folder, workers, backend, choice.reason(), begin);
    }
  }

  private RunReport run(
      RunFolder folder, Workers workers, Backend backend, String whyBackend, long begin) {
    log.say("backend " + backend.name() + ", " + workers.threads() + " threads");
    if (isForOperatorLibrary()) {
      OperatorLibrary.file(); // Where there is none, that is said before any work.
    }

    // The model, the task and the dense baseline.
    Path file = Path.of(Objects.requireNonNull(recipe.model()));
    OnnxModel source = OnnxModel.read(file);
    SparseRuntime.refuseRewritten(source);
    if (SparseRuntime.TENSORRT.equals(recipe.runtime())) {
      TensorRtForm.apply(source.copy()); // What TensorRT refuses is said before any work.
    }
    String sourceSha256 = ModelFiles.sha256(file);
    ModelInput input = ModelInput.of(source);
    Preprocessing preprocessing = PreprocessingOptions.of(recipe).resolve(source, input);
    Preprocessor preprocessor = new Preprocessor(preprocessing);
    log.say("preprocessing: " + preprocessing.describe());
    boolean isTransferred = recipe.features() != null;
    int outputs = isTransferred ? 0 : HeadRestriction.classes(source);
    ImageDataset data =
        isTransferred
            ? ImageFolders.loadForNewClassifier(request(source, 1), notices)
            : ImageFolders.load(request(source, outputs), notices);
    log.say(
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
    PtcComparison generic =
        recipe.comparePtc() == null
            ? null
            : PtcComparison.load(
                Path.of(recipe.comparePtc()), genericRequest(source, outputs), data, notices);
    Transfer.Transferred transferred = null;
    if (recipe.features() != null) {
      log.stage("a new classifier", 0);
      transferred =
          Transfer.newClassifier(
              source,
              recipe.features(),
              data,
              preprocessor,
              Objects.requireNonNull(recipe.seed()),
              workers,
              notices,
              recipe.memoryBytes());
      RunReport.NewClassifier head = transferred.report();
      log.say(
          String.format(
              Locale.ROOT,
              "new classifier of %d classes behind %s: right on %.1f %% of the calibration images",
              data.classes().size(),
              head.features(),
              100 * head.trainAccuracy()));
    }
    OnnxModel pretrained = transferred == null ? source.copy() : transferred.model();
    List<String> folded = BatchNormFolding.fold(pretrained);
    OnnxModel whole = pretrained.copy();
    if (!isTransferred) {
      restrictHead(pretrained, data.classes(), outputs);
    }
    List<Layer> layers = LayerDiscovery.discover(pretrained);
    selection.requireMatches(layers, recipe);
    if (packsWeights()) {
      PackedWeights.requireOpset(pretrained);
    }
    if (recipe.bits() != null) {
      WeightQuantization.requireOpset(pretrained);
    }
    StructuredPruning structured =
        recipe.structured() == null
            ? null
            : StructuredPruning.plan(pretrained, recipe, selection, notices);
    List<LayerWise.Plan> plans =
        structured != null && recipe.prunesUnitsOnly()
            ? List.of()
            : plan(pretrained, layers, UnaryOperator.identity());
    List<List<LayerWise.Plan>> steps = steps(pretrained, layers, plans);
    noteSkipped(pretrained);
    if (!plans.isEmpty()) {
      noteLayersLeftDense(pretrained, layers, plans);
    }
    checkTrainable(pretrained, data.classes().size());
    long[] imageShape = preprocessor.shape(1);
    int batch = input.batchSize(preprocessing.cropHeight(), preprocessing.cropWidth());
    List<Integer> outputsOfTask = IntStream.range(0, data.classes().size()).boxed().toList();

    LayerCheckpoints checkpoints =
        folder.checkpoints(
            fingerprint(pretrained, structured, plans, data, generic, preprocessing, backend),
            notices);
    Function<List<ImageFile>, ImageBatches> batches =
        files -> new ImageBatches(files, preprocessor, batch, workers, notices);
    ImageBatches test = batches.apply(data.test());
    OnnxModel dense = pretrained;
    Tuning.Result finetuned = null;
    Accuracy beforeFinetuning = null;
    double finetuneSeconds = 0;
    if (Objects.requireNonNull(recipe.finetunePasses()) > 0) {
      log.stage("accuracy before fine-tuning", 0);
      try (Session session = Session.open(pretrained, 1)) {
        beforeFinetuning = evaluate(session, input, test, outputsOfTask, workers).task();
      }
      log.say("before fine-tuning: " + describe(beforeFinetuning));
      long finetuneStart = System.nanoTime();
      finetuned =
          new Tuning(recipe, workers, log, notices, recipe.memoryBytes())
              .finetune(
                  pretrained, data.calibration(), preprocessor, checkpoints.fileOf("finetuning"));
      finetuneSeconds = secondsSince(finetuneStart);
      dense = finetuned.model();
    }

    long start = System.nanoTime();
    log.stage("dense accuracy", 0);
    Evaluator.Result onDense;
    try (Session session = Session.open(dense, 1)) {
      onDense = evaluate(session, input, test, outputsOfTask, workers);
    }
    Accuracy denseAccuracy = onDense.task();
    double evaluateSeconds = secondsSince(start);
    log.say("dense: " + describe(denseAccuracy));
    checkAboveChance(denseAccuracy, data.classes().size(), preprocessing);

    // Compression.
    Compression compression =
        new Compression(
            recipe,
            selection,
            backend,
            folder,
            checkpoints.ofStage("taco"),
            images(data.calibration(), true, data.heldOut(), batches),
            log,
            notices);
    Function<OnnxModel, List<LayerWise.Plan>> planner =
        model -> plan(model, LayerDiscovery.discover(model), UnaryOperator.identity());
    Compression.Target target =
        new Compression.Target(
            dense,
            structured,
            plans,
            steps,
            pretrained,
            planner,
            data.classes().size(),
            preprocessor);
    Compression.Compressed result = compression.compress(target, Optional.empty());
    // The copy that is compared with PTC stays as it is.
    OnnxModel compressed = result.model().copy();
    List<RunReport.StructureReport> structureReports =
        structured == null ? List.of() : structured.reports(result.unitOutcomes());

    // Activations come last: their ranges are those of the weights that go out.
    OnnxModel floatActivations = compressed;
    RunReport.Activations activations = null;
    double rangeSeconds = 0;
    OperatorPlan.Use use = new OperatorPlan.Use(input, imageShape, LATENCY_THREADS, 1);
    Map<String, RunReport.Operator> operators = Map.of();
    if (recipe.activationBits() != null) {
      long rangeStart = System.nanoTime();
      log.stage("ranges of activations", 0);
      IntegerActivations.Result integers =
          IntegerActivations.apply(
              recipe,
              compressed,
              layer -> selection.chooses(layer.name()),
              batches.apply(data.calibration()),
              batches.apply(
                  spread(
                      data.calibration(),
                      IntegerActivations.sampleSize(data.calibration().size()))),
              workers,
              (first, second) -> OperatorPlan.ratio(first, second, use),
              notices,
              log.progress());
      compressed = integers.model();
      activations = integers.report();
      operators = SparseRuntime.reports(activations);
      rangeSeconds = secondsSince(rangeStart);
      if (isForOperatorLibrary()) {
        compressed = withOwnNormalizations(compressed, use);
      }
    }

    // What goes out is written first, and measured as it was written.
    compressed.setMetadata(PreprocessingOptions.METADATA_KEY, preprocessing.toJson());
    compressed.setMetadata(TaskClasses.METADATA_KEY, TaskClasses.toJson(data.classes()));
    compressed.setMetadata("taco4j.version", Taco.version());
    compressed.setMetadata("taco4j.source.sha256", sourceSha256);
    compressed.setMetadata(Recipe.METADATA_KEY, recipe.forProvenance().toYaml());
    // Layers that multiply integers have got their operators by now.
    if (isForOperatorLibrary() && activations == null) {
      OperatorPlan.Result rewritten =
          SparseRuntime.rewrite(compressed, use, notices, log.progress());
      log.write(rewritten.rewritten() + " layers rewritten to sparse operators");
      compressed = rewritten.model();
      operators = SparseRuntime.reports(rewritten);
    }
    if (SparseRuntime.TENSORRT.equals(recipe.runtime())) {
      log.say(TensorRtExport.describe(TensorRtExport.rewrite(compressed, notices)));
    }
    log.stage("writing the model", 0);
    if (packsWeights()) {
      SparseRuntime.pack(compressed, notices, log.progress());
    }
    Path written = folder.write("model.onnx", compressed::write);
    Path writtenDense = folder.write(".dense.onnx", dense::write);

    start = System.nanoTime();
    log.stage("compressed accuracy", 0);
    Evaluator.Result onCompressed;
    OnnxModel specialist = OnnxModel.read(written);
    try (Session session = Session.open(written, 1)) {
      onCompressed = evaluate(session, input, test, outputsOfTask, workers);
    }
    Accuracy compressedAccuracy = onCompressed.task();
    log.say("compressed: " + describe(compressedAccuracy));
    RunReport.TopOne untuned = null;
    if (result.untuned() != null) {
      log.stage("accuracy before tuning", 0);
      try (Session session = Session.open(result.untuned(), 1)) {
        Accuracy accuracy = evaluate(session, input, test, outputsOfTask, workers).task();
        log.say("before tuning: " + describe(accuracy));
        untuned = topOne(accuracy);
      }
    }
    if (activations != null) {
      log.stage("accuracy with float activations", 0);
      try (Session session = Session.open(floatActivations, 1)) {
        Accuracy accuracy = evaluate(session, input, test, outputsOfTask, workers).task();
        log.say("with float activations: " + describe(accuracy));
        activations = IntegerActivations.withAccuracy(activations, topOne(accuracy));
      }
    }
    log.stage("latency, dense and compressed in turns", 0);
    LatencyComparison latency;
    try (Session a = Session.open(writtenDense, LATENCY_THREADS);
        Session b = Session.open(written, LATENCY_THREADS)) {
      latency =
          LatencyComparison.measure(
              a, input, b, input, imageShape, LATENCY_THREADS, 1, LATENCY_SECONDS, LATENCY_PAIRS);
    }
    evaluateSeconds += secondsSince(start);

    Map<String, Long> macs = LayerMacs.count(dense, layers, input, imageShape);
    Map<String, Long> specialistMacs =
        LayerMacs.count(
            floatActivations, LayerDiscovery.discover(floatActivations), input, imageShape);
    Map<String, Long> denseNonZeros = nonZeros(dense, layers);
    Map<String, Long> nonZeros =
        activations == null
            ? nonZeros(specialist, layers)
            : nonZerosOfIntegers(specialist, floatActivations, layers);
    long parameters = layers.stream().filter(Layer::prunable).mapToLong(Layer::parameters).sum();
    List<RunReport.LayerReport> layerReports =
        layerReports(
            layers,
            structured,
            result.unitOutcomes(),
            result.outcomes(),
            nonZeros,
            macs,
            operators);
    RunReport.ModelResult denseResult =
        result(denseAccuracy, writtenDense, sum(denseNonZeros), sum(macs));
    ModelFiles.delete(writtenDense);
    RunReport.PtcComparison ptc =
        generic == null
            ? null
            : comparePtc(
                generic, whole, target, result, data, batches, backend, folder, checkpoints);
    failure =
        finetuned != null && finetuned.failure().isPresent()
            ? finetuned.failure()
            : result.failure();
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
        result(compressedAccuracy, written, sum(nonZeros), sum(specialistMacs)),
        parameters == 0 ? 0 : 1 - sum(nonZeros) / (double) parameters,
        new RunReport.Latency(
            latency(latency.dense()),
            latency(latency.compressed()),
            latency.ratio(),
            latency.ratioLow(),
            latency.ratioHigh(),
            latency.ratioOfFastest(),
            latency.pairs(),
            latency.threads(),
            latency.batch()),
        new RunReport.Seconds(
            compression.calibrateSeconds() + rangeSeconds,
            compression.solveSeconds(),
            compression.correctSeconds(),
            compression.tuneSeconds() + finetuneSeconds,
            evaluateSeconds,
            secondsSince(begin)),
        untuned,
        result.tuning(),
        Transfer.report(
            transferred, topOne(beforeFinetuning), finetuned == null ? null : finetuned.report()),
        result.steps(),
        ptc,
        structureReports,
        structured == null ? List.of() : structured.left(),
        layerReports,
        activations,
        notices.list(),
        Doctor.machine(backend.description() + "; " + whyBackend),
        ModelContract.of(preprocessing, specialist),
        TestPredictions.report(onDense.predictions(), onCompressed.predictions(), folder),
        recipe.toMap());
  }

  /** A model of integer layers with the library's layer normalizations, where that is faster. */
  private OnnxModel withOwnNormalizations(OnnxModel model, OperatorPlan.Use use) {
    OnnxModel normalized = model.copy();
    int count = LayerNormalizations.rewrite(normalized).size();
    if (count == 0 || OperatorPlan.ratio(model, normalized, use) < OperatorPlan.NOTABLE) {
      return model;
    }
    log.write(count + " layer normalizations rewritten to operators of the library");
    return normalized;
  }

  private Evaluator.Result evaluate(
      Session session,
      ModelInput input,
      ImageBatches images,
      List<Integer> outputs,
      Workers workers) {
    return Evaluator.evaluate(
        session,
        input,
        images,
        outputs,
        workers,
        done -> log.within(done + " of " + images.size() + " images"));
  }

  /** The copy that is compressed on generic images, and what becomes of it. */
  private RunReport.PtcComparison comparePtc(
      PtcComparison generic,
      OnnxModel whole,
      Compression.Target target,
      Compression.Compressed taco,
      ImageDataset data,
      Function<List<ImageFile>, ImageBatches> batches,
      Backend backend,
      RunFolder folder,
      LayerCheckpoints checkpoints) {
    long start = System.nanoTime();
    log.say(
        "PTC: the same on "
            + generic.calibration().size()
            + " generic images of "
            + recipe.comparePtc());
    Compression compression =
        new Compression(
            recipe,
            selection,
            backend,
            folder,
            checkpoints.ofStage("ptc"),
            images(generic.calibration(), false, List.of(), batches),
            log,
            new Notices(
                notice -> log.write("note on PTC [" + notice.code() + "] " + notice.message())));
    // Tuned for as long as the specialist.
    Compression.Compressed copy = compression.compress(target, Optional.ofNullable(taco.course()));
    if (data.test().isEmpty()) {
      notices.add(
          "ptc-not-measured",
          String.valueOf(recipe.comparePtc()),
          "there are no test images to compare TACO and PTC on",
          0);
    }
    log.stage("TACO against PTC", 0);
    return generic.measure(
        new PtcComparison.Models(whole, target.dense(), taco.model(), copy.model()),
        data.test(),
        batches,
        backend.workers(),
        copy.tuning(),
        secondsSince(start));
  }

  private Compression.Images images(
      List<ImageFile> files,
      boolean labelled,
      List<ImageFile> heldOut,
      Function<List<ImageFile>, ImageBatches> batches) {
    return new Compression.Images(
        files,
        labelled,
        batches.apply(files),
        heldOut.isEmpty() ? null : batches.apply(heldOut),
        batches.apply(correctionImages(files)),
        some -> images(some, labelled, List.of(), batches));
  }

  /** All that decides the solved layers. */
  private RunFingerprint fingerprint(
      OnnxModel dense,
      @Nullable StructuredPruning structured,
      List<LayerWise.Plan> plans,
      ImageDataset data,
      @Nullable PtcComparison generic,
      Preprocessing preprocessing,
      Backend backend) {
    Map<String, String> parts = new LinkedHashMap<>();
    parts.put("recipe", recipe.forProvenance().toYaml());
    parts.put(
        "layers",
        Stream.concat(
                structured == null ? Stream.empty() : structured.plans().stream(), plans.stream())
            .map(p -> p.layer().name() + " " + p.solver().name() + " " + p.pattern())
            .collect(Collectors.joining("\n")));
    parts.put("model", dense.sha256());
    parts.put("preprocessing", preprocessing.toJson());
    parts.put("calibration images", DataFingerprint.inOrder(data.calibration()));
    parts.put("held-out images", DataFingerprint.inOrder(data.heldOut()));
    parts.put(
        "generic images", generic == null ? "" : DataFingerprint.inOrder(generic.calibration()));
    parts.put("version of taco4j", Taco.version());
    parts.put("version of ONNX Runtime", Session.runtimeVersion());
    parts.put("version of libtorch", TorchGraph.version());
    parts.put("backend", backend.kernels());
    parts.put("processor", Doctor.machine("").cpu());
    return new RunFingerprint(parts);
  }

  /** The calibration images, or of very many some that are spread over the classes. */
  private List<ImageFile> correctionImages(List<ImageFile> calibration) {
    if (calibration.size() <= CORRECTION_IMAGES || "none".equals(recipe.correct())) {
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
    return spread(calibration, CORRECTION_IMAGES);
  }

  /** Some images. Files are ordered by class: evenly spaced ones are spread over the classes. */
  private static List<ImageFile> spread(List<ImageFile> files, int count) {
    return IntStream.range(0, count)
        .mapToObj(i -> files.get((int) ((long) i * files.size() / count)))
        .toList();
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

  /**
   * Of generic images all are wanted: those that do not calibrate are for the test off the task.
   */
  private ImageFolders.Request genericRequest(OnnxModel source, int outputs) {
    return new ImageFolders.Request(
        List.of(Path.of(Objects.requireNonNull(recipe.comparePtc()))),
        0,
        "none",
        List.of(),
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

  /**
   * The classifier where it is to stay dense. Restricted to a few classes it holds next to none of
   * the weights, and what it loses no later layer can make up for.
   */
  private Optional<Layer> denseClassifier(OnnxModel model, List<Layer> prunable) {
    Optional<Layer> classifier = LayerDiscovery.classifier(model);
    if ("auto".equals(recipe.classifier()) && classifier.isPresent()) {
      if (recipe.include() != null && selection.chooses(classifier.get().name())) {
        return Optional.empty();
      }
      long all = prunable.stream().mapToLong(Layer::parameters).sum();
      return classifier.filter(layer -> layer.parameters() <= CLASSIFIER_SHARE * all);
    }
    return "dense".equals(recipe.classifier()) ? classifier : Optional.empty();
  }

  /** What training refuses is refused before any work. */
  private void checkTrainable(OnnxModel model, int classes) {
    if (Tuning.isAsked(recipe) || Objects.requireNonNull(recipe.finetunePasses()) > 0) {
      TorchGraph.of(model).close();
    }
    if ("probe".equals(recipe.tune())) {
      LinearProbe.requireClassifier(model, classes);
    }
  }

  /** What each step of a schedule does, the last one what is planned; empty without a schedule. */
  private List<List<LayerWise.Plan>> steps(
      OnnxModel model, List<Layer> layers, List<LayerWise.Plan> plans) {
    if (!Schedule.isAsked(recipe)) {
      return List.of();
    }
    int count =
        Schedule.steps(recipe, plans.stream().map(LayerWise.Plan::pattern).distinct().toList());
    List<List<LayerWise.Plan>> steps = new ArrayList<>();
    for (int step = 1; step < count; step++) {
      int now = step;
      steps.add(plan(model, layers, goal -> Schedule.at(recipe, goal, now, count)));
    }
    steps.add(plans);
    return steps;
  }

  /**
   * What to do to which layer; the layers that the recipe leaves out are noted.
   *
   * @param level makes the pattern to follow of the pattern that the recipe asks for
   */
  private List<LayerWise.Plan> plan(
      OnnxModel model, List<Layer> layers, UnaryOperator<Pattern> level) {
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
    Optional<Layer> classifier = denseClassifier(model, prunable);
    List<Layer> chosen =
        prunable.stream()
            .filter(layer -> selection.chooses(layer.name()))
            .filter(layer -> !classifier.equals(Optional.of(layer)))
            .toList();
    if (chosen.isEmpty()) {
      throw TacoException.usage(
          "--include and --exclude leave no layer to prune; `taco inspect` lists the names");
    }
    chosen = withoutMisfits(chosen, level);
    List<SolverPlan.Task> tasks = new ArrayList<>();
    for (Layer layer : chosen) {
      if (recipe.bits() != null) {
        WeightQuantization.requireSupport(model, layer);
      }
      Recipe.LayerChoice choice = recipe.choiceFor(layer.name());
      Pattern pattern = level.apply(choice.pattern());
      HybridObcSolver.Shape shape =
          new HybridObcSolver.Shape(layer.rows(), layer.cols(), layer.groups(), pattern);
      tasks.add(new SolverPlan.Task(choice.solver(), shape));
    }
    List<Solver> solvers = SolverPlan.of(tasks, recipe.solverOptions());
    List<LayerWise.Plan> plans = new ArrayList<>();
    for (int i = 0; i < chosen.size(); i++) {
      Solver solver = solvers.get(i);
      Pattern pattern = tasks.get(i).shape().pattern();
      if (!solver.supports(pattern)) {
        throw TacoException.usage(
            "layer %s: solver %s cannot follow the pattern %s; these can: %s"
                .formatted(
                    chosen.get(i).name(), solver.name(), pattern, Solvers.thatSupport(pattern)));
      }
      plans.add(new LayerWise.Plan(chosen.get(i), pattern, solver));
    }
    return plans;
  }

  /**
   * The layers whose input channels the groups of their patterns divide. The others stay dense, and
   * are noted, where the recipe says so; else they are an error.
   */
  private List<Layer> withoutMisfits(List<Layer> chosen, UnaryOperator<Pattern> level) {
    List<Layer> fitting = new ArrayList<>();
    List<String> undividable = new ArrayList<>();
    Set<String> patterns = new LinkedHashSet<>();
    for (Layer layer : chosen) {
      Pattern asked = recipe.choiceFor(layer.name()).pattern();
      Pattern pattern = level.apply(asked);
      int extent = pattern instanceof Pattern.Columns ? layer.cols() : layer.groupingExtent();
      if (extent % pattern.groupSize() == 0) {
        fitting.add(layer);
        continue;
      }
      undividable.add(layer.name());
      patterns.add(pattern + " (" + extent + " input channels)");
      if (leavesMisfitsDense()) {
        String reason =
            "its %d input channels are no multiple of %d, as the pattern %s needs (--misfit dense)"
                .formatted(extent, pattern.groupSize(), asked);
        misfits.put(layer.name(), reason);
        notices.add(
            "misfit-left-dense",
            layer.name(),
            String.format(
                Locale.ROOT, "stays dense with its %,d weights: %s", layer.parameters(), reason),
            (double) layer.parameters());
      }
    }
    if (!undividable.isEmpty() && !leavesMisfitsDense()) {
      throw TacoException.usage(
          "the groups of a pattern must divide a layer's input channels, and do not for "
              + String.join(", ", patterns)
              + "; leave such layers dense with --misfit dense, or these with"
              + undividable.stream()
                  .map(name -> " --exclude '" + name + "'")
                  .reduce("", String::concat));
    }
    if (fitting.isEmpty()) {
      throw TacoException.usage(
          "the groups of "
              + String.join(", ", patterns)
              + " divide the input channels of no layer that is to be pruned; choose another"
              + " --pattern");
    }
    return fitting;
  }

  private boolean leavesMisfitsDense() {
    return "dense".equals(recipe.misfit());
  }

  /** Notes which operators with weights are no layers here. */
  private void noteSkipped(OnnxModel model) {
    for (LayerDiscovery.Skipped skipped : LayerDiscovery.skipped(model)) {
      notices.add(
          "layer-skipped",
          skipped.name(),
          skipped.operator() + " stays as it is: " + skipped.reason(),
          1);
    }
  }

  /**
   * Notes which layers stay as they are. The classifier is none of them: that it stays dense is a
   * decision, and is said as one.
   */
  private void noteLayersLeftDense(
      OnnxModel model, List<Layer> layers, List<LayerWise.Plan> plans) {
    List<Layer> left =
        layers.stream()
            .filter(layer -> plans.stream().noneMatch(plan -> plan.layer().equals(layer)))
            .toList();
    List<Layer> noted =
        left.stream()
            .filter(layer -> !misfits.containsKey(layer.name()))
            .filter(layer -> !leftOut(layer).equals(CLASSIFIER) || !layer.prunable())
            .toList();
    if (!noted.isEmpty()) {
      notices.add(
          "layers-left-dense",
          model.source(),
          noted.size() + " of " + layers.size() + " layers stay dense: " + reasons(noted),
          noted.size());
    }
    left.stream()
        .filter(layer -> layer.prunable() && leftOut(layer).equals(CLASSIFIER))
        .forEach(layer -> log.say(layer.name() + " stays dense: it is " + CLASSIFIER));
  }

  /** Why a layer that could be pruned is not. */
  private String leftOut(Layer layer) {
    String misfit = misfits.get(layer.name());
    if (misfit != null) {
      return misfit;
    }
    return selection.chooses(layer.name()) ? CLASSIFIER : "left out by --include or --exclude";
  }

  /** Why layers are left dense, with how many for each reason. */
  private String reasons(List<Layer> layers) {
    Map<String, Integer> counts = new LinkedHashMap<>();
    for (Layer layer : layers) {
      counts.merge(layer.whyNotPrunable().orElse(leftOut(layer)), 1, Integer::sum);
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
      @Nullable StructuredPruning structured,
      List<LayerWise.Outcome> unitOutcomes,
      List<LayerWise.Outcome> outcomes,
      Map<String, Long> nonZeros,
      Map<String, Long> macs,
      Map<String, RunReport.Operator> operators) {
    Map<String, LayerWise.Outcome> byName = new HashMap<>();
    unitOutcomes.forEach(outcome -> byName.put(outcome.plan().layer().name(), outcome));
    outcomes.forEach(outcome -> byName.put(outcome.plan().layer().name(), outcome));
    List<RunReport.LayerReport> reports = new ArrayList<>();
    for (Layer layer : layers) {
      LayerWise.Outcome outcome = byName.get(layer.name());
      long nonZero = nonZeros.getOrDefault(layer.name(), layer.parameters());
      reports.add(
          new RunReport.LayerReport(
              layer.name(),
              layer.opType(),
              layer.rows() * layer.groups(),
              layer.cols(),
              layer.groups(),
              layer.parameters(),
              macs.getOrDefault(layer.name(), 0L),
              outcome == null ? null : outcome.solver(),
              outcome == null ? null : outcome.plan().pattern().toString(),
              layer.parameters() == 0 ? 0 : 1 - nonZero / (double) layer.parameters(),
              outcome == null ? null : outcome.layerError(),
              outcome == null ? null : outcome.heldOutError(),
              outcome == null ? null : outcome.damping(),
              outcome == null ? 0 : outcome.deadColumns(),
              outcome == null ? 0 : outcome.seconds(),
              outcome == null ? null : search(outcome.searches()),
              outcome == null ? whyDense(layer, structured, outcomes.isEmpty()) : null,
              operators.get(layer.name())));
    }
    return reports;
  }

  private String whyDense(Layer layer, @Nullable StructuredPruning structured, boolean unitsOnly) {
    if (structured != null && structured.producers().contains(layer.name())) {
      return "it lost the rows of removed units, nothing else";
    }
    return layer
        .whyNotPrunable()
        .orElse(structured != null && unitsOnly ? "only units were removed" : leftOut(layer));
  }

  private static RunReport.@Nullable Search search(List<SearchReport> searches) {
    if (searches.isEmpty()) {
      return null;
    }
    SearchReport last = searches.getLast();
    return new RunReport.Search(
        searches.stream().mapToLong(SearchReport::swaps).sum(),
        searches.stream().mapToLong(SearchReport::kicks).sum(),
        searches.stream().mapToLong(SearchReport::transfers).sum(),
        last.errorBefore(),
        last.errorAfter(),
        searches.stream().mapToDouble(SearchReport::seconds).sum(),
        last.stopped().toString());
  }

  /** Weights that are not zero, of the prunable layers of the dense model, by name. */
  private static Map<String, Long> nonZeros(OnnxModel model, List<Layer> denseLayers) {
    Set<String> wanted =
        denseLayers.stream().filter(Layer::prunable).map(Layer::name).collect(Collectors.toSet());
    Map<String, Long> nonZeros = new HashMap<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (wanted.contains(layer.name())) {
        nonZeros.put(layer.name(), layer.parameters() - LayerWeights.zeros(model, layer));
      }
    }
    return nonZeros;
  }

  /** {@link #nonZeros} of a model whose layers are integer operators. */
  private static Map<String, Long> nonZerosOfIntegers(
      OnnxModel written, OnnxModel before, List<Layer> denseLayers) {
    Map<String, Long> nonZeros = nonZeros(before, denseLayers);
    Map<String, Long> zeros = IntegerOperators.zeros(written);
    for (Layer layer : LayerDiscovery.discover(before)) {
      Long known = zeros.get(layer.name());
      if (nonZeros.containsKey(layer.name()) && known != null) {
        nonZeros.put(layer.name(), layer.parameters() - known);
      }
    }
    return nonZeros;
  }

  private static long sum(Map<String, Long> values) {
    return values.values().stream().mapToLong(Long::longValue).sum();
  }

  private static RunReport.ModelResult result(
      Accuracy accuracy, Path file, long nonZeroWeights, long macs) {
    boolean measured = accuracy.images() > 0;
    return new RunReport.ModelResult(
        measured ? accuracy.top1() : null,
        measured ? accuracy.top1Low() : null,
        measured ? accuracy.top1High() : null,
        measured ? accuracy.top5() : null,
        accuracy.images(),
        ModelFiles.size(file),
        ModelFiles.gzipSize(file),
        nonZeroWeights,
        macs);
  }

  private static RunReport.ModelLatency latency(LatencyComparison.Percentiles p) {
    return new RunReport.ModelLatency(p.p50Millis(), p.p90Millis(), p.p99Millis());
  }

  private static RunReport.@Nullable TopOne topOne(@Nullable Accuracy accuracy) {
    return accuracy == null || accuracy.images() == 0
        ? null
        : new RunReport.TopOne(
            accuracy.top1(), accuracy.top1Low(), accuracy.top1High(), accuracy.images());
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
}
