package org.taco4j.solve;

import java.util.Arrays;
import java.util.stream.IntStream;
import org.taco4j.common.TacoException;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.LayerElimination;
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
    boolean[] kept;
    try (LayerElimination rows = elimination.start()) {
      elimination.run(rows, false);
      kept = rows.kept(elimination.total(), request.order());
    }
    float[] weights = LeastSquaresRefit.refit(request, hessian, kept, elimination.setRows, backend);
    double seconds = (System.nanoTime() - start) / 1e9;
    return new LayerSolution(
        weights,
        kept,
        hessian.damping(),
        hessian.escalations(),
        hessian.deadColumns(),
        seconds,
        elimination.gflop + 1e-9 * Math.pow(request.cols(), 3),
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
    Elimination elimination = new Elimination(request, DampedHessian.of(request, backend), backend);
    try (LayerElimination rows = elimination.start()) {
      elimination.run(rows, true);
      return new ObcTrace(elimination.units.blockSize(), rows.order(), rows.losses());
    }
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

    /** Whether float32 is enough for most rows. */
    private final boolean narrow;

    /** [sets]: those that float64 had to do again. */
    private final boolean[] repeated;

    private double gflop;

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
      narrow = !isFloat64(precision, cols);
    }

    /** On the device, where the backend has one. */
    LayerElimination start() {
      int cols = request.cols();
      double[] leastPivots = new double[cols];
      for (int p = 0; p < cols; p++) {
        leastPivots[p] = 1 / hessian.at(p, p);
      }
      FloatMatrix weights = FloatMatrix.zeros(request.rows(), cols);
      for (int row = 0; row < request.rows(); row++) {
        for (int p = 0; p < cols; p++) {
          weights.data()[row * cols + p] = hessian.weight(row, p);
        }
      }
      DeviceKernels device = backend.device();
      return device == null
          ? new HostElimination(backend, hessian.inverse(), leastPivots, units, weights, setRows)
          : device.obsElimination(hessian.inverse(), leastPivots, units, weights, setRows, !narrow);
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
    void run(LayerElimination rows, boolean full) {
      int[] all = IntStream.range(0, sets).toArray();
      if (full || request.pattern() instanceof Pattern.NM || sets < SAMPLED_SETS) {
        run(rows, all, Double.POSITIVE_INFINITY);
        return;
      }
      int[] sample = Arrays.stream(all).filter(set -> set % SAMPLE == 0).toArray();
      run(rows, sample, Double.POSITIVE_INFINITY);
      double expected =
          rows.threshold(
              Math.max(
                  1, Pattern.portion((long) sample.length * depth, request.pattern().sparsity())));
      double stop = STOP_FACTOR * expected;
      int[] others = Arrays.stream(all).filter(set -> set % SAMPLE != 0).toArray();
      int[] steps = run(rows, others, stop);
      if (!(rows.threshold(total()) <= stop)) {
        // The sample was not like the rest.
        int[] stopped =
            IntStream.range(0, others.length)
                .filter(i -> steps[i] < depth)
                .map(i -> others[i])
                .toArray();
        run(rows, stopped, Double.POSITIVE_INFINITY);
      }
    }

    /** Runs some sets, where need be again in float64; returns the steps of each. */
    private int[] run(LayerElimination rows, int[] which, double stopLoss) {
      int[] steps = rows.run(which, stopLoss, !narrow);
      int[] spoilt = IntStream.range(0, which.length).filter(i -> steps[i] < 0).toArray();
      if (spoilt.length > 0 && precision == Precision.AUTO && narrow) {
        int[] again = rows.run(Arrays.stream(spoilt).map(i -> which[i]).toArray(), stopLoss, true);
        for (int i = 0; i < spoilt.length; i++) {
          steps[spoilt[i]] = again[i];
          repeated[which[spoilt[i]]] = true;
        }
      }
      double cols = request.cols();
      for (int i = 0; i < which.length; i++) {
        if (steps[i] < 0) {
          throw TacoException.numerical(
              "layer %s: rounding has spoilt the inverse Hessian after %d of %d steps in row %d;"
                      .formatted(request.layer(), -1 - steps[i], depth, which[i] * setRows)
                  + " use more damping than %s, or --precision float64"
                      .formatted(hessian.damping()));
        }
        double left = cols - (double) steps[i] * units.blockSize();
        gflop += 1e-9 * (Math.pow(cols, 3) - Math.pow(left, 3)) / 3;
      }
      return steps;
    }

    /** How many rows float64 had to do again. */
    int repeatedRows() {
      int rows = 0;
      for (int set = 0; set < sets; set++) {
        rows += repeated[set] ? Math.min(setRows, request.rows() - set * setRows) : 0;
      }
      return rows;
    }
  }
}
