package org.taco4j.solve;

import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;

/**
 * The dense weights from which a layer is compressed when it is to hit a target and not merely to
 * repeat itself: ridge regression of the target Y on the inputs X with the weights W as the prior,
 * W₀ = W + (Y − W X) Xᵀ (X Xᵀ + λ mean(diag X Xᵀ) I)⁻¹. Minimising ‖Ŵ X − Y‖² with the same damping
 * is then the layer problem of W₀: both differ by a constant only.
 */
public final class TargetFit {
  private TargetFit() {}

  /**
   * The weights W₀.
   *
   * @param weights [rows, cols] row-major
   * @param damping the λ it took
   * @param escalations how many times λ had to be multiplied by ten
   * @param seconds wall time
   */
  @SuppressWarnings("ArrayRecordComponent") // a large result, owned by whoever asked for it
  public record Fit(float[] weights, double damping, int escalations, double seconds) {}

  /**
   * Fits a layer; parallel.
   *
   * @param request its weights are W, its Hessian that of X, its λ is used; the pattern is not
   * @param cross (Y − W X) Xᵀ scaled as the Hessian is, 2/N: [rows, cols] row-major
   * @throws org.taco4j.common.TacoException of kind NUMERICAL for a Hessian that no damping helps
   */
  public static Fit fit(SolveRequest request, double[] cross, Backend backend) {
    long start = System.nanoTime();
    int rows = request.rows();
    int cols = request.cols();
    DampedHessian damped = DampedHessian.of(request.inNaturalOrder(), backend);
    DoubleMatrix change = DoubleMatrix.zeros(rows, cols);
    backend.gemm(1, DoubleMatrix.of(cross, rows, cols), damped.inverse(), 0, change);
    float[] weights = new float[rows * cols];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = (float) (request.weights()[i] + change.data()[i]);
    }
    return new Fit(
        weights, damped.damping(), damped.escalations(), (System.nanoTime() - start) / 1e9);
  }
}
