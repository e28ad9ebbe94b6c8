package org.taco4j.tune;

import org.taco4j.common.TacoException;
import org.taco4j.onnx.OnnxModel;

/**
 * What came of a tuning.
 *
 * @param model the student with the weights of the best pass
 * @param report how it went
 */
public record Tuned(OnnxModel model, TuneReport report) {
  /**
   * To be called when the model is safe: a tuning whose loss became infinite or no number has the
   * best weights so far, and is a failure all the same.
   *
   * @throws TacoException of kind NUMERICAL then
   */
  public void requireFinite() {
    report
        .failure()
        .ifPresent(
            failure -> {
              throw TacoException.numerical(failure);
            });
  }
}
