package org.taco4j;

import java.util.List;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.Layer;

/** Which layers {@code --include} and {@code --exclude} choose. */
final class LayerSelection {
  private final List<Glob> include;
  private final List<Glob> exclude;

  LayerSelection(Recipe recipe) {
    include = globs(recipe.include());
    exclude = globs(recipe.exclude());
  }

  private static List<Glob> globs(@Nullable List<String> texts) {
    return texts == null ? List.of() : texts.stream().map(Glob::new).toList();
  }

  boolean chooses(String layer) {
    return (include.isEmpty() || include.stream().anyMatch(g -> g.matches(layer)))
        && exclude.stream().noneMatch(g -> g.matches(layer));
  }

  /**
   * Throws where a glob, of the options or of the recipe's rules, matches none of the layers.
   *
   * @throws TacoException of kind USAGE
   */
  void requireMatches(List<Layer> layers, Recipe recipe) {
    requireMatches("--include", include, layers);
    requireMatches("--exclude", exclude, layers);
    if (recipe.layers() != null) {
      requireMatches(
          "the rule for", recipe.layers().stream().map(Recipe.LayerRule::glob).toList(), layers);
    }
  }

  private static void requireMatches(String option, List<Glob> globs, List<Layer> layers) {
    for (Glob glob : globs) {
      if (layers.stream().noneMatch(layer -> glob.matches(layer.name()))) {
        throw TacoException.usage(
            option + " '" + glob + "' matches no layer; `taco inspect` lists the names");
      }
    }
  }
}
