package org.taco4j.solve;

import java.util.Arrays;
import java.util.concurrent.atomic.DoubleAdder;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.ObsElimination;

/**
 * OBC, exactly (Frantar and Alistarh 2022, "Optimal Brain Compression", algorithm 1 and section 4):
 * in each row the weight that loses least goes, the others make up for it, and so on; how many
 * weights each row loses follows from one sort of the losses of all rows. Units are single weights,
 * blocks of neighbouring columns, or the same column of neighbouring rows; with N:M each group goes
 * down to N, and there is nothing to allocate.
 *
 * <p>The elimination decides the mask; the weights are then the exact least-squares fit to it,
 * which in exact arithmetic is what the elimination would arrive at.
 */
public final class ObcSolver implements Solver {
  /** Up to so many columns float64 is the default: there the time hardly matters. */
  private static final int FLOAT64_COLUMNS = 1000;

  /** One set of rows in so many is run to the end, to learn where the others may stop. */
  private static final int SAMPLE = 8;

  /** With fewer sets of rows all are run to the end. */
  private static final int SAMPLED_SETS = 8 * SAMPLE;

  /**
   * Losses of a row mostly grow from step to step, but not always: a row goes on until a step loses
   * so many times the loss at which the allocation is expected to end.
   */
  private static final double STOP_FACTOR = 4;

  private final Precision precision;

  /** A solver that eliminates in the given precision; all else is float64. */
  public ObcSolver(Precision precision) {
    this.precision = precision;
  }

  /** How many of the sets of rows that share a mask are eliminated to the end. */
  static double setsToTheEnd(double sets, Pattern pattern) {
    if (pattern instanceof Pattern.NM) {
      return 0; // each group ends with what it keeps
    }
    return sets < SAMPLED_SETS ? sets : Math.ceil(sets / SAMPLE);
  }

  /** Whether the elimination runs in float64. */
  static boolean isFloat64(Precision precision, int cols) {
    return precision == Precision.FLOAT64
        || (precision == Precision.AUTO && cols <= FLOAT64_COLUMNS);
  }

  @Override
  public String name() {
    return "obc";
  }

  @Override
  public boolean supports(Pattern pattern) {
    return !(pattern instanceof Pattern.Columns);
  }

  @Override
  public LayerSolution solve(SolveRequest request, Backend backend) {
    long start = System.nanoTime();
    Solvers.requireSupport(this, request);
    if (request.pattern().sparsity() == 0) {
      return Solvers.unchanged(this, request, backend);
    }
    DampedHessian hessian = DampedHessian.of(request, backend);
    Elimination elimination = new Elimination(request, hessian, backend);
    ObcTrace trace = elimination.trace(false);
    boolean[] kept = elimination.mask(trace);
    float[] weights = LeastSquaresRefit.refit(request, hessian, kept, elimination.setRows, backend);
    double seconds = (System.nanoTime() - start) / 1e9;
    return new LayerSolution(
        weights,
        kept,
        hessian.damping(),
        hessian.escalations(),
        hessian.deadColumns(),
        seconds,
        elimination.gflop.sum() + 1e-9 * Math.pow(request.cols(), 3),
        name(),
        backend.name(),
        elimination.repeatedRows(),
        /* search= */ null,
        /* grid= */ null);
  }

  /**
   * The elimination of every row down to nothing, from which any sparsity of the pattern follows.
   */
  ObcTrace trace(SolveRequest request, Backend backend) {
    return new Elimination(request, DampedHessian.of(request, backend), backend).trace(true);
  }

  /** One layer problem. */
  private final class Elimination {
    private final SolveRequest request;
    private final DampedHessian hessian;
    private final Backend backend;

    /** Rows that share a mask. */
    private final int setRows;

    private final int sets;
    private final ObsElimination.Units units;

    /** How many units a set of rows can lose. */
    private final int depth;

    private final double[] leastPivots;
    private final boolean narrow;
    private final ObsElimination eliminator;
    private @Nullable ObsElimination wide;

    /** [sets]: those that float64 had to do again; each written by its own task. */
    private final boolean[] repeated;

    private final DoubleAdder gflop = new DoubleAdder();

    Elimination(SolveRequest request, DampedHessian hessian, Backend backend) {
      this.request = request;
      this.hessian = hessian;
      this.backend = backend;
      int cols = request.cols();
      setRows = request.pattern().maskRows();
      sets = (request.rows() + setRows - 1) / setRows;
      repeated = new boolean[sets];
      units =
          switch (request.pattern()) {
            case Pattern.NM nm ->
                new ObsElimination.Units(1, nm.groupSize(), nm.groupSize() - nm.kept());
            case Pattern.Block block -> new ObsElimination.Units(block.groupSize(), 1, 1);
            case Pattern.Unstructured unstructured -> ObsElimination.Units.COLUMNS;
            case Pattern.RowBlock rowBlock -> ObsElimination.Units.COLUMNS;
            case Pattern.Columns columns -> throw new IllegalArgumentException(columns.toString());
          };
      depth = units.removable(cols);
      leastPivots = new double[cols];
      for (int p = 0; p < cols; p++) {
        leastPivots[p] = 1 / hessian.at(p, p);
      }
      narrow = !isFloat64(precision, cols);
      eliminator =
          narrow
              ? backend.obsElimination(rounded(hessian.inverse()), leastPivots, units)
              : backend.obsElimination(hessian.inverse(), leastPivots, units);
    }

