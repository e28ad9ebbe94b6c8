package org.taco4j.compute.cuda;

import java.lang.foreign.MemorySegment;
import java.nio.FloatBuffer;
import org.jspecify.annotations.Nullable;
import org.taco4j.compute.GramSum;
import org.taco4j.compute.Patches;
import org.taco4j.compute.ResidualSum;

/**
 * {@link GramSum} and {@link ResidualSum} by gram.cu. Images wait on the device until there are
 * enough of them for a launch that is worth reading and writing the sums for. How many that are
 * depends on shapes only, so that sums do not depend on the size of batches. Everything is queued;
 * only results are waited for.
 */
final class CudaGram implements GramSum, ResidualSum {
  /** Samples that are added up in float32; a multiple of 8. */
  private static final int SLICE = 4096;

  /** Samples of a split that make reading and writing its sums small beside the products. */
  private static final int SPLIT_SAMPLES = 2048;

  /** Memory for images that wait, where one of them does not need more. */
  private static final long WAITING_BYTES = 32L << 20;

  private static final int MOST_ROWS = 65535;
  private static final int FINISH_THREADS = 128;

  private final DeviceScope scope;
  private final Patches patches;
  private final GramPlan plan;

  /** [groups, blocks, tile²]. */
  private final DeviceArray sums;

  /** [cols]: where the layer's columns are in the product. */
  private final DeviceArray order;

  /** Some rows of a result, [rows, cols]. */
  private final DeviceArray out;

  private final @Nullable Cross cross;
  private @Nullable Room room;

  /** Images that wait in the room. */
  private int filled;

  /**
   * What residuals need.
   *
   * @param rows of one group
   * @param order [rows + 1]: where they are in the product, and that of ones
   * @param sums [groups, blocks, tile²]
   */
  private record Cross(CrossPlan plan, int rows, DeviceArray order, DeviceArray sums) {}

  /**
   * What images of one size need.
   *
   * @param size of inputs
   * @param residualSize of residuals, where there are any
   * @param capacity images
   * @param unit images that come together, so that they are whole images of residuals, too
   */
  private record Room(
      Patches.Images size,
      Patches.@Nullable Images residualSize,
      int capacity,
      int unit,
      Side inputs,
      @Nullable Side residuals) {}

  /**
   * One side's images, and the products that are added when they are complete.
   *
   * @param products GramProducts
   * @param columns offsets of columns, four a number
   */
  private record Side(WaitingImages images, DeviceArray products, DeviceArray columns) {
    void free(DeviceScope scope) {
      images.free();
      scope.free(products);
      scope.free(columns);
    }
  }

  /** Sums of inputs. */
  CudaGram(DeviceScope scope, Patches patches) {
    this(scope, patches, 0);
  }

  /**
   * Sums of inputs and residuals.
   *
   * @param scope becomes this one's
   * @param rows of the residuals of one group; 0 for no residuals
   */
  CudaGram(DeviceScope scope, Patches patches, int rows) {
    this.patches = patches;
    this.plan = new GramPlan(patches);
    this.scope = scope;
    try {
      this.sums = zeros(plan.sums());
      this.order = scope.copyOf(plan.order());
      int cols = patches.cols();
      long rowsAtOnce = WaitingImages.RAW_BYTES / ((long) cols * Double.BYTES);
      this.out = scope.doubles((long) Math.clamp(rowsAtOnce, 1, Math.min(cols, MOST_ROWS)) * cols);
      if (rows == 0) {
        this.cross = null;
      } else {
        CrossPlan crossPlan = new CrossPlan(patches, plan, rows);
        this.cross =
            new Cross(crossPlan, rows, scope.copyOf(crossPlan.order()), zeros(crossPlan.sums()));
      }
      scope.rest();
    } catch (RuntimeException e) {
      scope.close();
      throw e;
    }
  }

  private DeviceArray zeros(long ofGroup) {
    DeviceArray array = scope.doubles(Math.multiplyExact(ofGroup, patches.groups()));
    scope.clear(array);
    return array;
  }

