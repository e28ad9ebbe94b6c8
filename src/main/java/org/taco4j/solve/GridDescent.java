package org.taco4j.solve;

import java.util.Arrays;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;

/**
 * Coordinate descent over quantised weights, for the error (Ŵ − W) A (Ŵ − W)ᵀ with the damped
 * Hessian A. Each weight of a row in turn moves to the point of its grid that is best given all
 * others of the row: with the gradient g = A (ŵ − w) kept up to date, the point nearest to ŵ_j −
 * g_j / A_jj. Where no single weight of a row can move any more, pairs do: a weight moves by one
 * point, up or down, and the one that makes the most of it by one point too. The error never rises.
 */
final class GridDescent {
  /** Rows that share a column of A while it is in the cache. */
  private static final int TASK_ROWS = 16;

  /** Of the curvature of a step: what a pair must gain, so that rounding does not move it. */
  private static final double LEAST_GAIN = 1e-9;

  private final int rows;
  private final int cols;
  private final QuantizationGrid grid;
  private final float[] weights;
  private final boolean[] kept;

  /** A: [cols, cols]. */
  private final double[] a;

  /** max |A_jk|, k ≠ j: no pair with j gains more than 2 scale² times that. */
  private final double[] coupling;

  /** (Ŵ − W) A: [rows, cols]. */
  private final double[] gradient;

  private GridDescent(
      SolveRequest request,
      float[] weights,
      boolean[] kept,
      QuantizationGrid grid,
      double damping,
      Backend backend) {
    rows = request.rows();
    cols = request.cols();
    this.grid = grid;
    this.weights = weights;
    this.kept = kept;
    double[] h = request.hessian().values().data();
    double shift = request.hessian().shift(damping);
    DoubleMatrix damped = DoubleMatrix.zeros(cols, cols);
    a = damped.data();
    coupling = new double[cols];
    for (int i = 0; i < cols; i++) {
      System.arraycopy(h, request.hessian().values().index(i, 0), a, i * cols, cols);
      for (int j = 0; j < cols; j++) {
        coupling[i] = j == i ? coupling[i] : Math.max(coupling[i], Math.abs(a[i * cols + j]));
      }
      a[i * cols + i] += shift;
    }
    DoubleMatrix change = DoubleMatrix.zeros(rows, cols);
    for (int i = 0; i < weights.length; i++) {
      change.data()[i] = (double) weights[i] - request.weights()[i];
    }
    DoubleMatrix product = DoubleMatrix.zeros(rows, cols);
    backend.gemm(1, change, damped, 0, product);
    gradient = product.data();
  }

  /**
   * Sweeps at most {@code sweeps} times over each row.
   *
   * @param weights Ŵ: [rows, cols] row-major, on the grid; in and out
   * @param kept [rows, cols] row-major: where it is false, weights stay as they are
   * @param damping λ of A
   * @return floating-point operations in 1e9
   */
  static double run(
      SolveRequest request,
      float[] weights,
      boolean[] kept,
      QuantizationGrid grid,
      int sweeps,
      double damping,
      Backend backend) {
    if (sweeps == 0) {
      return 0;
    }
    GridDescent descent = new GridDescent(request, weights, kept, grid, damping, backend);
    int tasks = (descent.rows + TASK_ROWS - 1) / TASK_ROWS;
    double[] flop = new double[tasks];
    backend.workers().forEach(tasks, task -> flop[task] = descent.sweepTile(task, sweeps));
    return 1e-9 * (2.0 * descent.rows * descent.cols * descent.cols + Arrays.stream(flop).sum());
  }

  /** Sweeps the rows of a task; returns the floating-point operations. */
  private double sweepTile(int task, int sweeps) {
    int first = task * TASK_ROWS;
    int size = Math.min(rows - first, TASK_ROWS);
    double[][] stepCosts = new double[size][0];
    boolean[] settled = new boolean[size];
    boolean[] moved = new boolean[size];
    double flop = 0;
    boolean anyMoved = true;
    for (int sweep = 0; sweep < sweeps && anyMoved; sweep++) {
      Arrays.fill(moved, false);
      for (int col = 0; col < cols; col++) {
        for (int i = 0; i < size; i++) {
          if (!settled[i] && isFree(first + i, col) && move(first + i, col)) {
            moved[i] = true;
            flop += 2.0 * cols;
          }
        }
      }
      anyMoved = false;
      boolean[] movedAlone = moved.clone();
      for (int i = 0; i < size; i++) {
        if (!settled[i] && !movedAlone[i] && stepCosts[i].length == 0) {
          stepCosts[i] = stepCosts(first + i);
        }
      }
      for (int col = 0; col < cols; col++) {
        for (int i = 0; i < size; i++) {
          if (!settled[i] && !movedAlone[i] && isFree(first + i, col)) {
            moved[i] |= movePair(first + i, col, stepCosts[i]);
            flop += 4.0 * cols;
          }
        }
      }
      for (int i = 0; i < size; i++) {
        settled[i] |= !moved[i];
        anyMoved |= moved[i];
      }
    }
    return flop;
  }

