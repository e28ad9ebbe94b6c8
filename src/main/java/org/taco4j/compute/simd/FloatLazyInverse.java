package org.taco4j.compute.simd;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorSpecies;
import org.taco4j.compute.FloatMatrix;

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
final class FloatLazyInverse {
  static final VectorSpecies<Float> SPECIES = FloatVector.SPECIES_PREFERRED;
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

  private final float[] shared;
  private final int sharedSize;
  private final float[] own;

  /** M, one of the two above. */
  private float[] m;

  private int size;

  /** Rows of U that there is room for. */
  private final int period;

  /** U, [panels, period, PANEL]. */
  private final float[] u;

  private int rank;

  private final float[] gathered = new float[TILE_ROWS * GATHERED];

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
  FloatLazyInverse(float[] packed, int size, int period) {
    this.shared = packed;
    this.sharedSize = size;
    this.own = new float[packed.length];
    this.m = packed;
    this.period = period;
    this.u = new float[panels(size) * period * PANEL];
  }

  static int panels(int columns) {
    return (columns + PANEL - 1) / PANEL;
  }

  /** Where panel q begins. */
  private static int start(int q) {
    return PANEL * PANEL * (q * (q + 1) / 2);
  }

  /** The panels of a symmetric matrix; its elements are taken in the order of {@code columns}. */
  static float[] pack(FloatMatrix matrix, int[] columns) {
    int n = matrix.rows();
    float[] packed = new float[start(panels(n))];
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

  float[] u() {
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
  float at(int i, int j) {
    int q = j / PANEL;
    return m[start(q) + i * PANEL + j - q * PANEL];
  }

  /** Column p of M, [size], and of U, [rank]. */
  void column(int p, float[] ofM, float[] ofU) {
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
  private void gather(float[] from, int columns) {
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
      float[] from,
      int sources,
      long[] lanes,
      int[] sourceStart,
      int[] sourceRows,
      int[] target,
      int[] rows,
      float[] gathered) {
    int row0 = rows[0];
    int row1 = rows[1];
    int row2 = rows[2];
    int row3 = rows[3];
    for (int s = 0; s < sources; s++) {
      VectorMask<Float> mask = VectorMask.fromLong(SPECIES, lanes[s]);
      int at = sourceStart[s];
      int last = sourceRows[s];
      int to = target[s];
      FloatVector.fromArray(SPECIES, from, at + Math.min(row0, last) * PANEL)
          .compress(mask)
          .intoArray(gathered, to);
      FloatVector.fromArray(SPECIES, from, at + Math.min(row1, last) * PANEL)
          .compress(mask)
          .intoArray(gathered, to + GATHERED);
      FloatVector.fromArray(SPECIES, from, at + Math.min(row2, last) * PANEL)
          .compress(mask)
          .intoArray(gathered, to + 2 * GATHERED);
      FloatVector.fromArray(SPECIES, from, at + Math.min(row3, last) * PANEL)
          .compress(mask)
          .intoArray(gathered, to + 3 * GATHERED);
    }
  }

  /** A tile of {@link #TILE_ROWS} rows: to = gathered − leftᵀ right. */
  private static void subtractProduct(
      float[] u, int left, int right, int depth, float[] gathered, int from, float[] to, int at) {
    FloatVector c00 = FloatVector.zero(SPECIES);
    FloatVector c01 = c00;
    FloatVector c02 = c00;
    FloatVector c10 = c00;
    FloatVector c11 = c00;
    FloatVector c12 = c00;
    FloatVector c20 = c00;
    FloatVector c21 = c00;
    FloatVector c22 = c00;
    FloatVector c30 = c00;
    FloatVector c31 = c00;
    FloatVector c32 = c00;
    for (int k = 0; k < depth; k++) {
      int b = right + k * PANEL;
      int a = left + k * PANEL;
      FloatVector b0 = FloatVector.fromArray(SPECIES, u, b);
      FloatVector b1 = FloatVector.fromArray(SPECIES, u, b + LANES);
      FloatVector b2 = FloatVector.fromArray(SPECIES, u, b + 2 * LANES);
      FloatVector a0 = FloatVector.broadcast(SPECIES, u[a]);
      c00 = a0.fma(b0, c00);
      c01 = a0.fma(b1, c01);
      c02 = a0.fma(b2, c02);
      FloatVector a1 = FloatVector.broadcast(SPECIES, u[a + 1]);
      c10 = a1.fma(b0, c10);
      c11 = a1.fma(b1, c11);
      c12 = a1.fma(b2, c12);
      FloatVector a2 = FloatVector.broadcast(SPECIES, u[a + 2]);
      c20 = a2.fma(b0, c20);
      c21 = a2.fma(b1, c21);
      c22 = a2.fma(b2, c22);
      FloatVector a3 = FloatVector.broadcast(SPECIES, u[a + 3]);
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
      float[] from, int start, FloatVector c0, FloatVector c1, FloatVector c2, float[] to, int at) {
    FloatVector.fromArray(SPECIES, from, start).sub(c0).intoArray(to, at);
    FloatVector.fromArray(SPECIES, from, start + LANES).sub(c1).intoArray(to, at + LANES);
    FloatVector.fromArray(SPECIES, from, start + 2 * LANES).sub(c2).intoArray(to, at + 2 * LANES);
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
  static float[] vector(int columns) {
    return new float[panels(columns) * PANEL];
  }
}
