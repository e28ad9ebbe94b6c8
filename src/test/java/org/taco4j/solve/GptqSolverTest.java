package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Objects;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.compute.simd.SimdBackend;

final class GptqSolverTest {
  private static final Workers WORKERS = new Workers(2);
  private static final Backend SIMD = SimdBackend.create(WORKERS);
  private static final Pattern DENSE = Pattern.parse("0");

  private final LayerProblems problems = new LayerProblems(5);

  static List<Backend> backends() {
    return List.of(new ScalarBackend(WORKERS), SIMD, SimdBackend.createWithoutNatives(WORKERS));
  }

  @ParameterizedTest
  @MethodSource("backends")
  void agreesWithTheReference(Backend backend) {
    int compared = 0;
    for (GoldenProblem.Answer answer : GoldenProblem.answersOf("gptq")) {
      compare(answer, backend);
      compared++;
    }
    assertEquals(4 * 5, compared);
  }

  static void compare(GoldenProblem.Answer answer, Backend backend) {
    GoldenProblem problem = answer.problem();
    // "4bit_sym_mse", "4bit_asym", "4bit_asym_actorder"
    String setting = answer.setting();
    Quantization quantization =
        new Quantization(
            setting.charAt(0) - '0',
            setting.contains("_sym"),
            setting.contains("mse"),
            setting.contains("actorder"),
            0);
    LayerSolution solution =
        new GptqSolver(quantization).solve(problem.request(DENSE, 0.01), backend);
    QuantizationGrid grid = solution.grid();
    assertNotNull(grid);
    String what = answer.toString();
    int rowsThatDiffer = 0;
    if (answer.has("scale")) {
      float[] scale = answer.floats("scale");
      for (int row = 0; row < scale.length; row++) {
        // One division, perhaps rounded otherwise.
        assertEquals(scale[row], grid.scale()[row], Math.ulp(scale[row]), what);
      }
      assertArrayEquals(answer.floats("zero"), grid.zero(), what);
      float[] weights = answer.floats("weights");
      for (int row = 0; row < problem.rows(); row++) {
        boolean differs = false;
        for (int col = 0; col < problem.cols(); col++) {
          int i = row * problem.cols() + col;
          // Less than a hundredth of a point.
          differs |= Math.abs(weights[i] - solution.weights()[i]) > 0.01 * grid.scale()[row];
        }
        rowsThatDiffer += differs ? 1 : 0;
      }
    }
    // A weight that lies in the middle between two points to the last bit goes either way, and
    // takes the rest of its row with it; that is one row of one problem.
    assertTrue(rowsThatDiffer <= 1, what + ": rows that differ: " + rowsThatDiffer);
    double expected = answer.error();
    double tolerance = rowsThatDiffer == 0 ? 1e-3 : 1e-2;
    assertEquals(expected, problem.error(solution.weights(), backend), tolerance * expected, what);
  }

