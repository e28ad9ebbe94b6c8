package org.taco4j.solve;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
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
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.simd.GemmClock;
import org.taco4j.compute.simd.SimdBackend;

/**
 * The search over masks on whole layers, in units of S ({@link GemmClock}) and of the time of exact
 * OBC of the same problem in the same process. Targets: swaps within that time, the full search
 * within three times.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 3, time = 1)
@Fork(
    value = 1,
    jvmArgsAppend = {
      "--add-modules=jdk.incubator.vector",
      "--enable-native-access=ALL-UNNAMED",
      "--sun-misc-unsafe-memory-access=allow"
    })
public class MaskSearchBenchmark {
  /** rows x cols, and :samples where not twice the columns. */
  @Param({"64x576", "384x384", "96x512:100", "768x768", "256x2304"})
  public String shape;

  /** What is removed. */
  @Param("unstructured:0.8")
  public String pattern;

  /** Whose mask the search starts from. */
  @Param({"obc", "fast"})
  public String solver;

  /** How far it goes. */
  @Param({"swap", "full"})
  public String search;

  /** Of the workers, and of OpenBLAS while S is measured. */
  @Param("2")
  public int threads;

  private final List<Double> clock = new ArrayList<>();
  private final List<Double> times = new ArrayList<>();
  private final List<Double> obcTimes = new ArrayList<>();
  private Workers workers;
  private Backend backend;
  private GemmClock gemm;
  private SolveRequest request;
  private LayerSolution start;
  private LayerSolution exact;

  /**
   * Makes a problem of correlated, ReLU-like inputs, and checks that the search lowers the error.
   */
  @Setup(Level.Trial)
  public void prepare() {
    workers = new Workers(threads);
    backend = SimdBackend.create(workers);
    gemm = new GemmClock();
    String[] sizes = shape.split("[x:]");
    int rows = Integer.parseInt(sizes[0]);
    int cols = Integer.parseInt(sizes[1]);
    int samples = sizes.length > 2 ? Integer.parseInt(sizes[2]) : 2 * cols;
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
            hessian(cols, samples, random),
            SolveRequest.naturalOrder(cols),
            Pattern.parse(pattern),
            0.01);
    exact = Solvers.byName("obc").solve(request, backend);
    start = solver.equals("obc") ? exact : Solvers.byName(solver).solve(request, backend);
    LayerSolution found = improve();
    SearchReport report = Objects.requireNonNull(found.search());
    boolean sameCount = found.removed() == start.removed();
    if (!(report.errorAfter() < report.errorBefore() && sameCount)) {
      throw new IllegalStateException(report.toString());
    }
    System.out.printf(
        "%n%s%n%s%nerror of obc %.6f, %s %.6f, with %s %.6f%n",
        backend.description(), report, error(exact), solver, error(start), search, error(found));
  }

  private LayerSolution improve() {
    Search kind = SolverOptions.parse(Search.class, "--search", search);
    return MaskSearch.improve(request, start, kind, 1e6, 0, backend);
  }

  private double error(LayerSolution solution) {
    return LayerError.relative(
        request.weights(),
        solution.weights(),
        request.rows(),
        request.cols(),
        request.hessian(),
        backend);
  }

  private Hessian hessian(int cols, int samples, Random random) {
    FloatMatrix x = FloatMatrix.zeros(samples, cols);
    // A few common causes make inputs correlated.
    int causes = Math.max(4, cols / 16);
    double[] mix = random.doubles((long) causes * cols, -0.7, 0.9).toArray();
    double[] cause = new double[causes];
    for (int s = 0; s < samples; s++) {
      for (int c = 0; c < causes; c++) {
        cause[c] = random.nextGaussian() * 2 / Math.sqrt(causes);
      }
      for (int i = 0; i < cols; i++) {
        double sum = 0.5 * random.nextGaussian();
        for (int c = 0; c < causes; c++) {
          sum += cause[c] * mix[c * cols + i];
        }
        x.data()[x.index(s, i)] = (float) Math.max(0, sum);
      }
    }
    FloatMatrix gram = FloatMatrix.zeros(cols, cols);
    backend.gemm(1, x.transposed(), x, 0, gram);
    double[] symmetric = new double[cols * cols];
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j < cols; j++) {
        symmetric[i * cols + j] = gram.at(Math.max(i, j), Math.min(i, j));
      }
    }
    return Hessian.ofGram(symmetric, cols, samples);
  }

  /** S and the time of exact OBC, under the same conditions as the iteration that follows. */
  @Setup(Level.Iteration)
  public void measureClock() {
    clock.add(gemm.seconds(threads, 3));
    obcTimes.add(Solvers.byName("obc").solve(request, backend).seconds());
  }

  /** One layer. */
  @Benchmark
  public LayerSolution search() {
    LayerSolution solution = improve();
    times.add(Objects.requireNonNull(solution.search()).seconds());
    return solution;
  }

  /** Prints the ratios, over the second half of the runs. */
  @TearDown(Level.Trial)
  public void report() {
    double s = Workloads.median(clock);
    double seconds = Workloads.median(times.subList(times.size() / 2, times.size()));
    double obc = Workloads.median(obcTimes.subList(obcTimes.size() / 2, obcTimes.size()));
    LayerSolution solution = improve();
    double gflop = solution.gflop() - start.gflop();
    System.out.printf(
        "%n%s %s %s+%s: median %.1f ms = %.2f S, %.0f GFLOP/s; exact obc %.1f ms = %.2f S,"
            + " %.0f GFLOP/s; ratio %.2f; S = %.1f ms%n",
        shape,
        pattern,
        solver,
        search,
        1e3 * seconds,
        seconds / s,
        gflop / seconds,
        1e3 * obc,
        obc / s,
        exact.gflop() / obc,
        seconds / obc,
        1e3 * s);
    workers.close();
  }
}
