package org.taco4j.export;

/** One change that removing units makes to a node; nodes are indices into the graph. */
sealed interface Cut {
  /** The node. */
  int node();

  /**
   * A constant input loses slices along an axis of outer · units · inner of them.
   *
   * @param axis as the node sees the constant
   */
  record Slices(int node, int input, int axis, int outer, int inner) implements Cut {}

  /** The {@code group} of a depthwise convolution shrinks in proportion. */
  record Group(int node) implements Cut {}

  /**
   * An entry of a Reshape's shape becomes units · perUnit.
   *
   * @param entry counted from the end: -1 is the last
   */
  record Entry(int node, int entry, int perUnit) implements Cut {}

  /** The sizes of the parts of a Split shrink in proportion. */
  record Parts(int node) implements Cut {}
}
