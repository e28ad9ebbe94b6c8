package org.taco4j.solve;

import org.taco4j.common.TacoException;
import org.taco4j.compute.Backend;

/**
 * Removes, in each row, the weights with the smallest |w| · ‖x‖₂, where ‖x‖₂ is the norm of the
 * weight's input over the calibration samples, and leaves the others as they are (Sun et al. 2023,
 * "A Simple and Effective Pruning Approach for Large Language Models").
 */
public final class WandaSolver implements Solver {
  @Override
  public String name() {
    return "wanda";
  }

  @Override
  public boolean supports(Pattern pattern) {
    return !(pattern instanceof Pattern.Columns);
  }

  @Override
  public boolean usesDamping() {
    return false;
  }

  @Override
  public LayerSolution solve(SolveRequest request, Backend backend) {
    long start = System.nanoTime();
    Solvers.requireSupport(this, request);
    if (request.pattern().sparsity() == 0) {
      return Solvers.unchanged(this, request, backend);
    }
    float[] norms = new float[request.cols()];
    int dead = 0;
    for (int col = 0; col < norms.length; col++) {
      double energy = request.hessian().diagonal(col);
      if (!(energy >= 0 && energy <= Float.MAX_VALUE)) {
        throw TacoException.numerical(
            "layer %s: input %d has the energy %s over the calibration samples"
                .formatted(request.layer(), col, energy));
      }
      dead += energy == 0 ? 1 : 0;
      norms[col] = (float) Math.sqrt(energy);
    }
    return ScoredRemoval.solve(
        request, backend, name(), norms, ScoredRemoval.Comparison.ROW, dead, start);
  }
}
