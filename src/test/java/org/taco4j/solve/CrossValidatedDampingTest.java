package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.compute.simd.SimdBackend;

/** The choice of the damping, and the halves of samples that it is made on. */
final class CrossValidatedDampingTest {
  private static final Workers WORKERS = new Workers(2);
  private static final Backend SIMD = SimdBackend.create(WORKERS);

  private final Random random = new Random(11);
  private final LayerProblems problems = new LayerProblems(12);

  @ParameterizedTest
  @CsvSource({"1, 1", "3, 2", "17, 17", "64, 64", "130, 65", "200, 90"})
  void theFactorisationFindsTheRank(int cols, int rank) {
    // Scales from 1 to 1e6 in the diagonal; two columns more are dead.
    double[] gram = new double[(cols + 2) * (cols + 2)];
    DoubleMatrix a = DoubleMatrix.of(gram, cols + 2, cols + 2);
    DoubleMatrix x = DoubleMatrix.zeros(rank, cols + 2);
    for (int i = 0; i < rank; i++) {
      for (int j = 0; j < cols; j++) {
        x.data()[i * (cols + 2) + j] = random.nextGaussian() * Math.pow(10, j % 4);
      }
    }
    SIMD.gemm(1, x.transposed(), x, 0, a);
    for (Backend backend : List.of(SIMD, new ScalarBackend(WORKERS))) {
      RankRevealingCholesky s = RankRevealingCholesky.of(a, 1e-10, backend);
      assertEquals(rank, s.factor().rows());
      DoubleMatrix product = DoubleMatrix.zeros(cols + 2, cols + 2);
      backend.gemm(1, s.factor().transposed(), s.factor(), 0, product);
      for (int i = 0; i < cols; i++) {
        for (int j = 0; j < cols; j++) {
          double scale = Math.sqrt(a.at(i, i) * a.at(j, j));
          // What is left when the rank is found is within the tolerance of 0.
          assertEquals(a.at(i, j), product.at(i, j), 1e-9 * scale);
        }
      }
      for (int k = 0; k < rank; k++) {
        for (int before = 0; before < k; before++) {
          assertEquals(0, s.factor().at(k, s.pivots()[before]), "triangular by pivots");
        }
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"1, 1, 2", "5, 5, 5", "7, 7, 8", "20, 12, 12", "70, 70, 101", "150, 100, 100000"})
  void halvesMakeUpTheWhole(int cols, int rank, long samples) {
    Hessian hessian = randomHessian(cols, rank);
    GaussianHalves halves = new GaussianHalves(hessian, SIMD);
    assertEquals(rank, halves.rank());
    for (SplitHessian split : halves.draw(Math.max(2, samples), 3)) {
      assertEquals(samples / 2, split.first().samples());
      Hessian whole = split.whole();
      assertEquals(samples, whole.samples());
      double scale = 0;
      for (int i = 0; i < cols; i++) {
        scale = Math.max(scale, hessian.diagonal(i));
      }
      for (int i = 0; i < cols; i++) {
        for (int j = 0; j < cols; j++) {
          assertEquals(hessian.values().at(i, j), whole.values().at(i, j), 1e-9 * scale * samples);
        }
      }
      for (Hessian half : List.of(split.first(), split.second())) {
        assertEquals(
            Math.min(half.samples(), rank),
            new GaussianHalves(half, SIMD).rank(),
            "rank of a half");
        float[] direction = new float[cols];
        for (int i = 0; i < cols; i++) {
          direction[i] = (float) random.nextGaussian();
        }
        double form = SIMD.quadraticForm(FloatMatrix.of(direction, 1, cols), half.values());
        assertTrue(form > -1e-9 * scale, "a half is positive semidefinite: " + form);
      }
    }
  }

  /**
   * In any direction, the share of the energy that falls to the first half is a Beta(N₁/2, N₂/2)
   * number: mean N₁/N, variance N₁N₂ / (N² (N/2 + 1)).
   */
  @ParameterizedTest
  @CsvSource({"1, 2", "1, 7", "3, 3", "3, 4", "5, 40"})
  void energyIsSharedByChanceAsForNormalSamples(int cols, int samples) {
    GaussianHalves halves = new GaussianHalves(randomHessian(cols, cols), SIMD);
    int draws = 2000;
    double sum = 0;
    double squares = 0;
    int count = 0;
    float[] direction = new float[cols];
    direction[cols - 1] = 1;
    for (int i = 0; i < draws; i++) {
      for (SplitHessian split : halves.draw(samples, i)) {
        double first = split.first().diagonal(cols - 1) * split.first().samples();
        double second = split.second().diagonal(cols - 1) * split.second().samples();
        double share = first / (first + second);
        sum += share;
        squares += share * share;
        count++;
      }
    }
    double n1 = samples / 2;
    double n2 = samples - n1;
    double mean = sum / count;
    double variance = squares / count - mean * mean;
    double expected = n1 * n2 / ((double) samples * samples * (samples / 2.0 + 1));
    // Five standard errors of the mean of 8000 draws; the variance's relative error is about √2/√n.
    assertEquals(n1 / samples, mean, 5 * Math.sqrt(expected / count));
    assertEquals(expected, variance, 0.1 * expected);
  }

  @Test
  void fewerSamplesThanTheRankAreRefused() {
    GaussianHalves halves = new GaussianHalves(randomHessian(6, 4), SIMD);
    assertThrows(IllegalArgumentException.class, () -> halves.draw(3, 0));
    assertThrows(
        IllegalArgumentException.class,
        () -> new GaussianHalves(randomHessian(3, 1), SIMD).draw(1, 0));
  }

  @Test
  void manySamplesLeaveTheUsualDampingAndFewDoNot() {
    int cols = 48;
    float[] weights = problems.gaussian(100 * cols);
    CrossValidatedDamping.Choice many = choose(weights, 100, cols, 20_000, "0.5", 1);
    assertEquals(Damping.USUAL, many.damping());
    assertEquals(64, many.rows());
    CrossValidatedDamping.Choice few = choose(weights, 100, cols, 30, "0.5", 1);
    assertTrue(few.damping() > 0.05, "30 samples, 48 columns: " + few);
    double chosen = error(few, few.damping());
    assertTrue(chosen < 0.9 * error(few, Damping.USUAL), few.toString());
    // Nearer to the usual one at hardly a price, never beyond the least.
    double least =
        few.curve().stream().mapToDouble(CrossValidatedDamping.Point::error).min().orElseThrow();
    assertTrue(chosen <= 1.05 * least, few.toString());
    for (int i = 1; i < few.curve().size(); i++) {
      assertTrue(few.curve().get(i - 1).damping() < few.curve().get(i).damping(), "ascending");
    }
  }

  private static double error(CrossValidatedDamping.Choice choice, double damping) {
    return choice.curve().stream()
        .filter(point -> point.damping() == damping)
        .findFirst()
        .orElseThrow()
        .error();
  }

  @ParameterizedTest
  @ValueSource(strings = {"0.8", "2:4", "block4:0.5"})
  void theChoiceIsTheSameAtAnyNumberOfThreads(String pattern) {
    float[] weights = problems.gaussian(70 * 40);
    assertEquals(
        choose(weights, 70, 40, 30, pattern, 1).curve(),
        choose(weights, 70, 40, 30, pattern, 2).curve());
  }

  @Test
  void nothingToGainLeavesTheUsualDamping() {
    // Sparsity 0 removes nothing: all errors are 0.
    assertEquals(Damping.USUAL, choose(problems.gaussian(8 * 20), 8, 20, 10, "0", 1).damping());
    // No energy, no error.
    Hessian zero = new Hessian(DoubleMatrix.zeros(4, 4), 5);
    SolveRequest request =
        LayerProblems.request(problems.gaussian(12), 3, zero, Pattern.parse("0.5"), 0);
    assertEquals(
        Damping.USUAL,
        CrossValidatedDamping.choose(
                request, new FastObcSolver(), List.of(new SplitHessian(zero, zero)), SIMD)
            .damping());
  }

  @Test
  void dampingsAreReadFromText() {
    assertEquals(new Damping.Automatic(), Damping.parse("auto"));
    assertEquals(new Damping.Fixed(0.5), Damping.parse("0.5"));
    assertEquals(new Damping.Fixed(0), Damping.parse("0"));
    for (String wrong : List.of("", "Auto", "-1", "1.5", "NaN", "1%")) {
      TacoException e = assertThrows(TacoException.class, () -> Damping.parse(wrong));
      assertEquals(TacoException.Kind.USAGE, e.kind());
    }
  }

  /** With few samples, on samples that neither half has seen, the choice must pay. */
  @ParameterizedTest
  @CsvSource({"fast, 0.5", "fast, 0.8", "fast, 0.9", "obc, 0.8", "adaprune, 0.8"})
  void theHeldOutErrorFallsWithFewSamples(String solver, String pattern) {
    GoldenCase few = new GoldenCase(GoldenProblem.named("dev_few24x160"), Solvers.byName(solver));
    Hessian unseen = few.problem.heldOut();
    double damping = few.choose(pattern);
    double usual = few.error(Damping.USUAL, pattern, unseen);
    double chosen = few.error(damping, pattern, unseen);
    assertTrue(chosen < 0.9 * usual, "%s: %g against %g".formatted(damping, chosen, usual));
  }

  /**
   * With many samples the error on all of them, which is close to that on others, must not grow.
   */
  @ParameterizedTest
  @CsvSource({
    "dev_conv32x144, fast",
    "dev_lin48x96, fast",
    "dev_dead40x128, fast",
    "dev_lin48x96, obc"
  })
  void wellDeterminedCasesAreLeftAlone(String name, String solver) {
    GoldenCase golden = new GoldenCase(GoldenProblem.named(name), Solvers.byName(solver));
    Hessian hessian = golden.problem.hessian();
    List<String> patterns =
        solver.equals("fast") ? List.of("0.5", "0.8", "0.9", "2:4") : List.of("0.8");
    for (String pattern : patterns) {
      double damping = golden.choose(pattern);
      double usual = golden.error(Damping.USUAL, pattern, hessian);
      double chosen = golden.error(damping, pattern, hessian);
      assertTrue(
          chosen < 1.01 * usual,
          "%s %s, damping %s: %g against %g".formatted(name, pattern, damping, chosen, usual));
    }
  }

  /** On the rows that are tried exact OBC would be affordable, for all of them it is not. */
  @Test
  void theHybridDecidesByTheWholeLayer() {
    SolverOptions defaults = SolverOptions.defaults();
    Pattern pattern = Pattern.parse("0.5");
    double few =
        HybridObcSolver.obcSeconds(new HybridObcSolver.Shape(64, 20, 1, pattern), Precision.AUTO);
    double all =
        HybridObcSolver.obcSeconds(new HybridObcSolver.Shape(900, 20, 1, pattern), Precision.AUTO);
    SolverOptions options = defaults.withTimeBudget((few + all) / 2);
    Solver hybrid = new HybridObcSolver(options);
    SolveRequest whole = problems.request(900, 20, 40, "0.5", 0.01);
    SolveRequest part =
        LayerProblems.request(
            Arrays.copyOf(whole.weights(), 64 * 20), 64, whole.hessian(), pattern, 0.01);
    String decided = hybrid.solve(whole, SIMD).solver();
    assertNotEquals("obc", decided);
    assertEquals("obc", hybrid.solve(part, SIMD).solver());
    assertEquals(decided, hybrid.probe(whole).solve(part, SIMD).solver());
  }

  /** Wanda uses no damping, but a search after it fits what stays. */
  @ParameterizedTest
  @ValueSource(strings = {"wanda", "magnitude"})
  void aSearchNeedsDampingWhereItsSolverDoesNot(String name) {
    SolverOptions defaults = SolverOptions.defaults();
    SolverOptions options =
        new SolverOptions(
            Search.SWAP, defaults.timeBudget(), defaults.refit(), defaults.precision(), null, 0);
    Solver solver = Solvers.create(name, options);
    assertTrue(solver.usesDamping());
    Hessian first = problems.hessian(48, 15);
    Hessian second = problems.hessian(48, 15);
    SplitHessian halves = new SplitHessian(first, second);
    SolveRequest request =
        LayerProblems.request(
            problems.gaussian(20 * 48), 20, halves.whole(), Pattern.parse("0.5"), 0);
    CrossValidatedDamping.Choice choice =
        CrossValidatedDamping.choose(request, solver, List.of(halves), SIMD);
    // 30 samples, 48 columns.
    assertTrue(choice.damping() > Damping.USUAL, choice.toString());
    assertTrue(error(choice, choice.damping()) < 0.9 * error(choice, Damping.USUAL));
  }

  private record GoldenCase(GoldenProblem problem, Solver solver) {
    double choose(String pattern) {
      Hessian hessian = problem.hessian();
      return CrossValidatedDamping.choose(
              problem.request(Pattern.parse(pattern), 0),
              solver,
              new GaussianHalves(hessian, SIMD).draw(hessian.samples(), 0),
              SIMD)
          .damping();
    }

    double error(double damping, String pattern, Hessian on) {
      SolveRequest request = problem.request(Pattern.parse(pattern), damping);
      float[] solved = solver.solve(request, SIMD).weights();
      return LayerError.relative(
          problem.weights(), solved, problem.rows(), problem.cols(), on, SIMD);
    }
  }

  private static CrossValidatedDamping.Choice choose(
      float[] weights, int rows, int cols, int samples, String pattern, int threads) {
    LayerProblems samplesOf = new LayerProblems(5);
    Hessian first = samplesOf.hessian(cols, samples / 2);
    Hessian second = samplesOf.hessian(cols, samples - samples / 2);
    SplitHessian halves = new SplitHessian(first, second);
    try (Workers workers = new Workers(threads)) {
      return CrossValidatedDamping.choose(
          LayerProblems.request(weights, rows, halves.whole(), Pattern.parse(pattern), 0),
          new FastObcSolver(),
          List.of(halves),
          SimdBackend.create(workers));
    }
  }

  private Hessian randomHessian(int cols, int rank) {
    DoubleMatrix x = DoubleMatrix.zeros(rank, cols);
    for (int i = 0; i < x.data().length; i++) {
      x.data()[i] = random.nextGaussian();
    }
    DoubleMatrix gram = DoubleMatrix.zeros(cols, cols);
    SIMD.gemm(1, x.transposed(), x, 0, gram);
    return new Hessian(gram, 0);
  }
}
