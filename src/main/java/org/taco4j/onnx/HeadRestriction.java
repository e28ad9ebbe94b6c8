package org.taco4j.onnx;

import java.util.List;

/** Cuts a classifier's last layer down to the classes of a task. */
public final class HeadRestriction {
  private HeadRestriction() {}

  /** How many classes the model tells apart: the size of its first output along the class axis. */
  public static int classes(OnnxModel model) {
    throw new UnsupportedOperationException();
  }

  /**
   * Keeps only the given outputs, in the given order: the rows of the last Gemm, MatMul or 1x1 Conv
   * and its bias, through what stands between it and the model's output.
   *
   * @param classes indices into the model's output, each at most once
   * @throws org.taco4j.common.TacoException of kind MODEL when the head cannot be found or cut
   *     safely, naming the node in the way; of kind DATA for an index the model does not have
   */
  public static void restrict(OnnxModel model, List<Integer> classes) {
    throw new UnsupportedOperationException();
  }
}
