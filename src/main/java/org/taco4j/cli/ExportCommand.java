package org.taco4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import org.taco4j.Taco;
import org.taco4j.bench.OperatorPlan;
import org.taco4j.report.ReportFiles;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code taco export}. */
@Command(
    name = "export",
    description = {
      "Write a pruned model for a runtime that skips its zeros: the layers that are faster so on"
          + " this machine become sparse operators. Or write it small: without its zeros. Or for"
          + " TensorRT.",
      "The file runs everywhere; where the operator library is not loaded it computes the same,"
          + " densely."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Example:",
      "  ${ROOT-COMMAND-NAME} export specialist/model.onnx --runtime taco4j -o fast/model.onnx"
          + " --library fast",
      "  ${ROOT-COMMAND-NAME} export specialist/model.onnx --pack-weights -o small.onnx",
      "  ${ROOT-COMMAND-NAME} export specialist/model.onnx --runtime tensorrt -o gpu.onnx"
    })
final class ExportCommand implements Callable<Integer> {
  @Parameters(index = "0", paramLabel = "MODEL", description = "a pruned ONNX file")
  @Nullable Path model;

  @Option(
      names = "--runtime",
      paramLabel = "NAME",
      completionCandidates = Candidates.OfRuntime.class,
      description =
          "taco4j: ONNX Runtime with this project's operator library; tensorrt: NVIDIA's TensorRT,"
              + " nothing in the file that it refuses; or onnxruntime (default)")
  String runtime = "onnxruntime";

  @Option(
      names = "--pack-weights",
      description =
          "keep only weights that are not zero in the file; runtimes unpack them as they load it, so"
              + " speed and results stay the same")
  boolean packWeights;

  @Option(
      names = {"-o", "--out"},
      required = true,
      paramLabel = "FILE",
      description = "the ONNX file to write")
  @Nullable Path out;

  @Option(
      names = "--library",
      paramLabel = "DIR",
      description = "write the operator library into this folder, for programs in C++ or Python")
  @Nullable Path library;

  @Option(
      names = "--threads",
      paramLabel = "N",
      description = "threads inside an operator that the choice is made for (1)")
  int threads = 1;

  @Option(
      names = "--batch",
      paramLabel = "N",
      description = "images in a run that the choice is made for (1)")
  int batch = 1;

  @Option(
      names = "--seconds",
      paramLabel = "S",
      description = "about how long to measure the result against MODEL (3)")
  double seconds = 3;

  @Option(names = "--layers", description = "print what became of each layer, with its times")
  boolean layers;

  @Option(names = "--json", description = "print the result as JSON to standard output")
  boolean json;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    BenchCommand.requirePositive(threads, batch, seconds);
    if (runtime.equals("tensorrt")) {
      BenchCommand.refuse(
          Objects.requireNonNull(spec),
          "--runtime tensorrt chooses no operators and measures nothing, bench --runtime tensorrt"
              + " does: leave out ",
          List.of("--threads", "--batch", "--seconds", "--layers"));
    }
    CommandLine commandLine = Objects.requireNonNull(spec).commandLine();
    PrintWriter output = commandLine.getOut();
    try (ConsoleProgress progress = new ConsoleProgress(commandLine.getErr())) {
      Taco.ExportResult result =
          Taco.export(
              new Taco.ExportRequest(
                  Objects.requireNonNull(model),
                  runtime,
                  packWeights,
                  Objects.requireNonNull(out),
                  library,
                  threads,
                  batch,
                  seconds),
              progress);
      progress.endStage();
      if (json) {
        output.print(ReportFiles.toJson(result));
      } else {
        print(result, output);
      }
      output.flush();
    }
    return 0;
  }

  private void print(Taco.ExportResult result, PrintWriter output) {
    if (layers) {
      printLayers(result.layers(), output);
    }
    if (!result.layers().isEmpty()) {
      output.printf("%d of %d layers rewritten%n", result.rewritten(), result.layers().size());
    }
    if (result.tensorRt() != null) {
      output.printf(
          "%d of %d layers have the pattern 2:4, %d multiply 8-bit integers%n",
          result.tensorRt().twoOfFour().size(),
          result.tensorRt().layers(),
          result.tensorRt().quantized());
    }
    if (result.latency() != null) {
      output.printf(
          Locale.ROOT,
          "p50 %.3f ms, dense %.3f ms; %s, batch %d, %d thread(s)%n",
          result.latency().compressed().p50Millis(),
          result.latency().dense().p50Millis(),
          BenchCommand.ratio(result.latency()),
          result.latency().batch(),
          result.latency().threads());
    }
    output.printf(
        Locale.ROOT,
        "%.2f MB written to %s; the model before has %.2f MB%n",
        result.bytes() / 1e6,
        result.model(),
        result.sourceBytes() / 1e6);
    if (result.library() != null) {
      output.printf("operator library in %s%n", result.library());
    }
  }

  /** A line for each layer. */
  static void printLayers(List<OperatorPlan.LayerChoice> layers, PrintWriter output) {
    int width = layers.stream().mapToInt(layer -> layer.layer().length()).max().orElse(5);
    String format = "%-" + Math.max(width, 5) + "s %10s %10s  %s%n";
    output.printf(format, "layer", "dense ms", "sparse ms", "");
    for (OperatorPlan.LayerChoice layer : layers) {
      output.printf(
          format,
          layer.layer(),
          millis(layer.denseMillis()),
          millis(layer.sparseMillis()),
          layer.operator() != null ? layer.operator() : "dense: " + layer.whyDense());
    }
  }

  private static String millis(@Nullable Double millis) {
    return millis == null ? "-" : String.format(Locale.ROOT, "%.3f", millis);
  }
}
