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
import org.taco4j.solve.QuantizationGrid;
import org.taco4j.solve.SearchReport;
import org.taco4j.solve.SolveRequest;
import org.taco4j.solve.Solver;
import org.taco4j.solve.Solvers;

/** Solves a {@link LayerProblem}: files in, files and a {@link LayerResult} out. */
final class LayerProblemSolver {
  /** By how much, relative to √(H_ii H_jj), mirrored elements may differ: rounding in float32. */
  private static final double ASYMMETRY = 1e-5;

  private static final int WARM_UP_ROWS = 32;
  private static final int WARM_UP_COLUMNS = 256;
  private static final double WARM_UP_SECONDS = 0.3;

  private final LayerProblem problem;
  private final Notices notices;

  LayerProblemSolver(LayerProblem problem, Notices notices) {
    this.problem = problem;
    this.notices = notices;
  }

  LayerResult solve() {
    Solver solver = Solvers.create(problem.solver(), problem.options());
    LayerProblem.Outputs outputs = problem.outputs();
    if (problem.options().quantization() == null
        && (outputs.scale() != null || outputs.zero() != null)) {
      throw TacoException.usage("--scale and --zero are of quantised weights; give --bits too");
    }
    if (problem.samples() != null && problem.samples() < 1) {
      throw TacoException.usage("--samples must be at least 1, it is " + problem.samples());
    }
    long gpuMemory = MemorySize.ofGpu(problem.gpuMemory(), problem.backend());
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

    try (Workers workers = new Workers(problem.threads());
        Backend backend = Backends.choose(problem.backend(), gpuMemory, workers).backend()) {
      noteCaveat(backend, notices);
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
      warmUp(request, backend);
      LayerSolution solution = solver.solve(request, backend);
      return finish(request, solution, unseen, choice, backend);
    }
  }

  /** Says what is to be known of a backend. */
  static void noteCaveat(Backend backend, Notices notices) {
    if (!backend.caveat().isEmpty()) {
      notices.add("backend-unverified", "backend " + backend.name(), backend.caveat(), 0);
    }
  }

  private void refuseOverwriting() {
    List<Path> places = new ArrayList<>();
    for (Path path : new Path[] {problem.weights(), problem.hessian(), problem.heldOut()}) {
      if (path != null) {
        places.add(path.toAbsolutePath().normalize());
      }
    }
    LayerProblem.Outputs outputs = problem.outputs();
    for (Path path :
        new Path[] {outputs.weights(), outputs.mask(), outputs.scale(), outputs.zero()}) {
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
    Hessian hessian = new Hessian(DoubleMatrix.of(h, cols, cols), samples);
    if (hessian.deadColumns() == cols) {
      throw TacoException.data(
          path + ": every diagonal element is 0, so no input was ever anything but 0");
    }
    return hessian;
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

  /**
   * Solves a corner of the problem for a while: the solver's time is to be that of its work, not of
   * loading and compiling classes.
   */
  private void warmUp(SolveRequest request, Backend backend) {
    Pattern pattern = request.pattern();
    int group = pattern.groupSize();
    int rows = Math.min(request.rows(), WARM_UP_ROWS);
    int cols = Math.min(request.cols(), Math.max(group, WARM_UP_COLUMNS / group * group));
    float[] weights = new float[rows * cols];
    for (int row = 0; row < rows; row++) {
      System.arraycopy(request.weights(), row * request.cols(), weights, row * cols, cols);
    }
    DoubleMatrix corner = DoubleMatrix.zeros(cols, cols);
    for (int row = 0; row < cols; row++) {
      int from = request.hessian().values().index(row, 0);
      System.arraycopy(request.hessian().values().data(), from, corner.data(), row * cols, cols);
    }
    SolveRequest small =
        new SolveRequest(
            request.layer(),
            weights,
            rows,
            cols,
            new Hessian(corner, request.hessian().samples()),
            SolveRequest.naturalOrder(cols),
            pattern,
            request.damping());
    Solver solver =
        Solvers.create(problem.solver(), problem.options().withTimeBudget(WARM_UP_SECONDS));
    long start = System.nanoTime();
    do {
      solver.solve(small, backend);
    } while (System.nanoTime() - start < 1e9 * WARM_UP_SECONDS);
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
    if (solution.repeatedRows() > 0) {
      notices.add(
          "float32-rows-repeated",
          problem.weights().toString(),
          "float32 broke down in %d of %d rows, which were solved again in float64"
              .formatted(solution.repeatedRows(), rows),
          solution.repeatedRows());
    }
    if (solution.search() != null
        && solution.search().stopped() != SearchReport.Stopped.CONVERGED) {
      notices.add(
          "search-stopped",
          problem.weights().toString(),
          "search: " + solution.search().stopped(),
          solution.search().seconds());
    }
    write(solution, rows, cols);
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
        solution.search(),
        choice,
        notices.list());
  }

  private void write(LayerSolution solution, int rows, int cols) {
    LayerProblem.Outputs outputs = problem.outputs();
    if (outputs.weights() != null) {
      NpyFile.write(outputs.weights(), solution.weights(), rows, cols);
    }
    if (outputs.mask() != null) {
      byte[] mask = new byte[rows * cols];
      for (int i = 0; i < mask.length; i++) {
        mask[i] = (byte) (solution.kept()[i] ? 1 : 0);
      }
      NpyFile.write(outputs.mask(), mask, rows, cols);
    }
    QuantizationGrid grid = solution.grid();
    if (grid != null && outputs.scale() != null) {
      NpyFile.write(outputs.scale(), grid.scale(), rows);
    }
    if (grid != null && outputs.zero() != null) {
      int[] zero = new int[rows];
      for (int row = 0; row < rows; row++) {
        zero[row] = (int) grid.zero()[row];
      }
      NpyFile.write(outputs.zero(), zero, rows);
    }
  }
}
