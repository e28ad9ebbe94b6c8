package org.taco4j.solve;

import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;

/**
 * Damping of H until it can be factored, the same for every solver: from the λ that was asked for
 * upwards, by factors of ten.
 */
final class DampingEscalation {
  /** Where escalation starts when no damping was asked for. */
  private static final double FIRST = 1e-8;

  private DampingEscalation() {}

  /** A factorisation with the given λ, or null where H with it is not positive definite. */
  @FunctionalInterface
  interface Attempt<T> {
    @Nullable T factorise(double damping);
  }

  /** The factorisation, the λ that it took, and how many times that had to be raised. */
  record Damped<T>(T factor, double damping, int escalations) {}

  /**
   * The first attempt that succeeds.
   *
   * @throws TacoException of kind NUMERICAL where none does up to λ = 1
   */
  static <T> Damped<T> escalate(SolveRequest request, Attempt<T> attempt) {
    double damping = request.damping();
    for (int escalations = 0; ; escalations++) {
      T factor = attempt.factorise(damping);
      if (factor != null) {
        return new Damped<>(factor, damping, escalations);
      }
      damping = Math.max(FIRST, damping * 10);
      if (damping > 1) {
        throw TacoException.numerical(
            "layer %s: the %s is not positive definite, even with damping"
                    .formatted(request.layer(), request.hessian().describe())
                + " 1; are the calibration images sound?");
      }
    }
  }

  /** The exception for a Hessian with values that are not finite. */
  static TacoException notFinite(SolveRequest request) {
    return TacoException.numerical(
        "layer %s: the Hessian holds NaN or infinite values; are the calibration images and the"
                .formatted(request.layer())
            + " preprocessing sound?");
  }
}
