package org.taco4j.solve;

import java.util.Arrays;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;

/**
 * What users can choose about solvers, beside pattern and damping.
 *
 * @param search what follows the solver
 * @param timeBudget seconds: the hybrid solver chooses by it what a layer can afford, and a search
 *     after the solver ends when it has taken as much wall time itself
 * @param refit of AdaPrune
 * @param precision of OBC
 * @param quantization of the weights that stay; null for none
 * @param seed of what is random in a search
 */
public record SolverOptions(
    Search search,
    double timeBudget,
    Refit refit,
    Precision precision,
    @Nullable Quantization quantization,
    long seed) {

  /** Checks the time budget. */
  public SolverOptions {
    if (!(timeBudget > 0)) {
      throw TacoException.usage(
          "--time-budget must be a positive number of seconds, not " + timeBudget);
    }
  }

  /** The defaults: no search, three minutes. */
  public static SolverOptions defaults() {
    return new SolverOptions(
        Search.NONE, 180, Refit.LEAST_SQUARES, Precision.AUTO, /* quantization= */ null, 0);
  }

  /** These options with another time budget. */
  public SolverOptions withTimeBudget(double seconds) {
    return new SolverOptions(search, seconds, refit, precision, quantization, seed);
  }

  /**
   * The constant that a user's word names.
   *
   * @param option the option's name, for the message
   * @throws TacoException of kind USAGE for any other word
   */
  public static <E extends Enum<E>> E parse(Class<E> type, String option, String word) {
    return Arrays.stream(type.getEnumConstants())
        .filter(constant -> constant.toString().equals(word))
        .findFirst()
        .orElseThrow(
            () ->
                TacoException.usage(
                    "%s is %s, not '%s'"
                        .formatted(
                            option,
                            Arrays.stream(type.getEnumConstants())
                                .map(String::valueOf)
                                .collect(Collectors.joining(" or ")),
                            word)));
  }
}
