package org.taco4j.solve;

import org.taco4j.compute.Backend;

/** An algorithm for layer problems. */
public interface Solver {
  /** The name by which users ask for it. */
  String name();

  /** Whether the solver can follow the pattern. */
  boolean supports(Pattern pattern);

  /** Whether the damping of a request makes a difference. */
  default boolean usesDamping() {
    return true;
  }

  /**
   * What stands for this solver where dampings are tried on some rows of a request: it decides as
   * this one would for the whole request, and leaves a search over masks out.
   */
  default Solver probe(SolveRequest request) {
    return this;
  }

  /**
   * Solves one layer problem, with all threads of the backend; not to be called from a task of its
   * workers.
   *
   * @throws org.taco4j.common.TacoException of kind NUMERICAL where the Hessian is not fit to be
   *     used; of kind USAGE for a pattern that is not supported
   */
  LayerSolution solve(SolveRequest request, Backend backend);
}
