package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.simd.SimdBackend;

/** Exact OBC beyond the golden cases, and the refit on its own. */
final class ObcSolverTest {
  private static final Backend SIMD = SimdBackend.create(new Workers(2));

  private final Random random = new Random(3);
  private final LayerProblems problems = new LayerProblems(3);

  @Test
  void rowBlocksShareTheirMask() {
    int rows = 10; // the last set has two rows
    int cols = 60;
    SolveRequest request = problems.request(rows, cols, 120, "rows4:0.7", 0.01);
    LayerSolution solution = new ObcSolver(Precision.AUTO).solve(request, SIMD);
    int blocks = 0;
    for (int row = 0; row < rows; row++) {
      for (int col = 0; col < cols; col++) {
        boolean kept = solution.kept()[row * cols + col];
        assertEquals(solution.kept()[row / 4 * 4 * cols + col], kept);
        assertEquals(kept, solution.weights()[row * cols + col] != 0);
        blocks += !kept && row % 4 == 0 ? 1 : 0;
      }
    }
    assertEquals(Pattern.portion(3 * cols, 0.7), blocks);
    double shared = error(request, solution.weights());
    double free = error(request, "0.7");
    assertTrue(free < shared && shared < 1, free + ", " + shared);
  }

  @Test
  void oneTraceServesEverySparsity() {
    SolveRequest request = problems.request(9, 70, 200, "0.5", 0.01);
    ObcTrace trace = new ObcSolver(Precision.AUTO).trace(request, SIMD);
    for (double sparsity : new double[] {0, 0.3, 0.9}) {
      int[] counts = trace.allocate(Pattern.portion(9 * 70, sparsity));
      LayerSolution solution =
          new ObcSolver(Precision.AUTO)
              .solve(LayerProblems.with(request, "" + sparsity, 0.01), SIMD);
      for (int row = 0; row < 9; row++) {
        boolean[] kept = Arrays.copyOfRange(solution.kept(), row * 70, (row + 1) * 70);
        for (int step = 0; step < 70; step++) {
          assertEquals(step >= counts[row], kept[trace.order()[row][step]]);
        }
      }
    }
  }

  @Test
  void rowsThatStopEarlyGiveTheAnswerOfTheFullTrace() {
    // Enough rows for a sample; one in eight, those of the sample, much smaller than the others.
    int rows = 80;
    int cols = 50;
    for (float factor : new float[] {1, 1e-3f}) {
      SolveRequest request = problems.request(rows, cols, 100, "0.6", 0.01);
      for (int row = 0; row < rows; row += 8) {
        for (int col = 0; col < cols; col++) {
          request.weights()[row * cols + col] *= factor;
        }
      }
      int[] expected =
          new ObcSolver(Precision.AUTO)
              .trace(request, SIMD)
              .allocate(Pattern.portion((long) rows * cols, 0.6));
      LayerSolution solution = new ObcSolver(Precision.AUTO).solve(request, SIMD);
      for (int row = 0; row < rows; row++) {
        int removed = 0;
        for (int col = 0; col < cols; col++) {
          removed += solution.kept()[row * cols + col] ? 0 : 1;
        }
        assertEquals(expected[row], removed, "row " + row);
      }
    }
  }

  @Test
  void refitsToTheNormalEquations() {
    int rows = 7;
    int cols = 90;
    SolveRequest request = problems.request(rows, cols, 60, "0.5", 0.01);
    DampedHessian hessian = DampedHessian.of(request, SIMD);
    for (double sparsity : new double[] {0, 0.2, 0.8, 1}) {
      boolean[] kept = new boolean[rows * cols];
      for (int i = 0; i < kept.length; i++) {
        kept[i] = random.nextDouble() >= sparsity;
      }
      float[] refitted = LeastSquaresRefit.refit(request, hessian, kept, 1, SIMD);
      for (int row = 0; row < rows; row++) {
        for (int col = 0; col < cols; col++) {
          if (!kept[row * cols + col]) {
            assertEquals(0, Float.floatToRawIntBits(refitted[row * cols + col]));
            continue;
          }
          // The gradient (Ŵ − W) H̃ is 0 in every kept column; weights are rounded to float.
          double gradient = 0;
          double magnitude = 0;
          for (int j = 0; j < cols; j++) {
            int at = row * cols + j;
            gradient += (refitted[at] - request.weights()[at]) * hessian.at(j, col);
            magnitude +=
                (Math.abs(refitted[at]) + Math.abs(request.weights()[at]))
                    * Math.abs(hessian.at(j, col));
          }
          assertEquals(0, gradient, 4 * Math.ulp(1f) * magnitude);
        }
      }
      if (sparsity == 0) {
        assertArrayEquals(request.weights(), refitted);
      }
    }
  }

  @Test
  void worksOnOneSampleAndRaisesTheDamping() {
    for (double damping : new double[] {0, 0.01}) {
      SolveRequest request = problems.request(4, 30, 1, "0.5", damping);
      for (Precision precision : List.of(Precision.AUTO, Precision.FLOAT64)) {
        LayerSolution solution = new ObcSolver(precision).solve(request, SIMD);
        assertEquals(60, solution.removed());
        assertEquals(damping == 0, solution.dampingEscalations() > 0);
        // A single sample is fitted by any one weight.
        assertTrue(error(request, solution.weights()) < 1e-2);
      }
    }
  }

  @Test
  void rowsInWhichFloat32BreaksDownAreCounted() {
    // As many columns as AUTO takes to float32, all of the same energy, of which the damping
    // leaves 1.5e-7 unexplained: as little as the float epsilon that the inverse is rounded to.
    int cols = 1001;
    double[] gram = new double[cols * cols];
    for (int sample = 0; sample < 20; sample++) {
      int[] x = random.ints(cols, 0, 2).map(bit -> 2 * bit - 1).toArray();
      for (int i = 0; i < cols; i++) {
        for (int j = 0; j < cols; j++) {
          gram[i * cols + j] += x[i] * x[j];
        }
      }
    }
    SolveRequest request =
        LayerProblems.request(
            problems.gaussian(3 * cols),
            3,
            Hessian.ofGram(gram, cols, 20),
            Pattern.parse("0.5"),
            1.5e-7);
    LayerSolution wide = new ObcSolver(Precision.FLOAT64).solve(request, SIMD);
    assertEquals(0, wide.dampingEscalations());
    assertEquals(0, wide.repeatedRows());
    LayerSolution automatic = new ObcSolver(Precision.AUTO).solve(request, SIMD);
    int repeated = automatic.repeatedRows();
    assertTrue(repeated > 0 && repeated <= 3, "rows: " + repeated);
    assertEquals(wide.removed(), automatic.removed());
    SolverOptions options =
        new SolverOptions(
            Search.SWAP,
            600,
            Refit.LEAST_SQUARES,
            Precision.AUTO,
            new Quantization(8, true, false, false, 0),
            0);
    assertEquals(repeated, Solvers.create("hybrid", options).solve(request, SIMD).repeatedRows());
    TacoException e =
        assertThrows(
            TacoException.class, () -> new ObcSolver(Precision.FLOAT32).solve(request, SIMD));
    assertEquals(TacoException.Kind.NUMERICAL, e.kind());
    assertTrue(e.getMessage().contains("--precision float64"), e.getMessage());
  }

  private static double error(SolveRequest request, String pattern) {
    SolveRequest other = LayerProblems.with(request, pattern, request.damping());
    return error(other, new ObcSolver(Precision.AUTO).solve(other, SIMD).weights());
  }

  private static double error(SolveRequest request, float[] weights) {
    return LayerProblems.error(request, weights, SIMD);
  }
}
