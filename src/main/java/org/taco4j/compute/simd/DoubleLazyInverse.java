package org.taco4j.compute.simd;

import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorSpecies;
import org.taco4j.compute.DoubleMatrix;

/**
 * A symmetric matrix A = M − UᵀU from which columns are eliminated one after the other, without
 * touching M at each of them: each elimination appends a row to U, and only the columns that are
 * asked for are formed. When U is full, {@link #compact} drops the columns that are done with and
 * works U into the rest, a matrix product.
 *
 * <p>M is symmetric, so only panels of its upper triangle are kept: panel q holds columns q ·
 * {@link #PANEL} and on, down to the end of its diagonal block, row after row. In this layout the
 * tiles of the product are contiguous, and a column is a run of one panel and a row of the panels
 * to the right. U is cut into the same panels.
 */
final class DoubleLazyInverse {
  static final VectorSpecies<Double> SPECIES = DoubleVector.SPECIES_PREFERRED;
  static final int LANES = SPECIES.length();

  /** Columns of a tile: with {@link #TILE_ROWS} rows 12 accumulators, which hide FMA's latency. */
  static final int TILE_COLS = 3 * LANES;

  private static final int TILE_ROWS = 4;

  /** Columns of a panel, a multiple of both sides of a tile. */
  static final int PANEL = TILE_COLS % TILE_ROWS == 0 ? TILE_COLS : 2 * TILE_COLS;

  /** A row of gathered elements, with room for the last vector to run over. */
  private static final int GATHERED = PANEL + LANES;

  /** Narrower vectors have no instruction that compresses, or a slow one. */
  private static final boolean COMPRESS = SPECIES.vectorBitSize() == 512;

  private final double[] shared;
  private final int sharedSize;
  private final double[] own;

  /** M, one of the two above. */
  private double[] m;

  private int size;

  /** Rows of U that there is room for. */
  private final int period;

  /** U, [panels, period, PANEL]. */
  private final double[] u;

  private int rank;

  private final double[] gathered = new double[TILE_ROWS * GATHERED];

  // Of the panel being gathered, for each vector that it comes from (at worst one for each
  // column): which lanes, from where, to where.
  private final long[] lanes = new long[PANEL];
  private final int[] sourceStart = new int[lanes.length];
  private final int[] sourceRows = new int[lanes.length];
  private final int[] target = new int[lanes.length];
  private final int[] columnStart = new int[PANEL];
  private final int[] columnRows = new int[PANEL];
  private final int[] rowStart = new int[TILE_ROWS];

  /**
   * A copy-on-compaction of M.
   *
   * @param packed as of {@link #pack}, shared and never written
   * @param size columns of M
   * @param period how many eliminations U holds
   */
  DoubleLazyInverse(double[] packed, int size, int period) {
    this.shared = packed;
    this.sharedSize = size;
    this.own = new double[packed.length];
    this.m = packed;
    this.period = period;
    this.u = new double[panels(size) * period * PANEL];
  }

  static int panels(int columns) {
    return (columns + PANEL - 1) / PANEL;
  }

  /** Where panel q begins. */
  private static int start(int q) {
    return PANEL * PANEL * (q * (q + 1) / 2);
  }

  /** The panels of a symmetric matrix; its elements are taken in the order of {@code columns}. */
  static double[] pack(DoubleMatrix matrix, int[] columns) {
    int n = matrix.rows();
    double[] packed = new double[start(panels(n))];
    for (int q = 0; q < panels(n); q++) {
      int end = Math.min(n, (q + 1) * PANEL);
      for (int i = 0; i < end; i++) {
        int to = start(q) + i * PANEL;
        for (int j = q * PANEL; j < end; j++) {
          packed[to + j - q * PANEL] = matrix.at(columns[i], columns[j]);
        }
      }
    }
    return packed;
  }

  /** Back to M as it was given, and no U. */
  void reset() {
    m = shared;
    size = sharedSize;
    rank = 0;
  }

  int size() {
    return size;
  }

  int rank() {
    return rank;
  }

  boolean isFull(int more) {
    return rank + more > period;
  }

  double[] u() {
    return u;
  }

  /** Distance of the panels of U. */
  int panelStride() {
    return period * PANEL;
  }

  /** One more row of U has been written. */
  void append() {
    rank++;
  }

  /** Element (i, j) of M, i &lt;= j. */
  double at(int i, int j) {
    int q = j / PANEL;
    return m[start(q) + i * PANEL + j - q * PANEL];
  }

