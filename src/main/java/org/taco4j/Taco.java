package org.taco4j;

import com.fasterxml.jackson.annotation.JsonUnwrapped;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import org.taco4j.bench.Accuracy;
import org.taco4j.bench.DeviceComparison;
import org.taco4j.bench.Evaluator;
import org.taco4j.bench.LatencyComparison;
import org.taco4j.bench.LayerMacs;
import org.taco4j.bench.OperatorCalibration;
import org.taco4j.bench.OperatorPlan;
import org.taco4j.bench.OperatorTable;
import org.taco4j.bench.SameResults;
import org.taco4j.common.Notice;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageDataset;
import org.taco4j.data.ImageFolders;
import org.taco4j.data.Preprocessing;
import org.taco4j.data.Preprocessor;
import org.taco4j.data.TaskClass;
import org.taco4j.export.TensorRtForm;
import org.taco4j.onnx.HeadRestriction;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.PackedWeights;
import org.taco4j.onnx.TensorInfo;
import org.taco4j.report.Overview;
import org.taco4j.report.ReportFiles;
import org.taco4j.report.RunReport;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.OperatorLibrary;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.tensorrt.EngineLayers;
import org.taco4j.solve.Pattern;

/**
 * The entry to taco4j from Java:
 *
 * <pre>{@code
 * RunReport report =
 *     Taco.specialize(Path.of("model.onnx"))
 *         .data(Path.of("images"))
 *         .shots(10)
 *         .sparsity(0.5)
 *         .to(Path.of("specialist"));
 * }</pre>
 */
public final class Taco {
  /** Pairs of runs that {@link #bench} keeps in memory at most. */
  private static final int MOST_PAIRS = 100_000;

  private Taco() {}

  /** The version of this library. */
  public static String version() {
    String version = Taco.class.getPackage().getImplementationVersion();
    return version == null ? "development" : version;
  }

  /** Begins to describe a specialization of a dense model; {@link Specialization#to} runs it. */
  public static Specialization specialize(Path model) {
    return new Specialization(Recipe.empty().with("model", model.toString()));
  }

  /**
   * Makes a specialist.
   *
   * @param recipe what to do; what it does not say is at its default
   * @param out the folder to write; it appears when the run has succeeded
   * @param overwrite whether an earlier run's folder may be replaced
   * @throws TacoException with everything that can be wrong with models, images and options
   */
  public static RunReport run(Recipe recipe, Path out, boolean overwrite, Progress progress) {
    return new Specializer(recipe, out, overwrite, progress).run();
  }

  /**
   * Solves one layer problem from NumPy files and writes the files that it asks for.
   *
   * @throws TacoException of kind DATA for files that cannot be read, shapes that do not match and
   *     values that are not finite; of kind USAGE for solvers, patterns and options that cannot be
   *     meant; of kind NUMERICAL where the Hessian is not fit to be used
   */
  public static LayerResult solveLayer(LayerProblem problem, Progress progress) {
    return new LayerProblemSolver(problem, new Notices(progress::notice)).solve();
  }

  /**
   * The pattern that a text, which may lack its fraction, and a sparsity mean together.
   *
   * @throws TacoException of kind USAGE where they do not determine a pattern
   */
  public static Pattern pattern(@Nullable String pattern, @Nullable Double sparsity) {
    return Recipe.patternOf(pattern, sparsity, null);
  }

  /**
   * Writes the page of a run again, from its {@code report.json} and thumbnails.
   *
   * @param run a folder that {@link #run} wrote
   * @throws TacoException of kind USAGE for a folder that is no run's; of kind DATA for a report
   *     that is damaged or of another version
   */
  public static void report(Path run, Path file) {
    ReportFiles.writePage(run, file);
  }

  /**
   * Writes one page over several runs: a table, and accuracy against sparsity.
   *
   * @param title of the page; null for a plain one
   * @param introduction a paragraph under it; null for none
   * @throws TacoException as {@link #report}
   */
  public static void overview(
      List<Path> runs, Path file, @Nullable String title, @Nullable String introduction) {
    Overview.of(runs).write(file, title, introduction);
  }

  /**
   * Writes the chart of accuracy against sparsity over several runs as an SVG file, which is light
   * or dark as its reader's screen is.
   *
   * @throws TacoException as {@link #report}; of kind DATA also where the runs are of different
   *     dense models or tasks, or nothing was measured
   */
  public static void overviewChart(List<Path> runs, Path file) {
    Overview.of(runs).writeChart(file);
  }

