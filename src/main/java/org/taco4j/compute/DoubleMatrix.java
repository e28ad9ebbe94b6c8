package org.taco4j.compute;

import java.util.Objects;

/**
 * A view of a float64 matrix in a heap array, row-major or (transposed) column-major. It borrows
 * the array; element (i, j) is {@code data[offset + i * rowStride + j * colStride]}.
 *
 * <p>Kernels hand the array to native code, so the bounds are checked here, once, for all of them.
 *
 * @param data the memory, shared with every other view of it
 * @param offset index of element (0, 0)
 * @param rows number of rows, may be 0
 * @param cols number of columns, may be 0
 * @param rowStride distance of neighbours in a column; at least {@code cols} where {@code
 *     colStride} is 1
 * @param colStride distance of neighbours in a row; one of the two strides is 1
 */
@SuppressWarnings("ArrayRecordComponent") // a view borrows its memory, that is its purpose
public record DoubleMatrix(
    double[] data, int offset, int rows, int cols, int rowStride, int colStride) {

  /** Checks that every element lies in the array. */
  public DoubleMatrix {
    Strides.check(data.length, offset, rows, cols, rowStride, colStride);
  }

  /** All of {@code data}, row-major: [rows, cols]. */
  public static DoubleMatrix of(double[] data, int rows, int cols) {
    return new DoubleMatrix(data, 0, rows, cols, Math.max(1, cols), 1);
  }

  /** A new matrix of zeros, row-major: [rows, cols]. */
  public static DoubleMatrix zeros(int rows, int cols) {
    return of(new double[Math.multiplyExact(rows, cols)], rows, cols);
  }

  /**
   * The view of {@code blockRows} rows from {@code row} and {@code blockCols} columns from {@code
   * col}.
   */
  public DoubleMatrix block(int row, int blockRows, int col, int blockCols) {
    Objects.checkFromIndexSize(row, blockRows, rows);
    Objects.checkFromIndexSize(col, blockCols, cols);
    int start = blockRows == 0 || blockCols == 0 ? offset : index(row, col);
    return new DoubleMatrix(data, start, blockRows, blockCols, rowStride, colStride);
  }

  /** A copy of this matrix, which must be row-major. */
  public DoubleMatrix copy() {
    if (!isRowMajor()) {
      throw new IllegalStateException("a copy of a matrix that is not row-major");
    }
    DoubleMatrix copy = zeros(rows, cols);
    for (int row = 0; row < rows; row++) {
      System.arraycopy(data, index(row, 0), copy.data, row * cols, cols);
    }
    return copy;
  }

  /** The same memory seen as [cols, rows]. */
  public DoubleMatrix transposed() {
    return new DoubleMatrix(data, offset, cols, rows, colStride, rowStride);
  }

  /** Throws where the shapes do not fit C = A B. */
  public static void checkProduct(DoubleMatrix a, DoubleMatrix b, DoubleMatrix c) {
    if (a.rows != c.rows || b.cols != c.cols || a.cols != b.rows) {
      throw new IllegalArgumentException(
          "[%d, %d] times [%d, %d] into [%d, %d]"
              .formatted(a.rows, a.cols, b.rows, b.cols, c.rows, c.cols));
    }
  }

  /** Where element (row, col) lies in {@link #data}. */
  public int index(int row, int col) {
    return offset + row * rowStride + col * colStride;
  }

  /** Element (row, col). */
  public double at(int row, int col) {
    return data[index(row, col)];
  }

  /** Whether the elements of a row are neighbours in memory. */
  public boolean isRowMajor() {
    return colStride == 1;
  }

  /** The leading dimension as BLAS wants it: the larger stride, never less than what it spans. */
  public int leadingDimension() {
    return isRowMajor() ? Math.max(rowStride, cols) : Math.max(colStride, rows);
  }

  /** Adds {@code addend}, of the same shape, to this matrix. Both must be row-major. */
  public void add(FloatMatrix addend) {
    add(addend, false);
  }

  /** {@link #add} for the upper triangle and the diagonal only. */
  public void addUpper(FloatMatrix addend) {
    add(addend, true);
  }

  private void add(FloatMatrix addend, boolean upper) {
    if (addend.rows() != rows || addend.cols() != cols) {
      throw new IllegalArgumentException(
          "[%d, %d] added to [%d, %d]".formatted(addend.rows(), addend.cols(), rows, cols));
    }
    if (!isRowMajor() || !addend.isRowMajor()) {
      throw new IllegalArgumentException("both matrices must be row-major");
    }
    float[] from = addend.data();
    for (int row = 0; row < rows; row++) {
      int to = index(row, 0);
      int source = addend.index(row, 0);
      for (int col = upper ? row : 0; col < cols; col++) {
        data[to + col] += from[source + col];
      }
    }
  }
}
