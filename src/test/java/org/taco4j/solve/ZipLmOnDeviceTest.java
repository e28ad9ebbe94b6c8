package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.Arrays;
import java.util.Objects;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.cuda.CudaBackend;
import org.taco4j.compute.cuda.FakeCuda;
import org.taco4j.compute.simd.SimdBackend;

/** ZipLM through the cuda backend, on the driver that runs kernels on the CPU. */
final class ZipLmOnDeviceTest {
  private static final Workers WORKERS = new Workers(2);
  private static final Backend SIMD = SimdBackend.create(WORKERS);

  private final LayerProblems problems = new LayerProblems(3);
  private FakeCuda cuda;
  private CudaBackend device;

  @BeforeEach
  void open() {
    cuda = FakeCuda.load();
    device = CudaBackend.open(SIMD, 0);
  }

  @AfterEach
  void nothingLeaks() {
    if (cuda != null) {
      device.close();
      cuda.close();
    }
  }

  @Test
  void removesWhatTheHostRemoves() {
    // Sizes beyond one compaction, and groups that do not divide what is gathered until then.
    int[][] shapes = {{1, 1, 2}, {3, 1, 17}, {7, 3, 50}, {4, 9, 20}, {20, 1, 300}, {2, 130, 3}};
    for (int[] shape : shapes) {
      int cols = shape[1] * shape[2];
      float[] weights = problems.gaussian(shape[0] * cols);
      Hessian hessian = problems.hessian(cols, cols / 2 + 1);
      for (int count = 1; count < shape[2]; count += 1 + shape[2] / 3) {
        Pattern.Columns pattern = new Pattern.Columns((double) count / shape[2], shape[1]);
        SolveRequest request =
            LayerProblems.request(weights, shape[0], hessian, pattern, /* damping= */ 0.01);
        LayerSolution expected = new ZipLmSolver().solve(request, SIMD);
        LayerSolution actual = new ZipLmSolver().solve(request, device);
        String what = Arrays.toString(shape) + ", " + count;
        assertArrayEquals(expected.kept(), actual.kept(), what);
        // Fits in double to the same columns.
        assertArrayEquals(expected.weights(), actual.weights(), 1e-5f, what);
        assertEquals("cuda", actual.backend());
      }
    }
  }

  @Test
  void agreesWithTheReference() {
    int compared = 0;
    for (GoldenProblem.Answer answer : GoldenProblem.answersOf("ziplm")) {
      String[] setting = answer.setting().split("_s"); // "cols9_s0.25"
      Pattern pattern =
          Pattern.parse("columns:" + setting[1] + ":group=" + setting[0].substring(4));
      SolveRequest request = answer.problem().request(pattern, 0.01);
      LayerSolution expected = new ZipLmSolver().solve(request, SIMD);
      LayerSolution actual = new ZipLmSolver().solve(request, device);
      // ZipLmSolverTest has what the host's answer is to the reference's.
      assertArrayEquals(expected.kept(), actual.kept(), answer.toString());
      compared++;
    }
    assertEquals(4 * 3 + 3, compared);
  }

  @Test
  void threadsMayRunInAnyOrder() {
    SolveRequest request = problems.request(5, 160, 200, "columns:0.9:group=4", 0.01);
    float[] expected = new ZipLmSolver().solve(request, device).weights();
    for (String order : new String[] {"backward", "shuffle:5"}) {
      cuda.order(order);
      assertArrayEquals(expected, new ZipLmSolver().solve(request, device).weights(), order);
    }
  }

  @Test
  void saysWhereDefinitenessIsLost() {
    for (int group : new int[] {1, 4}) {
      for (double poison : new double[] {0, -1, Double.NaN}) {
        DoubleMatrix inverse = DoubleMatrix.zeros(8, 8);
        DoubleMatrix weights = DoubleMatrix.zeros(1, 8);
        for (int i = 0; i < 8; i++) {
          inverse.data()[inverse.index(i, i)] = i == 5 ? poison : 1;
          weights.data()[i] = i + 1;
        }
        assertNull(device.device().removeColumnGroups(inverse, weights, group, 2));
      }
    }
    int[] order =
        device
            .device()
            .removeColumnGroups(
                DoubleMatrix.of(new double[] {1, 0, 0, 4}, 2, 2),
                DoubleMatrix.of(new double[] {1, 1}, 1, 2),
                /* group= */ 1,
                /* count= */ 2);
    // What is correlated more, or matters less, goes first.
    assertArrayEquals(new int[] {1, 0}, Objects.requireNonNull(order));
  }

  @Test
  void refusesWhatTheHostRefuses() {
    float[] weights = problems.gaussian(2 * 30);
    double[] nan = new double[900];
    Arrays.fill(nan, Double.NaN);
    Hessian broken = new Hessian(DoubleMatrix.of(nan, 30, 30), 5);
    SolveRequest request =
        LayerProblems.request(weights, 2, broken, Pattern.parse("columns:0.5"), 0.01);
    TacoException e =
        assertThrows(TacoException.class, () -> new ZipLmSolver().solve(request, device));
    assertEquals(TacoException.Kind.NUMERICAL, e.kind());
  }
}
