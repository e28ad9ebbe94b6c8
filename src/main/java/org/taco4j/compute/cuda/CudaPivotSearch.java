package org.taco4j.compute.cuda;

import java.util.Arrays;
import java.util.Comparator;
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.compute.PivotSearch;

/**
 * {@link PivotSearch} by pivot_search.cu: a thread block searches a set of rows in a slot of device
 * memory. Launches are short, so that the clock is looked at and slots of sets that have converged
 * go to others; results do not depend on which slot a set has, nor on how many there are.
 */
final class CudaPivotSearch {
  private static final String FILE = "pivot_search";
  private static final int THREADS = 256;

  /** Thread blocks that a multiprocessor has room for. */
  private static final int BLOCKS_PER_MULTIPROCESSOR = 2;

  /** Swaps of a set in one launch: some milliseconds. */
  private static final int SWAPS_PER_LAUNCH = 32;

  // What the kernel says of a set.
  private static final int RUNNING = 1;
  private static final int CONVERGED = 2;
  private static final int SINGULAR = 3;

  /** Error, swaps, operations, gains and costs of a set. */
  private static final int RESULTS = 3 + 2 * PivotSearch.REPORTED;

  private final CudaDevice device;
  private final PivotSearch search;
  private final int cols;
  private final int sets;

  /** [sets + 1]: where the support of each set begins. */
  private final int[] starts;

  /** Columns of the largest support. */
  private final int capacity;

  CudaPivotSearch(CudaDevice device, PivotSearch search) {
    this.device = device;
    this.search = search;
    this.cols = search.hessian().cols();
    this.sets = search.supports().length;
    this.starts = new int[sets + 1];
    int largest = 1;
    for (int set = 0; set < sets; set++) {
      int size = search.supports()[set].length;
      starts[set + 1] = Math.addExact(starts[set], size);
      largest = Math.max(largest, size);
    }
    this.capacity = largest;
  }

  /**
   * Searches until all sets have converged or the time is up.
   *
   * @return [sets], null for those that were not begun
   */
  PivotSearch.@Nullable Found[] run(BooleanSupplier expired) {
    int[] sizes = slotSizes();
    long slotBytes = (long) sizes[0] * Double.BYTES + (long) sizes[1] * Integer.BYTES;
    long doubles =
        (long) cols * cols + (long) search.targets().rows() * cols + (1L + RESULTS) * sets;
    long ints = 3L * sets + 1 + starts[sets] + 2L * cols;
    long fixed = doubles * Double.BYTES + ints * Integer.BYTES;
    long wanted = Math.clamp(sets, 1, BLOCKS_PER_MULTIPROCESSOR * device.multiprocessors());
    // Where others have the memory now, one slot is waited for.
    int slots = (int) Math.clamp((device.memoryLeft() - fixed) / slotBytes, 1, wanted);
    try (DeviceScope scope = device.scope(fixed + slots * (slotBytes + Integer.BYTES))) {
      return run(scope, slots, sizes, expired);
    }
  }

  /** Doubles and ints of a slot. */
  private int[] slotSizes() {
    int[] sizes = new int[2];
    try (DeviceScope scope = device.scope()) {
      DeviceArray out = scope.ints(2);
      scope.launch(
          device.kernel(FILE, "taco4j_pivot_search_sizes"),
          LaunchShape.of(1, 1),
          cols,
          search.setRows(),
          capacity,
          out);
      scope.download(out, 0, sizes, 0, 2);
    }
    return sizes;
  }

