package org.taco4j.export;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Predicate;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;

/**
 * Sets the smallest weights of layers to zero: for models whose speed is all that counts. What such
 * a model computes is worth nothing; {@code taco specialize} prunes so that accuracy stays.
 */
public final class MagnitudePruning {
  private MagnitudePruning() {}

  /**
   * Prunes.
   *
   * @param sparsity fraction of the weights of each layer, or of its blocks
   * @param blockRows neighbouring rows that are removed together, judged by the sum of their
   *     magnitudes; 1 for single weights. Layers whose rows it does not divide stay dense
   * @return names of the layers that were pruned
   */
  public static List<String> prune(
      OnnxModel model, double sparsity, int blockRows, Predicate<Layer> chosen) {
    List<String> pruned = new ArrayList<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (!chosen.test(layer) || !layer.prunable() || layer.rows() % blockRows != 0) {
        continue;
      }
      float[][] groups = LayerWeights.unfold(model, layer);
      for (float[] weights : groups) {
        prune(weights, layer.cols(), sparsity, blockRows);
      }
      LayerWeights.fold(model, layer, groups);
      pruned.add(layer.name());
    }
    return pruned;
  }

  /** One group, [rows, cols]. */
  private static void prune(float[] weights, int cols, double sparsity, int blockRows) {
    float[] scores = new float[weights.length / blockRows];
    for (int i = 0; i < weights.length; i++) {
      scores[i / cols / blockRows * cols + i % cols] += Math.abs(weights[i]);
    }
    int remaining = (int) Math.ceil(scores.length * sparsity - 1e-9);
    float[] sorted = scores.clone();
    Arrays.sort(sorted);
    float threshold = remaining == 0 ? Float.NEGATIVE_INFINITY : sorted[remaining - 1];
    int equal = remaining;
    for (float score : sorted) {
      equal -= score < threshold ? 1 : 0;
    }
    // Weights on a coarse grid have many equals; of these the first go.
    for (int i = 0; i < scores.length; i++) {
      if (scores[i] > threshold || (scores[i] == threshold && equal-- <= 0)) {
        continue;
      }
      int first = i / cols * blockRows * cols + i % cols;
      for (int r = 0; r < blockRows; r++) {
        weights[first + r * cols] = 0;
      }
    }
  }
}