  /**
   * Stops the runs that other threads of this process are in, for when it is about to end: what
   * they have written is deleted but for finished layers, from which the same run goes on later.
   */
  public static void interruptRuns() {
    RunFolder.abandonAll();
  }

  /** A specialization that is being described. Not thread-safe. */
  public static final class Specialization {
    private Recipe recipe;
    private boolean overwrite;
    private Progress progress = Progress.SILENT;

    private Specialization(Recipe recipe) {
      this.recipe = recipe;
    }

    /** Everything that a recipe says, over what was said before. */
    public Specialization recipe(Recipe other) {
      recipe = recipe.overlaidWith(other);
      return this;
    }

    /** Image folders of the task. */
    public Specialization data(Path... folders) {
      List<String> texts = new ArrayList<>();
      for (Path folder : folders) {
        texts.add(folder.toString());
      }
      recipe = recipe.with("data", texts);
      return this;
    }

    /** Calibration images per class; 0 for all. */
    public Specialization shots(int shots) {
      recipe = recipe.with("shots", shots);
      return this;
    }

    /** Folder or display names of the classes to keep. */
    public Specialization classes(String... classes) {
      recipe = recipe.with("classes", List.of(classes));
      return this;
    }

    /** Fraction of the weights to remove. */
    public Specialization sparsity(double sparsity) {
      recipe = recipe.with("sparsity", sparsity);
      return this;
    }

    /** What is removed, as {@link Recipe#pattern}. */
    public Specialization pattern(String pattern) {
      recipe = recipe.with("pattern", pattern);
      return this;
    }

    /** Name of the layer solver. */
    public Specialization solver(String solver) {
      recipe = recipe.with("solver", solver);
      return this;
    }

    /** The channel correction, as {@link Recipe#correct}. */
    public Specialization correct(String correct) {
      recipe = recipe.with("correct", correct);
      return this;
    }

    /** How layers are solved, as {@link Recipe#reconstruct}. */
    public Specialization reconstruct(String reconstruct) {
      recipe = recipe.with("reconstruct", reconstruct);
      return this;
    }

    /** What is trained after compression, as {@link Recipe#tune}, at its usual passes. */
    public Specialization tune(String tune) {
      recipe = recipe.with("tune", tune);
      return this;
    }

    /** What is trained after compression, as {@link Recipe#tune}, and for how many passes. */
    public Specialization tune(String tune, int passes) {
      recipe = recipe.with("tune", tune).with("tune-passes", passes);
      return this;
    }

    /** A folder of generic images, on which a second copy is compressed to compare. */
    public Specialization comparePtc(Path folder) {
      recipe = recipe.with("compare-ptc", folder.toString());
      return this;
    }

    /** What the specialist is written for, as {@link Recipe#runtime}. */
    public Specialization runtime(String runtime) {
      recipe = recipe.with("runtime", runtime);
      return this;
    }

    /** Whether the file keeps only weights that are not zero, as {@link Recipe#packWeights}. */
    public Specialization packWeights(boolean packWeights) {
      recipe = recipe.with("pack-weights", packWeights);
      return this;
    }

    /** Seed of everything random. */
    public Specialization seed(long seed) {
      recipe = recipe.with("seed", seed);
      return this;
    }

    /** Threads to compute with. */
    public Specialization threads(int threads) {
      recipe = recipe.with("threads", threads);
      return this;
    }

    /** What computes, as {@link Recipe#backend}. */
    public Specialization backend(String backend) {
      recipe = recipe.with("backend", backend);
      return this;
    }

    /** Memory of each GPU that backend cuda may use, as {@link Recipe#gpuMemory}. */
    public Specialization gpuMemory(String gpuMemory) {
      recipe = recipe.with("gpu-memory", gpuMemory);
      return this;
    }

    /** Replaces the folder of an earlier run. */
    public Specialization overwrite() {
      overwrite = true;
      return this;
    }

    /** Who is told how the run gets on. */
    public Specialization progress(Progress listener) {
      progress = listener;
      return this;
    }

    /** Runs, and writes the run folder. */
    public RunReport to(Path out) {
      return Taco.run(recipe, out, overwrite, progress);
    }
  }

