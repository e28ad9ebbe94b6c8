package org.taco4j.tune;

import java.util.Arrays;
import java.util.List;
import org.taco4j.data.TrainingImages;

/**
 * A linear classifier on features that stay, trained by stochastic gradient descent on the cross
 * entropy. Features are centred and divided by one number, so that the largest eigenvalue of their
 * second moment is {@value #LARGEST_EIGENVALUE}: the curvature of the loss is then at most half of
 * it, and the usual learning rate of 0.1 neither diverges nor crawls, whatever features a backbone
 * gives. As it is one number, zeros of weights stay zeros. All in double, in one thread.
 */
final class SoftmaxRegression {
  private static final double LARGEST_EIGENVALUE = 10;
  private static final int POWER_ITERATIONS = 100;

  private final int inputs;
  private final int classes;
  private final double[] mean;
  private final double scale;

  /** [classes, inputs] of scaled features, and [classes]. */
  private final double[] weights;

  private final double[] bias;
  private final double[] weightVelocity;
  private final double[] biasVelocity;

  /**
   * A classifier of zeros, for features of this kind.
   *
   * @param features of each image, [inputs]
   */
  SoftmaxRegression(List<float[]> features, int classes) {
    this.inputs = features.getFirst().length;
    this.classes = classes;
    mean = new double[inputs];
    for (float[] x : features) {
      for (int i = 0; i < inputs; i++) {
        mean[i] += x[i] / (double) features.size();
      }
    }
    double largest = largestEigenvalue(features);
    scale = largest > 0 ? Math.sqrt(largest / LARGEST_EIGENVALUE) : 1;
    weights = new double[classes * inputs];
    bias = new double[classes];
    weightVelocity = new double[weights.length];
    biasVelocity = new double[classes];
  }

  /** Of the covariance of the features, by power iteration. */
  private double largestEigenvalue(List<float[]> features) {
    double[] vector = new double[inputs];
    // No direction is special, and none is exactly orthogonal to it.
    for (int i = 0; i < inputs; i++) {
      vector[i] = 1 + i % 7 / 7.0;
    }
    double eigenvalue = 0;
    for (int iteration = 0; iteration < POWER_ITERATIONS; iteration++) {
      double norm = Math.sqrt(Arrays.stream(vector).map(v -> v * v).sum());
      if (norm == 0) {
        return 0;
      }
      double[] next = new double[inputs];
      for (float[] x : features) {
        double dot = 0;
        for (int i = 0; i < inputs; i++) {
          dot += (x[i] - mean[i]) * vector[i] / norm;
        }
        for (int i = 0; i < inputs; i++) {
          next[i] += dot * (x[i] - mean[i]) / features.size();
        }
      }
      vector = next;
      eigenvalue = Math.sqrt(Arrays.stream(next).map(v -> v * v).sum());
    }
    return eigenvalue;
  }

  /** Starts from a classifier of features as they are: [classes, inputs] and [classes]. */
  void set(float[] newWeights, float[] newBias) {
    for (int c = 0; c < classes; c++) {
      bias[c] = newBias[c];
      for (int i = 0; i < inputs; i++) {
        double w = newWeights[c * inputs + i];
        weights[c * inputs + i] = w * scale;
        bias[c] += w * mean[i];
      }
    }
  }

  /** The weights for features as they are, [classes, inputs]. */
  float[] weights() {
    float[] plain = new float[weights.length];
    for (int i = 0; i < plain.length; i++) {
      plain[i] = (float) (weights[i] / scale);
    }
    return plain;
  }

  /** The bias for features as they are, [classes]. */
  float[] bias() {
    float[] plain = new float[classes];
    for (int c = 0; c < classes; c++) {
      double b = bias[c];
      for (int i = 0; i < inputs; i++) {
        b -= weights[c * inputs + i] / scale * mean[i];
      }
      plain[c] = (float) b;
    }
    return plain;
  }

  /**
   * Means over images.
   *
   * @param loss cross entropy
   * @param accuracy part of the images whose label has the highest score
   */
  record Fit(double loss, double accuracy) {}

  Fit evaluate(List<float[]> features, List<Integer> labels) {
    double loss = 0;
    int correct = 0;
    for (int n = 0; n < features.size(); n++) {
      double[] logProbabilities = logProbabilities(features.get(n));
      int best = 0;
      for (int c = 1; c < classes; c++) {
        best = logProbabilities[c] > logProbabilities[best] ? c : best;
      }
      loss -= logProbabilities[labels.get(n)];
      correct += best == labels.get(n) ? 1 : 0;
    }
    return new Fit(loss / features.size(), correct / (double) features.size());
  }

  private double[] logProbabilities(float[] x) {
    double[] scores = bias.clone();
    for (int c = 0; c < classes; c++) {
      for (int i = 0; i < inputs; i++) {
        scores[c] += weights[c * inputs + i] * (x[i] - mean[i]) / scale;
      }
    }
    double max = Arrays.stream(scores).max().orElseThrow();
    double sum = Arrays.stream(scores).map(s -> StrictMath.exp(s - max)).sum();
    double log = max + StrictMath.log(sum);
    for (int c = 0; c < classes; c++) {
      scores[c] -= log;
    }
    return scores;
  }

  /**
   * One pass over the images.
   *
   * @param keep [classes, inputs]: which weights may be other than zero
   */
  void pass(
      List<float[]> features,
      List<Integer> labels,
      boolean[] keep,
      LinearProbe.Settings settings,
      int pass) {
    int[] order = TrainingImages.order(features.size(), settings.seed(), pass);
    for (int first = 0; first < order.length; first += settings.batch()) {
      int end = Math.min(order.length, first + settings.batch());
      double[] weightGradient = new double[weights.length];
      double[] biasGradient = new double[classes];
      for (int k = first; k < end; k++) {
        float[] x = features.get(order[k]);
        double[] logProbabilities = logProbabilities(x);
        for (int c = 0; c < classes; c++) {
          double target = labels.get(order[k]) == c ? 1 : 0;
          double residual = (StrictMath.exp(logProbabilities[c]) - target) / (end - first);
          biasGradient[c] += residual;
          for (int i = 0; i < inputs; i++) {
            weightGradient[c * inputs + i] += residual * (x[i] - mean[i]) / scale;
          }
        }
      }
      descend(weights, weightVelocity, weightGradient, settings);
      descend(bias, biasVelocity, biasGradient, settings);
      for (int i = 0; i < weights.length; i++) {
        if (!keep[i]) {
          weights[i] = 0;
        }
      }
    }
  }

  private static void descend(
      double[] values, double[] velocity, double[] gradient, LinearProbe.Settings settings) {
    for (int i = 0; i < values.length; i++) {
      velocity[i] = settings.momentum() * velocity[i] + gradient[i];
      values[i] -= settings.learningRate() * velocity[i];
    }
  }
}
