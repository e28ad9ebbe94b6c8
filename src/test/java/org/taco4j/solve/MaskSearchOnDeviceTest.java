package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.PivotSearch;
import org.taco4j.compute.cuda.CudaBackend;
import org.taco4j.compute.cuda.FakeCuda;
import org.taco4j.compute.simd.SimdBackend;

/** The search over masks through the cuda backend, on the driver that runs kernels on the CPU. */
final class MaskSearchOnDeviceTest {
  private static final Workers WORKERS = new Workers(2);
  private static final Backend SIMD = SimdBackend.create(WORKERS);
  private static final double NO_LIMIT = 1e6;

  private final LayerProblems problems = new LayerProblems(3);
  private FakeCuda cuda;
  private CudaBackend device;

  @BeforeEach
  void open() {
    cuda = FakeCuda.load();
    // Two thread blocks at a time, so that slots change hands.
    cuda.multiprocessors(1);
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
  void findsMasksAsGoodAsTheHosts() {
    for (String pattern : List.of("0.7", "2:4", "1:4", "rows4:0.6", "block4:0.6")) {
      for (String solver : List.of("magnitude", "wanda")) {
        SolveRequest request = problems.request(9, 40, 80, pattern, 0.01);
        if (!Solvers.byName(solver).supports(request.pattern())) {
          continue;
        }
        LayerSolution start = Solvers.byName(solver).solve(request, SIMD);
        for (Search search : List.of(Search.SWAP, Search.FULL)) {
          LayerSolution host = MaskSearch.improve(request, start, search, NO_LIMIT, 0, SIMD);
          LayerSolution found = MaskSearch.improve(request, start, search, NO_LIMIT, 0, device);
          String what = "%s %s %s".formatted(solver, pattern, search);
          assertEquals(start.removed(), found.removed(), what);
          MaskSearchTest.checkPattern(request, found, what);
          SearchReport report = Objects.requireNonNull(found.search());
          assertTrue(report.errorAfter() <= report.errorBefore() * (1 + 1e-5), what + report);
          double expected = Objects.requireNonNull(host.search()).errorAfter();
          // The same descent; where two swaps are as good but for rounding it may part.
          assertTrue(report.errorAfter() <= 1.01 * expected, what + report + expected);
          boolean moves = MaskSearch.hasMoves(request.pattern());
          assertEquals(
              moves ? SearchReport.Stopped.CONVERGED : SearchReport.Stopped.PATTERN_HAS_NO_MOVES,
              report.stopped());
          assertEquals(moves, report.swaps() > 0, what);
        }
      }
    }
  }

  /** What the device says of its supports is what they are. */
  @Test
  void reportsWhatItFinds() {
    for (int setRows : new int[] {1, 3}) {
      Swaps swaps = swaps(10, 70, setRows);
      PivotSearch.@Nullable Found[] found = device.device().swapPivots(swaps.search, () -> false);
      for (int set = 0; set < found.length; set++) {
        PivotSearch.Found actual = Objects.requireNonNull(found[set]);
        SupportSearch expected = swaps.search(set, actual.support());
        double energy = swaps.search.energies()[set];
        // Sums of some hundred terms of the energy's magnitude, condition numbers of about 1e3.
        double rounding = 1e-11 * energy;
        assertEquals(expected.error(), actual.error(), rounding);
        assertSums(expected.gains(8), actual.gains());
        assertSums(expected.costs(8), actual.costs());
        double before = swaps.search(set, swaps.search.supports()[set]).error();
        assertTrue(actual.error() <= before + rounding);
        assertEquals(swaps.search.supports()[set].length, actual.support().length);
        SupportSearch host = swaps.search(set, swaps.search.supports()[set]);
        host.swap(() -> false);
        assertTrue(actual.error() <= 1.01 * host.error() + rounding, set + ": " + actual.error());
      }
    }
  }

  private static void assertSums(double[] sums, double[] values) {
    assertEquals(sums.length, values.length);
    double sum = 0;
    for (int i = 0; i < sums.length; i++) {
      sum += values[i];
      assertEquals(sums[i], sum, 1e-8 * sums[i]);
    }
  }

  /** Wide enough for some tiles, supports of different sizes; the last set has fewer rows. */
  private Swaps swaps(int rows, int cols, int setRows) {
    DoubleMatrix h = problems.hessian(cols, 2 * cols).values();
    for (int i = 0; i < cols; i++) {
      h.data()[h.index(i, i)] += 0.02;
    }
    DoubleMatrix weights = DoubleMatrix.zeros(rows, cols);
    float[] gaussian = problems.gaussian(rows * cols);
    for (int i = 0; i < gaussian.length; i++) {
      weights.data()[i] = gaussian[i];
    }
    DoubleMatrix targets = DoubleMatrix.zeros(rows, cols);
    SIMD.gemm(1, weights, h, 0, targets);
    int sets = (rows + setRows - 1) / setRows;
    double[] energies = new double[sets];
    int[][] supports = new int[sets][];
    for (int i = 0; i < rows * cols; i++) {
      energies[i / cols / setRows] += targets.data()[i] * weights.data()[i];
    }
    for (int set = 0; set < sets; set++) {
      supports[set] = new int[set * cols / Math.max(1, sets - 1)];
      for (int p = 0; p < supports[set].length; p++) {
        supports[set][p] = p;
      }
    }
    return new Swaps(
        new PivotSearch(
            "layer", h, null, targets, setRows, energies, supports, SupportSearch.TOLERANCE));
  }

  private record Swaps(PivotSearch search) {
    SupportSearch search(int set, int[] support) {
      int first = set * search.setRows();
      int rows = Math.min(search.setRows(), search.targets().rows() - first);
      return new SupportSearch(
          new SupportSearch.Problem("layer", search.hessian(), null, SIMD),
          search.targets().block(first, rows, 0, search.hessian().cols()),
          search.energies()[set],
          support,
          /* room= */ 1);
    }
  }

  @Test
  void resultsDependNeitherOnSlotsNorOnTheOrderOfThreads() {
    SolveRequest request = problems.request(7, 60, 90, "0.7", 0.01);
    LayerSolution start = Solvers.byName("magnitude").solve(request, SIMD);
    LayerSolution first = MaskSearch.improve(request, start, Search.SWAP, NO_LIMIT, 0, device);
    for (int multiprocessors : new int[] {2, 40}) {
      cuda.order("shuffle:" + multiprocessors).multiprocessors(multiprocessors);
      try (CudaBackend other = CudaBackend.open(SIMD, 0)) {
        LayerSolution found = MaskSearch.improve(request, start, Search.SWAP, NO_LIMIT, 0, other);
        assertArrayEquals(first.weights(), found.weights());
        assertArrayEquals(first.kept(), found.kept());
      }
    }
  }

  @Test
  void stopsWhenTheTimeIsUp() {
    cuda.needsTheFake();
    SolveRequest request = problems.request(12, 40, 80, "0.8", 0.01);
    LayerSolution start = Solvers.byName("magnitude").solve(request, SIMD);
    LayerSolution none = MaskSearch.improve(request, start, Search.SWAP, 0, 0, device);
    assertArrayEquals(start.kept(), none.kept());
    double last = Double.POSITIVE_INFINITY;
    // Each look at the clock takes a second; the more there are, the more gets done.
    for (double seconds : new double[] {1, 4, 1e9}) {
      AtomicLong time = new AtomicLong();
      LayerSolution found =
          MaskSearch.improve(
              request, start, Search.SWAP, seconds, 0, device, () -> time.addAndGet(1_000_000_000));
      SearchReport report = Objects.requireNonNull(found.search());
      assertEquals(
          seconds == 1e9 ? SearchReport.Stopped.CONVERGED : SearchReport.Stopped.TIME_BUDGET,
          report.stopped());
      assertEquals(start.removed(), found.removed());
      assertTrue(report.errorAfter() <= last * (1 + 1e-6), "after " + seconds);
      last = report.errorAfter();
    }
    Swaps swaps = swaps(10, 20, 1);
    AtomicInteger looks = new AtomicInteger();
    PivotSearch.@Nullable Found[] found =
        device.device().swapPivots(swaps.search, () -> looks.getAndIncrement() > 0);
    // The largest supports go first, two at a time.
    assertNull(found[0]);
    assertNotNull(found[9]);
  }

  @Test
  void singularHessiansAreRefused() {
    Swaps swaps = swaps(4, 20, 1);
    DoubleMatrix h = swaps.search.hessian();
    h.data()[h.index(3, 3)] = -1;
    TacoException e =
        assertThrows(
            TacoException.class, () -> device.device().swapPivots(swaps.search, () -> false));
    assertEquals(TacoException.Kind.NUMERICAL, e.kind());
    assertTrue(e.getMessage().contains("layer layer"), e.getMessage());
  }
}