  private PivotSearch.@Nullable Found[] run(
      DeviceScope scope, int slots, int[] sizes, BooleanSupplier expired) {
    DeviceArray hessian = scope.copyOf(search.hessian().copy().data());
    DeviceArray targets = scope.copyOf(search.targets().copy().data());
    DeviceArray energies = scope.copyOf(search.energies());
    DeviceArray begins = scope.copyOf(starts);
    DeviceArray supports =
        scope.copyOf(Arrays.stream(search.supports()).flatMapToInt(Arrays::stream).toArray());
    PivotSearch.Groups groups = search.groups();
    DeviceArray groupColumns = groups == null ? null : scope.copyOf(groups.columns());
    DeviceArray groupOf = groups == null ? null : scope.copyOf(groups.groupOf());
    DeviceArray slotSets = scope.ints(slots);
    DeviceArray status = scope.ints(sets);
    scope.clear(status);
    DeviceArray results = scope.doubles((long) RESULTS * sets);
    DeviceArray doubles = scope.doubles((long) slots * sizes[0]);
    DeviceArray ints = scope.ints((long) slots * sizes[1]);
    Kernel kernel = device.kernel(FILE, "taco4j_pivot_search_f64");

    int[] states = new int[sets];
    Waiting waiting = new Waiting();
    int[] assigned = new int[slots];
    Arrays.fill(assigned, -1);
    while (waiting.refill(assigned, states) && !expired.getAsBoolean()) {
      scope.upload(assigned, 0, slotSets, 0, slots);
      scope.launch(
          kernel,
          LaunchShape.of(slots, THREADS),
          hessian,
          cols,
          targets,
          search.targets().rows(),
          search.setRows(),
          energies,
          begins,
          supports,
          groupColumns,
          groupOf,
          groups == null ? 0 : groups.size(),
          slotSets,
          status,
          results,
          capacity,
          doubles,
          sizes[0],
          ints,
          sizes[1],
          search.tolerance(),
          SWAPS_PER_LAUNCH);
      scope.download(status, 0, states, 0, sets);
    }
    return found(scope, states, supports, results);
  }

  /** The sets that wait for a slot, the largest supports first: they take longest. */
  private final class Waiting {
    private final int[] order =
        IntStream.range(0, sets)
            .boxed()
            .sorted(Comparator.comparingInt(set -> -search.supports()[set].length))
            .mapToInt(Integer::intValue)
            .toArray();
    private int next;

    /** Gives the slots of sets that are done to others; whether any is still in use. */
    boolean refill(int[] assigned, int[] states) {
      boolean busy = false;
      for (int slot = 0; slot < assigned.length; slot++) {
        if (assigned[slot] >= 0 && states[assigned[slot]] >= CONVERGED) {
          assigned[slot] = -1;
        }
        if (assigned[slot] < 0 && next < sets) {
          assigned[slot] = order[next++];
        }
        busy |= assigned[slot] >= 0;
      }
      return busy;
    }
  }

  private PivotSearch.@Nullable Found[] found(
      DeviceScope scope, int[] states, DeviceArray supports, DeviceArray results) {
    int[] columns = new int[starts[sets]];
    scope.download(supports, 0, columns, 0, columns.length);
    double[] numbers = new double[RESULTS * sets];
    scope.download(results, 0, numbers, 0, numbers.length);
    PivotSearch.@Nullable Found[] found = new PivotSearch.Found[sets];
    for (int set = 0; set < sets; set++) {
      if (states[set] == SINGULAR) {
        throw TacoException.numerical(
            "layer %s: the Hessian of the %d columns that a row keeps is singular in spite of damping"
                .formatted(search.layer(), search.supports()[set].length));
      }
      if (states[set] >= RUNNING) {
        int[] support = Arrays.copyOfRange(columns, starts[set], starts[set + 1]);
        Arrays.sort(support);
        int at = set * RESULTS;
        int gains = at + 3;
        int costs = gains + PivotSearch.REPORTED;
        found[set] =
            new PivotSearch.Found(
                support,
                numbers[at],
                Arrays.copyOfRange(numbers, gains, gains + Math.min(PivotSearch.REPORTED, cols)),
                Arrays.copyOfRange(
                    numbers, costs, costs + Math.min(PivotSearch.REPORTED, support.length)),
                (int) numbers[at + 1],
                numbers[at + 2]);
      }
    }
    return found;
  }
}
