package org.taco4j.solve;

import org.taco4j.compute.Backend;

/**
 * A solver with a search over masks after it. The time budget is the search's; the solver's own
 * time does not count, so that the search of a layer does what the budget allows after any solver.
 */
final class SearchingSolver implements Solver {
  private final Solver solver;
  private final SolverOptions options;

  SearchingSolver(Solver solver, SolverOptions options) {
    this.solver = solver;
    this.options = options;
  }

  @Override
  public String name() {
    return solver.name();
  }

  @Override
  public boolean supports(Pattern pattern) {
    return solver.supports(pattern);
  }

  @Override
  public Solver probe(SolveRequest request) {
    // The search fits what is kept, by the damping, even if the solver leaves that as it is.
    return solver.usesDamping() ? solver.probe(request) : new RefittingSolver(solver);
  }

  @Override
  public LayerSolution solve(SolveRequest request, Backend backend) {
    LayerSolution solution = solver.solve(request, backend);
    if (request.pattern().sparsity() == 0) {
      return solution.withSearch(SearchReport.ofNothingRemoved());
    }
    if (solution.search() != null && options.search() == Search.SWAP) {
      return solution; // the solver has swapped already
    }
    return MaskSearch.improve(
        request, solution, options.search(), options.timeBudget(), options.seed(), backend);
  }
}
