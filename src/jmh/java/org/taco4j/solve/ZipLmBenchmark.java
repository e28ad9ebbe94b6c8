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
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.simd.SimdBackend;

/** ZipLM on whole layers, inverse and fit included; prints GFLOP/s in double at the end. */
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
public class ZipLmBenchmark {
  /** rows x cols. */
  @Param({"192x768", "768x3072"})
  public String shape;

  /** What is removed. */
  @Param("columns:0.5")
  public String pattern;

  /** Of the workers. */
  @Param("2")
  public int threads;

  private final Solver solver = new ZipLmSolver();
  private final List<Double> speeds = new ArrayList<>();
  private Workers workers;
  private Backend backend;
  private SolveRequest request;

  /** Makes a problem of correlated, ReLU-like inputs, and checks that the solver solves it. */
  @Setup(Level.Trial)
  public void prepare() {
    workers = new Workers(threads);
    backend = SimdBackend.create(workers);
    int rows = Integer.parseInt(shape.substring(0, shape.indexOf('x')));
    int cols = Integer.parseInt(shape.substring(shape.indexOf('x') + 1));
    Random random = new Random(1);
    float[] weights = new float[rows * cols];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = (float) random.nextGaussian();
    }
    int samples = 2 * cols;
    DoubleMatrix x = DoubleMatrix.zeros(samples, cols);
    for (int s = 0; s < samples; s++) {
      double common = random.nextGaussian();
      for (int i = 0; i < cols; i++) {
        x.data()[x.index(s, i)] = Math.max(0, random.nextGaussian() + 0.5 * common);
      }
    }
    DoubleMatrix gram = DoubleMatrix.zeros(cols, cols);
    backend.gemm(1, x.transposed(), x, 0, gram);
    request =
        new SolveRequest(
            shape,
            weights,
            rows,
            cols,
            Hessian.ofGram(gram.data(), cols, samples),
            SolveRequest.naturalOrder(cols),
            Pattern.parse(pattern),
            0.01);
    float[] solved = solver.solve(request, backend).weights();
    double error = LayerError.relative(weights, solved, rows, cols, request.hessian(), backend);
    if (!(error > 0 && error < request.pattern().sparsity())) {
      throw new IllegalStateException("error " + error);
    }
    System.out.printf("%n%s%nerror %.5f%n", backend.description(), error);
  }

  /** One layer. */
  @Benchmark
  public LayerSolution solve() {
    LayerSolution solution = solver.solve(request, backend);
    speeds.add(solution.gflop() / solution.seconds());
    return solution;
  }

  /** Prints the speed over the second half of the runs. */
  @TearDown(Level.Trial)
  public void report() {
    List<Double> warm = speeds.subList(speeds.size() / 2, speeds.size());
    System.out.printf(
        "%n%s %s: median %.0f GFLOP/s%n",
        shape, pattern, warm.stream().sorted().toList().get(warm.size() / 2));
    workers.close();
  }
}
