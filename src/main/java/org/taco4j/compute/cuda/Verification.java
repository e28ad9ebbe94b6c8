package org.taco4j.compute.cuda;

/** Which GPUs the kernels have passed on: the one place that says so. */
public final class Verification {
  /**
   * The GPUs, in words, on which {@code cuda-kernels/verify.sh} has passed; empty as long as there
   * is none. What users are told (notice, description, doctor) follows from it; README.md and
   * docs/cuda.md say it too.
   */
  private static final String VERIFIED_ON = "";

  private Verification() {}

  /** Whether the kernels have passed on a GPU, and not only on the CPU. */
  static boolean isDone() {
    return !VERIFIED_ON.isEmpty();
  }

  /** Where the kernels have passed, in words. */
  public static String describe() {
    return isDone() ? "verified on " + VERIFIED_ON : "not yet verified on a GPU";
  }
}
