package org.taco4j;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.Backends;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.data.NpyFile;
import org.taco4j.solve.CrossValidatedDamping;
import org.taco4j.solve.Damping;
import org.taco4j.solve.GaussianHalves;
import org.taco4j.solve.Hessian;
import org.taco4j.solve.LayerError;
import org.taco4j.solve.LayerSolution;
import org.taco4j.solve.Pattern;
import org.taco4j.solve.SolveRequest;
import org.taco4j.solve.Solver;
import org.taco4j.solve.Solvers;

/** Solves a {@link LayerProblem}: files in, files and a {@link LayerResult} out. */
final class LayerProblemSolver {
  /** By how much, relative to √(H_ii H_jj), mirrored elements may differ: rounding in float32. */
  private static final double ASYMMETRY = 1e-5;

  private final LayerProblem problem;
  private final Notices notices;

  LayerProblemSolver(LayerProblem problem, Notices notices) {
    this.problem = problem;
    this.notices = notices;
  }

  LayerResult solve() {
    Solver solver = Solvers.create(problem.solver(), problem.options());
    if (problem.options().quantization() != null) {
      throw TacoException.usage("--bits: solver " + solver.name() + " does not quantise");
    }
    if (problem.samples() != null && problem.samples() < 1) {
      throw TacoException.usage("--samples must be at least 1, it is " + problem.samples());
    }
    refuseOverwriting();
    NpyFile weightsFile = NpyFile.read(problem.weights());
    int[] shape = weightsFile.shape();
    if (shape.length != 2 || shape[0] < 1 || shape[1] < 1) {
      throw TacoException.data(
          "%s: shape %s; weights are [rows, cols], a convolution's unfolded with reshape(rows, -1)"
              .formatted(problem.weights(), weightsFile.describeShape()));
    }
    int rows = shape[0];
    int cols = shape[1];
    float[] weights = weightsFile.floats();
    for (int i = 0; i < weights.length; i++) {
      requireFinite(problem.weights(), weights[i], i, cols);
    }
    long samples = problem.samples() == null ? 0 : problem.samples();
    Hessian hessian = readHessian(problem.hessian(), weightsFile, samples);
    Hessian unseen =
        problem.heldOut() == null ? null : readHessian(problem.heldOut(), weightsFile, 0);

    try (Workers workers = new Workers(problem.threads())) {
      Backend backend = Backends.choose(problem.backend(), workers).backend();
      SolveRequest request =
          new SolveRequest(
              problem.weights().toString(),
              weights,
              rows,
              cols,
              hessian,
              order(cols),
              problem.pattern(),
              Damping.USUAL);
      if (!solver.supports(problem.pattern())) {
        throw TacoException.usage(
            "solver %s cannot follow the pattern %s".formatted(solver.name(), problem.pattern()));
      }
      CrossValidatedDamping.Choice choice = null;
      if (problem.damping() instanceof Damping.Fixed fixed) {
        request = request.withDamping(fixed.value());
      } else {
        choice = chooseDamping(request, solver, backend);
        request = choice == null ? request : request.withDamping(choice.damping());
      }
      LayerSolution solution = solver.solve(request, backend);
      return finish(request, solution, unseen, choice, backend);
    }
  }

  private void refuseOverwriting() {
    List<Path> places = new ArrayList<>();
    for (Path path : new Path[] {problem.weights(), problem.hessian(), problem.heldOut()}) {
      if (path != null) {
        places.add(path.toAbsolutePath().normalize());
      }
    }
    for (Path path : new Path[] {problem.outputs().weights(), problem.outputs().mask()}) {
      if (path != null) {
        Path place = path.toAbsolutePath().normalize();
        if (places.contains(place)) {
          throw TacoException.usage(
              path + " is named twice, among the files to read and write; give it another name");
        }
        places.add(place);
      }
    }
  }

  private static void requireFinite(Path file, double value, int index, int cols) {
    if (!Double.isFinite(value)) {
      throw TacoException.data(
          "%s: element [%d, %d] is %s as float32; all must be finite"
              .formatted(file, index / cols, index % cols, value));
    }
  }

