package org.taco4j.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import org.taco4j.Recipe;
import org.taco4j.Taco;
import org.taco4j.report.ReportFiles;
import org.taco4j.report.RunReport;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code taco specialize}. */
@Command(
    name = "specialize",
    description =
        "Restrict a dense ONNX classifier to a task's classes, prune it on the task's images, and"
            + " measure it against the dense model.",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    customSynopsis = "${COMMAND-FULL-NAME} MODEL --data=DIR --sparsity=S --out=DIR [OPTIONS]",
    footer = {
      "",
      "Examples:",
      "  ${ROOT-COMMAND-NAME} specialize model.onnx --data images --shots 10 --sparsity 0.6 --out"
          + " specialist",
      "  ${ROOT-COMMAND-NAME} specialize model.onnx --data images --recipe taco-tmlr --sparsity 0.8"
          + " --out tuned",
      "  ${ROOT-COMMAND-NAME} specialize --recipe specialist/recipe.resolved.yaml --out again",
    })
final class SpecializeCommand implements Callable<Integer> {
  @Parameters(
      index = "0",
      arity = "0..1",
      paramLabel = "MODEL",
      description = "the dense model, an ONNX file; may come from --recipe")
  @Nullable Path model;

  @Option(
      names = "--data",
      paramLabel = "DIR",
      description =
          "image folder of the task: a folder for each class, or train/ and test/ with such folders;"
              + " may be given several times")
  @Nullable List<Path> data;

  @Option(
      names = {"-o", "--out"},
      required = true,
      paramLabel = "DIR",
      description = "folder to write: model.onnx, report.html, report.json, MODEL_CARD.md, ...")
  @Nullable Path out;

  @Option(names = "--overwrite", description = "replace the folder of an earlier run")
  boolean overwrite;

  @Option(
      names = "--sparsity",
      paramLabel = "S",
      description = "fraction of the weights to remove, 0 to below 1")
  @Nullable Double sparsity;

  @Option(
      names = "--pattern",
      paramLabel = "P",
      completionCandidates = Candidates.OfPattern.class,
      description =
          "what is removed: unstructured (default), N:M such as 2:4, block4 (neighbouring inputs),"
              + " rows4 (neighbouring outputs) or columns; with its sparsity as in block4:0.8, or"
              + " with --sparsity")
  @Nullable String pattern;

  @Option(
      names = "--misfit",
      paramLabel = "HOW",
      completionCandidates = Candidates.OfMisfit.class,
      description =
          "layers whose input channels the groups of the pattern do not divide, such as a first"
              + " convolution with 2:4: error (default), or dense: they stay so, and a note names"
              + " each")
  @Nullable String misfit;

  @Option(
      names = "--structured",
      paramLabel = "S",
      description = "fraction of the units of each hidden dimension to remove for good, above 0")
  @Nullable Double structured;

  @Option(
      names = "--structures",
      paramLabel = "KIND",
      split = ",",
      completionCandidates = Candidates.OfStructures.class,
      description =
          "which hidden dimensions --structured is for: mlp, channels, heads; default: mlp,channels")
  @Nullable List<String> structures;

  @Option(
      names = "--solver",
      paramLabel = "NAME",
      completionCandidates = Candidates.OfSolver.class,
      description =
          "hybrid (default: exact OBC, for layers beyond the time budget FastOBC's mask and swaps),"
              + " obc, fast (FastOBC = SparseGPT), adaprune, ziplm (whole columns), gptq"
              + " (quantisation only), wanda or magnitude")
  @Nullable String solver;

  @Option(
      names = "--shots",
      paramLabel = "N",
      description = "calibration images per class; 0 (default) for all there are")
  @Nullable Integer shots;

  @Option(
      names = "--classes",
      paramLabel = "NAME",
      split = ",",
      description = "keep only these classes (folder or display names); default: all folders")
  @Nullable List<String> classes;

  @Option(
      names = "--labels",
      paramLabel = "FILE",
      description =
          "which output of the model is which class: TSV with model_index and name, wnid or folder"
              + " columns, or one name a line; not needed where --data has a classes.tsv")
  @Nullable Path labels;

  @Option(
      names = "--held-out",
      paramLabel = "N",
      completionCandidates = Candidates.OfAutoOrNone.class,
      description =
          "images per class on which layer errors are measured: auto (default), none or a number")
  @Nullable String heldOut;

  @Option(
      names = "--test-fraction",
      paramLabel = "F",
      description = "share of each class kept for the test where there is no test folder (0.3)")
  @Nullable Double testFraction;

  @Option(
      names = "--damping",
      paramLabel = "L",
      description =
          "added to the Hessian's diagonal, relative to its mean (0.01); auto: chosen for each"
              + " layer by cross-validation between two halves of the calibration images")
  @Nullable String damping;

