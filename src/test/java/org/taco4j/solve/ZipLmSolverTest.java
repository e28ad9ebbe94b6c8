package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.compute.simd.SimdBackend;

final class ZipLmSolverTest {
  private static final Workers WORKERS = new Workers(2);
  private static final Backend SIMD = SimdBackend.create(WORKERS);

  private final LayerProblems problems = new LayerProblems(3);

  static List<Backend> backends() {
    return List.of(new ScalarBackend(WORKERS), SIMD, SimdBackend.createWithoutNatives(WORKERS));
  }

  @ParameterizedTest
  @MethodSource("backends")
  void agreesWithTheReference(Backend backend) {
    int compared = 0;
    for (GoldenProblem.Answer answer : GoldenProblem.answersOf("ziplm")) {
      compared++;
      // "cols9_s0.25"
      String[] setting = answer.setting().split("_s");
      Pattern pattern =
          Pattern.parse("columns:" + setting[1] + ":group=" + setting[0].substring(4));
      LayerSolution solution =
          new ZipLmSolver().solve(answer.problem().request(pattern, 0.01), backend);
      double error = answer.problem().error(solution.weights(), backend);
      if (pattern.groupSize() > 1) {
        // After its first group the reference's weights are not the minimum for its own mask:
        // fitting that mask exactly gives 0.0365 where it has 0.0371. So it is not what to meet,
        // but to beat.
        assertTrue(error < answer.error(), answer + ": " + error);
        continue;
      }
      // The reference is float32 (golden README: 1e-3).
      assertEquals(answer.error(), error, 1e-3 * answer.error(), answer.toString());
      int weights = solution.weights().length;
      int same = answer.equalEntries(solution.kept());
      assertTrue(same > 0.995 * weights, answer + ": equal mask entries: " + same);
      if (same == weights) {
        // Weights of about 1, the reference updated in float32 up to a hundred times through
        // inverses with a condition number of about 1e4.
        assertArrayEquals(answer.floats("weights"), solution.weights(), 2e-3f, answer.toString());
      }
    }
    assertEquals(4 * 3 + 3, compared);
  }

  /**
   * The textbook: all of W and of the inverse updated at each step, costs from their definition.
   */
  @ParameterizedTest
  @MethodSource("backends")
  void removesWhatTheDefinitionRemoves(Backend backend) {
    // Sizes beyond one task and one compaction, groups that do not divide either.
    int[][] shapes = {{1, 1, 2}, {3, 1, 17}, {7, 3, 40}, {9, 5, 30}, {20, 1, 300}, {2, 130, 3}};
    for (int[] shape : shapes) {
      int group = shape[1];
      int groups = shape[2];
      int cols = group * groups;
      float[] weights = problems.gaussian(shape[0] * cols);
      Hessian hessian = problems.hessian(cols, cols / 2 + 1);
      SolveRequest request = request(weights, shape[0], hessian, new Pattern.Columns(0, group));
      int[] order = textbookOrder(request, group, groups - 1);
      for (int count = 1; count < groups; count += 1 + groups / 10) {
        Pattern.Columns pattern = new Pattern.Columns((double) count / groups, group);
        assertEquals(count, pattern.removed(groups));
        LayerSolution solution =
            new ZipLmSolver().solve(request(weights, shape[0], hessian, pattern), backend);
        int[] removed =
            IntStream.range(0, groups).filter(g -> !solution.kept()[g * group]).toArray();
        int[] expected = Arrays.stream(order, 0, count).sorted().toArray();
        assertArrayEquals(expected, removed, Arrays.toString(shape) + ", " + count);
      }
    }
  }

