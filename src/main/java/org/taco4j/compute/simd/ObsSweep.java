package org.taco4j.compute.simd;

import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorSpecies;
import org.taco4j.compute.FloatMatrix;

/**
 * The OBS sweep of one block for a few rows: a lane is a row, so that all lanes do the same.
 *
 * <p>Columns are taken in steps of four (or of a group): what the errors of all columns swept so
 * far do to the columns of the step is added up in registers first, a small matrix product; only
 * inside the step one column waits for the other.
 */
final class ObsSweep {
  private static final VectorSpecies<Float> SPECIES = FloatVector.SPECIES_PREFERRED;
  private static final int LANES = SPECIES.length();

  /** Rows that one call sweeps: two vectors, which share the broadcasts of M. */
  static final int TILE_ROWS = 2 * LANES;

  /** Columns that the matrix product updates at once: with two vectors each, 8 accumulators. */
  private static final int STEP = 4;

  /**
   * Added and taken away again, it rounds small numbers to whole ones, half to even: floats of this
   * size are 1 apart.
   */
  private static final float TO_WHOLE = 0x1.8p23f;

  private final int columns;

  /** M, [columns, columns] row-major. */
  private final float[] m;

  /** 1 / M_jj. */
  private final float[] pivots;

  // The tile: [columns, TILE_ROWS]. Lanes beyond the last row hold zeros.
  private final float[] w;
  private final float[] errors;
  private final boolean[] removed;

  /** A sweep with the given M, [b, b] lower triangular; it owns its scratch memory. */
  ObsSweep(FloatMatrix inverse) {
    columns = inverse.rows();
    m = new float[columns * columns];
    pivots = new float[columns];
    for (int j = 0; j < columns; j++) {
      System.arraycopy(inverse.data(), inverse.index(j, 0), m, j * columns, columns);
      pivots[j] = 1 / inverse.at(j, j);
    }
    w = new float[columns * TILE_ROWS];
    errors = new float[columns * TILE_ROWS];
    removed = new boolean[columns * TILE_ROWS];
  }

  /**
   * Sweeps rows {@code row, row + 1, …}, as many as there are up to {@link #TILE_ROWS}.
   *
   * @param weights [b, rows] row-major
   * @param marks [b, rows]: what goes; overwritten where {@code groupSize} &gt; 0
   * @param kept of each group, where {@code groupSize} &gt; 0
   * @param groupSize the M of N:M, or 0 where the marks are given
   */
  void run(FloatMatrix weights, boolean[] marks, int row, int kept, int groupSize) {
    load(weights, marks, row);
    int step = groupSize > 0 ? groupSize : STEP;
    for (int end = columns; end > 0; end -= step) {
      int first = Math.max(0, end - step);
      applyErrors(first, end);
      if (groupSize > 0) {
        chooseRemoved(first, end, groupSize - kept);
      }
      for (int j = end - 1; j >= first; j--) {
        sweepColumn(j, first);
      }
    }
    store(weights, row);
    for (int j = 0; groupSize > 0 && j < columns; j++) {
      int rows = Math.min(TILE_ROWS, weights.cols() - row);
      System.arraycopy(removed, j * TILE_ROWS, marks, j * weights.cols() + row, rows);
    }
  }

  /**
   * Sweeps the same rows onto their grids: weights become scale · round(w / scale), between lowest
   * and highest, or 0 where marked.
   *
   * @param weights [b, rows] row-major
   * @param marks [b, rows]: what becomes 0
   * @param scale [rows]; so are lowest and highest
   */
  void runToGrid(
      FloatMatrix weights,
      boolean[] marks,
      int row,
      float[] scale,
      float[] lowest,
      float[] highest) {
    load(weights, marks, row);
    float[] scales = tile(scale, row);
    float[] lows = tile(lowest, row);
    float[] highs = tile(highest, row);
    for (int end = columns; end > 0; end -= STEP) {
      int first = Math.max(0, end - STEP);
      applyErrors(first, end);
      for (int j = end - 1; j >= first; j--) {
        roundColumn(j, first, scales, lows, highs);
      }
    }
    store(weights, row);
  }

