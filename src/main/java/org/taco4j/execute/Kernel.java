package org.taco4j.execute;

import org.bytedeco.pytorch.Tensor;

/**
 * What a node computes. Called by several threads at once, inside a {@code PointerScope} that frees
 * all temporaries; may return its inputs and views of them, and changes nothing in place.
 */
@FunctionalInterface
interface Kernel {
  /** The outputs, from the first on. */
  Tensor[] run(Inputs inputs);

  /** A kernel of one output. */
  @FunctionalInterface
  interface Single {
    Tensor run(Inputs inputs);
  }

  /** A kernel of one output. */
  static Kernel single(Single single) {
    return inputs -> new Tensor[] {single.run(inputs)};
  }

  /** Makes the kernel of a node, or refuses it with {@link NodeSpec.Unsupported}. */
  @FunctionalInterface
  interface Factory {
    Kernel create(NodeSpec node);
  }

  /** A factory of kernels of one output. */
  @FunctionalInterface
  interface SingleFactory {
    Single create(NodeSpec node);
  }
}
