package org.taco4j.compute.simd;

import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/** Loops over one row of a float64 matrix. */
final class DoubleLoops {
  private static final VectorSpecies<Double> SPECIES = DoubleVector.SPECIES_PREFERRED;
  private static final int LANES = SPECIES.length();

  private DoubleLoops() {}

  /** Σ a[from + i] · x[i] over i &lt; count. */
  static double dot(double[] a, int from, double[] x, int count) {
    DoubleVector even = DoubleVector.zero(SPECIES);
    DoubleVector odd = even;
    int i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES) {
      even =
          DoubleVector.fromArray(SPECIES, a, from + i)
              .fma(DoubleVector.fromArray(SPECIES, x, i), even);
      odd =
          DoubleVector.fromArray(SPECIES, a, from + i + LANES)
              .fma(DoubleVector.fromArray(SPECIES, x, i + LANES), odd);
    }
    double sum = even.add(odd).reduceLanes(VectorOperators.ADD);
    for (; i < count; i++) {
      sum += a[from + i] * x[i];
    }
    return sum;
  }

  /** x[i] -= factor · a[from + i] for i &lt; count. */
  static void subtractMultiple(double factor, double[] a, int from, double[] x, int count) {
    for (int i = 0; i < count; i++) {
      x[i] -= factor * a[from + i];
    }
  }
}
