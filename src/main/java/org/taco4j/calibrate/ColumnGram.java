package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import org.taco4j.compute.Backend;
import org.taco4j.compute.FloatMatrix;

/** Samples are the columns of the last two axes: MatMul with its constant on the left. */
final class ColumnGram implements GramAccumulator {
  private final int features;
  private final DoubleGram gram;

  /** [features, TILE_SAMPLES]. */
  private final float[] tile;

  private int filled;

  ColumnGram(int features, Backend backend) {
    this.features = features;
    this.gram = new DoubleGram(features, backend);
    this.tile = new float[Math.multiplyExact(TILE_SAMPLES, features)];
  }

  @Override
  public void add(FloatBuffer activation, long[] shape) {
    int samples = Math.toIntExact(shape[shape.length - 1]);
    int matrix = features * samples;
    for (int start = 0; start < activation.limit(); start += matrix) {
      for (int done = 0; done < samples; ) {
        int count = Math.min(samples - done, TILE_SAMPLES - filled);
        for (int i = 0; i < features; i++) {
          activation.get(start + i * samples + done, tile, i * TILE_SAMPLES + filled, count);
        }
        filled += count;
        done += count;
        if (filled == TILE_SAMPLES) {
          flush();
        }
      }
    }
  }

  private void flush() {
    if (filled > 0) {
      gram.add(new FloatMatrix(tile, 0, features, filled, TILE_SAMPLES, 1).transposed());
      filled = 0;
    }
  }

  @Override
  public GramMatrix finish() {
    flush();
    return gram.finish();
  }
}