  /**
   * What to evaluate.
   *
   * @param model a dense model or a specialist
   * @param data image folders; of those with a split, the test images
   * @param classes folder or display names of the task's classes; all of the folders where empty
   * @param labels a file that says which output of the model is which class
   * @param testFraction share of each class that is evaluated where there is no test folder; empty
   *     for the test images of the run that made a specialist, or all for other models
   * @param seed of the choice of that share; empty for that of the run that made a specialist
   * @param threads to compute with
   */
  public record EvalRequest(
      Path model,
      List<Path> data,
      List<String> classes,
      Optional<Path> labels,
      PreprocessingOptions preprocessing,
      Optional<Double> testFraction,
      Optional<Long> seed,
      int threads) {}

  /**
   * Accuracy of a model on test images: the JSON of {@code taco eval}.
   *
   * @param top1 fraction right when only the task's classes compete
   * @param top1Low lower end of its 95 % interval (Wilson)
   * @param top1High upper end of its 95 % interval
   * @param allOutputs the same when all of the model's outputs compete
   */
  public record EvalResult(
      String model,
      double top1,
      double top1Low,
      double top1High,
      double top5,
      int images,
      int classes,
      AllOutputs allOutputs,
      String preprocessing,
      List<Notice> notices) {

    /** Accuracy over all outputs of the model. */
    public record AllOutputs(
        double top1, double top1Low, double top1High, double top5, int outputs) {}
  }

  /**
   * Measures the accuracy of a model. Where the images have no test folder, a specialist is
   * measured on those that the run which made it set aside: it was not calibrated on them. If that
   * run kept some of the folders' classes only, so does this.
   */
  public static EvalResult evaluate(EvalRequest request, Progress progress) {
    Notices notices = new Notices(progress::notice);
    OnnxModel model = OnnxModel.read(request.model());
    SparseRuntime.noteMissingLibrary(model, notices);
    ModelInput input = ModelInput.of(model);
    Preprocessing preprocessing = request.preprocessing().resolve(model, input);
    progress.message("preprocessing: " + preprocessing.describe());
    String contract = model.metadata().get(PreprocessingOptions.METADATA_KEY);
    if (contract != null && !preprocessing.equals(Preprocessing.fromJson(contract))) {
      notices.add(
          "preprocessing-overridden",
          request.model().toString(),
          "is not fed as it was made for, but as the options say; made for: "
              + Preprocessing.fromJson(contract).describe(),
          1);
    }
    int outputs = HeadRestriction.classes(model);
    Recipe made = Recipe.ofSpecialist(model).orElse(Recipe.empty());
    Optional<List<TaskClass>> modelClasses = TaskClasses.of(model);
    ImageDataset data =
        ImageFolders.load(
            new ImageFolders.Request(
                request.data(),
                0,
                "none",
                request.classes().isEmpty() && made.classes() != null
                    ? modelClasses.orElse(List.of()).stream().map(TaskClass::folder).toList()
                    : request.classes(),
                request.labels(),
                outputs,
                modelClasses,
                request.seed().or(() -> Optional.ofNullable(made.seed())).orElse(0L),
                request
                    .testFraction()
                    .or(() -> Optional.ofNullable(made.testFraction()))
                    .orElse(1.0),
                false),
            notices);
    if (data.test().isEmpty()) {
      throw TacoException.data(request.data() + ": there are no test images");
    }
    List<Integer> indices = data.classes().stream().map(TaskClass::modelIndex).toList();
    try (Workers workers = new Workers(request.threads());
        Session session = Session.open(request.model(), 1)) {
      int batch = input.batchSize(preprocessing.cropHeight(), preprocessing.cropWidth());
      ImageBatches images =
          new ImageBatches(data.test(), new Preprocessor(preprocessing), batch, workers, notices);
      progress.stage("evaluating " + data.test().size() + " images", 0);
      Evaluator.Result result =
          Evaluator.evaluate(
              session,
              input,
              images,
              indices,
              workers,
              done -> progress.within(done + " of " + images.size() + " images"));
      Accuracy task = result.task();
      Accuracy all = result.all();
      return new EvalResult(
          request.model().toString(),
          task.top1(),
          task.top1Low(),
          task.top1High(),
          task.top5(),
          task.images(),
          indices.size(),
          new EvalResult.AllOutputs(all.top1(), all.top1Low(), all.top1High(), all.top5(), outputs),
          preprocessing.describe(),
          notices.list());
    }
  }

