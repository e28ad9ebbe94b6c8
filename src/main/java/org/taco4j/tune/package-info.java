/**
 * Tuning of a compressed model on the few images it was compressed with: towards the dense model's
 * outputs, with what is zero held at zero, by gradients that {@code execute} gives; and linear
 * probing.
 */
@NullMarked
package org.taco4j.tune;

import org.jspecify.annotations.NullMarked;
