package org.taco4j.solve;

import java.util.Locale;

/** In which floating-point type a solver eliminates weights. */
public enum Precision {
  /** float64 for layers of moderate width, float32 for wide ones. */
  AUTO,
  /** Fast; drifts where the Hessian is ill conditioned. */
  FLOAT32,
  /** Twice the time and memory. */
  FLOAT64;

  /** The name by which users ask for it. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
