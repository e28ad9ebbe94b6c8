package org.taco4j.compute.cuda;

import java.util.Objects;

/**
 * A row-major matrix in a device's memory: element (i, j) is {@code array[offset + i * stride +
 * j]}. It borrows the array.
 *
 * @param stride distance of rows, at least {@code cols}
 */
record DeviceMatrix(DeviceArray array, long offset, int rows, int cols, int stride) {
  /** Checks that every element lies in the array. */
  DeviceMatrix {
    if (stride < cols || rows < 0 || cols < 0) {
      throw new IllegalArgumentException("[%d, %d] stride %d".formatted(rows, cols, stride));
    }
    if (rows > 0 && cols > 0) {
      Objects.checkFromIndexSize(offset, (rows - 1L) * stride + cols, array.count());
    }
  }

  /** All of an array: [rows, cols]. */
  static DeviceMatrix of(DeviceArray array, int rows, int cols) {
    return new DeviceMatrix(array, 0, rows, cols, Math.max(1, cols));
  }

  /** {@code blockRows} rows from {@code row} and {@code blockCols} columns from {@code col}. */
  DeviceMatrix block(int row, int blockRows, int col, int blockCols) {
    Objects.checkFromIndexSize(row, blockRows, rows);
    Objects.checkFromIndexSize(col, blockCols, cols);
    boolean empty = blockRows == 0 || blockCols == 0;
    long start = empty ? offset : offset + (long) row * stride + col;
    return new DeviceMatrix(array, start, blockRows, blockCols, stride);
  }

  /** Element (0, 0), as an argument of a kernel. */
  DeviceArray.Pointer pointer() {
    return array.at(offset);
  }

  /** Whether the elements are float64. */
  boolean isDouble() {
    return array.elementBytes() == Double.BYTES;
  }
}
