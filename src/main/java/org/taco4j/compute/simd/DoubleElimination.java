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

  /**
   * Steps between compactions: rows of U. More of them make the products deeper but forming a
   * column dearer.
   */
  private static int period(int columns) {
    return columns > 0 ? Integer.getInteger("obc.period", 64) : 1;
  }

  /** The state of one elimination, used again for the next. Active columns are renumbered. */
  private final class Run {
    private final DoubleLazyInverse inverse =
        new DoubleLazyInverse(packed, columns, period(columns));
    private final double[] diagonal = DoubleLazyInverse.vector(columns);
    private final double[] ofM = DoubleLazyInverse.vector(columns);
    private final double[] ofU = new double[period(columns)];

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
      Arrays.fill(ofM, 0);
      Arrays.fill(factors, 0);
      int p = pass(rows, 0);
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
        inverse.column(p, ofM, ofU);
        p = pass(rows, scale);
        inverse.append();
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

    /** The next row of U, weights, diagonal, and the next choice; -1 where there is none. */
    private int pass(int rows, double scale) {
      update(
          DoubleLazyInverse.panels(inverse.size()),
          inverse.u(),
          inverse.panelStride(),
          inverse.rank(),
          ofM,
          ofU,
          scale,
          diagonal,
          w,
          stride,
          rows,
          factors,
          least,
          leastVector);
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

  private static void update(
      int panels,
      double[] u,
      int panelStride,
      int rank,
      double[] ofM,
      double[] ofU,
      double scale,
      double[] diagonal,
      double[] w,
      int stride,
      int rows,
      double[] factors,
      double[] least,
      double[] leastVector) {
    DoubleVector best = DoubleVector.broadcast(SPECIES, Double.POSITIVE_INFINITY);
    DoubleVector bestVector = DoubleVector.zero(SPECIES);
    int even = rank & ~1;
    for (int j = 0; j < panels * PANEL; j += DoubleLazyInverse.TILE_COLS) {
      int q = j / PANEL;
      int panel = q * panelStride + j - q * PANEL;
      DoubleVector s0 = DoubleVector.fromArray(SPECIES, ofM, j);
      DoubleVector s1 = DoubleVector.fromArray(SPECIES, ofM, j + LANES);
      DoubleVector s2 = DoubleVector.fromArray(SPECIES, ofM, j + 2 * LANES);
      DoubleVector t0 = DoubleVector.zero(SPECIES);
      DoubleVector t1 = t0;
      DoubleVector t2 = t0;
      DoubleVector t3 = t0;
      DoubleVector t4 = t0;
      DoubleVector t5 = t0;
      for (int b = 0; b < even; b += 2) {
        int at = panel + b * PANEL;
        DoubleVector f0 = DoubleVector.broadcast(SPECIES, ofU[b]);
        t0 = f0.fma(DoubleVector.fromArray(SPECIES, u, at), t0);
        t1 = f0.fma(DoubleVector.fromArray(SPECIES, u, at + LANES), t1);
        t2 = f0.fma(DoubleVector.fromArray(SPECIES, u, at + 2 * LANES), t2);
        DoubleVector f1 = DoubleVector.broadcast(SPECIES, ofU[b + 1]);
        t3 = f1.fma(DoubleVector.fromArray(SPECIES, u, at + PANEL), t3);
        t4 = f1.fma(DoubleVector.fromArray(SPECIES, u, at + PANEL + LANES), t4);
        t5 = f1.fma(DoubleVector.fromArray(SPECIES, u, at + PANEL + 2 * LANES), t5);
      }
      if (even < rank) {
        int at = panel + even * PANEL;
        DoubleVector f0 = DoubleVector.broadcast(SPECIES, ofU[even]);
        t0 = f0.fma(DoubleVector.fromArray(SPECIES, u, at), t0);
        t1 = f0.fma(DoubleVector.fromArray(SPECIES, u, at + LANES), t1);
        t2 = f0.fma(DoubleVector.fromArray(SPECIES, u, at + 2 * LANES), t2);
      }
      s0 = s0.sub(t0.add(t3)).mul(scale);
      s1 = s1.sub(t1.add(t4)).mul(scale);
      s2 = s2.sub(t2.add(t5)).mul(scale);
      int next = panel + rank * PANEL;
      s0.intoArray(u, next);
      s1.intoArray(u, next + LANES);
      s2.intoArray(u, next + 2 * LANES);

      DoubleVector score0 = score(s0, j, diagonal, w, stride, rows, factors);
      VectorMask<Double> less0 = score0.lt(best);
      best = best.blend(score0, less0);
      bestVector = bestVector.blend((double) (j / LANES), less0);
      DoubleVector score1 = score(s1, j + LANES, diagonal, w, stride, rows, factors);
      VectorMask<Double> less1 = score1.lt(best);
      best = best.blend(score1, less1);
      bestVector = bestVector.blend((double) (j / LANES + 1), less1);
      DoubleVector score2 = score(s2, j + 2 * LANES, diagonal, w, stride, rows, factors);
      VectorMask<Double> less2 = score2.lt(best);
      best = best.blend(score2, less2);
      bestVector = bestVector.blend((double) (j / LANES + 2), less2);
    }
    best.intoArray(least, 0);
    bestVector.intoArray(leastVector, 0);
  }

  /** Moves diagonal and weights of one vector of columns; returns Σ_r w² / d. */
  private static DoubleVector score(
      DoubleVector v,
      int j,
      double[] diagonal,
      double[] w,
      int stride,
      int rows,
      double[] factors) {
    DoubleVector d = DoubleVector.fromArray(SPECIES, diagonal, j);
    d = d.sub(v.mul(v));
    d.intoArray(diagonal, j);
    DoubleVector squares = DoubleVector.zero(SPECIES);
    for (int r = 0; r < rows; r++) {
      DoubleVector weight = DoubleVector.fromArray(SPECIES, w, r * stride + j);
      weight = weight.sub(v.mul(factors[r]));
      weight.intoArray(w, r * stride + j);
      squares = weight.fma(weight, squares);
    }
    return squares.div(d);
  }
}
