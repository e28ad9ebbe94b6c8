package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import java.util.List;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.onnx.Unfold;

/**
 * Adds the samples of one layer problem, batch after batch, into a Gram matrix. Products are
 * computed in float over some hundreds of samples at a time and added in double. Used by one thread
 * at a time.
 */
interface GramAccumulator extends AutoCloseable {
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

  /** Lets go of what is not heap memory, finished or not. */
  @Override
  default void close() {}

  /** The accumulators of all groups of a layer: on the backend's device, where it has one. */
  static List<GramAccumulator> create(List<GramKey> groups, Backend backend) {
    DeviceKernels device = backend.device();
    return device == null
        ? groups.stream().map(key -> create(key, backend)).toList()
        : DeviceGram.ofGroups(groups.getFirst().unfold(), device);
  }

  /** The accumulator on the host that fits the way samples are laid out. */
  static GramAccumulator create(GramKey key, Backend backend) {
    return key.unfold() instanceof Unfold.Convolution u && ShiftGram.fits(u)
        ? new ShiftGram(u, key.group(), backend)
        : new TileGram(key.unfold(), key.group(), backend);
  }
}
