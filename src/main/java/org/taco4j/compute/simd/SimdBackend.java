package org.taco4j.compute.simd;

import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;

/**
 * The kernels on vector instructions, spread over the workers by tiles whose borders depend on the
 * shapes alone.
 */
public final class SimdBackend implements Backend {
  /** Columns of a block of the Cholesky factorisation, and rows of its tiles. */
  private static final int CHOLESKY_BLOCK = 128;

  /** Largest tile of a product, rows and columns. */
  private static final int GEMM_TILE = 256;

  /** How deep a product goes in one call, so that calls stay short. */
  private static final int GEMM_DEPTH = 4096;

  /**
   * Products are cut into this many tiles, if that leaves them no smaller than half the largest.
   */
  private static final int GEMM_MIN_TILES = 4;

  private final Workers workers;
  private final Blas blas;

  private SimdBackend(Workers workers, Blas blas) {
    this.workers = workers;
    this.blas = blas;
  }

  /**
   * Over OpenBLAS where it loads, unless the Vector API multiplies with wider vectors here; else
   * over the Vector API alone. The description says which, and why.
   */
  public static SimdBackend create(Workers workers) {
    OpenBlas library = OpenBlas.get().library();
    if (library == null) {
      return createWithoutNatives(workers);
    }
    boolean narrow = library.vectorBits() > 0 && library.vectorBits() < vectorBits();
    return new SimdBackend(workers, narrow ? new WideProducts(library, new VectorBlas()) : library);
  }

  /**
   * Over OpenBLAS for all it has, however narrow its kernels are.
   *
   * @throws IllegalStateException where it does not load
   */
  public static SimdBackend createOverOpenBlas(Workers workers) {
    OpenBlas library = OpenBlas.get().library();
    if (library == null) {
      throw new IllegalStateException(OpenBlas.get().failure());
    }
    return new SimdBackend(workers, library);
  }

  /** Over the Vector API alone. */
  public static SimdBackend createWithoutNatives(Workers workers) {
    return new SimdBackend(workers, new VectorBlas());
  }

  /** Bits of the widest vectors that the Vector API offers here. */
  public static int vectorBits() {
    return FloatVector.SPECIES_PREFERRED.vectorBitSize();
  }

  @Override
  public String name() {
    return "simd";
  }

  @Override
  public String description() {
    return "%s, %d threads".formatted(kernels(), workers.threads());
  }

  @Override
  public String kernels() {
    String missing =
        OpenBlas.get().library() != null ? "" : " (no OpenBLAS: " + OpenBlas.get().failure() + ")";
    return "simd: %s%s, %d-bit vectors".formatted(blas.description(), missing, vectorBits());
  }

  @Override
  public Workers workers() {
    return workers;
  }

  @Override
  public void gemm(float alpha, FloatMatrix a, FloatMatrix b, float beta, FloatMatrix c) {
    FloatMatrix.checkProduct(a, b, c);
    Tiles tiles = Tiles.of(c.rows(), c.cols());
    workers.forEach(
        tiles.count(),
        tile -> {
          int row = tiles.row(tile);
          int col = tiles.col(tile);
          int rows = Math.min(tiles.height, c.rows() - row);
          int cols = Math.min(tiles.width, c.cols() - col);
          FloatMatrix to = c.block(row, rows, col, cols);
          // Even a product of depth 0 has beta C to see to.
          for (int k = 0; k == 0 || k < a.cols(); k += GEMM_DEPTH) {
            int depth = Math.min(GEMM_DEPTH, a.cols() - k);
            blas.gemm(
                alpha,
                a.block(row, rows, k, depth),
                b.block(k, depth, col, cols),
                k == 0 ? beta : 1,
                to);
          }
        });
  }

  @Override
  public void gemm(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c) {
    DoubleMatrix.checkProduct(a, b, c);
    Tiles tiles = Tiles.of(c.rows(), c.cols());
    workers.forEach(
        tiles.count(),
        tile -> {
          int row = tiles.row(tile);
          int col = tiles.col(tile);
          int rows = Math.min(tiles.height, c.rows() - row);
          int cols = Math.min(tiles.width, c.cols() - col);
          DoubleMatrix to = c.block(row, rows, col, cols);
          for (int k = 0; k == 0 || k < a.cols(); k += GEMM_DEPTH) {
            int depth = Math.min(GEMM_DEPTH, a.cols() - k);
            blas.gemm(
                alpha,
                a.block(row, rows, k, depth),
                b.block(k, depth, col, cols),
                k == 0 ? beta : 1,
                to);
          }
        });
  }

  /** How a product is cut; long calls first does not matter, the tiles are alike. */
  private record Tiles(int rows, int cols, int height, int width) {
    static Tiles of(int rows, int cols) {
      int height = GEMM_TILE;
      int width = GEMM_TILE;
      if (count(rows, height) * count(cols, width) < GEMM_MIN_TILES) {
        height /= 2;
        width /= 2;
      }
      return new Tiles(rows, cols, height, width);
    }

    private static long count(int size, int tile) {
      return (size + tile - 1L) / tile;
    }

    int count() {
      return Math.toIntExact(count(rows, height) * count(cols, width));
    }

    int row(int tile) {
      return (int) (tile / count(cols, width)) * height;
    }

    int col(int tile) {
      return (int) (tile % count(cols, width)) * width;
    }
  }

  @Override
  public void gramTile(FloatMatrix left, FloatMatrix right, FloatMatrix tile) {
    FloatMatrix.checkProduct(left.transposed(), right, tile);
    blas.gemm(1, left.transposed(), right, 0, tile);
  }

