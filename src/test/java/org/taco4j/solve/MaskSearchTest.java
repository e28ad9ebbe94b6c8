package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.compute.simd.SimdBackend;

final class MaskSearchTest {
  private static final Workers WORKERS = new Workers(2);
  private static final Backend SIMD = SimdBackend.create(WORKERS);
  private static final Backend SCALAR = new ScalarBackend(WORKERS);
  private static final double NO_LIMIT = 1e6;

  private final LayerProblems problems = new LayerProblems(3);

  /**
   * By how much the error must lie below that of the reference's exact OBC, which the search starts
   * from: by setting, for swaps and for the full search. What was measured, less about a tenth; the
   * last case, with fewer samples than columns, leaves much more room.
   */
  private static final Map<String, double[]> GAINS =
      Map.of(
          "dev_conv32x144 s0.8_damp0.01", new double[] {0.045, 0.055},
          "dev_conv32x144 s0.9_damp0.01", new double[] {0.045, 0.053},
          "dev_conv32x144 2:4", new double[] {0.21, 0.22},
          "dev_lin48x96 s0.8_damp0.01", new double[] {0.04, 0.052},
          "dev_lin48x96 s0.9_damp0.01", new double[] {0.05, 0.075},
          "dev_lin48x96 2:4", new double[] {0.13, 0.135},
          "dev_dead40x128 s0.8_damp0.01", new double[] {0.025, 0.03},
          "dev_dead40x128 s0.9_damp0.01", new double[] {0.033, 0.043},
          "dev_dead40x128 2:4", new double[] {0.085, 0.09},
          "dev_few24x160 s0.8_damp0.01", new double[] {0.19, 0.25});

  @ParameterizedTest
  @EnumSource(
      value = Search.class,
      names = {"SWAP", "FULL"})
  void getsBelowExactObc(Search search) {
    int compared = 0;
    for (GoldenProblem.Answer answer : GoldenProblem.answersOf("obc")) {
      double[] gains = GAINS.get(answer.toString());
      if (gains == null) {
        continue;
      }
      boolean isGroups = answer.setting().equals("2:4");
      String pattern = isGroups ? "2:4" : answer.setting().substring(1, 4);
      SolveRequest request = answer.problem().requestByChannels(Pattern.parse(pattern), 0.01);
      LayerSolution obc = solution(request, answer.kept());
      LayerSolution found = MaskSearch.improve(request, obc, search, NO_LIMIT, 0, SIMD);
      String what = answer.toString();
      assertEquals(obc.removed(), found.removed(), what);
      double expected = (1 - gains[search.ordinal() - 1]) * answer.error();
      assertTrue(error(request, found) < expected, what + ": " + error(request, found));
      compared++;
    }
    assertEquals(GAINS.size(), compared);
  }

  @ParameterizedTest
  @EnumSource(
      value = Search.class,
      names = {"SWAP", "FULL"})
  void lowersTheErrorAtTheSameCount(Search search) {
    for (String pattern : List.of("0.7", "2:4", "1:4", "rows4:0.6", "block4:0.6")) {
      for (String solver : List.of("magnitude", "wanda", "obc", "fast")) {
        SolveRequest request = problems.request(9, 40, 80, pattern, 0.01);
        if (!Solvers.byName(solver).supports(request.pattern())) {
          continue;
        }
        for (Backend backend : List.of(SIMD, SCALAR)) {
          LayerSolution start = Solvers.byName(solver).solve(request, backend);
          LayerSolution found = MaskSearch.improve(request, start, search, NO_LIMIT, 0, backend);
          String what = "%s %s on %s".formatted(solver, pattern, backend.name());
          SearchReport report = Objects.requireNonNull(found.search());
          assertEquals(start.removed(), found.removed(), what);
          // From a fit that is the best of its mask already, nothing but rounding to float is left.
          assertTrue(report.errorAfter() <= report.errorBefore() * (1 + 1e-5), what + report);
          checkPattern(request, found, what);
          boolean moves = !(request.pattern() instanceof Pattern.Block);
          assertEquals(
              moves ? SearchReport.Stopped.CONVERGED : SearchReport.Stopped.PATTERN_HAS_NO_MOVES,
              report.stopped());
          assertTrue(moves || Arrays.equals(start.kept(), found.kept()), what);
          assertEquals(solver + "+" + search, found.solver());
        }
      }
    }
  }