  /**
   * Latencies of two models.
   *
   * @param latency its components stand in the JSON themselves
   * @param notices about models that ran in another way than they were made for
   */
  public record BenchResult(@JsonUnwrapped LatencyComparison latency, List<Notice> notices) {}

  /**
   * Compares the latency of two models in one process, in turns: {@code dense} first.
   *
   * @param batch images in a run
   * @param seconds about how long to measure
   */
  public static BenchResult bench(
      Path dense, Path compressed, int threads, int batch, double seconds) {
    Notices notices = new Notices();
    OnnxModel denseModel = OnnxModel.read(dense);
    OnnxModel compressedModel = OnnxModel.read(compressed);
    SparseRuntime.noteMissingLibrary(denseModel, notices);
    SparseRuntime.noteMissingLibrary(compressedModel, notices);
    ModelInput denseInput = ModelInput.of(denseModel);
    ModelInput compressedInput = ModelInput.of(compressedModel);
    long[] shape = commonShape(denseModel, denseInput, compressedModel, compressedInput);
    try (Session a = Session.open(dense, threads);
        Session b = Session.open(compressed, threads)) {
      LatencyComparison result =
          LatencyComparison.measure(
              a, denseInput, b, compressedInput, shape, threads, batch, seconds, MOST_PAIRS);
      return new BenchResult(result, notices.list());
    }
  }

  /**
   * The shape of a batch of one image that both models take.
   *
   * @throws TacoException of kind MODEL where they take different ones
   */
  static long[] commonShape(
      OnnxModel dense, ModelInput denseInput, OnnxModel compressed, ModelInput compressedInput) {
    long[] shape = imageShape(dense, denseInput);
    long[] compressedShape = imageShape(compressed, compressedInput);
    if (!java.util.Arrays.equals(shape, compressedShape)
        || (denseInput.batch() > 0
            && compressedInput.batch() > 0
            && denseInput.batch() != compressedInput.batch())) {
      throw TacoException.model(
          dense.source()
              + " takes "
              + describe(denseInput, shape)
              + ", "
              + compressed.source()
              + " takes "
              + describe(compressedInput, compressedShape)
              + ": their latencies cannot be compared");
    }
    return shape;
  }

  /**
   * Which models to measure on a GPU.
   *
   * @param runtime {@code tensorrt}, {@code onnxruntime-cuda} or {@code onnxruntime-tensorrt}
   * @param precision {@code fp32}, {@code fp16} or {@code int8}
   * @param sparseTactics whether TensorRT may skip zeros of the pattern 2:4
   * @param batches images in a run, one measurement for each
   * @param seconds about how long to measure each
   */
  public record DeviceBenchRequest(
      Path dense,
      Path compressed,
      String runtime,
      String precision,
      boolean sparseTactics,
      List<Integer> batches,
      double seconds) {}

  /**
   * Latencies of two models on a GPU: the JSON of {@code taco bench --runtime tensorrt}.
   *
   * @param runtime with its version
   * @param device name and compute capability of the GPU
   * @param batches a measurement for each size of batch
   * @param dense what became of the dense model in TensorRT; null for ONNX Runtime
   * @param compressed what became of the compressed one
   * @param denseNodes nodes of the dense model by ONNX Runtime's provider; null for TensorRT
   * @param compressedNodes nodes of the compressed one
   */
  public record DeviceBenchResult(
      String runtime,
      String device,
      String precision,
      boolean sparseTactics,
      List<DeviceComparison> batches,
      EngineLayers.@Nullable Summary dense,
      EngineLayers.@Nullable Summary compressed,
      @Nullable Map<String, Integer> denseNodes,
      @Nullable Map<String, Integer> compressedNodes,
      List<Notice> notices) {}

  /** Throws an exception of kind USAGE for a runtime that models are not measured in. */
  public static void checkBenchRuntime(String runtime) {
    DeviceBench.checkRuntime(runtime);
  }

  /**
   * Compares the latency of two models on a GPU in one process, in turns, after their results have
   * been compared with those of ONNX Runtime on the CPU.
   *
   * @throws TacoException of kind RUNTIME where there is no GPU, or a library is missing, with what
   *     to install; of kind USAGE for options that cannot be meant; of kind MODEL for models that
   *     cannot be compared, or that the runtime refuses; of kind NUMERICAL where a model gives
   *     other results there
   */
  public static DeviceBenchResult bench(DeviceBenchRequest request, Progress progress) {
    return new DeviceBench(request, progress).run();
  }

