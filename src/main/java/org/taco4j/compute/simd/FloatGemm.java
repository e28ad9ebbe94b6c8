package org.taco4j.compute.simd;

import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;
import org.taco4j.compute.FloatMatrix;

/**
 * The float32 matrix product where there is no OpenBLAS: A and B are packed into panels that the
 * inner kernel reads in order, and the kernel keeps a tile of C in registers (Goto and van de Geijn
 * 2008, "Anatomy of High-Performance Matrix Multiplication").
 */
final class FloatGemm {
  private static final VectorSpecies<Float> SPECIES = FloatVector.SPECIES_PREFERRED;
  private static final int LANES = SPECIES.length();

  /**
   * The kernel's tile: 6 rows by two vectors are 12 accumulators, enough to hide the latency of
   * FMA. With 8 rows C2 spills registers, and the kernel is six times slower.
   */
  private static final int TILE_ROWS = 6;

  private static final int TILE_COLS = 2 * LANES;

  /**
   * Depth of the panels: a panel of B stays in the first-level cache, the block of A in the second.
   */
  private static final int DEPTH = 256;

  private static final int BLOCK_ROWS = 32 * TILE_ROWS;
  private static final int BLOCK_COLS = 1024;

  private FloatGemm() {}

  /** C = alpha A B + beta C; C is row-major. */
  static void multiply(float alpha, FloatMatrix a, FloatMatrix b, float beta, FloatMatrix c) {
    multiply(alpha, a, b, beta, c, false);
  }

  /**
   * C = alpha A B + beta C; C is row-major.
   *
   * @param upper whether only the upper triangle of C is wanted; below it anything may stand then
   */
  static void multiply(
      float alpha, FloatMatrix a, FloatMatrix b, float beta, FloatMatrix c, boolean upper) {
    scale(beta, c);
    int depth = Math.min(DEPTH, a.cols());
    float[] packedA = new float[roundUp(Math.min(BLOCK_ROWS, c.rows()), TILE_ROWS) * depth];
    float[] packedB = new float[roundUp(Math.min(BLOCK_COLS, c.cols()), TILE_COLS) * depth];
    float[] edge = new float[TILE_ROWS * TILE_COLS];
    for (int col = 0; col < c.cols(); col += BLOCK_COLS) {
      int cols = Math.min(BLOCK_COLS, c.cols() - col);
      for (int k = 0; k < a.cols(); k += DEPTH) {
        int ks = Math.min(DEPTH, a.cols() - k);
        pack(b.block(k, ks, col, cols).transposed(), 1, TILE_COLS, packedB);
        int end = upper ? Math.min(c.rows(), col + cols) : c.rows();
        for (int row = 0; row < end; row += BLOCK_ROWS) {
          int rows = Math.min(BLOCK_ROWS, c.rows() - row);
          pack(a.block(row, rows, k, ks), alpha, TILE_ROWS, packedA);
          multiplyPacked(
              packedA,
              packedB,
              ks,
              c.block(row, rows, col, cols),
              upper ? row - col : Integer.MIN_VALUE,
              edge);
        }
      }
    }
  }

  private static void scale(float beta, FloatMatrix c) {
    for (int i = 0; i < c.rows() && beta != 1; i++) {
      int from = c.index(i, 0);
      for (int j = from; j < from + c.cols(); j++) {
        c.data()[j] = beta == 0 ? 0 : beta * c.data()[j];
      }
    }
  }

  /**
   * Packs {@code factor} times a matrix into panels of {@code height} rows, each stored column
   * after column; missing rows of the last panel are zeros.
   */
  private static void pack(FloatMatrix matrix, float factor, int height, float[] packed) {
    int ks = matrix.cols();
    float[] from = matrix.data();
    for (int row = 0; row < matrix.rows(); row += height) {
      int to = row * ks;
      int rows = Math.min(height, matrix.rows() - row);
      if (rows < height) {
        Arrays.fill(packed, to, to + height * ks, 0);
      }
      if (matrix.isRowMajor()) {
        for (int i = 0; i < rows; i++) {
          int source = matrix.index(row + i, 0);
          for (int k = 0; k < ks; k++) {
            packed[to + k * height + i] = factor * from[source + k];
          }
        }
      } else if (rows == height && height % LANES == 0) {
        for (int k = 0; k < ks; k++) {
          int source = matrix.index(row, k);
          for (int i = 0; i < height; i += LANES) {
            FloatVector.fromArray(SPECIES, from, source + i)
                .mul(factor)
                .intoArray(packed, to + k * height + i);
          }
        }
      } else {
        for (int k = 0; k < ks; k++) {
          int source = matrix.index(row, k);
          for (int i = 0; i < rows; i++) {
            packed[to + k * height + i] = factor * from[source + i];
          }
        }
      }
    }
  }

