package org.taco4j.solve;

import org.taco4j.compute.Backend;

/**
 * What magnitude and Wanda share: each weight has a score, the smallest go, the others stay as they
 * are.
 */
final class ScoredRemoval {
  /** Among which weights the smallest are sought, where the pattern leaves that open. */
  enum Comparison {
    /** The whole layer loses exactly {@code ceil(rows * cols * sparsity)}. */
    LAYER,
    /** Each row its share; cumulative rounding makes the layer's total exact. */
    ROW
  }

  /** Fixed, and small: rows are short work. */
  private static final int TASK_ROWS = 16;

  private ScoredRemoval() {}

  /**
   * Removes by |w_rc| · scale_c.
   *
   * @param columnScale [cols]
   */
  static LayerSolution solve(
      SolveRequest request,
      Backend backend,
      String solver,
      float[] columnScale,
      Comparison comparison,
      int deadColumns,
      long startNanos) {
    int rows = request.rows();
    int cols = request.cols();
    int[] order = request.order();
    int group = request.pattern().groupSize();
    boolean isNm = request.pattern() instanceof Pattern.NM;
    int unit = isNm ? 1 : group;
    int units = cols / unit;
    int tasks = (rows + TASK_ROWS - 1) / TASK_ROWS;

    // Scores and removals: [rows, units], columns in the request's order.
    float[] scores = new float[rows * units];
    backend
        .workers()
        .forEach(
            tasks,
            task -> {
              int end = Math.min(rows, (task + 1) * TASK_ROWS);
              for (int row = task * TASK_ROWS; row < end; row++) {
                for (int u = 0; u < units; u++) {
                  scores[row * units + u] = score(request, columnScale, row, u * unit, unit);
                }
              }
            });
    boolean[] removed = new boolean[rows * units];
    double sparsity = request.pattern().sparsity();
    if (!isNm && comparison == Comparison.LAYER) {
      int k = Math.toIntExact(Pattern.portion(scores.length, sparsity));
      SmallestScores.Bound bound = SmallestScores.find(scores, scores.length, k, backend.workers());
      bound.mark(scores, 0, scores.length, removed, bound.ties());
    } else {
      int range = isNm ? group : units;
      backend
          .workers()
          .forEach(
              tasks,
              task -> {
                int end = Math.min(rows, (task + 1) * TASK_ROWS);
                for (int row = task * TASK_ROWS; row < end; row++) {
                  int k =
                      request.pattern() instanceof Pattern.NM nm
                          ? nm.groupSize() - nm.kept()
                          : (int)
                              (Pattern.portion((row + 1L) * units, sparsity)
                                  - Pattern.portion((long) row * units, sparsity));
                  for (int from = row * units; from < (row + 1) * units; from += range) {
                    SmallestScores.markRange(scores, from, from + range, k, removed);
                  }
                }
              });
    }

    float[] weights = request.weights().clone();
    boolean[] kept = new boolean[weights.length];
    for (int row = 0; row < rows; row++) {
      for (int i = 0; i < cols; i++) {
        int at = row * cols + order[i];
        kept[at] = !removed[row * units + i / unit];
        weights[at] = kept[at] ? weights[at] : 0;
      }
    }
    double seconds = (System.nanoTime() - startNanos) / 1e9;
    double gflop = 2e-9 * rows * cols;
    return new LayerSolution(
        weights, kept, 0, 0, deadColumns, seconds, gflop, solver, backend.name());
  }

  /** The score of one weight, or the sum of the squared scores of a block of them. */
  private static float score(
      SolveRequest request, float[] columnScale, int row, int first, int size) {
    float score = 0;
    for (int i = first; i < first + size; i++) {
      int col = request.order()[i];
      float one = Math.abs(request.weights()[row * request.cols() + col]) * columnScale[col];
      score += size == 1 ? one : one * one;
    }
    return score;
  }
}
