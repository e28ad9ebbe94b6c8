package org.taco4j.solve;

import java.util.List;
import org.jspecify.annotations.Nullable;
import org.taco4j.compute.Backend;

/**
 * Exact OBC where it is affordable; above that the mask of FastOBC (which has no blocks of rows:
 * for these the mask of Wanda) with swaps, TACO's hybrid with a better second half (blocks along a
 * row have no swaps and get a least-squares refit); and where that is too much as well, FastOBC
 * alone (for blocks of rows AdaPrune). Whole columns go to ZipLM.
 *
 * <p>What is affordable follows from counts of operations and a nominal speed that has nothing to
 * do with the machine or its load, so that the same model is solved in the same way everywhere.
 */
public final class HybridObcSolver implements Solver {
  /**
   * Operations per second of budget, in 1e9 of float32; half as many of float64. Two cores with
   * 512-bit vectors make 80 to 200 of them.
   */
  private static final double NOMINAL_GFLOP_PER_SECOND = 100;

  /** Work of the swaps, by that of preparing a row for them, as measured. */
  private static final double SWAP_FACTOR = 8;

  /** Nothing cuts the swaps of a layer short that was found affordable. */
  private static final double NO_DEADLINE = 1e9;

  private final SolverOptions options;
  private final @Nullable Limits limits;

  /**
   * Up to how many columns which method is used.
   *
   * @param exact the widest layer problems that exact OBC solves; 0 for none
   * @param swap the widest that get swaps after FastOBC; not below {@code exact}
   */
  public record Limits(int exact, int swap) {}

  /**
   * What the cost of a layer depends on.
   *
   * @param rows of each of its layer problems
   * @param cols of each
   * @param groups how many problems: 1 but for grouped convolutions
   */
  public record Shape(int rows, int cols, int groups, Pattern pattern) {}

  /** A solver that decides for each layer problem by itself, with the time budget for each. */
  public HybridObcSolver(SolverOptions options) {
    this(options, null);
  }

  /**
   * A solver with a decision for all layers.
   *
   * @param limits as {@link #limits} finds them; null to decide for each problem by itself
   */
  public HybridObcSolver(SolverOptions options, @Nullable Limits limits) {
    this.options = options;
    this.limits = limits;
  }

  @Override
  public String name() {
    return "hybrid";
  }

  @Override
  public boolean supports(Pattern pattern) {
    return true;
  }

  @Override
  public Solver probe(SolveRequest request) {
    return new HybridObcSolver(options, limitsFor(request));
  }

  private Limits limitsFor(SolveRequest request) {
    if (limits != null) {
      return limits;
    }
    Shape shape = new Shape(request.rows(), request.cols(), 1, request.pattern());
    return limits(List.of(shape), options.precision(), options.timeBudget());
  }

  @Override
  public LayerSolution solve(SolveRequest request, Backend backend) {
    if (request.pattern().sparsity() == 0) {
      return Solvers.unchanged(this, request, backend);
    }
    if (request.pattern() instanceof Pattern.Columns) {
      return new ZipLmSolver().solve(request, backend);
    }
    Limits to = limitsFor(request);
    if (request.cols() <= to.exact()) {
      return new ObcSolver(options.precision()).solve(request, backend);
    }
    boolean swaps = request.cols() <= to.swap();
    Solver fast = new FastObcSolver();
    if (!fast.supports(request.pattern())) {
      fast = swaps ? new WandaSolver() : new AdaPruneSolver(Refit.LEAST_SQUARES);
    }
    if (swaps && !MaskSearch.hasMoves(request.pattern())) {
      return new RefittingSolver(fast).solve(request, backend);
    }
    LayerSolution solution = fast.solve(request, backend);
    return swaps
        ? MaskSearch.improve(request, solution, Search.SWAP, NO_DEADLINE, options.seed(), backend)
        : solution;
  }

  /**
   * The limits with which a whole model fits a time budget: narrow layers come first, and exact OBC
   * before swaps.
   *
   * @param seconds nominal, for all layers together
   */
  public static Limits limits(List<Shape> layers, Precision precision, double seconds) {
    int exact = 0;
    int swap = 0;
    double spent = 0;
    for (int cols : layers.stream().mapToInt(Shape::cols).distinct().sorted().toArray()) {
      List<Shape> alike = layers.stream().filter(layer -> layer.cols() == cols).toList();
      double obc = alike.stream().mapToDouble(layer -> obcSeconds(layer, precision)).sum();
      double swaps = alike.stream().mapToDouble(HybridObcSolver::swapSeconds).sum();
      if (exact == swap && spent + obc <= seconds) {
        exact = cols;
        swap = cols;
        spent += obc;
      } else if (spent + swaps <= seconds) {
        swap = cols;
        spent += swaps;
      } else {
        break;
      }
    }
    return new Limits(exact, swap);
  }

  /**
   * Nominal seconds of exact OBC: each row goes from all columns down to those it keeps, those of
   * the sample to none.
   */
  public static double obcSeconds(Shape shape, Precision precision) {
    if (shape.pattern().sparsity() == 0) {
      return 0;
    }
    double cols = shape.cols();
    double kept = cols * (1 - shape.pattern().sparsity());
    double sets = sets(shape);
    double full = ObcSolver.setsToTheEnd(sets, shape.pattern());
    double rows = (sets * Math.pow(cols, 3) - (sets - full) * Math.pow(kept, 3)) / 3;
    double width = ObcSolver.isFloat64(precision, shape.cols()) ? 2 : 1;
    return seconds(shape, width * rows);
  }

  /**
   * Nominal seconds of a one-shot mask and swaps from it, in float64; where the pattern has no
   * swaps, of a refit.
   */
  public static double swapSeconds(Shape shape) {
    if (shape.pattern().sparsity() == 0) {
      return 0;
    }
    double cols = shape.cols();
    double kept = cols * (1 - shape.pattern().sparsity());
    double rows =
        MaskSearch.hasMoves(shape.pattern())
            ? sets(shape) * SWAP_FACTOR * kept * kept * (cols + kept)
            : sets(shape) * Math.pow(Math.min(kept, cols - kept), 3) / 3
                + 2 * shape.rows() * cols * cols;
    return seconds(shape, 2 * rows);
  }

  /** Of all problems of a layer, with the inversion of each one's Hessian in float64. */
  private static double seconds(Shape shape, double flopOfRows) {
    double flop = flopOfRows + 2 * Math.pow(shape.cols(), 3);
    return shape.groups() * 1e-9 * flop / NOMINAL_GFLOP_PER_SECOND;
  }

  /** Sets of rows that share a mask, of one problem. */
  private static double sets(Shape shape) {
    int rows = shape.pattern().maskRows();
    return (shape.rows() + rows - 1) / rows;
  }
}
