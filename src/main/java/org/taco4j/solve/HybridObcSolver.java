package org.taco4j.solve;

import java.util.List;
import org.taco4j.compute.Backend;

/**
 * Exact OBC where it is affordable, and above that the mask of FastOBC (which has no blocks of
 * rows: for these the mask of Wanda) with swaps: TACO's hybrid with a better second half. Whole
 * columns go to ZipLM.
 *
 * <p>What is affordable follows from counts of operations and a nominal speed that has nothing to
 * do with the machine or its load, so that the same model is solved in the same way everywhere.
 */
public final class HybridObcSolver implements Solver {
  /** Operations per second of budget, in 1e9 of float32; half as many of float64. */
  private static final double NOMINAL_GFLOP_PER_SECOND = 20;

  /**
   * All of the swaps by the operations that prepare a row for them, as measured from masks of
   * FastOBC on 256 rows of 2304 columns: twice the time of exact OBC, as memory bounds them.
   */
  private static final double SWAP_FACTOR = 8;

  /** Decide for each layer problem by itself. */
  static final int NO_LIMIT = -1;

  private final SolverOptions options;
  private final int columnLimit;

  /** What the cost of a layer problem depends on. */
  public record Shape(int rows, int cols, Pattern pattern) {}

  /** A solver that decides for each layer problem by itself, with the time budget for each. */
  public HybridObcSolver(SolverOptions options) {
    this(options, NO_LIMIT);
  }

  /**
   * A solver with a decision for all layers.
   *
   * @param columnLimit the widest problems that exact OBC solves, as {@link #columnLimit} finds it;
   *     {@link #NO_LIMIT} to decide for each problem by itself
   */
  public HybridObcSolver(SolverOptions options, int columnLimit) {
    this.options = options;
    this.columnLimit = columnLimit;
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
  public LayerSolution solve(SolveRequest request, Backend backend) {
    if (request.pattern() instanceof Pattern.Columns) {
      return new ZipLmSolver().solve(request, backend);
    }
    Shape shape = new Shape(request.rows(), request.cols(), request.pattern());
    boolean exact =
        columnLimit == NO_LIMIT
            ? obcSeconds(shape, options.precision()) <= options.timeBudget()
            : request.cols() <= columnLimit;
    if (exact) {
      return new ObcSolver(options.precision()).solve(request, backend);
    }
    Solver fast = new FastObcSolver();
    // The swaps go on as long as the budget lasts.
    LayerSolution solution =
        (fast.supports(request.pattern()) ? fast : new WandaSolver()).solve(request, backend);
    return MaskSearch.improve(
        request,
        solution,
        Search.SWAP,
        options.timeBudget() - solution.seconds(),
        options.seed(),
        backend);
  }

  /**
   * The column limit with which a whole model fits a time budget: the widest layers are the first
   * to go without exact OBC.
   *
   * @param seconds nominal, for all layers together
   * @return the largest number of columns that exact OBC solves; 0 where none
   */
  public static int columnLimit(List<Shape> layers, Precision precision, double seconds) {
    int limit = 0;
    for (int cols : layers.stream().mapToInt(Shape::cols).distinct().sorted().toArray()) {
      double sum = 0;
      for (Shape layer : layers) {
        sum += layer.cols() <= cols ? obcSeconds(layer, precision) : swapSeconds(layer);
      }
      limit = sum <= seconds ? cols : limit;
    }
    return limit;
  }

  /** Nominal seconds of exact OBC: each row goes from all columns down to those it keeps. */
  public static double obcSeconds(Shape shape, Precision precision) {
    double cols = shape.cols();
    double kept = cols * (1 - shape.pattern().sparsity());
    double rows = sets(shape) * (Math.pow(cols, 3) - Math.pow(kept, 3)) / 3;
    double width = ObcSolver.isFloat64(precision, shape.cols()) ? 2 : 1;
    return 1e-9 * (width * rows + 2 * Math.pow(cols, 3)) / NOMINAL_GFLOP_PER_SECOND;
  }

  /** Nominal seconds of a one-shot mask and swaps from it, in float64. */
  public static double swapSeconds(Shape shape) {
    double cols = shape.cols();
    double kept = cols * (1 - shape.pattern().sparsity());
    double rows = sets(shape) * SWAP_FACTOR * kept * kept * (cols + kept);
    return 1e-9 * (2 * rows + 2 * Math.pow(cols, 3)) / NOMINAL_GFLOP_PER_SECOND;
  }

  private static double sets(Shape shape) {
    int rows = shape.pattern().maskRows();
    return (shape.rows() + rows - 1) / rows;
  }
}
