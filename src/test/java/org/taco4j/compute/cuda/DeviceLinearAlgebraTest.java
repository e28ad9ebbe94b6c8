package org.taco4j.compute.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.scalar.ScalarBackend;

/**
 * What {@link CudaBackendTest} does not reach: triangles, inverses of long triangles, flags, scopes
 * that share handles. Bounds as there.
 */
class DeviceLinearAlgebraTest {
  private static final double FLOAT_UNIT = 0x1p-24;
  private static final double DOUBLE_UNIT = 0x1p-53;
  private static final int[] SIZES = {1, 3, 17, 63, 64, 65, 127, 129, 200, 300};

  private final Random random = new Random(1);
  private FakeCuda cuda;

  @BeforeEach
  void load() {
    cuda = FakeCuda.load();
  }

  @AfterEach
  void close() {
    if (cuda != null) {
      cuda.close();
    }
  }

  private static CudaDevice open(boolean libraries) {
    return CudaDevice.open(
        CudaProbe.examine().gpus().getFirst(),
        0,
        new DeviceLinearAlgebra.Libraries(libraries, libraries, 0));
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void addsTrianglesOnly(boolean libraries) {
    try (CudaDevice device = open(libraries);
        DeviceScope scope = device.scope()) {
      DeviceLinearAlgebra algebra = device.linearAlgebra();
      for (int n : SIZES) {
        for (boolean transposed : new boolean[] {false, true}) {
          int depth = 33;
          double[] x = gaussian(n * depth);
          double[] before = gaussian(n * (n + 3));
          DeviceMatrix a =
              DeviceMatrix.of(scope.copyOf(x), transposed ? depth : n, transposed ? n : depth);
          for (boolean lower : new boolean[] {false, true}) {
            DeviceArray array = scope.copyOf(before);
            DeviceMatrix c = new DeviceMatrix(array, 0, n, n, n + 3);
            if (lower) {
              algebra.syrkLower(scope, 0.5, a, transposed, 2, c);
            } else {
              algebra.syrkUpper(scope, 0.5, a, transposed, 2, c);
            }
            double[] after = new double[before.length];
            scope.download(array, 0, after, 0, after.length);
            for (int i = 0; i < n; i++) {
              for (int j = 0; j < n + 3; j++) {
                double expected = before[i * (n + 3) + j];
                double magnitude = 0;
                if (j < n && (lower ? j <= i : i <= j)) {
                  double sum = 0;
                  for (int k = 0; k < depth; k++) {
                    double product =
                        transposed
                            ? x[k * n + i] * x[k * n + j]
                            : x[i * depth + k] * x[j * depth + k];
                    sum += product;
                    magnitude += Math.abs(product);
                  }
                  magnitude += 2 * Math.abs(expected);
                  expected = 0.5 * sum + 2 * expected;
                }
                double bound = 2 * (depth + 2) * DOUBLE_UNIT * magnitude;
                assertEquals(expected, after[i * (n + 3) + j], bound, "n = " + n);
              }
            }
          }
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void factorsAndInvertsAsTheScalarTwin(boolean libraries) {
    ScalarBackend scalar = new ScalarBackend(new Workers(1));
    try (CudaDevice device = open(libraries);
        DeviceScope scope = device.scope()) {
      DeviceLinearAlgebra algebra = device.linearAlgebra();
      DeviceArray flag = scope.ints(1);
      for (int n : SIZES) {
        float[] h = hessian(n);
        DeviceArray array = scope.copyOf(h);
        DeviceMatrix a = DeviceMatrix.of(array, n, n);
        algebra.cholesky(scope, a, flag);
        assertEquals(-1, scope.downloadInt(flag), "n = " + n);
        float[] l = new float[n * n];
        scope.download(array, 0, l, 0, l.length);
        algebra.invertLower(scope, a);
        float[] m = new float[n * n];
        scope.download(array, 0, m, 0, m.length);
        FloatMatrix twin = FloatMatrix.of(h.clone(), n, n);
        assertEquals(-1, scalar.cholesky(twin));
        for (int i = 0; i < n; i++) {
          for (int j = 0; j < n; j++) {
            double sum = 0;
            double magnitude = 0;
            for (int k = j; k <= i; k++) {
              double product = (double) m[i * n + k] * l[k * n + j];
              sum += product;
              magnitude += Math.abs(product);
            }
            assertEquals(i == j ? 1 : 0, sum, 10 * (n + 2) * FLOAT_UNIT * magnitude, "n = " + n);
            assertTrue(j <= i || m[i * n + j] == 0, "the upper triangle is cleared");
            if (j <= i) {
              // The condition of the matrix, some 1e3, lies between factors that are both good.
              assertEquals(twin.at(i, j), l[i * n + j], 1e3 * (n + 2) * FLOAT_UNIT * l[i * n + i]);
            }
          }
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void flagsFirstBadPivotWithoutWaiting(boolean libraries) {
    try (CudaDevice device = open(libraries);
        DeviceScope scope = device.scope()) {
      DeviceLinearAlgebra algebra = device.linearAlgebra();
      DeviceArray flag = scope.ints(1);
      for (int n : new int[] {1, 17, 129, 300}) {
        for (int bad : new int[] {0, n / 2, n - 1}) {
          for (double value : new double[] {-1, 0, Double.NaN, Double.POSITIVE_INFINITY}) {
            double[] h = new double[n * n];
            float[] narrow = new float[n * n];
            for (int i = 0; i < n; i++) {
              h[i * n + i] = i == bad ? value : 2;
              narrow[i * n + i] = (float) h[i * n + i];
            }
            String what = "%s at %d of %d".formatted(value, bad, n);
            algebra.cholesky(scope, DeviceMatrix.of(scope.copyOf(narrow), n, n), flag);
            assertEquals(bad, scope.downloadInt(flag), what);
            double[] untouched = gaussian(n * n);
            DeviceArray inverse = scope.copyOf(untouched);
            algebra.invertPositiveDefinite(
                scope,
                DeviceMatrix.of(scope.copyOf(h), n, n),
                DeviceMatrix.of(inverse, n, n),
                flag);
            assertEquals(bad, scope.downloadInt(flag), what);
            double[] after = new double[n * n];
            scope.download(inverse, 0, after, 0, after.length);
            assertArrayEquals(untouched, after, what);
          }
        }
        // The next factorisation starts anew.
        double[] identity = new double[n * n];
        for (int i = 0; i < n; i++) {
          identity[i * n + i] = 1;
        }
        algebra.cholesky(scope, DeviceMatrix.of(scope.copyOf(identity), n, n), flag);
        assertEquals(-1, scope.downloadInt(flag));
      }
      algebra.cholesky(scope, DeviceMatrix.of(scope.doubles(0), 0, 0), flag);
      assertEquals(-1, scope.downloadInt(flag));
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void scopesSideBySideDoNotMix(boolean libraries) {
    try (CudaDevice device = open(libraries)) {
      DeviceLinearAlgebra algebra = device.linearAlgebra();
      float[] h = hessian(130);
      float[] alone = new float[h.length];
      try (DeviceScope scope = device.scope()) {
        factor(algebra, scope, h, alone);
      }
      for (int round = 0; round < 2; round++) {
        try (DeviceScope first = device.scope();
            DeviceScope second = device.scope()) {
          DeviceArray flags = first.ints(1);
          DeviceArray queued = first.copyOf(h);
          algebra.cholesky(first, DeviceMatrix.of(queued, 130, 130), flags);
          float[] other = new float[h.length];
          factor(algebra, second, h, other);
          float[] late = new float[h.length];
          first.download(queued, 0, late, 0, late.length);
          assertArrayEquals(lower(alone, 130), lower(other, 130));
          assertArrayEquals(lower(alone, 130), lower(late, 130));
        }
      }
      assertEquals(0, device.openScopes());
    }
  }

  private static void factor(
      DeviceLinearAlgebra algebra, DeviceScope scope, float[] h, float[] to) {
    int n = (int) Math.sqrt(h.length);
    DeviceArray array = scope.copyOf(h);
    algebra.cholesky(scope, DeviceMatrix.of(array, n, n), scope.ints(1));
    scope.download(array, 0, to, 0, to.length);
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void refusesShapesThatDoNotFit(boolean libraries) {
    try (CudaDevice device = open(libraries);
        DeviceScope scope = device.scope()) {
      DeviceLinearAlgebra algebra = device.linearAlgebra();
      DeviceMatrix a = DeviceMatrix.of(scope.floats(12), 3, 4);
      DeviceMatrix c = DeviceMatrix.of(scope.floats(9), 3, 3);
      DeviceMatrix wide = DeviceMatrix.of(scope.doubles(9), 3, 3);
      assertThrows(
          IllegalArgumentException.class, () -> algebra.gemm(scope, 1, a, false, a, false, 0, c));
      assertThrows(
          IllegalArgumentException.class, () -> algebra.gemm(scope, 1, a, false, a, true, 0, wide));
      assertThrows(IllegalArgumentException.class, () -> algebra.cholesky(scope, a, scope.ints(1)));
      assertThrows(
          IllegalArgumentException.class, () -> algebra.syrkLower(scope, 1, a, true, 0, c));
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void failureNamesWhatWasQueued(boolean libraries) {
    try (CudaDevice device = open(libraries)) {
      TacoException failure;
      try (DeviceScope scope = device.scope()) {
        DeviceMatrix a = DeviceMatrix.of(scope.copyOf(hessian(129)), 129, 129);
        cuda.failLaunch(1);
        DeviceArray flag = scope.ints(1);
        failure =
            assertThrows(
                TacoException.class,
                () -> {
                  device.linearAlgebra().cholesky(scope, a, flag);
                  scope.synchronize();
                });
      }
      assertEquals(TacoException.Kind.RUNTIME, failure.kind());
      assertTrue(failure.getMessage().contains("taco4j_cholesky"), failure.getMessage());
      assertTrue(failure.getMessage().contains("GPU 0"), failure.getMessage());
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void quadraticFormsOfStridedMatrices(boolean libraries) {
    int rows = 5;
    int cols = 130;
    double[] g = gaussian(cols * cols);
    float[] w = new float[rows * (cols + 1)];
    for (int i = 0; i < w.length; i++) {
      w[i] = (float) random.nextGaussian();
    }
    double expected = 0;
    double magnitude = 0;
    for (int r = 0; r < rows; r++) {
      for (int i = 0; i < cols; i++) {
        for (int j = 0; j < cols; j++) {
          double term = (double) w[r * (cols + 1) + i] * g[i * cols + j] * w[r * (cols + 1) + j];
          expected += term;
          magnitude += Math.abs(term);
        }
      }
    }
    try (CudaDevice device = open(libraries);
        DeviceScope scope = device.scope()) {
      double form =
          device
              .linearAlgebra()
              .quadraticForm(
                  scope,
                  new DeviceMatrix(scope.copyOf(w), 0, rows, cols, cols + 1),
                  DeviceMatrix.of(scope.copyOf(g), cols, cols));
      assertEquals(expected, form, 4 * (cols + rows + 2) * DOUBLE_UNIT * magnitude);
    }
  }

  private static float[] lower(float[] a, int n) {
    float[] lower = a.clone();
    for (int i = 0; i < n; i++) {
      Arrays.fill(lower, i * n + i + 1, (i + 1) * n, 0);
    }
    return lower;
  }

  private double[] gaussian(int count) {
    return random.doubles(count, -1, 1).toArray();
  }

  /** A Gram matrix of n samples, damped: of condition 1e3 or so. */
  private float[] hessian(int n) {
    DoubleMatrix x = DoubleMatrix.of(gaussian(n * n), n, n);
    DoubleMatrix h = DoubleMatrix.zeros(n, n);
    new ScalarBackend(new Workers(1)).gemm(1.0 / n, x, x.transposed(), 0, h);
    float[] damped = new float[n * n];
    for (int i = 0; i < n * n; i++) {
      damped[i] = (float) (h.data()[i] + (i % (n + 1) == 0 ? 0.01 : 0));
    }
    return damped;
  }
}
