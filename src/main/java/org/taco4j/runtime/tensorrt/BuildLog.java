package org.taco4j.runtime.tensorrt;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * What TensorRT says while it builds or loads an engine: errors and warnings, and which layers
 * could and did take sparse tactics, which stands nowhere else. Messages come from several threads.
 */
final class BuildLog {
  private static final int MOST_MESSAGES = 100;
  private static final int ERROR = 1;
  private static final int WARNING = 2;
  private static final String SPARSITY = "(Sparsity)";

  private final List<String> errors = new ArrayList<>();
  private final List<String> warnings = new ArrayList<>();
  private List<String> eligible = List.of();
  private List<String> picked = List.of();

  /**
   * Takes a message down.
   *
   * @param severity as ILogger numbers it: 0 and 1 are errors, 2 warnings
   */
  synchronized void add(int severity, String message) {
    List<String> list = severity <= ERROR ? errors : severity == WARNING ? warnings : null;
    if (list != null && list.size() < MOST_MESSAGES) {
      list.add(message.strip());
    }
    // "(Sparsity) Layers eligible for sparse math: a, b" and "(Sparsity) TRT inference plan picked
    // sparse implementation for layers: b"; newer versions say "Found 2 layer(s) eligible to use
    // sparse tactics: ..." and "Chose 1 layer(s) using sparse tactics: ...".
    int colon = message.indexOf(':');
    if (message.contains(SPARSITY) && colon >= 0) {
      List<String> layers =
          Arrays.stream(message.substring(colon + 1).split(",", -1))
              .map(String::strip)
              .filter(name -> !name.isEmpty())
              .toList();
      if (message.contains("eligible")) {
        eligible = layers;
      } else if (message.contains("picked") || message.contains("Chose")) {
        picked = layers;
      }
    }
  }

  /** Error messages, oldest first. */
  synchronized List<String> errors() {
    return List.copyOf(errors);
  }

  /** Warnings, oldest first. */
  synchronized List<String> warnings() {
    return List.copyOf(warnings);
  }

  /** Names of layers whose weights have the pattern 2:4, as TensorRT calls them after fusion. */
  synchronized List<String> eligible() {
    return eligible;
  }

  /** Those of them that skip zeros. */
  synchronized List<String> picked() {
    return picked;
  }

  /** The last error, for a message; "no reason was given" where there is none. */
  synchronized String reason() {
    return errors.isEmpty() ? "no reason was given" : errors.getLast();
  }

  synchronized void clear() {
    errors.clear();
    warnings.clear();
    eligible = List.of();
    picked = List.of();
  }
}
