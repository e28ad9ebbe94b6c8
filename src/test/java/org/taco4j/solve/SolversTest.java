package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.compute.simd.SimdBackend;

/** What holds for every solver, and the corners of each. */
final class SolversTest {
  private static final Workers WORKERS = new Workers(2);
  private static final Backend SIMD = SimdBackend.create(WORKERS);
  private static final List<Backend> FAST_BACKENDS =
      List.of(SIMD, SimdBackend.createWithoutNatives(WORKERS));
  private static final List<Backend> BACKENDS =
      List.of(new ScalarBackend(WORKERS), FAST_BACKENDS.getFirst(), FAST_BACKENDS.getLast());

  private final Random random = new Random(7);
  private final LayerProblems problems = new LayerProblems(7);

  @Test
  void areFoundByName() {
    assertEquals(
        List.of("fast", "obc", "hybrid", "adaprune", "ziplm", "gptq", "wanda", "magnitude"),
        Solvers.names());
    for (String name : Solvers.names()) {
      assertEquals(name, Solvers.byName(name).name());
    }
    TacoException e = assertThrows(TacoException.class, () -> Solvers.byName("obd"));
    assertEquals(TacoException.Kind.USAGE, e.kind());
    assertTrue(e.getMessage().contains("obd") && e.getMessage().contains("wanda"), e.getMessage());
  }

  @ParameterizedTest
  @ValueSource(strings = {"magnitude", "wanda", "adaprune", "fast", "obc"})
  void removeExactlyTheNumberAskedFor(String solver) {
    // Less and more than a block of columns; with three blocks the scalar twin takes long.
    int[][] shapes = {{1, 1}, {1, 17}, {3, 127}, {17, 128}, {7, 129}, {10, 10}};
    for (int[] shape : shapes) {
      checkUnstructured(solver, request(shape), BACKENDS, 0, 0.1, 0.3, 0.5, 0.58, 0.7, 0.9, 0.999);
    }
    checkUnstructured(solver, request(5, 300), FAST_BACKENDS, 0.1, 0.58, 0.999);
    checkUnstructured(solver, request(33, 260), FAST_BACKENDS, 0.58);
    for (int[] shape : new int[][] {{1, 4}, {3, 128}, {7, 132}}) {
      checkGrouped(solver, request(shape), BACKENDS, 0, 0.3, 0.58, 0.9);
    }
    checkGrouped(solver, request(33, 260), FAST_BACKENDS, 0.58);
    // A group beyond 128 columns.
    checkCount(solver, request(5, 320), "80:160", 5 * 160, FAST_BACKENDS);
  }

  /** A problem with its columns in any order. */
  private SolveRequest request(int... shape) {
    int cols = shape[1];
    return new SolveRequest(
        "layer",
        problems.gaussian(shape[0] * cols),
        shape[0],
        cols,
        problems.hessian(cols, 2 * cols),
        problems.shuffled(cols),
        Pattern.parse("0"),
        0.01);
  }

  private static void checkUnstructured(
      String solver, SolveRequest problem, List<Backend> backends, double... sparsities) {
    for (double sparsity : sparsities) {
      long expected = Pattern.portion(problem.weights().length, sparsity);
      checkCount(solver, problem, "" + sparsity, expected, backends);
    }
  }

  private static void checkGrouped(
      String solver, SolveRequest problem, List<Backend> backends, double... sparsities) {
    int weights = problem.weights().length;
    checkCount(solver, problem, "2:4", weights / 2, backends);
    checkCount(solver, problem, "1:4", weights * 3L / 4, backends);
    for (double sparsity : sparsities) {
      long expected = 4 * Pattern.portion(weights / 4, sparsity);
      checkCount(solver, problem, "block4:" + sparsity, expected, backends);
    }
  }

  private static void checkCount(
      String solver, SolveRequest problem, String pattern, long expected, List<Backend> backends) {
    SolveRequest request = LayerProblems.with(problem, pattern, 0.01);
    for (Backend backend : backends) {
      LayerSolution solution = Solvers.byName(solver).solve(request, backend);
      String what = "%s %s [%d, %d]".formatted(solver, pattern, request.rows(), request.cols());
      assertEquals(expected, solution.removed(), what);
      for (int i = 0; i < solution.weights().length; i++) {
        assertTrue(solution.kept()[i] || Float.floatToRawIntBits(solution.weights()[i]) == 0, "+0");
        assertTrue(Float.isFinite(solution.weights()[i]));
      }
      checkGroups(request, solution);
    }
  }

