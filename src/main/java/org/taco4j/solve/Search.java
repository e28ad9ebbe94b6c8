package org.taco4j.solve;

import java.util.Locale;

/** How far a local search over masks goes after the solver. */
public enum Search {
  /** No search. */
  NONE,
  /** Kept and removed weights of a row are swapped while the error falls. */
  SWAP,
  /** Swaps, then perturbations that are repaired, and transfer of budget between rows. */
  FULL;

  /** The name by which users ask for it. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
