package org.taco4j.onnx;

import java.util.List;

/** Folds BatchNormalization into the convolution or Gemm before it. */
public final class BatchNormFolding {
  private BatchNormFolding() {}

  /**
   * Folds each BatchNormalization whose only input is a convolution or Gemm with constant weights
   * that nothing else reads; the others stay.
   *
   * @return the names of the folded nodes (of their outputs, where they have no name)
   */
  public static List<String> fold(OnnxModel model) {
    throw new UnsupportedOperationException();
  }
}
