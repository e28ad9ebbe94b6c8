package org.taco4j;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import org.taco4j.common.Suggestions;
import org.taco4j.common.TacoException;

/**
 * The recipes that come along, by name: YAML files beside this class, each beginning with comments
 * that say what it is for, where it is from and what it makes faster.
 */
public final class Recipes {
  private static final List<String> NAMES =
      List.of("one-shot", "taco-v1", "taco-tmlr", "2:4-tensorrt", "int8-block4");

  private Recipes() {}

  /** The names of all presets. */
  public static List<String> names() {
    return NAMES;
  }

  /**
   * The YAML text of a preset, with its comments.
   *
   * @throws TacoException of kind USAGE for another name
   */
  public static String text(String name) {
    if (!NAMES.contains(name)) {
      throw TacoException.usage(
          "no preset '%s'%s; there are: %s"
              .formatted(name, Suggestions.didYouMean(name, NAMES), String.join(", ", NAMES)));
    }
    // A colon cannot stand in the name of a file everywhere.
    String file = "recipes/" + name.replace(':', '-') + ".yaml";
    try (InputStream in = Objects.requireNonNull(Recipes.class.getResourceAsStream(file), file)) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** What a preset is for: the first sentence of its comments. */
  public static String summary(String name) {
    StringBuilder text = new StringBuilder();
    for (String line : text(name).lines().toList()) {
      String words = line.replaceFirst("^# ?", "");
      int end = (words + " ").indexOf(". ");
      text.append(text.isEmpty() ? "" : " ").append(end < 0 ? words : words.substring(0, end));
      if (end >= 0 || words.isEmpty()) {
        break;
      }
    }
    return text.toString().strip();
  }

  /**
   * The recipe that {@code --recipe} names: a preset, or else a file.
   *
   * @throws TacoException of kind USAGE where there is neither, or the file is no recipe
   */
  public static Recipe named(String nameOrFile) {
    if (NAMES.contains(nameOrFile)) {
      return Recipe.parse("preset " + nameOrFile, text(nameOrFile));
    }
    Path file;
    try {
      file = Path.of(nameOrFile);
    } catch (InvalidPathException e) {
      throw unknown(nameOrFile);
    }
    if (Files.notExists(file)) {
      throw unknown(nameOrFile);
    }
    return Recipe.read(file);
  }

  private static TacoException unknown(String nameOrFile) {
    return TacoException.usage(
        ("recipe '%s': there is no such file (seen from the current folder), and no such preset%s;"
                + " the presets are %s")
            .formatted(
                nameOrFile, Suggestions.didYouMean(nameOrFile, NAMES), String.join(", ", NAMES)));
  }
}