  private static int[] textbookOrder(SolveRequest request, int group, int count) {
    int cols = request.cols();
    double[] w = new double[request.weights().length];
    for (int i = 0; i < w.length; i++) {
      w[i] = request.weights()[i];
    }
    DoubleMatrix q = DampedHessian.of(request, new ScalarBackend(new Workers(1))).inverse();
    int[] order = new int[count];
    List<Integer> left = new ArrayList<>();
    for (int g = 0; g < cols / group; g++) {
      left.add(g);
    }
    for (int step = 0; step < count; step++) {
      int best = -1;
      double least = Double.POSITIVE_INFINITY;
      for (int g : left) {
        double cost = 0;
        for (int row = 0; row < request.rows(); row++) {
          double[] error = solve(q, g * group, group, w, row * cols);
          for (int i = 0; i < group; i++) {
            cost += error[i] * w[row * cols + g * group + i];
          }
        }
        if (cost < least) {
          least = cost;
          best = g;
        }
      }
      order[step] = best;
      left.remove((Integer) best);
      int at = best * group;
      for (int row = 0; row < request.rows(); row++) {
        double[] error = solve(q, at, group, w, row * cols);
        for (int col = 0; col < cols; col++) {
          for (int i = 0; i < group; i++) {
            w[row * cols + col] -= error[i] * q.at(at + i, col);
          }
        }
      }
      double[] before = q.data().clone();
      for (int row = 0; row < cols; row++) {
        double[] error = solve(DoubleMatrix.of(before, cols, cols), at, group, before, row * cols);
        for (int col = 0; col < cols; col++) {
          for (int i = 0; i < group; i++) {
            q.data()[row * cols + col] -= error[i] * before[(at + i) * cols + col];
          }
        }
      }
    }
    return order;
  }

  /** The columns at .. at + group of a row, times the inverse of that block of Q. */
  private static double[] solve(DoubleMatrix q, int at, int group, double[] values, int row) {
    double[] block = new double[group * group];
    for (int i = 0; i < group; i++) {
      for (int j = 0; j < group; j++) {
        block[i * group + j] = q.at(at + i, at + j);
      }
    }
    double[] x = Arrays.copyOfRange(values, row + at, row + at + group);
    assertEquals(
        -1,
        new ScalarBackend(new Workers(1))
            .solvePositiveDefinite(
                DoubleMatrix.of(block, group, group), DoubleMatrix.of(x, group, 1)));
    return x;
  }

  @Test
  void fitsWhatIsKeptExactly() {
    float[] weights = problems.gaussian(6 * 60);
    Hessian hessian = problems.hessian(60, 200);
    SolveRequest request = request(weights, 6, hessian, new Pattern.Columns(0.5, 3));
    float[] solved = new ZipLmSolver().solve(request, SIMD).weights();
    double shift = hessian.shift(0.01);
    for (int row = 0; row < 6; row++) {
      for (int col = 0; col < 60; col++) {
        if (solved[row * 60 + col] != 0) {
          double gradient = shift * (solved[row * 60 + col] - weights[row * 60 + col]);
          for (int i = 0; i < 60; i++) {
            gradient +=
                hessian.values().at(col, i) * (solved[row * 60 + i] - weights[row * 60 + i]);
          }
          // 60 products of about 1, with weights rounded to float.
          assertEquals(0, gradient, 60 * 1e-7 * 20);
        }
      }
    }
  }

  @Test
  void removesExactlyWhatIsAsked() {
    float[] weights = problems.gaussian(5 * 36);
    for (int samples : new int[] {1, 100}) {
      Hessian hessian = problems.hessian(36, samples);
      for (int group : new int[] {1, 4, 9, 36}) {
        for (double sparsity : new double[] {0, 0.3, 0.5, 0.99}) {
          Pattern.Columns pattern = new Pattern.Columns(sparsity, group);
          LayerSolution solution =
              new ZipLmSolver().solve(request(weights, 5, hessian, pattern), SIMD);
          int removed = pattern.removed(36 / group);
          assertEquals(5L * group * removed, solution.removed());
          for (int i = 0; i < weights.length; i++) {
            assertTrue(Float.isFinite(solution.weights()[i]));
            assertEquals(solution.kept()[i % 36 / group * group], solution.kept()[i]);
            assertTrue(solution.kept()[i] || Float.floatToRawIntBits(solution.weights()[i]) == 0);
          }
          if (removed == 0) {
            assertArrayEquals(weights, solution.weights());
          }
        }
      }
    }
  }

