package org.taco4j.compute;

/** The bounds check that the matrix views share. */
final class Strides {
  private Strides() {}

  static void check(int length, int offset, int rows, int cols, int rowStride, int colStride) {
    boolean shapes = rows >= 0 && cols >= 0 && offset >= 0 && rowStride >= 1 && colStride >= 1;
    boolean contiguous =
        (colStride == 1 && (rowStride >= cols || rows <= 1))
            || (rowStride == 1 && (colStride >= rows || cols <= 1));
    // The last element, in long arithmetic: strides times sizes overflow an int easily.
    long end =
        rows == 0 || cols == 0
            ? offset
            : offset + (rows - 1L) * rowStride + (cols - 1L) * colStride + 1;
    if (!shapes || !contiguous || end > length) {
      throw new IllegalArgumentException(
          "no matrix [%d, %d] with strides %d and %d at offset %d of an array of %d"
              .formatted(rows, cols, rowStride, colStride, offset, length));
    }
  }
}
