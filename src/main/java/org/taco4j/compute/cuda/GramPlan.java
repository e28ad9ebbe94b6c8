package org.taco4j.compute.cuda;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.taco4j.compute.Patches;

/**
 * How the products of gram.cu are cut into tiles and their samples into splits. It depends on the
 * kind of patches only, so that sums are the same on all devices and for all sizes of batches.
 *
 * <p>Images lie on the device with the channels of a pixel beside one another, each group's filled
 * up with zeros to a multiple of four, and zeros around the image: see gram.cu.
 */
final class GramPlan {
  /** Blocks that keep a large GPU busy, for tiles of 128; four times as many of 64. */
  private static final int BLOCKS = 256;

  /** Splits of a tile, at the most: layers of a tile or two are not worth more sums. */
  private static final int MOST_SPLITS = 64;

  /** What a tile of 64 costs, four of which make one of 128: more loads for each product. */
  private static final double SMALL_TILE_COST = 1.25;

  /** Channels from which on products of shifts beat the unfolded ones: half a tile. */
  private static final int SHIFT_CHANNELS = 32;

  /** Shifts (dy, dx) whose transposes are not in the list, as taco4j_gram_shift_f64 has them. */
  private static final int[][] SHIFTS = {
    {0, 0}, {0, 1}, {0, 2}, {1, -2}, {1, -1}, {1, 0}, {1, 1}, {1, 2}, {2, -2}, {2, -1}, {2, 0},
    {2, 1}, {2, 2}
  };

  /** The shifts of border rows are the first of these; those of border columns these three. */
  private static final int[] COLUMN_SHIFTS = {0, 5, 10};

  /** Ints of a GramProduct. */
  static final int PRODUCT_INTS = 19;

  /**
   * A product of all samples.
   *
   * @param leftQuads columns of the left side, four a number; and so on
   * @param triangle both sides are the same
   * @param firstBlock blocks of the products before
   */
  private record Part(
      int leftQuads, int rightQuads, boolean triangle, int splits, int firstBlock) {}

  /**
   * Images of one size on the device, in floats.
   *
   * @param image from one image to the next
   * @param row from one row of pixels to the next
   * @param origin where the first pixel of an image lies
   * @param tail behind the last image, to be zero
   * @param products [parts, PRODUCT_INTS]
   * @param columns offsets of columns, four a number
   */
  @SuppressWarnings("ArrayRecordComponent") // internal, read only
  record Layout(int image, int row, int origin, int tail, int[] products, int[] columns) {}

  private final Patches patches;
  private final int channels;
  private final boolean byShifts;
  private final int tile;
  private final List<Part> parts = new ArrayList<>();
  private final int blocks;

  GramPlan(Patches patches) {
    this.patches = patches;
    this.channels = (patches.channels() + 3) / 4 * 4;
    this.byShifts = patches.byShifts() && patches.channels() >= SHIFT_CHANNELS;
    int quads = channels / 4;
    int left = byShifts ? quads : quads * patches.taps();
    int right = byShifts ? quads * SHIFTS.length : left;
    this.tile = tile(left, right, !byShifts);
    add(left, right, !byShifts, splits(tile, left, right, !byShifts, patches.groups()));
    for (int border = 0; byShifts && border < 8; border++) {
      add(quads, border < 4 ? quads * 3 : quads, /* triangle= */ false, 1);
    }
    Part last = parts.getLast();
    this.blocks = last.firstBlock + last.splits * tiles(last);
  }

  private void add(int leftQuads, int rightQuads, boolean triangle, int splits) {
    int first = 0;
    if (!parts.isEmpty()) {
      Part last = parts.getLast();
      first = last.firstBlock + last.splits * tiles(last);
    }
    parts.add(new Part(leftQuads, rightQuads, triangle, splits, first));
  }

  /** Into how many parts samples are divided so that there are blocks enough. */
  static int splits(int tile, int leftQuads, int rightQuads, boolean triangle, int groups) {
    int most = (BLOCKS << (tile == 128 ? 0 : 2)) / groups;
    int count = tiles(tile, leftQuads, rightQuads, triangle);
    return Math.clamp((most + count - 1) / count, 1, MOST_SPLITS);
  }

  private int tiles(Part part) {
    return tiles(tile, part.leftQuads, part.rightQuads, part.triangle);
  }

  /** How many tiles cover a product. */
  static int tiles(int tile, int leftQuads, int rightQuads, boolean triangle) {
    int rows = (leftQuads * 4 + tile - 1) / tile;
    int cols = (rightQuads * 4 + tile - 1) / tile;
    return triangle ? Math.multiplyExact(rows, rows + 1) / 2 : Math.multiplyExact(rows, cols);
  }

  /** The side of the tiles that cover a product at the least cost: 64 or 128. */
  static int tile(int leftQuads, int rightQuads, boolean triangle) {
    double small = SMALL_TILE_COST * tiles(64, leftQuads, rightQuads, triangle);
    return small < 4.0 * tiles(128, leftQuads, rightQuads, triangle) ? 64 : 128;
  }

  /** Outputs along the side of a tile: 64 or 128. */
  int tile() {
    return tile;
  }

  /** Threads of a block. */
  int threads() {
    return tile * tile / 64;
  }

  /** Blocks for one group. */
  int blocks() {
    return blocks;
  }

  /** Sums of one group, in doubles. */
  long sums() {
    return (long) blocks * tile * tile;
  }

  /** Splits of the product of all samples. */
  int splits() {
    return parts.getFirst().splits;
  }

