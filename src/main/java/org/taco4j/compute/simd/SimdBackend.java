package org.taco4j.compute.simd;

import java.util.Arrays;
import java.util.function.IntConsumer;
import jdk.incubator.vector.FloatVector;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.ObsElimination;

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
        FloatMatrix inverse = diagonal.copy();
        invertLower(inverse);
        workers.forEach(
            tiles - 1,
            tile -> {
              int row = done + size + tile * CHOLESKY_BLOCK;
              FloatMatrix panel = a.block(row, Math.min(CHOLESKY_BLOCK, n - row), done, size);
              blas.gemm(1, panel.copy(), inverse.transposed(), 0, panel);
            });
      }
    }
    return -1;
  }

  @Override
  public int cholesky(DoubleMatrix a) {
    return cholesky(a, workers::forEach);
  }

  /** Something that runs a number of tasks: on all threads, or on this one. */
  @FunctionalInterface
  private interface Loop {
    void forEach(int count, IntConsumer task);
  }

  private static void forEachHere(int count, IntConsumer task) {
    for (int i = 0; i < count; i++) {
      task.accept(i);
    }
  }

  /** {@link #cholesky(FloatMatrix)} in double. */
  private int cholesky(DoubleMatrix a, Loop loop) {
    int n = a.rows();
    int block = doubleBlock(n);
    for (int first = 0; first < n; first += block) {
      int size = Math.min(block, n - first);
      int done = first;
      DoubleMatrix left = a.block(first, size, 0, done);
      int tiles = (n - first + block - 1) / block;
      if (done > 0) {
        loop.forEach(
            tiles,
            tile -> {
              int row = done + tile * block;
              int rows = Math.min(block, n - row);
              DoubleMatrix to = a.block(row, rows, done, size);
              blas.gemm(-1, a.block(row, rows, 0, done), left.transposed(), 1, to);
            });
      }
      DoubleMatrix diagonal = a.block(first, size, first, size);
      int failed = blas.factorLower(diagonal);
      if (failed >= 0) {
        return first + failed;
      }
      if (tiles > 1) {
        DoubleMatrix inverse = invertedLower(diagonal);
        loop.forEach(
            tiles - 1,
            tile -> {
              int row = done + size + tile * block;
              DoubleMatrix panel = a.block(row, Math.min(block, n - row), done, size);
              blas.gemm(1, panel.copy(), inverse.transposed(), 0, panel);
            });
      }
    }
    return -1;
  }

  /** Columns of a block of the double factorisations: small matrices too give work to threads. */
  private static int doubleBlock(int n) {
    return n <= 1024 ? CHOLESKY_BLOCK / 2 : CHOLESKY_BLOCK;
  }

  /**
   * By M = L⁻¹ and A⁻¹ = Mᵀ M. The block columns of M are independent of each other: M_ij = -M_ii
   * Σ_k L_ik M_kj over j &lt;= k &lt; i.
   */
  @Override
  public int invertPositiveDefinite(DoubleMatrix a) {
    int failed = cholesky(a);
    if (failed >= 0) {
      return failed;
    }
    int n = a.rows();
    int block = doubleBlock(n);
    int blocks = (n + block - 1) / block;
    DoubleMatrix m = DoubleMatrix.zeros(n, n);
    workers.forEach(
        blocks,
        b -> {
          int first = b * block;
          int size = Math.min(block, n - first);
          DoubleMatrix inverse = invertedLower(a.block(first, size, first, size));
          copy(inverse, m.block(first, size, first, size));
        });
    workers.forEach(
        blocks - 1,
        b -> {
          int first = b * block;
          double[] scratch = new double[block * block];
          for (int row = first + block; row < n; row += block) {
            int rows = Math.min(block, n - row);
            int depth = row - first;
            DoubleMatrix sum = DoubleMatrix.of(scratch, block, block).block(0, rows, 0, block);
            blas.gemm(
                1, a.block(row, rows, first, depth), m.block(first, depth, first, block), 0, sum);
            blas.gemm(-1, m.block(row, rows, row, rows), sum, 0, m.block(row, rows, first, block));
          }
        });
    workers.forEach(
        blocks * (blocks + 1) / 2,
        tile -> {
          // Row after row of tiles of the lower triangle: the deep products first.
          int i = (int) ((Math.sqrt(8.0 * tile + 1) - 1) / 2);
          int row = i * block;
          int rows = Math.min(block, n - row);
          int col = (tile - i * (i + 1) / 2) * block;
          int cols = Math.min(block, n - col);
          DoubleMatrix to = a.block(row, rows, col, cols);
          DoubleMatrix left = m.block(row, n - row, row, rows).transposed();
          blas.gemm(1, left, m.block(row, n - row, col, cols), 0, to);
          mirrorLower(to, a.block(col, cols, row, rows));
        });
    return -1;
  }

  /** {@code to = fromᵀ}; of a tile on the diagonal, which is its own mirror, the lower triangle. */
  private static void mirrorLower(DoubleMatrix from, DoubleMatrix to) {
    boolean isDiagonal = from.offset() == to.offset();
    for (int i = 0; i < from.rows(); i++) {
      for (int j = 0; j < (isDiagonal ? i : from.cols()); j++) {
        to.data()[to.index(j, i)] = from.at(i, j);
      }
    }
  }

  @Override
  public int solvePositiveDefinite(DoubleMatrix a, DoubleMatrix b) {
    int failed = cholesky(a, SimdBackend::forEachHere);
    if (failed >= 0) {
      return failed;
    }
    int n = a.rows();
    double[] l = a.data();
    double[] x = new double[n];
    for (int col = 0; col < b.cols(); col++) {
      // Both substitutions run along the rows of L: L y = b by dot products, Lᵀ x = y by updates.
      for (int i = 0; i < n; i++) {
        int row = a.index(i, 0);
        x[i] = (b.at(i, col) - DoubleLoops.dot(l, row, x, i)) / l[row + i];
      }
      for (int i = n - 1; i >= 0; i--) {
        int row = a.index(i, 0);
        x[i] /= l[row + i];
        DoubleLoops.subtractMultiple(x[i], l, row, x, i);
      }
      for (int i = 0; i < n; i++) {
        b.data()[b.index(i, col)] = x[i];
      }
    }
    return -1;
  }

  /** The inverse of a lower triangle, zeros above it. */
  private DoubleMatrix invertedLower(DoubleMatrix lower) {
    DoubleMatrix inverse = lower.copy();
    blas.invertLower(inverse);
    for (int i = 0; i < inverse.rows(); i++) {
      int row = inverse.index(i, 0);
      Arrays.fill(inverse.data(), row + i + 1, row + inverse.cols(), 0);
    }
    return inverse;
  }

  @Override
  public void gemmTile(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c) {
    DoubleMatrix.checkProduct(a, b, c);
    blas.gemm(alpha, a, b, beta, c);
  }

  /**
   * With M = L⁻¹ the reduction of column j is ‖M r_j‖², half the work of the product with the
   * inverse as M is triangular, and the inverse is MᵀM; both block row by block row.
   */
  @Override
  public int invertAndReduce(DoubleMatrix a, DoubleMatrix r, double[] schur) {
    int failed = cholesky(a, SimdBackend::forEachHere);
    if (failed >= 0) {
      return failed;
    }
    int n = a.rows();
    int block = doubleBlock(n);
    DoubleMatrix m = invertedLower(a);
    DoubleMatrix scratch = DoubleMatrix.zeros(Math.min(block, n), r.cols());
    for (int row = 0; row < n; row += block) {
      int rows = Math.min(block, n - row);
      int end = row + rows;
      DoubleMatrix product = scratch.block(0, rows, 0, r.cols());
      blas.gemm(1, m.block(row, rows, 0, end), r.block(0, end, 0, r.cols()), 0, product);
      for (int i = 0; i < rows; i++) {
        SupportLoops.subtractSquares(product.data(), product.index(i, 0), schur, r.cols());
      }
      DoubleMatrix to = a.block(row, rows, 0, end);
      blas.gemm(
          1, m.block(row, n - row, row, rows).transposed(), m.block(row, n - row, 0, end), 0, to);
      mirrorLower(to.block(0, rows, row, rows), to.block(0, rows, row, rows));
      if (row > 0) {
        mirrorLower(to.block(0, rows, 0, row), a.block(0, row, row, rows));
      }
    }
    return -1;
  }

  @Override
  public void rankOne(double alpha, double[] x, double[] y, DoubleMatrix a) {
    for (int i = 0; i < a.rows(); i++) {
      SupportLoops.addMultiple(alpha * x[i], y, a.data(), a.index(i, 0), a.cols());
    }
  }

  @Override
  public void multiply(DoubleMatrix a, double[] x, double[] y) {
    for (int i = 0; i < a.rows(); i++) {
      y[i] = DoubleLoops.dot(a.data(), a.index(i, 0), x, a.cols());
    }
  }

  @Override
  public int cheapestRemoval(
      DoubleMatrix w, double[] g, DoubleMatrix c, double[] s, double inverseSchur) {
    return SupportLoops.cheapestRemoval(w, g, c, s, inverseSchur);
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
    sweep(inverse, w, (sweep, row) -> sweep.run(w, removed, row, 0, 0));
  }

  @Override
  public void obsSweep(
      FloatMatrix inverse, FloatMatrix w, boolean[] removed, int kept, int groupSize) {
    sweep(inverse, w, (sweep, row) -> sweep.run(w, removed, row, kept, groupSize));
  }

  @Override
  public void quantSweep(
      FloatMatrix inverse,
      FloatMatrix w,
      boolean[] removed,
      float[] scale,
      float[] lowest,
      float[] highest) {
    sweep(inverse, w, (sweep, row) -> sweep.runToGrid(w, removed, row, scale, lowest, highest));
  }

  /** The sweep of one tile of rows. */
  @FunctionalInterface
  private interface TileSweep {
    void accept(ObsSweep sweep, int row);
  }

  private void sweep(FloatMatrix inverse, FloatMatrix w, TileSweep tileSweep) {
    // Two tiles at least share the copy of M that an ObsSweep holds.
    int taskRows = 4 * ObsSweep.TILE_ROWS;
    workers.forEach(
        (w.cols() + taskRows - 1) / taskRows,
        task -> {
          ObsSweep sweep = new ObsSweep(inverse);
          int end = Math.min(w.cols(), (task + 1) * taskRows);
          for (int row = task * taskRows; row < end; row += ObsSweep.TILE_ROWS) {
            tileSweep.accept(sweep, row);
          }
        });
  }

  @Override
  public ObsElimination obsElimination(
      FloatMatrix inverse, double[] leastPivots, ObsElimination.Units units) {
    return units.blockSize() > 1
        ? new FloatBlockElimination(inverse, leastPivots, units)
        : new FloatElimination(inverse, leastPivots, units);
  }

  @Override
  public ObsElimination obsElimination(
      DoubleMatrix inverse, double[] leastPivots, ObsElimination.Units units) {
    return units.blockSize() > 1
        ? new DoubleBlockElimination(inverse, leastPivots, units)
        : new DoubleElimination(inverse, leastPivots, units);
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

  private static void copy(DoubleMatrix from, DoubleMatrix to) {
    for (int row = 0; row < from.rows(); row++) {
      System.arraycopy(from.data(), from.index(row, 0), to.data(), to.index(row, 0), from.cols());
    }
  }
}
