package org.taco4j.solve;

import java.util.Arrays;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceColumnSweep;
import org.taco4j.compute.FloatMatrix;

/**
 * FastOBC, which is SparseGPT (Frantar and Alistarh 2023, "SparseGPT: Massive Language Models Can
 * Be Accurately Pruned in One-Shot", algorithm 1): one sweep over the columns, in blocks of 128;
 * each weight that goes is made up for, in its row, by the columns still to come. {@link
 * ColumnSweep} is the sweep; here each block's mask is chosen.
 */
public final class FastObcSolver implements Solver {
  @Override
  public String name() {
    return "fast";
  }

  @Override
  public boolean supports(Pattern pattern) {
    return !(pattern instanceof Pattern.RowBlock || pattern instanceof Pattern.Columns);
  }

  @Override
  public LayerSolution solve(SolveRequest request, Backend backend) {
    long start = System.nanoTime();
    Solvers.requireSupport(this, request);
    if (request.pattern().sparsity() == 0) {
      return Solvers.unchanged(this, request, backend);
    }
    int rows = request.rows();
    Pattern pattern = request.pattern();
    int group = pattern.groupSize();
    if (backend.device() != null && group > DeviceColumnSweep.MAX_BLOCK_COLUMNS) {
      return solve(request, backend.device().host()); // and the solution says so
    }
    DeviceColumnSweep.BlockCount removedUnits =
        (sweptColumns, columns) -> {
          long before = (long) rows * (sweptColumns / group);
          long after = before + (long) rows * (columns / group);
          return (int)
              (Pattern.portion(after, pattern.sparsity())
                  - Pattern.portion(before, pattern.sparsity()));
        };
    DeviceColumnSweep.Rule rule =
        pattern instanceof Pattern.NM nm
            ? new DeviceColumnSweep.Groups(nm.kept(), nm.groupSize())
            : new DeviceColumnSweep.Smallest(group, removedUnits);
    float[][] scores = new float[1][0]; // used again by the next block
    ColumnSweep.Result result =
        ColumnSweep.run(
            request,
            request.order(),
            group,
            backend,
            block -> {
              if (pattern instanceof Pattern.NM nm) {
                backend.obsSweep(
                    block.inverse(), block.weights(), block.removed(), nm.kept(), nm.groupSize());
                return;
              }
              int size = block.weights().rows();
              if (scores[0].length == 0) {
                scores[0] = new float[size / group * rows];
              }
              chooseRemoved(
                  block.weights(),
                  block.factor(),
                  group,
                  removedUnits.of(block.sweptColumns(), size),
                  scores[0],
                  block.removed(),
                  backend.workers());
              backend.obsSweep(block.inverse(), block.weights(), block.removed());
            },
            rule);
    double seconds = (System.nanoTime() - start) / 1e9;
    return new LayerSolution(
        result.weights(),
        result.kept(),
        result.damping(),
        result.escalations(),
        result.deadColumns(),
        seconds,
        result.gflop(),
        name(),
        backend.name());
  }

  /**
   * Marks the k units of the block with the smallest saliency. Removing the columns G of a unit
   * costs w_G ((H⁻¹)_GG)⁻¹ w_Gᵀ once everything before it is swept; as (H⁻¹)_GG = M_GGᵀ M_GG and
   * M_GG = (L_GG)⁻¹, that is ‖w_G L_GG‖².
   *
   * @param w [size, rows]
   * @param l [size, size], the block of the factor
   * @param scores scratch memory of [size, rows]
   * @param removed [size, rows], overwritten
   */
  private static void chooseRemoved(
      FloatMatrix w,
      FloatMatrix l,
      int unit,
      int k,
      float[] scores,
      boolean[] removed,
      Workers workers) {
    int rows = w.cols();
    int units = w.rows() / unit;
    workers.forEach(
        units,
        u -> {
          float[] rotated = new float[rows];
          int score = u * rows;
          Arrays.fill(scores, score, score + rows, 0);
          for (int c = u * unit; c < (u + 1) * unit; c++) {
            Arrays.fill(rotated, 0);
            for (int j = c; j < (u + 1) * unit; j++) {
              float factor = l.at(j, c);
              int from = w.index(j, 0);
              for (int row = 0; row < rows; row++) {
                rotated[row] += w.data()[from + row] * factor;
              }
            }
            for (int row = 0; row < rows; row++) {
              scores[score + row] += rotated[row] * rotated[row];
            }
          }
        });
    SmallestScores.Bound bound = SmallestScores.find(scores, units * rows, k, workers);
    boolean[] removedUnits = unit == 1 ? removed : new boolean[units * rows];
    if (bound.allTies()) {
      workers.forEach(
          units, u -> bound.mark(scores, u * rows, (u + 1) * rows, removedUnits, bound.ties()));
    } else {
      // The unit that is swept first comes first among equals: from the last position on.
      int ties = bound.ties();
      for (int u = units - 1; u >= 0; u--) {
        ties = bound.mark(scores, u * rows, (u + 1) * rows, removedUnits, ties);
      }
    }
    if (unit > 1) {
      for (int j = 0; j < w.rows(); j++) {
        System.arraycopy(removedUnits, j / unit * rows, removed, j * rows, rows);
      }
    }
  }
}
