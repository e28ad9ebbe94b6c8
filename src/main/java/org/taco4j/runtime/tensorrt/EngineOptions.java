package org.taco4j.runtime.tensorrt;

import java.util.Arrays;
import java.util.List;

/**
 * What an engine is built for.
 *
 * @param precision what it may compute in
 * @param sparseTactics whether layers whose weights have the pattern 2:4 may skip their zeros
 * @param batches images in a run; the engine has kernels chosen for each of them
 * @param imageShape shape of a batch of one image, in the model's layout
 */
@SuppressWarnings(
    "ArrayRecordComponent") // a shape: not compared here, the cache's key has it as text
public record EngineOptions(
    Precision precision, boolean sparseTactics, List<Integer> batches, long[] imageShape) {

  /** The shape of a batch. */
  long[] shape(int batch) {
    long[] shape = imageShape.clone();
    shape[0] = batch;
    return shape;
  }

  @Override
  public String toString() {
    return "%s%s, batches %s of %s"
        .formatted(
            precision,
            sparseTactics ? " with sparse tactics" : "",
            batches,
            Arrays.toString(imageShape));
  }
}
