package org.taco4j.export;

import org.jspecify.annotations.Nullable;

/** Why units cannot be removed: what {@link UnitTrace} throws where it cannot go on. */
final class Refused extends Exception {
  private static final long serialVersionUID = 1L;

  private final int node;
  private final long @Nullable [] factors;
  private final @Nullable String partner;

  private Refused(int node, String reason, long @Nullable [] factors, @Nullable String partner) {
    super(reason, null, false, false);
    this.node = node;
    this.factors = factors;
    this.partner = partner;
  }

  /** The node with that index is in the way. */
  static Refused because(int node, String reason) {
    return new Refused(node, reason, null, null);
  }

  /** The node divides the units' axis: unit u is an index into axes of the given sizes. */
  static Refused divided(int node, String reason, long[] factors) {
    return new Refused(node, reason, factors, null);
  }

  /** The node combines the units with a tensor whose writer must lose them, too. */
  static Refused joined(int node, String reason, String partner) {
    return new Refused(node, reason, null, partner);
  }

  int node() {
    return node;
  }

  long @Nullable [] factors() {
    return factors;
  }

  @Nullable String partner() {
    return partner;
  }

  String reason() {
    return String.valueOf(getMessage());
  }
}
