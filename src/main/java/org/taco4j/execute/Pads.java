package org.taco4j.execute;

import java.util.function.ToLongFunction;
import org.taco4j.execute.Windows.Axis;

/** Padding in libtorch's order. */
final class Pads {
  private Pads() {}

  /** Pairs of pads before and after, from the last axis to the first, as libtorch wants them. */
  static long[] lastFirst(Axis[] axes, ToLongFunction<Axis> before, ToLongFunction<Axis> after) {
    long[] pads = new long[2 * axes.length];
    for (int i = 0; i < axes.length; i++) {
      Axis axis = axes[axes.length - 1 - i];
      pads[2 * i] = before.applyAsLong(axis);
      pads[2 * i + 1] = after.applyAsLong(axis);
    }
    return pads;
  }
}
