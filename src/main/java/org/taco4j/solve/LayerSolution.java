package org.taco4j.solve;

import org.jspecify.annotations.Nullable;

/**
 * What a solver made of a layer problem.
 *
 * @param weights Ŵ: [rows, cols] row-major; removed weights are exactly +0
 * @param kept the mask, [rows, cols] row-major: false where the weight was removed. A weight that
 *     was kept may be 0 all the same
 * @param damping the λ with which H could be factored; the one asked for unless it was raised; 0
 *     for solvers that do not use it
 * @param dampingEscalations how many times λ had to be multiplied by ten
 * @param deadColumns how many inputs were never anything but 0
 * @param seconds wall time of the solver
 * @param gflop floating-point operations in 1e9 that the algorithm needs, bookkeeping not counted
 * @param solver the solver's name
 * @param backend the backend's name
 * @param repeatedRows how many rows were solved again in float64, as float32 broke down in them
 * @param search what a search over masks after the solver did; null where there was none
 * @param grid what the weights lie on, exactly: each is a float scale times a whole number; null
 *     where they are not quantised
 */
@SuppressWarnings("ArrayRecordComponent") // large results, owned by whoever asked for them
public record LayerSolution(
    float[] weights,
    boolean[] kept,
    double damping,
    int dampingEscalations,
    int deadColumns,
    double seconds,
    double gflop,
    String solver,
    String backend,
    int repeatedRows,
    @Nullable SearchReport search,
    @Nullable QuantizationGrid grid) {

  /** A solution at the first go, without a search and without quantisation. */
  public LayerSolution(
      float[] weights,
      boolean[] kept,
      double damping,
      int dampingEscalations,
      int deadColumns,
      double seconds,
      double gflop,
      String solver,
      String backend) {
    this(
        weights,
        kept,
        damping,
        dampingEscalations,
        deadColumns,
        seconds,
        gflop,
        solver,
        backend,
        /* repeatedRows= */ 0,
        /* search= */ null,
        /* grid= */ null);
  }

  /** This solution with the report of a search. */
  LayerSolution withSearch(@Nullable SearchReport report) {
    return new LayerSolution(
        weights,
        kept,
        damping,
        dampingEscalations,
        deadColumns,
        seconds,
        gflop,
        solver,
        backend,
        repeatedRows,
        report,
        grid);
  }

  /** How many weights were removed. */
  public long removed() {
    long removed = 0;
    for (boolean keep : kept) {
      removed += keep ? 0 : 1;
    }
    return removed;
  }
}
