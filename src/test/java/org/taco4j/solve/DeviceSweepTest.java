package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.cuda.CudaBackend;
import org.taco4j.compute.cuda.FakeCuda;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.compute.simd.SimdBackend;

/** FastOBC and GPTQ on a device, which here is a fake one, against the reference and the host. */
final class DeviceSweepTest {
  private static final Workers WORKERS = new Workers(2);

  private final LayerProblems problems = new LayerProblems(7);
  private FakeCuda fake;
  private Backend cuda;

  @BeforeEach
  void open() {
    fake = FakeCuda.load();
    cuda = CudaBackend.open(SimdBackend.create(WORKERS), 0);
  }

  @AfterEach
  void nothingLeaks() {
    if (cuda != null) {
      cuda.close();
      fake.close();
    }
  }

  @Test
  void fastAgreesWithTheReference() {
    List<GoldenProblem.Answer> answers = GoldenProblem.answersOf("sparsegpt");
    answers.forEach(answer -> GoldenSolverTest.compare(answer, "fast", cuda));
    assertEquals(4 * 4, answers.size());
  }

  @Test
  void gptqAgreesWithTheReference() {
    List<GoldenProblem.Answer> answers = GoldenProblem.answersOf("gptq");
    answers.forEach(answer -> GptqSolverTest.compare(answer, cuda));
    assertEquals(4 * 5, answers.size());
  }

  @Test
  void choosesAsTheHost() {
    // Blocks that do not divide the columns, several, one; groups that fill 128 columns or do not.
    check(problems.request(33, 300, 700, "0.7", 0.01));
    check(problems.request(1, 129, 300, "0.5", 0.01));
    check(problems.request(17, 1, 9, "0.5", 0.01));
    check(problems.request(3, 256, 600, "0.01", 0.01));
    check(problems.request(65, 260, 600, "block4:0.8", 0.01));
    check(problems.request(5, 150, 400, "block50:0.5", 0.01));
    check(problems.request(9, 300, 700, "1:3", 0.01));
    check(problems.request(33, 192, 500, "2:4", 0.01));
    check(problems.request(9, 192, 500, "32:64", 0.01));
    check(problems.request(5, 200, 500, "30:100", 0.01));
  }

  private void check(SolveRequest natural) {
    SolveRequest request =
        new SolveRequest(
            natural.layer(),
            natural.weights(),
            natural.rows(),
            natural.cols(),
            natural.hessian(),
            problems.shuffled(natural.cols()),
            natural.pattern(),
            natural.damping());
    Backend scalar = new ScalarBackend(WORKERS);
    LayerSolution expected = new FastObcSolver().solve(request, scalar);
    LayerSolution actual = new FastObcSolver().solve(request, cuda);
    String what = "[%d, %d] %s".formatted(request.rows(), request.cols(), request.pattern());
    assertEquals("cuda", actual.backend(), what);
    assertEquals(expected.removed(), actual.removed(), what);
    assertEquals(expected.damping(), actual.damping(), what);
    assertEquals(expected.gflop(), actual.gflop(), what);
    // Gaussian weights have no near ties among so few.
    assertArrayEquals(expected.kept(), actual.kept(), what);
    // Weights are of the order of 1, rounded in float through a factor of H with a condition number
    // of about 1e4.
    assertArrayEquals(expected.weights(), actual.weights(), 1e-3f, what);
    for (int i = 0; i < actual.weights().length; i++) {
      if (!actual.kept()[i]) {
        assertEquals(0, Float.floatToRawIntBits(actual.weights()[i]), what);
      }
    }
  }

  @Test
  void removesDeadColumnsFirst() {
    float[] weights = problems.gaussian(31 * 140);
    Hessian hessian = problems.hessian(140, 300, 9);
    for (String pattern : List.of("0.5", "0.03", "2:4")) {
      SolveRequest request =
          LayerProblems.request(weights, 31, hessian, Pattern.parse(pattern), 0.01);
      LayerSolution expected = new FastObcSolver().solve(request, new ScalarBackend(WORKERS));
      LayerSolution actual = new FastObcSolver().solve(request, cuda);
      assertEquals(9, actual.deadColumns());
      // Ties by the hundred, at 0.
      assertArrayEquals(expected.kept(), actual.kept(), pattern);
      assertArrayEquals(expected.weights(), actual.weights(), 1e-3f, pattern);
    }
  }