  /** How many products there are. */
  int products() {
    return parts.size();
  }

  /** Whether products are of shifted images. */
  boolean byShifts() {
    return byShifts;
  }

  /** Channels of one group on the device. */
  int channels() {
    return channels;
  }

  /** [cols]: where the layer's columns are among those of the unfolded product. */
  int[] order() {
    int taps = patches.taps();
    return IntStream.range(0, patches.cols()).map(i -> i % taps * channels + i / taps).toArray();
  }

  /**
   * The patches of images of one size: what a GramProduct says of them.
   *
   * @param start of the first patch in an image
   * @param image from one image to the next
   * @param row from one row of patches to the next
   * @param pixel from one patch to the next
   * @param columns offsets in a patch, four columns a number
   */
  @SuppressWarnings("ArrayRecordComponent") // internal, read only
  record Patch(int start, int image, int row, int pixel, int[] columns) {
    Patch from(int offset) {
      return new Patch(start + offset, image, row, pixel, columns);
    }
  }

  /**
   * An image on the device, in pixels and in floats.
   *
   * @param top rows of zeros above
   * @param left columns of zeros before
   */
  private record Frame(int top, int left, int pixel, int row, int image) {}

  /** A negative padding cuts pixels off: then there are no zeros, and patches start inside. */
  private Frame frame(Patches.Images images) {
    int top = Math.max(0, images.top());
    int left = Math.max(0, images.left());
    int patchesHeight =
        (images.outputHeight() - 1) * patches.strideHeight()
            + (patches.kernelHeight() - 1) * patches.dilationHeight()
            + 1;
    int patchesWidth =
        (images.outputWidth() - 1) * patches.strideWidth()
            + (patches.kernelWidth() - 1) * patches.dilationWidth()
            + 1;
    int height = Math.max(top + images.height(), top - images.top() + patchesHeight);
    int width = Math.max(left + images.width(), left - images.left() + patchesWidth);
    int pixel = Math.multiplyExact(patches.groups(), channels);
    int row = Math.multiplyExact(width, pixel);
    return new Frame(top, left, pixel, row, Math.multiplyExact(height, row));
  }

  /** The patches of images of a size. */
  Patch patch(Patches.Images images) {
    Frame frame = frame(images);
    IntStream.Builder columns = IntStream.builder();
    for (int ky = 0; ky < patches.kernelHeight(); ky++) {
      for (int kx = 0; kx < patches.kernelWidth(); kx++) {
        addColumns(
            columns,
            ky * patches.dilationHeight() * frame.row + kx * patches.dilationWidth() * frame.pixel);
      }
    }
    int startY = frame.top - images.top();
    int startX = frame.left - images.left();
    return new Patch(
        startY * frame.row + startX * frame.pixel,
        frame.image,
        patches.strideHeight() * frame.row,
        patches.strideWidth() * frame.pixel,
        columns.build().toArray());
  }

  /** Where images of a size lie, and their products. */
  Layout layout(Patches.Images images) {
    Frame frame = frame(images);
    int row = frame.row;
    int pixel = frame.pixel;
    int origin = frame.top * row + frame.left * pixel;
    int[] products = new int[parts.size() * PRODUCT_INTS];
    if (!byShifts) {
      Patch patch = patch(images);
      write(products, 0, images.outputHeight(), images.outputWidth(), patch, 0);
      return new Layout(frame.image, row, origin, /* tail= */ 0, products, patch.columns);
    }
    IntStream.Builder columns = IntStream.builder();
    for (int[] shift : SHIFTS) {
      addColumns(columns, shift[0] * row + shift[1] * pixel);
    }
    for (int shift : COLUMN_SHIFTS) {
      addColumns(columns, SHIFTS[shift][0] * row + SHIFTS[shift][1] * pixel);
    }
    int[] offsets = columns.build().toArray();
    int down = SHIFTS.length * channels / 4;
    int[] ys = {0, images.height() - 1};
    int[] xs = {0, images.width() - 1};
    Patch all = new Patch(origin, frame.image, row, pixel, offsets);
    int to = 0;
    write(products, to++, images.height(), images.width(), all, 0);
    for (int y : ys) {
      write(products, to++, 1, images.width(), all.from(y * row), 0);
    }
    for (int x : xs) {
      write(products, to++, images.height(), 1, all.from(x * pixel), down);
    }
    for (int y : ys) {
      for (int x : xs) {
        write(products, to++, 1, 1, all.from(y * row + x * pixel), 0);
      }
    }
    // Shifts of the last row of the last image read a row and two pixels behind it.
    return new Layout(frame.image, row, origin, row + 3 * pixel, products, offsets);
  }

  private void addColumns(IntStream.Builder columns, int start) {
    for (int c = 0; c < channels; c += 4) {
      columns.add(start + c);
    }
  }

  /** Writes a GramProduct both sides of which begin at the same place. */
  private void write(
      int[] products, int index, int height, int width, Patch patch, int rightColumns) {
    Part part = parts.get(index);
    int[] product = {
      height,
      width,
      patch.start,
      patch.image,
      patch.row,
      patch.pixel,
      channels,
      patch.start,
      patch.image,
      patch.row,
      patch.pixel,
      channels,
      /* leftColumns= */ 0,
      part.leftQuads,
      rightColumns,
      part.rightQuads,
      part.triangle ? 1 : 0,
      part.splits,
      part.firstBlock
    };
    System.arraycopy(product, 0, products, index * PRODUCT_INTS, PRODUCT_INTS);
  }
}
