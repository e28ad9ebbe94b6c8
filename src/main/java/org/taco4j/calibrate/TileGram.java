package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import org.taco4j.compute.Backend;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.onnx.Unfold;

/**
 * Any layout of samples: they are read into a tile of some hundreds, which is multiplied when it is
 * full. The Gram matrix is put in the layer's column order at the end.
 */
final class TileGram implements GramAccumulator {
  /** Floats in a tile of a narrow layer (1 MiB). */
  private static final int TILE_FLOATS = 1 << 18;

  private final SampleReader reader;
  private final int cols;
  private final int capacity;

  /** [capacity, cols]. */
  private final float[] tile;

  private final DoubleGram gram;
  private int filled;

  TileGram(Unfold unfold, int group, Backend backend) {
    this.reader = SampleReader.of(unfold, group);
    this.cols = unfold.cols();
    this.capacity = capacity(cols);
    this.tile = new float[Math.multiplyExact(capacity, cols)];
    this.gram = new DoubleGram(cols, backend);
  }

  /** How many samples of the given length are multiplied at a time. */
  static int capacity(int cols) {
    return Math.max(TILE_SAMPLES, TILE_FLOATS / cols);
  }

  @Override
  public void add(FloatBuffer activation, long[] shape) {
    int samples = reader.samples(shape);
    for (int done = 0; done < samples; ) {
      int count = Math.min(samples - done, capacity - filled);
      reader.read(activation, shape, done, count, tile, filled);
      filled += count;
      done += count;
      if (filled == capacity) {
        flush();
      }
    }
  }

  private void flush() {
    if (filled > 0) {
      gram.add(FloatMatrix.of(tile, filled, cols));
      filled = 0;
    }
  }

  @Override
  public GramMatrix finish() {
    flush();
    GramMatrix sum = gram.finish();
    return new GramMatrix(cols, sum.samples(), reader.gramInLayerOrder(sum.values()));
  }
}