  /** Whether the weight is kept and makes a difference. */
  private boolean isFree(int row, int col) {
    return kept[row * cols + col] && a[col * cols + col] > 0;
  }

  /** Moves one weight to its best point; whether it moved. */
  private boolean move(int row, int col) {
    int at = row * cols + col;
    double curvature = a[col * cols + col];
    float before = weights[at];
    float point = grid.nearest(row, (float) (before - gradient[at] / curvature));
    double step = (double) point - before;
    // What the move changes of the error. Between two points as good as each other, stay.
    if (!(step * (2 * gradient[at] + step * curvature) < 0)) {
      return false;
    }
    apply(row, col, point);
    return true;
  }

  private void apply(int row, int col, float point) {
    int at = row * cols + col;
    double step = (double) point - weights[at];
    weights[at] = point;
    int from = col * cols;
    int to = row * cols;
    for (int i = 0; i < cols; i++) {
      gradient[to + i] += step * a[from + i];
    }
  }

  /** scale² A_kk, what a step of weight k costs by itself; infinite where it may not move. */
  private double[] stepCosts(int row) {
    double scale = grid.scale()[row];
    double[] costs = new double[cols];
    for (int k = 0; k < cols; k++) {
      costs[k] = isFree(row, k) ? scale * scale * a[k * cols + k] : Double.POSITIVE_INFINITY;
    }
    return costs;
  }

  /** Moves weight j and its best partner by a point each, where that gains; whether they moved. */
  private boolean movePair(int row, int j, double[] stepCosts) {
    double scale = grid.scale()[row];
    boolean moved = false;
    for (int sign = -1; sign <= 1; sign += 2) {
      double step = sign * scale;
      double cost = stepCosts[j] + 2 * step * gradient[row * cols + j];
      double needed = -cost - LEAST_GAIN * stepCosts[j];
      if (cost >= 2 * scale * scale * coupling[j] || !isOnGrid(row, j, sign)) {
        continue;
      }
      if (!(leastCost(row, j, step, stepCosts) < needed)) {
        continue;
      }
      int partner = bestPartner(row, j, step, stepCosts, needed);
      if (partner >= 0) {
        int direction = direction(row, j, step, partner);
        apply(row, j, neighbour(row, j, sign));
        apply(row, partner, neighbour(row, partner, direction));
        moved = true;
      }
    }
    return moved;
  }

  /** min over k of what a step of weight k costs after the step of weight j, whatever the grid. */
  private double leastCost(int row, int j, double step, double[] stepCosts) {
    int to = row * cols;
    int from = j * cols;
    double twice = 2 * Math.abs(step);
    double least = Double.POSITIVE_INFINITY;
    for (int k = 0; k < j; k++) {
      least =
          Math.min(least, stepCosts[k] - twice * Math.abs(gradient[to + k] + step * a[from + k]));
    }
    for (int k = j + 1; k < cols; k++) {
      least =
          Math.min(least, stepCosts[k] - twice * Math.abs(gradient[to + k] + step * a[from + k]));
    }
    return least;
  }

  /**
   * The k of {@link #leastCost} that the grid allows; -1 where none costs less than {@code below}.
   */
  private int bestPartner(int row, int j, double step, double[] stepCosts, double below) {
    int to = row * cols;
    int from = j * cols;
    int best = -1;
    double least = below;
    for (int k = 0; k < cols; k++) {
      double cost =
          stepCosts[k] - 2 * Math.abs(step) * Math.abs(gradient[to + k] + step * a[from + k]);
      if (k != j && cost < least && isOnGrid(row, k, direction(row, j, step, k))) {
        least = cost;
        best = k;
      }
    }
    return best;
  }

  /** Against the gradient that weight k has after the step of weight j. */
  private int direction(int row, int j, double step, int k) {
    return gradient[row * cols + k] + step * a[j * cols + k] > 0 ? -1 : 1;
  }

  private boolean isOnGrid(int row, int col, int sign) {
    float code = (float) Math.rint(weights[row * cols + col] / grid.scale()[row]) + sign;
    return code >= grid.lowest(row) && code <= grid.highest(row);
  }

  /** The next point of the grid, up or down. */
  private float neighbour(int row, int col, int sign) {
    float code = (float) Math.rint(weights[row * cols + col] / grid.scale()[row]) + sign;
    return grid.scale()[row] * code + 0f;
  }
}
