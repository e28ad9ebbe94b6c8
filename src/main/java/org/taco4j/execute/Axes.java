package org.taco4j.execute;

import java.util.Arrays;
import java.util.stream.IntStream;

/** Axes as ONNX numbers them: negative ones from the end. */
final class Axes {
  private Axes() {}

  /** The axis from the front. */
  static int of(long axis, long rank) {
    return of(axis, rank, rank - 1);
  }

  /** The axis from the front where it may be up to {@code last}. */
  static int of(long axis, long rank, long last) {
    if (axis < -rank || axis > last) {
      throw new IllegalArgumentException("axis " + axis + " of a tensor of rank " + rank);
    }
    return (int) (axis < 0 ? axis + rank : axis);
  }

  /** The axes from the front, in ascending order. */
  static long[] of(long[] axes, long rank) {
    return Arrays.stream(axes).map(axis -> of(axis, rank)).sorted().distinct().toArray();
  }

  static long[] all(long rank) {
    return from(0, rank);
  }

  static long[] from(long first, long rank) {
    return IntStream.range((int) first, (int) rank).asLongStream().toArray();
  }

  static long product(long[] sizes) {
    return Arrays.stream(sizes).reduce(1, Math::multiplyExact);
  }
}