  @Mixin SolverMixin solverOptions = new SolverMixin();

  @Option(
      names = "--activation-bits",
      paramLabel = "N",
      description =
          "8: quantise activations too, so that layers multiply integers; with --bits, and in 8 bits"
              + " the weights of layers that are not pruned as well, but the classifier's")
  @Nullable Integer activationBits;

  @Option(
      names = "--activation-range",
      paramLabel = "HOW",
      completionCandidates = Candidates.OfActivationRange.class,
      description =
          "the range of an activation in 8 bits: minmax (of the calibration images), percentile (but"
              + " for 0.01 %% at either end), mse (of the least squared error) or auto (default:"
              + " what moves the model's scores least)")
  @Nullable String activationRange;

  @Option(
      names = "--reconstruct",
      paramLabel = "HOW",
      completionCandidates = Candidates.OfReconstruct.class,
      description =
          "sequential (default with --solver hybrid: each layer is solved on what the layers"
              + " compressed before it give, towards the dense model's outputs) or layerwise (each on"
              + " its own, on dense inputs)")
  @Nullable String reconstruct;

  @Option(
      names = "--correct",
      paramLabel = "HOW",
      completionCandidates = Candidates.OfCorrect.class,
      description =
          "channel correction after --reconstruct layerwise: mean-variance (default there) matches"
              + " each output channel's mean and variance to the dense model's; none")
  @Nullable String correct;

  @Option(
      names = "--tune",
      paramLabel = "HOW",
      completionCandidates = Candidates.OfTune.class,
      description =
          "train after compression, zeros stay zero: none (default), probe (the classifier only),"
              + " taco-v1 (towards the dense logits, images as they are) or taco-tmlr (labels, dense"
              + " logits and features, random crops and flips)")
  @Nullable String tune;

  @Option(
      names = "--tune-passes",
      paramLabel = "N",
      description = "passes over the calibration images (probe 10, taco-v1 300, taco-tmlr 100)")
  @Nullable Integer tunePasses;

  @Option(
      names = "--tune-rate",
      paramLabel = "LR",
      description = "learning rate at the start (probe 0.1, taco-v1 1e-4, taco-tmlr 3e-4)")
  @Nullable Double tuneRate;

  @Option(
      names = "--tune-hold-out",
      paramLabel = "HOW",
      completionCandidates = Candidates.OfAutoOrNone.class,
      description =
          "auto (default: a quarter of the calibration images decides how long to tune, if at all,"
              + " where there are enough) or none (all passes are done)")
  @Nullable String tuneHoldOut;

  @Option(
      names = "--tune-crop",
      paramLabel = "S",
      description = "least part of the area that random crops of taco-tmlr keep (0.25)")
  @Nullable Double tuneCrop;

  @Option(
      names = "--schedule",
      paramLabel = "HOW",
      completionCandidates = Candidates.OfSchedule.class,
      description =
          "one-shot (default), or step by step, tuned by --tune after each: gradual (half of the"
              + " weights that remain at a time, by --solver and --reconstruct), gmp (the same by"
              + " magnitude) or lth (by magnitude after training, then the weights that stay start"
              + " again from the dense model's)")
  @Nullable String schedule;

  @Option(
      names = "--schedule-steps",
      paramLabel = "N",
      description =
          "steps of --schedule, each of which leaves the same part of the weights; default: a half"
              + " at a time, up to the sparsity asked for")
  @Nullable Integer scheduleSteps;

  @Option(
      names = "--features",
      paramLabel = "NODE",
      description =
          "cut the model behind this node and train a new classifier for the class folders of --data,"
              + " in alphabetical order, on the calibration images: for classes that the model does"
              + " not have, and for backbones without a classifier")
  @Nullable String features;

  @Option(
      names = "--finetune-passes",
      paramLabel = "N",
      description =
          "fine-tune the dense model on the calibration images first, for N passes with the task"
              + " loss; 0 (default): not")
  @Nullable Integer finetunePasses;

  @Option(
      names = "--finetune-rate",
      paramLabel = "LR",
      description = "learning rate of --finetune-passes at the start (3e-5)")
  @Nullable Double finetuneRate;

  @Option(
      names = "--compare-ptc",
      paramLabel = "DIR",
      description =
          "compress a second copy on as many generic images of this folder (PTC), and compare both"
              + " on the task and off it")
  @Nullable Path comparePtc;

  @Option(
      names = "--classifier",
      paramLabel = "HOW",
      completionCandidates = Candidates.OfClassifier.class,
      description =
          "the last layer: auto (default: it stays dense where it holds no more than 5 %% of the"
              + " weights), dense or prune")
  @Nullable String classifier;

  @Option(
      names = "--include",
      paramLabel = "GLOB",
      description = "prune only layers whose names match; may be given several times")
  @Nullable List<String> include;

