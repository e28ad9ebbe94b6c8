package org.taco4j.onnx;

/** Reads and writes the weights of layers as matrices: unfolding and folding. */
public final class LayerWeights {
  private LayerWeights() {}

  /**
   * The weights of one group of a layer.
   *
   * @return [rows, cols], row-major, columns in the order of the layer's {@link Unfold}
   */
  public static float[] unfold(OnnxModel model, Layer layer, int group) {
    throw new UnsupportedOperationException();
  }

  /**
   * Writes the weights of one group back to where they came from, in the stored type and layout.
   *
   * @param weights [rows, cols], row-major
   */
  public static void fold(OnnxModel model, Layer layer, int group, float[] weights) {
    throw new UnsupportedOperationException();
  }

  /**
   * The bias of a layer.
   *
   * @return [rows · groups]; zeros where the layer has none
   */
  public static float[] bias(OnnxModel model, Layer layer) {
    throw new UnsupportedOperationException();
  }

  /**
   * Sets the bias of a layer; where it has none, it gets one: Conv and Gemm a third input, MatMul
   * an Add node behind it (the tensor that other nodes read keeps its name).
   *
   * @param bias [rows · groups]
   */
  public static void setBias(OnnxModel model, Layer layer, float[] bias) {
    throw new UnsupportedOperationException();
  }
}
