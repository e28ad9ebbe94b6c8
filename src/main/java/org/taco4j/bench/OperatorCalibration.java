package org.taco4j.bench;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.export.MagnitudePruning;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;

/** Fills a table of times, so that later choices need not measure. */
public final class OperatorCalibration {
  /** Between neighbours, times are interpolated. */
  private static final List<Double> SPARSITIES = List.of(0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98);

  private static final int BLOCK_ROWS = 4;

  private OperatorCalibration() {}

  /** Is told how it gets on. */
  public interface Listener {
    /** A level of sparsity begins, with so many layers to time. */
    void level(String what, int layers);

    /** This one is done. */
    void measured(String layer);
  }

  /**
   * Times the layers of a model, or common ones, at several sparsities, with zeros anywhere and in
   * blocks of rows. What the table has already is not timed again.
   *
   * @param model dense or pruned; its weights are replaced by random ones, and these pruned by
   *     magnitude. Null for common layers
   * @param use where and how the model runs; null for common layers
   * @return how many layers were timed; each sparsity counts
   */
  public static int calibrate(
      @Nullable OnnxModel model,
      OperatorPlan.@Nullable Use use,
      int threads,
      int batch,
      OperatorTable table,
      Notices notices,
      Listener listener) {
    OnnxModel whole;
    Map<String, long[]> shapes;
    if (model == null || use == null) {
      CommonLayers.Layers common = CommonLayers.make(batch);
      whole = common.model();
      shapes = common.shapes();
    } else {
      whole = withoutZeros(model);
      shapes = OperatorPlan.shapes(model, use);
    }
    int measured = 0;
    for (int blockRows : new int[] {1, BLOCK_ROWS}) {
      for (double sparsity : SPARSITIES) {
        if (sparsity == 0 && blockRows > 1) {
          continue; // Dense weights are one block.
        }
        OnnxModel pruned = whole.copy();
        MagnitudePruning.prune(pruned, sparsity, blockRows, Layer::prunable);
        List<SingleLayer> layers = new ArrayList<>();
        for (Layer layer : LayerDiscovery.discover(pruned)) {
          layers.addAll(SingleLayer.of(pruned, layer, shapes, new HashMap<>()));
        }
        String what =
            String.format(
                Locale.ROOT,
                "%.0f %% zeros%s",
                100 * sparsity,
                blockRows > 1 ? " in blocks of 4 rows" : "");
        measured +=
            OperatorPlan.measure(
                layers,
                threads,
                table,
                count -> listener.level(what, count),
                layer -> listener.measured(layer));
        table.save(notices);
      }
    }
    return measured;
  }

  /** A copy with random weights in the prunable layers, so that any part of them can be removed. */
  private static OnnxModel withoutZeros(OnnxModel model) {
    OnnxModel copy = model.copy();
    Random random = new Random(1);
    for (Layer layer : LayerDiscovery.discover(copy)) {
      if (layer.prunable() && LayerWeights.canFold(copy, layer)) {
        float[][] groups = LayerWeights.unfold(copy, layer);
        for (float[] weights : groups) {
          for (int i = 0; i < weights.length; i++) {
            weights[i] = (float) (0.02 * random.nextGaussian());
          }
        }
        LayerWeights.fold(copy, layer, groups);
      }
    }
    return copy;
  }
}