  static void checkPattern(SolveRequest request, LayerSolution solution, String what) {
    int cols = request.cols();
    boolean[] kept = solution.kept();
    for (int i = 0; i < kept.length; i++) {
      int bits = Float.floatToRawIntBits(solution.weights()[i]);
      assertTrue(Float.isFinite(solution.weights()[i]) && (kept[i] || bits == 0), what);
      int row = i / cols;
      int first = row / request.pattern().maskRows() * request.pattern().maskRows();
      assertEquals(kept[first * cols + i % cols], kept[i], what);
    }
    if (request.pattern() instanceof Pattern.NM nm) {
      for (int group = 0; group < kept.length; group += nm.groupSize()) {
        int count = 0;
        for (int i = group; i < group + nm.groupSize(); i++) {
          count += kept[i] ? 1 : 0;
        }
        assertEquals(nm.kept(), count, what);
      }
    }
  }

  /** After the search no swap that the pattern allows helps, by refits of every mask next to it. */
  @Test
  void endsWhereNoSwapHelps() {
    for (String pattern : List.of("0.6", "2:4", "rows2:0.5")) {
      // All removed columns are candidates.
      SolveRequest request = problems.request(4, 12, 30, pattern, 0.01);
      int[] shuffled = {3, 7, 0, 11, 5, 1, 9, 2, 4, 10, 8, 6};
      System.arraycopy(shuffled, 0, request.order(), 0, 12);
      LayerSolution start = Solvers.byName("magnitude").solve(request, SIMD);
      for (Backend backend : List.of(SIMD, SCALAR)) {
        LayerSolution found = MaskSearch.improve(request, start, Search.SWAP, NO_LIMIT, 0, backend);
        SearchReport report = Objects.requireNonNull(found.search());
        assertTrue(report.swaps() > 0);
        DampedHessian damped = DampedHessian.of(request, SIMD);
        double error = dampedError(request, damped, found.weights());
        int maskRows = request.pattern().maskRows();
        for (int row = 0; row < 4; row += maskRows) {
          for (int add = 0; add < 12; add++) {
            for (int remove = 0; remove < 12; remove++) {
              boolean[] kept = found.kept().clone();
              if (kept[row * 12 + add] || !kept[row * 12 + remove]) {
                continue;
              }
              if (pattern.equals("2:4") && !sameGroup(request.order(), add, remove)) {
                continue;
              }
              for (int r = row; r < row + maskRows; r++) {
                kept[r * 12 + add] = true;
                kept[r * 12 + remove] = false;
              }
              float[] refitted = LeastSquaresRefit.refit(request, damped, kept, maskRows, SIMD);
              // Swaps for less than 1e-5 of a row's error are not made.
              assertTrue(dampedError(request, damped, refitted) > (1 - 2e-5) * error, pattern);
            }
          }
        }
      }
    }
  }

  private static boolean sameGroup(int[] order, int a, int b) {
    int[] position = new int[order.length];
    for (int p = 0; p < order.length; p++) {
      position[order[p]] = p;
    }
    return position[a] / 4 == position[b] / 4;
  }

  private static double dampedError(SolveRequest request, DampedHessian h, float[] weights) {
    int cols = request.cols();
    double sum = 0;
    for (int row = 0; row < request.rows(); row++) {
      for (int p = 0; p < cols; p++) {
        for (int q = 0; q < cols; q++) {
          int i = row * cols + request.order()[p];
          int j = row * cols + request.order()[q];
          sum +=
              ((double) weights[i] - request.weights()[i])
                  * h.at(p, q)
                  * ((double) weights[j] - request.weights()[j]);
        }
      }
    }
    return sum;
  }

  @Test
  void leavesTheWeightsAloneAtSparsityZero() {
    for (String pattern : List.of("0", "4:4", "rows4:0")) {
      SolveRequest request = problems.request(5, 24, 50, pattern, 0.01);
      LayerSolution start = Solvers.byName("magnitude").solve(request, SIMD);
      LayerSolution found = MaskSearch.improve(request, start, Search.FULL, NO_LIMIT, 0, SIMD);
      assertArrayEquals(request.weights(), found.weights());
    }
  }

  @Test
  void copesWithOneSampleDeadInputsAndRowsOfNothing() {
    SolveRequest one = problems.request(6, 40, 1, "0.8", 0);
    Arrays.fill(one.weights(), 0, 40, 0); // a row of zeros
    Arrays.fill(one.weights(), 40, 80, 1e-6f); // a row that keeps nothing
    for (Search search : List.of(Search.SWAP, Search.FULL)) {
      for (double damping : new double[] {0, 1e-6, 0.01, 1}) {
        for (String pattern : List.of("0.8", "2:4")) {
          SolveRequest request = LayerProblems.with(one, pattern, damping);
          LayerSolution start = Solvers.byName("magnitude").solve(request, SIMD);
          LayerSolution found = MaskSearch.improve(request, start, search, NO_LIMIT, 0, SIMD);
          assertEquals(start.removed(), found.removed());
          checkPattern(request, found, pattern);
          double before = error(request, start);
          assertTrue(error(request, found) <= before, pattern + " at damping " + damping);
          assertTrue(damping > 0 || found.dampingEscalations() > 0);
        }
      }
    }
  }

