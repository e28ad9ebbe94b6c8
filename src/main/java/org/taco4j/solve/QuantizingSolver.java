package org.taco4j.solve;

import org.taco4j.compute.Backend;

/**
 * Compresses and quantises: another solver gives the mask, and the weights that it keeps are
 * quantised by the sweep of {@link GptqSolver}, in which removed weights go to 0 and all errors are
 * passed on; then, where asked for, by {@link GridDescent} among the weights kept.
 *
 * <p>The sweep can start from the other solver's weights or from the dense ones. After solvers that
 * fit what they keep, such as OBC, the former has 20 to 50 % less error at 8 and 4 bits; after
 * those that do not, such as magnitude, the latter makes up for what was removed. Both are tried,
 * and the one with the lower layer error is kept. Where the pattern removes nothing, both are the
 * same, and {@link GptqSolver} does it alone.
 */
public final class QuantizingSolver implements Solver {
  private final Solver base;
  private final Quantization quantization;

  /**
   * A solver that quantises what another one keeps.
   *
   * @param base what chooses the mask
   */
  public QuantizingSolver(Solver base, Quantization quantization) {
    this.base = base;
    this.quantization = quantization;
  }

  /** The name of the solver that chooses the mask. */
  @Override
  public String name() {
    return base.name();
  }

  @Override
  public boolean supports(Pattern pattern) {
    return base.supports(pattern);
  }

  @Override
  public Solver probe(SolveRequest request) {
    return new QuantizingSolver(base.probe(request), quantization);
  }

  @Override
  public LayerSolution solve(SolveRequest request, Backend backend) {
    long start = System.nanoTime();
    LayerSolution sparse = base.solve(request, backend);
    if (request.pattern().sparsity() == 0) {
      return new GptqSolver(quantization).solve(request, backend).withSearch(sparse.search());
    }
    QuantizationGrid grid =
        QuantizationGrid.fit(sparse.weights(), request.rows(), quantization, backend.workers());
    SolveRequest fromSparse = request.withWeights(sparse.weights());
    ColumnSweep.Result swept =
        GptqSolver.sweep(fromSparse, grid, sparse.kept(), quantization, backend);
    ColumnSweep.Result alternative =
        GptqSolver.sweep(request, grid, sparse.kept(), quantization, backend);
    double gflop = sparse.gflop() + swept.gflop() + alternative.gflop();
    if (error(request, alternative, backend) < error(request, swept, backend)) {
      swept = alternative;
    }
    gflop +=
        GridDescent.run(
            request,
            swept.weights(),
            sparse.kept(),
            grid,
            quantization.sweeps(),
            swept.damping(),
            backend);
    double seconds = (System.nanoTime() - start) / 1e9;
    return new LayerSolution(
        swept.weights(),
        sparse.kept(),
        Math.max(sparse.damping(), swept.damping()),
        Math.max(sparse.dampingEscalations(), swept.escalations()),
        swept.deadColumns(),
        seconds,
        gflop,
        sparse.solver() + "+gptq",
        backend.name(),
        sparse.repeatedRows(),
        sparse.search(),
        grid);
  }

  private static double error(SolveRequest request, ColumnSweep.Result result, Backend backend) {
    return LayerError.relative(
        request.weights(),
        result.weights(),
        request.rows(),
        request.cols(),
        request.hessian(),
        backend);
  }
}
