package org.taco4j.tune;

import java.util.List;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * What a tuning did.
 *
 * @param curve of each pass, from 0, the untuned model, on
 * @param passesPlanned how many were asked for
 * @param bestPass the pass whose weights are the result; 0: the untuned model was the best
 * @param criterion what chose it: {@code held-out distance}, the least {@link Losses#distance}, or
 *     {@code last pass} without held-out images
 * @param stop why tuning ended
 * @param trainImages images that gave gradients
 * @param heldOutImages images that gave none and chose the best pass; 0 where there were too few
 * @param trainedTensors weights, biases and the like that were trained
 * @param trainedValues numbers in them that were free
 * @param fixedZeros numbers in them that a mask held at zero
 * @param features intermediate tensors of the feature distillation
 * @param resumedAfter the pass after which an interrupted tuning went on; 0 where none was
 * @param seconds of this process
 * @param samples images that went forward and backward in this process
 * @param failure what went wrong, for people, where {@code stop} is {@link Stop#NOT_FINITE}
 */
public record TuneReport(
    List<Pass> curve,
    int passesPlanned,
    int bestPass,
    String criterion,
    Stop stop,
    int trainImages,
    int heldOutImages,
    int trainedTensors,
    long trainedValues,
    long fixedZeros,
    List<String> features,
    int resumedAfter,
    double seconds,
    long samples,
    Optional<String> failure) {

  /** Why tuning ended. */
  public enum Stop {
    /** All passes are done. */
    FINISHED,
    /** The held-out distance had not got less for some passes. */
    EARLY,
    /** The loss became infinite or no number; the best weights so far are the result. */
    NOT_FINITE
  }

  /**
   * One pass.
   *
   * @param pass its number; 0 is the untuned model
   * @param learningRate at its first step; null for pass 0
   * @param train means over its training images, while the weights changed; null for pass 0
   * @param heldOut means over random crops of the held-out images after it; null where there are
   *     none, and for passes between two looks at them
   * @param seconds it took
   */
  public record Pass(
      int pass,
      @Nullable Double learningRate,
      @Nullable Losses train,
      @Nullable Losses heldOut,
      double seconds) {}

  /**
   * Means over images; a part that has no weight in the objective is 0.
   *
   * @param loss the weighted sum
   * @param task cross entropy
   * @param logit logit distillation
   * @param feature feature distillation
   * @param distance of the two models' softmax outputs, in total variation, ½ Σ |p - q|: from 0,
   *     the same, to 1. Against a few images that are confidently wrong, of which there always are
   *     some, it is robust where the logarithms in the losses are not. 0 where the dense model was
   *     not run
   * @param accuracy part of the images whose label has the highest logit
   */
  public record Losses(
      double loss, double task, double logit, double feature, double distance, double accuracy) {}
}