  @Option(
      names = "--exclude",
      paramLabel = "GLOB",
      description = "leave layers whose names match dense; may be given several times")
  @Nullable List<String> exclude;

  @Option(
      names = "--runtime",
      paramLabel = "NAME",
      completionCandidates = Candidates.OfRuntime.class,
      description =
          "onnxruntime (default), or taco4j: layers that ONNX Runtime runs faster with this project's"
              + " operator library, as measured on this machine, become sparse operators; without"
              + " the library the file computes the same, densely; or tensorrt: in the form that"
              + " NVIDIA's TensorRT takes, sizes of --structured as multiples of 8")
  @Nullable String runtime;

  @Option(
      names = "--pack-weights",
      description =
          "keep only weights that are not zero in the file; runtimes unpack them as they load it, so"
              + " speed and results stay the same")
  @Nullable Boolean packWeights;

  @Mixin PreprocessingMixin preprocessing = new PreprocessingMixin();

  @Option(
      names = "--recipe",
      paramLabel = "FILE|NAME",
      completionCandidates = Candidates.OfRecipe.class,
      description =
          "read options from a YAML file, under the same names, or take those of a preset:"
              + " ${COMPLETION-CANDIDATES}; the command 'recipes' says what each is for. Options"
              + " given here go before it. In the file 'layers' is a list of {match, sparsity,"
              + " pattern, solver}, and 'recipe' names one to build on")
  @Nullable String recipe;

  @Option(names = "--seed", paramLabel = "N", description = "seed of everything random (0)")
  @Nullable Long seed;

  @Option(names = "--threads", paramLabel = "N", description = "threads (all processors)")
  @Nullable Integer threads;

  @Option(
      names = "--memory",
      paramLabel = "SIZE",
      description =
          "memory for Gram matrices (layerwise) and for activations that are kept, such as 4g (a"
              + " third of the heap); where it is not enough, layers go in several passes over the"
              + " images, and activations to files; results do not change. The sums of the layer at"
              + " hand (sequential) come on top")
  @Nullable String memory;

  @Option(
      names = "--backend",
      paramLabel = "NAME",
      completionCandidates = Candidates.OfBackend.class,
      description =
          "numerical kernels: auto (default: the processor's best), simd, scalar, or cuda: NVIDIA's"
              + " GPUs; the command 'doctor' says what is missing for it")
  @Nullable String backend;

  @Option(
      names = "--gpu-memory",
      paramLabel = "SIZE",
      description =
          "memory of each GPU that --backend cuda may use, such as 8g (90 %% of what is free)")
  @Nullable String gpuMemory;

  @Option(names = "--json", description = "print report.json to standard output")
  boolean json;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    CommandLine commandLine = java.util.Objects.requireNonNull(spec).commandLine();
    Path folder = java.util.Objects.requireNonNull(out);
    try (ConsoleProgress progress = new ConsoleProgress(commandLine.getErr())) {
      RunReport report = Taco.run(options(), folder, overwrite, progress);
      progress.endStage();
      if (json) {
        new ResultTable(commandLine.getErr(), Terminal.Stream.ERR).print(report);
        commandLine.getOut().print(ReportFiles.toJson(report));
      } else {
        new ResultTable(commandLine.getOut(), Terminal.Stream.OUT).print(report);
      }
      commandLine.getOut().flush();
      commandLine
          .getErr()
          .printf("%nwritten to %s%nsee %s%n", folder, folder.resolve(ReportFiles.PAGE));
      commandLine.getErr().flush();
    }
    return 0;
  }

  private Recipe options() {
    return new Recipe(
        recipe,
        model == null ? null : model.toString(),
        data == null ? null : data.stream().map(Path::toString).toList(),
        classes,
        labels == null ? null : labels.toString(),
        shots,
        heldOut,
        testFraction,
        seed,
        preprocessing.preset,
        preprocessing.mean,
        preprocessing.std,
        preprocessing.resize,
        preprocessing.crop,
        preprocessing.filter,
        preprocessing.channelOrder,
        preprocessing.layout,
        features,
        finetunePasses,
        finetuneRate,
        sparsity,
        pattern,
        misfit,
        structured,
        structures,
        classifier,
        include,
        exclude,
        null,
        schedule,
        scheduleSteps,
        solver,
        damping,
        solverOptions.search,
        solverOptions.timeBudget,
        solverOptions.refit,
        solverOptions.precision,
        solverOptions.bits,
        solverOptions.actOrder,
        solverOptions.sweeps,
        activationBits,
        activationRange,
        reconstruct,
        correct,
        tune,
        tunePasses,
        tuneRate,
        tuneHoldOut,
        tuneCrop,
        comparePtc == null ? null : comparePtc.toString(),
        runtime,
        packWeights,
        threads,
        memory,
        backend,
        gpuMemory);
  }
}
