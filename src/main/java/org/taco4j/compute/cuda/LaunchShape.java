package org.taco4j.compute.cuda;

/**
 * How a kernel is launched.
 *
 * @param gridX thread blocks along x; and so on
 * @param blockX threads of a block along x; and so on
 * @param sharedBytes dynamic shared memory of a block
 */
record LaunchShape(int gridX, int gridY, int gridZ, int blockX, int blockY, int sharedBytes) {
  /** {@code blocks} blocks of {@code threads} threads each. */
  static LaunchShape of(int blocks, int threads) {
    return new LaunchShape(blocks, 1, 1, threads, 1, 0);
  }

  /** A grid of [gridY, gridX] blocks of {@code threads} threads each. */
  static LaunchShape grid(int gridX, int gridY, int threads) {
    return new LaunchShape(gridX, gridY, 1, threads, 1, 0);
  }

  /** The same with dynamic shared memory. */
  LaunchShape withShared(int bytes) {
    return new LaunchShape(gridX, gridY, gridZ, blockX, blockY, bytes);
  }

  /** How many blocks of {@code size} cover {@code count}, at least 1. */
  static int blocks(long count, int size) {
    return Math.toIntExact(Math.max(1, (count + size - 1) / size));
  }

  @Override
  public String toString() {
    return "grid [%d, %d, %d], block [%d, %d], %d bytes of shared memory"
        .formatted(gridX, gridY, gridZ, blockX, blockY, sharedBytes);
  }
}