  private static Hessian readHessian(Path path, NpyFile weights, long samples) {
    NpyFile file = NpyFile.read(path);
    int[] shape = file.shape();
    int cols = weights.shape()[1];
    if (shape.length != 2 || shape[0] != cols || shape[1] != cols) {
      throw TacoException.data(
          "%s: shape %s; a Hessian for weights %s (%s) is [%d, %d]"
              .formatted(
                  path, file.describeShape(), weights.describeShape(), weights.file(), cols, cols));
    }
    double[] h = file.doubles();
    for (int i = 0; i < h.length; i++) {
      requireFinite(path, (float) h[i], i, cols);
    }
    for (int i = 0; i < cols; i++) {
      if (h[i * cols + i] < 0) {
        throw TacoException.data(
            "%s: diagonal element %d is %s; H = 2/N · XᵀX has none below 0"
                .formatted(path, i, h[i * cols + i]));
      }
    }
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j < i; j++) {
        double lower = h[i * cols + j];
        double upper = h[j * cols + i];
        double scale = Math.sqrt(h[i * cols + i]) * Math.sqrt(h[j * cols + j]);
        if (Math.abs(lower - upper) > ASYMMETRY * scale) {
          throw TacoException.data(
              "%s: not symmetric: element [%d, %d] is %s, [%d, %d] is %s"
                  .formatted(path, i, j, lower, j, i, upper));
        }
        h[i * cols + j] = (lower + upper) / 2;
        h[j * cols + i] = h[i * cols + j];
      }
    }
    return new Hessian(DoubleMatrix.of(h, cols, cols), samples);
  }

  /** The order of columns along which groups run. */
  private int[] order(int cols) {
    LayerProblem.Kernel kernel = problem.kernel();
    int positions = kernel == null ? 1 : kernel.positions();
    if (cols % positions != 0) {
      throw TacoException.data(
          "%s: %d columns are no multiple of the %d positions of a %s kernel"
              .formatted(problem.weights(), cols, positions, kernel));
    }
    Pattern pattern = problem.pattern();
    if (!(pattern instanceof Pattern.NM || pattern instanceof Pattern.Block)) {
      return SolveRequest.naturalOrder(cols);
    }
    int channels = cols / positions;
    if (channels % pattern.groupSize() != 0) {
      throw TacoException.usage(
          "%s: the pattern %s needs a multiple of %d input channels, there are %d"
              .formatted(problem.weights(), pattern, pattern.groupSize(), channels));
    }
    return SolveRequest.channelOrder(channels, positions);
  }

  /** The choice of λ; null where there is nothing to choose it by, which is noted. */
  private CrossValidatedDamping.@Nullable Choice chooseDamping(
      SolveRequest request, Solver solver, Backend backend) {
    if (!solver.usesDamping()) {
      keepUsual("solver " + solver.name() + " uses no damping, so none was chosen");
      return null;
    }
    GaussianHalves halves = new GaussianHalves(request.hessian(), backend);
    int rank = halves.rank();
    int live = request.cols() - request.hessian().deadColumns();
    long samples = request.hessian().samples();
    if (samples == 0 && rank == live) {
      keepUsual(
          "the Hessian has full rank and may come from any number of samples; give --samples to"
              + " have the damping chosen; it stays "
              + Damping.USUAL);
      return null;
    }
    if (samples == 0) {
      samples = rank;
      notices.add(
          "samples-inferred",
          problem.hessian().toString(),
          "the Hessian has rank %d in %d live columns, which is taken for the number of samples"
              .formatted(rank, live),
          rank);
    }
    if (samples < rank) {
      throw TacoException.data(
          "%s: a Hessian of rank %d cannot come from --samples %d"
              .formatted(problem.hessian(), rank, samples));
    }
    if (samples < 2) {
      keepUsual(samples + " samples cannot be halved to choose the damping; it stays 0.01");
      return null;
    }
    return CrossValidatedDamping.choose(
        request, solver, halves.draw(samples, problem.options().seed()), backend);
  }

  private void keepUsual(String why) {
    notices.add("damping-not-chosen", problem.hessian().toString(), why, Damping.USUAL);
  }

  private LayerResult finish(
      SolveRequest request,
      LayerSolution solution,
      @Nullable Hessian unseen,
      CrossValidatedDamping.@Nullable Choice choice,
      Backend backend) {
    int rows = request.rows();
    int cols = request.cols();
    float[] before = request.weights();
    float[] after = solution.weights();
    double error = LayerError.relative(before, after, rows, cols, request.hessian(), backend);
    Double heldOut =
        unseen == null ? null : LayerError.relative(before, after, rows, cols, unseen, backend);
    if (!Double.isFinite(error)) {
      throw TacoException.numerical(
          "%s: the layer-wise error is %s; raise --damping".formatted(problem.weights(), error));
    }
    if (solution.dampingEscalations() > 0) {
      notices.add(
          "extra-damping",
          problem.hessian().toString(),
          "the Hessian could be factored only with damping " + solution.damping(),
          solution.damping());
    }
    if (problem.outputs().weights() != null) {
      NpyFile.write(problem.outputs().weights(), after, rows, cols);
    }
    if (problem.outputs().mask() != null) {
      byte[] mask = new byte[after.length];
      for (int i = 0; i < mask.length; i++) {
        mask[i] = (byte) (solution.kept()[i] ? 1 : 0);
      }
      NpyFile.write(problem.outputs().mask(), mask, rows, cols);
    }
    return new LayerResult(
        error,
        heldOut,
        solution.removed() / ((double) rows * cols),
        solution.damping(),
        request.hessian().deadColumns(),
        solution.seconds(),
        solution.gflop(),
        solution.gflop() / solution.seconds(),
        solution.backend(),
        solution.solver(),
        request.pattern().toString(),
        rows,
        cols,
        choice,
        notices.list());
  }
}