  @Test
  void removesDeadColumnsFirst() {
    // Column 2 is dead; the others are worth much more than the damping.
    double[] h = new double[16];
    for (int i : new int[] {0, 1, 3}) {
      for (int j : new int[] {0, 1, 3}) {
        h[i * 4 + j] = i == j ? 1 : 0.5;
      }
    }
    Hessian hessian = new Hessian(DoubleMatrix.of(h, 4, 4), 10);
    float[] weights = {3, 2, 4, 5, -4, 6, 5, 3};
    LayerSolution solution =
        new ZipLmSolver().solve(request(weights, 2, hessian, Pattern.parse("columns:0.25")), SIMD);
    assertEquals(1, solution.deadColumns());
    // Nothing is correlated with it, so that nothing else changes.
    assertArrayEquals(new float[] {3, 2, 0, 5, -4, 6, 0, 3}, solution.weights());
  }

  @Test
  void copesWithDeadColumnsWithAndWithoutDamping() {
    float[] weights = problems.gaussian(3 * 12);
    for (int dead : new int[] {5, 12}) {
      Hessian hessian = problems.hessian(12, 40, dead);
      for (double damping : new double[] {0, 0.01}) {
        SolveRequest request =
            LayerProblems.request(weights, 3, hessian, Pattern.parse("columns:0.25"), damping);
        LayerSolution solution = new ZipLmSolver().solve(request, SIMD);
        assertEquals(dead, solution.deadColumns());
        assertEquals(0, solution.dampingEscalations());
        assertEquals(3 * 3, solution.removed());
        for (int i = 0; i < weights.length; i++) {
          boolean kept = solution.kept()[i];
          assertTrue(kept || i % 12 < dead, "dead columns go first");
          // They say nothing about the others, so that these stay.
          assertEquals(kept ? weights[i] : 0, solution.weights()[i]);
        }
      }
    }
  }

  @Test
  void goesByTheNaturalOrderWhateverTheRequests() {
    SolveRequest natural = problems.request(4, 18, 60, "columns:0.5:group=3", 0.01);
    SolveRequest shuffled =
        new SolveRequest(
            "layer",
            natural.weights(),
            4,
            18,
            natural.hessian(),
            problems.shuffled(18),
            natural.pattern(),
            0.01);
    assertArrayEquals(
        new ZipLmSolver().solve(natural, SIMD).weights(),
        new ZipLmSolver().solve(shuffled, SIMD).weights());
  }

  @Test
  void givesTheSameBytesAtAnyNumberOfThreads() {
    float[] weights = problems.gaussian(7 * 600);
    SolveRequest request =
        request(weights, 7, problems.hessian(600, 700), Pattern.parse("columns:0.4"));
    LayerSolution first = null;
    for (int threads = 1; threads <= 3; threads++) {
      try (Workers workers = new Workers(threads)) {
        LayerSolution solution = new ZipLmSolver().solve(request, SimdBackend.create(workers));
        first = first == null ? solution : first;
        assertArrayEquals(first.weights(), solution.weights());
      }
    }
  }

  @Test
  void raisesTheDampingOrRefuses() {
    float[] weights = problems.gaussian(2 * 30);
    SolveRequest singular =
        LayerProblems.request(weights, 2, problems.hessian(30, 5), Pattern.parse("columns:0.5"), 0);
    LayerSolution solution = new ZipLmSolver().solve(singular, SIMD);
    assertTrue(solution.dampingEscalations() > 0 && solution.damping() > 0);
    double[] nan = new double[900];
    Arrays.fill(nan, Double.NaN);
    Hessian broken = new Hessian(DoubleMatrix.of(nan, 30, 30), 5);
    TacoException e =
        assertThrows(
            TacoException.class,
            () ->
                new ZipLmSolver()
                    .solve(request(weights, 2, broken, Pattern.parse("columns:0.5")), SIMD));
    assertEquals(TacoException.Kind.NUMERICAL, e.kind());
    TacoException pattern =
        assertThrows(
            TacoException.class,
            () -> new ZipLmSolver().solve(request(weights, 2, broken, Pattern.parse("0.5")), SIMD));
    assertEquals(TacoException.Kind.USAGE, pattern.kind());
  }

  private static SolveRequest request(float[] weights, int rows, Hessian hessian, Pattern pattern) {
    return LayerProblems.request(weights, rows, hessian, pattern, 0.01);
  }
}