  /** Column p of M, [size], and of U, [rank]. */
  void column(int p, double[] ofM, double[] ofU) {
    int q = p / PANEL;
    int at = start(q) + p - q * PANEL;
    for (int i = 0; i < q * PANEL; i++) {
      ofM[i] = m[at + i * PANEL];
    }
    for (int s = q; s < panels(size); s++) {
      System.arraycopy(m, start(s) + p * PANEL, ofM, s * PANEL, PANEL);
    }
    int from = q * panelStride() + p - q * PANEL;
    for (int b = 0; b < rank; b++) {
      ofU[b] = u[from + b * PANEL];
    }
  }

  /** Keeps the given columns, M := (M − UᵀU)[keep, keep], and empties U. */
  void compact(int[] keep, int kept) {
    for (int q = 0; q < panels(kept); q++) {
      int columns = Math.min(PANEL, kept - q * PANEL);
      findSources(keep, q * PANEL, columns, true);
      gatherU(q, columns);
    }
    int rows = (kept + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    for (int q = 0; q < panels(kept); q++) {
      int columns = Math.min(PANEL, kept - q * PANEL);
      findSources(keep, q * PANEL, columns, false);
      int ofRight = q * panelStride();
      for (int i = 0; i < Math.min(rows, (q + 1) * PANEL); i += TILE_ROWS) {
        for (int r = 0; r < TILE_ROWS; r++) {
          rowStart[r] = keep[Math.min(i + r, kept - 1)];
        }
        gather(m, columns);
        int panel = i / PANEL;
        int ofLeft = panel * panelStride() + i - panel * PANEL;
        int to = start(q) + i * PANEL;
        for (int x = 0; x < PANEL; x += TILE_COLS) {
          subtractProduct(u, ofLeft, ofRight + x, rank, gathered, x, own, to + x);
        }
      }
      mirrorDiagonalBlock(q);
    }
    m = own;
    size = kept;
    rank = 0;
  }

  /** From which vectors of M, or of U, the columns of a panel come. */
  private int sourceCount;

  private void findSources(int[] keep, int first, int columns, boolean ofU) {
    sourceCount = 0;
    int last = -1;
    for (int x = 0; x < columns; x++) {
      int j = keep[first + x];
      int panel = j / PANEL;
      int base = ofU ? panel * panelStride() : start(panel);
      // A panel of M ends with its diagonal block; below it nothing is wanted.
      int rows = ofU ? period : (panel + 1) * PANEL;
      columnStart[x] = base + j - panel * PANEL;
      columnRows[x] = rows - 1;
      int vector = j / LANES;
      if (vector != last) {
        lanes[sourceCount] = 0;
        sourceStart[sourceCount] = base + vector * LANES - panel * PANEL;
        sourceRows[sourceCount] = rows - 1;
        target[sourceCount] = x;
        sourceCount++;
        last = vector;
      }
      lanes[sourceCount - 1] |= 1L << (j - vector * LANES);
    }
  }

  /** U := U[:, keep], one panel; in place, as columns only move to the left. */
  private void gatherU(int q, int columns) {
    int to = q * panelStride();
    for (int b = 0; b < rank; b += TILE_ROWS) {
      for (int r = 0; r < TILE_ROWS; r++) {
        rowStart[r] = Math.min(b + r, rank - 1);
      }
      gather(u, columns);
      for (int r = 0; r < TILE_ROWS && b + r < rank; r++) {
        System.arraycopy(gathered, r * GATHERED, u, to + (b + r) * PANEL, PANEL);
      }
    }
  }

  /** Four rows of the panel's columns. */
  private void gather(double[] from, int columns) {
    if (COMPRESS) {
      compressRows(from, sourceCount, lanes, sourceStart, sourceRows, target, rowStart, gathered);
    } else {
      for (int r = 0; r < TILE_ROWS; r++) {
        int row = rowStart[r];
        for (int x = 0; x < columns; x++) {
          gathered[r * GATHERED + x] = from[columnStart[x] + Math.min(row, columnRows[x]) * PANEL];
        }
      }
    }
  }

  private static void compressRows(
      double[] from,
      int sources,
      long[] lanes,
      int[] sourceStart,
      int[] sourceRows,
      int[] target,
      int[] rows,
      double[] gathered) {
    int row0 = rows[0];
    int row1 = rows[1];
    int row2 = rows[2];
    int row3 = rows[3];
    for (int s = 0; s < sources; s++) {
      VectorMask<Double> mask = VectorMask.fromLong(SPECIES, lanes[s]);
      int at = sourceStart[s];
      int last = sourceRows[s];
      int to = target[s];
      DoubleVector.fromArray(SPECIES, from, at + Math.min(row0, last) * PANEL)
          .compress(mask)
          .intoArray(gathered, to);
      DoubleVector.fromArray(SPECIES, from, at + Math.min(row1, last) * PANEL)
          .compress(mask)
          .intoArray(gathered, to + GATHERED);
      DoubleVector.fromArray(SPECIES, from, at + Math.min(row2, last) * PANEL)
          .compress(mask)
          .intoArray(gathered, to + 2 * GATHERED);
      DoubleVector.fromArray(SPECIES, from, at + Math.min(row3, last) * PANEL)
          .compress(mask)
          .intoArray(gathered, to + 3 * GATHERED);
    }
  }

  /** A tile of {@link #TILE_ROWS} rows: to = gathered − leftᵀ right. */
  private static void subtractProduct(
      double[] u,
      int left,
      int right,
      int depth,
      double[] gathered,
      int from,
      double[] to,
      int at) {
    DoubleVector c00 = DoubleVector.zero(SPECIES);
    DoubleVector c01 = c00;
    DoubleVector c02 = c00;
    DoubleVector c10 = c00;
    DoubleVector c11 = c00;
    DoubleVector c12 = c00;
    DoubleVector c20 = c00;
    DoubleVector c21 = c00;
    DoubleVector c22 = c00;
    DoubleVector c30 = c00;
    DoubleVector c31 = c00;
    DoubleVector c32 = c00;
    for (int k = 0; k < depth; k++) {
      int b = right + k * PANEL;
      int a = left + k * PANEL;
      DoubleVector b0 = DoubleVector.fromArray(SPECIES, u, b);
      DoubleVector b1 = DoubleVector.fromArray(SPECIES, u, b + LANES);
      DoubleVector b2 = DoubleVector.fromArray(SPECIES, u, b + 2 * LANES);
      DoubleVector a0 = DoubleVector.broadcast(SPECIES, u[a]);
      c00 = a0.fma(b0, c00);
      c01 = a0.fma(b1, c01);
      c02 = a0.fma(b2, c02);
      DoubleVector a1 = DoubleVector.broadcast(SPECIES, u[a + 1]);
      c10 = a1.fma(b0, c10);
      c11 = a1.fma(b1, c11);
      c12 = a1.fma(b2, c12);
      DoubleVector a2 = DoubleVector.broadcast(SPECIES, u[a + 2]);
      c20 = a2.fma(b0, c20);
      c21 = a2.fma(b1, c21);
      c22 = a2.fma(b2, c22);
      DoubleVector a3 = DoubleVector.broadcast(SPECIES, u[a + 3]);
      c30 = a3.fma(b0, c30);
      c31 = a3.fma(b1, c31);
      c32 = a3.fma(b2, c32);
    }
    subtractRow(gathered, from, c00, c01, c02, to, at);
    subtractRow(gathered, from + GATHERED, c10, c11, c12, to, at + PANEL);
    subtractRow(gathered, from + 2 * GATHERED, c20, c21, c22, to, at + 2 * PANEL);
    subtractRow(gathered, from + 3 * GATHERED, c30, c31, c32, to, at + 3 * PANEL);
  }

  private static void subtractRow(
      double[] from,
      int start,
      DoubleVector c0,
      DoubleVector c1,
      DoubleVector c2,
      double[] to,
      int at) {
    DoubleVector.fromArray(SPECIES, from, start).sub(c0).intoArray(to, at);
    DoubleVector.fromArray(SPECIES, from, start + LANES).sub(c1).intoArray(to, at + LANES);
    DoubleVector.fromArray(SPECIES, from, start + 2 * LANES).sub(c2).intoArray(to, at + 2 * LANES);
  }

  /** Below the diagonal the gathered elements were none of M's. */
  private void mirrorDiagonalBlock(int q) {
    int block = start(q) + q * PANEL * PANEL;
    for (int i = 1; i < PANEL; i++) {
      for (int j = 0; j < i; j++) {
        own[block + i * PANEL + j] = own[block + j * PANEL + i];
      }
    }
  }

  /** A vector as long as all panels are wide: kernels run over its end. */
  static double[] vector(int columns) {
    return new double[panels(columns) * PANEL];
  }
}
