package org.taco4j;

import java.util.List;

/** The parts of a recipe in the order in which they count, and the keys of each. */
public enum RecipeStage {
  /** Which model, which classes, which images. */
  TASK(
      "task and images",
      "recipe",
      "model",
      "data",
      "classes",
      "labels",
      "shots",
      "held-out",
      "test-fraction",
      "seed"),
  /** What is made of an image before it is fed. */
  PREPROCESSING(
      "preprocessing",
      "preset",
      "mean",
      "std",
      "resize",
      "crop",
      "filter",
      "channel-order",
      "layout"),
  /** What is done to the dense model first. */
  TRANSFER("transfer", "features", "finetune-passes", "finetune-rate"),
  /** Which weights or units go, and how many. */
  REMOVE(
      "what to remove",
      "sparsity",
      "pattern",
      "misfit",
      "structured",
      "structures",
      "classifier",
      "include",
      "exclude",
      "layers",
      "schedule",
      "schedule-steps"),
  /** What decides which weights go, and what the others become. */
  SOLVER(
      "solver",
      "solver",
      "damping",
      "search",
      "time-budget",
      "refit",
      "precision",
      "bits",
      "act-order",
      "sweeps",
      "activation-bits",
      "activation-range"),
  /** On what, and towards what, layers are solved. */
  RECONSTRUCTION("reconstruction", "reconstruct", "correct"),
  /** Training after compression. */
  TUNING("tuning", "tune", "tune-passes", "tune-rate", "tune-hold-out", "tune-crop"),
  /** What is compressed beside the specialist. */
  COMPARISON("comparison", "compare-ptc"),
  /** What the specialist is written for. */
  EXPORT("what it is written for", "runtime", "pack-weights"),
  /** Where it runs: threads and memory change no result, the backend only how sums are rounded. */
  MACHINE("this machine", "threads", "memory", "backend", "gpu-memory");

  private final String title;
  private final List<String> keys;

  RecipeStage(String title, String... keys) {
    this.title = title;
    this.keys = List.of(keys);
  }

  /** The heading, for people. */
  public String title() {
    return title;
  }

  /** Options and keys of recipes. */
  public List<String> keys() {
    return keys;
  }
}
