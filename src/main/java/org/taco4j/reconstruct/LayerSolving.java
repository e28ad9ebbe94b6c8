package org.taco4j.reconstruct;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.compute.Backend;
import org.taco4j.onnx.Layer;
import org.taco4j.solve.CrossValidatedDamping;
import org.taco4j.solve.Damping;
import org.taco4j.solve.Hessian;
import org.taco4j.solve.LayerSolution;
import org.taco4j.solve.QuantizationGrid;
import org.taco4j.solve.SearchReport;
import org.taco4j.solve.SolveRequest;
import org.taco4j.solve.SplitHessian;

/** The solving of one layer, group by group, and what there is to say about it. */
final class LayerSolving {
  private final LayerWise.Plan plan;
  private final Damping damping;
  private final Backend backend;
  private final int[] order;
  private final Set<String> ran = new LinkedHashSet<>();

  /** Backends that solved in place of the one that was asked. */
  private final Set<String> others = new LinkedHashSet<>();

  private final List<SearchReport> searches = new ArrayList<>();
  private final List<QuantizationGrid> grids = new ArrayList<>();
  private double usedDamping;
  private int escalations;
  private int dead;
  private int groups;
  private int repeatedRows;
  private double seconds;

  LayerSolving(LayerWise.Plan plan, Damping damping, Backend backend) {
    this.plan = plan;
    this.damping = damping;
    this.backend = backend;
    this.order =
        plan.pattern().groupSize() == 1
            ? SolveRequest.naturalOrder(plan.layer().cols())
            : plan.layer().groupingOrder();
  }

  /**
   * Solves the next group.
   *
   * @param weights [rows, cols] row-major; borrowed
   * @param halves of the samples, to choose the damping by; null where it is given
   * @return [rows, cols] row-major
   */
  float[] solve(float[] weights, Hessian hessian, @Nullable SplitHessian halves) {
    Layer layer = plan.layer();
    SolveRequest request =
        new SolveRequest(
            layer.name(),
            weights,
            layer.rows(),
            layer.cols(),
            hessian,
            order,
            plan.pattern(),
            damping instanceof Damping.Fixed fixed ? fixed.value() : Damping.USUAL);
    if (halves != null && plan.solver().usesDamping()) {
      CrossValidatedDamping.Choice choice =
          CrossValidatedDamping.choose(request, plan.solver(), List.of(halves), backend);
      request = request.withDamping(choice.damping());
      seconds += choice.seconds();
    }
    LayerSolution solution = plan.solver().solve(request, backend);
    usedDamping = Math.max(usedDamping, solution.damping());
    escalations = Math.max(escalations, solution.dampingEscalations());
    // Counted here, as not every solver looks at the inputs.
    dead += hessian.deadColumns();
    groups++;
    repeatedRows += solution.repeatedRows();
    seconds += solution.seconds();
    ran.add(solution.solver());
    if (!solution.backend().equals(backend.name())) {
      others.add(solution.backend());
    }
    if (solution.search() != null) {
      searches.add(solution.search());
    }
    if (solution.grid() != null) {
      grids.add(solution.grid());
    }
    return solution.weights();
  }

  /**
   * What was done, once all groups are solved; what was not done as asked is noted.
   *
   * @throws TacoException of kind NUMERICAL for an error that is not finite
   */
  LayerWise.Outcome outcome(double layerError, @Nullable Double heldOutError, Notices notices) {
    Layer layer = plan.layer();
    if (escalations > 0) {
      notices.add(
          "extra-damping",
          layer.name(),
          "the Hessian could be factored only with damping " + usedDamping,
          usedDamping);
    }
    if (repeatedRows > 0) {
      notices.add(
          "float32-rows-repeated",
          layer.name(),
          "float32 broke down in %d of %d rows, which were solved again in float64"
              .formatted(repeatedRows, groups * layer.rows()),
          repeatedRows);
    }
    if (!others.isEmpty()) {
      notices.add(
          "layer-on-host",
          layer.name(),
          "solved by %s: backend %s has no kernels for %s of %s"
              .formatted(
                  String.join(", ", others),
                  backend.name(),
                  String.join(", ", ran),
                  plan.pattern()),
          1);
    }
    if (!Double.isFinite(layerError)) {
      throw TacoException.numerical(
          "layer "
              + layer.name()
              + ": the layer-wise error is "
              + layerError
              + "; raise --damping or exclude the layer");
    }
    // A search that did not end by itself has not done what was asked.
    searches.stream()
        .filter(search -> search.stopped() != SearchReport.Stopped.CONVERGED)
        .findFirst()
        .ifPresent(
            search ->
                notices.add(
                    "search-stopped", layer.name(), search.stopped().toString(), search.seconds()));
    return new LayerWise.Outcome(
        plan,
        String.join(", ", ran),
        layerError,
        heldOutError,
        usedDamping,
        dead,
        seconds,
        searches,
        grids);
  }
}
