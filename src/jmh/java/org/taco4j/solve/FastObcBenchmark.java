package org.taco4j.solve;

import java.util.ArrayList;
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
 * FastOBC on whole layers, factorisation included, in units of S ({@link GemmClock}), which is
 * measured before every iteration. Targets at 50 %, 2 threads: 1 S for 3072x768 and 256x2304, 10 S
 * for 512x4608.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Warmup(iterations = 4, time = 1)
@Measurement(iterations = 8, time = 1)
@Fork(
    value = 1,
    jvmArgsAppend = {
      "--add-modules=jdk.incubator.vector",
      "--enable-native-access=ALL-UNNAMED",
      "--sun-misc-unsafe-memory-access=allow"
    })
public class FastObcBenchmark {
  /** rows x cols. */
  @Param({"3072x768", "256x2304", "512x4608"})
  public String shape;

  /** What is removed. */
  @Param("unstructured:0.5")
  public String pattern;

  /** {@code openblas} or {@code vector}, the Vector API alone. */
  @Param("openblas")
  public String products;

  /** Of the workers, and of OpenBLAS while S is measured. */
  @Param("2")
  public int threads;

  private final List<Double> clock = new ArrayList<>();
  private final List<Double> solve = new ArrayList<>();
  private final FastObcSolver solver = new FastObcSolver();
  private Workers workers;
  private Backend backend;
  private GemmClock gemm;
  private SolveRequest request;

  /** Makes a problem of correlated, ReLU-like inputs, and checks that the solver solves it. */
  @Setup(Level.Trial)
  public void prepare() {
    workers = new Workers(threads);
    backend =
        products.equals("vector")
            ? SimdBackend.createWithoutNatives(workers)
            : SimdBackend.create(workers);
    gemm = new GemmClock();
    int rows = Integer.parseInt(shape.substring(0, shape.indexOf('x')));
    int cols = Integer.parseInt(shape.substring(shape.indexOf('x') + 1));
    Random random = new Random(1);
    float[] weights = new float[rows * cols];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = (float) random.nextGaussian();
    }
    request =
        new SolveRequest(
            shape,
            weights,
            rows,
            cols,
            Workloads.reluHessian(cols, 2 * cols, random, backend),
            SolveRequest.naturalOrder(cols),
            Pattern.parse(pattern),
            0.01);
    double error = error(solver);
    double magnitude = error(new MagnitudeSolver());
    if (!(error < 0.8 * magnitude)) {
      throw new IllegalStateException("error " + error + ", magnitude " + magnitude);
    }
    System.out.printf(
        "%n%s%nerror %.5f, magnitude %.5f%n", backend.description(), error, magnitude);
  }

  private double error(Solver by) {
    return LayerError.relative(
        request.weights(),
        by.solve(request, backend).weights(),
        request.rows(),
        request.cols(),
        request.hessian(),
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
    LayerSolution solution = solver.solve(request, backend);
    System.out.printf(
        "%n%s %s: median %.1f ms = %.2f S, %.0f GFLOP/s; S = %.1f ms, %.0f GFLOP/s%n",
        shape,
        pattern,
        1e3 * seconds,
        seconds / s,
        solution.gflop() / seconds,
        1e3 * s,
        GemmClock.gflopPerSecond(s));
    workers.close();
  }
}
