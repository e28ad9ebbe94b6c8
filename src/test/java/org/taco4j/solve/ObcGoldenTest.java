package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.compute.simd.SimdBackend;

/** Exact OBC against the answers of its authors' code, in both precisions, on every backend. */
final class ObcGoldenTest {
  record Setup(Backend backend, Precision precision) {
    boolean fast() {
      return backend instanceof SimdBackend;
    }

    /** The scalar twin is for a few of the settings. */
    boolean includes(String setting) {
      return fast() || List.of("s0.8_damp0.01", "2:4", "block4_s0.5").contains(setting);
    }

    @Override
    public String toString() {
      return backend.description() + ", " + precision;
    }
  }

  static List<Setup> setups() {
    Workers workers = new Workers(2);
    Backend scalar = new ScalarBackend(workers);
    Backend simd = SimdBackend.create(workers);
    return List.of(
        new Setup(scalar, Precision.AUTO),
        new Setup(simd, Precision.FLOAT64),
        new Setup(simd, Precision.FLOAT32),
        new Setup(SimdBackend.createWithoutNatives(workers), Precision.AUTO));
  }

  @ParameterizedTest
  @MethodSource("setups")
  void agreesWithTheReference(Setup setup) {
    int compared = 0;
    for (GoldenProblem.Answer answer : GoldenProblem.answersOf("obc")) {
      if (setup.includes(answer.setting())) {
        compare(answer, setup);
        compared++;
      }
    }
    // 4 cases: 4 sparsities with two dampings (of the singular case only one), 2:4, 3 of blocks.
    assertEquals(setup.fast() ? 4 * 12 - 4 : 4 * 3, compared);
  }

  static void compare(GoldenProblem.Answer answer, Setup setup) {
    GoldenProblem problem = answer.problem();
    String name = problem.name();
    String setting = answer.setting();
    boolean singular = name.contains("few");
    double damping = setting.endsWith("damp0.01") || singular ? 0.01 : 0;
    Pattern pattern =
        Pattern.parse(setting.replaceAll("^s|_damp.*", "").replaceAll("block4_s", "block4:"));
    SolveRequest request = problem.requestByChannels(pattern, damping);
    LayerSolution solution = new ObcSolver(setup.precision).solve(request, setup.backend);
    String what = answer + " on " + setup;

    assertEquals(0, solution.dampingEscalations(), what);
    int weights = solution.weights().length;
    if (!(pattern instanceof Pattern.NM)) {
      int group = pattern.groupSize();
      assertEquals(
          group * Pattern.portion(weights / group, pattern.sparsity()), solution.removed(), what);
    }
    double error = problem.error(solution.weights(), setup.backend);
    // The README's 1e-3. In the singular case one row of 24 takes another way than the reference's
    // float32 at a near tie (5e-6 apart), which is worth up to 1.4 % of the error.
    assertEquals(answer.error(), error, (singular ? 2e-2 : 1e-3) * answer.error(), what);

    // Dead columns of kept blocks are 0 as well, where there is no damping.
    boolean[] nonZero = new boolean[weights];
    for (int i = 0; i < weights; i++) {
      nonZero[i] = solution.weights()[i] != 0;
    }
    int same = answer.equalEntries(nonZero);
    boolean wellDetermined = name.contains("conv32") || name.contains("lin48");
    boolean exact = wellDetermined && pattern instanceof Pattern.Unstructured;
    double enough = exact ? 1 : singular ? 0.99 : 0.995;
    assertTrue(same >= enough * weights, what + ": equal mask entries: " + same);
    if (same == weights) {
      // The reference rounds its inverse to float at each step; relative to weights of up to 1.
      assertArrayEquals(answer.floats("weights"), solution.weights(), 2e-3f, what);
    }
  }

  @ParameterizedTest
  @MethodSource("setups")
  void eliminatesInTheOrderOfTheReference(Setup setup) {
    for (String name : List.of("dev_conv32x144", "dev_lin48x96")) {
      GoldenProblem problem = GoldenProblem.named(name);
      int cols = problem.cols();
      SolveRequest request = problem.request(new Pattern.Unstructured(0.5), 0.01);
      ObcTrace trace = new ObcSolver(setup.precision).trace(request, setup.backend);
      int[] order = problem.ownFile("obc_order_damp0.01").ints();
      float[] losses = problem.ownFile("obc_losses_damp0.01").floats();
      for (int row = 0; row < problem.rows(); row++) {
        String what = "%s row %d on %s".formatted(name, row, setup);
        assertArrayEquals(
            Arrays.copyOfRange(order, row * cols, (row + 1) * cols), trace.order()[row], what);
        for (int step = 0; step < cols; step++) {
          float expected = losses[row * (cols + 1) + step + 1];
          // Float on the reference's side, of differences that grow smaller than the terms.
          assertEquals(expected, trace.losses()[row][step], 1e-3 * expected + 1e-7, what);
        }
      }
    }
  }
}
