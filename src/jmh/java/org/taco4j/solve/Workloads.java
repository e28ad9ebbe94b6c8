package org.taco4j.solve;

import java.util.List;
import java.util.Random;
import org.taco4j.compute.Backend;
import org.taco4j.compute.FloatMatrix;

/** What the benchmarks of solvers share. */
final class Workloads {
  private Workloads() {}

  /** Of correlated inputs as a ReLU gives them. */
  static Hessian reluHessian(int cols, int samples, Random random, Backend backend) {
    FloatMatrix x = FloatMatrix.zeros(samples, cols);
    for (int s = 0; s < samples; s++) {
      double common = random.nextGaussian();
      for (int i = 0; i < cols; i++) {
        x.data()[x.index(s, i)] = (float) Math.max(0, random.nextGaussian() + 0.5 * common);
      }
    }
    FloatMatrix gram = FloatMatrix.zeros(cols, cols);
    backend.gemm(1, x.transposed(), x, 0, gram);
    double[] symmetric = new double[cols * cols];
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j < cols; j++) {
        symmetric[i * cols + j] = gram.at(Math.max(i, j), Math.min(i, j));
      }
    }
    return Hessian.ofGram(symmetric, cols, samples);
  }

  static double median(List<Double> values) {
    return values.stream().sorted().toList().get(values.size() / 2);
  }
}
