package org.taco4j.solve;

import java.util.concurrent.atomic.AtomicBoolean;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;

/**
 * H̃ = H + λ · mean(diag H) · I of a layer problem and its inverse, in double, for solvers that
 * treat every column alike (OBC, ZipLM, and least-squares refits). Columns are in the request's
 * order: position p is column {@code order[p]}.
 *
 * <p>Dead columns are looked for after damping, as OBC does (Frantar and Alistarh 2022): with
 * damping they keep λ · mean(diag H) as their diagonal, and are cheap to remove; without, they get
 * 1 and their weights count as 0.
 */
final class DampedHessian {
  /** Fixed borders of tasks. */
  private static final int TASK_POSITIONS = 16;

  private final SolveRequest request;
  private final DoubleMatrix inverse;
  private final double damping;
  private final int escalations;
  private final double shift;

  private DampedHessian(SolveRequest request, DampingEscalation.Damped<DoubleMatrix> damped) {
    this.request = request;
    this.inverse = damped.factor();
    this.damping = damped.damping();
    this.escalations = damped.escalations();
    this.shift = request.hessian().shift(damping);
  }

  /**
   * Damps and inverts the request's Hessian, with more damping where that is needed; parallel.
   *
   * @throws org.taco4j.common.TacoException of kind NUMERICAL for a Hessian that no damping helps
   */
  static DampedHessian of(SolveRequest request, Backend backend) {
    int cols = request.cols();
    DoubleMatrix inverse = DoubleMatrix.zeros(cols, cols);
    return new DampedHessian(
        request,
        DampingEscalation.escalate(
            request,
            damping -> {
              double shift = request.hessian().shift(damping);
              fillLower(request, shift, inverse, backend);
              return backend.invertPositiveDefinite(inverse) < 0
                      && isMeaningful(request, shift, inverse)
                  ? inverse
                  : null;
            }));
  }

  private static double diagonal(SolveRequest request, double shift, int position) {
    double damped = request.hessian().diagonal(request.order()[position]) + shift;
    return damped == 0 ? 1 : damped;
  }

  private static void fillLower(
      SolveRequest request, double shift, DoubleMatrix to, Backend backend) {
    int cols = request.cols();
    int[] order = request.order();
    DoubleMatrix h = request.hessian().values();
    AtomicBoolean finite = new AtomicBoolean(true);
    int tasks = (cols + TASK_POSITIONS - 1) / TASK_POSITIONS;
    backend
        .workers()
        .forEach(
            tasks,
            task -> {
              // The long rows first.
              int from = (tasks - 1 - task) * TASK_POSITIONS;
              double poison = 0;
              for (int p = from; p < Math.min(cols, from + TASK_POSITIONS); p++) {
                int source = h.index(order[p], 0);
                int row = to.index(p, 0);
                for (int q = 0; q < p; q++) {
                  double value = h.data()[source + order[q]];
                  poison += value * 0; // NaN as soon as one value is NaN or infinite
                  to.data()[row + q] = value;
                }
                double value = diagonal(request, shift, p);
                poison += value * 0;
                to.data()[row + p] = value;
              }
              if (Double.isNaN(poison)) {
                finite.set(false);
              }
            });
    if (!finite.get()) {
      throw DampingEscalation.notFinite(request);
    }
  }

  /**
   * Whether no column depends on the others but for rounding: 1 / (H̃⁻¹)_pp is what is left of
   * H̃_pp when all other columns have explained what they can. Grams are added up from float
   * products, so that the float epsilon is the measure here too.
   */
  private static boolean isMeaningful(SolveRequest request, double shift, DoubleMatrix inverse) {
    for (int p = 0; p < inverse.cols(); p++) {
      double explained = inverse.at(p, p) * diagonal(request, shift, p);
      // Written so that NaN fails too.
      if (!(explained * Math.ulp(1f) <= 1)) {
        return false;
      }
    }
    return true;
  }

  /** H̃⁻¹, [cols, cols] by positions, both triangles. */
  DoubleMatrix inverse() {
    return inverse;
  }

  /** H̃ at two positions. */
  double at(int p, int q) {
    int[] order = request.order();
    return p == q ? diagonal(request, shift, p) : request.hessian().values().at(order[p], order[q]);
  }

  /** H̃, [cols, cols] by positions, both triangles: a new matrix; parallel. */
  DoubleMatrix damped(Backend backend) {
    int cols = request.cols();
    DoubleMatrix damped = DoubleMatrix.zeros(cols, cols);
    backend
        .workers()
        .forEach(
            cols,
            p -> {
              for (int q = 0; q < cols; q++) {
                damped.data()[damped.index(p, q)] = at(p, q);
              }
            });
    return damped;
  }

  /** The weight at a position of a row: 0 in a column that is dead even after damping. */
  float weight(int row, int p) {
    int col = request.order()[p];
    return isDead(col) ? 0 : request.weights()[row * request.cols() + col];
  }

  /** Whether a column (not a position) is dead even after damping. */
  private boolean isDead(int col) {
    return request.hessian().diagonal(col) + shift == 0;
  }

  /** A copy of weights, [rows, cols], with 0 in the columns that are dead even after damping. */
  float[] live(float[] weights) {
    float[] live = weights.clone();
    for (int i = 0; i < live.length; i++) {
      live[i] = isDead(i % request.cols()) ? 0 : live[i];
    }
    return live;
  }

  /** The λ it took. */
  double damping() {
    return damping;
  }

  /** How many times λ was raised. */
  int escalations() {
    return escalations;
  }

  /** How many inputs were never anything but 0. */
  int deadColumns() {
    return request.hessian().deadColumns();
  }
}