  /** The values of the rows of a tile, 1 beyond the last row. */
  private static float[] tile(float[] values, int row) {
    float[] tile = new float[TILE_ROWS];
    Arrays.fill(tile, 1);
    System.arraycopy(values, row, tile, 0, Math.min(TILE_ROWS, values.length - row));
    return tile;
  }

  private void load(FloatMatrix weights, boolean[] marks, int row) {
    int allRows = weights.cols();
    int rows = Math.min(TILE_ROWS, allRows - row);
    if (rows < TILE_ROWS) {
      Arrays.fill(w, 0);
      Arrays.fill(removed, false);
    }
    for (int j = 0; j < columns; j++) {
      System.arraycopy(weights.data(), weights.index(j, row), w, j * TILE_ROWS, rows);
      System.arraycopy(marks, j * allRows + row, removed, j * TILE_ROWS, rows);
    }
  }

  private void store(FloatMatrix weights, int row) {
    int rows = Math.min(TILE_ROWS, weights.cols() - row);
    for (int j = 0; j < columns; j++) {
      System.arraycopy(w, j * TILE_ROWS, weights.data(), weights.index(j, row), rows);
    }
  }

  /** w_c -= Σ e_j M_jc over all columns j &gt;= end, for c in [first, end). */
  private void applyErrors(int first, int end) {
    int c = first;
    for (; c + STEP <= end; c += STEP) {
      applyErrorsToFour(m, errors, w, columns, c, end);
    }
    for (; c < end; c++) {
      applyErrorsToOne(m, errors, w, columns, c, end);
    }
  }

  private static void applyErrorsToFour(
      float[] m, float[] errors, float[] w, int columns, int c, int end) {
    int at = c * TILE_ROWS;
    FloatVector w00 = FloatVector.fromArray(SPECIES, w, at);
    FloatVector w01 = FloatVector.fromArray(SPECIES, w, at + LANES);
    FloatVector w10 = FloatVector.fromArray(SPECIES, w, at + 2 * LANES);
    FloatVector w11 = FloatVector.fromArray(SPECIES, w, at + 3 * LANES);
    FloatVector w20 = FloatVector.fromArray(SPECIES, w, at + 4 * LANES);
    FloatVector w21 = FloatVector.fromArray(SPECIES, w, at + 5 * LANES);
    FloatVector w30 = FloatVector.fromArray(SPECIES, w, at + 6 * LANES);
    FloatVector w31 = FloatVector.fromArray(SPECIES, w, at + 7 * LANES);
    for (int j = end; j < columns; j++) {
      // The errors are kept negated.
      FloatVector e0 = FloatVector.fromArray(SPECIES, errors, j * TILE_ROWS);
      FloatVector e1 = FloatVector.fromArray(SPECIES, errors, j * TILE_ROWS + LANES);
      FloatVector m0 = FloatVector.broadcast(SPECIES, m[j * columns + c]);
      w00 = m0.fma(e0, w00);
      w01 = m0.fma(e1, w01);
      FloatVector m1 = FloatVector.broadcast(SPECIES, m[j * columns + c + 1]);
      w10 = m1.fma(e0, w10);
      w11 = m1.fma(e1, w11);
      FloatVector m2 = FloatVector.broadcast(SPECIES, m[j * columns + c + 2]);
      w20 = m2.fma(e0, w20);
      w21 = m2.fma(e1, w21);
      FloatVector m3 = FloatVector.broadcast(SPECIES, m[j * columns + c + 3]);
      w30 = m3.fma(e0, w30);
      w31 = m3.fma(e1, w31);
    }
    w00.intoArray(w, at);
    w01.intoArray(w, at + LANES);
    w10.intoArray(w, at + 2 * LANES);
    w11.intoArray(w, at + 3 * LANES);
    w20.intoArray(w, at + 4 * LANES);
    w21.intoArray(w, at + 5 * LANES);
    w30.intoArray(w, at + 6 * LANES);
    w31.intoArray(w, at + 7 * LANES);
  }

