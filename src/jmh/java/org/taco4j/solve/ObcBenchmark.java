package org.taco4j.solve;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.simd.GemmClock;
import org.taco4j.compute.simd.SimdBackend;

/**
 * Exact OBC of whole layers, inversion and refit included, in units of S ({@link GemmClock}), which
 * is measured before every iteration. Targets at 90 %, float32, 2 threads: 1 S for 64x576, 2 S for
 * 384x384, 20 S for 768x768, 200 S for 256x2304.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(
    value = 1,
    jvmArgsAppend = {
      "--add-modules=jdk.incubator.vector",
      "--enable-native-access=ALL-UNNAMED",
      "--sun-misc-unsafe-memory-access=allow"
    })
public class ObcBenchmark {
  /** rows x cols. */
  @Param({"64x576", "384x384", "768x768", "256x2304"})
  public String shape;

  /** What is removed. */
  @Param("unstructured:0.9")
  public String pattern;

  /** Of the elimination. */
  @Param("FLOAT32")
  public Precision precision;

  /** Of the workers, and of OpenBLAS while S is measured. */
  @Param("2")
  public int threads;

  private final List<Double> clock = new ArrayList<>();
  private final List<Double> solve = new ArrayList<>();
  private ObcSolver solver;
  private Workers workers;
  private Backend backend;
  private GemmClock gemm;
  private SolveRequest request;

  /** Makes a problem of correlated, ReLU-like inputs, and checks that the solver solves it. */
  @Setup(Level.Trial)
  public void prepare() {
    workers = new Workers(threads);
    backend = SimdBackend.create(workers);
    gemm = new GemmClock();
    solver = new ObcSolver(precision);
    int rows = Integer.parseInt(shape.substring(0, shape.indexOf('x')));
    int cols = Integer.parseInt(shape.substring(shape.indexOf('x') + 1));
    Random random = new Random(1);
    float[] weights = new float[rows * cols];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = (float) random.nextGaussian();
    }
    request = request(weights, rows, Workloads.reluHessian(cols, 2 * cols, random, backend));
    double error = error(solver, request);
    double fast = error(new FastObcSolver(), request);
    if (!(error < 0.9 * fast) && !(request.pattern() instanceof Pattern.RowBlock)) {
      throw new IllegalStateException("error " + error + ", FastOBC " + fast);
    }
    // Some rows in double: whatever float32 decided must be as good.
    int few = Math.min(rows, 8);
    SolveRequest part = request(Arrays.copyOf(weights, few * cols), few, request.hessian());
    double narrow = error(solver, part);
    double wide = error(new ObcSolver(Precision.FLOAT64), part);
    if (!(Math.abs(narrow - wide) <= 0.01 * wide)) {
      throw new IllegalStateException("error " + narrow + ", in double " + wide);
    }
    System.out.printf(
        "%n%s%nerror %.5f, FastOBC %.5f; %d rows: %.6f, in double %.6f%n",
        backend.description(), error, fast, few, narrow, wide);
  }

  private SolveRequest request(float[] weights, int rows, Hessian hessian) {
    return new SolveRequest(
        shape,
        weights,
        rows,
        hessian.cols(),
        hessian,
        SolveRequest.naturalOrder(hessian.cols()),
        Pattern.parse(pattern),
        0.01);
  }

  private double error(Solver by, SolveRequest problem) {
    return LayerError.relative(
        problem.weights(),
        by.solve(problem, backend).weights(),
        problem.rows(),
        problem.cols(),
        problem.hessian(),
        backend);
  }

  /** S, under the same conditions as the iteration that follows. */
  @Setup(Level.Iteration)
  public void measureClock() {
    clock.add(gemm.seconds(threads, 3));
  }

  /** One layer. */
  @Benchmark
  public LayerSolution solve() {
    LayerSolution solution = solver.solve(request, backend);
    solve.add(solution.seconds());
    return solution;
  }

  /** Prints the ratio, over the second half of the runs. */
  @TearDown(Level.Trial)
  public void report() {
    double s = Workloads.median(clock);
    double seconds = Workloads.median(solve.subList(solve.size() / 2, solve.size()));
    double rate = solver.solve(request, backend).gflop() / seconds;
    System.out.printf(
        "%n%s %s %s: median %.1f ms = %.2f S, %.0f GFLOP/s, %.2f of what OpenBLAS' GEMM makes; S ="
            + " %.1f ms, %.0f GFLOP/s%n",
        shape,
        pattern,
        precision,
        1e3 * seconds,
        seconds / s,
        rate,
        rate / GemmClock.gflopPerSecond(s),
        1e3 * s,
        GemmClock.gflopPerSecond(s));
    workers.close();
  }
}
