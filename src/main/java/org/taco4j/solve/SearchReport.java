package org.taco4j.solve;

/**
 * What a search over masks did.
 *
 * @param swaps how many pairs of a kept and a removed weight (of a block, of the rows that share a
 *     mask) changed places for good
 * @param kicks how many perturbations were worth keeping
 * @param transfers how many weights (or blocks) one row gave to another
 * @param errorBefore of the solution that came in: tr(ΔW H̃ ΔWᵀ) / tr(W H̃ Wᵀ), H̃ damped
 * @param errorAfter the same of the solution that went out
 * @param seconds wall time of the search
 * @param stopped why it ended
 */
public record SearchReport(
    long swaps,
    long kicks,
    long transfers,
    double errorBefore,
    double errorAfter,
    double seconds,
    Stopped stopped) {

  /** Of an earlier search and this one, which went on from its result. */
  SearchReport after(SearchReport earlier) {
    return new SearchReport(
        earlier.swaps + swaps,
        earlier.kicks + kicks,
        earlier.transfers + transfers,
        earlier.errorBefore,
        errorAfter,
        earlier.seconds + seconds,
        stopped);
  }

  /** Of a search that was asked for where nothing is removed. */
  static SearchReport ofNothingRemoved() {
    return new SearchReport(0, 0, 0, 0, 0, 0, Stopped.NOTHING_REMOVED);
  }

  /** Why a search ended. */
  public enum Stopped {
    /** No move that it knows lowers the error any more. */
    CONVERGED("nothing lowers the error any more"),
    /** The time budget was used up; rows that it did not come to are as the solver left them. */
    TIME_BUDGET("the time budget was used up"),
    /** The search has no moves for the pattern: the weights were refitted, the mask is the same. */
    PATTERN_HAS_NO_MOVES("the search has no moves for this pattern, weights were only refitted"),
    /** The pattern is of sparsity 0. */
    NOTHING_REMOVED("the pattern removes nothing, so that there is nothing to swap");

    private final String text;

    Stopped(String text) {
      this.text = text;
    }

    @Override
    public String toString() {
      return text;
    }
  }
}
