package org.taco4j.solve;

import java.util.Arrays;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.compute.DoubleMatrix;

/**
 * ZipLM (Kurtic et al. 2023, "ZipLM: Inference-Aware Structured Pruning of Language Models",
 * section 3.1): whole groups of input columns are removed from all rows, one group after the other,
 * each time the one that costs least, and the columns that stay make up for it.
 *
 * <p>With A the damped Hessian, Q = (A_RR)⁻¹ over the columns R that remain and W the weights as
 * updated so far, removing a group G costs Σ_r W_rG (Q_GG)⁻¹ W_rGᵀ, and then W -= W_G (Q_GG)⁻¹ Q_G:
 * and Q -= Q_:G (Q_GG)⁻¹ Q_G:. All rows share the mask, so that W enters the costs through S = WᵀW
 * alone: tr((Q_GG)⁻¹ S_GG). Neither W nor, at each step, Q and S are updated. With Q_GG = L Lᵀ, U =
 * Q_:G L⁻ᵀ, and T = S_:G L⁻ᵀ − ½ U C, C = L⁻¹ S_GG L⁻ᵀ,
 *
 * <pre>  Q -= U Uᵀ    S -= U Tᵀ + T Uᵀ</pre>
 *
 * <p>so a step adds the columns of U and T to those of the steps before, forms the columns G of Q
 * and S that it needs from them, and updates the diagonal blocks. After some steps, the removed
 * columns are dropped and U and T applied to the rest as matrix products. What is kept is fitted
 * exactly at the end. Everything is float64; nothing but the first product and the fit depends on
 * the number of rows.
 */
public final class ZipLmSolver implements Solver {
  /** Columns of U and T that are gathered before they are applied. */
  private static final int PENDING = 128;

  /** Fixed borders of tasks: a few thousand additions for each column of U. */
  private static final int TASK_COLUMNS = 512;

  @Override
  public String name() {
    return "ziplm";
  }

  @Override
  public boolean supports(Pattern pattern) {
    return pattern instanceof Pattern.Columns;
  }

  @Override
  public LayerSolution solve(SolveRequest asked, Backend backend) {
    long start = System.nanoTime();
    Solvers.requireSupport(this, asked);
    if (asked.pattern().sparsity() == 0) {
      return Solvers.unchanged(this, asked, backend);
    }
    SolveRequest request = asked.inNaturalOrder();
    int cols = request.cols();
    int group = request.pattern().groupSize();
    int count = ((Pattern.Columns) request.pattern()).removed(cols / group);
    DampedHessian hessian = DampedHessian.of(request, backend);
    boolean[] keptGroups = new boolean[cols / group];
    Arrays.fill(keptGroups, true);
    double flop = (double) cols * cols * cols + (double) request.rows() * cols * cols;
    if (count > 0) {
      DeviceKernels device = backend.device();
      if (device == null) {
        Elimination elimination = new Elimination(request, group, hessian, backend);
        remove(elimination.remove(count), keptGroups);
        flop += elimination.flop;
      } else {
        int[] order =
            device.removeColumnGroups(hessian.inverse(), live(request, hessian), group, count);
        if (order == null) {
          throw lostDefiniteness(request);
        }
        remove(order, keptGroups);
        for (int step = 0; step < count; step++) {
          flop += 6.0 * group * Math.pow(cols - step * group, 2);
        }
      }
    }
    int[] kept = columns(keptGroups, true, group);
    int[] removed = columns(keptGroups, false, group);
    float[] weights = refit(request, kept, removed, hessian, backend);
    boolean[] mask = new boolean[weights.length];
    for (int row = 0; row < request.rows(); row++) {
      for (int col : kept) {
        mask[row * cols + col] = true;
      }
    }
    flop +=
        Math.pow(kept.length, 3)
            + 2.0 * request.rows() * kept.length * (kept.length + removed.length);
    double seconds = (System.nanoTime() - start) / 1e9;
    return new LayerSolution(
        weights,
        mask,
        hessian.damping(),
        hessian.escalations(),
        hessian.deadColumns(),
        seconds,
        1e-9 * flop,
        name(),
        backend.name());
  }

  private static void remove(int[] groups, boolean[] keptGroups) {
    for (int g : groups) {
      keptGroups[g] = false;
    }
  }

