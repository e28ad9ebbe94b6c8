package org.taco4j.tune;

import java.util.Optional;
import org.taco4j.common.TacoException;
import org.taco4j.data.Augmentation;
import org.taco4j.tune.Optimizer.Rule;
import org.taco4j.tune.Optimizer.Schedule;

/**
 * How to tune.
 *
 * @param objective what is minimised
 * @param optimizer by which rule
 * @param passes over the images
 * @param batch images of an optimizer step; a pass over fewer has one step
 * @param augmentation random changes of the images, drawn anew in each pass; empty for none
 * @param holdOut whether a quarter of the images is set aside to choose the best pass, where there
 *     are enough and no others are given for that. Where the compression has seen these images they
 *     flatter the untuned model, which was fitted to them; better give {@link TuneTask#heldOut}
 *     images that it has not seen
 * @param patience passes without a lower held-out distance after which tuning stops early; 0: never
 * @param seed of the order of images, their changes, and the choice of those held out
 * @param microBatch images that run through the models together, to bound memory: the gradient of a
 *     batch is the sum over micro-batches, whose borders do not depend on threads. 0 chooses by the
 *     size of the image
 */
public record TuneSettings(
    Objective objective,
    Optimizer optimizer,
    int passes,
    int batch,
    Optional<Augmentation> augmentation,
    boolean holdOut,
    int patience,
    long seed,
    int microBatch) {

  /** Checks the numbers. */
  public TuneSettings {
    requireAtLeast("the number of passes", passes, 1);
    requireAtLeast("the batch of tuning", batch, 1);
    requireAtLeast("the patience", patience, 0);
    requireAtLeast("the micro-batch", microBatch, 0);
  }

  private static void requireAtLeast(String what, int value, int least) {
    if (value < least) {
      throw TacoException.usage(what + " must be at least " + least + ", not " + value);
    }
  }

  /**
   * The first form of TACO: L2 distance of logits, AdamW 1e-4, batch 128, images as they are. With
   * a few images a pass is one step, so there are many.
   */
  public static TuneSettings tacoV1() {
    return new TuneSettings(
        Objective.logits(),
        new Optimizer(Rule.ADAMW, 1e-4, Schedule.CONSTANT, 0.01, 0),
        300,
        128,
        Optional.empty(),
        true,
        50,
        0,
        0);
  }

  /**
   * The second form of TACO: task loss, logit and feature distillation, Adam 3e-4 falling to 0,
   * batch 16, 100 passes, random resized crops and flips, no weight decay. Crops keep at least a
   * quarter of the area: of small images the 8 % of torchvision leave too little. Its crop ratio of
   * 0.875 is that of images as they are evaluated, the default of {@link
   * org.taco4j.data.Preprocessing#imageNet}.
   */
  public static TuneSettings tacoTmlr() {
    return new TuneSettings(
        Objective.all(),
        new Optimizer(Rule.ADAM, 3e-4, Schedule.LINEAR, 0, 0),
        100,
        16,
        Optional.of(Augmentation.torchvision().withMinScale(0.25)),
        true,
        0,
        0,
        0);
  }

  /** This with another objective. */
  public TuneSettings withObjective(Objective newObjective) {
    return new TuneSettings(
        newObjective, optimizer, passes, batch, augmentation, holdOut, patience, seed, microBatch);
  }

  /** This with another optimizer. */
  public TuneSettings withOptimizer(Optimizer newOptimizer) {
    return new TuneSettings(
        objective, newOptimizer, passes, batch, augmentation, holdOut, patience, seed, microBatch);
  }

  /** This with another learning rate. */
  public TuneSettings withLearningRate(double learningRate) {
    return withOptimizer(optimizer.withLearningRate(learningRate));
  }

  /** This with another number of passes. */
  public TuneSettings withPasses(int newPasses) {
    return new TuneSettings(
        objective, optimizer, newPasses, batch, augmentation, holdOut, patience, seed, microBatch);
  }

  /** This with another batch. */
  public TuneSettings withBatch(int newBatch) {
    return new TuneSettings(
        objective, optimizer, passes, newBatch, augmentation, holdOut, patience, seed, microBatch);
  }

  /** This with other random changes of the images, or none. */
  public TuneSettings withAugmentation(Optional<Augmentation> newAugmentation) {
    return new TuneSettings(
        objective, optimizer, passes, batch, newAugmentation, holdOut, patience, seed, microBatch);
  }

  /** This with a quarter of the images held out, or none. */
  public TuneSettings withHoldOut(boolean newHoldOut) {
    return new TuneSettings(
        objective, optimizer, passes, batch, augmentation, newHoldOut, patience, seed, microBatch);
  }

  /** This with another patience. */
  public TuneSettings withPatience(int newPatience) {
    return new TuneSettings(
        objective, optimizer, passes, batch, augmentation, holdOut, newPatience, seed, microBatch);
  }

  /** This with another seed. */
  public TuneSettings withSeed(long newSeed) {
    return new TuneSettings(
        objective, optimizer, passes, batch, augmentation, holdOut, patience, newSeed, microBatch);
  }

  /** This with another micro-batch. */
  public TuneSettings withMicroBatch(int newMicroBatch) {
    return new TuneSettings(
        objective, optimizer, passes, batch, augmentation, holdOut, patience, seed, newMicroBatch);
  }
}
