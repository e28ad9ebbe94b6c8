package org.taco4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import org.taco4j.Taco;
import org.taco4j.bench.DeviceComparison;
import org.taco4j.bench.LatencyComparison;
import org.taco4j.common.TacoException;
import org.taco4j.report.ReportFiles;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code taco bench}. */
@Command(
    name = "bench",
    description =
        "Measure the latency of a model against the dense one, in turns in one process, in ONNX"
            + " Runtime on the CPU or, with --runtime, on an NVIDIA GPU; or, with --calibrate-ops,"
            + " the times of layers for the choice of operators.",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ${ROOT-COMMAND-NAME} bench specialist/model.onnx --against model.onnx",
      "  ${ROOT-COMMAND-NAME} bench small.onnx --against model.onnx --runtime tensorrt --batch 1,8",
      "  ${ROOT-COMMAND-NAME} bench --calibrate-ops model.onnx"
    })
final class BenchCommand implements Callable<Integer> {
  @Parameters(
      index = "0",
      arity = "0..1",
      paramLabel = "MODEL",
      description =
          "the compressed ONNX file; with --calibrate-ops the model whose layers are timed, or none"
              + " for those of common networks")
  @Nullable Path model;

  @Option(
      names = "--calibrate-ops",
      description =
          "time layers, dense and with the library of sparse operators, at several sparsities, and"
              + " keep the times for export, check and specialize --runtime taco4j")
  boolean calibrateOps;

  @Option(names = "--against", paramLabel = "DENSE", description = "the dense ONNX file")
  @Nullable Path against;

  @Option(
      names = "--runtime",
      paramLabel = "NAME",
      completionCandidates = Candidates.OfBenchRuntime.class,
      description =
          "onnxruntime: on the CPU (default); tensorrt; onnxruntime-cuda or onnxruntime-tensorrt:"
              + " ONNX Runtime with its providers for GPUs, where onnxruntime_gpu is on the class"
              + " path. Not yet verified on a GPU")
  String runtime = "onnxruntime";

  @Option(
      names = "--precision",
      paramLabel = "P",
      completionCandidates = Candidates.OfEnginePrecision.class,
      description =
          "what TensorRT may compute in: fp32 (default; without TF32), fp16, or int8: integers"
              + " where the model has QuantizeLinear and DequantizeLinear, else fp16; zeros of 2:4"
              + " gain in the latter two only")
  @Nullable String precision;

  @Option(
      names = "--no-sparse-tactics",
      description = "TensorRT multiplies the zeros of the pattern 2:4, too")
  boolean noSparseTactics;

  @Option(
      names = "--threads",
      paramLabel = "N",
      description = "threads inside an operator, on the CPU (1)")
  int threads = 1;

  @Option(
      names = "--batch",
      split = ",",
      paramLabel = "N",
      description = "images in a run (1); on a GPU several numbers, one measurement for each")
  List<Integer> batches = List.of(1);

  @Option(names = "--seconds", paramLabel = "S", description = "about how long to measure (5)")
  double seconds = 5;

