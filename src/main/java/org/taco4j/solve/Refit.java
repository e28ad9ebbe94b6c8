package org.taco4j.solve;

/** How AdaPrune fits the weights that stay. */
public enum Refit {
  /** The exact least-squares solution of each row. */
  LEAST_SQUARES("ls"),
  /** The paper's form: steps of Adam. */
  ADAM("adam");

  private final String text;

  Refit(String text) {
    this.text = text;
  }

  /** The name by which users ask for it. */
  @Override
  public String toString() {
    return text;
  }
}
