package org.taco4j;

import java.util.Locale;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.export.TensorRtForm;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;

/** What {@code --runtime tensorrt} means for the models that are written. */
final class TensorRtExport {
  /** Channels that tensor cores work on at once; fewer are filled up with zeros. */
  private static final int CHANNELS = 8;

  /** Share of zeros from which on a model counts as pruned. */
  private static final double LEAST_ZEROS = 0.1;

  private TensorRtExport() {}

  /** Throws an exception of kind USAGE for what a recipe cannot mean. */
  static void check(Recipe recipe) {
    if (!SparseRuntime.TENSORRT.equals(recipe.runtime())) {
      return;
    }
    if (Boolean.TRUE.equals(recipe.packWeights())) {
      throw TacoException.usage(
          "--pack-weights is for ONNX Runtime: TensorRT looks for 2:4 in weights that are stored as"
              + " they are; leave it out");
    }
    if (recipe.bits() != null && recipe.activationBits() == null) {
      throw TacoException.usage(
          "--runtime tensorrt multiplies integers only where activations are integers too; add"
              + " --activation-bits 8, or leave out --bits");
    }
  }

  /** Throws an exception of kind USAGE for what an export cannot mean. */
  static void check(Taco.ExportRequest request) {
    if (request.packWeights()) {
      throw TacoException.usage(
          "--pack-weights is for ONNX Runtime: TensorRT looks for 2:4 in weights that are stored as"
              + " they are; leave it out");
    }
    if (request.library() != null) {
      throw TacoException.usage(
          "--library is for --runtime taco4j: TensorRT has no use for the operator library");
    }
  }

  /** What the sizes of hidden dimensions are to be multiples of. */
  static int unitMultiple(Recipe recipe) {
    return SparseRuntime.TENSORRT.equals(recipe.runtime()) ? CHANNELS : 1;
  }

  /**
   * Brings a model to the form that TensorRT takes, and notes where its zeros gain nothing there.
   *
   * @throws TacoException of kind MODEL where it has what TensorRT refuses
   */
  static TensorRtForm.Outcome rewrite(OnnxModel model, Notices notices) {
    TensorRtForm.Outcome outcome = TensorRtForm.apply(model);
    long weights = 0;
    long zeros = 0;
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (LayerWeights.hasKnownZeros(model, layer)) {
        weights += layer.parameters();
        zeros += LayerWeights.zeros(model, layer);
      }
    }
    if (outcome.twoOfFour().isEmpty() && zeros > LEAST_ZEROS * weights) {
      notices.add(
          "zeros-not-skipped",
          model.source(),
          String.format(
              Locale.ROOT,
              "%.0f %% of its weights are zero, but no layer has two in every four neighbouring input"
                  + " channels: TensorRT multiplies such zeros; --pattern 2:4 makes those it skips",
              100.0 * zeros / weights),
          (double) zeros / weights);
    }
    return outcome;
  }

  /** Notes 8-bit weights that gain nothing in TensorRT, of a model that is exported as it is. */
  static void noteWeightsOnly(TensorRtForm.Outcome outcome, OnnxModel model, Notices notices) {
    if (outcome.weightsOnly() > 0) {
      notices.add(
          "weights-only-quantized",
          model.source(),
          outcome.weightsOnly()
              + " layers have 8-bit weights and read floats: TensorRT makes floats of the weights and"
              + " multiplies those, so the bits make the file smaller, not the model faster;"
              + " specialize with --bits 8 --activation-bits 8 --runtime tensorrt makes integers of"
              + " both where it can",
          outcome.weightsOnly());
    }
  }

  /** For people. */
  static String describe(TensorRtForm.Outcome outcome) {
    return "for TensorRT: %d of %d layers have the pattern 2:4, %d multiply 8-bit integers"
        .formatted(outcome.twoOfFour().size(), outcome.layers(), outcome.quantized());
  }
}
