package org.taco4j.export;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * Where the units of a structure lie in a tensor: along one axis of outer · units · inner elements,
 * of which element (o · units + u) · inner + i belongs to unit u.
 *
 * @param dims sizes of the last axes, {@link #UNKNOWN} where not known
 * @param whole whether {@code dims} are all axes
 * @param axis the units' axis, counted from the end: -1 is the last
 * @param inner {@link #UNKNOWN} behind a Flatten of an image of unknown size
 */
record Carrier(List<Long> dims, boolean whole, int axis, int outer, int inner) {
  static final int UNKNOWN = -1;

  /** Sizes that are all unknown but for that of the units' axis. */
  static Carrier of(int rank, boolean whole, int axis, long size, int outer, int inner) {
    List<Long> dims = new ArrayList<>(Collections.nCopies(rank, (long) UNKNOWN));
    dims.set(rank + axis, size);
    return new Carrier(List.copyOf(dims), whole, axis, outer, inner);
  }

  /** Size of an axis, counted from the end. */
  long dim(int fromEnd) {
    int at = dims.size() + fromEnd;
    return at >= 0 ? dims.get(at) : whole ? 1 : UNKNOWN;
  }

  /** Size of the units' axis. */
  long size() {
    return dim(axis);
  }

  /** Product of the sizes of the axes behind that of the units. */
  long behind() {
    long product = 1;
    for (long dim : dims.subList(dims.size() + axis + 1, dims.size())) {
      if (dim < 0) {
        return UNKNOWN;
      }
      product *= dim;
    }
    return product;
  }

  /** The units' axis from the front; {@link #UNKNOWN} without a known rank. */
  int front() {
    return whole ? dims.size() + axis : UNKNOWN;
  }

  Carrier with(List<Long> newDims, int newAxis) {
    return new Carrier(List.copyOf(newDims), whole, newAxis, outer, inner);
  }

  Carrier with(List<Long> newDims) {
    return with(newDims, axis);
  }

  /**
   * Whether units lie alike in both, so that what is combined element by element belongs to one.
   */
  boolean isLike(Carrier other) {
    return axis == other.axis
        && outer == other.outer
        && inner == other.inner
        && inner != UNKNOWN
        && size() == other.size();
  }

  /** Sizes of the element-wise combination of this with something of the given last sizes. */
  List<Long> broadcast(List<Long> others, boolean othersWhole) {
    int rank = Math.max(dims.size(), others.size());
    List<Long> result = new ArrayList<>();
    for (int fromEnd = -rank; fromEnd < 0; fromEnd++) {
      int at = others.size() + fromEnd;
      long theirs = at >= 0 ? others.get(at) : othersWhole ? 1 : UNKNOWN;
      long ours = dim(fromEnd);
      result.add(ours == 1 ? theirs : theirs == 1 || ours > 1 ? ours : theirs);
    }
    return result;
  }
}
