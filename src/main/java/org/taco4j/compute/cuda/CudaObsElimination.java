package org.taco4j.compute.cuda;

import java.util.Arrays;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.LayerElimination;
import org.taco4j.compute.ObsElimination;

/**
 * {@link LayerElimination} by obc_elimination.cu and obc_allocation.cu: one launch for all sets of
 * rows, and of their traces only what is asked for leaves the device.
 */
final class CudaObsElimination implements LayerElimination {
  private static final String ELIMINATION = "obc_elimination";
  private static final String ALLOCATION = "obc_allocation";

  /** Columns from where offsets in the inverse are no ints any more, and some room. */
  private static final int MOST_COLUMNS = 65000;

  private static final int THREADS = 256;
  private static final int DIGITS = 8;

  private final DoubleMatrix inverse;
  private final double[] leastPivots;
  private final ObsElimination.Units units;
  private final int n;
  private final int rows;
  private final int setRows;
  private final int sets;

  /** How many units a set can lose. */
  private final int depth;

  private final CudaDevice device;
  private final DeviceScope scope;

  /** [rows, n]. */
  private final DeviceArray weights;

  /** [sets, depth]. */
  private final DeviceArray order;

  /** [sets, depth]. */
  private final DeviceArray losses;

  /** [sets]. */
  private final DeviceArray taken;

  /** What the host knows of {@link #taken}; negative where a set is spoilt. */
  private final int[] steps;

  private final DeviceArray next;

  /** [257]. */
  private final DeviceArray histogram;

  /** [2]; the first is the threshold, when all digits are found. */
  private final DeviceArray state;

  private @Nullable Form form;

  /**
   * What eliminations in one precision need.
   *
   * @param inverse panels
   * @param least [n]
   * @param blocks that there is scratch for
   * @param scratch [blocks, shape.scratch()]
   */
  private record Form(
      boolean float64,
      ObcShape shape,
      DeviceArray inverse,
      DeviceArray least,
      int blocks,
      DeviceArray scratch) {}

  /**
   * Of a layer; its memory is waited for.
   *
   * @param inverse H⁻¹, [n, n], borrowed
   * @param leastPivots [n], borrowed
   * @param weights [rows, n], copied
   * @param setRows rows that share a mask
   * @param float64 the precision of the first run, which memory is reserved for
   */
  CudaObsElimination(
      CudaDevice device,
      DoubleMatrix inverse,
      double[] leastPivots,
      ObsElimination.Units units,
      FloatMatrix weights,
      int setRows,
      boolean float64) {
    n = inverse.rows();
    units.check(n);
    if (!inverse.isRowMajor() || !weights.isRowMajor()) {
      throw new IllegalArgumentException("matrices that are not row-major");
    }
    if (n > MOST_COLUMNS) {
      throw TacoException.runtime(
          "exact OBC on %s: %d columns; it is for %d at most".formatted(device, n, MOST_COLUMNS));
    }
    this.device = device;
    this.inverse = inverse;
    this.leastPivots = leastPivots;
    this.units = units;
    this.rows = weights.rows();
    this.setRows = setRows;
    this.sets = (rows + setRows - 1) / setRows;
    this.depth = units.removable(n);
    this.steps = new int[sets];

    ObcShape shape = shape(float64);
    long fixed =
        4L * rows * n
            + 12L * sets * depth
            + 4L * sets
            + 4096
            + (ObcShape.panelElements(n) + n) * shape.elementBytes();
    long perBlock = shape.scratch() * shape.elementBytes();
    // The inverse as it comes, and later masks; both are gone when the work is on.
    long passing = Math.max(8L * n * n, 2L * rows * n);
    int blocks = affordable(shape, sets, device.memoryLimit() - fixed - passing);
    scope = device.scope(fixed + passing + blocks * perBlock);
    try {
      this.weights = scope.floats((long) rows * n);
      boolean whole = weights.rowStride() == n;
      for (int row = 0; row < rows; row += whole ? rows : 1) {
        scope.upload(
            weights.data(),
            weights.index(row, 0),
            this.weights,
            (long) row * n,
            whole ? rows * n : n);
      }
      order = scope.ints((long) sets * depth);
      losses = scope.doubles((long) sets * depth);
      taken = scope.ints(sets);
      scope.clear(taken);
      next = scope.ints(1);
      histogram = scope.ints(257);
      scope.clear(histogram);
      state = scope.doubles(2);
    } catch (RuntimeException e) {
      scope.close();
      throw e;
    }
  }

