package org.taco4j.solve;

import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.random.RandomGenerator;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;

/**
 * Halves of samples of which only the Hessian is known. With H = SᵀS, every X = √(N/2) · Q S, Q:
 * [N, rank] with orthonormal columns, has that Hessian; for samples from a normal distribution Q is
 * uniform among all such matrices, whatever the covariance. So the rows of a random Q, cut in two,
 * give Hessians of halves as they would be: H₁ = N/N₁ · (Q₁S)ᵀ(Q₁S), and N₂H₂ = N H − N₁H₁.
 *
 * <p>Q is never formed. It is F R⁻¹ for a matrix F: [N, rank] of normal numbers and FᵀF = RᵀR, and
 * of F's halves only the triangles of their QR factorisations matter, whose elements are
 * independent too: normal above the diagonal, the root of a χ² number on it (Bartlett 1933). So
 * work and memory do not grow with N.
 */
public final class GaussianHalves {
  /** Pairs of halves, for few and for many columns. */
  private static final int SMALL_LAYER_SPLITS = 4;

  private static final int LARGE_LAYER_SPLITS = 2;
  private static final int SMALL_LAYER_COLUMNS = 512;

  /** Below this, a triangular system is solved row by row. */
  private static final int SMALL_SYSTEM = 64;

  /** Pivots up to √cols times this, which Hessians stored as float32 leave, are rounding errors. */
  private static final double ROUNDING = 2 * Math.ulp(1f);

  private final Hessian hessian;
  private final DoubleMatrix root;
  private final Backend backend;

  /**
   * Factors a Hessian.
   *
   * @param hessian its number of samples is not looked at; borrowed
   */
  public GaussianHalves(Hessian hessian, Backend backend) {
    this.hessian = hessian;
    this.backend = backend;
    this.root =
        RankRevealingCholesky.of(hessian.values(), ROUNDING * Math.sqrt(hessian.cols()), backend)
            .factor();
  }

  /** The numerical rank of the Hessian. */
  public int rank() {
    return root.rows();
  }

  /**
   * Random pairs of halves.
   *
   * @param samples N, at least the rank and 2
   */
  public List<SplitHessian> draw(long samples, long seed) {
    if (samples < Math.max(2, rank())) {
      throw new IllegalArgumentException(
          "%d samples for a Hessian of rank %d".formatted(samples, rank()));
    }
    SplittableRandom random = new SplittableRandom(seed);
    List<SplitHessian> halves = new ArrayList<>();
    int count = root.cols() <= SMALL_LAYER_COLUMNS ? SMALL_LAYER_SPLITS : LARGE_LAYER_SPLITS;
    for (int i = 0; i < count; i++) {
      halves.add(split(samples, random));
    }
    return halves;
  }