    private static FloatMatrix rounded(DoubleMatrix matrix) {
      FloatMatrix rounded = FloatMatrix.zeros(matrix.rows(), matrix.cols());
      for (int i = 0; i < rounded.data().length; i++) {
        rounded.data()[i] = (float) matrix.data()[i];
      }
      return rounded;
    }

    /** The units that the pattern asks for, over all sets of rows. */
    private long total() {
      return request.pattern() instanceof Pattern.NM
          ? (long) sets * depth
          : Pattern.portion((long) sets * depth, request.pattern().sparsity());
    }

    /**
     * Eliminates all sets of rows.
     *
     * @param full to the end; else as far as the request's pattern can want
     */
    ObcTrace trace(boolean full) {
      int[][] order = new int[sets][];
      double[][] losses = new double[sets][];
      ObcTrace trace = new ObcTrace(units.blockSize(), order, losses);
      Workers workers = backend.workers();
      if (full || request.pattern() instanceof Pattern.NM || sets < SAMPLED_SETS) {
        workers.forEach(sets, set -> run(set, Double.POSITIVE_INFINITY, trace));
        return trace;
      }
      int sampled = (sets + SAMPLE - 1) / SAMPLE;
      workers.forEach(sampled, i -> run(i * SAMPLE, Double.POSITIVE_INFINITY, trace));
      int[][] none = new int[0][];
      double[][] sample = new double[sampled][];
      Arrays.setAll(sample, i -> losses[i * SAMPLE]);
      double expected =
          new ObcTrace(1, none, sample)
              .threshold(
                  Math.max(
                      1, Pattern.portion((long) sampled * depth, request.pattern().sparsity())));
      double stop = STOP_FACTOR * expected;
      workers.forEach(
          sets,
          set -> {
            if (set % SAMPLE != 0) {
              run(set, stop, trace);
            }
          });
      if (!(trace.threshold(total()) <= stop)) {
        // The sample was not like the rest.
        workers.forEach(
            sets,
            set -> {
              if (order[set].length < depth) {
                run(set, Double.POSITIVE_INFINITY, trace);
              }
            });
      }
      return trace;
    }

    private void run(int set, double stopLoss, ObcTrace trace) {
      int cols = request.cols();
      int first = set * setRows;
      FloatMatrix weights = FloatMatrix.zeros(Math.min(setRows, request.rows() - first), cols);
      for (int r = 0; r < weights.rows(); r++) {
        for (int p = 0; p < cols; p++) {
          weights.data()[r * cols + p] = hessian.weight(first + r, p);
        }
      }
      int[] order = new int[depth];
      double[] losses = new double[depth];
      int steps = eliminator.run(weights, depth, stopLoss, order, losses);
      if (steps < 0 && precision == Precision.AUTO && narrow) {
        steps = wide().run(weights, depth, stopLoss, order, losses);
        repeated[set] = true;
      }
      if (steps < 0) {
        throw TacoException.numerical(
            "layer %s: rounding has spoilt the inverse Hessian after %d of %d steps in row %d; use"
                    .formatted(request.layer(), -1 - steps, depth, first)
                + " more damping than %s, or --precision float64".formatted(hessian.damping()));
      }
      trace.order()[set] = Arrays.copyOf(order, steps);
      trace.losses()[set] = Arrays.copyOf(losses, steps);
      double left = cols - (double) steps * units.blockSize();
      gflop.add(1e-9 * (Math.pow(cols, 3) - Math.pow(left, 3)) / 3);
    }

    /** In float64, for the rows where float32 is not enough. */
    private synchronized ObsElimination wide() {
      ObsElimination eliminator = wide;
      if (eliminator == null) {
        eliminator = backend.obsElimination(hessian.inverse(), leastPivots, units);
        wide = eliminator;
      }
      return eliminator;
    }

    /** How many rows float64 had to do again. */
    int repeatedRows() {
      int rows = 0;
      for (int set = 0; set < sets; set++) {
        rows += repeated[set] ? Math.min(setRows, request.rows() - set * setRows) : 0;
      }
      return rows;
    }

    /** The mask that the pattern asks for, [rows, cols] by columns. */
    boolean[] mask(ObcTrace trace) {
      int cols = request.cols();
      int[] counts = trace.allocate(total());
      boolean[] kept = new boolean[request.rows() * cols];
      Arrays.fill(kept, true);
      for (int row = 0; row < request.rows(); row++) {
        int set = row / setRows;
        for (int step = 0; step < counts[set]; step++) {
          int unit = trace.order()[set][step];
          for (int c = 0; c < units.blockSize(); c++) {
            kept[row * cols + request.order()[unit * units.blockSize() + c]] = false;
          }
        }
      }
      return kept;
    }
  }
}
