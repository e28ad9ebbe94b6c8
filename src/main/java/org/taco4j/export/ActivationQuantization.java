package org.taco4j.export;

import java.util.Map;
import java.util.Set;
import org.taco4j.calibrate.ActivationRange;
import org.taco4j.onnx.OnnxModel;

/**
 * How a model whose weights are stored in 8 bits comes to have activations in 8 bits, in the form
 * that a runtime wants. Made in two steps, as ranges are measured in between: a plan says which
 * tensors need one, then it rewrites.
 */
public sealed interface ActivationQuantization permits IntegerOperators, SymmetricQuantization {

  /** The tensors whose ranges are needed, in graph order; empty where no layer can be rewritten. */
  Set<String> tensors();

  /**
   * Rewrites a model.
   *
   * @param target the model that was planned for, or a copy of it; on failure unchanged
   * @param ranges of all {@link #tensors}
   */
  Outcome rewrite(OnnxModel target, Map<String, ActivationRange> ranges);

  /**
   * What was done with the layers, by name in graph order.
   *
   * @param rewritten the operator that each of these has become
   * @param floats why each of these multiplies floats, for people
   */
  record Outcome(Map<String, String> rewritten, Map<String, String> floats) {}
}
