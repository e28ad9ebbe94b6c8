package org.taco4j.calibrate;

import java.util.function.Consumer;

/**
 * The images of one set, preprocessed, in batches of one size (the last may be smaller), in an
 * order that never changes. They can be streamed any number of times.
 */
public interface CalibrationImages {
  /** How many images there are. */
  int size();

  /** Height that preprocessing brings images to, in pixels. */
  int height();

  /** Width that preprocessing brings images to, in pixels. */
  int width();

  /** Passes all batches to {@code consumer}, one after the other, in the calling thread. */
  void stream(Consumer<Batch> consumer);

  /**
   * Some images.
   *
   * @param data their values in the model's layout, one image after the other
   * @param count how many
   */
  record Batch(float[] data, int count) {}
}
