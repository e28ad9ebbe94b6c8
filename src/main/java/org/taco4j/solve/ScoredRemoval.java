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
    /** Each row (or set of rows) its share; cumulative rounding makes the layer's total exact. */
    ROW
  }

  /** Fixed, and small: a set of rows is short work. */
  private static final int TASK_SETS = 16;

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
    int setRows = request.pattern().maskRows();
    int sets = (rows + setRows - 1) / setRows;
    int tasks = (sets + TASK_SETS - 1) / TASK_SETS;

    // Scores and removals: [sets of rows, units], columns in the request's order.
    float[] scores = new float[sets * units];
    backend
        .workers()
        .forEach(
            tasks,
            task -> {
              int end = Math.min(sets, (task + 1) * TASK_SETS);
              for (int set = task * TASK_SETS; set < end; set++) {
                for (int u = 0; u < units; u++) {
                  scores[set * units + u] = score(request, columnScale, set, u * unit, unit);
                }
              }
            });
    boolean[] removed = new boolean[sets * units];
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
                int end = Math.min(sets, (task + 1) * TASK_SETS);
                for (int set = task * TASK_SETS; set < end; set++) {
                  int k =
                      request.pattern() instanceof Pattern.NM nm
                          ? nm.groupSize() - nm.kept()
                          : (int)
                              (Pattern.portion((set + 1L) * units, sparsity)
                                  - Pattern.portion((long) set * units, sparsity));
                  for (int from = set * units; from < (set + 1) * units; from += range) {
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
        kept[at] = !removed[row / setRows * units + i / unit];
        weights[at] = kept[at] ? weights[at] : 0;
      }
    }
    double seconds = (System.nanoTime() - startNanos) / 1e9;
    double gflop = 2e-9 * rows * cols;
    return new LayerSolution(
        weights, kept, 0, 0, deadColumns, seconds, gflop, solver, backend.name());
  }

  /** The score of one weight, or the sum of the squared scores of a block of them, or of rows. */
  private static float score(
      SolveRequest request, float[] columnScale, int set, int first, int size) {
    int setRows = request.pattern().maskRows();
    int end = Math.min(request.rows(), (set + 1) * setRows);
    boolean isSingle = size == 1 && setRows == 1;
    float score = 0;
    for (int row = set * setRows; row < end; row++) {
      for (int i = first; i < first + size; i++) {
        int col = request.order()[i];
        float one = Math.abs(request.weights()[row * request.cols() + col]) * columnScale[col];
        score += isSingle ? one : one * one;
      }
    }
    return score;
  }
}
