package org.taco4j.compute;

import java.nio.FloatBuffer;

/**
 * The Gram matrices G = X Xᵀ of one layer's groups, summed up on a device. Products are float32
 * over some thousand samples, sums are float64; what they are does not depend on how samples are
 * divided into batches of the same order, nor on threads. It owns memory of the device until it is
 * closed; used by one thread at a time.
 */
public interface GramSum extends AutoCloseable {
  /**
   * Adds the samples of a batch.
   *
   * @param values [images, groups · channels, height, width], from the buffer's position on;
   *     borrowed until this returns
   */
  void add(FloatBuffer values, Patches.Images images);

  /**
   * The matrix of one group.
   *
   * @return [cols, cols], both triangles
   */
  double[] gram(int group);

  @Override
  void close();
}
