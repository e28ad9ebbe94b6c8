package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.cuda.CudaBackends;
import org.taco4j.compute.cuda.FakeCuda;
import org.taco4j.compute.scalar.ScalarBackend;

/** A refit as one operation of a device against the same on the host. */
class DeviceRefitTest {
  private static final Backend SCALAR = new ScalarBackend(new Workers(1));

  private FakeCuda cuda;

  @BeforeEach
  void load() {
    // Fewer blocks than rows, so that they take turns.
    cuda = FakeCuda.load().multiprocessors(2);
  }

  @AfterEach
  void close() {
    if (cuda != null) {
      cuda.close();
    }
  }

  private static Backend open(boolean libraries) {
    Workers workers = new Workers(1);
    return libraries ? CudaBackends.ofLibraries(workers) : CudaBackends.ofOwnKernels(workers);
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void refitsAsTheHost(boolean libraries) {
    try (Backend device = open(libraries)) {
      int[][] shapes = {{1, 1, 1}, {3, 17, 1}, {9, 130, 1}, {10, 65, 4}, {5, 200, 2}};
      for (int[] shape : shapes) {
        for (double sparsity : new double[] {0, 0.3, 0.5, 0.9, 1}) {
          for (boolean shuffled : new boolean[] {false, true}) {
            check(shape, sparsity, shuffled, device);
          }
        }
      }
    }
  }

  private static SolveRequest request(
      LayerProblems problems, int rows, int cols, boolean shuffled) {
    SolveRequest request = problems.request(rows, cols, 2 * cols, "0.5", 0.01);
    return new SolveRequest(
        request.layer(),
        request.weights(),
        rows,
        cols,
        request.hessian(),
        shuffled ? problems.shuffled(cols) : request.order(),
        request.pattern(),
        request.damping());
  }

  private static void check(int[] shape, double sparsity, boolean shuffled, Backend device) {
    int rows = shape[0];
    int cols = shape[1];
    int maskRows = shape[2];
    LayerProblems problems = new LayerProblems(7);
    SolveRequest request = request(problems, rows, cols, shuffled);
    Random random = new Random(3);
    boolean[] kept = new boolean[rows * cols];
    for (int row = 0; row < rows; row++) {
      for (int col = 0; col < cols; col++) {
        kept[row * cols + col] =
            row % maskRows == 0 ? random.nextDouble() >= sparsity : kept[(row - 1) * cols + col];
      }
    }
    DampedHessian hessian = DampedHessian.of(request, SCALAR);
    float[] expected = LeastSquaresRefit.refit(request, hessian, kept, maskRows, SCALAR);
    float[] actual = LeastSquaresRefit.refit(request, hessian, kept, maskRows, device);
    double largest = 0;
    for (float weight : expected) {
      largest = Math.max(largest, Math.abs(weight));
    }
    for (int i = 0; i < expected.length; i++) {
      // Both in double: what differs is far below the rounding to float.
      assertEquals(
          expected[i], actual[i], Math.ulp(1f) * largest, "[%d, %d]".formatted(rows, cols));
      assertTrue(kept[i] || Float.floatToRawIntBits(actual[i]) == 0);
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void namesRowsThatDependOnEachOther(boolean libraries) {
    int cols = 20;
    LayerProblems problems = new LayerProblems(7);
    SolveRequest request = request(problems, 3, cols, false);
    DampedHessian hessian = DampedHessian.of(request, SCALAR);
    // What a device is given: the inverse has lost its meaning in the last column.
    hessian.inverse().data()[cols * cols - 1] = -1;
    boolean[] kept = new boolean[3 * cols];
    for (int i = 0; i < kept.length; i++) {
      kept[i] = i != 2 * cols - 1; // row 1 removes the last column
    }
    try (Backend device = open(libraries)) {
      TacoException onHost =
          assertThrows(
              TacoException.class,
              () -> LeastSquaresRefit.refit(request, hessian, kept, 1, SCALAR));
      TacoException onDevice =
          assertThrows(
              TacoException.class,
              () -> LeastSquaresRefit.refit(request, hessian, kept, 1, device));
      assertEquals(onHost.getMessage(), onDevice.getMessage());
      assertEquals(TacoException.Kind.NUMERICAL, onDevice.kind());
    }
  }
}
