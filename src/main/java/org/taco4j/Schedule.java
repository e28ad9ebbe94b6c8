package org.taco4j;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Objects;
import org.taco4j.common.Suggestions;
import org.taco4j.common.TacoException;
import org.taco4j.solve.Pattern;

/**
 * What {@code --schedule} asks for: weights removed at once, or in steps with tuning after each.
 *
 * <p>By default a step prunes half of what remains (Algorithm 1 of TACO), and the last one what is
 * left to the sparsity asked for: 1/2, 3/4, 7/8, … A number of steps divides the way evenly
 * instead: each leaves the same part of the weights. Patterns with a fraction go through smaller
 * fractions of the same kind; a layer that has reached its own stays there. N:M has no fraction,
 * and takes no steps.
 */
final class Schedule {
  static final String ONE_SHOT = "one-shot";
  private static final String GRADUAL = "gradual";
  private static final String GMP = "gmp";
  private static final String LTH = "lth";

  /** The words of {@code --schedule}. */
  static final List<String> WORDS = List.of(ONE_SHOT, GRADUAL, GMP, LTH);

  /** Fractions between, where they are no powers of two, are rounded to one in so many. */
  private static final double GRAINS = 1e4;

  private Schedule() {}

  /** Whether the recipe, which must be complete, asks for steps. */
  static boolean isAsked(Recipe recipe) {
    return !ONE_SHOT.equals(recipe.schedule());
  }

  /** Whether weights that stay are taken back to the dense model's in each step. */
  static boolean rewinds(Recipe recipe) {
    return LTH.equals(recipe.schedule());
  }

  private static boolean isByMagnitude(Recipe recipe) {
    return GMP.equals(recipe.schedule()) || LTH.equals(recipe.schedule());
  }

  /** The defaults of recipes with the schedule of this one. */
  static Recipe defaults(Recipe recipe) {
    Recipe defaults = Recipe.defaults();
    if (isByMagnitude(recipe)) {
      defaults =
          defaults
              .with("solver", "magnitude")
              .with("reconstruct", "layerwise")
              .with("correct", "none");
    }
    if (recipe.schedule() != null && isAsked(recipe)) {
      defaults = defaults.with("tune-hold-out", "none");
    }
    return defaults;
  }

  /** Throws an exception of kind USAGE for what cannot be meant by a complete recipe. */
  static void check(Recipe recipe) {
    String how = String.valueOf(recipe.schedule());
    if (!WORDS.contains(how)) {
      throw TacoException.usage(
          "--schedule is "
              + String.join(", ", WORDS)
              + "; not '"
              + how
              + "'"
              + Suggestions.didYouMean(how, WORDS));
    }
    Integer steps = recipe.scheduleSteps();
    if (!isAsked(recipe)) {
      if (steps != null) {
        throw TacoException.usage(
            "--schedule-steps is for --schedule gradual, gmp or lth, not one-shot");
      }
      return;
    }
    if (steps != null && steps < 1) {
      throw TacoException.usage("--schedule-steps must be at least 1, it is " + steps);
    }
    if (!String.valueOf(recipe.tune()).startsWith("taco")) {
      throw TacoException.usage(
          "--schedule %s tunes after each step: give --tune taco-tmlr or taco-v1, not %s"
              .formatted(how, recipe.tune()));
    }
    if (recipe.structured() != null) {
      throw TacoException.usage(
          "--schedule %s removes single weights or groups of them step by step; --structured removes"
                  .formatted(how)
              + " units at once: give one of them");
    }
    if (recipe.bits() != null) {
      throw TacoException.usage(
          "--schedule %s cannot go on from quantised weights: leave out --bits".formatted(how));
    }
    if (isByMagnitude(recipe)) {
      checkMagnitude(recipe, how);
    }
  }

  private static void checkMagnitude(Recipe recipe, String how) {
    List<String> solvers = new ArrayList<>(List.of(String.valueOf(recipe.solver())));
    if (recipe.layers() != null) {
      recipe.layers().stream()
          .map(Recipe.LayerRule::solver)
          .filter(Objects::nonNull)
          .forEach(solvers::add);
    }
    for (String solver : solvers) {
      if (!solver.equals("magnitude")) {
        throw TacoException.usage(
            "--schedule %s prunes by magnitude, not by --solver %s; --schedule gradual is for that"
                .formatted(how, solver));
      }
    }
    if (!"layerwise".equals(recipe.reconstruct()) || !"none".equals(recipe.correct())) {
      throw TacoException.usage(
          "--schedule %s reconstructs nothing: leave out --reconstruct %s and --correct %s, or choose --schedule gradual"
              .formatted(how, recipe.reconstruct(), recipe.correct()));
    }
  }

  /**
   * How many steps lead to all of the patterns; 1 without a schedule.
   *
   * @throws TacoException of kind USAGE for a pattern without fractions between
   */
  static int steps(Recipe recipe, Collection<Pattern> patterns) {
    if (!isAsked(recipe)) {
      return 1;
    }
    int halvings = 1;
    for (Pattern pattern : patterns) {
      if (pattern instanceof Pattern.NM) {
        throw TacoException.usage(
            "the pattern %s has nothing between dense and pruned, so --schedule %s has no steps for it; --schedule one-shot prunes and tunes"
                .formatted(pattern, recipe.schedule()));
      }
      while (1 - Math.scalb(1.0, -halvings) < pattern.sparsity()) {
        halvings++;
      }
    }
    return recipe.scheduleSteps() == null ? halvings : recipe.scheduleSteps();
  }

  /**
   * The pattern after a step.
   *
   * @param goal the pattern after the last step
   * @param step from 1 on
   */
  static Pattern at(Recipe recipe, Pattern goal, int step, int steps) {
    if (!isAsked(recipe) || step == steps) {
      return goal;
    }
    double fraction =
        recipe.scheduleSteps() == null
            ? 1 - Math.scalb(1.0, -step)
            : Math.rint(GRAINS * (1 - Math.pow(1 - goal.sparsity(), (double) step / steps)))
                / GRAINS;
    double sparsity = Math.min(fraction, goal.sparsity());
    return switch (goal) {
      case Pattern.Unstructured all -> new Pattern.Unstructured(sparsity);
      case Pattern.Block block -> new Pattern.Block(block.groupSize(), sparsity);
      case Pattern.RowBlock block -> new Pattern.RowBlock(block.rows(), sparsity);
      case Pattern.Columns columns -> new Pattern.Columns(sparsity, columns.groupSize());
      case Pattern.NM fixed -> fixed;
    };
  }
}
