package org.taco4j.tune;

import java.util.List;
import java.util.Locale;
import org.taco4j.common.TacoException;

/**
 * What tuning minimises, a weighted sum of means over images. With s and t the outputs of the
 * compressed model (student) and of the dense one (teacher):
 *
 * <ul>
 *   <li>task loss: the cross entropy of softmax(s) and the label;
 *   <li>logit distillation: {@link Distillation};
 *   <li>feature distillation: ‖s - t‖² / ‖t‖² over all values of an intermediate tensor of an
 *       image, averaged over the tensors.
 * </ul>
 *
 * @param taskWeight of the task loss
 * @param distillation kind of the logit distillation
 * @param logitWeight of the logit distillation
 * @param temperature by which {@link Distillation#KL} divides the logits
 * @param featureWeight of the feature distillation
 * @param features names of the intermediate tensors; empty: the ends of blocks, where tensors join
 */
public record Objective(
    double taskWeight,
    Distillation distillation,
    double logitWeight,
    double temperature,
    double featureWeight,
    List<String> features) {

  /** How far logits are apart. */
  public enum Distillation {
    /** The mean of (s - t)² over the classes. */
    L2,
    /** T² · KL(softmax(t / T) ‖ softmax(s / T)), T the temperature (Hinton et al. 2015). */
    KL;

    /**
     * Reads a name, in any case.
     *
     * @throws TacoException of kind USAGE for an unknown one
     */
    public static Distillation parse(String text) {
      for (Distillation value : values()) {
        if (value.name().equalsIgnoreCase(text.strip())) {
          return value;
        }
      }
      throw TacoException.usage("unknown distillation '" + text + "'; there are l2, kl");
    }

    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  /** Checks that there is something to minimise. */
  public Objective {
    features = List.copyOf(features);
    for (double weight : new double[] {taskWeight, logitWeight, featureWeight}) {
      if (!(weight >= 0 && Double.isFinite(weight))) {
        throw TacoException.usage("a weight of the loss must be at least 0, not " + weight);
      }
    }
    if (taskWeight + logitWeight + featureWeight == 0) {
      throw TacoException.usage("all weights of the loss are 0: there is nothing to minimise");
    }
    if (!(temperature > 0 && Double.isFinite(temperature))) {
      throw TacoException.usage("the temperature must be above 0, not " + temperature);
    }
  }

  /** TACO's first form: the L2 distance of logits. */
  public static Objective logits() {
    return new Objective(0, Distillation.L2, 1, 1, 0, List.of());
  }

  /**
   * TACO's second form: task loss, logit and feature distillation. The temperature of 4, Hinton's
   * usual one, lets the dense model say more than the label on images that it is sure of.
   */
  public static Objective all() {
    return new Objective(1, Distillation.KL, 1, 4, 1, List.of());
  }

  /** The weighted sum of the parts. */
  double total(double task, double logit, double feature) {
    return (taskWeight == 0 ? 0 : taskWeight * task)
        + (logitWeight == 0 ? 0 : logitWeight * logit)
        + (featureWeight == 0 ? 0 : featureWeight * feature);
  }
}
