package org.taco4j.calibrate;

import org.taco4j.onnx.Layer;
import org.taco4j.onnx.Unfold;

/**
 * What a Gram matrix belongs to: a tensor, how samples come out of it, and the convolution group.
 * Layers with equal keys share the matrix.
 */
public record GramKey(String tensor, Unfold unfold, int group) {
  /** The key of one layer problem. */
  public static GramKey of(Layer layer, int group) {
    return new GramKey(layer.input(), layer.unfold(), group);
  }

  /** Memory that the matrix takes, in bytes. */
  public long bytes() {
    return (long) unfold.cols() * unfold.cols() * Double.BYTES;
  }
}
