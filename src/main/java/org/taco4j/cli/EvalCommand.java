package org.taco4j.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import org.taco4j.Taco;
import org.taco4j.report.ReportFiles;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code taco eval}. */
@Command(
    name = "eval",
    description = "Measure the accuracy of a model, dense or specialist, on a task's test images.",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {"", "Example:", "  ${ROOT-COMMAND-NAME} eval specialist/model.onnx --data images"})
final class EvalCommand implements Callable<Integer> {
  @Parameters(index = "0", paramLabel = "MODEL", description = "an ONNX file")
  @Nullable Path model;

  @Option(
      names = "--data",
      required = true,
      paramLabel = "DIR",
      description =
          "image folder of the task; its test/ images, or where there is no split the share that"
              + " --test-fraction says; may be given several times")
  @Nullable List<Path> data;

  @Option(
      names = "--classes",
      paramLabel = "NAME",
      split = ",",
      description = "only these classes (folder or display names); default: all folders")
  @Nullable List<String> classes;

  @Option(
      names = "--labels",
      paramLabel = "FILE",
      description = "which output of the model is which class, as for specialize")
  @Nullable Path labels;

  @Mixin PreprocessingMixin preprocessing = new PreprocessingMixin();

  @Option(
      names = "--test-fraction",
      paramLabel = "F",
      description =
          "share of each class to evaluate where there is no test folder; default: for a specialist"
              + " the images that were set aside when it was made, else all (1)")
  @Nullable Double testFraction;

  @Option(
      names = "--seed",
      paramLabel = "N",
      description =
          "seed of the choice of that share; default: that of the run which made a specialist, else"
              + " 0")
  @Nullable Long seed;

  @Option(names = "--threads", paramLabel = "N", description = "threads (all processors)")
  int threads = Runtime.getRuntime().availableProcessors();

  @Option(names = "--json", description = "print the result as JSON to standard output")
  boolean json;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    CommandLine commandLine = Objects.requireNonNull(spec).commandLine();
    try (ConsoleProgress progress = new ConsoleProgress(commandLine.getErr())) {
      Taco.EvalResult result =
          Taco.evaluate(
              new Taco.EvalRequest(
                  Objects.requireNonNull(model),
                  Objects.requireNonNull(data),
                  classes == null ? List.of() : classes,
                  Optional.ofNullable(labels),
                  preprocessing.options(),
                  Optional.ofNullable(testFraction),
                  Optional.ofNullable(seed),
                  threads),
              progress);
      if (json) {
        commandLine.getOut().print(ReportFiles.toJson(result));
      } else {
        print(result, commandLine.getOut());
      }
      commandLine.getOut().flush();
    }
    return 0;
  }

  private static void print(Taco.EvalResult result, java.io.PrintWriter out) {
    Taco.EvalResult.AllOutputs all = result.allOutputs();
    out.printf(
        Locale.ROOT,
        "over the task's %d classes: top-1 %.1f %% (95 %% interval %.1f to %.1f)%s, %d images%n",
        result.classes(),
        100 * result.top1(),
        100 * result.top1Low(),
        100 * result.top1High(),
        // Of five classes, it is always right.
        result.classes() > 5
            ? String.format(Locale.ROOT, ", top-5 %.1f %%", 100 * result.top5())
            : "",
        result.images());
    if (all.outputs() > result.classes()) {
      out.printf(
          Locale.ROOT,
          "over all %d outputs:       top-1 %.1f %% (95 %% interval %.1f to %.1f), top-5 %.1f %%%n",
          all.outputs(),
          100 * all.top1(),
          100 * all.top1Low(),
          100 * all.top1High(),
          100 * all.top5());
    }
  }
}
