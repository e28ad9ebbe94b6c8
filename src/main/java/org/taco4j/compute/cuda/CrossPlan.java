package org.taco4j.compute.cuda;

import java.util.stream.IntStream;
import org.taco4j.compute.Patches;

/**
 * How the product of a layer's residuals with its inputs, Σ r xᵀ, is cut into tiles and splits. On
 * the device residuals have one more row, of ones, so that the product's last row is Σ x.
 */
final class CrossPlan {
  private final Patches patches;
  private final GramPlan inputs;
  private final int rows;
  private final int leftQuads;
  private final int rightQuads;
  private final int tile;
  private final int splits;

  /**
   * Of a layer.
   *
   * @param inputs the plan for its inputs
   * @param rows its outputs, of one group
   */
  CrossPlan(Patches patches, GramPlan inputs, int rows) {
    this.patches = patches;
    this.inputs = inputs;
    this.rows = rows;
    this.leftQuads = rows / 4 + 1;
    this.rightQuads = inputs.channels() / 4 * patches.taps();
    this.tile = GramPlan.tile(leftQuads, rightQuads, /* triangle= */ false);
    this.splits =
        GramPlan.splits(tile, leftQuads, rightQuads, /* triangle= */ false, patches.groups());
  }

  /** Rows of one group on the device. */
  int channels() {
    return leftQuads * 4;
  }

  int tile() {
    return tile;
  }

  int threads() {
    return tile * tile / 64;
  }

  /** Blocks for one group. */
  int blocks() {
    return splits * GramPlan.tiles(tile, leftQuads, rightQuads, /* triangle= */ false);
  }

  /** Sums of one group, in doubles. */
  long sums() {
    return (long) blocks() * tile * tile;
  }

  /** [rows + 1]: the rows of the product, and that of ones. */
  int[] order() {
    return IntStream.rangeClosed(0, rows).toArray();
  }

  /** From one sample of the residuals to the next, in floats. */
  int pixel() {
    return Math.multiplyExact(patches.groups(), channels());
  }

  /** One GramProduct and the offsets of columns; residuals lie as samples, one after another. */
  GramPlan.Layout layout(Patches.Images images) {
    GramPlan.Patch patch = inputs.patch(images);
    int pixel = pixel();
    int row = Math.multiplyExact(images.outputWidth(), pixel);
    int image = Math.multiplyExact(images.outputHeight(), row);
    int[] product = {
      images.outputHeight(),
      images.outputWidth(),
      0,
      image,
      row,
      pixel,
      channels(),
      patch.start(),
      patch.image(),
      patch.row(),
      patch.pixel(),
      inputs.channels(),
      patch.columns().length,
      leftQuads,
      0,
      rightQuads,
      /* triangle= */ 0,
      splits,
      /* firstBlock= */ 0
    };
    IntStream columns =
        IntStream.concat(
            IntStream.of(patch.columns()), IntStream.range(0, leftQuads).map(quad -> quad * 4));
    return new GramPlan.Layout(image, row, 0, 0, product, columns.toArray());
  }
}
