package org.taco4j.solve;

import org.taco4j.common.TacoException;

/** How the damping λ of layer problems comes about. */
public sealed interface Damping {
  /** What the papers use, and what is kept where nothing speaks for another. */
  double USUAL = 0.01;

  /**
   * The same λ for all layers.
   *
   * @param value λ, from 0 to 1, relative to the mean of the Hessian's diagonal
   */
  record Fixed(double value) implements Damping {
    /**
     * Checks the value.
     *
     * @throws TacoException of kind USAGE where it does not lie in [0, 1]
     */
    public Fixed {
      if (!(value >= 0 && value <= 1)) {
        throw TacoException.usage("--damping must be between 0 and 1, or auto; it is " + value);
      }
    }
  }

  /** For each layer problem the λ of {@link CrossValidatedDamping}. */
  record Automatic() implements Damping {}

  /**
   * What a text means: a number or {@code auto}.
   *
   * @throws TacoException of kind USAGE for anything else
   */
  static Damping parse(String text) {
    if (text.equals("auto")) {
      return new Automatic();
    }
    double value;
    try {
      value = Double.parseDouble(text);
    } catch (NumberFormatException e) {
      throw new TacoException(
          TacoException.Kind.USAGE,
          "--damping must be between 0 and 1, or auto; it is '" + text + "'",
          e);
    }
    return new Fixed(value);
  }
}
