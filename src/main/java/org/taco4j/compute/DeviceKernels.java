package org.taco4j.compute;

/**
 * What a backend with memory of its own does as a whole, so that a layer's matrices go there once
 * and stay: one method for each operation that a solver hands over. Solvers keep what is theirs:
 * the order of steps, damping, errors and reports.
 *
 * <p>Everything that is opened here is to be closed; results are the same bytes at any number of
 * threads. Failures of the device are {@link org.taco4j.common.TacoException}s of kind RUNTIME.
 */
public interface DeviceKernels {
  /** How many layers can be worked on at once: the number of devices. */
  int layersAtOnce();
}
