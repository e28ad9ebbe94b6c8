package org.taco4j.compute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.taco4j.common.Workers;
import org.taco4j.compute.scalar.ScalarBackend;

/**
 * What every backend must do, held against definitions computed in double or against the scalar
 * twin. Bounds follow the usual rounding analysis: a sum of n products differs from the exact one
 * by no more than n u times the sum of their magnitudes, u = 2⁻²⁴ (Higham 2002, "Accuracy and
 * Stability of Numerical Algorithms", chapters 3 and 10); the factors before them leave room for
 * the order of operations.
 */
abstract class BackendContract {
  private static final double FLOAT_UNIT = 0x1p-24;
  private static final double DOUBLE_UNIT = 0x1p-53;

  /** Around the sizes at which kernels change from vectors to tails and from one block to two. */
  private static final int[] SIZES = {1, 3, 17, 127, 128, 129, 200, 300};

  private final Random random = new Random(1);

  /** The backend under test. */
  abstract Backend create(Workers workers);

  @Test
  void multipliesMatricesOfAnyShapeAndOrientation() {
    int[][] shapes = {
      {1, 1, 1},
      {3, 17, 127},
      {128, 129, 200},
      {257, 300, 17},
      {1021, 3, 5},
      {5, 1021, 3},
      {2, 2, 5000},
      {7, 1, 300},
      {1, 70, 9},
      {6, 64, 300},
      {4, 4, 0}
    };
    for (int[] shape : shapes) {
      for (int orientation = 0; orientation < 8; orientation++) {
        boolean first = (orientation & 1) != 0;
        boolean second = (orientation & 2) != 0;
        checkProduct(shape[0], shape[1], shape[2], first, second, (orientation & 4) != 0);
      }
    }
  }

  private void checkProduct(int m, int n, int k, boolean transA, boolean transB, boolean transC) {
    Backend backend = create(new Workers(1));
    FloatMatrix a = matrix(m, k, transA);
    FloatMatrix b = matrix(k, n, transB);
    FloatMatrix c = matrix(m, n, transC);
    float[] before = c.data().clone();
    backend.gemm(0.5f, a, b, -2, c);
    FloatMatrix overwritten = matrix(m, n, transC);
    Arrays.fill(overwritten.data(), Float.NaN);
    backend.gemm(1f, a, b, 0, overwritten);

    DoubleMatrix wideA = widen(a);
    DoubleMatrix wideB = widen(b);
    DoubleMatrix wideC = DoubleMatrix.zeros(m, n);
    Arrays.fill(wideC.data(), Double.NaN);
    backend.gemm(1, wideA, wideB, 0, wideC);

    int untouched = c.data().length - m * n;
    for (int i = 0; i < m; i++) {
      for (int j = 0; j < n; j++) {
        double sum = 0;
        double magnitude = 0;
        for (int p = 0; p < k; p++) {
          double product = (double) a.at(i, p) * b.at(p, j);
          sum += product;
          magnitude += Math.abs(product);
        }
        float old = before[c.index(i, j)];
        double bound = 2 * (k + 2) * FLOAT_UNIT * (magnitude + 2 * Math.abs(old));
        String what = "[%d, %d] of %d x %d x %d".formatted(i, j, m, n, k);
        assertEquals(0.5 * sum - 2 * old, c.at(i, j), bound, what);
        assertEquals(sum, overwritten.at(i, j), bound, what);
        assertEquals(sum, wideC.at(i, j), 4 * (k + 2) * DOUBLE_UNIT * magnitude, what);
        before[c.index(i, j)] = c.at(i, j);
      }
    }
    assertTrue(untouched > 0);
    assertArrayEquals(before, c.data(), "memory around C");
  }

