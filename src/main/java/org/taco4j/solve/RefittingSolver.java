package org.taco4j.solve;

import org.taco4j.compute.Backend;

/** The mask of another solver with the exact least-squares fit to it: no more than a better fit. */
final class RefittingSolver implements Solver {
  private final Solver solver;

  /** A solver that takes its masks from the given one, which does not remove whole columns. */
  RefittingSolver(Solver solver) {
    this.solver = solver;
  }

  @Override
  public String name() {
    return solver.name();
  }

  @Override
  public boolean supports(Pattern pattern) {
    return solver.supports(pattern) && !(pattern instanceof Pattern.Columns);
  }

  @Override
  public LayerSolution solve(SolveRequest request, Backend backend) {
    Solvers.requireSupport(this, request);
    LayerSolution solution = solver.solve(request, backend);
    if (request.pattern().sparsity() == 0) {
      return solution;
    }
    long start = System.nanoTime();
    // With what the solver needed to factor H, where it did.
    SolveRequest damping =
        solution.damping() > 0 ? request.withDamping(solution.damping()) : request;
    DampedHessian hessian = DampedHessian.of(damping, backend);
    float[] weights =
        LeastSquaresRefit.refit(
            damping, hessian, solution.kept(), request.pattern().maskRows(), backend);
    return new LayerSolution(
        weights,
        solution.kept(),
        hessian.damping(),
        solution.dampingEscalations() + hessian.escalations(),
        hessian.deadColumns(),
        solution.seconds() + (System.nanoTime() - start) / 1e9,
        solution.gflop() + LeastSquaresRefit.gflop(request, solution.kept()),
        solution.solver() + "+refit",
        backend.name(),
        solution.repeatedRows(),
        /* search= */ null,
        /* grid= */ null);
  }
}
