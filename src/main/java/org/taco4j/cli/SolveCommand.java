package org.taco4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import org.taco4j.LayerProblem;
import org.taco4j.LayerResult;
import org.taco4j.Taco;
import org.taco4j.report.ReportFiles;
import org.taco4j.solve.Damping;
import org.taco4j.solve.Solvers;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code taco solve}. */
@Command(
    name = "solve",
    description = "Solve one layer problem from NumPy files.",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Example, with X: [samples, cols] in Python:",
      "  H = (2 / len(X)) * (X.T @ X);  numpy.save('W.npy', W);  numpy.save('H.npy', H)",
      "  ${ROOT-COMMAND-NAME} solve --weights W.npy --hessian H.npy --pattern 2:4 --out What.npy"
    })
final class SolveCommand implements Callable<Integer> {
  @Option(
      names = "--weights",
      required = true,
      paramLabel = "W.npy",
      description =
          "weights [rows, cols], float32 or float64; a convolution's columns in the order (channel,"
              + " ky, kx), as weight.reshape(rows, -1) gives")
  @Nullable Path weights;

  @Option(
      names = "--hessian",
      required = true,
      paramLabel = "H.npy",
      description = "2/N * X^T X over the N inputs X: [cols, cols], undamped")
  @Nullable Path hessian;

  @Option(
      names = "--hessian-heldout",
      paramLabel = "H2.npy",
      description = "the same over other inputs: the error is measured there too")
  @Nullable Path heldOut;

  @Option(
      names = "--samples",
      paramLabel = "N",
      description = "how many inputs H comes from; --damping auto needs it where H has full rank")
  @Nullable Long samples;

  @Option(
      names = "--pattern",
      paramLabel = "P",
      completionCandidates = Candidates.OfPattern.class,
      description =
          "what is removed: unstructured:0.8, 2:4, block4:0.8, rows4:0.8, columns:0.5 or"
              + " columns:0.5:group=9; the fraction may be left to --sparsity. With --bits alone"
              + " nothing is removed")
  @Nullable String pattern;

  @Option(
      names = "--sparsity",
      paramLabel = "S",
      description = "fraction of the weights to remove, 0 to below 1")
  @Nullable Double sparsity;

  @Option(
      names = "--conv-kernel",
      paramLabel = "KxK",
      description =
          "the weights are a convolution's, with this kernel: groups of N:M and blocks run along its"
              + " input channels")
  @Nullable String kernel;

  @Option(
      names = "--solver",
      paramLabel = "NAME",
      completionCandidates = Candidates.OfSolver.class,
      description =
          "a layer solver; an unknown name lists those there are (" + Solvers.DEFAULT + ")")
  String solver = Solvers.DEFAULT;

  @Option(
      names = "--damping",
      paramLabel = "L",
      description =
          "added to the Hessian's diagonal, relative to its mean (0.01); auto: by cross-validation")
  String damping = String.valueOf(Damping.USUAL);

  @Mixin SolverMixin solverOptions = new SolverMixin();

  @Option(
      names = "--asymmetric",
      description = "with --bits: quantise each row from its minimum to its maximum (default)")
  boolean asymmetric;

  @Option(names = "--symmetric", description = "with --bits: quantise symmetrically about 0")
  boolean symmetric;

  @Option(
      names = "--mse",
      description = "with --bits: search the scale of each row that quantises it best")
  boolean searchScale;

  @Option(names = "--seed", paramLabel = "N", description = "seed of everything random (0)")
  long seed;

  @Option(names = "--threads", paramLabel = "N", description = "threads (all processors)")
  int threads = Runtime.getRuntime().availableProcessors();

  @Option(
      names = "--backend",
      paramLabel = "NAME",
      completionCandidates = Candidates.OfBackend.class,
      description =
          "numerical kernels: auto (default: the processor's best), simd, scalar, or cuda: an NVIDIA"
              + " GPU; the command 'doctor' says what is missing for it")
  String backend = "auto";

  @Option(
      names = "--gpu-memory",
      paramLabel = "SIZE",
      description =
          "memory of the GPU that --backend cuda may use, such as 8g (90 %% of what is free)")
  @Nullable String gpuMemory;

  @Option(
      names = {"-o", "--out"},
      paramLabel = "What.npy",
      description = "write the weights, float32")
  @Nullable Path out;

  @Option(
      names = "--mask",
      paramLabel = "M.npy",
      description = "write the mask, uint8: 1 where a weight was kept")
  @Nullable Path mask;

  @Option(
      names = "--scale",
      paramLabel = "S.npy",
      description = "write the scale of each row of quantised weights, float32")
  @Nullable Path scale;

  @Option(
      names = "--zero",
      paramLabel = "Z.npy",
      description = "write the zero of each row of quantised weights, int32: the code of 0")
  @Nullable Path zero;

  @Option(names = "--json", description = "print the result as JSON to standard output")
  boolean json;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    CommandLine commandLine = Objects.requireNonNull(spec).commandLine();
    if (symmetric && asymmetric) {
      throw new CommandLine.ParameterException(
          commandLine, "--symmetric and --asymmetric exclude each other");
    }
    if (solverOptions.bits == null && (symmetric || asymmetric || searchScale)) {
      throw new CommandLine.ParameterException(
          commandLine,
          "--symmetric, --asymmetric and --mse are about quantised weights; give --bits");
    }
    boolean onlyQuantised = pattern == null && sparsity == null && solverOptions.bits != null;
    LayerProblem problem =
        new LayerProblem(
            Objects.requireNonNull(weights),
            Objects.requireNonNull(hessian),
            heldOut,
            solver,
            Taco.pattern(pattern, onlyQuantised ? Double.valueOf(0) : sparsity),
            Damping.parse(damping),
            solverOptions.options(symmetric, searchScale, seed),
            samples,
            kernel == null ? null : LayerProblem.Kernel.parse(kernel),
            backend,
            gpuMemory,
            threads,
            new LayerProblem.Outputs(out, mask, scale, zero));
    try (ConsoleProgress progress = new ConsoleProgress(commandLine.getErr())) {
      LayerResult result = Taco.solveLayer(problem, progress);
      if (json) {
        commandLine.getOut().print(ReportFiles.toJson(result));
      } else {
        print(result, commandLine.getOut());
      }
      commandLine.getOut().flush();
    }
    return 0;
  }

  private static void print(LayerResult result, PrintWriter out) {
    String number = "%-16s%.6g%n";
    out.printf(Locale.ROOT, number, "layer error", result.layerError());
    if (result.heldOutError() != null) {
      out.printf(Locale.ROOT, number, "held-out error", result.heldOutError());
    }
    out.printf(Locale.ROOT, number, "sparsity", result.sparsity());
    out.printf(Locale.ROOT, number, "damping", result.damping());
    out.printf("%-16s%d of %d%n", "dead columns", result.deadColumns(), result.cols());
    out.printf(Locale.ROOT, "%-16s%.4f%n", "seconds", result.seconds());
    out.printf(Locale.ROOT, "%-16s%.1f%n", "GFLOP/s", result.gflops());
    out.printf("%-16s%s%n", "backend", result.backend());
    out.printf("%-16s%s, %s%n", "solver", result.solver(), result.pattern());
  }
}
