package org.taco4j.solve;

import java.util.ArrayList;
import java.util.Arrays;
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
   * for each layer, half of it in proportion to its work, which the problems of a grouped
   * convolution divide among them. Both follow from shapes alone.
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
    double[] seconds = searchSeconds(tasks, options.timeBudget());
    List<Solver> solvers = new ArrayList<>();
    for (int i = 0; i < seconds.length; i++) {
      // Where nothing is removed there is nothing to search.
      SolverOptions own = seconds[i] == 0 ? options : options.withTimeBudget(seconds[i]);
      solvers.add(Solvers.create(tasks.get(i).solver(), own, limits));
    }
    return solvers;
  }

  /** The search's share of a time budget for each layer problem of each task. */
  static double[] searchSeconds(List<Task> tasks, double budget) {
    double[] work =
        tasks.stream().mapToDouble(task -> HybridObcSolver.swapSeconds(task.shape())).toArray();
    double total = Arrays.stream(work).sum();
    long searched = Arrays.stream(work).filter(w -> w > 0).count();
    double[] seconds = new double[work.length];
    for (int i = 0; i < work.length; i++) {
      // Half of it by work, half evenly: narrow layers need next to nothing, but not nothing.
      double share = (work[i] / total + 1.0 / searched) / 2;
      seconds[i] = work[i] == 0 ? 0 : share * budget / tasks.get(i).shape().groups();
    }
    return seconds;
  }
}
