package org.taco4j.cli;

import org.jspecify.annotations.Nullable;
import org.taco4j.solve.Precision;
import org.taco4j.solve.Quantization;
import org.taco4j.solve.Refit;
import org.taco4j.solve.Search;
import org.taco4j.solve.SolverOptions;
import picocli.CommandLine.Option;

/** The options of the solvers, which several commands have. */
final class SolverMixin {
  @Option(
      names = "--search",
      paramLabel = "HOW",
      completionCandidates = Candidates.OfSearch.class,
      description =
          "local search over masks after the solver: none, swap (exchange kept and removed weights"
              + " while the error falls) or full (and perturb, and move budget between rows)")
  @Nullable String search;

  @Option(
      names = "--time-budget",
      paramLabel = "SECONDS",
      description =
          "time for solving all layers: the hybrid solver chooses by it, at a nominal speed; a search"
              + " ends when it is used up (180)")
  @Nullable Double timeBudget;

  @Option(
      names = "--refit",
      paramLabel = "HOW",
      completionCandidates = Candidates.OfRefit.class,
      description = "how adaprune fits the weights that stay: ls (least squares) or adam")
  @Nullable String refit;

  @Option(
      names = "--precision",
      paramLabel = "TYPE",
      completionCandidates = Candidates.OfPrecision.class,
      description =
          "of obc: auto (default: float64 to 1000 columns, beyond that float32, and float64 for rows in"
              + " which that breaks down), float32 or float64")
  @Nullable String precision;

  @Option(
      names = "--bits",
      paramLabel = "N",
      description =
          "quantise the weights that stay to N bits, 2 to 8; the weights of models symmetrically,"
              + " each row with the scale that suits it best")
  @Nullable Integer bits;

  @Option(
      names = "--act-order",
      description = "quantise columns in the order of falling energy of their inputs")
  @Nullable Boolean actOrder;

  @Option(
      names = "--sweeps",
      paramLabel = "N",
      description = "sweeps of coordinate descent over quantised weights (0)")
  @Nullable Integer sweeps;

  /** What the options say, with the defaults for what they do not. */
  SolverOptions options(boolean symmetric, boolean searchScale, long seed) {
    SolverOptions defaults = SolverOptions.defaults();
    return new SolverOptions(
        search == null ? defaults.search() : SolverOptions.parse(Search.class, "--search", search),
        timeBudget == null ? defaults.timeBudget() : timeBudget,
        refit == null ? defaults.refit() : SolverOptions.parse(Refit.class, "--refit", refit),
        precision == null
            ? defaults.precision()
            : SolverOptions.parse(Precision.class, "--precision", precision),
        Quantization.ofOptions(bits, symmetric, searchScale, actOrder, sweeps),
        seed);
  }
}