  private static void applyErrorsToOne(
      float[] m, float[] errors, float[] w, int columns, int c, int end) {
    int at = c * TILE_ROWS;
    FloatVector w0 = FloatVector.fromArray(SPECIES, w, at);
    FloatVector w1 = FloatVector.fromArray(SPECIES, w, at + LANES);
    for (int j = end; j < columns; j++) {
      FloatVector factor = FloatVector.broadcast(SPECIES, m[j * columns + c]);
      w0 = factor.fma(FloatVector.fromArray(SPECIES, errors, j * TILE_ROWS), w0);
      w1 = factor.fma(FloatVector.fromArray(SPECIES, errors, j * TILE_ROWS + LANES), w1);
    }
    w0.intoArray(w, at);
    w1.intoArray(w, at + LANES);
  }

  /** Removes column j where it is marked, and moves the columns of its own step: [first, j). */
  private void sweepColumn(int j, int first) {
    for (int lane = 0; lane < TILE_ROWS; lane += LANES) {
      int at = j * TILE_ROWS + lane;
      VectorMask<Float> gone = VectorMask.fromArray(SPECIES, removed, at);
      FloatVector weight = FloatVector.fromArray(SPECIES, w, at);
      FloatVector zero = FloatVector.zero(SPECIES);
      FloatVector error = zero.blend(weight.mul(-pivots[j]), gone);
      error.intoArray(errors, at);
      weight.blend(zero, gone).intoArray(w, at);
      moveStep(j, first, lane, error);
    }
  }

  /** Moves column j to its grid, or to 0 where it is marked, and the columns of its own step. */
  private void roundColumn(int j, int first, float[] scale, float[] lowest, float[] highest) {
    for (int lane = 0; lane < TILE_ROWS; lane += LANES) {
      int at = j * TILE_ROWS + lane;
      FloatVector weight = FloatVector.fromArray(SPECIES, w, at);
      FloatVector step = FloatVector.fromArray(SPECIES, scale, lane);
      FloatVector point =
          weight
              .div(step)
              .max(FloatVector.fromArray(SPECIES, lowest, lane))
              .min(FloatVector.fromArray(SPECIES, highest, lane))
              .add(TO_WHOLE)
              .sub(TO_WHOLE)
              .mul(step)
              .add(0);
      FloatVector rounded =
          point.blend(FloatVector.zero(SPECIES), VectorMask.fromArray(SPECIES, removed, at));
      FloatVector error = weight.sub(rounded).mul(-pivots[j]);
      error.intoArray(errors, at);
      rounded.intoArray(w, at);
      moveStep(j, first, lane, error);
    }
  }

  /** w_c -= e_j M_jc for c in [first, j). */
  private void moveStep(int j, int first, int lane, FloatVector error) {
    for (int c = first; c < j; c++) {
      int to = c * TILE_ROWS + lane;
      FloatVector factor = FloatVector.broadcast(SPECIES, m[j * columns + c]);
      factor.fma(error, FloatVector.fromArray(SPECIES, w, to)).intoArray(w, to);
    }
  }

  /**
   * Marks the {@code count} smallest of (w_j / M_jj)² in a group, the column swept first among
   * equals.
   */
  private void chooseRemoved(int first, int end, int count) {
    for (int lane = 0; lane < TILE_ROWS; lane += LANES) {
      // The scores go where the errors of these columns will be.
      for (int j = first; j < end; j++) {
        FloatVector error = FloatVector.fromArray(SPECIES, w, j * TILE_ROWS + lane).mul(pivots[j]);
        error.mul(error).intoArray(errors, j * TILE_ROWS + lane);
      }
      for (int j = first; j < end; j++) {
        FloatVector score = FloatVector.fromArray(SPECIES, errors, j * TILE_ROWS + lane);
        FloatVector before = FloatVector.zero(SPECIES);
        for (int other = first; other < end; other++) {
          FloatVector otherScore = FloatVector.fromArray(SPECIES, errors, other * TILE_ROWS + lane);
          VectorMask<Float> smaller = otherScore.lt(score);
          VectorMask<Float> isBefore = other > j ? smaller.or(otherScore.eq(score)) : smaller;
          before = before.add(1, isBefore);
        }
        before.lt(count).intoArray(removed, j * TILE_ROWS + lane);
      }
    }
  }
}
