package org.taco4j.tune;

import java.util.Locale;
import org.taco4j.common.TacoException;

/**
 * A rule by which gradients change weights; PyTorch's of the same names, with its defaults.
 *
 * @param rule which one
 * @param learningRate at the first step
 * @param schedule of the learning rate
 * @param weightDecay for {@link Rule#ADAMW} the weights shrink by learning rate · decay a step; for
 *     the others decay · weight is added to the gradient
 * @param momentum of {@link Rule#SGD}; Adam's β₁ and β₂ are 0.9 and 0.999, its ε 1e-8
 */
public record Optimizer(
    Rule rule, double learningRate, Schedule schedule, double weightDecay, double momentum) {
  static final double BETA1 = 0.9;
  static final double BETA2 = 0.999;
  static final double EPSILON = 1e-8;

  /** The rules. */
  public enum Rule {
    /** Adam (Kingma and Ba 2015). */
    ADAM,
    /** Adam with decoupled weight decay (Loshchilov and Hutter 2019). */
    ADAMW,
    /** Stochastic gradient descent with momentum. */
    SGD;

    /** Tensors of the size of the weights that the rule keeps. */
    int moments() {
      return this == SGD ? 1 : 2;
    }

    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  /** How the learning rate goes on. */
  public enum Schedule {
    /** It stays. */
    CONSTANT,
    /** It falls with each step, on a line that reaches 0 after the last one. */
    LINEAR;

    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  /** Checks the numbers. */
  public Optimizer {
    if (!(learningRate > 0 && Double.isFinite(learningRate))) {
      throw TacoException.usage("the learning rate must be above 0, not " + learningRate);
    }
    if (!(weightDecay >= 0 && Double.isFinite(weightDecay))) {
      throw TacoException.usage("the weight decay must not be negative, it is " + weightDecay);
    }
    if (!(momentum >= 0 && momentum < 1)) {
      throw TacoException.usage("the momentum must be at least 0 and below 1, not " + momentum);
    }
  }

  /** This with another learning rate. */
  public Optimizer withLearningRate(double newLearningRate) {
    return new Optimizer(rule, newLearningRate, schedule, weightDecay, momentum);
  }

  /**
   * The learning rate of a step.
   *
   * @param step from 0 on
   * @param steps of the whole tuning
   */
  double rate(long step, long steps) {
    return switch (schedule) {
      case CONSTANT -> learningRate;
      case LINEAR -> learningRate * (steps - step) / steps;
    };
  }
}
