package org.taco4j.solve;

import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceColumnSweep;

/**
 * GPTQ (Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
 * Transformers", algorithm 1): one sweep over the columns, {@link ColumnSweep}, in which each
 * weight goes to the nearest point of its row's grid and the columns still to come make up for it;
 * then, where asked for, {@link GridDescent}. Nothing is removed: for patterns, {@link
 * QuantizingSolver}.
 */
public final class GptqSolver implements Solver {
  private final @Nullable Quantization asked;

  /**
   * A solver that quantises so.
   *
   * @param quantization without it, {@link #solve} throws an exception of kind USAGE
   */
  public GptqSolver(@Nullable Quantization quantization) {
    asked = quantization;
  }

  @Override
  public String name() {
    return "gptq";
  }

  static TacoException missingBits() {
    return TacoException.usage("solver gptq quantises: say to how many bits, --bits 2 to 8");
  }

  /** Only patterns that remove nothing. */
  @Override
  public boolean supports(Pattern pattern) {
    return pattern.sparsity() == 0;
  }

  @Override
  public LayerSolution solve(SolveRequest request, Backend backend) {
    long start = System.nanoTime();
    Solvers.requireSupport(this, request);
    if (asked == null) {
      throw missingBits();
    }
    Quantization quantization = asked;
    QuantizationGrid grid =
        QuantizationGrid.fit(request.weights(), request.rows(), quantization, backend.workers());
    ColumnSweep.Result swept = sweep(request, grid, /* mask= */ null, quantization, backend);
    double gflop =
        swept.gflop()
            + GridDescent.run(
                request,
                swept.weights(),
                swept.kept(),
                grid,
                quantization.sweeps(),
                swept.damping(),
                backend);
    double seconds = (System.nanoTime() - start) / 1e9;
    return new LayerSolution(
        swept.weights(),
        swept.kept(),
        swept.damping(),
        swept.escalations(),
        swept.deadColumns(),
        seconds,
        gflop,
        name(),
        backend.name(),
        /* repeatedRows= */ 0,
        /* search= */ null,
        grid);
  }

  /**
   * The sweep of a request's weights onto a grid.
   *
   * @param mask [rows, cols] row-major: false where the weight becomes 0; null for none
   */
  static ColumnSweep.Result sweep(
      SolveRequest request,
      QuantizationGrid grid,
      boolean @Nullable [] mask,
      Quantization quantization,
      Backend backend) {
    int rows = request.rows();
    int cols = request.cols();
    float[] lowest = grid.lowest();
    float[] highest = grid.highest();
    int[] order = quantization.actOrder() ? byActivity(request) : request.order();
    return ColumnSweep.run(
        request,
        order,
        1,
        backend,
        block -> {
          for (int p = 0; mask != null && p < block.columns().length; p++) {
            for (int row = 0; row < rows; row++) {
              block.removed()[p * rows + row] = !mask[row * cols + block.columns()[p]];
            }
          }
          backend.quantSweep(
              block.inverse(), block.weights(), block.removed(), grid.scale(), lowest, highest);
        },
        new DeviceColumnSweep.Grid(grid.scale(), lowest, highest, mask));
  }

  /** The columns by falling diagonal of H, where a dead column counts as 1. */
  private static int[] byActivity(SolveRequest request) {
    double[] activity = new double[request.cols()];
    Arrays.setAll(
        activity,
        col -> request.hessian().diagonal(col) == 0 ? 1 : request.hessian().diagonal(col));
    return IntStream.range(0, activity.length)
        .boxed()
        .sorted(Comparator.comparingDouble((Integer col) -> -activity[col]))
        .mapToInt(Integer::intValue)
        .toArray();
  }
}
