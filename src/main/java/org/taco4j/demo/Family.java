package org.taco4j.demo;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/** The upper level of the hierarchy of drawn things. */
public enum Family {
  /** Things that drive or sail, from the side. */
  VEHICLES,
  /** Faces of animals. */
  ANIMALS,
  /** Fruit. */
  FRUIT,
  /** Things of kitchen and living room. */
  HOUSEHOLD;

  /** Its classes, in the order of the generalist's outputs. */
  public List<DrawnClass> classes() {
    return Arrays.stream(DrawnClass.values()).filter(c -> c.family() == this).toList();
  }

  /** The name for people, such as {@code vehicles}. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
