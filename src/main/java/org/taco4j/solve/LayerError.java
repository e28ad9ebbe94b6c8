package org.taco4j.solve;

import org.taco4j.compute.Backend;
import org.taco4j.compute.FloatMatrix;

/**
 * The layer-wise error, by which solvers are compared: the sums of tr(ΔW H ΔWᵀ) and tr(W H Wᵀ) over
 * the layer problems added.
 */
public final class LayerError {
  private double error;
  private double energy;

  /** The error of no layer problem yet: 0. */
  public LayerError() {}

  /**
   * Adds a layer problem, such as one group of a convolution.
   *
   * @param before W: [rows, cols] row-major
   * @param after Ŵ: [rows, cols] row-major
   * @param hessian of the inputs on which the error is asked: calibration or held out
   */
  public void add(
      float[] before, float[] after, int rows, int cols, Hessian hessian, Backend backend) {
    float[] change = new float[before.length];
    for (int i = 0; i < change.length; i++) {
      change[i] = after[i] - before[i];
    }
    // Rounding may leave a change without effect a little below 0.
    error +=
        Math.max(0, backend.quadraticForm(FloatMatrix.of(change, rows, cols), hessian.values()));
    energy += backend.quadraticForm(FloatMatrix.of(before, rows, cols), hessian.values());
  }

  /**
   * ‖Ŵ X − W X‖² / ‖W X‖² over all that was added, in double; 0 for 0/0, and infinite where only
   * the denominator is 0.
   */
  public double relative() {
    return error == 0 ? 0 : error / energy;
  }

  /**
   * The error of a single layer problem: ‖Ŵ X − W X‖² / ‖W X‖² = tr(ΔW H ΔWᵀ) / tr(W H Wᵀ), in
   * double; 0 for 0/0, and infinite where only the denominator is 0.
   *
   * @param before W: [rows, cols] row-major
   * @param after Ŵ: [rows, cols] row-major
   * @param hessian of the inputs on which the error is asked: calibration or held out
   */
  public static double relative(
      float[] before, float[] after, int rows, int cols, Hessian hessian, Backend backend) {
    LayerError error = new LayerError();
    error.add(before, after, rows, cols, hessian, backend);
    return error.relative();
  }
}
