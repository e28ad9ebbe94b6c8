package org.taco4j.solve;

import java.util.Arrays;
import org.taco4j.common.Workers;

/**
 * Finds the bound below which the k smallest of many scores lie, without sorting them: a histogram
 * over the leading bits, then a sort of the one bin that the bound falls into. Scores are not
 * negative, so that their bits order them.
 */
final class SmallestScores {
  /** Sign, exponent and 6 bits of the mantissa: a bin spans under 2 % of a value. */
  private static final int BIN_SHIFT = 17;

  private static final int BINS = 1 << (Integer.SIZE - 1 - BIN_SHIFT);

  /** Fixed, so that a task is worth its start and its histogram. */
  private static final int TASK_SCORES = 1 << 16;

  private SmallestScores() {}

  /**
   * The k smallest scores are those below {@code bits}, and {@code ties} of those equal to it; bits
   * as of {@link Float#floatToRawIntBits}.
   *
   * @param allTies whether these are all that equal it, so that the order among equals is of no
   *     matter
   */
  record Bound(int bits, int ties, boolean allTies) {
    /**
     * Sets {@code removed[from .. to)} where the score is among the smallest, of equals those with
     * the lowest index as long as {@code tiesLeft} lasts.
     *
     * @return what is left of {@code tiesLeft} for the next range
     */
    int mark(float[] scores, int from, int to, boolean[] removed, int tiesLeft) {
      int left = tiesLeft;
      for (int i = from; i < to; i++) {
        int score = Float.floatToRawIntBits(scores[i]);
        if (score == bits) {
          removed[i] = left > 0;
          left--;
        } else {
          removed[i] = score < bits;
        }
      }
      return Math.max(0, left);
    }
  }

  /** The bound of the {@code k} smallest of {@code scores[0 .. count)}; 0 &lt;= k &lt;= count. */
  static Bound find(float[] scores, int count, int k, Workers workers) {
    if (k == 0) {
      return new Bound(-1, 0, true);
    }
    int tasks = (count + TASK_SCORES - 1) / TASK_SCORES;
    int[][] histograms = new int[tasks][];
    workers.forEach(
        tasks,
        task -> {
          int[] histogram = new int[BINS];
          int end = Math.min(count, (task + 1) * TASK_SCORES);
          for (int i = task * TASK_SCORES; i < end; i++) {
            histogram[Float.floatToRawIntBits(scores[i]) >>> BIN_SHIFT]++;
          }
          histograms[task] = histogram;
        });
    int bin = 0;
    int below = 0;
    while (true) {
      int inBin = 0;
      for (int[] histogram : histograms) {
        inBin += histogram[bin];
      }
      if (below + inBin >= k) {
        break;
      }
      below += inBin;
      bin++;
    }
    int wanted = bin;
    int[][] candidates = new int[tasks][];
    workers.forEach(
        tasks,
        task -> {
          int[] found = new int[histograms[task][wanted]];
          int size = 0;
          int end = Math.min(count, (task + 1) * TASK_SCORES);
          for (int i = task * TASK_SCORES; i < end && size < found.length; i++) {
            int bits = Float.floatToRawIntBits(scores[i]);
            if (bits >>> BIN_SHIFT == wanted) {
              found[size++] = bits;
            }
          }
          candidates[task] = found;
        });
    int[] sorted = concatenate(candidates);
    Arrays.sort(sorted);
    int rank = k - below - 1;
    int bits = sorted[rank];
    int first = rank;
    while (first > 0 && sorted[first - 1] == bits) {
      first--;
    }
    boolean allTies = rank + 1 == sorted.length || sorted[rank + 1] != bits;
    return new Bound(bits, rank - first + 1, allTies);
  }

  /**
   * Sets {@code removed[from .. to)} where the score is among the {@code k} smallest of the range,
   * of equals those with the lowest index: by sorting, for short ranges.
   */
  static void markRange(float[] scores, int from, int to, int k, boolean[] removed) {
    long[] keys = new long[to - from];
    for (int i = 0; i < keys.length; i++) {
      keys[i] = (long) Float.floatToRawIntBits(scores[from + i]) << Integer.SIZE | i;
    }
    Arrays.sort(keys);
    Arrays.fill(removed, from, to, false);
    for (int i = 0; i < k; i++) {
      removed[from + (int) keys[i]] = true;
    }
  }

  private static int[] concatenate(int[][] parts) {
    int size = 0;
    for (int[] part : parts) {
      size += part.length;
    }
    int[] all = new int[size];
    int at = 0;
    for (int[] part : parts) {
      System.arraycopy(part, 0, all, at, part.length);
      at += part.length;
    }
    return all;
  }
}
