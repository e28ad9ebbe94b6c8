package org.taco4j.execute;

import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.jspecify.annotations.Nullable;

/** The input tensors of one call of a {@link Kernel}; borrowed. */
final class Inputs {
  private final @Nullable Tensor[] tensors;

  Inputs(@Nullable Tensor[] tensors) {
    this.tensors = tensors;
  }

  /** How many there are, left-out ones before the last one included. */
  int count() {
    return tensors.length;
  }

  boolean has(int i) {
    return optional(i) != null;
  }

  @Nullable Tensor optional(int i) {
    return i < tensors.length ? tensors[i] : null;
  }

  Tensor get(int i) {
    Tensor tensor = optional(i);
    if (tensor == null) {
      throw new IllegalArgumentException("input " + i + " is missing");
    }
    return tensor;
  }

  /** As libtorch takes inputs that may be left out. */
  TensorOptional asOptional(int i) {
    Tensor tensor = optional(i);
    return tensor == null ? new TensorOptional() : new TensorOptional(tensor);
  }

  /** The values of an integer input. */
  long[] longs(int i) {
    return Tensors.longs(get(i));
  }
}
