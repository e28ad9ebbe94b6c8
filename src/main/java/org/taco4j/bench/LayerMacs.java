package org.taco4j.bench;

import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/** Counts the multiply-accumulates of each layer. */
public final class LayerMacs {
  private LayerMacs() {}

  /**
   * Multiply-accumulates for one image, by layer name, found by running one blank image.
   *
   * @param imageShape shape of a batch of one image, in the model's layout
   */
  public static Map<String, Long> count(
      OnnxModel model, List<Layer> layers, ModelInput input, long[] imageShape) {
    Map<String, Long> macs = new LinkedHashMap<>();
    Set<String> outputs = new LinkedHashSet<>();
    layers.forEach(layer -> outputs.add(layer.output()));
    if (outputs.isEmpty()) {
      return macs;
    }
    float[] blank = new float[Math.toIntExact(imageShape[1] * imageShape[2] * imageShape[3])];
    Map<String, Tensor> feed = input.feed(blank, 1, imageShape);
    try (Session session = Session.open(model.withOutputs(outputs, false), 1)) {
      Map<String, Tensor> results = session.run(feed);
      long images = Math.max(1, input.batch());
      for (Layer layer : layers) {
        long elements = Objects.requireNonNull(results.get(layer.output())).elements();
        macs.put(layer.name(), elements * layer.cols() / images);
      }
      results.values().forEach(Tensor::close);
    } finally {
      feed.values().forEach(Tensor::close);
    }
    return macs;
  }
}
