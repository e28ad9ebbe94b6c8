package org.taco4j.solve;

import org.taco4j.common.TacoException;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;

/**
 * (H + λ · mean(diag H) · I)⁻¹ in double. Dead columns get no treatment of their own: damping makes
 * them cheap.
 *
 * @param values [cols, cols] row-major, exactly symmetric; owned by whoever asked for it
 * @param damping the λ it took
 * @param escalations how many times λ had to be multiplied by ten
 */
record DampedInverse(DoubleMatrix values, double damping, int escalations) {
  /** Where escalation starts when no damping was asked for. */
  private static final double FIRST_DAMPING = 1e-12;

  /**
   * The inverse for a request. λ is raised until no pivot is rounding error: 1 / [H⁻¹]_jj is the
   * pivot of column j were it the last, and comes out as some multiple of the epsilon instead of 0
   * where the column depends on the others.
   *
   * @throws TacoException of kind NUMERICAL where the Hessian is not finite or cannot be inverted
   */
  static DampedInverse of(SolveRequest request, Backend backend) {
    int cols = request.cols();
    double[] h = request.hessian().values().data();
    for (int i = 0; i < cols; i++) {
      int row = request.hessian().values().index(i, 0);
      double poison = 0;
      for (int j = 0; j < cols; j++) {
        poison += h[row + j] * 0; // NaN as soon as one value is NaN or infinite
      }
      if (Double.isNaN(poison)) {
        throw TacoException.numerical(
            "layer %s: the Hessian holds NaN or infinite values; are the calibration images and the"
                    .formatted(request.layer())
                + " preprocessing sound?");
      }
    }
    double damping = request.damping();
    DoubleMatrix inverse = DoubleMatrix.zeros(cols, cols);
    for (int escalations = 0; ; escalations++) {
      double shift = shift(request.hessian(), damping);
      for (int i = 0; i < cols; i++) {
        System.arraycopy(h, request.hessian().values().index(i, 0), inverse.data(), i * cols, cols);
        inverse.data()[i * cols + i] += shift;
      }
      if (backend.invertPositiveDefinite(inverse) < 0
          && isMeaningful(inverse, request.hessian(), shift)) {
        return new DampedInverse(inverse, damping, escalations);
      }
      damping = Math.max(FIRST_DAMPING, damping * 10);
      if (damping > 1) {
        throw TacoException.numerical(
            "layer %s: the Hessian [%d, %d] of %d samples is not positive definite, even with damping"
                    .formatted(request.layer(), cols, cols, request.hessian().samples())
                + " 1; are the calibration images sound?");
      }
    }
  }

  /** λ · mean(diag H); 1 where all columns are dead. */
  static double shift(Hessian hessian, double damping) {
    double trace = 0;
    for (int j = 0; j < hessian.cols(); j++) {
      trace += hessian.diagonal(j);
    }
    return trace == 0 ? 1 : damping * trace / hessian.cols();
  }

  private static boolean isMeaningful(DoubleMatrix inverse, Hessian hessian, double shift) {
    for (int j = 0; j < hessian.cols(); j++) {
      // Written so that NaN fails too.
      if (!(inverse.at(j, j) * (hessian.diagonal(j) + shift) * Math.ulp(1.0) * 1024 <= 1)) {
        return false;
      }
    }
    return true;
  }
}
