package org.taco4j.compute.simd;

import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;
import org.taco4j.compute.DoubleMatrix;

/** The inner loops of the search over masks: adding columns to a support and removing them. */
final class SupportLoops {
  private static final VectorSpecies<Double> SPECIES = DoubleVector.SPECIES_PREFERRED;
  private static final int LANES = SPECIES.length();

  /** 0, 1, 2, … */
  private static final DoubleVector LANE_NUMBERS = DoubleVector.zero(SPECIES).addIndex(1);

  private SupportLoops() {}

  /** y[yFrom + i] += factor · x[i] for i &lt; count. */
  static void addMultiple(double factor, double[] x, double[] y, int yFrom, int count) {
    int i = 0;
    DoubleVector wide = DoubleVector.broadcast(SPECIES, factor);
    for (; i + LANES <= count; i += LANES) {
      DoubleVector sum = DoubleVector.fromArray(SPECIES, y, yFrom + i);
      wide.fma(DoubleVector.fromArray(SPECIES, x, i), sum).intoArray(y, yFrom + i);
    }
    for (; i < count; i++) {
      y[yFrom + i] += factor * x[i];
    }
  }

  /** y[i] -= x[from + i]² for i &lt; count. */
  static void subtractSquares(double[] x, int from, double[] y, int count) {
    for (int i = 0; i < count; i++) {
      y[i] -= x[from + i] * x[from + i];
    }
  }

  /** {@link org.taco4j.compute.Backend#cheapestRemoval}: a lane is a column. */
  static int cheapestRemoval(
      DoubleMatrix w, double[] g, DoubleMatrix c, double[] s, double inverseSchur) {
    int n = w.cols();
    double least = Double.POSITIVE_INFINITY;
    int cheapest = -1;
    int i = 0;
    if (n >= LANES) {
      DoubleVector leasts = DoubleVector.broadcast(SPECIES, least);
      DoubleVector firsts = DoubleVector.zero(SPECIES); // where each lane's least begins
      DoubleVector scale = DoubleVector.broadcast(SPECIES, inverseSchur);
      for (; i + LANES <= n; i += LANES) {
        DoubleVector ci = DoubleVector.fromArray(SPECIES, c.data(), c.offset() + i);
        DoubleVector squares = DoubleVector.zero(SPECIES);
        for (int row = 0; row < w.rows(); row++) {
          DoubleVector weight =
              ci.fma(
                  DoubleVector.broadcast(SPECIES, -s[row]),
                  DoubleVector.fromArray(SPECIES, w.data(), w.index(row, i)));
          squares = weight.fma(weight, squares);
        }
        DoubleVector cost =
            squares.div(ci.mul(ci).fma(scale, DoubleVector.fromArray(SPECIES, g, i)));
        VectorMask<Double> less = cost.lt(leasts);
        leasts = leasts.blend(cost, less);
        firsts = firsts.blend(i, less);
      }
      least = leasts.reduceLanes(VectorOperators.MIN);
      // Of equals the first; an infinite least is none.
      DoubleVector at = firsts.add(LANE_NUMBERS);
      VectorMask<Double> others = leasts.eq(least).not();
      double first = at.blend(Double.POSITIVE_INFINITY, others).reduceLanes(VectorOperators.MIN);
      cheapest = least < Double.POSITIVE_INFINITY ? (int) first : -1;
    }
    for (; i < n; i++) {
      double ci = c.at(0, i);
      double squares = 0;
      for (int row = 0; row < w.rows(); row++) {
        double weight = w.at(row, i) - ci * s[row];
        squares += weight * weight;
      }
      double cost = squares / (g[i] + inverseSchur * ci * ci);
      if (cost < least) {
        least = cost;
        cheapest = i;
      }
    }
    return cheapest;
  }
}