  /**
   * Device memory that is needed, as long as images are not very large.
   *
   * @param rows as in the constructor
   */
  static long bytes(Patches patches, int rows) {
    GramPlan plan = new GramPlan(patches);
    long doubles = plan.sums();
    // Twice, as there are two of it while its room grows.
    long images = 2 * WAITING_BYTES + 2 * WaitingImages.RAW_BYTES;
    if (rows > 0) {
      doubles += new CrossPlan(patches, plan, rows).sums();
      images *= 2;
    }
    return doubles * patches.groups() * Double.BYTES + images;
  }

  @Override
  public void add(FloatBuffer values, Patches.Images images) {
    add(values, images, null, null);
  }

  @Override
  public void add(
      FloatBuffer values,
      Patches.Images images,
      @Nullable FloatBuffer residuals,
      Patches.@Nullable Images residualImages) {
    if ((long) images.count() * images.positions() == 0) {
      return;
    }
    Room to = room(images, residualImages);
    MemorySegment from = MemorySegment.ofBuffer(values);
    MemorySegment residualsFrom = residuals == null ? null : MemorySegment.ofBuffer(residuals);
    for (int done = 0; done < images.count(); ) {
      int count = Math.min(images.count() - done, to.capacity - filled);
      count = Math.min(count, to.inputs.images.most());
      if (to.residuals != null && residualsFrom != null && residualImages != null) {
        // In images of residuals, of which there may be more or fewer.
        long samples = images.positions();
        long positions = residualImages.positions();
        count = (int) Math.min(count, to.residuals.images.most() * positions / samples);
        count = count / to.unit * to.unit;
        to.residuals.images.put(
            residualsFrom,
            done * samples / positions,
            (int) (count * samples / positions),
            filled * samples / positions);
      }
      to.inputs.images.put(from, done, count, filled);
      filled += count;
      done += count;
      if (filled == to.capacity) {
        flush();
      }
    }
    scope.rest();
  }

  /** Queues the products of what waits. */
  private void flush() {
    Room from = room;
    if (from == null || filled == 0) {
      return;
    }
    scope.launch(
        kernel(plan.tile()),
        LaunchShape.grid(plan.blocks(), patches.groups(), plan.threads()),
        from.inputs.images.array(),
        from.inputs.images.array(),
        from.inputs.columns,
        from.inputs.products,
        plan.products(),
        filled,
        SLICE,
        sums);
    if (cross != null && from.residuals != null) {
      scope.launch(
          kernel(cross.plan.tile()),
          LaunchShape.grid(cross.plan.blocks(), patches.groups(), cross.plan.threads()),
          from.residuals.images.array(),
          from.inputs.images.array(),
          from.residuals.columns,
          from.residuals.products,
          1,
          filled,
          SLICE,
          cross.sums);
    }
    filled = 0;
  }

  private Kernel kernel(int tile) {
    return scope.device().kernel("gram", "taco4j_gram%d_f32".formatted(tile));
  }

  /** The room for images of this size; another size's goes. */
  private Room room(Patches.Images size, Patches.@Nullable Images residualSize) {
    Room present = room;
    if (present != null
        && present.size.sameSize(size)
        && (present.residualSize == null
            ? residualSize == null
            : residualSize != null && present.residualSize.sameSize(residualSize))) {
      return present;
    }
    leave();
    int positions = size.positions();
    int unit = 1;
    if (residualSize != null) {
      unit = Math.max(1, residualSize.positions() / positions);
      if (unit * positions % residualSize.positions() != 0) {
        throw new IllegalArgumentException(size + " do not divide into " + residualSize);
      }
    }
    GramPlan.Layout layout = plan.layout(size);
    long enough = ((long) SPLIT_SAMPLES * plan.splits() + positions - 1) / positions;
    long floats = layout.image();
    if (cross != null && residualSize != null) {
      floats = Math.max(floats, (long) positions * cross.plan.pixel());
    }
    long fitting = WAITING_BYTES / (floats * Float.BYTES);
    int capacity = (int) Math.max(unit, Math.min(enough, fitting) / unit * unit);
    WaitingImages.Form form =
        new WaitingImages.Form(
            patches.groups(), patches.channels(), plan.channels(), /* ones= */ false);
    Side inputs = side(form, size, layout, capacity, unit);
    Side residuals = null;
    if (cross != null && residualSize != null) {
      int residualPositions = residualSize.positions();
      GramPlan.Layout samples = cross.plan.layout(size);
      int pixel = cross.plan.pixel();
      GramPlan.Layout images =
          new GramPlan.Layout(
              Math.multiplyExact(residualPositions, pixel),
              residualSize.width() * pixel,
              /* origin= */ 0,
              /* tail= */ 0,
              samples.products(),
              samples.columns());
      residuals =
          side(
              new WaitingImages.Form(
                  patches.groups(), cross.rows, cross.plan.channels(), /* ones= */ true),
              residualSize,
              images,
              Math.toIntExact((long) capacity * positions / residualPositions),
              Math.max(1, positions / residualPositions));
    }
    Room made = new Room(size, residualSize, capacity, unit, inputs, residuals);
    room = made;
    return made;
  }