  private static void checkGroups(SolveRequest request, LayerSolution solution) {
    int cols = request.cols();
    int size = request.pattern().groupSize();
    for (int row = 0; row < request.rows(); row++) {
      for (int group = 0; group < cols; group += size) {
        int kept = 0;
        for (int i = group; i < group + size; i++) {
          kept += solution.kept()[row * cols + request.order()[i]] ? 1 : 0;
        }
        switch (request.pattern()) {
          case Pattern.NM nm -> assertEquals(nm.kept(), kept);
          case Pattern.Block block -> assertTrue(kept == 0 || kept == block.groupSize());
          case Pattern.Unstructured unstructured -> {}
          case Pattern.RowBlock rowBlock -> {}
          case Pattern.Columns columns -> {}
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"magnitude", "wanda", "adaprune", "fast", "obc", "hybrid", "ziplm"})
  void leaveTheWeightsAloneAtSparsityZero(String solver) {
    // 64 sets of rows and more would make exact OBC take a sample of them.
    int rows = 64 * 4 + 3;
    float[] weights = problems.gaussian(rows * 20);
    // Without any energy; nothing is to be inverted, with or without damping.
    Hessian hessian = new Hessian(DoubleMatrix.zeros(20, 20), 30);
    List<String> patterns =
        solver.equals("ziplm")
            ? List.of("columns:0", "columns:0:group=4")
            : List.of("0", "4:4", "block4:0");
    for (String pattern : patterns) {
      for (Backend backend : BACKENDS) {
        LayerSolution solution = solve(solver, weights, rows, hessian, pattern, backend);
        assertArrayEquals(weights, solution.weights(), pattern);
        assertEquals(0, solution.removed());
        assertEquals(20, solution.deadColumns());
        assertEquals(0, solution.gflop(), "no elimination");
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"magnitude", "wanda", "adaprune", "obc", "hybrid"})
  void leaveTheWeightsAloneWhereBlocksOfRowsAreNotRemoved(String solver) {
    float[] weights = problems.gaussian(130 * 12);
    LayerSolution solution = solve(solver, weights, 130, problems.hessian(12, 30), "rows2:0", SIMD);
    assertArrayEquals(weights, solution.weights());
  }

  @ParameterizedTest
  @ValueSource(strings = {"magnitude", "wanda", "adaprune", "fast", "obc"})
  void giveTheSameBytesAtAnyNumberOfThreads(String solver) {
    // More than one task of each kind; of exact OBC, enough rows for a sample.
    int rows = List.of("obc", "adaprune").contains(solver) ? 75 : 301;
    float[] weights = problems.gaussian(rows * 200);
    Hessian hessian = problems.hessian(200, 150, 5);
    for (String pattern : List.of("0.7", "2:4", "block4:0.5")) {
      LayerSolution first = null;
      for (int threads = 1; threads <= 3; threads++) {
        try (Workers workers = new Workers(threads)) {
          LayerSolution solution =
              solve(solver, weights, rows, hessian, pattern, SimdBackend.create(workers));
          first = first == null ? solution : first;
          assertArrayEquals(first.weights(), solution.weights());
          assertArrayEquals(first.kept(), solution.kept());
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"fast", "obc", "hybrid", "adaprune", "ziplm", "gptq", "wanda", "magnitude"})
  void giveFiniteWeightsAtAnyDamping(String solver) {
    int cols = 24;
    int rows = 5;
    float[] weights = problems.gaussian(rows * cols);
    Quantization quantization = new Quantization(4, false, false, false, 2);
    List<Solver> solvers = new ArrayList<>(List.of(solver(solver, Search.NONE, quantization)));
    if (!solver.equals("gptq")) {
      solvers.add(solver(solver, Search.NONE, null));
    }
    if (!List.of("gptq", "ziplm").contains(solver)) {
      solvers.add(solver(solver, Search.FULL, null));
    }
    List<Hessian> hessians =
        List.of(
            problems.hessian(cols, 1),
            problems.hessian(cols, 7, 3),
            new Hessian(DoubleMatrix.zeros(cols, cols), 4),
            illConditioned(problems.hessian(cols, 100)),
            illConditioned(problems.hessian(cols, 10)));
    List<String> patterns =
        switch (solver) {
          case "ziplm" -> List.of("columns:0.5", "columns:0.6:group=3");
          case "gptq" -> List.of("0");
          default -> List.of("0.6", "2:4");
        };
    for (Hessian hessian : hessians) {
      for (String pattern : patterns) {
        for (double damping : new double[] {0, 1e-9, 1e-5, 0.01, 0.3, 1}) {
          SolveRequest request =
              LayerProblems.request(weights, rows, hessian, Pattern.parse(pattern), damping);
          for (Solver each : solvers) {
            LayerSolution solution = each.solve(request, SIMD);
            String what = "%s, %s, damping %s".formatted(solution.solver(), pattern, damping);
            for (float weight : solution.weights()) {
              assertTrue(Float.isFinite(weight), what);
            }
            double error = LayerProblems.error(request, solution.weights(), SIMD);
            assertTrue(Double.isFinite(error) && solution.damping() <= 1, what + ": " + error);
          }
        }
      }
    }
  }

  private static Solver solver(String name, Search search, @Nullable Quantization quantization) {
    SolverOptions defaults = SolverOptions.defaults();
    return Solvers.create(
        name,
        new SolverOptions(
            search,
            defaults.timeBudget(),
            defaults.refit(),
            defaults.precision(),
            quantization,
            defaults.seed()));
  }

  /** Of inputs that are scaled by 1e-4 to 1e4, half of them in pairs that hardly differ. */
  private static Hessian illConditioned(Hessian hessian) {
    int cols = hessian.cols();
    DoubleMatrix t = DoubleMatrix.zeros(cols, cols);
    for (int i = 0; i < cols; i++) {
      double scale = Math.pow(10, i % 9 - 4);
      boolean paired = i % 4 == 1;
      t.data()[t.index(i, i)] = scale * (paired ? 1e-7 : 1);
      if (paired) {
        t.data()[t.index(i, i - 1)] = scale;
      }
    }
    DoubleMatrix half = DoubleMatrix.zeros(cols, cols);
    DoubleMatrix values = DoubleMatrix.zeros(cols, cols);
    SIMD.gemm(1, t, hessian.values(), 0, half);
    SIMD.gemm(1, half, t.transposed(), 0, values);
    return new Hessian(values, hessian.samples());
  }

  @ParameterizedTest
  @ValueSource(strings = {"magnitude", "wanda", "adaprune", "fast", "obc"})
  void countZerosAsRemovedFirst(String solver) {
    float[] weights = problems.gaussian(20 * 50);
    for (int row = 0; row < 20; row++) {
      Arrays.fill(weights, row * 50, row * 50 + 20, 0);
    }
    LayerSolution solution = solve(solver, weights, 20, problems.hessian(50, 100), "0.4", SIMD);
    // Just the zeros go, so nothing needs to be made up for.
    assertArrayEquals(weights, solution.weights());
    assertEquals(400, solution.removed());
  }

  @Test
  void breakTiesByTheLowestIndex() {
    float[] weights = new float[4 * 6];
    Arrays.fill(weights, -1);
    Hessian identity = identity(6);
    LayerSolution magnitude = solve("magnitude", weights, 4, identity, "0.5", SIMD);
    LayerSolution wanda = solve("wanda", weights, 4, identity, "0.5", SIMD);
    for (int i = 0; i < 24; i++) {
      assertEquals(i >= 12, magnitude.kept()[i]);
      assertEquals(i % 6 >= 3, wanda.kept()[i]);
    }
    for (String solver : List.of("magnitude", "wanda", "fast")) {
      LayerSolution groups = solve(solver, Arrays.copyOf(weights, 16), 4, identity(4), "2:4", SIMD);
      for (int i = 0; i < 16; i++) {
        assertEquals(i % 4 >= 2, groups.kept()[i], solver);
      }
    }
  }

  @Test
  void fastReportsDeadColumnsAndRemovesThemFirst() {
    float[] weights = problems.gaussian(16 * 40);
    for (Backend backend : BACKENDS) {
      LayerSolution solution =
          solve("fast", weights, 16, problems.hessian(40, 80, 9), "0.5", backend);
      assertEquals(9, solution.deadColumns());
      for (int i = 0; i < weights.length; i++) {
        assertTrue(i % 40 >= 9 || solution.weights()[i] == 0);
        assertTrue(i % 40 >= 9 || !solution.kept()[i]);
      }
    }
    assertEquals(
        9, solve("wanda", weights, 16, problems.hessian(40, 80, 9), "0.5", SIMD).deadColumns());
  }

  @Test
  void fastBeatsTheOthersEvenOnFewSamples() {
    float[] weights = problems.gaussian(64 * 200);
    for (int samples : new int[] {50, 400}) {
      Hessian hessian = problems.hessian(200, samples);
      for (String pattern : List.of("0.5", "0.8", "2:4", "block4:0.5")) {
        double fast = error("fast", weights, 64, hessian, pattern);
        double wanda = error("wanda", weights, 64, hessian, pattern);
        double magnitude = error("magnitude", weights, 64, hessian, pattern);
        String what = "%s: %s, %s, %s".formatted(pattern, fast, wanda, magnitude);
        assertTrue(fast < 0.9 * wanda && fast < 0.9 * magnitude, what);
      }
    }
  }

  private static double error(
      String solver, float[] weights, int rows, Hessian hessian, String pattern) {
    LayerSolution solution = solve(solver, weights, rows, hessian, pattern, SIMD);
    return LayerError.relative(weights, solution.weights(), rows, hessian.cols(), hessian, SIMD);
  }

  @Test
  void fastRaisesTheDampingUntilTheHessianCanBeFactored() {
    float[] weights = problems.gaussian(8 * 150);
    // 20 samples for 150 columns: without damping every pivot from the 21st on is rounding error.
    Hessian singular = problems.hessian(150, 20);
    SolveRequest request = LayerProblems.request(weights, 8, singular, Pattern.parse("0.5"), 0);
    for (Backend backend : BACKENDS) {
      LayerSolution solution = Solvers.byName("fast").solve(request, backend);
      assertTrue(solution.dampingEscalations() >= 1);
      // 1e-8, 1e-7, …
      double expected = 1e-8 * Math.pow(10, solution.dampingEscalations() - 1);
      assertEquals(expected, solution.damping(), 1e-9 * expected);
      double error = LayerError.relative(weights, solution.weights(), 8, 150, singular, backend);
      assertTrue(error < 0.1, "error " + error);
    }
    LayerSolution asked = solve("fast", weights, 8, singular, "0.5", SIMD);
    assertEquals(0, asked.dampingEscalations());
    assertEquals(0.01, asked.damping());
  }

  @Test
  void fastRefusesHessiansThatAreNone() {
    double[] negative = new double[9];
    negative[0] = 1;
    negative[4] = -5;
    negative[8] = 1;
    double[] nan = new double[9];
    Arrays.fill(nan, 1);
    nan[1] = Double.NaN;
    nan[3] = Double.NaN;
    double[] infinite = new double[9];
    infinite[8] = Double.POSITIVE_INFINITY;
    for (double[] h : List.of(negative, nan, infinite)) {
      Hessian hessian = new Hessian(DoubleMatrix.of(h, 3, 3), 1);
      for (Backend backend : BACKENDS) {
        TacoException e =
            assertThrows(
                TacoException.class, () -> solve("fast", new float[6], 2, hessian, "0.5", backend));
        assertEquals(TacoException.Kind.NUMERICAL, e.kind());
        assertTrue(e.getMessage().contains("layer"), e.getMessage());
      }
    }
  }

  @Test
  void sweepAlongTheOrder() {
    // Solving the permuted problem in its natural order is solving the problem in the permuted
    // order.
    int rows = 9;
    int cols = 140;
    float[] weights = problems.gaussian(rows * cols);
    Hessian hessian = problems.hessian(cols, 300);
    int[] order = problems.shuffled(cols);
    int[] place = new int[cols];
    for (int i = 0; i < cols; i++) {
      place[order[i]] = i;
    }
    for (String pattern : List.of("0.5", "2:4", "block4:0.5")) {
      SolveRequest request =
          new SolveRequest(
              "layer", weights, rows, cols, hessian, order, Pattern.parse(pattern), 0.01);
      SolveRequest permuted = LayerProblems.permuted(request, place);
      float[] expected = Solvers.byName("fast").solve(permuted, SIMD).weights();
      float[] actual = Solvers.byName("fast").solve(request, SIMD).weights();
      for (int i = 0; i < cols; i++) {
        for (int row = 0; row < rows; row++) {
          assertEquals(expected[row * cols + i], actual[row * cols + order[i]]);
        }
      }
    }
  }

  @Test
  void requestsAreChecked() {
    Hessian hessian = problems.hessian(6, 12);
    int[] order = SolveRequest.naturalOrder(6);
    TacoException e =
        assertThrows(
            TacoException.class, () -> solve("fast", new float[12], 2, hessian, "2:4", SIMD));
    assertEquals(TacoException.Kind.USAGE, e.kind());
    assertTrue(e.getMessage().contains("2:4") && e.getMessage().contains("6"), e.getMessage());
    float[] broken = new float[12];
    broken[7] = Float.NaN;
    e = assertThrows(TacoException.class, () -> solve("fast", broken, 2, hessian, "0.5", SIMD));
    assertEquals(TacoException.Kind.MODEL, e.kind());
    assertTrue(e.getMessage().contains("[1, 1]"), e.getMessage());
    Pattern half = Pattern.parse("0.5");
    assertThrows(
        TacoException.class,
        () -> new SolveRequest("l", new float[12], 2, 6, hessian, order, half, -0.1));
    assertThrows(
        IllegalArgumentException.class,
        () -> new SolveRequest("l", new float[12], 2, 6, hessian, new int[6], half, 0.1));
    assertThrows(
        IllegalArgumentException.class,
        () -> new SolveRequest("l", new float[13], 2, 6, hessian, order, half, 0.1));
  }

  @Test
  void errorsAreRelativeToTheEnergy() {
    float[] before = {3, 4};
    Hessian identity = identity(2);
    for (Backend backend : BACKENDS) {
      assertEquals(0, LayerError.relative(before, before, 1, 2, identity, backend));
      assertEquals(
          9 / 25.0,
          LayerError.relative(before, new float[] {0, 4}, 1, 2, identity, backend),
          1e-15);
      float[] zeros = new float[2];
      assertEquals(0, LayerError.relative(zeros, zeros, 1, 2, identity, backend));
      assertEquals(
          Double.POSITIVE_INFINITY, LayerError.relative(zeros, before, 1, 2, identity, backend));

      LayerError groups = new LayerError();
      assertEquals(0, groups.relative());
      groups.add(before, new float[] {0, 4}, 1, 2, identity, backend);
      groups.add(new float[] {5, 0}, new float[] {5, 0}, 1, 2, identity, backend);
      assertEquals(9 / 50.0, groups.relative(), 1e-15);
    }
  }

  @Test
  void smallestScoresAreFoundAmongManyEquals() {
    int count = 200_000; // several tasks
    float[] scores = new float[count];
    for (int i = 0; i < count; i++) {
      scores[i] = random.nextInt(4) == 0 ? random.nextFloat() : random.nextInt(3);
    }
    float[] sorted = scores.clone();
    Arrays.sort(sorted);
    for (int k : new int[] {0, 1, 1000, count / 3, count / 2, count - 1, count}) {
      SmallestScores.Bound bound = SmallestScores.find(scores, count, k, WORKERS);
      boolean[] removed = new boolean[count];
      int left = bound.mark(scores, 0, count / 2, removed, bound.ties());
      assertEquals(0, bound.mark(scores, count / 2, count, removed, left));
      float[] chosen = new float[k];
      int size = 0;
      for (int i = 0; i < count; i++) {
        if (removed[i]) {
          chosen[size++] = scores[i];
        }
      }
      assertEquals(k, size);
      Arrays.sort(chosen);
      assertArrayEquals(Arrays.copyOf(sorted, k), chosen);
    }
  }

  @Test
  void solutionsSayWhoMadeThem() {
    float[] weights = problems.gaussian(3 * 8);
    LayerSolution solution = solve("fast", weights, 3, problems.hessian(8, 20), "0.5", SIMD);
    assertEquals("fast", solution.solver());
    assertEquals("simd", solution.backend());
    assertTrue(solution.seconds() > 0 && solution.gflop() > 0);
    assertNotEquals(0, solution.removed());
    assertFalse(Arrays.equals(weights, solution.weights()));
  }

  private static LayerSolution solve(
      String solver, float[] weights, int rows, Hessian hessian, String pattern, Backend backend) {
    SolveRequest request =
        LayerProblems.request(weights, rows, hessian, Pattern.parse(pattern), 0.01);
    return Solvers.byName(solver).solve(request, backend);
  }

  private static Hessian identity(int cols) {
    double[] values = new double[cols * cols];
    for (int i = 0; i < cols; i++) {
      values[i * cols + i] = 1;
    }
    return new Hessian(DoubleMatrix.of(values, cols, cols), 1);
  }
}
