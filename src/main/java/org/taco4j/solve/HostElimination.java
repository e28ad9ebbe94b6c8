package org.taco4j.solve;

import java.util.Arrays;
import org.jspecify.annotations.Nullable;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.LayerElimination;
import org.taco4j.compute.ObsElimination;

/** {@link LayerElimination} on the backend's threads, each with one set of rows at a time. */
final class HostElimination implements LayerElimination {
  private final Backend backend;
  private final DoubleMatrix inverse;
  private final double[] leastPivots;
  private final ObsElimination.Units units;
  private final FloatMatrix weights;
  private final int setRows;
  private final ObcTrace trace;
  private @Nullable ObsElimination narrow;
  private @Nullable ObsElimination wide;

  /**
   * Of a layer; everything is borrowed.
   *
   * @param inverse H⁻¹, [n, n]
   * @param leastPivots [n]
   * @param weights [rows, n]
   * @param setRows rows that share a mask
   */
  HostElimination(
      Backend backend,
      DoubleMatrix inverse,
      double[] leastPivots,
      ObsElimination.Units units,
      FloatMatrix weights,
      int setRows) {
    this.backend = backend;
    this.inverse = inverse;
    this.leastPivots = leastPivots;
    this.units = units;
    this.weights = weights;
    this.setRows = setRows;
    int sets = (weights.rows() + setRows - 1) / setRows;
    // Each written by its own task.
    this.trace = new ObcTrace(units.blockSize(), new int[sets][0], new double[sets][0]);
  }

  @Override
  public int[] run(int[] sets, double stopLoss, boolean float64) {
    ObsElimination elimination = elimination(float64);
    int depth = units.removable(weights.cols());
    int[] taken = new int[sets.length];
    backend
        .workers()
        .forEach(
            sets.length,
            i -> {
              int first = sets[i] * setRows;
              int count = Math.min(setRows, weights.rows() - first);
              int[] order = new int[depth];
              double[] losses = new double[depth];
              FloatMatrix rows = weights.block(first, count, 0, weights.cols());
              taken[i] = elimination.run(rows, depth, stopLoss, order, losses);
              int steps = Math.max(0, taken[i]);
              trace.order()[sets[i]] = Arrays.copyOf(order, steps);
              trace.losses()[sets[i]] = Arrays.copyOf(losses, steps);
            });
    return taken;
  }

  private ObsElimination elimination(boolean float64) {
    ObsElimination known = float64 ? wide : narrow;
    if (known != null) {
      return known;
    }
    if (float64) {
      ObsElimination made = backend.obsElimination(inverse, leastPivots, units);
      wide = made;
      return made;
    }
    ObsElimination made = backend.obsElimination(rounded(inverse), leastPivots, units);
    narrow = made;
    return made;
  }

  private static FloatMatrix rounded(DoubleMatrix matrix) {
    FloatMatrix rounded = FloatMatrix.zeros(matrix.rows(), matrix.cols());
    for (int i = 0; i < rounded.data().length; i++) {
      rounded.data()[i] = (float) matrix.data()[i];
    }
    return rounded;
  }

  @Override
  public double threshold(long total) {
    return trace.threshold(total);
  }

  @Override
  public boolean[] kept(long total, int[] columns) {
    int cols = weights.cols();
    int k = units.blockSize();
    int[] counts = trace.allocate(total);
    boolean[] kept = new boolean[weights.rows() * cols];
    Arrays.fill(kept, true);
    for (int row = 0; row < weights.rows(); row++) {
      int set = row / setRows;
      for (int step = 0; step < counts[set]; step++) {
        int unit = trace.order()[set][step];
        for (int c = 0; c < k; c++) {
          kept[row * cols + columns[unit * k + c]] = false;
        }
      }
    }
    return kept;
  }

  @Override
  public int[][] order() {
    return trace.order();
  }

  @Override
  public double[][] losses() {
    return trace.losses();
  }

  @Override
  public void close() {
    // All memory is the heap's.
  }
}
