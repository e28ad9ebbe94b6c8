package org.taco4j.solve;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.IntConsumer;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.PivotSearch;

/**
 * A local search over masks, to follow any solver: it lowers tr(ΔW H̃ ΔWᵀ), H̃ being the Hessian
 * with the damping that the solver used, over the masks of the same pattern with exactly as many
 * weights; the weights are the least-squares fit to the mask. Rows are independent of each other
 * but for the budget.
 *
 * <ul>
 *   <li>{@link Search#SWAP}: a kept and a removed weight of a row change places while that lowers
 *       the error ({@link SupportSearch}); for N:M inside their group.
 *   <li>{@link Search#FULL}: then rows hand over weights, from where one more costs least to where
 *       it gains most, and each row is kicked out of its local optimum in the hope of a better one.
 * </ul>
 *
 * <p>Rows that share a mask are one row with several right-hand sides. Blocks along a row and whole
 * columns are not moved; their weights are refitted.
 */
public final class MaskSearch {
  /** The most weights that a row gives or takes in one round. */
  private static final int LARGEST_TRANSFER = PivotSearch.REPORTED;

  /** As many rounds of transfers of one size. */
  private static final int TRANSFER_ROUNDS = 4;

  /** The largest kick, in columns; smaller for rows that keep little. */
  private static final int LARGEST_KICK = 8;

  private final SolveRequest request;
  private final Backend backend;
  private final LongSupplier nanoClock;
  private final long end;
  private final AtomicBoolean expired = new AtomicBoolean();
  private final SupportSearch.Problem problem;

  /** Consecutive rows that share a mask; the last set may have fewer. */
  private final int setRows;

  /** W H̃, [rows, cols]. */
  private final DoubleMatrix targets;

  private final RowSet[] sets;

  private MaskSearch(
      SolveRequest request,
      boolean[] kept,
      DoubleMatrix hessian,
      double seconds,
      LongSupplier nanoClock,
      Backend backend) {
    this.request = request;
    this.backend = backend;
    this.nanoClock = nanoClock;
    // Budgets beyond some decades would overflow.
    this.end = nanoClock.getAsLong() + (long) (1e9 * Math.min(seconds, 1e9));
    SupportSearch.Groups groups =
        request.pattern() instanceof Pattern.NM nm
            ? SupportSearch.Groups.of(request.order(), nm)
            : null;
    this.problem = new SupportSearch.Problem(request.layer(), hessian, groups, backend);
    this.setRows =
        request.pattern() instanceof Pattern.Columns
            ? request.rows()
            : request.pattern().maskRows();
    DoubleMatrix weights = DoubleMatrix.zeros(request.rows(), request.cols());
    weights.add(FloatMatrix.of(request.weights(), request.rows(), request.cols()));
    this.targets = DoubleMatrix.zeros(request.rows(), request.cols());
    backend.gemm(1, weights, hessian, 0, targets);
    this.sets = new RowSet[(request.rows() + setRows - 1) / setRows];
    for (int i = 0; i < sets.length; i++) {
      int first = i * setRows;
      DoubleMatrix b =
          targets.block(first, Math.min(setRows, request.rows() - first), 0, request.cols());
      double energy = 0;
      for (int r = 0; r < b.rows(); r++) {
        for (int j = 0; j < b.cols(); j++) {
          energy += b.at(r, j) * weights.at(first + r, j);
        }
      }
      sets[i] = new RowSet(b, energy, support(kept, first));
    }
  }

  private int[] support(boolean[] kept, int row) {
    int[] support = new int[request.cols()];
    int size = 0;
    for (int j = 0; j < support.length; j++) {
      if (kept[row * support.length + j]) {
        support[size++] = j;
      }
    }
    return Arrays.copyOf(support, size);
  }

  /** Rows that share a mask, and what the search found for them. */
  private static final class RowSet {
    final DoubleMatrix targets;
    final double energy;
    int[] support;
    double error;

