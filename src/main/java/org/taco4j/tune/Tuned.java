package org.taco4j.tune;

import org.taco4j.onnx.OnnxModel;

/**
 * What came of a tuning.
 *
 * @param model the student with the weights of the best pass
 * @param report how it went
 */
public record Tuned(OnnxModel model, TuneReport report) {}
