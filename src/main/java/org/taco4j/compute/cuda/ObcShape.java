package org.taco4j.compute.cuda;

import org.taco4j.compute.ObsElimination;

/**
 * Where a thread block of obc_elimination.cu keeps what it works on, and how many of them a
 * multiprocessor takes. It depends on the layer's shape and the kind of GPU only, as results do in
 * their last bits.
 *
 * @param threads of a block
 * @param perMultiprocessor blocks of a multiprocessor
 * @param vectors elements of a set's vectors
 * @param sharedVectors whether those are in shared memory
 * @param sharedU elements of U in shared memory
 * @param globalU elements of U in global memory
 * @param panels elements of the compacted inverse; 0 where nothing is compacted
 * @param elementBytes 4 or 8
 */
record ObcShape(
    int threads,
    int perMultiprocessor,
    int vectors,
    boolean sharedVectors,
    int sharedU,
    int globalU,
    long panels,
    int elementBytes) {
  /** Columns of a panel of the inverse. */
  static final int PANEL = 64;

  /** As in the kernels: rows of U between compactions, at most, and in shared memory at least. */
  private static final int MOST_PENDING = 64;

  private static final int LEAST_PENDING = 24;

  /** Threads that a compaction takes. */
  private static final int THREADS = 256;

  /** Static shared memory of the kernels, and what the driver takes of each block. */
  private static final int RESERVED_BYTES = 1024 + 512;

  private static final int MOST_SMALL_BLOCKS = 16;

  /**
   * The shape of a layer problem.
   *
   * @param n columns
   * @param setRows rows that share a mask
   * @param steps most steps of a set
   * @param sharedBytes shared memory that a block can have
   */
  static ObcShape of(
      int n,
      int setRows,
      ObsElimination.Units units,
      int steps,
      int elementBytes,
      int sharedBytes) {
    int k = units.blockSize();
    int panels = LaunchShape.blocks(n, PANEL);
    int columns = panels * PANEL;
    int vectors = vectors(columns, setRows, k, n / units.groupSize(), elementBytes);
    int all = (sharedBytes - RESERVED_BYTES) / elementBytes / 4 * 4;
    long whole = roundUp(n, 4) * steps * k;
    // Few columns: nothing is ever compacted, a warp is enough, and many of them fill the GPU.
    if (n <= 4 * 32 && vectors + whole <= all / 4) {
      int bytes = (int) (vectors + whole) * elementBytes + RESERVED_BYTES;
      int blocks = Math.min(MOST_SMALL_BLOCKS, sharedBytes / bytes);
      return new ObcShape(32, blocks, vectors, true, (int) whole, 0, 0, elementBytes);
    }
    long size = panelElements(n);
    int half = (sharedBytes - 2 * RESERVED_BYTES) / 2 / elementBytes / 4 * 4;
    int least = Math.max(LEAST_PENDING, k);
    // Two blocks fill each other's gaps, but a column of U in shared memory is worth more.
    for (int blocks = 2; blocks >= 1; blocks--) {
      int u = (blocks == 2 ? half : all) - vectors;
      if (u >= (long) least * columns) {
        return new ObcShape(THREADS, blocks, vectors, true, u, 0, size, elementBytes);
      }
    }
    boolean sharedVectors = vectors <= half / 2;
    int globalU = Math.multiplyExact(columns, Math.max(MOST_PENDING, k));
    return new ObcShape(
        THREADS,
        2,
        vectors,
        sharedVectors,
        half - (sharedVectors ? vectors : 0),
        globalU,
        size,
        elementBytes);
  }

  /** Elements of the panels of an inverse of n columns. */
  static long panelElements(int n) {
    long panels = LaunchShape.blocks(n, PANEL);
    return PANEL * PANEL * (panels * (panels + 1) / 2);
  }

  private static int vectors(int columns, int setRows, int k, int groups, int elementBytes) {
    int blocks = columns / k;
    int triangle = k * (k + 1) / 2;
    int ints = 2 * columns + groups;
    long sum =
        (long) setRows * columns
            + roundUp((long) triangle * blocks, 4)
            + (k == 1 || k == 4 ? 0 : roundUp((long) (triangle + k) * blocks, 4))
            + roundUp(triangle, 4)
            + roundUp((long) setRows * k, 4)
            + roundUp(roundUp(4L * ints, elementBytes) / elementBytes, 4);
    return Math.toIntExact(sum);
  }

  private static long roundUp(long value, int to) {
    return (value + to - 1) / to * to;
  }

  /** Elements of global memory that a block has for itself. */
  long scratch() {
    return (sharedVectors ? 0 : vectors) + globalU + panels;
  }

  /** Dynamic shared memory of a block. */
  int sharedBytes() {
    return ((sharedVectors ? vectors : 0) + sharedU) * elementBytes;
  }
}
