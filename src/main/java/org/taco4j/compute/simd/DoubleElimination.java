package org.taco4j.compute.simd;

import java.util.Arrays;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.stream.IntStream;
import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorSpecies;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.ObsElimination;

/**
 * Exact OBS of single columns over a {@link DoubleLazyInverse}. With d the diagonal of the current
 * inverse A, v = A_:p / √d_p is the next row of U, and one pass over all columns forms it, moves
 * weights and diagonal, w -= w_p / √d_p · v and d -= v², and finds the next column to go.
 */
final class DoubleElimination implements ObsElimination {
  private static final VectorSpecies<Double> SPECIES = DoubleLazyInverse.SPECIES;
  private static final int LANES = DoubleLazyInverse.LANES;
  private static final int PANEL = DoubleLazyInverse.PANEL;

  /**
   * Steps between compactions, rows of U: more make the products deeper, but a column dearer to
   * form.
   */
  private static final int PERIOD = 64;

  private final int columns;
  private final Units units;
  private final double[] packed;

  /** What each pivot must at least be: 1 / H_pp, as no column explains more of p than all of it. */
  private final double[] leastPivots;

  private final ConcurrentLinkedDeque<Run> idle = new ConcurrentLinkedDeque<>();

  /**
   * An elimination over the given inverse.
   *
   * @param inverse H⁻¹, [n, n], symmetric; copied
   * @param leastPivots [n]
   */
  DoubleElimination(DoubleMatrix inverse, double[] leastPivots, Units units) {
    units.check(inverse.rows());
    this.columns = inverse.rows();
    this.units = units;
    this.packed = DoubleLazyInverse.pack(inverse, IntStream.range(0, columns).toArray());
    this.leastPivots = leastPivots;
  }

  @Override
  public int run(FloatMatrix weights, int steps, double stopLoss, int[] order, double[] losses) {
    Run run = idle.poll();
    if (run == null) {
      run = new Run();
    }
    int taken = run.eliminate(weights, steps, stopLoss, order, losses);
    idle.push(run);
    return taken;
  }

  /** The state of one elimination, used again for the next. Active columns are renumbered. */
  private final class Run {
    private final DoubleLazyInverse inverse = new DoubleLazyInverse(packed, columns, PERIOD);
    private final double[] diagonal = DoubleLazyInverse.vector(columns);
    private final double[] v = DoubleLazyInverse.vector(columns);
    private final double[] squares = DoubleLazyInverse.vector(columns);

    /** [rows, stride]. */
    private double[] w = new double[0];

    private double[] factors = new double[0];
    private final int stride = diagonal.length;

    /** The column that each active one was to begin with, and the other way round. */
    private final int[] ids = new int[columns];

    private final int[] places = new int[columns];
    private final int[] keep = new int[columns];
    private final int[] lost = new int[units.groupSize() == 1 ? 0 : columns / units.groupSize()];

    private final double[] least = new double[LANES];
    private final double[] leastVector = new double[LANES];

    int eliminate(FloatMatrix weights, int steps, double stopLoss, int[] order, double[] losses) {
      begin(weights);
      int rows = weights.rows();
      Arrays.fill(v, 0);
      int p = update(rows);
      for (int step = 0; step < steps; step++) {
        if (p < 0) {
          return -1 - step;
        }
        double pivot = diagonal[p];
        // Half, as rounding may take a little. Written so that NaN fails too.
        if (!(pivot >= 0.5 * leastPivots[ids[p]] && pivot <= Double.MAX_VALUE)) {
          return -1 - step;
        }
        double squares = 0;
        double scale = 1 / Math.sqrt(pivot);
        for (int r = 0; r < rows; r++) {
          double weight = w[r * stride + p];
          squares += weight * weight;
          factors[r] = weight * scale;
        }
        double loss = 0.5 * squares / pivot;
        if (loss > stopLoss) {
          return step;
        }
        order[step] = ids[p];
        losses[step] = loss;
        retire(p);
        if (step + 1 == steps) {
          return steps;
        }
        inverse.column(p, scale, v);
        inverse.append(v);
        p = update(rows);
        if (inverse.isFull(1) && p >= 0) {
          p = compact(rows, p);
        }
      }
      return steps;
    }

