package org.taco4j.tune;

import org.jspecify.annotations.Nullable;
import org.taco4j.tune.FloatForm.Grid;

/**
 * A constant in training: its values, those that the model computes with, which mask and grid
 * decide, and the optimizer's moments. Arrays are in the order in which the constant is stored.
 * Arithmetic is that of PyTorch's optimizers in float32; elements are independent of each other, so
 * threads do not matter.
 */
final class Parameter {
  private final String name;
  private final long[] shape;
  private final float[] values;
  private final boolean @Nullable [] keep;
  private final @Nullable Grid grid;
  private final float[][] moments;

  /**
   * A parameter, with what the mask removes set to zero.
   *
   * @param values taken over
   * @param keep what may be other than zero; null for all
   * @param grid where the values in use lie; null for anywhere
   * @param moments how many arrays the optimizer keeps
   */
  Parameter(
      String name,
      long[] shape,
      float[] values,
      boolean @Nullable [] keep,
      @Nullable Grid grid,
      int moments) {
    this.name = name;
    this.shape = shape;
    this.values = values;
    this.keep = keep;
    this.grid = grid;
    this.moments = new float[moments][values.length];
    for (int i = 0; i < values.length; i++) {
      if (isHeld(i)) {
        values[i] = 0;
      }
    }
  }

  private boolean isHeld(int i) {
    return keep != null && !keep[i];
  }

  String name() {
    return name;
  }

  long[] shape() {
    return shape;
  }

  @Nullable Grid grid() {
    return grid;
  }

  int size() {
    return values.length;
  }

  /** How many values the mask holds at zero. */
  long held() {
    long held = 0;
    for (int i = 0; i < values.length; i++) {
      held += isHeld(i) ? 1 : 0;
    }
    return held;
  }

  /** All that changes in training: values and moments; to be saved and restored. */
  float[][] state() {
    float[][] state = new float[1 + moments.length][];
    state[0] = values;
    System.arraycopy(moments, 0, state, 1, moments.length);
    return state;
  }

  /** The values that the model computes with: on the grid, where there is one. A new array. */
  float[] effective() {
    float[] effective = values.clone();
    if (grid != null) {
      for (int i = 0; i < effective.length; i++) {
        effective[i] = isHeld(i) ? 0 : grid.code(i, values[i]) * grid.scale(i);
      }
    }
    return effective;
  }

  /**
   * One step of the optimizer.
   *
   * @param gradient of the loss by {@link #effective}; overwritten. Rounding to the grid counts as
   *     the identity within its range and as constant outside (straight-through estimator)
   * @param rate learning rate
   * @param step from 1 on
   */
  void step(float[] gradient, Optimizer optimizer, double rate, long step) {
    for (int i = 0; i < gradient.length; i++) {
      if (isHeld(i) || (grid != null && !grid.inRange(i, values[i]))) {
        gradient[i] = 0;
      }
    }
    float decay = (float) optimizer.weightDecay();
    switch (optimizer.rule()) {
      case ADAMW -> {
        float shrink = (float) (1 - rate * optimizer.weightDecay());
        for (int i = 0; i < values.length; i++) {
          values[i] *= shrink;
        }
      }
      case ADAM, SGD -> {
        for (int i = 0; decay != 0 && i < values.length; i++) {
          gradient[i] += decay * values[i];
        }
      }
    }
    if (optimizer.rule() == Optimizer.Rule.SGD) {
      float momentum = (float) optimizer.momentum();
      float[] velocity = moments[0];
      for (int i = 0; i < values.length; i++) {
        // PyTorch's first velocity is the gradient, which this is, as it starts from zero.
        velocity[i] = momentum * velocity[i] + gradient[i];
        values[i] -= (float) rate * velocity[i];
      }
    } else {
      adam(gradient, rate, step);
    }
    for (int i = 0; keep != null && i < values.length; i++) {
      if (!keep[i]) {
        values[i] = 0; // Not -0 either.
      }
    }
  }

  private void adam(float[] gradient, double rate, long step) {
    float beta1 = (float) Optimizer.BETA1;
    float beta2 = (float) Optimizer.BETA2;
    float size = (float) (rate / (1 - StrictMath.pow(Optimizer.BETA1, (double) step)));
    float root = (float) Math.sqrt(1 - StrictMath.pow(Optimizer.BETA2, (double) step));
    float epsilon = (float) Optimizer.EPSILON;
    float[] mean = moments[0];
    float[] square = moments[1];
    for (int i = 0; i < values.length; i++) {
      float g = gradient[i];
      mean[i] = mean[i] + (1 - beta1) * (g - mean[i]);
      square[i] = beta2 * square[i] + (1 - beta2) * g * g;
      values[i] -= size * mean[i] / ((float) Math.sqrt(square[i]) / root + epsilon);
    }
  }
}
