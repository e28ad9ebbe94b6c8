package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import org.taco4j.compute.Backend;
import org.taco4j.compute.FloatMatrix;

/** Samples are the rows of the last axis: the inputs of Gemm and MatMul. */
final class RowGram implements GramAccumulator {
  private final int features;
  private final DoubleGram gram;

  /** [TILE_SAMPLES, features]. */
  private final float[] tile;

  private int filled;

  RowGram(int features, Backend backend) {
    this.features = features;
    this.gram = new DoubleGram(features, backend);
    this.tile = new float[Math.multiplyExact(TILE_SAMPLES, features)];
  }

  @Override
  public void add(FloatBuffer activation, long[] shape) {
    int rows = activation.limit() / features;
    for (int done = 0; done < rows; ) {
      int count = Math.min(rows - done, TILE_SAMPLES - filled);
      activation.get(done * features, tile, filled * features, count * features);
      filled += count;
      done += count;
      if (filled == TILE_SAMPLES) {
        flush();
      }
    }
  }

  private void flush() {
    if (filled > 0) {
      gram.add(FloatMatrix.of(tile, filled, features));
      filled = 0;
    }
  }

  @Override
  public GramMatrix finish() {
    flush();
    return gram.finish();
  }
}