    /** What 1, 2, … more or fewer columns would gain or cost. */
    double[] gains = {};

    double[] costs = {};

    int swaps;
    int kicks;
    double flop;

    RowSet(DoubleMatrix targets, double energy, int[] support) {
      this.targets = targets;
      this.energy = energy;
      this.support = support;
    }

    /** The same rows, nothing done yet. */
    RowSet copy() {
      return new RowSet(targets, energy, support);
    }

    void take(PivotSearch.Found found) {
      support = found.support();
      error = found.error();
      gains = sums(found.gains());
      costs = sums(found.costs());
      swaps += found.swaps();
      flop += found.flop();
    }

    private static double[] sums(double[] values) {
      double[] sums = values.clone();
      Arrays.parallelPrefix(sums, Double::sum);
      return sums;
    }

    void take(SupportSearch search) {
      support = search.support();
      error = search.error();
      gains = search.gains(LARGEST_TRANSFER);
      costs = search.costs(LARGEST_TRANSFER);
      flop += search.flop();
    }
  }

  /**
   * Searches from a solution on. Where that is the result of a search already, the report is of
   * both and the name that of the last: {@code fast+full}.
   *
   * @param solution of the request, by any solver
   * @param search how far to go
   * @param seconds of wall time, after which the search stops where it is
   * @param seed of the kicks
   * @return the better solution, its report in {@link LayerSolution#search}
   */
  public static LayerSolution improve(
      SolveRequest request,
      LayerSolution solution,
      Search search,
      double seconds,
      long seed,
      Backend backend) {
    return improve(request, solution, search, seconds, seed, backend, System::nanoTime);
  }

  /** {@link #improve} by a clock of the caller's. */
  static LayerSolution improve(
      SolveRequest request,
      LayerSolution solution,
      Search search,
      double seconds,
      long seed,
      Backend backend,
      LongSupplier nanoClock) {
    long start = System.nanoTime();
    double asked = solution.damping() > 0 ? solution.damping() : request.damping();
    SolveRequest damping = request.withDamping(asked);
    DampedHessian damped = DampedHessian.of(damping, backend);
    DoubleMatrix h = matrix(damping, damped);
    // Columns that are dead even after damping have 1 in H̃ and no weight: they cost nothing.
    SolveRequest live = request.withWeights(damped.live(request.weights()));
    MaskSearch run = new MaskSearch(live, solution.kept(), h, seconds, nanoClock, backend);
    long[] transfers = new long[1];
    SearchReport.Stopped stopped = run.run(search, seed, transfers);
    boolean[] kept = run.mask();
    float[] weights = LeastSquaresRefit.refit(damping, damped, kept, run.setRows, backend);

    long swaps = 0;
    long kicks = 0;
    double flop = 2.0 * (request.rows() + h.cols()) * h.cols() * h.cols();
    for (RowSet set : run.sets) {
      swaps += set.swaps;
      kicks += set.kicks;
      flop += set.flop;
    }
    double before = relativeError(live, damped.live(solution.weights()), h, backend);
    double after = relativeError(live, weights, h, backend);
    double took = (System.nanoTime() - start) / 1e9;
    SearchReport report =
        new SearchReport(swaps, kicks, transfers[0], before, after, took, stopped);
    SearchReport previous = solution.search();
    return new LayerSolution(
        weights,
        kept,
        damped.damping(),
        solution.dampingEscalations() + damped.escalations(),
        damped.deadColumns(),
        solution.seconds() + took,
        solution.gflop() + 1e-9 * flop,
        (previous == null ? solution.solver() : withoutSearch(solution.solver())) + "+" + search,
        backend.name(),
        solution.repeatedRows(),
        previous == null ? report : report.after(previous),
        /* grid= */ null);
  }

  /** The name of a searched solution's solver without the search: what is before the last plus. */
  private static String withoutSearch(String solver) {
    return solver.substring(0, solver.lastIndexOf('+'));
  }

