package org.taco4j.onnx;

import java.util.List;

/** Finds the layers of a model. */
public final class LayerDiscovery {
  private LayerDiscovery() {}

  /**
   * All Conv, Gemm and MatMul nodes in graph order whose weights are constant, those that cannot be
   * pruned with the reason why. A product of two activations is no layer.
   */
  public static List<Layer> discover(OnnxModel model) {
    throw new UnsupportedOperationException();
  }
}