  @Test
  void roundsAsTheHost() {
    SolveRequest request = problems.request(33, 300, 700, "0", 0.01);
    boolean[] mask = new boolean[33 * 300];
    for (int i = 0; i < mask.length; i++) {
      mask[i] = i % 3 != 0;
    }
    Backend scalar = new ScalarBackend(WORKERS);
    for (boolean actOrder : new boolean[] {false, true}) {
      Quantization quantization = new Quantization(4, false, false, actOrder, 0);
      QuantizationGrid grid = QuantizationGrid.fit(request.weights(), 33, quantization, WORKERS);
      for (boolean[] kept : new boolean[][] {null, mask}) {
        ColumnSweep.Result expected = GptqSolver.sweep(request, grid, kept, quantization, scalar);
        ColumnSweep.Result actual = GptqSolver.sweep(request, grid, kept, quantization, cuda);
        assertArrayEquals(expected.kept(), actual.kept());
        int differing = 0;
        for (int row = 0; row < 33; row++) {
          boolean same = true;
          for (int i = row * 300; i < (row + 1) * 300; i++) {
            float weight = actual.weights()[i];
            assertEquals(grid.nearest(row, weight), weight);
            assertTrue(weight == 0 || actual.kept()[i]);
            same &= weight == expected.weights()[i];
          }
          differing += same ? 0 : 1;
        }
        // A weight in the middle between two points to rounding goes either way, and takes the rest
        // of its row with it.
        assertTrue(differing <= 2, differing + " rows differ");
      }
    }
  }

  @Test
  void raisesTheDampingAsTheHost() {
    // Fewer samples than columns: H has rank 40 of 150.
    SolveRequest request = problems.request(8, 150, 40, "0.5", 0);
    LayerSolution expected = new FastObcSolver().solve(request, SimdBackend.create(WORKERS));
    LayerSolution actual = new FastObcSolver().solve(request, cuda);
    // Which power of ten is enough hangs on the rounding of either factorisation.
    assertTrue(actual.dampingEscalations() > 0);
    assertEquals(expected.dampingEscalations(), actual.dampingEscalations(), 1);
    assertEquals(Math.pow(10, actual.dampingEscalations() - 9), actual.damping(), 1e-12);
  }

  @Test
  void refusesHessiansThatAreNone() {
    for (double value : new double[] {Double.NaN, Double.NEGATIVE_INFINITY, -1e9}) {
      Hessian hessian = problems.hessian(5, 20);
      double[] values = hessian.values().data();
      values[1 * 5 + 3] = value;
      values[3 * 5 + 1] = value;
      SolveRequest request =
          LayerProblems.request(new float[10], 2, hessian, Pattern.parse("0.5"), 0.01);
      TacoException expected =
          assertThrows(
              TacoException.class,
              () -> new FastObcSolver().solve(request, new ScalarBackend(WORKERS)));
      TacoException actual =
          assertThrows(TacoException.class, () -> new FastObcSolver().solve(request, cuda));
      assertEquals(expected.getMessage(), actual.getMessage());
    }
  }

  @Test
  void leavesGroupsThatAreTooWideToTheHost() {
    SolveRequest request = problems.request(3, 258, 600, "60:129", 0.01);
    LayerSolution solution = new FastObcSolver().solve(request, cuda);
    assertEquals("simd", solution.backend());
    assertEquals(3 * 2 * 69, solution.removed());
  }

  @Test
  void bytesAreTheSameInEveryOrderOfThreads() {
    SolveRequest request = problems.request(40, 200, 500, "0.6", 0.01);
    LayerSolution first = new FastObcSolver().solve(request, cuda);
    for (String order : List.of("backward", "shuffle:1")) {
      fake.order(order);
      LayerSolution other = new FastObcSolver().solve(request, cuda);
      assertTrue(Arrays.equals(first.weights(), other.weights()), order);
      assertArrayEquals(first.kept(), other.kept(), order);
    }
  }
}
