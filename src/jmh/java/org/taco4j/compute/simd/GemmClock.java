package org.taco4j.compute.simd;

import java.util.Arrays;
import java.util.Objects;
import java.util.Random;
import org.taco4j.compute.FloatMatrix;

/**
 * The unit of time S that the targets are given in: one float32 product of two 2048 x 2048 matrices
 * by OpenBLAS, with its own threads, in the same process.
 */
public final class GemmClock {
  private static final int SIZE = 2048;

  private final OpenBlas openBlas =
      Objects.requireNonNull(OpenBlas.get().library(), OpenBlas.get().failure());
  private final FloatMatrix a = random(1);
  private final FloatMatrix b = random(2);
  private final FloatMatrix c = FloatMatrix.zeros(SIZE, SIZE);

  private static FloatMatrix random(long seed) {
    Random random = new Random(seed);
    FloatMatrix matrix = FloatMatrix.zeros(SIZE, SIZE);
    for (int i = 0; i < matrix.data().length; i++) {
      matrix.data()[i] = random.nextFloat();
    }
    return matrix;
  }

  /** The median of {@code runs} products, in seconds, after one that does not count. */
  public double seconds(int threads, int runs) {
    double[] seconds = new double[runs];
    openBlas.setThreads(threads);
    try {
      openBlas.gemm(1, a, b, 0, c);
      for (int run = 0; run < runs; run++) {
        long start = System.nanoTime();
        openBlas.gemm(1, a, b, 0, c);
        seconds[run] = (System.nanoTime() - start) / 1e9;
      }
    } finally {
      openBlas.setThreads(1);
    }
    Arrays.sort(seconds);
    return seconds[runs / 2];
  }

  /** What OpenBLAS makes of a product that takes {@code seconds}. */
  public static double gflopPerSecond(double seconds) {
    return 2e-9 * SIZE * SIZE * SIZE / seconds;
  }
}
