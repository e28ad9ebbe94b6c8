package org.taco4j.solve;

import java.util.ArrayList;
import java.util.List;

/** Solvers for all layers of a model, which share one time budget. */
public final class SolverPlan {
  private static final String HYBRID = "hybrid";

  private SolverPlan() {}

  /** A layer, and the name of its solver. */
  public record Task(String solver, HybridObcSolver.Shape shape) {}

  /**
   * The solvers, in the order of the tasks. Exact OBC goes to as many of the hybrid's layers as the
   * budget allows, the narrow ones first; a search that was asked for gets a share of the budget
   * for each layer in proportion to its work, which the problems of a grouped convolution divide
   * among them. Both follow from shapes alone.
   *
   * @param options whose time budget is for all layers together
   * @throws org.taco4j.common.TacoException of kind USAGE for an unknown solver
   */
  public static List<Solver> of(List<Task> tasks, SolverOptions options) {
    HybridObcSolver.Limits limits =
        HybridObcSolver.limits(
            tasks.stream().filter(task -> task.solver().equals(HYBRID)).map(Task::shape).toList(),
            options.precision(),
            options.timeBudget());
    double work =
        tasks.stream().mapToDouble(task -> HybridObcSolver.swapSeconds(task.shape())).sum();
    List<Solver> solvers = new ArrayList<>();
    for (Task task : tasks) {
      double seconds = HybridObcSolver.swapSeconds(task.shape());
      // Where nothing is removed there is nothing to search.
      SolverOptions own =
          seconds == 0
              ? options
              : options.withTimeBudget(
                  seconds / work * options.timeBudget() / task.shape().groups());
      solvers.add(Solvers.create(task.solver(), own, limits));
    }
    return solvers;
  }
}
