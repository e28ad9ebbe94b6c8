package org.taco4j;

import java.util.ArrayList;
import java.util.List;
import org.taco4j.export.WeightQuantization;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.reconstruct.LayerWise;
import org.taco4j.solve.QuantizationGrid;

/**
 * The codes of quantised layers, from the solver to the file: the channel correction in between
 * multiplies whole rows, which changes a row's scale and none of its codes.
 */
final class QuantizedLayers {
  /**
   * The weights of a layer as the solver gave them, [rows, cols] for each group, and their grids.
   */
  @SuppressWarnings("ArrayRecordComponent") // tensors: comparing them by value is no use
  private record Codes(Layer layer, float[][] weights, List<QuantizationGrid> grids) {}

  private final List<Codes> layers = new ArrayList<>();

  /** Takes down the codes of solved layers. */
  QuantizedLayers(OnnxModel solved, List<LayerWise.Outcome> outcomes) {
    for (LayerWise.Outcome outcome : outcomes) {
      if (!outcome.grids().isEmpty()) {
        Layer layer = outcome.plan().layer();
        layers.add(new Codes(layer, LayerWeights.unfold(solved, layer), outcome.grids()));
      }
    }
  }

  /**
   * Stores the layers of a model as integers, with the scales that the rows have come to have.
   *
   * @param model the solved model, its rows multiplied by something positive
   */
  void store(OnnxModel model) {
    for (Codes codes : layers) {
      float[][] now = LayerWeights.unfold(model, codes.layer());
      List<QuantizationGrid> grids = new ArrayList<>();
      for (int group = 0; group < now.length; group++) {
        grids.add(rescale(codes, group, now[group]));
      }
      WeightQuantization.apply(model, codes.layer(), now, grids);
    }
  }

  /** The grid that a group's rows lie on now; the weights are put onto it exactly. */
  private static QuantizationGrid rescale(Codes codes, int group, float[] now) {
    QuantizationGrid grid = codes.grids().get(group);
    float[] before = codes.weights()[group];
    int cols = codes.layer().cols();
    float[] scale = new float[codes.layer().rows()];
    for (int row = 0; row < scale.length; row++) {
      int largest = row * cols;
      for (int i = row * cols; i < (row + 1) * cols; i++) {
        largest = Math.abs(before[i]) > Math.abs(before[largest]) ? i : largest;
      }
      float factor = before[largest] == 0 ? 1 : now[largest] / before[largest];
      scale[row] = grid.scale()[row] * factor;
      for (int i = row * cols; i < (row + 1) * cols; i++) {
        now[i] = scale[row] * (float) Math.rint(before[i] / grid.scale()[row]) + 0f;
      }
    }
    return new QuantizationGrid(grid.bits(), grid.symmetric(), scale, grid.zero());
  }
}