  /** H̃ by columns. */
  private static DoubleMatrix matrix(SolveRequest request, DampedHessian damped) {
    DoubleMatrix h = request.hessian().values();
    DoubleMatrix matrix = DoubleMatrix.zeros(h.rows(), h.cols());
    for (int p = 0; p < h.rows(); p++) {
      int j = request.order()[p];
      System.arraycopy(h.data(), h.index(j, 0), matrix.data(), matrix.index(j, 0), h.cols());
      matrix.data()[matrix.index(j, j)] = damped.at(p, p);
    }
    return matrix;
  }

  private static double relativeError(
      SolveRequest request, float[] weights, DoubleMatrix damped, Backend backend) {
    Hessian hessian = new Hessian(damped, request.hessian().samples());
    return LayerError.relative(
        request.weights(), weights, request.rows(), request.cols(), hessian, backend);
  }

  /** The mask as the row sets have it. */
  private boolean[] mask() {
    int cols = request.cols();
    boolean[] kept = new boolean[request.rows() * cols];
    for (int row = 0; row < request.rows(); row++) {
      for (int j : sets[row / setRows].support) {
        kept[row * cols + j] = true;
      }
    }
    return kept;
  }

  /** Whether weights of the pattern are swapped; of the others they are refitted. */
  static boolean hasMoves(Pattern pattern) {
    return switch (pattern) {
      case Pattern.Block block -> block.groupSize() == 1;
      case Pattern.Columns columns -> false;
      case Pattern.Unstructured unstructured -> true;
      case Pattern.NM nm -> true;
      case Pattern.RowBlock rowBlock -> true;
    };
  }

  private SearchReport.Stopped run(Search search, long seed, long[] transfers) {
    if (!hasMoves(request.pattern())) {
      return SearchReport.Stopped.PATTERN_HAS_NO_MOVES;
    }
    DeviceKernels device = backend.device();
    if (device == null) {
      forEach(sets.length, i -> swap(sets[i], 0));
    } else {
      swap(device);
    }
    if (search == Search.FULL) {
      if (problem.groups() == null) {
        transfers[0] = transfer();
      }
      forEach(sets.length, i -> kick(sets[i], new SplittableRandom(seed + i)));
    }
    return expired.get() ? SearchReport.Stopped.TIME_BUDGET : SearchReport.Stopped.CONVERGED;
  }

  /** Runs the tasks that begin before the time is up, on all threads. */
  private void forEach(int count, IntConsumer task) {
    backend
        .workers()
        .forEach(
            count,
            i -> {
              if (!isExpired()) {
                task.accept(i);
              }
            });
  }

  private boolean isExpired() {
    if (!expired.get() && nanoClock.getAsLong() - end >= 0) {
      expired.set(true);
    }
    return expired.get();
  }

  /** Swaps of all row sets, on a device. */
  private void swap(DeviceKernels device) {
    SupportSearch.Groups groups = problem.groups();
    PivotSearch.@Nullable Found[] found =
        device.swapPivots(
            new PivotSearch(
                request.layer(),
                problem.hessian(),
                groups == null
                    ? null
                    : new PivotSearch.Groups(groups.columns(), groups.groupOf(), groups.size()),
                targets,
                setRows,
                Arrays.stream(sets).mapToDouble(set -> set.energy).toArray(),
                Arrays.stream(sets).map(set -> set.support).toArray(int[][]::new),
                SupportSearch.TOLERANCE),
            this::isExpired);
    for (int i = 0; i < sets.length; i++) {
      PivotSearch.Found swapped = found[i];
      if (swapped != null) {
        sets[i].take(swapped);
      }
    }
  }

  /** Swaps, after the row set has got or lost some columns. */
  private void swap(RowSet set, int change) {
    SupportSearch search =
        new SupportSearch(problem, set.targets, set.energy, set.support, Math.max(0, change) + 1);
    if (change != 0) {
      search.resize(change);
    }
    set.swaps += search.swap(this::isExpired);
    set.take(search);
  }

