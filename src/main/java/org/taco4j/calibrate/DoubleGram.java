package org.taco4j.calibrate;

import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;

/**
 * The double-precision sum that every accumulator ends in: the upper triangle in tiles, mirrored
 * when it is finished.
 */
final class DoubleGram {
  /** Tile side: its float product (1 MiB) stays in a core's L2 cache until it is added. */
  private static final int TILE = 512;

  /** Products of the thread that computes them: one for all of its accumulators. */
  private static final ThreadLocal<float[]> PRODUCT =
      ThreadLocal.withInitial(() -> new float[TILE * TILE]);

  private final int cols;
  private final int tile;
  private final DoubleMatrix sum;
  private final Backend backend;
  private long samples;

  DoubleGram(int cols, Backend backend) {
    this.cols = cols;
    this.backend = backend;
    this.tile = Math.min(cols, TILE);
    this.sum = DoubleMatrix.zeros(cols, cols);
  }

  /** Adds the samples in the rows of {@code x}: [samples, cols]. */
  void add(FloatMatrix x) {
    float[] product = PRODUCT.get();
    for (int i = 0; i < cols; i += tile) {
      int height = Math.min(tile, cols - i);
      FloatMatrix left = x.block(0, x.rows(), i, height);
      FloatMatrix square = FloatMatrix.of(product, height, height);
      backend.gramTriangle(left, square);
      sum.block(i, height, i, height).addUpper(square);
      for (int j = i + tile; j < cols; j += tile) {
        int width = Math.min(tile, cols - j);
        FloatMatrix part = FloatMatrix.of(product, height, width);
        backend.gramTile(left, x.block(0, x.rows(), j, width), part);
        sum.block(i, height, j, width).add(part);
      }
    }
    samples += x.rows();
  }

  GramMatrix finish() {
    mirror(sum.data(), cols);
    return new GramMatrix(cols, samples, sum.data());
  }

  /** Copies the upper triangle of {@code matrix}, [n, n], into the lower one. */
  static void mirror(double[] matrix, int n) {
    // In blocks, so that the strided side stays in cache.
    int block = 64;
    for (int i = 0; i < n; i += block) {
      for (int j = i; j < n; j += block) {
        for (int r = i; r < Math.min(n, i + block); r++) {
          for (int c = Math.max(j, r + 1); c < Math.min(n, j + block); c++) {
            matrix[c * n + r] = matrix[r * n + c];
          }
        }
      }
    }
  }
}
