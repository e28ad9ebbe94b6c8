package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.compute.simd.SimdBackend;

/** The solvers against the answers of the published reference implementations, on every backend. */
final class GoldenSolverTest {
  /** Our solvers by the names of the reference. */
  private static final Map<String, String> SOLVERS =
      Map.of("magnitude", "magnitude", "wanda", "wanda", "sparsegpt", "fast");

  static List<Backend> backends() {
    Workers workers = new Workers(2);
    return List.of(
        new ScalarBackend(workers),
        SimdBackend.create(workers),
        SimdBackend.createOverOpenBlas(workers),
        SimdBackend.createWithoutNatives(workers));
  }

  @ParameterizedTest
  @MethodSource("backends")
  void agreesWithTheReference(Backend backend) {
    int compared = 0;
    for (Map.Entry<String, String> solver : SOLVERS.entrySet()) {
      for (GoldenProblem.Answer answer : GoldenProblem.answersOf(solver.getKey())) {
        compare(answer, solver.getValue(), backend);
        compared++;
      }
    }
    // 4 cases: magnitude at 3 sparsities, wanda and sparsegpt at these and 2:4.
    assertEquals(4 * 11, compared);
  }

  static void compare(GoldenProblem.Answer answer, String solver, Backend backend) {
    GoldenProblem problem = answer.problem();
    int cols = problem.cols();
    int weights = problem.rows() * cols;
    String setting = answer.setting();
    long count = Math.round(answer.result().get("sparsity").asDouble() * weights);
    // Only obc and block4 of the reference run along (ky, kx, c); 2:4 here runs along the columns.
    SolveRequest request = problem.request(patternWithCount(setting, count, weights), 0.01);
    LayerSolution solution = Solvers.byName(solver).solve(request, backend);
    String what = "%s of %s on %s".formatted(answer, solver, backend.description());

    assertEquals(count, solution.removed(), what);
    double error = problem.error(solution.weights(), backend);
    // The README's 1e-3. The reference's SparseGPT removes one weight more in each block than
    // asked, so with two blocks the same total may be split otherwise, by a weight: that was up to
    // 2.3e-3 of the error.
    boolean twoBlocks = solver.equals("fast") && setting.startsWith("s") && cols > 128;
    assertEquals(answer.error(), error, (twoBlocks ? 4e-3 : 1e-3) * answer.error(), what);
    if (answer.has("mask")) {
      int same = answer.equalEntries(solution.kept());
      assertTrue(same > 0.995 * weights, what + ": equal mask entries: " + same);
      if (same == weights) {
        // Weights are of the order of 0.1 to 1, both sides rounded in float through a factor of H
        // with a condition number of about 1e4.
        assertArrayEquals(answer.floats("weights"), solution.weights(), 1e-4f, what);
      }
    }
  }

  /**
   * The reference rounds its own way: magnitude and SparseGPT remove one weight more than asked,
   * Wanda floor(cols * s) in each row. So it is asked for the number that it did remove; half a
   * weight less makes sure that it is rounded up to that.
   */
  private static Pattern patternWithCount(String setting, long count, int weights) {
    return setting.startsWith("s")
        ? new Pattern.Unstructured((count - 0.5) / weights)
        : Pattern.parse(setting);
  }
}