  private void kick(RowSet set, SplittableRandom random) {
    int largest = Math.min(LARGEST_KICK, Math.max(1, set.support.length / 4));
    SupportSearch search =
        new SupportSearch(problem, set.targets, set.energy, set.support, largest + 1);
    SupportSearch.Kicks kicks = search.kick(largest, random, this::isExpired);
    set.swaps += kicks.swaps();
    set.kicks += kicks.kicks();
    set.take(search);
  }

  /** Moves budget between row sets; returns how many columns of a set moved. */
  private long transfer() {
    long transfers = 0;
    for (int size = LARGEST_TRANSFER; size > 0; size /= 2) {
      for (int round = 0; round < TRANSFER_ROUNDS; round++) {
        int moved = transfer(size);
        transfers += moved;
        if (moved == 0) {
          break;
        }
      }
    }
    return transfers;
  }

  /**
   * One round: the row sets to which {@code size} columns mean least each hand them to one of those
   * to which they mean most, by estimate. All try, and then pairs are made again by what the change
   * really cost or gained; those that do not pay stay as they were.
   */
  private int transfer(int size) {
    List<Integer> givers = new ArrayList<>();
    List<Integer> takers = new ArrayList<>();
    for (int i = 0; i < sets.length; i++) {
      if (sets[i].targets.rows() == setRows) {
        if (sets[i].costs.length >= size && sets[i].support.length > size) {
          givers.add(i);
        }
        if (sets[i].gains.length >= size && sets[i].support.length + size <= request.cols()) {
          takers.add(i);
        }
      }
    }
    givers.sort(Comparator.comparingDouble(i -> sets[i].costs[size - 1]));
    takers.sort(Comparator.comparingDouble(i -> -sets[i].gains[size - 1]));
    int[] change = new int[sets.length];
    int taker = 0;
    for (int giver : givers) {
      while (taker < takers.size() && change[takers.get(taker)] != 0) {
        taker++;
      }
      if (change[giver] != 0 || taker == takers.size() || takers.get(taker) == giver) {
        continue;
      }
      if (sets[giver].costs[size - 1] >= sets[takers.get(taker)].gains[size - 1]) {
        break;
      }
      change[giver] = -size;
      change[takers.get(taker)] = size;
    }
    return settle(change, size);
  }

  /** Tries the changes, and keeps those that pay. */
  private int settle(int[] change, int size) {
    @Nullable RowSet[] tried = new RowSet[sets.length];
    forEach(
        sets.length,
        i -> {
          if (change[i] != 0) {
            RowSet copy = sets[i].copy();
            swap(copy, change[i]);
            tried[i] = copy.support.length == sets[i].support.length + change[i] ? copy : null;
          }
        });
    if (expired.get()) {
      return 0; // a round that did not end has no balance
    }
    List<Integer> givers = new ArrayList<>();
    List<Integer> takers = new ArrayList<>();
    for (int i = 0; i < sets.length; i++) {
      if (tried[i] != null) {
        (change[i] < 0 ? givers : takers).add(i);
      }
    }
    double[] rise = new double[sets.length];
    for (int i = 0; i < sets.length; i++) {
      RowSet copy = tried[i];
      rise[i] = copy == null ? 0 : copy.error - sets[i].error;
    }
    givers.sort(Comparator.comparingDouble(i -> rise[i]));
    takers.sort(Comparator.comparingDouble(i -> rise[i]));
    int pairs = 0;
    while (pairs < Math.min(givers.size(), takers.size())
        && rise[givers.get(pairs)] + rise[takers.get(pairs)] < 0) {
      accept(givers.get(pairs), tried);
      accept(takers.get(pairs), tried);
      pairs++;
    }
    return pairs * size;
  }

  private void accept(int i, @Nullable RowSet[] tried) {
    RowSet copy = tried[i];
    if (copy != null) {
      copy.swaps += sets[i].swaps;
      copy.flop += sets[i].flop;
      sets[i] = copy;
    }
  }
}