  /**
   * Multiplies packed panels, tile by tile.
   *
   * @param below how many rows further down than columns to the right C lies in the whole matrix:
   *     tiles that lie wholly below the diagonal are left out
   */
  private static void multiplyPacked(
      float[] packedA, float[] packedB, int ks, FloatMatrix c, int below, float[] edge) {
    for (int col = 0; col < c.cols(); col += TILE_COLS) {
      for (int row = 0; row < c.rows() && row + below < col + TILE_COLS; row += TILE_ROWS) {
        int rows = Math.min(TILE_ROWS, c.rows() - row);
        int cols = Math.min(TILE_COLS, c.cols() - col);
        if (rows == TILE_ROWS && cols == TILE_COLS) {
          addTile(
              packedA, row * ks, packedB, col * ks, ks, c.data(), c.index(row, col), c.rowStride());
        } else {
          Arrays.fill(edge, 0);
          addTile(packedA, row * ks, packedB, col * ks, ks, edge, 0, TILE_COLS);
          for (int i = 0; i < rows; i++) {
            addEdge(edge, i * TILE_COLS, cols, c.data(), c.index(row + i, col));
          }
        }
      }
    }
  }

  /** Adds one row of a tile that C does not hold whole. */
  private static void addEdge(float[] edge, int from, int cols, float[] c, int to) {
    int j = 0;
    for (; j + LANES <= cols; j += LANES) {
      FloatVector.fromArray(SPECIES, c, to + j)
          .add(FloatVector.fromArray(SPECIES, edge, from + j))
          .intoArray(c, to + j);
    }
    for (; j < cols; j++) {
      c[to + j] += edge[from + j];
    }
  }

  /** The inner kernel: C tile += panel of A [6, ks] times panel of B [ks, 2 vectors]. */
  private static void addTile(
      float[] a, int aStart, float[] b, int bStart, int ks, float[] c, int cStart, int stride) {
    FloatVector c00 = FloatVector.zero(SPECIES);
    FloatVector c01 = c00;
    FloatVector c10 = c00;
    FloatVector c11 = c00;
    FloatVector c20 = c00;
    FloatVector c21 = c00;
    FloatVector c30 = c00;
    FloatVector c31 = c00;
    FloatVector c40 = c00;
    FloatVector c41 = c00;
    FloatVector c50 = c00;
    FloatVector c51 = c00;
    for (int k = 0; k < ks; k++) {
      int at = aStart + k * TILE_ROWS;
      FloatVector b0 = FloatVector.fromArray(SPECIES, b, bStart + k * TILE_COLS);
      FloatVector b1 = FloatVector.fromArray(SPECIES, b, bStart + k * TILE_COLS + LANES);
      FloatVector a0 = FloatVector.broadcast(SPECIES, a[at]);
      c00 = a0.fma(b0, c00);
      c01 = a0.fma(b1, c01);
      FloatVector a1 = FloatVector.broadcast(SPECIES, a[at + 1]);
      c10 = a1.fma(b0, c10);
      c11 = a1.fma(b1, c11);
      FloatVector a2 = FloatVector.broadcast(SPECIES, a[at + 2]);
      c20 = a2.fma(b0, c20);
      c21 = a2.fma(b1, c21);
      FloatVector a3 = FloatVector.broadcast(SPECIES, a[at + 3]);
      c30 = a3.fma(b0, c30);
      c31 = a3.fma(b1, c31);
      FloatVector a4 = FloatVector.broadcast(SPECIES, a[at + 4]);
      c40 = a4.fma(b0, c40);
      c41 = a4.fma(b1, c41);
      FloatVector a5 = FloatVector.broadcast(SPECIES, a[at + 5]);
      c50 = a5.fma(b0, c50);
      c51 = a5.fma(b1, c51);
    }
    addRow(c, cStart, c00, c01);
    addRow(c, cStart + stride, c10, c11);
    addRow(c, cStart + 2 * stride, c20, c21);
    addRow(c, cStart + 3 * stride, c30, c31);
    addRow(c, cStart + 4 * stride, c40, c41);
    addRow(c, cStart + 5 * stride, c50, c51);
  }

  private static void addRow(float[] c, int at, FloatVector left, FloatVector right) {
    FloatVector.fromArray(SPECIES, c, at).add(left).intoArray(c, at);
    FloatVector.fromArray(SPECIES, c, at + LANES).add(right).intoArray(c, at + LANES);
  }

  private static int roundUp(int value, int multiple) {
    return (value + multiple - 1) / multiple * multiple;
  }
}