  /** The weights in double, 0 in columns that are dead even after damping. */
  private static DoubleMatrix live(SolveRequest request, DampedHessian hessian) {
    DoubleMatrix live = DoubleMatrix.zeros(request.rows(), request.cols());
    for (int row = 0; row < request.rows(); row++) {
      for (int col = 0; col < request.cols(); col++) {
        live.data()[live.index(row, col)] = hessian.weight(row, col);
      }
    }
    return live;
  }

  /** The columns of the groups that are, or are not, kept; ascending. */
  private static int[] columns(boolean[] keptGroups, boolean wanted, int group) {
    int[] columns = new int[keptGroups.length * group];
    int size = 0;
    for (int g = 0; g < keptGroups.length; g++) {
      for (int i = 0; i < group && keptGroups[g] == wanted; i++) {
        columns[size++] = g * group + i;
      }
    }
    return Arrays.copyOf(columns, size);
  }

  /** argmin (Ŵ − W) A (Ŵ − W)ᵀ with Ŵ_R = 0: Ŵ_K = W_K + W_R A_RK (A_KK)⁻¹. */
  private static float[] refit(
      SolveRequest request, int[] kept, int[] removed, DampedHessian hessian, Backend backend) {
    int rows = request.rows();
    int cols = request.cols();
    float[] weights = new float[rows * cols];
    if (removed.length == 0) {
      System.arraycopy(request.weights(), 0, weights, 0, weights.length);
      return weights;
    }
    DoubleMatrix inverse = DoubleMatrix.zeros(kept.length, kept.length);
    DoubleMatrix coupling = DoubleMatrix.zeros(removed.length, kept.length);
    DoubleMatrix gone = DoubleMatrix.zeros(rows, removed.length);
    for (int i = 0; i < kept.length; i++) {
      copyColumns(hessian, kept[i], kept, inverse, i);
    }
    for (int i = 0; i < removed.length; i++) {
      copyColumns(hessian, removed[i], kept, coupling, i);
    }
    for (int row = 0; row < rows; row++) {
      for (int i = 0; i < removed.length; i++) {
        gone.data()[gone.index(row, i)] = request.weights()[row * cols + removed[i]];
      }
    }
    if (backend.invertPositiveDefinite(inverse) >= 0) {
      throw lostDefiniteness(request);
    }
    DoubleMatrix lost = DoubleMatrix.zeros(rows, kept.length);
    DoubleMatrix change = DoubleMatrix.zeros(rows, kept.length);
    backend.gemm(1, gone, coupling, 0, lost);
    backend.gemm(1, lost, inverse, 0, change);
    for (int row = 0; row < rows; row++) {
      for (int i = 0; i < kept.length; i++) {
        int at = row * cols + kept[i];
        weights[at] = (float) (request.weights()[at] + change.at(row, i));
      }
    }
    return weights;
  }

  /** Row {@code to} of {@code target} := the columns {@code columns} of row {@code from} of A. */
  private static void copyColumns(
      DampedHessian a, int from, int[] columns, DoubleMatrix target, int to) {
    for (int i = 0; i < columns.length; i++) {
      target.data()[target.index(to, i)] = a.at(from, columns[i]);
    }
  }

  private static TacoException lostDefiniteness(SolveRequest request) {
    return TacoException.numerical(
        ("layer %s: the Hessian of %d columns is too ill conditioned to remove columns one after"
                + " the other; raise the damping above %s")
            .formatted(request.layer(), request.cols(), request.damping()));
  }

  /** The columns that remain, by position, and what removing each group of them would cost. */
  private static final class Elimination {
    private final SolveRequest request;
    private final Backend backend;
    private final Workers workers;

    /** Columns of a group: g. */
    private final int group;

    /** Distance of rows in memory, of all matrices: the number of columns at the start. */
    private final int stride;

    /** Positions in use; a multiple of g. */
    private int active;

    /** [active / g]: the group at these positions; removed ones stay until the next compaction. */
    private final int[] groupAt;

    private final boolean[] gone;

    /** tr((Q_GG)⁻¹ S_GG), infinite for what is gone. */
    private final double[] cost;

    // Q and S, [active, active], as of the last compaction.
    private final double[] q;
    private final double[] s;

    // The columns of U and T since then, each a row here: [pending, active].
    private final double[] u;
    private final double[] t;
    private int pending;

    // The diagonal blocks of Q and S, up to date: [active, g].
    private final double[] qBlocks;
    private final double[] sBlocks;

    private double flop;

