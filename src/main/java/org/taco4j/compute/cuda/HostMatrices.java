package org.taco4j.compute.cuda;

import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;

/**
 * Matrices in heap arrays to a device and back. They keep the order that they have in memory: a
 * transposed view arrives as the row-major matrix that it is a view of.
 */
final class HostMatrices {
  private HostMatrices() {}

  /**
   * A matrix as it lies in memory.
   *
   * @param transposed whether the host's matrix is the transpose of this one
   */
  record Uploaded(DeviceMatrix matrix, boolean transposed) {}

  /** The lines of a matrix, which are contiguous: where they lie in the heap array. */
  private record Lines(int offset, int count, int length, int stride) {
    static Lines of(FloatMatrix matrix) {
      boolean rowMajor = matrix.isRowMajor();
      return new Lines(
          matrix.offset(),
          rowMajor ? matrix.rows() : matrix.cols(),
          rowMajor ? matrix.cols() : matrix.rows(),
          rowMajor ? matrix.rowStride() : matrix.colStride());
    }

    static Lines of(DoubleMatrix matrix) {
      boolean rowMajor = matrix.isRowMajor();
      return new Lines(
          matrix.offset(),
          rowMajor ? matrix.rows() : matrix.cols(),
          rowMajor ? matrix.cols() : matrix.rows(),
          rowMajor ? matrix.rowStride() : matrix.colStride());
    }

    int elements() {
      return count * length;
    }

    boolean isContiguous() {
      return count <= 1 || stride == length;
    }

    /** Lines lie close enough together to go with what is between them. */
    boolean isDense() {
      return isContiguous() || stride <= length + length / 2;
    }

    /** In how many copies the matrix is uploaded. */
    int copies() {
      return elements() == 0 ? 0 : isDense() ? 1 : count;
    }

    /** The elements of one copy. */
    int copyLength() {
      return isDense() ? (count - 1) * stride + length : length;
    }

    int uploaded() {
      return copies() * copyLength();
    }

    /** The matrix of an array that holds the span, or the lines one after the other. */
    DeviceMatrix in(DeviceArray array) {
      int pitch = isDense() && !isContiguous() ? stride : Math.max(1, length);
      return new DeviceMatrix(array, 0, count, length, pitch);
    }
  }

  /** How many bytes a matrix takes on the device. */
  static long bytes(FloatMatrix matrix) {
    return (long) Float.BYTES * Lines.of(matrix).uploaded();
  }

  /** {@link #bytes(FloatMatrix)}. */
  static long bytes(DoubleMatrix matrix) {
    return (long) Double.BYTES * Lines.of(matrix).uploaded();
  }

  /** A new matrix on the device. */
  static Uploaded upload(DeviceScope scope, FloatMatrix matrix) {
    Lines lines = Lines.of(matrix);
    DeviceArray array = scope.floats(lines.uploaded());
    for (int i = 0; i < lines.copies(); i++) {
      scope.upload(
          matrix.data(),
          lines.offset() + i * lines.stride(),
          array,
          (long) i * lines.length(),
          lines.copyLength());
    }
    return new Uploaded(lines.in(array), !matrix.isRowMajor());
  }

  /** A new matrix on the device. */
  static Uploaded upload(DeviceScope scope, DoubleMatrix matrix) {
    Lines lines = Lines.of(matrix);
    DeviceArray array = scope.doubles(lines.uploaded());
    for (int i = 0; i < lines.copies(); i++) {
      scope.upload(
          matrix.data(),
          lines.offset() + i * lines.stride(),
          array,
          (long) i * lines.length(),
          lines.copyLength());
    }
    return new Uploaded(lines.in(array), !matrix.isRowMajor());
  }

  /** A new matrix for what is to be downloaded to {@code matrix}, not initialised. */
  static Uploaded like(DeviceScope scope, FloatMatrix matrix) {
    Lines lines = Lines.of(matrix);
    DeviceArray array = scope.floats(lines.elements());
    int pitch = Math.max(1, lines.length());
    return new Uploaded(
        new DeviceMatrix(array, 0, lines.count(), lines.length(), pitch), !matrix.isRowMajor());
  }

  /** {@link #like(DeviceScope, FloatMatrix)}. */
  static Uploaded like(DeviceScope scope, DoubleMatrix matrix) {
    Lines lines = Lines.of(matrix);
    DeviceArray array = scope.doubles(lines.elements());
    int pitch = Math.max(1, lines.length());
    return new Uploaded(
        new DeviceMatrix(array, 0, lines.count(), lines.length(), pitch), !matrix.isRowMajor());
  }

  /** Copies a matrix that was uploaded from {@code to}, or is like it, back there. */
  static void download(DeviceScope scope, DeviceMatrix from, FloatMatrix to) {
    Lines lines = Lines.of(to);
    if (lines.elements() == 0) {
      return;
    }
    if (lines.isContiguous() && from.stride() == lines.length()) {
      scope.download(from.array(), from.offset(), to.data(), lines.offset(), lines.elements());
      return;
    }
    float[] span = new float[(from.rows() - 1) * from.stride() + from.cols()];
    scope.download(from.array(), from.offset(), span, 0, span.length);
    for (int i = 0; i < lines.count(); i++) {
      System.arraycopy(
          span, i * from.stride(), to.data(), lines.offset() + i * lines.stride(), lines.length());
    }
  }

  /** {@link #download(DeviceScope, DeviceMatrix, FloatMatrix)}. */
  static void download(DeviceScope scope, DeviceMatrix from, DoubleMatrix to) {
    Lines lines = Lines.of(to);
    if (lines.elements() == 0) {
      return;
    }
    if (lines.isContiguous() && from.stride() == lines.length()) {
      scope.download(from.array(), from.offset(), to.data(), lines.offset(), lines.elements());
      return;
    }
    double[] span = new double[(from.rows() - 1) * from.stride() + from.cols()];
    scope.download(from.array(), from.offset(), span, 0, span.length);
    for (int i = 0; i < lines.count(); i++) {
      System.arraycopy(
          span, i * from.stride(), to.data(), lines.offset() + i * lines.stride(), lines.length());
    }
  }
}
