package org.taco4j.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
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
    footer = {
      "",
      "Example:",
      "  taco specialize resnet50.onnx --data photos --shots 10 --sparsity 0.6 --out specialist",
      "  taco specialize vit.onnx --data photos --shots 10 --sparsity 0.8 --tune taco-tmlr"
          + " --tune-passes 6 --out specialist"
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
      description = "folder to write: model.onnx, report.json, layers.csv, MODEL_CARD.md, ...")
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
      description =
          "what is removed: unstructured (default), N:M such as 2:4, block4 (neighbouring inputs),"
              + " rows4 (neighbouring outputs) or columns; with its sparsity as in block4:0.8, or"
              + " with --sparsity")
  @Nullable String pattern;

  @Option(
      names = "--structured",
      paramLabel = "S",
      description = "fraction of the units of each hidden dimension to remove for good, above 0")
  @Nullable Double structured;

  @Option(
      names = "--structures",
      paramLabel = "KIND",
      split = ",",
      description =
          "which hidden dimensions --structured is for: mlp, channels, heads; default: mlp,channels")
  @Nullable List<String> structures;

  @Option(
      names = "--solver",
      paramLabel = "NAME",
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
      names = "--reconstruct",
      paramLabel = "HOW",
      description =
          "sequential (default with --solver hybrid: each layer is solved on what the layers"
              + " compressed before it give, towards the dense model's outputs) or layerwise (each on"
              + " its own, on dense inputs)")
  @Nullable String reconstruct;

  @Option(
      names = "--correct",
      paramLabel = "HOW",
      description =
          "channel correction after --reconstruct layerwise: mean-variance (default there) matches"
              + " each output channel's mean and variance to the dense model's; none")
  @Nullable String correct;

  @Option(
      names = "--tune",
      paramLabel = "HOW",
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

  @Mixin PreprocessingMixin preprocessing = new PreprocessingMixin();

  @Option(
      names = "--recipe",
      paramLabel = "FILE",
      description =
          "read options from YAML, under the same names; options given here go before it."
              + " 'layers' there is a list of {match, sparsity, pattern, solver}")
  @Nullable Path recipeFile;

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
      description = "numerical kernels: auto (default), simd or scalar")
  @Nullable String backend;

  @Option(names = "--json", description = "print report.json to standard output")
  boolean json;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    CommandLine commandLine = java.util.Objects.requireNonNull(spec).commandLine();
    Recipe recipe = recipeFile == null ? Recipe.empty() : Recipe.read(recipeFile);
    Path folder = java.util.Objects.requireNonNull(out);
    try (ConsoleProgress progress = new ConsoleProgress(commandLine.getErr())) {
      RunReport report = Taco.run(recipe.overlaidWith(options()), folder, overwrite, progress);
      progress.endStage();
      summarize(report, folder, commandLine.getErr());
      if (json) {
        commandLine.getOut().print(ReportFiles.toJson(report));
        commandLine.getOut().flush();
      }
    }
    return 0;
  }

  private Recipe options() {
    return new Recipe(
        model == null ? null : model.toString(),
        data == null ? null : data.stream().map(Path::toString).toList(),
        classes,
        labels == null ? null : labels.toString(),
        shots,
        heldOut,
        testFraction,
        solver,
        pattern,
        sparsity,
        damping,
        solverOptions.search,
        solverOptions.timeBudget,
        solverOptions.refit,
        solverOptions.precision,
        solverOptions.bits,
        solverOptions.actOrder,
        solverOptions.sweeps,
        structured,
        structures,
        reconstruct,
        correct,
        tune,
        tunePasses,
        tuneRate,
        tuneHoldOut,
        tuneCrop,
        schedule,
        scheduleSteps,
        features,
        finetunePasses,
        finetuneRate,
        comparePtc == null ? null : comparePtc.toString(),
        classifier,
        include,
        exclude,
        null,
        preprocessing.preset,
        preprocessing.mean,
        preprocessing.std,
        preprocessing.resize,
        preprocessing.crop,
        preprocessing.filter,
        preprocessing.channelOrder,
        preprocessing.layout,
        seed,
        threads,
        memory,
        backend);
  }

  private static void summarize(RunReport report, Path folder, java.io.PrintWriter err) {
    RunReport.ModelResult dense = report.dense();
    RunReport.ModelResult compressed = report.compressed();
    err.printf(Locale.ROOT, "%n%-18s %22s %22s%n", "", "dense", "compressed");
    err.printf(Locale.ROOT, "%-18s %22s %22s%n", "top-1", accuracy(dense), accuracy(compressed));
    if (report.tuning() != null && report.untuned() != null) {
      err.printf(
          Locale.ROOT,
          "%-18s %22s %22s%n",
          "before tuning",
          "",
          "%.1f %%".formatted(100 * report.untuned().top1()));
    }
    if (report.ptc() != null) {
      err.printf(
          Locale.ROOT,
          "%-18s %22s %22s%n",
          "PTC, not TACO",
          "",
          "%.1f %%".formatted(100 * report.ptc().task().ptc().top1()));
    }
    err.printf(
        Locale.ROOT,
        "%-18s %,22d %,22d   (%.1f %% sparse)%n",
        "non-zero weights",
        dense.nonZeroWeights(),
        compressed.nonZeroWeights(),
        100 * report.sparsity());
    err.printf(
        Locale.ROOT,
        "%-18s %19.2f MB %19.2f MB%n",
        "gzipped file",
        dense.gzipBytes() / 1e6,
        compressed.gzipBytes() / 1e6);
    err.printf(
        Locale.ROOT,
        "%-18s %19.2f ms %19.2f ms   (%.2fx; 5th to 95th percentile %.2f to %.2f)%n",
        "latency p50",
        report.latency().dense().p50Millis(),
        report.latency().compressed().p50Millis(),
        report.latency().ratio(),
        report.latency().ratioLow(),
        report.latency().ratioHigh());
    err.printf("%nwritten to %s; start with MODEL_CARD.md%n", folder);
    err.flush();
  }

  private static String accuracy(RunReport.ModelResult result) {
    return result.top1() == null || result.top1Low() == null || result.top1High() == null
        ? "not measured"
        : String.format(
            Locale.ROOT,
            "%.1f %% (%.1f to %.1f)",
            100 * result.top1(),
            100 * result.top1Low(),
            100 * result.top1High());
  }
}
