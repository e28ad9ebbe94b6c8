package org.taco4j.solve;

import java.util.Arrays;

/**
 * What one run of exact OBC found out about a layer: for each set of rows that share a mask, in
 * which order its units go, and what each step loses. Every sparsity follows from it.
 *
 * @param unitColumns columns of a unit, neighbours in the request's order
 * @param order for each set of rows the unit of each step; units are numbered along the request's
 *     order
 * @param losses for each set of rows what each step adds to the half squared error
 */
@SuppressWarnings("ArrayRecordComponent") // large, and handed on without a copy
record ObcTrace(int unitColumns, int[][] order, double[][] losses) {

  /**
   * How many units each set of rows loses where the layer is to lose {@code total}: as many as it
   * has among the smallest of all losses (Frantar and Alistarh 2022, section 4, "global step"); of
   * equals the first rows' first steps.
   *
   * @param total no more than there are steps
   */
  int[] allocate(long total) {
    int[] counts = new int[losses.length];
    if (total == 0) {
      return counts;
    }
    double threshold = threshold(total);
    long below = 0;
    for (int set = 0; set < counts.length; set++) {
      for (double loss : losses[set]) {
        counts[set] += loss < threshold ? 1 : 0;
      }
      below += counts[set];
    }
    for (int set = 0; set < counts.length && below < total; set++) {
      for (double loss : losses[set]) {
        if (loss == threshold && below < total) {
          counts[set]++;
          below++;
        }
      }
    }
    return counts;
  }

  /**
   * The largest of the {@code total} smallest losses; infinite where there are fewer.
   *
   * @param total at least 1
   */
  double threshold(long total) {
    double[] all = Arrays.stream(losses).flatMapToDouble(Arrays::stream).toArray();
    return total > all.length ? Double.POSITIVE_INFINITY : select(all, (int) total - 1);
  }

  /** The element of the given rank, by partitions (Hoare 1961, algorithm 65). */
  private static double select(double[] values, int rank) {
    int low = 0;
    int high = values.length - 1;
    while (low < high) {
      double pivot = values[(low + high) >>> 1];
      int i = low;
      int j = high;
      while (i <= j) {
        while (values[i] < pivot) {
          i++;
        }
        while (values[j] > pivot) {
          j--;
        }
        if (i <= j) {
          double swap = values[i];
          values[i++] = values[j];
          values[j--] = swap;
        }
      }
      if (rank <= j) {
        high = j;
      } else if (rank >= i) {
        low = i;
      } else {
        break;
      }
    }
    return values[rank];
  }
}
