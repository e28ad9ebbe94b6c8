package org.taco4j.calibrate;

import org.taco4j.compute.Backend;
import org.taco4j.compute.FloatMatrix;

/** Samples are the rows of the last axis: the inputs of Gemm and MatMul. */
final class RowGram implements GramAccumulator {
  /** Samples that wait to be multiplied together where batches are too short to be worth it. */
  private static final int PENDING = 256;

  private final int features;
  private final DoubleGram gram;
  private final float[] pending;
  private int pendingRows;

  RowGram(int features, Backend backend) {
    this.features = features;
    this.gram = new DoubleGram(features, backend);
    this.pending = new float[PENDING * features];
  }

  @Override
  public void add(float[] activation, long[] shape) {
    int rows = activation.length / features;
    if (rows >= PENDING) {
      gram.add(FloatMatrix.of(activation, rows, features));
      return;
    }
    for (int done = 0; done < rows; ) {
      int count = Math.min(rows - done, PENDING - pendingRows);
      System.arraycopy(
          activation, done * features, pending, pendingRows * features, count * features);
      pendingRows += count;
      done += count;
      if (pendingRows == PENDING) {
        flush();
      }
    }
  }

  private void flush() {
    if (pendingRows > 0) {
      gram.add(FloatMatrix.of(pending, pendingRows, features));
      pendingRows = 0;
    }
  }

  @Override
  public GramMatrix finish() {
    flush();
    return gram.finish();
  }
}
