package org.taco4j.data;

import java.util.Locale;
import org.taco4j.common.TacoException;

/** How many images are held out of the calibration folders. */
sealed interface HeldOutPolicy {
  /** As many as are chosen for calibration, of what is left; else a quarter of the chosen. */
  record Auto() implements HeldOutPolicy {}

  /** None. */
  record None() implements HeldOutPolicy {}

  /**
   * A fixed number.
   *
   * @param perClass images of each class
   */
  record Fixed(int perClass) implements HeldOutPolicy {}

  /** Reads {@code auto}, {@code none} or a number of images per class. */
  static HeldOutPolicy parse(String text) {
    String value = text.strip().toLowerCase(Locale.ROOT);
    try {
      return switch (value) {
        case "auto" -> new Auto();
        case "none" -> new None();
        default -> {
          int perClass = Integer.parseInt(value);
          if (perClass < 0) {
            throw new NumberFormatException("negative");
          }
          yield perClass == 0 ? new None() : new Fixed(perClass);
        }
      };
    } catch (NumberFormatException e) {
      throw new TacoException(
          TacoException.Kind.USAGE,
          "held-out images are auto, none or a number per class, not '" + text + "'",
          e);
    }
  }
}
