package org.taco4j.compute;

/**
 * The greedy elimination of exact OBS (Hassibi and Stork 1992; per row, Frantar and Alistarh 2022,
 * "Optimal Brain Compression", algorithm 1) over one inverse Hessian: at each step the unit B of
 * columns with the smallest Σ_r w_rB ((H⁻¹)_BB)⁻¹ w_rBᵀ goes, over the rows r that share a mask,
 * and weights and inverse follow: w -= w_B ((H⁻¹)_BB)⁻¹ (H⁻¹)_B:, H⁻¹ -= (H⁻¹)_:B ((H⁻¹)_BB)⁻¹
 * (H⁻¹)_B:.
 *
 * <p>It may be used from several threads at once, each call running on its own thread; it keeps
 * memory of the size of the inverse for each thread that has used it.
 */
public interface ObsElimination {
  /**
   * What is eliminated at once, and what may be eliminated at all.
   *
   * @param blockSize neighbouring columns that go together, 1 for single columns; divides the
   *     columns
   * @param groupSize neighbouring columns that share a budget; 1 where there is none, then the
   *     budget is 1; divides the columns; only for single columns
   * @param groupBudget how many columns each group may lose
   */
  record Units(int blockSize, int groupSize, int groupBudget) {
    /** Any single column, each on its own. */
    public static final Units COLUMNS = new Units(1, 1, 1);

    /** Checks the sizes. */
    public Units {
      if (blockSize < 1
          || groupSize < 1
          || groupBudget < 0
          || groupBudget > groupSize
          || (blockSize > 1 && groupSize > 1)) {
        throw new IllegalArgumentException(
            "blocks of %d, %d of each %d".formatted(blockSize, groupBudget, groupSize));
      }
    }

    /** Throws where the sizes do not divide the columns. */
    public void check(int columns) {
      if (columns % blockSize != 0 || columns % groupSize != 0) {
        throw new IllegalArgumentException(this + " of " + columns + " columns");
      }
    }

    /** How many units there are. */
    public int count(int columns) {
      return columns / blockSize;
    }

    /** How many units can go. */
    public int removable(int columns) {
      return columns / blockSize / groupSize * groupBudget;
    }
  }

  /**
   * Eliminates units from the rows of {@code weights}, which share a mask.
   *
   * @param weights [rows, n], row-major, read only
   * @param steps the most steps to take; no more than {@link Units#removable}
   * @param stopLoss the elimination ends before the first step that loses more than this
   * @param order out: the unit of each step, units numbered along the columns; of equal losses the
   *     lowest unit goes first
   * @param losses out: what each step adds to the half squared error, 1/2 Σ_r w_rB ((H⁻¹)_BB)⁻¹
   *     w_rBᵀ
   * @return the number of steps taken; or -1 - steps, where the next pivot shows that rounding has
   *     destroyed the inverse in this precision
   */
  int run(FloatMatrix weights, int steps, double stopLoss, int[] order, double[] losses);
}