    /**
     * The state before the first removal.
     *
     * @param hessian A of the request; its inverse is overwritten
     */
    Elimination(SolveRequest request, int group, DampedHessian hessian, Backend backend) {
      this.request = request;
      this.backend = backend;
      this.workers = backend.workers();
      this.group = group;
      int cols = request.cols();
      stride = cols;
      active = cols;
      groupAt = SolveRequest.naturalOrder(cols / group);
      gone = new boolean[cols / group];
      cost = new double[cols / group];
      q = hessian.inverse().data();
      DoubleMatrix wide = live(request, hessian);
      DoubleMatrix products = DoubleMatrix.zeros(cols, cols);
      backend.gemm(1, wide.transposed(), wide, 0, products);
      s = products.data();
      int capacity = Math.max(PENDING, group);
      u = new double[capacity * cols];
      t = new double[capacity * cols];
      qBlocks = new double[cols * group];
      sBlocks = new double[cols * group];
      refreshBlocks();
      forEachTile((first, end) -> updateCosts(first, end, 0));
    }

    /** Removes {@code count} groups; which, in their order. */
    int[] remove(int count) {
      int[] order = new int[count];
      for (int step = 0; step < count; step++) {
        if (pending > 0 && (pending + group) * stride > u.length) {
          compact();
        }
        int cheapest = -1;
        for (int i = 0; i < active / group; i++) {
          // A NaN is taken, and kept: it must not pass for expensive.
          if (!gone[i] && (cheapest < 0 || cost[i] < cost[cheapest] || Double.isNaN(cost[i]))) {
            cheapest = i;
          }
        }
        if (!Double.isFinite(cost[cheapest])) {
          throw lostDefiniteness(request);
        }
        order[step] = groupAt[cheapest];
        eliminate(cheapest);
      }
      return order;
    }

    private void eliminate(int chosen) {
      int at = chosen * group;
      double[] l = Arrays.copyOfRange(qBlocks, at * group, (at + group) * group);
      double[] half = Arrays.copyOfRange(sBlocks, at * group, (at + group) * group);
      factor(l, group);
      divide(l, half, group);
      transpose(half, group);
      divide(l, half, group);
      for (int i = 0; i < half.length; i++) {
        half[i] /= 2;
      }
      gone[chosen] = true;
      forEachTile(
          (first, end) -> {
            appendVectors(at, l, half, first, end);
            updateCosts(first, end, group);
          });
      flop += 6.0 * active * group * (pending + group);
      pending += group;
    }

    /** Adds the rows first to end - 1 of U and T that removing the group at {@code at} brings. */
    private void appendVectors(int at, double[] l, double[] half, int first, int end) {
      int size = end - first;
      double[] to = new double[size];
      double[] toS = new double[size];
      for (int i = 0; i < group; i++) {
        System.arraycopy(q, (at + i) * stride + first, to, 0, size);
        System.arraycopy(s, (at + i) * stride + first, toS, 0, size);
        for (int j = 0; j < pending; j++) {
          double uFactor = u[j * stride + at + i];
          double tFactor = t[j * stride + at + i];
          int row = j * stride + first;
          for (int c = 0; c < size; c++) {
            to[c] -= uFactor * u[row + c];
            toS[c] -= uFactor * t[row + c] + tFactor * u[row + c];
          }
        }
        // U Lᵀ = Q_:G, column after column; and the same for S_:G.
        for (int k = 0; k < i; k++) {
          double factor = l[i * group + k];
          int row = (pending + k) * stride + first;
          for (int c = 0; c < size; c++) {
            to[c] -= factor * u[row + c];
            toS[c] -= factor * t[row + c];
          }
        }
        double pivot = 1 / l[i * group + i];
        int row = (pending + i) * stride + first;
        for (int c = 0; c < size; c++) {
          u[row + c] = to[c] * pivot;
          t[row + c] = toS[c] * pivot;
        }
      }
      for (int i = 0; i < group; i++) {
        int row = (pending + i) * stride + first;
        for (int k = 0; k < group; k++) {
          double factor = half[k * group + i];
          int source = (pending + k) * stride + first;
          for (int c = 0; c < size; c++) {
            t[row + c] -= factor * u[source + c];
          }
        }
      }
    }