  private ObcShape shape(boolean float64) {
    return ObcShape.of(
        n,
        setRows,
        units,
        depth,
        float64 ? Double.BYTES : Float.BYTES,
        device.sharedMemoryPerBlock());
  }

  /** How many blocks run side by side: no more than there is scratch for, but one. */
  private int affordable(ObcShape shape, int count, long bytes) {
    int resident = Math.min(count, shape.perMultiprocessor() * device.multiprocessors());
    long perBlock = Math.max(1, shape.scratch() * shape.elementBytes());
    return (int) Math.max(1, Math.min(resident, bytes / perBlock));
  }

  /** Bytes that may still be allocated. */
  private long left() {
    return Math.max(0, scope.reserved() - scope.used()) + device.memoryLeft();
  }

  private Form form(boolean float64, int count) {
    Form before = form;
    if (before != null) {
      ObcShape shape = before.shape();
      long scratch = before.blocks() * shape.scratch() * shape.elementBytes();
      if (before.float64() == float64
          && before.blocks() >= affordable(shape, count, left() + scratch)) {
        return before;
      }
      scope.free(before.inverse());
      scope.free(before.least());
      scope.free(before.scratch());
      form = null;
    }
    ObcShape shape = shape(float64);
    DeviceArray given = scope.doubles((long) n * n);
    boolean whole = inverse.rowStride() == n;
    for (int i = 0; i < n; i += whole ? n : 1) {
      scope.upload(inverse.data(), inverse.index(i, 0), given, (long) i * n, whole ? n * n : n);
    }
    long elements = ObcShape.panelElements(n);
    DeviceArray panels = float64 ? scope.doubles(elements) : scope.floats(elements);
    scope.launch(
        device.kernel(ELIMINATION, float64 ? "taco4j_obc_pack_f64" : "taco4j_obc_pack_f64_f32"),
        LaunchShape.of(LaunchShape.blocks(n, ObcShape.PANEL), THREADS),
        given,
        n,
        n,
        panels);
    scope.free(given);
    DeviceArray least;
    // Half, as rounding may take a little.
    if (float64) {
      least = scope.copyOf(Arrays.stream(leastPivots).map(pivot -> 0.5 * pivot).toArray());
    } else {
      float[] half = new float[n];
      for (int p = 0; p < n; p++) {
        half[p] = (float) (0.5 * leastPivots[p]);
      }
      least = scope.copyOf(half);
    }
    int blocks = affordable(shape, count, left());
    long scratch = blocks * shape.scratch();
    Form made =
        new Form(
            float64,
            shape,
            panels,
            least,
            blocks,
            float64 ? scope.doubles(scratch) : scope.floats(scratch));
    form = made;
    return made;
  }

  @Override
  public int[] run(int[] sets, double stopLoss, boolean float64) {
    if (sets.length == 0 || depth == 0) {
      return new int[sets.length];
    }
    Form form = form(float64, sets.length);
    ObcShape shape = form.shape();
    DeviceArray list = scope.copyOf(sets);
    Kernel kernel =
        device.kernel(
            ELIMINATION,
            "taco4j_obc_%s_%s"
                .formatted(units.blockSize() == 1 ? "columns" : "blocks", float64 ? "f64" : "f32"));
    // As long as it takes, or one set for each block, which is the least there is.
    int atOnce = device.endsLongKernels() ? form.blocks() : sets.length;
    for (int first = 0; first < sets.length; first += atOnce) {
      int count = Math.min(atOnce, sets.length - first);
      scope.clear(next);
      scope.launch(
          kernel,
          LaunchShape.of(Math.min(form.blocks(), count), shape.threads())
              .withShared(shape.sharedBytes()),
          form.inverse(),
          form.least(),
          weights,
          n,
          rows,
          setRows,
          list.at(first),
          count,
          units.blockSize(),
          units.groupSize(),
          units.groupBudget(),
          depth,
          float64 ? (Object) stopLoss : (Object) roundedDown(stopLoss),
          next,
          form.scratch(),
          shape.scratch(),
          shape.vectors(),
          shape.globalU(),
          shape.sharedVectors() ? 1 : 0,
          shape.sharedU(),
          order,
          losses,
          taken);
    }
    scope.download(taken, 0, steps, 0, this.sets);
    scope.free(list);
    return Arrays.stream(sets).map(set -> steps[set]).toArray();
  }

