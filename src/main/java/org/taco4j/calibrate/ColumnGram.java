package org.taco4j.calibrate;

import org.taco4j.compute.Backend;
import org.taco4j.compute.FloatMatrix;

/** Samples are the columns of the last two axes: MatMul with its constant on the left. */
final class ColumnGram implements GramAccumulator {
  private final int features;
  private final DoubleGram gram;

  ColumnGram(int features, Backend backend) {
    this.features = features;
    this.gram = new DoubleGram(features, backend);
  }

  @Override
  public void add(float[] activation, long[] shape) {
    int samples = Math.toIntExact(shape[shape.length - 1]);
    int matrix = features * samples;
    for (int offset = 0; offset < activation.length; offset += matrix) {
      gram.add(new FloatMatrix(activation, offset, features, samples, samples, 1).transposed());
    }
  }

  @Override
  public GramMatrix finish() {
    return gram.finish();
  }
}