    /**
     * Takes the newest {@code columns} columns of U and T off the diagonal blocks of positions
     * first to end - 1, and judges the groups anew.
     */
    private void updateCosts(int first, int end, int columns) {
      double[] l = new double[group * group];
      double[] product = new double[group * group];
      for (int at = first; at < end; at += group) {
        if (gone[at / group]) {
          continue;
        }
        for (int i = 0; i < group; i++) {
          for (int j = 0; j < group; j++) {
            double qSum = 0;
            double sSum = 0;
            for (int k = pending; k < pending + columns; k++) {
              int row = k * stride + at;
              qSum += u[row + i] * u[row + j];
              sSum += u[row + i] * t[row + j] + t[row + i] * u[row + j];
            }
            qBlocks[(at + i) * group + j] -= qSum;
            sBlocks[(at + i) * group + j] -= sSum;
          }
        }
        System.arraycopy(qBlocks, at * group, l, 0, l.length);
        System.arraycopy(sBlocks, at * group, product, 0, l.length);
        factor(l, group);
        // tr(L⁻¹ S L⁻ᵀ)
        divide(l, product, group);
        transpose(product, group);
        divide(l, product, group);
        double trace = 0;
        for (int i = 0; i < group; i++) {
          trace += product[i * group + i];
        }
        cost[at / group] = trace;
      }
    }

    /** Drops what is gone, and applies U and T to the rest. */
    private void compact() {
      int[] position = new int[active];
      int size = 0;
      for (int at = 0; at < active; at++) {
        if (!gone[at / group]) {
          position[size++] = at;
        }
      }
      for (int i = 0; i < size; i++) {
        pick(q, position[i], i, position, size);
        pick(s, position[i], i, position, size);
      }
      for (int j = 0; j < pending; j++) {
        pick(u, j, j, position, size);
        pick(t, j, j, position, size);
      }
      for (int i = 0; i < size / group; i++) {
        int from = position[i * group] / group;
        groupAt[i] = groupAt[from];
        cost[i] = cost[from];
        gone[i] = false;
      }
      active = size;
      DoubleMatrix uRows = view(u, pending);
      DoubleMatrix tRows = view(t, pending);
      backend.gemm(-1, uRows.transposed(), uRows, 1, view(q, active));
      backend.gemm(-1, uRows.transposed(), tRows, 1, view(s, active));
      backend.gemm(-1, tRows.transposed(), uRows, 1, view(s, active));
      flop += 6.0 * active * active * pending;
      pending = 0;
      refreshBlocks();
    }

    /** Row {@code to} := the positions of row {@code from}, which may be the same. */
    private void pick(double[] matrix, int from, int to, int[] position, int size) {
      for (int i = 0; i < size; i++) {
        matrix[to * stride + i] = matrix[from * stride + position[i]];
      }
    }

    private DoubleMatrix view(double[] matrix, int rows) {
      return new DoubleMatrix(matrix, 0, rows, active, stride, 1);
    }

    private void refreshBlocks() {
      for (int at = 0; at < active; at++) {
        int first = at / group * group;
        System.arraycopy(q, at * stride + first, qBlocks, at * group, group);
        System.arraycopy(s, at * stride + first, sBlocks, at * group, group);
      }
    }

    /** Something to do for positions [first, end), whole groups. */
    @FunctionalInterface
    private interface TileTask {
      void accept(int first, int end);
    }

    private void forEachTile(TileTask task) {
      int size = Math.max(1, TASK_COLUMNS / group) * group;
      workers.forEach(
          (active + size - 1) / size,
          tile -> task.accept(tile * size, Math.min(active, (tile + 1) * size)));
    }

    /** Factors [n, n] in place, lower triangle; NaN where it is not positive definite. */
    private static void factor(double[] a, int n) {
      for (int j = 0; j < n; j++) {
        for (int i = j; i < n; i++) {
          double sum = a[i * n + j];
          for (int k = 0; k < j; k++) {
            sum -= a[i * n + k] * a[j * n + k];
          }
          a[i * n + j] = i > j ? sum / a[j * n + j] : sum > 0 ? Math.sqrt(sum) : Double.NaN;
        }
      }
    }

    /** B := L⁻¹ B, all [n, n]. */
    private static void divide(double[] l, double[] b, int n) {
      for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++) {
          double factor = l[i * n + k];
          for (int j = 0; j < n; j++) {
            b[i * n + j] -= factor * b[k * n + j];
          }
        }
        double pivot = 1 / l[i * n + i];
        for (int j = 0; j < n; j++) {
          b[i * n + j] *= pivot;
        }
      }
    }

    private static void transpose(double[] a, int n) {
      for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) {
          double swap = a[i * n + j];
          a[i * n + j] = a[j * n + i];
          a[j * n + i] = swap;
        }
      }
    }
  }
}