  /** The largest float that is no more: a float is no more than it just where it is no more. */
  private static float roundedDown(double value) {
    float rounded = (float) value;
    return rounded > value ? Math.nextDown(rounded) : rounded;
  }

  private int grid() {
    return Math.min(LaunchShape.blocks(sets, THREADS / 32), 8 * device.multiprocessors());
  }

  private long available() {
    return Arrays.stream(steps).filter(taken -> taken > 0).asLongStream().sum();
  }

  @Override
  public double threshold(long total) {
    if (total > available()) {
      return Double.POSITIVE_INFINITY;
    }
    select(total);
    double[] threshold = new double[1];
    scope.download(state, 0, threshold, 0, 1);
    return threshold[0];
  }

  private void select(long total) {
    Kernel digits = device.kernel(ALLOCATION, "taco4j_obc_select_digit");
    for (int digit = 0; digit < DIGITS; digit++) {
      scope.launch(
          digits,
          LaunchShape.of(grid(), THREADS),
          losses,
          taken,
          sets,
          depth,
          total - 1,
          digit,
          state,
          histogram);
    }
  }

  @Override
  public boolean[] kept(long total, int[] columns) {
    if (total > available()) {
      throw new IllegalArgumentException(total + " units of " + available());
    }
    DeviceArray counts = scope.ints(sets);
    if (total == 0) {
      scope.clear(counts);
    } else {
      select(total);
      DeviceArray equal = scope.ints(sets);
      scope.launch(
          device.kernel(ALLOCATION, "taco4j_obc_count"),
          LaunchShape.of(grid(), THREADS),
          losses,
          taken,
          sets,
          depth,
          state,
          counts,
          equal);
      scope.launch(
          device.kernel(ALLOCATION, "taco4j_obc_share_ties"),
          LaunchShape.of(1, 32),
          total,
          sets,
          counts,
          equal);
      scope.free(equal);
    }
    DeviceArray positions = scope.copyOf(columns);
    DeviceArray mask = scope.bytes((long) rows * n);
    scope.launch(
        device.kernel(ALLOCATION, "taco4j_obc_mask"),
        LaunchShape.of(Math.min(sets, 16 * device.multiprocessors()), THREADS),
        order,
        counts,
        sets,
        depth,
        positions,
        units.blockSize(),
        rows,
        setRows,
        n,
        mask);
    boolean[] kept = new boolean[rows * n];
    scope.download(mask, 0, kept, 0, kept.length);
    scope.free(counts);
    scope.free(positions);
    scope.free(mask);
    return kept;
  }

  @Override
  public int[][] order() {
    int[] all = new int[sets * depth];
    scope.download(order, 0, all, 0, all.length);
    int[][] bySet = new int[sets][];
    Arrays.setAll(
        bySet, set -> Arrays.copyOfRange(all, set * depth, set * depth + Math.max(0, steps[set])));
    return bySet;
  }

  @Override
  public double[][] losses() {
    double[] all = new double[sets * depth];
    scope.download(losses, 0, all, 0, all.length);
    double[][] bySet = new double[sets][];
    Arrays.setAll(
        bySet, set -> Arrays.copyOfRange(all, set * depth, set * depth + Math.max(0, steps[set])));
    return bySet;
  }

  @Override
  public void close() {
    scope.close();
  }
}