  /**
   * What to check.
   *
   * @param model a dense classifier
   * @param sparsities fractions of the weights to remove
   * @param pattern {@code unstructured} or {@code rows4}
   * @param threads inside an operator
   * @param batch images in a run
   * @param seconds for which each sparsity is measured
   */
  public record CheckRequest(
      Path model,
      List<Double> sparsities,
      String pattern,
      int threads,
      int batch,
      double seconds) {}

  /**
   * How fast a model would be: the JSON of {@code taco check}.
   *
   * @param pattern how zeros lie
   */
  public record CheckResult(
      String model, String pattern, List<CheckedSparsity> sparsities, List<Notice> notices) {}

  /**
   * How fast a model is at a sparsity.
   *
   * @param pruned layers with zeros
   * @param rewritten layers that became sparse operators
   * @param normalizations layer normalizations that became operators of the library
   * @param latency of the model with zeros: dense, and with sparse operators
   * @param difference between the results of both, relative
   * @param layers all of them, in graph order
   */
  public record CheckedSparsity(
      double sparsity,
      int pruned,
      int rewritten,
      int normalizations,
      LatencyComparison latency,
      double difference,
      List<OperatorPlan.LayerChoice> layers) {}

  /**
   * Says what speed-up to expect on this machine from pruning a model, without images: a copy is
   * pruned by magnitude, rewritten for the operator library, and measured. All prunable layers but
   * the classifier get zeros.
   *
   * @throws TacoException of kind RUNTIME where there is no library for this platform; of kind
   *     MODEL for a model that takes no images or has no prunable layer
   */
  public static CheckResult check(CheckRequest request, Progress progress) {
    return SpeedCheck.run(request, progress);
  }

  /**
   * A table of times that has been filled: the JSON of {@code taco bench --calibrate-ops}.
   *
   * @param table its file
   * @param measured how many layers were timed now; each sparsity counts
   * @param layers of how many different layers it has times
   */
  public record CalibrationResult(String table, int measured, int layers, List<Notice> notices) {}

  /**
   * Times layers with and without the operator library, for the choice that {@link #export} and
   * {@link #specialize} make. What has been timed before is not timed again.
   *
   * @param model whose layers to time; null for those of common networks
   * @param threads inside an operator
   * @param batch images in a run
   * @throws TacoException of kind RUNTIME where there is no library for this platform
   */
  public static CalibrationResult calibrateOperators(
      @Nullable Path model, int threads, int batch, Progress progress) {
    Notices notices = new Notices(progress::notice);
    OperatorTable table = SparseRuntime.table(threads, notices);
    OnnxModel whole = null;
    OperatorPlan.Use use = null;
    if (model != null) {
      whole = OnnxModel.read(model);
      SparseRuntime.refuseRewritten(whole);
      ModelInput input = ModelInput.of(whole);
      use = new OperatorPlan.Use(input, imageShape(whole, input), threads, batch);
    }
    int measured =
        OperatorCalibration.calibrate(
            whole,
            use,
            threads,
            batch,
            table,
            notices,
            new OperatorCalibration.Listener() {
              @Override
              public void level(String what, int layers) {
                progress.stage("timing layers with " + what, layers);
              }

              @Override
              public void measured(String layer) {
                progress.step(layer);
              }
            });
    return new CalibrationResult(table.file().toString(), measured, table.size(), notices.list());
  }

  /**
   * A model that was written for a runtime: the JSON of {@code taco export}.
   *
   * @param runtime that it was written for
   * @param sourceBytes of the model that was read
   * @param bytes of the model that was written
   * @param layers all of them, in graph order; none where no operators were asked for
   * @param rewritten how many of them became sparse operators
   * @param normalizations how many layer normalizations became operators of the library
   * @param measured layers that had to be timed
   * @param latency dense against written, in turns; null where nothing was rewritten
   * @param library the operator library that was written beside it; null where none was asked for
   * @param tensorRt what TensorRT finds in it; null where it is not for TensorRT
   */
  public record ExportResult(
      String model,
      String runtime,
      long sourceBytes,
      long bytes,
      int rewritten,
      int normalizations,
      int measured,
      List<OperatorPlan.LayerChoice> layers,
      @Nullable LatencyComparison latency,
      @Nullable String library,
      TensorRtForm.@Nullable Outcome tensorRt,
      List<Notice> notices) {}

