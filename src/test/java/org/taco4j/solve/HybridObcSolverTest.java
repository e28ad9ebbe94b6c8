package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.simd.SimdBackend;

final class HybridObcSolverTest {
  private static final Backend SIMD = SimdBackend.create(new Workers(2));
  private static final SolverOptions DEFAULTS = SolverOptions.defaults();

  private final LayerProblems problems = new LayerProblems(6);

  @Test
  void isExactThenSwapsThenFastAlone() {
    for (String pattern : List.of("0.8", "2:4", "block4:0.5", "rows4:0.5")) {
      SolveRequest request = problems.request(8, 48, 100, pattern, 0.01);
      LayerSolution exact =
          new HybridObcSolver(DEFAULTS, new HybridObcSolver.Limits(48, 48)).solve(request, SIMD);
      assertEquals("obc", exact.solver());
      assertNull(exact.search());
      assertArrayEquals(
          Solvers.byName("obc").solve(request, SIMD).weights(), exact.weights(), pattern);
      LayerSolution swapped =
          new HybridObcSolver(DEFAULTS, new HybridObcSolver.Limits(47, 48)).solve(request, SIMD);
      boolean rows = pattern.startsWith("rows");
      boolean block = pattern.startsWith("block");
      assertEquals(rows ? "wanda+swap" : block ? "fast+refit" : "fast+swap", swapped.solver());
      assertEquals(block, swapped.search() == null);
      assertEquals(exact.removed(), swapped.removed());
      LayerSolution fast =
          new HybridObcSolver(DEFAULTS, new HybridObcSolver.Limits(0, 47)).solve(request, SIMD);
      assertEquals(rows ? "adaprune" : "fast", fast.solver());
      assertEquals(exact.removed(), fast.removed());
      if (block) {
        // The same mask, fitted with the damping that both have.
        assertArrayEquals(fast.kept(), swapped.kept());
        float[] fitted =
            LeastSquaresRefit.refit(request, DampedHessian.of(request, SIMD), fast.kept(), 1, SIMD);
        assertArrayEquals(fitted, swapped.weights());
      }
    }
  }

  @Test
  void decidesByTheTimeBudgetWithoutLimits() {
    SolveRequest request = problems.request(8, 48, 100, "0.8", 0.01);
    assertEquals("obc", new HybridObcSolver(DEFAULTS).solve(request, SIMD).solver());
    SolverOptions hurry = DEFAULTS.withTimeBudget(1e-9);
    assertEquals("fast", new HybridObcSolver(hurry).solve(request, SIMD).solver());
  }

  @Test
  void plansForAWholeModel() {
    Pattern pattern = Pattern.parse("0.8");
    List<HybridObcSolver.Shape> layers =
        List.of(
            new HybridObcSolver.Shape(64, 576, 1, pattern),
            new HybridObcSolver.Shape(256, 2304, 1, pattern),
            new HybridObcSolver.Shape(64, 147, 1, pattern),
            new HybridObcSolver.Shape(128, 576, 1, pattern));
    HybridObcSolver.Limits last = new HybridObcSolver.Limits(0, 0);
    assertEquals(last, HybridObcSolver.limits(layers, Precision.AUTO, 1e-9));
    for (double seconds = 1e-4; seconds < 1e6; seconds *= 1.5) {
      HybridObcSolver.Limits limits = HybridObcSolver.limits(layers, Precision.AUTO, seconds);
      assertTrue(limits.exact() >= last.exact(), "more budget, more of it exact");
      assertTrue(List.of(0, 147, 576, 2304).contains(limits.exact()));
      assertTrue(limits.swap() >= limits.exact());
      double sum = 0;
      for (HybridObcSolver.Shape layer : layers) {
        if (layer.cols() <= limits.exact()) {
          sum += HybridObcSolver.obcSeconds(layer, Precision.AUTO);
        } else if (layer.cols() <= limits.swap()) {
          sum += HybridObcSolver.swapSeconds(layer);
        }
      }
      assertTrue(sum <= seconds);
      last = limits;
    }
    assertEquals(2304, last.exact());
    // Four rows that share their elimination cost a quarter.
    HybridObcSolver.Shape rows4 = new HybridObcSolver.Shape(64, 576, 1, Pattern.parse("rows4:0.8"));
    assertTrue(
        HybridObcSolver.obcSeconds(rows4, Precision.AUTO)
            < 0.3 * HybridObcSolver.obcSeconds(layers.get(0), Precision.AUTO));
  }

  @Test
  void everyGroupOfAConvolutionIsAProblem() {
    Pattern pattern = Pattern.parse("0.8");
    HybridObcSolver.Shape one = new HybridObcSolver.Shape(8, 72, 1, pattern);
    HybridObcSolver.Shape grouped = new HybridObcSolver.Shape(8, 72, 32, pattern);
    double obc = HybridObcSolver.obcSeconds(one, Precision.AUTO);
    assertEquals(32 * obc, HybridObcSolver.obcSeconds(grouped, Precision.AUTO), 1e-9 * obc);
    double swaps = HybridObcSolver.swapSeconds(one);
    assertEquals(32 * swaps, HybridObcSolver.swapSeconds(grouped), 1e-9 * swaps);
    SolverPlan.Task each = new SolverPlan.Task("fast", one);
    SolverPlan.Task all = new SolverPlan.Task("fast", grouped);
    // 33 equal problems: half of 66 s goes by work, 1 s to each, half evenly to the two layers.
    assertArrayEquals(
        new double[] {1 + 16.5, 1 + 16.5 / 32},
        SolverPlan.searchSeconds(List.of(each, all), 66),
        1e-9);
  }

  @Test
  void whatRemovesNothingCostsNothing() {
    HybridObcSolver.Shape dense = new HybridObcSolver.Shape(64, 576, 1, Pattern.parse("0"));
    assertEquals(0, HybridObcSolver.obcSeconds(dense, Precision.AUTO));
    SolverPlan.Task task = new SolverPlan.Task("hybrid", dense);
    assertEquals(2, SolverPlan.of(List.of(task, task), DEFAULTS).size());
  }

  @Test
  void leavesWholeColumnsToZipLm() {
    SolveRequest request = problems.request(4, 8, 20, "columns:0.5", 0.01);
    LayerSolution solution = new HybridObcSolver(DEFAULTS).solve(request, SIMD);
    assertEquals("ziplm", solution.solver());
    assertArrayEquals(new ZipLmSolver().solve(request, SIMD).weights(), solution.weights());
  }
}
