package org.taco4j.runtime;

/**
 * A model on a device, which runs the same batch again and again and says how long that takes. Used
 * by one thread.
 */
public interface TimedModel extends AutoCloseable {
  /**
   * Makes ready to run a batch, in place of the one before: memory, copies, the engine's kernels.
   *
   * @param images [batch, ...] row-major, in the layout of the model's input; borrowed
   */
  void load(float[] images, int batch);

  /** Runs the batch; the values of the model's first output, [batch, ...] row-major. */
  float[] run();

  /**
   * Whether {@link #millisOnDevice} is known: not where a runtime hides the device's memory and
   * clock.
   */
  boolean timesDevice();

  /**
   * Runs the batch, whose images lie in the device's memory already.
   *
   * @return milliseconds between the device's beginning and end of it, by the device's own clock
   * @throws UnsupportedOperationException where {@link #timesDevice} says no
   */
  double millisOnDevice();

  /** Runs the batch, the copies of images and results from and to the host included. */
  double millisWithCopies();

  @Override
  void close();
}