  @Test
  void deadInputsAreNotKeptForTheirWeights() {
    int cols = 20;
    int dead = 5;
    float[] weights = problems.gaussian(6 * cols);
    for (int i = 0; i < weights.length; i++) {
      weights[i] *= i % cols < dead ? 100 : 1; // magnitude keeps these
    }
    Hessian hessian = problems.hessian(cols, 60, dead);
    for (String pattern : List.of("0.5", "rows2:0.5")) {
      SolveRequest request = LayerProblems.request(weights, 6, hessian, Pattern.parse(pattern), 0);
      LayerSolution start = Solvers.byName("magnitude").solve(request, SIMD);
      LayerSolution found = MaskSearch.improve(request, start, Search.SWAP, NO_LIMIT, 0, SIMD);
      assertEquals(0, found.damping());
      for (int i = 0; i < weights.length; i++) {
        // Half of the columns go, a quarter is dead.
        assertTrue(start.kept()[i] || i % cols >= dead);
        assertFalse(found.kept()[i] && i % cols < dead, pattern);
      }
      SearchReport report = Objects.requireNonNull(found.search());
      // Without damping the report's error is the layer's; both are sums of float weights in
      // double.
      assertEquals(error(request, start), report.errorBefore(), 1e-9);
      assertEquals(error(request, found), report.errorAfter(), 1e-9);
      assertTrue(report.errorAfter() < 0.5 * report.errorBefore(), report.toString());
    }
  }

  @Test
  void permutingColumnsPermutesTheAnswer() {
    SolveRequest request = problems.request(12, 60, 150, "0.7", 0.01);
    int cols = 60;
    int[] to = problems.shuffled(cols);
    SolveRequest permuted = LayerProblems.permuted(request, to);
    LayerSolution expected = improved(request, Search.SWAP, SIMD);
    LayerSolution actual = improved(permuted, Search.SWAP, SIMD);
    for (int row = 0; row < 12; row++) {
      for (int i = 0; i < cols; i++) {
        // Weights of the order of 1, in float; the same mask, as nothing ties here.
        assertEquals(
            expected.weights()[row * cols + i], actual.weights()[row * cols + to[i]], 1e-5);
      }
    }
  }

  @Test
  void givesTheSameBytesAtAnyNumberOfThreads() {
    for (String pattern : List.of("0.8", "2:4", "rows4:0.7")) {
      SolveRequest request = problems.request(21, 100, 120, pattern, 0.01);
      LayerSolution first = null;
      for (int threads = 1; threads <= 3; threads++) {
        try (Workers workers = new Workers(threads)) {
          LayerSolution found = improved(request, Search.FULL, SimdBackend.create(workers));
          first = first == null ? found : first;
          assertArrayEquals(first.weights(), found.weights());
          assertArrayEquals(first.kept(), found.kept());
        }
      }
    }
  }

  @Test
  void movesBudgetToTheRowsThatNeedIt() {
    SolveRequest request = problems.request(8, 48, 100, "0.75", 0.01);
    for (int i = 0; i < 48; i++) {
      request.weights()[i] *= 10; // the first row matters most, and Wanda gives all the same
    }
    LayerSolution wanda = Solvers.byName("wanda").solve(request, SIMD);
    LayerSolution swapped = improved(request, Search.SWAP, SIMD);
    LayerSolution full = improved(request, Search.FULL, SIMD);
    assertEquals(wanda.removed(), full.removed());
    assertTrue(Objects.requireNonNull(full.search()).transfers() > 0);
    assertTrue(count(full.kept(), 48) > count(wanda.kept(), 48));
    assertTrue(error(request, full) < 0.7 * error(request, swapped));
  }

  private static int count(boolean[] kept, int first) {
    int count = 0;
    for (int i = 0; i < first; i++) {
      count += kept[i] ? 1 : 0;
    }
    return count;
  }

