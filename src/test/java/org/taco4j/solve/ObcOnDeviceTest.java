package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.LayerElimination;
import org.taco4j.compute.ObsElimination;
import org.taco4j.compute.cuda.CudaBackend;
import org.taco4j.compute.cuda.FakeCuda;
import org.taco4j.compute.simd.SimdBackend;

/** Exact OBC on a device, which here is the CPU in disguise, against the host's. */
final class ObcOnDeviceTest {
  private static final Workers WORKERS = new Workers(2);
  private static final Backend SIMD = SimdBackend.create(WORKERS);

  private FakeCuda fake;
  private Backend cuda;

  @BeforeEach
  void open() {
    fake = FakeCuda.load();
    cuda = CudaBackend.open(SimdBackend.create(WORKERS), 0);
  }

  @AfterEach
  void close() {
    if (fake != null) {
      cuda.close();
      fake.close();
    }
  }

  @Test
  void agreesWithTheReferenceAnswers() {
    ObcGoldenTest.Setup wide = new ObcGoldenTest.Setup(cuda, Precision.FLOAT64);
    ObcGoldenTest.Setup narrow = new ObcGoldenTest.Setup(cuda, Precision.FLOAT32);
    int compared = 0;
    for (GoldenProblem.Answer answer : GoldenProblem.answersOf("obc")) {
      if (wide.includes(answer.setting())) {
        // The kernels are the same but for the type; half of the answers in each.
        ObcGoldenTest.compare(answer, compared % 2 == 0 ? wide : narrow);
        compared++;
      }
    }
    assertEquals(4 * 3, compared);
  }

  @Test
  void eliminatesInTheOrderOfTheReference() {
    new ObcGoldenTest()
        .eliminatesInTheOrderOfTheReference(new ObcGoldenTest.Setup(cuda, Precision.FLOAT64));
  }

  @Test
  void solvesAsTheHost() {
    LayerProblems problems = new LayerProblems(3);
    // Rows from which on a sample of them says where the others stop; all kinds of units; few
    // columns that are never compacted, and more.
    for (String pattern : List.of("0.6", "2:4", "4:8", "block4:0.5", "block3:0.5", "rows4:0.7")) {
      for (int cols : new int[] {24, 144}) {
        int rows = pattern.equals("0.6") ? 66 : 10;
        SolveRequest request = problems.request(rows, cols, 2 * cols, pattern, 0.01);
        ObcSolver solver = new ObcSolver(Precision.FLOAT64);
        LayerSolution expected = solver.solve(request, SIMD);
        LayerSolution actual = solver.solve(request, cuda);
        String what = pattern + " of " + cols;
        assertArrayEquals(expected.kept(), actual.kept(), what);
        assertArrayEquals(expected.weights(), actual.weights(), 1e-5f, what);
        assertEquals(expected.gflop(), actual.gflop(), 1e-9 * expected.gflop(), what);
        assertEquals("cuda", actual.backend());
      }
    }
  }

  @Test
  void bytesDependNeitherOnMemoryNorOnMultiprocessors() {
    SolveRequest request = new LayerProblems(5).request(9, 150, 300, "0.6", 0.01);
    ObcSolver solver = new ObcSolver(Precision.FLOAT32);
    ObcTrace expected = solver.trace(request, cuda);
    cuda.close();
    // Nor on how many launches they come from.
    fake.multiprocessors(1).kernelTimeout(true);
    // As much as one thread block needs: panels, twice, and the inverse as it comes.
    cuda = CudaBackend.open(SimdBackend.create(WORKERS), 700_000);
    ObcTrace actual = solver.trace(request, cuda);
    assertArrayEquals(expected.order(), actual.order());
    assertArrayEquals(expected.losses(), actual.losses());
    cuda.close();
    cuda = CudaBackend.open(SimdBackend.create(WORKERS), 100_000);
    TacoException e = assertThrows(TacoException.class, () -> solver.trace(request, cuda));
    assertEquals(TacoException.Kind.RUNTIME, e.kind());
    assertTrue(e.getMessage().contains("--gpu-memory"), e.getMessage());
  }

  @Test
  void blocksFitIntoTheSharedMemoryOfEveryKindOfGpu() {
    SolveRequest request = new LayerProblems(5).request(3, 150, 300, "0.6", 0.01);
    ObcSolver solver = new ObcSolver(Precision.FLOAT64);
    ObcTrace expected = solver.trace(request, SIMD);
    for (int capability : new int[] {75, 80, 86, 89, 90}) {
      cuda.close();
      fake.capability(capability);
      cuda = CudaBackend.open(SimdBackend.create(WORKERS), 0);
      assertArrayEquals(expected.order(), solver.trace(request, cuda).order(), "sm_" + capability);
    }
  }

  @Test
  void setsAreRunAgainInFloat64() {
    int n = 70;
    DampedHessian hessian =
        DampedHessian.of(new LayerProblems(1).request(6, n, 140, "0.5", 0.01), SIMD);
    double[] least = new double[n];
    for (int p = 0; p < n; p++) {
      least[p] = 1 / hessian.at(p, p);
    }
    FloatMatrix weights = FloatMatrix.zeros(6, n);
    Random random = new Random(2);
    for (int i = 0; i < weights.data().length; i++) {
      weights.data()[i] = (float) random.nextGaussian();
    }
    DeviceKernels device = cuda.device();
    try (LayerElimination host =
            new HostElimination(
                SIMD, hessian.inverse(), least, ObsElimination.Units.COLUMNS, weights, 1);
        LayerElimination rows =
            device.obsElimination(
                hessian.inverse(), least, ObsElimination.Units.COLUMNS, weights, 1, false)) {
      int[] all = {0, 1, 2, 4, 5}; // the fourth never
      int[] few = {4, 1};
      for (LayerElimination elimination : List.of(host, rows)) {
        int[] full = {n, n, n, n, n};
        assertArrayEquals(full, elimination.run(all, Double.POSITIVE_INFINITY, false));
        assertArrayEquals(new int[] {n, n}, elimination.run(few, Double.POSITIVE_INFINITY, true));
      }
      assertEquals(0, rows.order()[3].length);
      for (int set : few) {
        assertArrayEquals(host.order()[set], rows.order()[set]);
        assertArrayEquals(host.losses()[set], rows.losses()[set], 1e-9);
      }
      assertEquals(host.threshold(100), rows.threshold(100), 1e-5);
      assertEquals(Double.POSITIVE_INFINITY, rows.threshold(5L * n + 1));
      int[] columns = new LayerProblems(4).shuffled(n);
      assertArrayEquals(host.kept(123, columns), rows.kept(123, columns));
      boolean[] none = rows.kept(0, columns);
      boolean[] expected = new boolean[6 * n];
      Arrays.fill(expected, true);
      assertArrayEquals(expected, none);
      // A stop at which some have taken fewer steps than before.
      double stop = host.threshold(150);
      assertArrayEquals(host.run(all, stop, true), rows.run(all, stop, true));
    }
  }
}