  /** The best that a greedy order of single weights does, at 4 bits, symmetric. */
  @Test
  void sweepsBeatTheGreedyOrderOfTheReference() {
    for (GoldenProblem problem : GoldenProblem.all()) {
      double greedy = problem.answers("obq").getFirst().error();
      double[] errors = new double[3];
      int[] sweeps = {0, 1, 20};
      for (int i = 0; i < 3; i++) {
        Solver solver = new GptqSolver(new Quantization(4, true, true, false, sweeps[i]));
        LayerSolution solution = solver.solve(problem.request(DENSE, 0.01), SIMD);
        errors[i] = problem.error(solution.weights(), SIMD);
        checkOnGrid(solution, problem.cols());
      }
      String what = problem.name() + " " + List.of(errors[0], errors[1], errors[2]) + greedy;
      assertTrue(errors[1] < errors[0] && errors[2] < errors[1] && errors[2] < greedy, what);
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void sweepsEndWhereNoWeightGainsByMoving(boolean symmetric) {
    int rows = 5;
    int cols = 40;
    float[] weights = problems.gaussian(rows * cols);
    Hessian hessian = problems.hessian(cols, 60);
    LayerSolution solution =
        new GptqSolver(new Quantization(3, symmetric, false, false, 1000))
            .solve(request(weights, rows, hessian, "0"), SIMD);
    QuantizationGrid grid = solution.grid();
    assertNotNull(grid);
    double shift = hessian.shift(0.01);
    for (int row = 0; row < rows; row++) {
      double best = damped(weights, solution.weights(), row, hessian, shift);
      for (int col = 0; col < cols; col++) {
        for (float code = grid.lowest(row); code <= grid.highest(row); code++) {
          float[] other = solution.weights().clone();
          other[row * cols + col] = code * grid.scale()[row];
          double error = damped(weights, other, row, hessian, shift);
          assertTrue(error >= best * (1 - 1e-9), row + ", " + col + ": " + error + " < " + best);
        }
      }
    }
  }

  private static double damped(
      float[] before, float[] after, int row, Hessian hessian, double shift) {
    int cols = hessian.cols();
    double error = 0;
    for (int i = 0; i < cols; i++) {
      double change = (double) after[row * cols + i] - before[row * cols + i];
      error += shift * change * change;
      for (int j = 0; j < cols; j++) {
        error +=
            change
                * hessian.values().at(i, j)
                * ((double) after[row * cols + j] - before[row * cols + j]);
      }
    }
    return error;
  }

  @Test
  void quantisesAndCompressesKeepingZeros() {
    int rows = 9;
    int cols = 144;
    float[] weights = problems.gaussian(rows * cols);
    Hessian hessian = problems.hessian(cols, 300);
    for (String name : List.of("fast", "magnitude", "wanda", "ziplm")) {
      for (boolean symmetric : new boolean[] {true, false}) {
        Quantization quantization = new Quantization(4, symmetric, symmetric, !symmetric, 3);
        String pattern = name.equals("ziplm") ? "columns:0.5:group=9" : "2:4";
        SolveRequest request = request(weights, rows, hessian, pattern);
        LayerSolution sparse = Solvers.byName(name).solve(request, SIMD);
        LayerSolution solution =
            Solvers.create(name, withQuantization(quantization)).solve(request, SIMD);
        assertArrayEquals(sparse.kept(), solution.kept());
        checkOnGrid(solution, cols);
        assertEquals(name + "+gptq", solution.solver());
        double error = LayerError.relative(weights, solution.weights(), rows, cols, hessian, SIMD);
        double alone = LayerError.relative(weights, sparse.weights(), rows, cols, hessian, SIMD);
        // Rounding costs little beside half of the weights; where the mask's own solver makes up
        // for nothing, the sweep more than pays for it.
        assertTrue(error < 1.5 * alone, name + ": " + error + ", " + alone);
      }
    }
  }

  @Test
  void quantisesAloneWhereNothingIsRemoved() {
    int rows = 70; // exact OBC would take a sample of them
    float[] weights = problems.gaussian(rows * 30);
    Hessian hessian = problems.hessian(30, 60);
    Quantization quantization = new Quantization(4, true, false, true, 1);
    SolveRequest request = request(weights, rows, hessian, "0");
    float[] expected = new GptqSolver(quantization).solve(request, SIMD).weights();
    for (String name : List.of("gptq", "fast", "obc", "hybrid", "adaprune", "magnitude")) {
      LayerSolution solution =
          Solvers.create(name, withQuantization(quantization)).solve(request, SIMD);
      assertArrayEquals(expected, solution.weights(), name);
      assertEquals("gptq", solution.solver());
      assertNull(solution.search());
    }
    for (String name : List.of("fast", "hybrid")) {
      LayerSolution solution =
          Solvers.create(name, options(Search.FULL, quantization)).solve(request, SIMD);
      assertArrayEquals(expected, solution.weights(), name);
      SearchReport search = Objects.requireNonNull(solution.search());
      assertEquals(SearchReport.Stopped.NOTHING_REMOVED, search.stopped());
    }
  }

  private static SolverOptions withQuantization(Quantization quantization) {
    return options(Search.NONE, quantization);
  }

  private static SolverOptions options(Search search, Quantization quantization) {
    SolverOptions defaults = SolverOptions.defaults();
    return new SolverOptions(
        search,
        defaults.timeBudget(),
        defaults.refit(),
        defaults.precision(),
        quantization,
        defaults.seed());
  }

  private static void checkOnGrid(LayerSolution solution, int cols) {
    QuantizationGrid grid = solution.grid();
    assertNotNull(grid);
    for (int i = 0; i < solution.weights().length; i++) {
      int row = i / cols;
      float weight = solution.weights()[i];
      float code = (float) Math.rint(weight / grid.scale()[row]);
      assertEquals(
          Float.floatToRawIntBits(grid.scale()[row] * code + 0f), Float.floatToRawIntBits(weight));
      assertTrue(code >= grid.lowest(row) && code <= grid.highest(row));
      assertTrue(solution.kept()[i] || weight == 0);
    }
  }

  @Test
  void gridsSpanTheWeights() {
    float[] weights = {-1, 0.5f, 2, 3, 4, 5, 0, 0, 0, -1, -2, -3};
    QuantizationGrid plain =
        QuantizationGrid.fit(weights, 4, new Quantization(2, false, false, false, 0), WORKERS);
    // Zero is always among the points: the second row starts at it, the last ends at it.
    assertArrayEquals(new float[] {1, 5f / 3, 2f / 3, 1}, plain.scale());
    assertArrayEquals(new float[] {1, 0, 2, 3}, plain.zero());
    QuantizationGrid symmetric =
        QuantizationGrid.fit(weights, 4, new Quantization(3, true, false, false, 0), WORKERS);
    assertArrayEquals(new float[] {4f / 7, 10f / 7, 2f / 7, 6f / 7}, symmetric.scale());
    assertArrayEquals(new float[] {4, 4, 4, 4}, symmetric.zero());
  }

  @Test
  void searchingTheScaleIgnoresOutliers() {
    float[] weights = problems.gaussian(256);
    weights[7] = 8;
    double[] errors = new double[2];
    for (boolean search : new boolean[] {false, true}) {
      QuantizationGrid grid =
          QuantizationGrid.fit(weights, 1, new Quantization(4, true, search, false, 0), WORKERS);
      for (float weight : weights) {
        errors[search ? 1 : 0] += Math.pow(Math.abs(grid.nearest(0, weight) - weight), 2.4);
      }
    }
    assertTrue(errors[1] < 0.9 * errors[0], errors[1] + ", " + errors[0]);
  }

  @Test
  void givesTheSameBytesAtAnyNumberOfThreads() {
    float[] weights = problems.gaussian(67 * 200);
    SolveRequest request = request(weights, 67, problems.hessian(200, 300), "0");
    LayerSolution first = null;
    for (int threads = 1; threads <= 3; threads++) {
      try (Workers workers = new Workers(threads)) {
        LayerSolution solution =
            new GptqSolver(new Quantization(4, true, true, true, 2))
                .solve(request, SimdBackend.create(workers));
        first = first == null ? solution : first;
        assertArrayEquals(first.weights(), solution.weights());
      }
    }
  }

  @Test
  void saysWhatItCannotDo() {
    SolveRequest sparse = request(problems.gaussian(40), 2, problems.hessian(20, 30), "0.5");
    Quantization quantization = new Quantization(4, true, false, false, 0);
    TacoException e =
        assertThrows(TacoException.class, () -> new GptqSolver(quantization).solve(sparse, SIMD));
    assertEquals(TacoException.Kind.USAGE, e.kind());
    SolveRequest dense = request(problems.gaussian(40), 2, problems.hessian(20, 30), "0");
    e = assertThrows(TacoException.class, () -> Solvers.byName("gptq").solve(dense, SIMD));
    assertEquals(TacoException.Kind.USAGE, e.kind());
    assertTrue(e.getMessage().contains("--bits"), e.getMessage());
  }

  private static SolveRequest request(float[] weights, int rows, Hessian hessian, String pattern) {
    return LayerProblems.request(weights, rows, hessian, Pattern.parse(pattern), 0.01);
  }
}
