package org.taco4j.solve;

import java.util.List;
import java.util.stream.Collectors;
import org.taco4j.common.TacoException;

/** The solvers by name. */
public final class Solvers {
  private static final List<Solver> ALL =
      List.of(new FastObcSolver(), new WandaSolver(), new MagnitudeSolver());

  private Solvers() {}

  /** The names that {@link #byName} knows. */
  public static List<String> names() {
    return ALL.stream().map(Solver::name).toList();
  }

  /**
   * The solver of that name.
   *
   * @throws TacoException of kind USAGE, with the names there are
   */
  public static Solver byName(String name) {
    return ALL.stream()
        .filter(solver -> solver.name().equals(name))
        .findFirst()
        .orElseThrow(
            () ->
                TacoException.usage(
                    "no solver '%s'; there are: %s"
                        .formatted(name, names().stream().collect(Collectors.joining(", ")))));
  }
}
