package org.taco4j;

import java.util.List;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notice;
import org.taco4j.solve.CrossValidatedDamping;
import org.taco4j.solve.SearchReport;

/**
 * What became of a layer problem: the JSON of {@code taco solve}.
 *
 * @param layerError tr(ΔW H ΔWᵀ) / tr(W H Wᵀ), in float64
 * @param heldOutError the same with the held-out Hessian; null without one
 * @param sparsity removed weights over all weights
 * @param damping the λ that was used; 0 for solvers that use none
 * @param deadColumns inputs that were 0 in every sample
 * @param seconds wall time of the solver, without starting the JVM, reading files and choosing λ
 * @param gflop floating-point operations in 1e9 that the solver's algorithm needs
 * @param gflops gflop per second
 * @param backend the backend's name
 * @param solver the name of what ran: of the hybrid solver what it chose, and what came after it
 * @param pattern what was asked
 * @param rows number of outputs
 * @param cols number of inputs
 * @param search what the search after the solver did; null without one
 * @param dampingChoice how λ was chosen; null where it was given or could not be chosen
 * @param notices what was not done as asked
 */
public record LayerResult(
    double layerError,
    @Nullable Double heldOutError,
    double sparsity,
    double damping,
    int deadColumns,
    double seconds,
    double gflop,
    double gflops,
    String backend,
    String solver,
    String pattern,
    int rows,
    int cols,
    @Nullable SearchReport search,
    CrossValidatedDamping.@Nullable Choice dampingChoice,
    List<Notice> notices) {}
