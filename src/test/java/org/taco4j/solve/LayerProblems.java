package org.taco4j.solve;

import java.util.Random;

/** Random layer problems. */
final class LayerProblems {
  private final Random random;

  LayerProblems(long seed) {
    random = new Random(seed);
  }

  /** Gaussian weights and correlated, positive inputs. */
  SolveRequest request(int rows, int cols, int samples, String pattern, double damping) {
    float[] weights = new float[rows * cols];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = (float) random.nextGaussian();
    }
    double[] gram = new double[cols * cols];
    double[] x = new double[cols];
    for (int s = 0; s < samples; s++) {
      double common = random.nextGaussian();
      for (int i = 0; i < cols; i++) {
        x[i] = Math.max(0, random.nextGaussian() + common);
      }
      for (int i = 0; i < cols; i++) {
        for (int j = 0; j < cols; j++) {
          gram[i * cols + j] += x[i] * x[j];
        }
      }
    }
    return new SolveRequest(
        "layer",
        weights,
        rows,
        cols,
        Hessian.ofGram(gram, cols, samples),
        SolveRequest.naturalOrder(cols),
        Pattern.parse(pattern),
        damping);
  }

  /** The same problem with another pattern and damping. */
  static SolveRequest with(SolveRequest request, String pattern, double damping) {
    return new SolveRequest(
        request.layer(),
        request.weights(),
        request.rows(),
        request.cols(),
        request.hessian(),
        request.order(),
        Pattern.parse(pattern),
        damping);
  }
}