  /**
   * What to export.
   *
   * @param model a pruned classifier; any pruned model where its weights are only packed
   * @param runtime {@code taco4j}, {@code tensorrt}, or {@code onnxruntime} for packing alone
   * @param packWeights whether the file keeps only weights that are not zero
   * @param out the file to write, not that of the model
   * @param library a folder that gets the operator library, for other programs; null for none
   * @param threads inside an operator
   * @param batch images in a run
   * @param seconds for which the result is measured against the dense model
   */
  public record ExportRequest(
      Path model,
      String runtime,
      boolean packWeights,
      Path out,
      @Nullable Path library,
      int threads,
      int batch,
      double seconds) {}

  /**
   * Writes a pruned model with the layers as sparse operators that are faster so on this machine,
   * or with its weights packed, or both; or in a form that TensorRT takes.
   *
   * @throws TacoException of kind RUNTIME where there is no library for this platform; of kind
   *     MODEL for a model that takes no images or has sparse operators already, where it is to be
   *     rewritten, or has what TensorRT refuses; of kind NUMERICAL where it then computes something
   *     else; of kind USAGE for the model's own file as output
   */
  public static ExportResult export(ExportRequest request, Progress progress) {
    SparseRuntime.check(request.runtime());
    boolean rewrites = request.runtime().equals(SparseRuntime.TACO4J);
    boolean forTensorRt = request.runtime().equals(SparseRuntime.TENSORRT);
    if (forTensorRt) {
      TensorRtExport.check(request);
    }
    if (!rewrites && !forTensorRt && !request.packWeights()) {
      throw TacoException.usage(
          "--runtime onnxruntime takes the model as it is; give --runtime taco4j or tensorrt,"
              + " --pack-weights, or taco4j and that");
    }
    if (isSameFile(request.model(), request.out())) {
      throw TacoException.usage(
          request.out() + " is the model itself; give another file, it is measured against");
    }
    Notices notices = new Notices(progress::notice);
    OnnxModel model = OnnxModel.read(request.model());
    long sourceBytes = model.bytesRead();
    if (request.packWeights()) {
      PackedWeights.requireOpset(model);
    }
    if (request.library() != null) {
      OperatorLibrary.file();
    }
    ModelInput input = rewrites ? ModelInput.of(model) : null;
    if (input != null) {
      SparseRuntime.checkExport(model, input, request.batch(), notices);
    }
    OperatorPlan.Result result = new OperatorPlan.Result(model, List.of(), 0, 0);
    OperatorPlan.Use use = null;
    if (input != null) {
      use =
          new OperatorPlan.Use(input, imageShape(model, input), request.threads(), request.batch());
      result = SparseRuntime.rewrite(model, use, notices, progress);
      SameResults.require(model, result.model(), input, use.imageShape());
    }
    TensorRtForm.Outcome tensorRt = null;
    if (forTensorRt) {
      OnnxModel friendly = model.copy();
      tensorRt = TensorRtExport.rewrite(friendly, notices);
      TensorRtExport.noteWeightsOnly(tensorRt, friendly, notices);
      ModelInput image = ModelInput.of(friendly);
      SameResults.require(model, friendly, image, imageShape(friendly, image));
      result = new OperatorPlan.Result(friendly, List.of(), 0, 0);
    }
    OnnxModel written = result.model();
    boolean gains = written.hasSparseOperators();
    if (request.packWeights()) {
      SparseRuntime.pack(written, notices, progress);
    } else if (!forTensorRt && written.sizeInBytes() > 1.2 * sourceBytes) {
      notices.add(
          "weights-unpacked",
          request.model().toString(),
          "its weights are packed, those of the written file are not; --pack-weights keeps them so",
          (double) written.sizeInBytes());
    }
    String library =
        request.library() == null ? null : OperatorLibrary.writeTo(request.library()).toString();
    written.write(request.out());
    LatencyComparison latency = null;
    if (use != null && gains) {
      progress.stage("latency, dense and rewritten in turns", 0);
      try (Session a = Session.open(request.model(), request.threads());
          Session b = Session.open(request.out(), request.threads())) {
        latency =
            LatencyComparison.measure(
                a,
                use.input(),
                b,
                use.input(),
                use.imageShape(),
                use.threads(),
                use.batch(),
                request.seconds(),
                MOST_PAIRS);
      }
    }
    return new ExportResult(
        request.out().toString(),
        request.runtime(),
        sourceBytes,
        written.sizeInBytes(),
        result.rewritten(),
        result.normalizations(),
        result.measured(),
        result.layers(),
        latency,
        library,
        tensorRt,
        notices.list());
  }

