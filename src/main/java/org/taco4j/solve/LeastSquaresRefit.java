package org.taco4j.solve;

import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.compute.DoubleMatrix;

/**
 * The weights that a given mask allows at their best: each row minimises (ŵ − w) H̃ (ŵ − w)ᵀ over
 * its kept columns K; P are the others. In double, and nothing but the mask decides the result, so
 * that it is free of what rounding did on the way to the mask.
 *
 * <p>Either ŵ_K = w_K + H̃_KK⁻¹ H̃_KP w_Pᵀ, or, where fewer weights are removed than kept, ŵ = w −
 * w_P (H̃⁻¹_PP)⁻¹ H̃⁻¹_P: (Hassibi and Stork 1992, equation 5, for several weights at once); each
 * by a Cholesky factorisation of the smaller of the two.
 */
final class LeastSquaresRefit {
  private LeastSquaresRefit() {}

  /**
   * Refits all rows; parallel.
   *
   * @param hessian of the same request
   * @param kept the mask, [rows, cols] row-major, by columns (not positions)
   * @param maskRows so many consecutive rows share a mask each; 1 where each has its own
   * @return Ŵ: [rows, cols] row-major; removed weights are exactly +0
   * @throws TacoException of kind NUMERICAL where a part of H̃ is not positive definite
   */
  static float[] refit(
      SolveRequest request, DampedHessian hessian, boolean[] kept, int maskRows, Backend backend) {
    DeviceKernels device = backend.device();
    if (device != null) {
      return refit(request, hessian, kept, maskRows, backend, device);
    }
    int rows = request.rows();
    int cols = request.cols();
    int sets = (rows + maskRows - 1) / maskRows;
    int[][] removed = new int[sets][];
    // The weights that go, by positions, [rows, cols]; elsewhere 0.
    DoubleMatrix gone = DoubleMatrix.zeros(rows, cols);
    backend
        .workers()
        .forEach(
            sets,
            set -> {
              int first = set * maskRows;
              removed[set] = positions(request, kept, first, false);
              for (int row = first; row < Math.min(rows, first + maskRows); row++) {
                for (int p : removed[set]) {
                  gone.data()[gone.index(row, p)] = hessian.weight(row, p);
                }
              }
            });
    // H̃_KP w_P for all rows: (the damping on the diagonal does not come into it).
    DoubleMatrix pull = DoubleMatrix.zeros(rows, cols);
    backend.gemm(1, gone, ordered(request, backend), 0, pull);
    // What is to be spread by H̃⁻¹: w_P (H̃⁻¹_PP)⁻¹.
    DoubleMatrix spread = DoubleMatrix.zeros(rows, cols);

    double[] weights = new double[rows * cols];
    int[] largestFirst =
        IntStream.range(0, sets)
            .boxed()
            .sorted(
                Comparator.comparingInt(
                    set -> -Math.min(removed[set].length, cols - removed[set].length)))
            .mapToInt(Integer::intValue)
            .toArray();
    backend
        .workers()
        .forEach(
            sets,
            task -> {
              int set = largestFirst[task];
              int first = set * maskRows;
              int count = Math.min(rows, first + maskRows) - first;
              int[] goners = removed[set];
              boolean solveKept = cols - goners.length <= goners.length;
              int[] part = solveKept ? positions(request, kept, first, true) : goners;
              DoubleMatrix a = DoubleMatrix.zeros(part.length, part.length);
              for (int i = 0; i < part.length; i++) {
                for (int j = 0; j <= i; j++) {
                  a.data()[a.index(i, j)] =
                      solveKept
                          ? hessian.at(part[i], part[j])
                          : hessian.inverse().at(part[i], part[j]);
                }
              }
              DoubleMatrix b = DoubleMatrix.zeros(count, part.length);
              DoubleMatrix given = solveKept ? pull : gone;
              copy(given, first, part, b, true);
              int failed = backend.solvePositiveDefinite(a, b.transposed());
              if (failed >= 0) {
                throw dependent(request, hessian, part.length, first);
              }
              DoubleMatrix to = solveKept ? DoubleMatrix.of(weights, rows, cols) : spread;
              copy(to, first, part, b, false);
            });
    DoubleMatrix changes = DoubleMatrix.of(weights, rows, cols);
    backend.gemm(-1, spread, hessian.inverse(), 1, changes);

    float[] refitted = new float[rows * cols];
    backend
        .workers()
        .forEach(
            rows,
            row -> {
              for (int p = 0; p < cols; p++) {
                int at = row * cols + request.order()[p];
                refitted[at] =
                    kept[at] ? (float) (hessian.weight(row, p) + weights[row * cols + p]) : 0;
              }
            });
    return refitted;
  }

