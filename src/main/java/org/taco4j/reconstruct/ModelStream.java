package org.taco4j.reconstruct;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/**
 * What a model makes of all batches of images, computed stage after stage, so that the model may
 * change between stages. Owns the activations until it is closed.
 */
final class ModelStream implements AutoCloseable {
  private final OnnxModel model;
  private final ModelInput input;
  private final Workers workers;
  private final ActivationStore activations;

  /**
   * A stream without images.
   *
   * @param model borrowed; each stage is run with the weights that it has then
   * @param memory bytes that activations in memory may take
   * @param scratch an existing folder of its own for those that do not fit
   */
  ModelStream(OnnxModel model, long memory, Path scratch, Workers workers) {
    this.model = model;
    this.input = ModelInput.of(model);
    this.workers = workers;
    this.activations = new ActivationStore(memory, scratch);
  }

  void add(ImageBatches.Batch batch, long[] imageShape) {
    activations.addBatch(input.feed(batch.data(), batch.count(), imageShape));
  }

  /** Computes a stage for all batches, a batch a thread. */
  void run(OnnxModel.Stage stage) {
    if (stage.outputs().isEmpty()) {
      return;
    }
    try (Session session = open(stage)) {
      workers.forEach(activations.size(), b -> activations.use(b, stage.inputs(), session::run));
    }
  }

  /** A session that computes a stage, with the weights of now. */
  Session open(OnnxModel.Stage stage) {
    Map<String, Integer> inputs = new LinkedHashMap<>();
    stage.inputs().forEach(name -> inputs.put(name, activations.elementType(name)));
    return Session.open(model.subgraph(inputs, stage.outputs()), 1);
  }

  /** The values that belong to the images of a batch, not to what filled it up. */
  static float[] leading(float[] values, long[] shape) {
    int length = Math.toIntExact(Tensor.elements(shape));
    return length < values.length ? java.util.Arrays.copyOf(values, length) : values;
  }

  ActivationStore activations() {
    return activations;
  }

  /** Drops all activations but the named ones. */
  void retain(Set<String> names) {
    activations.retain(names);
  }

  @Override
  public void close() {
    activations.close();
  }
}