  @Test
  void multipliesGramTilesOfEitherLayout() {
    Backend backend = create(new Workers(1));
    for (int samples : new int[] {1, 129, 1021}) {
      for (boolean samplesAreRows : new boolean[] {true, false}) {
        FloatMatrix x = matrix(samples, 200, !samplesAreRows);
        FloatMatrix tile = FloatMatrix.zeros(17, 129);
        backend.gramTile(x.block(0, samples, 3, 17), x.block(0, samples, 60, 129), tile);
        for (int i = 0; i < 17; i++) {
          for (int j = 0; j < 129; j++) {
            double sum = 0;
            double magnitude = 0;
            for (int s = 0; s < samples; s++) {
              double product = (double) x.at(s, 3 + i) * x.at(s, 60 + j);
              sum += product;
              magnitude += Math.abs(product);
            }
            assertEquals(sum, tile.at(i, j), 2 * (samples + 2) * FLOAT_UNIT * magnitude);
          }
        }
      }
    }
  }

  @Test
  void multipliesGramTriangles() {
    Backend backend = create(new Workers(1));
    // Sizes around the kernels' tiles and blocks.
    for (int n : new int[] {1, 17, 129, 1100}) {
      for (boolean samplesAreRows : new boolean[] {true, false}) {
        int samples = 33;
        FloatMatrix x = matrix(samples, n, !samplesAreRows);
        FloatMatrix triangle = FloatMatrix.zeros(n, n);
        Arrays.fill(triangle.data(), Float.NaN);
        backend.gramTriangle(x, triangle);
        FloatMatrix tile = FloatMatrix.zeros(n, n);
        backend.gramTile(x, x, tile);
        for (int i = 0; i < n; i++) {
          for (int j = i; j < n; j++) {
            double magnitude = 0;
            for (int s = 0; s < samples; s++) {
              magnitude += Math.abs((double) x.at(s, i) * x.at(s, j));
            }
            // Both sums are rounded once a sample, in orders that may differ.
            assertEquals(
                tile.at(i, j), triangle.at(i, j), 4 * (samples + 2) * FLOAT_UNIT * magnitude);
          }
        }
      }
    }
  }