  private Side side(
      WaitingImages.Form form,
      Patches.Images size,
      GramPlan.Layout layout,
      int capacity,
      int unit) {
    return new Side(
        new WaitingImages(scope, form, size, layout, capacity, unit),
        scope.copyOf(layout.products()),
        scope.copyOf(layout.columns()));
  }

  private void leave() {
    flush();
    Room old = room;
    if (old != null) {
      old.inputs.free(scope);
      if (old.residuals != null) {
        old.residuals.free(scope);
      }
      room = null;
    }
  }

  @Override
  public double[] gram(int group) {
    flush();
    int cols = patches.cols();
    Room last = room;
    if (last == null) {
      return new double[Math.multiplyExact(cols, cols)];
    }
    DeviceArray.Pointer groupSums = sums.at(group * plan.sums());
    if (!plan.byShifts()) {
      return product(last.inputs.products, order, plan.tile(), groupSums);
    }
    Kernel assemble = scope.device().kernel("gram", "taco4j_gram_shift_f64");
    return inRows(
        cols,
        (row, shape) ->
            scope.launch(
                assemble,
                shape,
                last.inputs.products,
                patches.channels(),
                plan.channels(),
                plan.tile(),
                groupSums,
                row,
                out));
  }

  @Override
  public double[] cross(int group) {
    flush();
    Room last = room;
    if (cross == null || last == null || last.residuals == null) {
      return new double[Math.multiplyExact(cross == null ? 0 : cross.rows + 1, patches.cols())];
    }
    return product(
        last.residuals.products,
        cross.order,
        cross.plan.tile(),
        cross.sums.at(group * cross.plan.sums()));
  }

  /** The first product, rows in the given order: [rows, cols]. */
  private double[] product(
      DeviceArray products, DeviceArray rows, int tile, DeviceArray.Pointer groupSums) {
    Kernel finish = scope.device().kernel("gram", "taco4j_gram_finish_f64");
    return inRows(
        (int) rows.count(),
        (row, shape) ->
            scope.launch(
                finish,
                shape,
                products,
                rows.at(row),
                order,
                patches.cols(),
                tile,
                groupSums,
                out));
  }

  /** Queues a kernel that writes the rows from {@code row} on to {@code out}. */
  private interface RowsKernel {
    void launch(int row, LaunchShape shape);
  }

  /** A result of [rows, cols], of which some rows at a time are on the device. */
  private double[] inRows(int rows, RowsKernel kernel) {
    int cols = patches.cols();
    double[] result = new double[Math.multiplyExact(rows, cols)];
    int atOnce = (int) (out.count() / cols);
    for (int row = 0; row < rows; row += atOnce) {
      int count = Math.min(atOnce, rows - row);
      kernel.launch(
          row, LaunchShape.grid(LaunchShape.blocks(cols, FINISH_THREADS), count, FINISH_THREADS));
      scope.download(out, 0, result, row * cols, count * cols);
    }
    scope.rest();
    return result;
  }

  @Override
  public void close() {
    scope.close();
  }
}
