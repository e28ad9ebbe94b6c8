package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import org.taco4j.compute.Backend;
import org.taco4j.onnx.Unfold;

/**
 * Adds the samples of one layer problem, batch after batch, into a Gram matrix. Products are
 * computed in float over some hundreds of samples at a time and added in double. Used by one thread
 * at a time.
 */
interface GramAccumulator {
  /**
   * Samples, at the least, that are multiplied at a time: adding the product in double then costs
   * little beside it. What comes in smaller batches waits in a tile of this size.
   */
  int TILE_SAMPLES = 512;

  /**
   * Adds the samples in one batch of activations.
   *
   * @param activation the tensor that the layer reads, row-major; borrowed
   * @param shape its dimensions
   */
  void add(FloatBuffer activation, long[] shape);

  /** The Gram matrix of all that was added; afterwards the accumulator is spent. */
  GramMatrix finish();

  /** The accumulator that fits the way samples are laid out. */
  static GramAccumulator create(GramKey key, Backend backend) {
    return key.unfold() instanceof Unfold.Convolution u && ShiftGram.fits(u)
        ? new ShiftGram(u, key.group(), backend)
        : new TileGram(key.unfold(), key.group(), backend);
  }
}
