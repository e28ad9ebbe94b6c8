package org.taco4j.solve;

import java.util.Random;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;

/** Random layer problems. */
final class LayerProblems {
  private final Random random;

  LayerProblems(long seed) {
    random = new Random(seed);
  }

  float[] gaussian(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /** Of correlated inputs that are not negative. */
  Hessian hessian(int cols, int samples) {
    return hessian(cols, samples, 0);
  }

  /** Of correlated inputs that are not negative, the first {@code dead} of which are always 0. */
  Hessian hessian(int cols, int samples, int dead) {
    double[] gram = new double[cols * cols];
    double[] x = new double[cols];
    for (int s = 0; s < samples; s++) {
      double common = random.nextGaussian();
      for (int i = dead; i < cols; i++) {
        x[i] = Math.max(0, random.nextGaussian() + common);
      }
      for (int i = dead; i < cols; i++) {
        for (int j = dead; j <= i; j++) {
          gram[i * cols + j] += x[i] * x[j];
        }
      }
    }
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j < i; j++) {
        gram[j * cols + i] = gram[i * cols + j];
      }
    }
    return Hessian.ofGram(gram, cols, samples);
  }

  /** A permutation. */
  int[] shuffled(int count) {
    int[] order = SolveRequest.naturalOrder(count);
    for (int i = count - 1; i > 0; i--) {
      int j = random.nextInt(i + 1);
      int swap = order[i];
      order[i] = order[j];
      order[j] = swap;
    }
    return order;
  }

  /** Gaussian weights and correlated inputs. */
  SolveRequest request(int rows, int cols, int samples, String pattern, double damping) {
    float[] weights = gaussian(rows * cols);
    return request(weights, rows, hessian(cols, samples), Pattern.parse(pattern), damping);
  }

  /** A problem in the natural order. */
  static SolveRequest request(
      float[] weights, int rows, Hessian hessian, Pattern pattern, double damping) {
    int cols = hessian.cols();
    int[] order = SolveRequest.naturalOrder(cols);
    return new SolveRequest("layer", weights, rows, cols, hessian, order, pattern, damping);
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

  /** The same problem with column {@code i} moved to {@code to[i]}; in the natural order. */
  static SolveRequest permuted(SolveRequest request, int[] to) {
    int cols = request.cols();
    float[] weights = new float[request.weights().length];
    double[] values = new double[cols * cols];
    for (int i = 0; i < cols; i++) {
      for (int row = 0; row < request.rows(); row++) {
        weights[row * cols + to[i]] = request.weights()[row * cols + i];
      }
      for (int j = 0; j < cols; j++) {
        values[to[i] * cols + to[j]] = request.hessian().values().at(i, j);
      }
    }
    Hessian hessian = new Hessian(DoubleMatrix.of(values, cols, cols), request.hessian().samples());
    return request(weights, request.rows(), hessian, request.pattern(), request.damping());
  }

  /** The layer-wise error of weights. */
  static double error(SolveRequest request, float[] weights, Backend backend) {
    return LayerError.relative(
        request.weights(), weights, request.rows(), request.cols(), request.hessian(), backend);
  }
}