  private SplitHessian split(long samples, RandomGenerator random) {
    int rank = root.rows();
    int cols = root.cols();
    long firstSamples = samples / 2;
    long secondSamples = samples - firstSamples;
    int firstRows = (int) Math.min(firstSamples, rank);
    int secondRows = (int) Math.min(secondSamples, rank);
    // F's triangles, one above the other.
    DoubleMatrix f = DoubleMatrix.zeros(firstRows + secondRows, rank);
    fillTriangle(f.block(0, firstRows, 0, rank), firstSamples, random);
    fillTriangle(f.block(firstRows, secondRows, 0, rank), secondSamples, random);
    DoubleMatrix square = DoubleMatrix.zeros(rank, rank);
    backend.gemm(1, f.transposed(), f, 0, square);
    // The tolerance is rounding error only: F has full rank with probability 1.
    RankRevealingCholesky r = RankRevealingCholesky.of(square, 0, backend);

    // R with its columns in the order of the pivots is upper triangular; so are F's taken then.
    DoubleMatrix triangle = selectColumns(r.factor(), r.pivots());
    DoubleMatrix z = DoubleMatrix.zeros(rank, cols);
    for (int i = 0; i < rank; i++) {
      System.arraycopy(root.data(), root.index(i, 0), z.data(), z.index(i, 0), cols);
    }
    solveUpper(triangle, z, backend);
    DoubleMatrix half = DoubleMatrix.zeros(firstRows, cols);
    backend.gemm(1, selectColumns(f.block(0, firstRows, 0, rank), r.pivots()), z, 0, half); // Q₁ S

    DoubleMatrix first = DoubleMatrix.zeros(cols, cols);
    backend.gemm(samples / (double) firstSamples, half.transposed(), half, 0, first);
    DoubleMatrix second = DoubleMatrix.zeros(cols, cols);
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j < cols; j++) {
        second.data()[i * cols + j] =
            (samples * hessian.values().at(i, j) - firstSamples * first.at(i, j)) / secondSamples;
      }
    }
    return new SplitHessian(new Hessian(first, firstSamples), new Hessian(second, secondSamples));
  }

  /** The upper triangle (or trapezium) of the QR factorisation of {@code samples} normal rows. */
  private static void fillTriangle(DoubleMatrix triangle, long samples, RandomGenerator random) {
    for (int i = 0; i < triangle.rows(); i++) {
      int row = triangle.index(i, 0);
      triangle.data()[row + i] = Math.sqrt(chiSquared(samples - i, random));
      for (int j = i + 1; j < triangle.cols(); j++) {
        triangle.data()[row + j] = random.nextGaussian();
      }
    }
  }

  /**
   * A χ² number, twice a Γ number of shape a = degrees / 2, by rejection (Marsaglia and Tsang 2000,
   * "A Simple Method for Generating Gamma Variables").
   */
  private static double chiSquared(long degrees, RandomGenerator random) {
    if (degrees == 1) {
      double normal = random.nextGaussian();
      return normal * normal;
    }
    double d = degrees / 2.0 - 1.0 / 3;
    while (true) {
      double x = random.nextGaussian();
      double root = 1 + x / Math.sqrt(9 * d);
      double v = root * root * root;
      if (v > 0 && Math.log(1 - random.nextDouble()) < x * x / 2 + d * (1 - v + Math.log(v))) {
        return 2 * d * v;
      }
    }
  }

  private static DoubleMatrix selectColumns(DoubleMatrix from, int[] columns) {
    DoubleMatrix selected = DoubleMatrix.zeros(from.rows(), columns.length);
    for (int i = 0; i < from.rows(); i++) {
      int row = from.index(i, 0);
      for (int j = 0; j < columns.length; j++) {
        selected.data()[i * columns.length + j] = from.data()[row + columns[j]];
      }
    }
    return selected;
  }

  /** Z := U⁻¹ Z for an upper triangular U, halving it until it is small. */
  private static void solveUpper(DoubleMatrix u, DoubleMatrix z, Backend backend) {
    int n = u.rows();
    if (n > SMALL_SYSTEM) {
      int top = n / 2;
      DoubleMatrix upper = z.block(0, top, 0, z.cols());
      DoubleMatrix lower = z.block(top, n - top, 0, z.cols());
      solveUpper(u.block(top, n - top, top, n - top), lower, backend);
      backend.gemm(-1, u.block(0, top, top, n - top), lower, 1, upper);
      solveUpper(u.block(0, top, 0, top), upper, backend);
      return;
    }
    for (int i = n - 1; i >= 0; i--) {
      int row = z.index(i, 0);
      for (int j = i + 1; j < n; j++) {
        int from = z.index(j, 0);
        double factor = u.at(i, j);
        for (int c = 0; c < z.cols(); c++) {
          z.data()[row + c] -= factor * z.data()[from + c];
        }
      }
      double diagonal = u.at(i, i);
      for (int c = 0; c < z.cols(); c++) {
        z.data()[row + c] /= diagonal;
      }
    }
  }
}
