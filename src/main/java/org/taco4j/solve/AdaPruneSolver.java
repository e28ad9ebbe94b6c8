package org.taco4j.solve;

import java.util.Arrays;
import org.taco4j.compute.Backend;
import org.taco4j.compute.FloatMatrix;

/**
 * AdaPrune (Hubara et al. 2021, "Accelerated Sparse Neural Training: A Provable and Efficient
 * Method to Find N:M Transposable Masks", section 5): the mask by magnitude, then the weights that
 * stay are fitted to the outputs of the dense layer, {@link Refit#LEAST_SQUARES exactly} or by the
 * paper's {@link Refit#ADAM steps of Adam}.
 */
public final class AdaPruneSolver implements Solver {
  private static final int STEPS = 1000;
  private static final float RATE = 1e-3f;

  // Of Adam (Kingma and Ba 2015, algorithm 1).
  private static final float BETA1 = 0.9f;
  private static final float BETA2 = 0.999f;
  private static final float EPSILON = 1e-8f;

  private final Refit refit;

  /** A solver that fits in the given way. */
  public AdaPruneSolver(Refit refit) {
    this.refit = refit;
  }

  @Override
  public String name() {
    return "adaprune";
  }

  @Override
  public boolean supports(Pattern pattern) {
    return !(pattern instanceof Pattern.Columns);
  }

  @Override
  public LayerSolution solve(SolveRequest request, Backend backend) {
    long start = System.nanoTime();
    Solvers.requireSupport(this, request);
    if (request.pattern().sparsity() == 0) {
      return Solvers.unchanged(this, request, backend);
    }
    float[] ones = new float[request.cols()];
    Arrays.fill(ones, 1);
    boolean[] kept =
        ScoredRemoval.solve(
                request, backend, name(), ones, ScoredRemoval.Comparison.LAYER, 0, start)
            .kept();
    DampedHessian hessian = DampedHessian.of(request, backend);
    float[] weights =
        switch (refit) {
          case LEAST_SQUARES ->
              LeastSquaresRefit.refit(
                  request, hessian, kept, request.pattern().maskRows(), backend);
          case ADAM -> adam(request, hessian, kept, backend);
        };
    return new LayerSolution(
        weights,
        kept,
        hessian.damping(),
        hessian.escalations(),
        hessian.deadColumns(),
        (System.nanoTime() - start) / 1e9,
        gflop(request, kept),
        name(),
        backend.name());
  }

  private double gflop(SolveRequest request, boolean[] kept) {
    return refit == Refit.ADAM
        ? 2e-9 * STEPS * request.rows() * request.cols() * request.cols()
        : LeastSquaresRefit.gflop(request, kept);
  }

  /**
   * Adam on ½ tr(ΔW H̃ ΔWᵀ), the loss over all samples at once, from the dense weights under the
   * mask; its gradient is ΔW H̃ where weights are kept. Float, as the paper's.
   */
  private static float[] adam(
      SolveRequest request, DampedHessian hessian, boolean[] kept, Backend backend) {
    int rows = request.rows();
    int cols = request.cols();
    FloatMatrix h = FloatMatrix.zeros(cols, cols);
    for (int p = 0; p < cols; p++) {
      for (int q = 0; q < cols; q++) {
        h.data()[h.index(request.order()[p], request.order()[q])] = (float) hessian.at(p, q);
      }
    }
    float[] weights = new float[rows * cols];
    FloatMatrix change = FloatMatrix.zeros(rows, cols);
    FloatMatrix gradient = FloatMatrix.zeros(rows, cols);
    float[] mean = new float[rows * cols];
    float[] square = new float[rows * cols];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = kept[i] ? request.weights()[i] : 0;
      change.data()[i] = weights[i] - request.weights()[i];
    }
    for (int step = 1; step <= STEPS; step++) {
      backend.gemm(1, change, h, 0, gradient);
      float rate = (float) (RATE / (1 - Math.pow(BETA1, step)));
      float unbias = (float) (1 / (1 - Math.pow(BETA2, step)));
      backend
          .workers()
          .forEach(
              rows,
              row -> {
                for (int i = row * cols; i < (row + 1) * cols; i++) {
                  float g = kept[i] ? gradient.data()[i] : 0;
                  mean[i] = BETA1 * mean[i] + (1 - BETA1) * g;
                  square[i] = BETA2 * square[i] + (1 - BETA2) * g * g;
                  float move = rate * mean[i] / ((float) Math.sqrt(square[i] * unbias) + EPSILON);
                  weights[i] -= move;
                  change.data()[i] -= move;
                }
              });
    }
    return weights;
  }
}
