package org.taco4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import org.taco4j.Taco;
import org.taco4j.bench.LatencyComparison;
import org.taco4j.report.ReportFiles;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code taco check}. */
@Command(
    name = "check",
    description = {
      "Say what speed-up to expect on this machine from pruning a model, before it is pruned: a copy"
          + " is pruned by magnitude, rewritten for the library of sparse operators, and measured."
          + " No images are needed. All prunable layers but the classifier are pruned.",
      "It says nothing of accuracy; that takes a run of specialize."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {"", "Example:", "  ${ROOT-COMMAND-NAME} check model.onnx --sparsity 0.7,0.8,0.9"})
final class CheckCommand implements Callable<Integer> {
  @Parameters(index = "0", paramLabel = "MODEL", description = "a dense ONNX file")
  @Nullable Path model;

  @Option(
      names = "--sparsity",
      required = true,
      split = ",",
      paramLabel = "S",
      description = "fraction of the weights to remove, 0 to below 1; several with commas")
  @Nullable List<Double> sparsities;

  @Option(
      names = "--pattern",
      paramLabel = "P",
      completionCandidates = Candidates.OfSparsePattern.class,
      description = "unstructured (default) or rows4 (blocks of four neighbouring outputs)")
  String pattern = "unstructured";

  @Option(names = "--threads", paramLabel = "N", description = "threads inside an operator (1)")
  int threads = 1;

  @Option(names = "--batch", paramLabel = "N", description = "images in a run (1)")
  int batch = 1;

  @Option(
      names = "--seconds",
      paramLabel = "S",
      description = "about how long to measure each sparsity (3)")
  double seconds = 3;

  @Option(names = "--layers", description = "print what would become of each layer, with its times")
  boolean layers;

  @Option(names = "--json", description = "print the result as JSON to standard output")
  boolean json;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    BenchCommand.requirePositive(threads, batch, seconds);
    CommandLine commandLine = Objects.requireNonNull(spec).commandLine();
    PrintWriter out = commandLine.getOut();
    try (ConsoleProgress progress = new ConsoleProgress(commandLine.getErr())) {
      Taco.CheckResult result =
          Taco.check(
              new Taco.CheckRequest(
                  Objects.requireNonNull(model),
                  Objects.requireNonNull(sparsities),
                  pattern,
                  threads,
                  batch,
                  seconds),
              progress);
      progress.endStage();
      if (json) {
        out.print(ReportFiles.toJson(result));
      } else {
        print(result, out);
      }
      out.flush();
    }
    return 0;
  }

  private void print(Taco.CheckResult result, PrintWriter out) {
    if (layers) {
      for (Taco.CheckedSparsity checked : result.sparsities()) {
        out.printf(Locale.ROOT, "%n%.1f %% zeros%n", 100 * checked.sparsity());
        ExportCommand.printLayers(checked.layers(), out);
      }
      out.println();
    }
    out.printf(
        "%-10s %10s %10s %8s %16s %8s   %s%n",
        "sparsity", "dense ms", "sparse ms", "ratio", "5th to 95th", "fastest", "layers rewritten");
    for (Taco.CheckedSparsity checked : result.sparsities()) {
      LatencyComparison latency = checked.latency();
      out.printf(
          Locale.ROOT,
          "%-10s %10.3f %10.3f %7.2fx %16s %7.2fx   %d of %d%n",
          String.format(Locale.ROOT, "%.1f %%", 100 * checked.sparsity()),
          latency.dense().p50Millis(),
          latency.compressed().p50Millis(),
          latency.ratio(),
          String.format(Locale.ROOT, "%.2f to %.2f", latency.ratioLow(), latency.ratioHigh()),
          latency.ratioOfFastest(),
          checked.rewritten(),
          checked.layers().size());
    }
    LatencyComparison first = result.sparsities().getFirst().latency();
    out.printf(
        "%s zeros, batch %d, %d thread(s); times are medians, ratio that of pairs of runs; fastest: the"
            + " ratio by each one's fastest quarter of runs%n",
        result.pattern(), first.batch(), first.threads());
    if (result.sparsities().stream().anyMatch(checked -> checked.latency().noisy())) {
      out.println(
          "the spread is wide: something else is running; the last ratio bears that better");
    }
  }
}
