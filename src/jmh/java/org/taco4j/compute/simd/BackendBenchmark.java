package org.taco4j.compute.simd;

import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.AuxCounters;
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
import org.taco4j.compute.scalar.ScalarBackend;

/** Single kernels on every backend; the secondary result {@code gflop} is GFLOP/s. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(
    value = 1,
    jvmArgsAppend = {
      "--add-modules=jdk.incubator.vector",
      "--enable-native-access=ALL-UNNAMED",
      "--sun-misc-unsafe-memory-access=allow"
    })
public class BackendBenchmark {
  private static final int SIZE = 768;
  private static final int BLOCK = 128;
  private static final int ROWS = 3072;

  /** Floating-point operations in 1e9. */
  @AuxCounters
  @State(Scope.Thread)
  public static class Work {
    /** Shown as GFLOP/s. */
    public double gflop;
  }

  /** {@code scalar}, {@code vector} (the Vector API alone) or {@code openblas}. */
  @Param({"scalar", "vector", "openblas"})
  public String backend;

  /** Of the workers. */
  @Param("1")
  public int threads;

  private Workers workers;
  private Backend kernels;
  private FloatMatrix a;
  private FloatMatrix b;
  private FloatMatrix definite;
  private FloatMatrix scratch;
  private FloatMatrix inverse;
  private FloatMatrix weights;
  private FloatMatrix swept;
  private boolean[] removed;
  private final boolean[] nothing = new boolean[BLOCK * ROWS];
  private final float[] scale = new float[ROWS];
  private final float[] lowest = new float[ROWS];
  private final float[] highest = new float[ROWS];

  /** Makes inputs, and checks the kernels against the scalar ones. */
  @Setup(Level.Trial)
  public void prepare() {
    workers = new Workers(threads);
    kernels =
        switch (backend) {
          case "scalar" -> new ScalarBackend(workers);
          case "vector" -> SimdBackend.createWithoutNatives(workers);
          case "openblas" -> SimdBackend.createOverOpenBlas(workers);
          default -> SimdBackend.create(workers);
        };
    Random random = new Random(1);
    a = random(random, SIZE, SIZE);
    b = random(random, SIZE, SIZE);
    definite = FloatMatrix.zeros(SIZE, SIZE);
    kernels.gemm(1f / SIZE, a, a.transposed(), 0, definite);
    for (int i = 0; i < SIZE; i++) {
      definite.data()[definite.index(i, i)] += 1;
    }
    scratch = FloatMatrix.zeros(SIZE, SIZE);
    weights = random(random, BLOCK, ROWS);
    swept = FloatMatrix.zeros(BLOCK, ROWS);
    removed = new boolean[BLOCK * ROWS];
    for (int i = 0; i < removed.length; i++) {
      removed[i] = random.nextBoolean();
    }
    inverse = FloatMatrix.of(new float[BLOCK * BLOCK], BLOCK, BLOCK);
    Backend scalar = new ScalarBackend(workers);
    for (int i = 0; i < BLOCK; i++) {
      for (int j = 0; j <= i; j++) {
        inverse.data()[inverse.index(i, j)] = definite.at(i, j);
      }
    }
    check(scalar.cholesky(inverse) < 0);
    scalar.invertLower(inverse);

    cholesky(new Work());
    double sum = 0;
    for (int k = 0; k < SIZE; k++) {
      sum += (double) scratch.at(SIZE - 1, k) * scratch.at(SIZE - 1, k);
    }
    check(Math.abs(sum - definite.at(SIZE - 1, SIZE - 1)) < 1e-3);
    sweep(new Work());
    FloatMatrix expected = FloatMatrix.of(weights.data().clone(), BLOCK, ROWS);
    scalar.obsSweep(inverse, expected, removed);
    for (int i = 0; i < removed.length; i++) {
      check(Math.abs(swept.data()[i] - expected.data()[i]) < 1e-3);
    }
    Arrays.fill(scale, 0.4f);
    Arrays.fill(lowest, -8);
    Arrays.fill(highest, 7);
    sweepToGrid(new Work());
    System.arraycopy(weights.data(), 0, expected.data(), 0, expected.data().length);
    scalar.quantSweep(inverse, expected, nothing, scale, lowest, highest);
    int different = 0;
    for (int i = 0; i < removed.length; i++) {
      different += swept.data()[i] == expected.data()[i] ? 0 : 1;
    }
    check(different < removed.length / 100);
  }

  private static FloatMatrix random(Random random, int rows, int cols) {
    FloatMatrix matrix = FloatMatrix.zeros(rows, cols);
    for (int i = 0; i < matrix.data().length; i++) {
      matrix.data()[i] = (float) random.nextGaussian();
    }
    return matrix;
  }

  private static void check(boolean right) {
    if (!right) {
      throw new IllegalStateException("the kernel's result is wrong");
    }
  }

  /** Ends the threads. */
  @TearDown(Level.Trial)
  public void close() {
    workers.close();
  }

  /** [768, 768] times [768, 768]. */
  @Benchmark
  public float gemm(Work work) {
    kernels.gemm(1, a, b, 0, scratch);
    work.gflop += 2e-9 * SIZE * SIZE * SIZE;
    return scratch.at(0, 0);
  }

  /** The factor of [768, 768]. */
  @Benchmark
  public float cholesky(Work work) {
    System.arraycopy(definite.data(), 0, scratch.data(), 0, definite.data().length);
    check(kernels.cholesky(scratch) < 0);
    work.gflop += 1e-9 * SIZE * SIZE * SIZE / 3;
    return scratch.at(0, 0);
  }

  /** A block of 128 columns for 3072 rows, half of the weights going. */
  @Benchmark
  public float sweep(Work work) {
    System.arraycopy(weights.data(), 0, swept.data(), 0, weights.data().length);
    kernels.obsSweep(inverse, swept, removed);
    work.gflop += 1e-9 * BLOCK * BLOCK * ROWS;
    return swept.at(0, 0);
  }

  /** The same block onto grids of 4 bits, nothing going. */
  @Benchmark
  public float sweepToGrid(Work work) {
    System.arraycopy(weights.data(), 0, swept.data(), 0, weights.data().length);
    kernels.quantSweep(inverse, swept, nothing, scale, lowest, highest);
    work.gflop += 1e-9 * BLOCK * BLOCK * ROWS;
    return swept.at(0, 0);
  }

  /** The inverse of a diagonal block, [128, 128]. */
  @Benchmark
  public float invertLower(Work work) {
    System.arraycopy(definite.data(), 0, scratch.data(), 0, BLOCK * SIZE);
    FloatMatrix block = scratch.block(0, BLOCK, 0, BLOCK);
    kernels.invertLower(block);
    work.gflop += 1e-9 * BLOCK * BLOCK * BLOCK / 3;
    return block.at(BLOCK - 1, 0);
  }
}
