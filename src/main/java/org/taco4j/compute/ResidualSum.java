package org.taco4j.compute;

import java.nio.FloatBuffer;

/**
 * Sums over samples on a device of what one layer reads, x, and of residuals of its outputs, r, for
 * each of its groups; otherwise as {@link GramSum}.
 */
public interface ResidualSum extends AutoCloseable {
  /**
   * Adds the samples of a batch.
   *
   * @param values x, [images, groups · channels, height, width], from the buffer's position on;
   *     borrowed until this returns
   * @param residuals r, [images, groups · rows, height, width] with a pixel for each sample, in the
   *     same order; borrowed likewise
   * @param residualImages plain ones. Either as many as images of x, or all of one pixel, or those
   *     of x are
   */
  void add(
      FloatBuffer values,
      Patches.Images images,
      FloatBuffer residuals,
      Patches.Images residualImages);

  /** Σ x xᵀ of a group: [cols, cols], both triangles. */
  double[] gram(int group);

  /** Σ r xᵀ of a group, and in one more row Σ x: [rows + 1, cols]. */
  double[] cross(int group);

  @Override
  void close();
}
