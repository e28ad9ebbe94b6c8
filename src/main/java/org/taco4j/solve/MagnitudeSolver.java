package org.taco4j.solve;

import java.util.Arrays;
import org.taco4j.compute.Backend;

/**
 * Removes the smallest weights of the layer and leaves the others as they are: the baseline. Blocks
 * are judged by the sum of their squares. The Hessian is not used.
 */
public final class MagnitudeSolver implements Solver {
  @Override
  public String name() {
    return "magnitude";
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
    float[] ones = new float[request.cols()];
    Arrays.fill(ones, 1);
    return ScoredRemoval.solve(
        request, backend, name(), ones, ScoredRemoval.Comparison.LAYER, 0, start);
  }
}