  @Test
  void factorsPositiveDefiniteMatrices() {
    Backend backend = create(new Workers(1));
    for (int n : SIZES) {
      // Few samples: without damping the rank would be n / 2.
      FloatMatrix a = hessian(n, Math.max(1, n / 2), 0.01);
      FloatMatrix l = copy(a);
      assertEquals(-1, backend.cholesky(l), "n = " + n);
      for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
          double sum = 0;
          double magnitude = 0;
          for (int k = 0; k <= j; k++) {
            double product = (double) l.at(i, k) * l.at(j, k);
            sum += product;
            magnitude += Math.abs(product);
          }
          // The panels are multiplied by an inverse instead of divided, which costs a factor that
          // grows with the condition of the diagonal block, about 1e2 here.
          double bound = 100 * (n + 2) * FLOAT_UNIT * magnitude;
          assertEquals(a.at(i, j), sum, bound, "n = %d [%d, %d]".formatted(n, i, j));
        }
      }
    }
  }

  @Test
  void namesThePivotThatIsNotPositive() {
    Backend backend = create(new Workers(1));
    for (int n : new int[] {1, 17, 129, 300}) {
      for (int bad : new int[] {0, n / 2, n - 1}) {
        for (float value : new float[] {-1, 0, Float.NaN}) {
          FloatMatrix a = FloatMatrix.zeros(n, n);
          for (int i = 0; i < n; i++) {
            a.data()[a.index(i, i)] = i == bad ? value : 2;
          }
          int pivot = backend.cholesky(a);
          if (Float.isNaN(value)) {
            // LAPACKE only says that there is one in the block.
            assertTrue(pivot >= 0 && pivot <= bad, "NaN at " + bad + ": " + pivot);
          } else {
            assertEquals(bad, pivot);
          }
        }
      }
    }
  }

  @Test
  void factorsAndInvertsInDouble() {
    Backend backend = create(new Workers(2));
    for (int n : new int[] {1, 3, 17, 63, 64, 65, 129, 200, 300}) {
      DoubleMatrix a = DoubleMatrix.of(new double[(n + 2) * (n + 3)], n + 2, n + 3);
      Arrays.fill(a.data(), Double.NaN);
      a = a.block(1, n, 2, n);
      DoubleMatrix h = widen(hessian(n, Math.max(1, n / 2), 0.01));
      fillLower(a, h);
      assertEquals(-1, backend.cholesky(a), "n = " + n);
      for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
          double sum = 0;
          double magnitude = 0;
          for (int k = 0; k <= j; k++) {
            sum += a.at(i, k) * a.at(j, k);
            magnitude += Math.abs(a.at(i, k) * a.at(j, k));
          }
          // As for the float factorisation above.
          assertEquals(h.at(i, j), sum, 100 * (n + 2) * DOUBLE_UNIT * magnitude);
        }
      }
      fillLower(a, h);
      assertEquals(-1, backend.invertPositiveDefinite(a), "n = " + n);
      for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
          double sum = 0;
          double magnitude = 0;
          for (int k = 0; k < n; k++) {
            sum += a.at(i, k) * h.at(k, j);
            magnitude += Math.abs(a.at(i, k) * h.at(k, j));
          }
          // An error of n u times the condition number of about 1e4 in the inverse.
          assertEquals(i == j ? 1 : 0, sum, 1e4 * n * DOUBLE_UNIT * Math.max(1, magnitude));
          assertEquals(a.at(i, j), a.at(j, i));
        }
      }
      fillLower(a, h);
      DoubleMatrix b = DoubleMatrix.zeros(3, n).transposed();
      for (int i = 0; i < n; i++) {
        for (int col = 0; col < 3; col++) {
          for (int k = 0; k < n; k++) {
            b.data()[b.index(i, col)] += h.at(i, k) * (k % 7 - col);
          }
        }
      }
      assertEquals(-1, backend.solvePositiveDefinite(a, b), "n = " + n);
      for (int k = 0; k < n; k++) {
        for (int col = 0; col < 3; col++) {
          assertEquals(k % 7 - col, b.at(k, col), 1e6 * n * DOUBLE_UNIT);
        }
      }
    }
  }

  @Test
  void namesThePivotThatIsNotPositiveInDouble() {
    Backend backend = create(new Workers(1));
    for (int n : new int[] {1, 17, 129, 300}) {
      for (int bad : new int[] {0, n / 2, n - 1}) {
        DoubleMatrix a = DoubleMatrix.zeros(n, n);
        for (int i = 0; i < n; i++) {
          a.data()[a.index(i, i)] = i == bad ? -1 : 2;
        }
        double[] before = a.data().clone();
        assertEquals(bad, backend.cholesky(a));
        System.arraycopy(before, 0, a.data(), 0, before.length);
        assertEquals(bad, backend.invertPositiveDefinite(a));
        System.arraycopy(before, 0, a.data(), 0, before.length);
        assertEquals(bad, backend.solvePositiveDefinite(a, DoubleMatrix.zeros(n, 1)));
      }
    }
  }

  private static void fillLower(DoubleMatrix to, DoubleMatrix from) {
    for (int i = 0; i < from.rows(); i++) {
      for (int j = 0; j < from.cols(); j++) {
        to.data()[to.index(i, j)] = j <= i ? from.at(i, j) : Double.NaN;
      }
    }
  }

  @Test
  void invertsTriangles() {
    Backend backend = create(new Workers(1));
    for (int n : new int[] {1, 3, 17, 127, 128}) {
      FloatMatrix l = hessian(n, 2 * n, 0.01);
      assertEquals(-1, backend.cholesky(l));
      FloatMatrix m = copy(l);
      backend.invertLower(m);
      for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
          double sum = 0;
          double magnitude = 0;
          for (int k = j; k <= i; k++) {
            double product = (double) m.at(i, k) * l.at(k, j);
            sum += product;
            magnitude += Math.abs(product);
          }
          assertEquals(i == j ? 1 : 0, sum, 10 * (n + 2) * FLOAT_UNIT * magnitude);
          assertTrue(j <= i || m.at(i, j) == 0, "the upper triangle is cleared");
        }
      }
    }
  }

  @Test
  void sweepsAsTheScalarTwin() {
    for (int columns : new int[] {1, 2, 3, 17, 64, 127, 128}) {
      for (int rows : new int[] {1, 3, 17, 127, 129, 1021}) {
        FloatMatrix inverse = inverseFactor(columns);
        FloatMatrix w = FloatMatrix.of(gaussian(columns * rows), columns, rows);
        boolean[] removed = new boolean[columns * rows];
        for (int i = 0; i < removed.length; i++) {
          removed[i] = random.nextBoolean();
        }
        FloatMatrix expected = copy(w);
        FloatMatrix actual = copy(w);
        boolean[] given = removed.clone();
        new ScalarBackend(new Workers(1)).obsSweep(inverse, expected, removed.clone());
        create(new Workers(1)).obsSweep(inverse, actual, removed);
        assertArrayEquals(given, removed);
        compareSwept(expected, actual, removed, removed);
      }
    }
  }

  @Test
  void choosesGroupsAsTheScalarTwin() {
    int[][] patterns = {{2, 4}, {1, 2}, {4, 8}, {3, 7}, {4, 4}, {16, 32}, {32, 64}};
    for (int[] pattern : patterns) {
      for (int rows : new int[] {1, 17, 129}) {
        int columns = 128 / pattern[1] * pattern[1];
        FloatMatrix inverse = inverseFactor(columns);
        FloatMatrix expected = FloatMatrix.of(gaussian(columns * rows), columns, rows);
        // Zeros are ties, and must not be counted twice.
        Arrays.fill(expected.data(), 0, rows, 0);
        FloatMatrix actual = copy(expected);
        boolean[] expectedRemoved = new boolean[columns * rows];
        boolean[] removed = new boolean[columns * rows];
        new ScalarBackend(new Workers(1))
            .obsSweep(inverse, expected, expectedRemoved, pattern[0], pattern[1]);
        create(new Workers(1)).obsSweep(inverse, actual, removed, pattern[0], pattern[1]);
        for (int row = 0; row < rows; row++) {
          for (int group = 0; group < columns; group += pattern[1]) {
            int count = 0;
            for (int j = group; j < group + pattern[1]; j++) {
              count += removed[j * rows + row] ? 1 : 0;
            }
            assertEquals(pattern[1] - pattern[0], count);
          }
        }
        compareSwept(expected, actual, expectedRemoved, removed);
      }
    }
  }

  @Test
  void sweepsToGridsAsTheScalarTwin() {
    for (int columns : new int[] {1, 2, 3, 17, 64, 127, 128}) {
      for (int rows : new int[] {1, 3, 17, 129, 1021}) {
        FloatMatrix inverse = inverseFactor(columns);
        FloatMatrix expected = FloatMatrix.of(gaussian(columns * rows), columns, rows);
        FloatMatrix actual = copy(expected);
        boolean[] removed = new boolean[columns * rows];
        for (int i = 0; i < removed.length; i++) {
          removed[i] = random.nextInt(3) == 0;
        }
        float[] scale = new float[rows];
        float[] lowest = new float[rows];
        float[] highest = new float[rows];
        for (int row = 0; row < rows; row++) {
          scale[row] = 0.05f + random.nextFloat();
          lowest[row] = -random.nextInt(6);
          highest[row] = lowest[row] + 1 + random.nextInt(20);
        }
        new ScalarBackend(new Workers(1))
            .quantSweep(inverse, expected, removed, scale, lowest, highest);
        create(new Workers(1)).quantSweep(inverse, actual, removed, scale, lowest, highest);
        int flipped = 0;
        for (int row = 0; row < rows; row++) {
          boolean same = true;
          for (int j = 0; j < columns; j++) {
            float point = actual.at(j, row);
            float code = (float) Math.rint(point / scale[row]);
            assertTrue(point == 0 || (code >= lowest[row] && code <= highest[row]));
            assertEquals(
                Float.floatToRawIntBits(scale[row] * code + 0f), Float.floatToRawIntBits(point));
            assertTrue(!removed[j * rows + row] || Float.floatToRawIntBits(point) == 0);
            same &= point == expected.at(j, row);
          }
          flipped += same ? 0 : 1;
        }
        // A weight within rounding of the middle between two points may go either way, and take
        // the rest of its row with it: 1e-6 · 128 columns of 1e-1 steps, a row in a thousand.
        assertTrue(flipped <= 1 + rows / 100, flipped + " of " + rows + " rows differ");
      }
    }
  }

  @Test
  void roundsHalfToEven() {
    Backend backend = create(new Workers(1));
    float[] values = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 9, -9, -0.2f, 3.49f, 1e30f, -1e30f};
    float[] expected = {0, 2, 2, 0, -2, -2, 7, -8, 0, 3, 7, -8};
    int rows = values.length;
    float[] ones = new float[rows];
    float[] lowest = new float[rows];
    float[] highest = new float[rows];
    Arrays.fill(ones, 1);
    Arrays.fill(lowest, -8);
    Arrays.fill(highest, 7);
    FloatMatrix w = FloatMatrix.of(values, 1, rows);
    FloatMatrix inverse = FloatMatrix.of(new float[] {1}, 1, 1);
    backend.quantSweep(inverse, w, new boolean[rows], ones, lowest, highest);
    // Compared by bits: zeros are +0.
    assertArrayEquals(expected, w.data());
    for (float value : w.data()) {
      assertTrue(value != 0 || Float.floatToRawIntBits(value) == 0);
    }
  }

  /** Rows in which both chose the same must agree; near ties may flip a few. */
  private static void compareSwept(
      FloatMatrix expected, FloatMatrix actual, boolean[] expectedRemoved, boolean[] removed) {
    int rows = expected.cols();
    int flipped = 0;
    for (int row = 0; row < rows; row++) {
      boolean same = true;
      double scale = 0;
      for (int j = 0; j < expected.rows(); j++) {
        same &= expectedRemoved[j * rows + row] == removed[j * rows + row];
        scale = Math.max(scale, Math.abs(expected.at(j, row)));
      }
      flipped += same ? 0 : 1;
      for (int j = 0; j < expected.rows(); j++) {
        if (removed[j * rows + row]) {
          assertEquals(0, Float.floatToRawIntBits(actual.at(j, row)), "+0 where removed");
        }
        if (same) {
          // As many roundings as columns, each of the size of the row's largest values.
          double bound = 16 * (expected.rows() + 2) * FLOAT_UNIT * Math.max(1, scale);
          assertEquals(expected.at(j, row), actual.at(j, row), bound);
        }
      }
    }
    assertTrue(flipped <= 1 + rows / 50, flipped + " of " + rows + " rows chose differently");
  }

  @Test
  void addsUpQuadraticForms() {
    for (int cols : new int[] {1, 3, 17, 129, 300, 520}) {
      for (int rows : new int[] {1, 17, 129}) {
        DoubleMatrix g = widen(hessian(cols, Math.max(1, cols / 2), 0));
        FloatMatrix w = FloatMatrix.of(gaussian(rows * cols), rows, cols);
        double sum = 0;
        double magnitude = 0;
        for (int row = 0; row < rows; row++) {
          for (int i = 0; i < cols; i++) {
            for (int j = 0; j < cols; j++) {
              double product = (double) w.at(row, i) * w.at(row, j) * g.at(i, j);
              sum += product;
              magnitude += Math.abs(product);
            }
          }
        }
        double actual = create(new Workers(1)).quadraticForm(w, g);
        assertEquals(sum, actual, 4 * (cols + rows + 2) * DOUBLE_UNIT * magnitude);
      }
    }
  }

  @Test
  void givesTheSameBytesAtAnyNumberOfThreads() {
    FloatMatrix h = hessian(300, 400, 0.01);
    FloatMatrix w = FloatMatrix.of(gaussian(128 * 301), 128, 301);
    FloatMatrix inverse = inverseFactor(128);
    float[][] results = new float[3][];
    for (int threads = 1; threads <= 3; threads++) {
      try (Workers workers = new Workers(threads)) {
        Backend backend = create(workers);
        FloatMatrix l = copy(h);
        assertEquals(-1, backend.cholesky(l));
        FloatMatrix swept = copy(w);
        boolean[] removed = new boolean[128 * 301];
        backend.obsSweep(inverse, swept, removed, 2, 4);
        FloatMatrix product = FloatMatrix.zeros(300, 301);
        backend.gemm(1, h.block(0, 300, 0, 128), swept, 0, product);
        double form = backend.quadraticForm(FloatMatrix.of(product.data(), 301, 300), widen(h));
        float[] all = Arrays.copyOf(l.data(), 300 * 300 + 300 * 301 + 2);
        for (int i = 0; i < 300; i++) {
          Arrays.fill(all, i * 300 + i + 1, (i + 1) * 300, 0); // not part of the result
        }
        System.arraycopy(product.data(), 0, all, 300 * 300, 300 * 301);
        long bits = Double.doubleToRawLongBits(form);
        all[all.length - 2] = (int) (bits >>> 40);
        all[all.length - 1] = (int) (bits & 0xFFFFFF);
        results[threads - 1] = all;
      }
    }
    assertArrayEquals(results[0], results[1]);
    assertArrayEquals(results[0], results[2]);
  }

  private float[] gaussian(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /** A random matrix amid other memory, row-major or not. */
  private FloatMatrix matrix(int rows, int cols, boolean transposed) {
    int height = transposed ? cols : rows;
    int width = transposed ? rows : cols;
    FloatMatrix whole = FloatMatrix.of(gaussian((height + 3) * (width + 5)), height + 3, width + 5);
    FloatMatrix block = whole.block(2, height, 3, width);
    return transposed ? block.transposed() : block;
  }

  /** 2/N XᵀX of correlated, positive inputs, damped. */
  private FloatMatrix hessian(int n, int samples, double damping) {
    float[] x = gaussian(samples * n);
    for (int s = 0; s < samples; s++) {
      float common = (float) random.nextGaussian();
      for (int i = 0; i < n; i++) {
        x[s * n + i] = Math.max(0, x[s * n + i] + common);
      }
    }
    FloatMatrix h = FloatMatrix.zeros(n, n);
    double trace = 0;
    for (int i = 0; i < n; i++) {
      for (int j = 0; j <= i; j++) {
        double sum = 0;
        for (int s = 0; s < samples; s++) {
          sum += (double) x[s * n + i] * x[s * n + j];
        }
        h.data()[i * n + j] = (float) (2 * sum / samples);
        h.data()[j * n + i] = h.data()[i * n + j];
      }
      trace += h.at(i, i);
    }
    for (int i = 0; i < n; i++) {
      h.data()[i * n + i] += (float) (damping * Math.max(1, trace) / n);
    }
    return h;
  }

  private FloatMatrix inverseFactor(int n) {
    FloatMatrix l = hessian(n, 2 * n, 0.01);
    Backend scalar = new ScalarBackend(new Workers(1));
    assertEquals(-1, scalar.cholesky(l));
    scalar.invertLower(l);
    return l;
  }

  private static FloatMatrix copy(FloatMatrix matrix) {
    return FloatMatrix.of(matrix.data().clone(), matrix.rows(), matrix.cols());
  }

  private static DoubleMatrix widen(FloatMatrix matrix) {
    DoubleMatrix wide = DoubleMatrix.zeros(matrix.rows(), matrix.cols());
    for (int i = 0; i < matrix.rows(); i++) {
      for (int j = 0; j < matrix.cols(); j++) {
        wide.data()[wide.index(i, j)] = matrix.at(i, j);
      }
    }
    return wide;
  }
}
