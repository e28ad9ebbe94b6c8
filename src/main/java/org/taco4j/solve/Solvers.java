package org.taco4j.solve;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Suggestions;
import org.taco4j.common.TacoException;
import org.taco4j.compute.Backend;

/** The solvers by name. */
public final class Solvers {
  /** The solver that is used where none is named. */
  public static final String DEFAULT = "hybrid";

  /** Makes a solver; the limits are those of {@link HybridObcSolver}. */
  @FunctionalInterface
  private interface Constructor {
    Solver create(SolverOptions options, HybridObcSolver.@Nullable Limits limits);
  }

  private static final Map<String, Constructor> ALL = new LinkedHashMap<>();

  static {
    ALL.put("fast", (options, limits) -> new FastObcSolver());
    ALL.put("obc", (options, limits) -> new ObcSolver(options.precision()));
    ALL.put("hybrid", HybridObcSolver::new);
    ALL.put("adaprune", (options, limits) -> new AdaPruneSolver(options.refit()));
    ALL.put("ziplm", (options, limits) -> new ZipLmSolver());
    ALL.put("gptq", (options, limits) -> new GptqSolver(options.quantization()));
    ALL.put("wanda", (options, limits) -> new WandaSolver());
    ALL.put("magnitude", (options, limits) -> new MagnitudeSolver());
  }

  private Solvers() {}

  /** The names that {@link #create} knows. */
  public static List<String> names() {
    return List.copyOf(ALL.keySet());
  }

  /**
   * The solver of that name, with the default options.
   *
   * @throws TacoException of kind USAGE, with the names there are
   */
  public static Solver byName(String name) {
    return constructor(name).create(SolverOptions.defaults(), /* limits= */ null);
  }

  /**
   * The solver of that name, with a search and a quantisation after it where the options ask for
   * them.
   *
   * @throws TacoException of kind USAGE, with the names there are; and for options that the solver
   *     lacks, or a search after it that would have nothing to swap
   */
  public static Solver create(String name, SolverOptions options) {
    return create(name, options, null);
  }

  /**
   * {@link #create(String, SolverOptions)} for a layer among others.
   *
   * @param limits of the hybrid solver; null where it decides for each layer by itself
   */
  static Solver create(
      String name, SolverOptions options, HybridObcSolver.@Nullable Limits limits) {
    Solver solver = constructor(name).create(options, limits);
    Quantization quantization = options.quantization();
    if (solver instanceof GptqSolver && quantization == null) {
      throw GptqSolver.missingBits();
    }
    if (options.search() != Search.NONE) {
      requireMoves(solver, options.search());
      solver = new SearchingSolver(solver, options);
    }
    return quantization == null || solver instanceof GptqSolver
        ? solver
        : new QuantizingSolver(solver, quantization);
  }

  private static Constructor constructor(String name) {
    Constructor constructor = ALL.get(name);
    if (constructor == null) {
      throw TacoException.usage(
          "no solver '%s'%s; there are: %s"
              .formatted(name, Suggestions.didYouMean(name, names()), String.join(", ", names())));
    }
    return constructor;
  }

  /** Throws an exception of kind USAGE for a solver after which there are no weights to swap. */
  private static void requireMoves(Solver solver, Search search) {
    if (solver instanceof GptqSolver || solver instanceof ZipLmSolver) {
      throw TacoException.usage(
          "--search %s: solver %s removes %s, so that there is nothing to swap; do without the search"
                  .formatted(
                      search,
                      solver.name(),
                      solver instanceof GptqSolver ? "nothing" : "whole columns")
              + " or name another solver");
    }
  }

  /** W as it is, for a pattern that removes nothing. */
  static LayerSolution unchanged(Solver solver, SolveRequest request, Backend backend) {
    boolean[] kept = new boolean[request.weights().length];
    Arrays.fill(kept, true);
    return new LayerSolution(
        request.weights().clone(),
        kept,
        /* damping= */ 0,
        /* dampingEscalations= */ 0,
        request.hessian().deadColumns(),
        /* seconds= */ 0,
        /* gflop= */ 0,
        solver.name(),
        backend.name());
  }

  /** The names of the solvers that can follow a pattern. */
  public static List<String> thatSupport(Pattern pattern) {
    return names().stream().filter(name -> byName(name).supports(pattern)).toList();
  }

  /** Throws an exception of kind USAGE where the solver does not know the request's pattern. */
  static void requireSupport(Solver solver, SolveRequest request) {
    if (!solver.supports(request.pattern())) {
      throw TacoException.usage(
          "layer %s: solver %s cannot follow the pattern %s; solvers that can: %s"
              .formatted(
                  request.layer(),
                  solver.name(),
                  request.pattern(),
                  thatSupport(request.pattern())));
    }
  }
}