  @Option(names = "--json", description = "print the result as JSON to standard output")
  boolean json;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    for (int batch : batches) {
      requirePositive(threads, batch, seconds);
    }
    CommandLine commandLine = Objects.requireNonNull(spec).commandLine();
    PrintWriter out = commandLine.getOut();
    if (calibrateOps) {
      refuse(
          "--calibrate-ops times layers on the CPU, for its operator library: leave out ",
          List.of("--runtime", "--precision", "--no-sparse-tactics", "--seconds"));
      calibrate(commandLine);
      return 0;
    }
    if (model == null || against == null) {
      throw new CommandLine.MissingParameterException(
          commandLine,
          spec.args().getFirst(),
          "name two models, MODEL and --against=DENSE, or --calibrate-ops");
    }
    Taco.checkBenchRuntime(runtime);
    if (!runtime.equals("onnxruntime")) {
      refuse(
          "--runtime "
              + runtime
              + " runs models on the GPU, and threads are of the CPU: leave out ",
          List.of("--threads"));
      onDevice(commandLine, model, against);
      return 0;
    }
    if (precision != null || noSparseTactics) {
      throw TacoException.usage(
          "--precision and --no-sparse-tactics are for --runtime tensorrt or onnxruntime-tensorrt");
    }
    int batch = onlyBatch();
    Taco.BenchResult result = Taco.bench(against, model, threads, batch, seconds);
    LatencyComparison latency = result.latency();
    if (latency.batch() != batch) {
      spec.commandLine()
          .getErr()
          .println(
              "note: a model's batch is fixed: both run " + latency.batch() + " images at once");
    }
    if (json) {
      out.print(ReportFiles.toJson(result));
    } else {
      out.printf("%-12s %10s %10s %10s   milliseconds%n", "", "p50", "p90", "p99");
      row(out, "dense", latency.dense());
      row(out, "compressed", latency.compressed());
      out.printf(
          Locale.ROOT,
          "%s, batch %d, %d thread(s)%n",
          ratio(latency),
          latency.batch(),
          latency.threads());
    }
    out.flush();
    return 0;
  }

  /** Throws an exception of kind USAGE where one of these options was given. */
  private void refuse(String why, List<String> options) {
    refuse(Objects.requireNonNull(spec), why, options);
  }

  /** {@link #refuse(String, List)} of any command. */
  static void refuse(CommandLine.Model.CommandSpec command, String why, List<String> options) {
    CommandLine.ParseResult given = command.commandLine().getParseResult();
    for (String option : options) {
      if (given.hasMatchedOption(option)) {
        throw TacoException.usage(why + option);
      }
    }
  }

  /** Throws an exception of kind USAGE where there would be nothing to measure. */
  static void requirePositive(int threads, int batch, double seconds) {
    if (threads < 1 || batch < 1 || !(seconds > 0)) {
      throw TacoException.usage("--threads, --batch and --seconds must be positive");
    }
  }

  /** Median and spread, and what that of the fastest runs is. */
  static String ratio(LatencyComparison latency) {
    return String.format(
        Locale.ROOT,
        "ratio %.2fx, median of %d pairs (5th to 95th percentile %.2f to %.2f%s); %.2fx by the fastest"
            + " quarter of the runs",
        latency.ratio(),
        latency.pairs(),
        latency.ratioLow(),
        latency.ratioHigh(),
        latency.noisy() ? ": noisy" : "",
        latency.ratioOfFastest());
  }

  private int onlyBatch() {
    if (batches.size() != 1) {
      throw TacoException.usage("--batch takes one number on the CPU, not " + batches);
    }
    return batches.getFirst();
  }

  private void onDevice(CommandLine commandLine, Path compressed, Path dense) {
    try (ConsoleProgress progress = new ConsoleProgress(commandLine.getErr())) {
      Taco.DeviceBenchResult result =
          Taco.bench(
              new Taco.DeviceBenchRequest(
                  dense,
                  compressed,
                  runtime,
                  precision == null ? "fp32" : precision,
                  !noSparseTactics,
                  batches,
                  seconds),
              progress);
      progress.endStage();
      PrintWriter out = commandLine.getOut();
      if (json) {
        out.print(ReportFiles.toJson(result));
      } else {
        print(result, out);
      }
      out.flush();
    }
  }

  /** A line for each model and batch, and what became of the layers. */
  static void print(Taco.DeviceBenchResult result, PrintWriter out) {
    out.printf(
        "%s on %s, %s%s%n",
        result.runtime(),
        result.device(),
        result.precision(),
        result.sparseTactics() ? ", zeros of 2:4 may be skipped" : "");
    out.printf("%-18s %10s %10s %10s   milliseconds %10s%n", "", "p50", "p90", "p99", "images/s");
    for (DeviceComparison batch : result.batches()) {
      LatencyComparison times = batch.onDevice() != null ? batch.onDevice() : batch.withCopies();
      deviceRow(out, "dense", batch.batch(), times.dense(), batch.denseImagesPerSecond());
      deviceRow(
          out, "compressed", batch.batch(), times.compressed(), batch.compressedImagesPerSecond());
      out.printf(
          Locale.ROOT,
          "  %s%s%n",
          ratio(times),
          batch.onDevice() == null
              ? ", copies of images and results included"
              : String.format(
                  Locale.ROOT,
                  "; with copies %.3f to %.3f ms, %.2fx",
                  batch.withCopies().dense().p50Millis(),
                  batch.withCopies().compressed().p50Millis(),
                  batch.withCopies().ratio()));
    }
    if (result.compressed() != null) {
      List<String> sparse = result.compressed().sparseTactics();
      out.printf(
          "%d of %d layers of the engine skip zeros%s%n",
          sparse.size(),
          result.compressed().layers(),
          sparse.isEmpty() ? "" : ": " + String.join(", ", sparse));
    }
    if (result.compressedNodes() != null) {
      out.printf("nodes by provider: %s%n", result.compressedNodes());
    }
  }

  private static void deviceRow(
      PrintWriter out,
      String name,
      int batch,
      LatencyComparison.Percentiles p,
      double imagesPerSecond) {
    out.printf(
        Locale.ROOT,
        "%-18s %10.3f %10.3f %10.3f                %10.0f%n",
        name + ", batch " + batch,
        p.p50Millis(),
        p.p90Millis(),
        p.p99Millis(),
        imagesPerSecond);
  }

  private void calibrate(CommandLine commandLine) {
    if (against != null) {
      throw TacoException.usage("--calibrate-ops compares no models: leave out --against");
    }
    try (ConsoleProgress progress = new ConsoleProgress(commandLine.getErr())) {
      Taco.CalibrationResult result =
          Taco.calibrateOperators(model, threads, onlyBatch(), progress);
      progress.endStage();
      PrintWriter out = commandLine.getOut();
      if (json) {
        out.print(ReportFiles.toJson(result));
      } else {
        out.printf(
            "%d times measured; %d layers in %s%n",
            result.measured(), result.layers(), result.table());
      }
      out.flush();
    }
  }

  private static void row(PrintWriter out, String name, LatencyComparison.Percentiles p) {
    out.printf(
        Locale.ROOT,
        "%-12s %10.3f %10.3f %10.3f%n",
        name,
        p.p50Millis(),
        p.p90Millis(),
        p.p99Millis());
  }
}
