package org.taco4j.solve;

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
  /**
   * The inverse for a request. λ is raised until no pivot is rounding error: 1 / [H⁻¹]_jj is the
   * pivot of column j were it the last, and comes out as some multiple of the float epsilon of the
   * Gram matrix instead of 0 where the column depends on the others.
   *
   * @throws org.taco4j.common.TacoException of kind NUMERICAL where the Hessian is not finite or
   *     cannot be inverted
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
        throw DampingEscalation.notFinite(request);
      }
    }
    DoubleMatrix inverse = DoubleMatrix.zeros(cols, cols);
    DampingEscalation.Damped<DoubleMatrix> damped =
        DampingEscalation.escalate(
            request,
            damping -> {
              double shift = shift(request.hessian(), damping);
              for (int i = 0; i < cols; i++) {
                int row = request.hessian().values().index(i, 0);
                System.arraycopy(h, row, inverse.data(), i * cols, cols);
                inverse.data()[i * cols + i] += shift;
              }
              return backend.invertPositiveDefinite(inverse) < 0
                      && isMeaningful(inverse, request.hessian(), shift)
                  ? inverse
                  : null;
            });
    return new DampedInverse(damped.factor(), damped.damping(), damped.escalations());
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
      if (!(inverse.at(j, j) * (hessian.diagonal(j) + shift) * Math.ulp(1f) <= 1)) {
        return false;
      }
    }
    return true;
  }
}