  @Override
  public void gramTriangle(FloatMatrix samples, FloatMatrix triangle) {
    FloatMatrix.checkProduct(samples.transposed(), samples, triangle);
    blas.upperSquare(samples.transposed(), triangle);
  }

  /**
   * Left-looking: a block column takes the products of all columns before it at once, which are
   * deep and write each element once. The panel is divided by the diagonal block through that
   * block's inverse, so that this too is a product.
   */
  @Override
  public int cholesky(FloatMatrix a) {
    int n = a.rows();
    for (int first = 0; first < n; first += CHOLESKY_BLOCK) {
      int size = Math.min(CHOLESKY_BLOCK, n - first);
      int done = first;
      FloatMatrix left = a.block(first, size, 0, done);
      int tiles = (n - first + CHOLESKY_BLOCK - 1) / CHOLESKY_BLOCK;
      if (done > 0) {
        workers.forEach(
            tiles,
            tile -> {
              int row = done + tile * CHOLESKY_BLOCK;
              int rows = Math.min(CHOLESKY_BLOCK, n - row);
              blas.gemm(
                  -1,
                  a.block(row, rows, 0, done),
                  left.transposed(),
                  1,
                  a.block(row, rows, done, size));
            });
      }
      FloatMatrix diagonal = a.block(first, size, first, size);
      int failed = blas.factorLower(diagonal);
      if (failed >= 0) {
        return first + failed;
      }
      if (tiles > 1) {
        FloatMatrix inverse = copy(diagonal);
        invertLower(inverse);
        workers.forEach(
            tiles - 1,
            tile -> {
              int row = done + size + tile * CHOLESKY_BLOCK;
              FloatMatrix panel = a.block(row, Math.min(CHOLESKY_BLOCK, n - row), done, size);
              blas.gemm(1, copy(panel), inverse.transposed(), 0, panel);
            });
      }
    }
    return -1;
  }

  @Override
  public void invertLower(FloatMatrix lower) {
    blas.invertLower(lower);
    for (int i = 0; i < lower.rows(); i++) {
      int row = lower.index(i, 0);
      Arrays.fill(lower.data(), row + i + 1, row + lower.cols(), 0);
    }
  }

  @Override
  public void obsSweep(FloatMatrix inverse, FloatMatrix w, boolean[] removed) {
    sweep(inverse, w, removed, 0, 0);
  }

  @Override
  public void obsSweep(
      FloatMatrix inverse, FloatMatrix w, boolean[] removed, int kept, int groupSize) {
    sweep(inverse, w, removed, kept, groupSize);
  }

  private void sweep(
      FloatMatrix inverse, FloatMatrix w, boolean[] removed, int kept, int groupSize) {
    // Two tiles at least share the copy of M that an ObsSweep holds.
    int taskRows = 4 * ObsSweep.TILE_ROWS;
    workers.forEach(
        (w.cols() + taskRows - 1) / taskRows,
        task -> {
          ObsSweep sweep = new ObsSweep(inverse);
          int end = Math.min(w.cols(), (task + 1) * taskRows);
          for (int row = task * taskRows; row < end; row += ObsSweep.TILE_ROWS) {
            sweep.run(w, removed, row, kept, groupSize);
          }
        });
  }

  /**
   * tr(W G Wᵀ) by tiles of rows; of G only the upper triangle is multiplied, as it is symmetric:
   * what lies above the diagonal blocks counts twice.
   */
  @Override
  public double quadraticForm(FloatMatrix w, DoubleMatrix g) {
    int rowTile = 128;
    int colTile = 256;
    int cols = w.cols();
    double[] sums = new double[(w.rows() + rowTile - 1) / rowTile];
    workers.forEach(
        sums.length,
        task -> {
          int row = task * rowTile;
          int rows = Math.min(rowTile, w.rows() - row);
          DoubleMatrix tile = DoubleMatrix.zeros(rows, cols);
          tile.add(w.block(row, rows, 0, cols));
          DoubleMatrix product = DoubleMatrix.zeros(rows, colTile);
          double sum = 0;
          for (int col = 0; col < cols; col += colTile) {
            int size = Math.min(colTile, cols - col);
            DoubleMatrix right = tile.block(0, rows, col, size);
            DoubleMatrix to = product.block(0, rows, 0, size);
            if (col > 0) {
              blas.gemm(1, tile.block(0, rows, 0, col), g.block(0, col, col, size), 0, to);
              sum += 2 * dot(to, right);
            }
            blas.gemm(1, right, g.block(col, size, col, size), 0, to);
            sum += dot(to, right);
          }
          sums[task] = sum;
        });
    double total = 0;
    for (double sum : sums) {
      total += sum;
    }
    return total;
  }

  private static double dot(DoubleMatrix left, DoubleMatrix right) {
    double total = 0;
    for (int row = 0; row < left.rows(); row++) {
      int l = left.index(row, 0);
      int r = right.index(row, 0);
      double sum = 0;
      for (int col = 0; col < left.cols(); col++) {
        sum += left.data()[l + col] * right.data()[r + col];
      }
      total += sum;
    }
    return total;
  }

  private static FloatMatrix copy(FloatMatrix source) {
    FloatMatrix copy = FloatMatrix.zeros(source.rows(), source.cols());
    for (int row = 0; row < source.rows(); row++) {
      System.arraycopy(
          source.data(), source.index(row, 0), copy.data(), copy.index(row, 0), source.cols());
    }
    return copy;
  }
}
