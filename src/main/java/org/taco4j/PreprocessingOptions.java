package org.taco4j;

import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.data.Preprocessing;
import org.taco4j.data.Preprocessing.Layout;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;

/**
 * What the user says of the preprocessing; what is null comes from the model's metadata, or else is
 * ImageNet's at the model's input size. The texts are those of the options of the same names.
 */
public record PreprocessingOptions(
    @Nullable String preset,
    @Nullable String mean,
    @Nullable String std,
    @Nullable String resize,
    @Nullable String crop,
    @Nullable String filter,
    @Nullable String channelOrder,
    @Nullable String layout) {

  /** The key of the model's metadata under which the preprocessing contract travels, as JSON. */
  public static final String METADATA_KEY = "taco4j.preprocessing";

  /** Pixels a side for models that take images of any size. */
  private static final int DEFAULT_SIZE = 224;

  /** Nothing said. */
  public static PreprocessingOptions none() {
    return new PreprocessingOptions(null, null, null, null, null, null, null, null);
  }

  static PreprocessingOptions of(Recipe recipe) {
    return new PreprocessingOptions(
        recipe.preset(),
        recipe.mean(),
        recipe.std(),
        recipe.resize(),
        recipe.crop(),
        recipe.filter(),
        recipe.channelOrder(),
        recipe.layout());
  }

  /**
   * The preprocessing for a model.
   *
   * @throws TacoException of kind USAGE for texts that mean nothing, of kind DATA for what does not
   *     fit the model's input
   */
  public Preprocessing resolve(OnnxModel model, ModelInput input) {
    Map<String, String> metadata = model.metadata();
    String contract = metadata.get(METADATA_KEY);
    Layout modelLayout = input.channelsLast() ? Layout.NHWC : Layout.NCHW;
    int[] size = crop == null ? null : Preprocessing.parseCrop(crop);
    int width = size != null ? size[0] : input.width() > 0 ? input.width() : DEFAULT_SIZE;
    int height = size != null ? size[1] : input.height() > 0 ? input.height() : DEFAULT_SIZE;

    Preprocessing result;
    if (preset != null) {
      result = Preprocessing.preset(preset, width, height, modelLayout);
    } else if (contract != null) {
      result = Preprocessing.fromJson(contract);
      if (size != null) {
        result = result.withCrop(width, height);
      }
    } else {
      result = Preprocessing.imageNet(width, height, modelLayout);
    }
    if (mean != null) {
      result = result.withMean(Preprocessing.parseChannels("--mean", mean));
    }
    if (std != null) {
      result = result.withStd(Preprocessing.parseChannels("--std", std));
    }
    if (resize != null) {
      result = result.withResize(Preprocessing.Resize.parse(resize));
    }
    if (filter != null) {
      result = result.withFilter(Preprocessing.Filter.parse(filter));
    }
    if (channelOrder != null) {
      result = result.withOrder(Preprocessing.ChannelOrder.parse(channelOrder));
    }
    if (layout != null) {
      result = result.withLayout(Layout.parse(layout));
    }
    check(model, input, result, modelLayout);
    return result;
  }

  private static void check(
      OnnxModel model, ModelInput input, Preprocessing result, Layout modelLayout) {
    boolean sizeFits =
        (input.width() < 0 || input.width() == result.cropWidth())
            && (input.height() < 0 || input.height() == result.cropHeight());
    if (!sizeFits) {
      throw TacoException.data(
          model.source()
              + ": input '"
              + input.name()
              + "' takes images of "
              + input.width()
              + "x"
              + input.height()
              + " pixels, the preprocessing makes "
              + result.cropWidth()
              + "x"
              + result.cropHeight()
              + "; set --crop to the model's size");
    }
    if (result.layout() != modelLayout) {
      throw TacoException.data(
          model.source()
              + ": input '"
              + input.name()
              + "' looks like "
              + modelLayout
              + ", not "
              + result.layout()
              + "; leave --layout out");
    }
  }
}