  private static boolean isSameFile(Path a, Path b) {
    try {
      return Files.exists(b) && Files.isSameFile(a, b);
    } catch (IOException e) {
      // One of them is not there or cannot be read: reading or writing it will say so.
      return false;
    }
  }

  private static String describe(ModelInput input, long[] shape) {
    shape[0] = input.batch();
    return java.util.Arrays.toString(shape);
  }

  static long[] imageShape(OnnxModel model, ModelInput input) {
    return new Preprocessor(PreprocessingOptions.none().resolve(model, input)).shape(1);
  }

  /**
   * What is in a model: the JSON of {@code taco inspect}.
   *
   * @param parameters weights of all layers
   * @param macs multiply-accumulates of all layers for one image; 0 where the model takes no images
   * @param skipped operators with weights that are no layers here, and why
   * @param sparsity zeros over the weights of layers that are prunable or rewritten
   * @param classes outputs of the classifier; null where that cannot be told
   */
  public record Inspection(
      String model,
      int opset,
      List<TensorInfo> inputs,
      List<TensorInfo> outputs,
      @Nullable Integer classes,
      Map<String, Integer> operators,
      long parameters,
      long macs,
      double sparsity,
      List<InspectedLayer> layers,
      List<LayerDiscovery.Skipped> skipped,
      Map<String, String> metadata) {}

  /**
   * A layer of an inspected model.
   *
   * @param rows output channels or features, of all groups
   * @param macs multiply-accumulates for one image
   * @param sparsity zeros over weights
   * @param whyNotPrunable null for a prunable layer
   */
  public record InspectedLayer(
      String name,
      String opType,
      int rows,
      int cols,
      int groups,
      long parameters,
      long macs,
      double sparsity,
      @Nullable String whyNotPrunable) {}

  /** Looks into a model. */
  public static Inspection inspect(Path file) {
    OnnxModel model = OnnxModel.read(file);
    List<Layer> layers = LayerDiscovery.discover(model);
    Map<String, Long> macs = macs(model, layers);
    List<InspectedLayer> inspected = new ArrayList<>();
    long parameters = 0;
    long prunable = 0;
    long zeros = 0;
    for (Layer layer : layers) {
      long layerZeros =
          LayerWeights.hasKnownZeros(model, layer) ? LayerWeights.zeros(model, layer) : 0;
      parameters += layer.parameters();
      if (layer.prunable() || layer.isRewritten()) {
        prunable += layer.parameters();
        zeros += layerZeros;
      }
      inspected.add(
          new InspectedLayer(
              layer.name(),
              layer.opType(),
              layer.rows() * layer.groups(),
              layer.cols(),
              layer.groups(),
              layer.parameters(),
              Objects.requireNonNullElse(macs.get(layer.name()), 0L),
              layer.parameters() == 0 ? 0 : layerZeros / (double) layer.parameters(),
              layer.whyNotPrunable().orElse(null)));
    }
    return new Inspection(
        file.toString(),
        model.opset(),
        model.inputs(),
        model.outputs(),
        classes(model),
        model.operatorCounts(),
        parameters,
        macs.values().stream().mapToLong(Long::longValue).sum(),
        prunable == 0 ? 0 : zeros / (double) prunable,
        inspected,
        LayerDiscovery.skipped(model),
        model.metadata());
  }

  /** By layer name; empty for a model that is not fed with images, which can be looked at too. */
  private static Map<String, Long> macs(OnnxModel model, List<Layer> layers) {
    ModelInput input;
    try {
      input = ModelInput.of(model);
    } catch (TacoException e) {
      return Map.of();
    }
    return LayerMacs.count(model, layers, input, imageShape(model, input));
  }

  private static @Nullable Integer classes(OnnxModel model) {
    try {
      return HeadRestriction.classes(model);
    } catch (TacoException e) {
      // A model that is no classifier can be looked at all the same.
      return null;
    }
  }
}