  @Test
  void stopsWhenTheTimeIsUp() {
    SolveRequest request = problems.request(40, 60, 100, "0.8", 0.01);
    LayerSolution start = Solvers.byName("wanda").solve(request, SIMD);
    LayerSolution none = MaskSearch.improve(request, start, Search.FULL, 0, 0, SIMD);
    SearchReport report = Objects.requireNonNull(none.search());
    assertEquals(SearchReport.Stopped.TIME_BUDGET, report.stopped());
    assertEquals(0, report.swaps());
    assertArrayEquals(start.kept(), none.kept());

    double last = Double.POSITIVE_INFINITY;
    // Each look at the clock takes a second; the more there are, the more gets done.
    for (double seconds : new double[] {1, 20, 60, 200, 1e9}) {
      AtomicLong time = new AtomicLong();
      LayerSolution found =
          MaskSearch.improve(
              request,
              start,
              Search.FULL,
              seconds,
              0,
              new ScalarBackend(new Workers(1)),
              () -> time.addAndGet(1_000_000_000));
      report = Objects.requireNonNull(found.search());
      assertEquals(
          seconds == 1e9 ? SearchReport.Stopped.CONVERGED : SearchReport.Stopped.TIME_BUDGET,
          report.stopped());
      assertEquals(start.removed(), found.removed());
      checkPattern(request, found, "after " + seconds);
      assertTrue(report.errorAfter() <= last * (1 + 1e-6), "after " + seconds);
      last = report.errorAfter();
    }
  }

  @Test
  void followsAnySolverThatIsAskedTo() {
    SolveRequest request = problems.request(10, 32, 80, "0.75", 0.01);
    SolverOptions options =
        new SolverOptions(Search.FULL, 600, Refit.LEAST_SQUARES, Precision.AUTO, null, 0);
    for (String name : List.of("fast", "obc", "hybrid", "adaprune", "wanda", "magnitude")) {
      Solver solver = Solvers.create(name, options);
      assertEquals(name, solver.name());
      LayerSolution found = solver.solve(request, SIMD);
      LayerSolution plain = Solvers.byName(name).solve(request, SIMD);
      assertEquals(plain.solver() + "+full", found.solver());
      assertTrue(error(request, found) < error(request, plain), name);
      assertEquals(plain.removed(), found.removed());
    }
  }

  @Test
  void goesOnFromTheSwapsOfTheHybrid() {
    SolveRequest request = problems.request(10, 32, 80, "0.75", 0.01);
    SolverOptions options =
        new SolverOptions(Search.FULL, 600, Refit.LEAST_SQUARES, Precision.AUTO, null, 0);
    HybridObcSolver hybrid = new HybridObcSolver(options, new HybridObcSolver.Limits(0, 32));
    LayerSolution swapped = hybrid.solve(request, SIMD);
    SearchReport swaps = Objects.requireNonNull(swapped.search());
    LayerSolution full = new SearchingSolver(hybrid, options).solve(request, SIMD);
    SearchReport both = Objects.requireNonNull(full.search());
    assertEquals("fast+full", full.solver());
    assertTrue(swaps.swaps() > 0 && both.swaps() >= swaps.swaps(), both.toString());
    assertEquals(swaps.errorBefore(), both.errorBefore());
    assertTrue(both.errorAfter() < swaps.errorAfter(), both.toString());
    assertEquals(SearchReport.Stopped.CONVERGED, both.stopped());
  }

  @Test
  void wholeColumnsStayAndAreReported() {
    SolveRequest request = problems.request(6, 24, 60, "columns:0.5:group=3", 0.01);
    SolverOptions options =
        new SolverOptions(Search.SWAP, 600, Refit.LEAST_SQUARES, Precision.AUTO, null, 0);
    LayerSolution plain = Solvers.byName("ziplm").solve(request, SIMD);
    LayerSolution found = Solvers.create("hybrid", options).solve(request, SIMD);
    assertArrayEquals(plain.kept(), found.kept());
    // Both are the best fit to the mask, in double, rounded to float.
    assertArrayEquals(plain.weights(), found.weights(), 1e-6f);
    SearchReport report = Objects.requireNonNull(found.search());
    assertEquals(SearchReport.Stopped.PATTERN_HAS_NO_MOVES, report.stopped());
    for (String name : List.of("ziplm", "gptq")) {
      TacoException e = assertThrows(TacoException.class, () -> Solvers.create(name, options));
      assertEquals(TacoException.Kind.USAGE, e.kind());
    }
  }

  private static LayerSolution improved(SolveRequest request, Search search, Backend backend) {
    LayerSolution start = Solvers.byName("wanda").solve(request, backend);
    return MaskSearch.improve(request, start, search, NO_LIMIT, 0, backend);
  }

  /** A solution that is a mask with its best weights. */
  private static LayerSolution solution(SolveRequest request, boolean[] kept) {
    DampedHessian damped = DampedHessian.of(request, SIMD);
    float[] weights =
        LeastSquaresRefit.refit(request, damped, kept, request.pattern().maskRows(), SIMD);
    return new LayerSolution(weights, kept, damped.damping(), 0, 0, 0, 0, "obc", "simd");
  }

  private static double error(SolveRequest request, LayerSolution solution) {
    return LayerProblems.error(request, solution.weights(), SIMD);
  }
}
