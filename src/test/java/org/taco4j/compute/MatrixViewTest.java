package org.taco4j.compute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;

/** A view that reached beyond its array would let native code write over the heap. */
final class MatrixViewTest {
  private final float[] data = new float[12];

  @Test
  void refusesWhatDoesNotLieInTheArray() {
    assertThrows(IllegalArgumentException.class, () -> FloatMatrix.of(data, 3, 5));
    assertThrows(IllegalArgumentException.class, () -> new FloatMatrix(data, 1, 3, 4, 4, 1));
    assertThrows(IllegalArgumentException.class, () -> new FloatMatrix(data, -1, 1, 1, 1, 1));
    assertThrows(IllegalArgumentException.class, () -> new FloatMatrix(data, 0, -1, 1, 1, 1));
    // 65536 * 65536 elements are 0 in int arithmetic.
    assertThrows(
        IllegalArgumentException.class, () -> new FloatMatrix(data, 0, 65536, 65536, 65536, 1));
    // Rows that overlap.
    assertThrows(IllegalArgumentException.class, () -> new FloatMatrix(data, 0, 3, 4, 2, 1));
    // Neither row- nor column-major.
    assertThrows(IllegalArgumentException.class, () -> new FloatMatrix(data, 0, 2, 2, 4, 2));
    FloatMatrix matrix = FloatMatrix.of(data, 3, 4);
    assertThrows(IndexOutOfBoundsException.class, () -> matrix.block(2, 2, 0, 1));
    assertThrows(IndexOutOfBoundsException.class, () -> matrix.block(0, 1, -1, 2));
  }

  @Test
  void blocksAndTransposesShareMemory() {
    FloatMatrix matrix = FloatMatrix.of(data, 3, 4);
    data[6] = 5;
    assertEquals(5, matrix.at(1, 2));
    assertEquals(5, matrix.block(1, 2, 1, 3).at(0, 1));
    assertEquals(5, matrix.block(1, 2, 1, 3).transposed().at(1, 0));
    assertEquals(4, matrix.block(1, 2, 1, 3).transposed().leadingDimension());
    assertEquals(0, matrix.block(3, 0, 4, 0).rows());
  }

  @Test
  void addsFloatsInDouble() {
    double[] sum = {1, 2, 3, 4, 5, 6};
    FloatMatrix addend = FloatMatrix.of(new float[] {0, 10, 20, 0, 30, 40}, 2, 3);
    DoubleMatrix.of(sum, 2, 3).block(0, 2, 0, 2).add(addend.block(0, 2, 1, 2));
    assertArrayEquals(new double[] {11, 22, 3, 34, 45, 6}, sum);
    assertThrows(IllegalArgumentException.class, () -> DoubleMatrix.of(sum, 3, 2).add(addend));
  }
}