  /** {@link #refit} as one operation of a device. */
  private static float[] refit(
      SolveRequest request,
      DampedHessian hessian,
      boolean[] kept,
      int maskRows,
      Backend backend,
      DeviceKernels device) {
    int rows = request.rows();
    int cols = request.cols();
    int[] order = request.order();
    float[] weights = new float[rows * cols];
    boolean[] mask = new boolean[rows * cols];
    Workers workers = backend.workers();
    workers.forEach(
        rows,
        row -> {
          for (int p = 0; p < cols; p++) {
            weights[row * cols + p] = hessian.weight(row, p);
            mask[row * cols + p] = kept[row * cols + order[p]];
          }
        });
    int failed =
        device.leastSquaresRefit(
            hessian.damped(backend), hessian.inverse(), weights, mask, maskRows);
    if (failed >= 0) {
      int size = positions(request, kept, failed, true).length;
      throw dependent(request, hessian, Math.min(size, cols - size), failed);
    }
    float[] refitted = new float[rows * cols];
    workers.forEach(
        rows,
        row -> {
          for (int p = 0; p < cols; p++) {
            refitted[row * cols + order[p]] = weights[row * cols + p];
          }
        });
    return refitted;
  }

  private static TacoException dependent(
      SolveRequest request, DampedHessian hessian, int columns, int row) {
    return TacoException.numerical(
        "layer %s: %d of %d columns depend on each other in rows from %d; use more damping than %s"
            .formatted(request.layer(), columns, request.cols(), row, hessian.damping()));
  }

  /** Operations in 1e9 of a refit and of the inverse that it needs. */
  static double gflop(SolveRequest request, boolean[] kept) {
    int cols = request.cols();
    double square = (double) cols * cols;
    double flop = square * cols + 2.0 * request.rows() * square;
    for (int row = 0; row < request.rows(); row += request.pattern().maskRows()) {
      int size = 0;
      for (int j = 0; j < cols; j++) {
        size += kept[row * cols + j] ? 1 : 0;
      }
      flop += Math.pow(Math.min(size, cols - size), 3) / 3;
    }
    return 1e-9 * flop;
  }

  /** The positions that a row keeps, or those it does not, ascending. */
  private static int[] positions(SolveRequest request, boolean[] kept, int row, boolean which) {
    int cols = request.cols();
    int[] found = new int[cols];
    int count = 0;
    for (int p = 0; p < cols; p++) {
      if (kept[row * cols + request.order()[p]] == which) {
        found[count++] = p;
      }
    }
    return Arrays.copyOf(found, count);
  }

  /** H in the request's order. */
  private static DoubleMatrix ordered(SolveRequest request, Backend backend) {
    int cols = request.cols();
    int[] order = request.order();
    DoubleMatrix h = request.hessian().values();
    if (Arrays.equals(order, SolveRequest.naturalOrder(cols))) {
      return h;
    }
    DoubleMatrix ordered = DoubleMatrix.zeros(cols, cols);
    backend
        .workers()
        .forEach(
            cols,
            p -> {
              for (int q = 0; q < cols; q++) {
                ordered.data()[ordered.index(p, q)] = h.at(order[p], order[q]);
              }
            });
    return ordered;
  }

  /** Between rows first, first + 1, … of a matrix at the given positions and a dense matrix. */
  private static void copy(
      DoubleMatrix matrix, int first, int[] part, DoubleMatrix dense, boolean toDense) {
    for (int r = 0; r < dense.rows(); r++) {
      for (int i = 0; i < part.length; i++) {
        int sparse = matrix.index(first + r, part[i]);
        int compact = dense.index(r, i);
        if (toDense) {
          dense.data()[compact] = matrix.data()[sparse];
        } else {
          matrix.data()[sparse] = dense.data()[compact];
        }
      }
    }
  }
}