    private void begin(FloatMatrix weights) {
      int rows = weights.rows();
      if (w.length < rows * stride) {
        w = new double[rows * stride];
        factors = new double[rows];
      }
      inverse.reset();
      for (int i = 0; i < columns; i++) {
        ids[i] = i;
        places[i] = i;
        diagonal[i] = inverse.at(i, i);
      }
      Arrays.fill(diagonal, columns, stride, Double.NaN);
      for (int r = 0; r < rows; r++) {
        for (int i = 0; i < columns; i++) {
          w[r * stride + i] = weights.at(r, i);
        }
        Arrays.fill(w, r * stride + columns, (r + 1) * stride, 0);
      }
      Arrays.fill(lost, 0);
      if (units.groupBudget() == 0) {
        Arrays.fill(diagonal, Double.NaN);
      }
    }

    /** A diagonal of NaN says that a column is none to choose: its score is less than no other. */
    private void retire(int p) {
      diagonal[p] = Double.NaN;
      int size = units.groupSize();
      if (size > 1) {
        int group = ids[p] / size;
        lost[group]++;
        // What cannot go any more needs no attention either.
        for (int i = group * size;
            i < (group + 1) * size && lost[group] == units.groupBudget();
            i++) {
          if (places[i] >= 0) {
            diagonal[places[i]] = Double.NaN;
          }
        }
      }
    }

    /** Drops the columns that are no choice; returns the new place of column p. */
    private int compact(int rows, int p) {
      int kept = 0;
      int place = -1;
      for (int i = 0; i < inverse.size(); i++) {
        if (Double.isNaN(diagonal[i])) {
          places[ids[i]] = -1;
        } else {
          place = i == p ? kept : place;
          places[ids[i]] = kept;
          ids[kept] = ids[i];
          keep[kept++] = i;
        }
      }
      inverse.compact(keep, kept);
      for (int r = 0; r < rows; r++) {
        for (int i = 0; i < kept; i++) {
          w[r * stride + i] = w[r * stride + keep[i]];
        }
      }
      for (int i = 0; i < kept; i++) {
        diagonal[i] = inverse.at(i, i);
      }
      Arrays.fill(diagonal, kept, stride, Double.NaN);
      return place;
    }

    /** Moves weights and diagonal by v, and finds the next column to go; -1 where there is none. */
    private int update(int rows) {
      int end = DoubleLazyInverse.panels(inverse.size()) * PANEL;
      for (int r = 0; r < rows; r++) {
        moveWeights(v, factors[r], w, r * stride, squares, r > 0, end);
      }
      moveDiagonal(v, diagonal, squares, end, least, leastVector);
      int best = -1;
      double score = Double.POSITIVE_INFINITY;
      for (int lane = 0; lane < LANES; lane++) {
        int at = LANES * (int) leastVector[lane] + lane;
        if (least[lane] < score || (least[lane] == score && best >= 0 && at < best)) {
          score = least[lane];
          best = at;
        }
      }
      return best;
    }
  }

  /** One row: w -= factor · v, and its squares, added to those of the rows before it. */
  private static void moveWeights(
      double[] v, double factor, double[] w, int row, double[] squares, boolean add, int end) {
    for (int j = 0; j < end; j += LANES) {
      DoubleVector weight =
          DoubleVector.fromArray(SPECIES, w, row + j)
              .sub(DoubleVector.fromArray(SPECIES, v, j).mul(factor));
      weight.intoArray(w, row + j);
      DoubleVector square = weight.mul(weight);
      if (add) {
        square = square.add(DoubleVector.fromArray(SPECIES, squares, j));
      }
      square.intoArray(squares, j);
    }
  }

  /** d -= v²; in each lane the least of squares / d, and which vector of columns it stands in. */
  private static void moveDiagonal(
      double[] v, double[] d, double[] squares, int end, double[] least, double[] leastVector) {
    DoubleVector best = DoubleVector.broadcast(SPECIES, Double.POSITIVE_INFINITY);
    DoubleVector bestVector = DoubleVector.zero(SPECIES);
    for (int j = 0; j < end; j += LANES) {
      DoubleVector change = DoubleVector.fromArray(SPECIES, v, j);
      DoubleVector pivot = DoubleVector.fromArray(SPECIES, d, j).sub(change.mul(change));
      pivot.intoArray(d, j);
      DoubleVector score = DoubleVector.fromArray(SPECIES, squares, j).div(pivot);
      VectorMask<Double> less = score.lt(best);
      best = best.blend(score, less);
      bestVector = bestVector.blend((double) (j / LANES), less);
    }
    best.intoArray(least, 0);
    bestVector.intoArray(leastVector, 0);
  }
}
