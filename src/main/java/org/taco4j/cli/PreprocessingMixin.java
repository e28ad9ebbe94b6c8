package org.taco4j.cli;

import org.jspecify.annotations.Nullable;
import org.taco4j.PreprocessingOptions;
import picocli.CommandLine.Option;

/** The options of the preprocessing. */
final class PreprocessingMixin {
  @Option(
      names = "--preset",
      paramLabel = "NAME",
      completionCandidates = Candidates.OfPreset.class,
      description =
          "preprocessing preset: imagenet, imagenet-bicubic, cifar10, inception, raw255 or unit;"
              + " default: the model's metadata, else imagenet at the model's input size")
  @Nullable String preset;

  @Option(
      names = "--mean",
      paramLabel = "R,G,B",
      description = "mean per channel, of values in 0..1")
  @Nullable String mean;

  @Option(
      names = "--std",
      paramLabel = "R,G,B",
      description = "standard deviation per channel, of values in 0..1")
  @Nullable String std;

  @Option(
      names = "--resize",
      paramLabel = "SIZE",
      description = "resize the short side to SIZE, or to WxH exactly, or 'none'")
  @Nullable String resize;

  @Option(names = "--crop", paramLabel = "SIZE", description = "centre crop: SIZE or WxH")
  @Nullable String crop;

  @Option(
      names = "--filter",
      paramLabel = "NAME",
      completionCandidates = Candidates.OfFilter.class,
      description = "resampling filter: bilinear, bicubic, lanczos or nearest")
  @Nullable String filter;

  @Option(
      names = "--channel-order",
      paramLabel = "ORDER",
      completionCandidates = Candidates.OfChannelOrder.class,
      description = "rgb or bgr")
  @Nullable String channelOrder;

  @Option(
      names = "--layout",
      paramLabel = "LAYOUT",
      completionCandidates = Candidates.OfLayout.class,
      description = "nchw or nhwc; default: read off the model's input")
  @Nullable String layout;

  PreprocessingOptions options() {
    return new PreprocessingOptions(preset, mean, std, resize, crop, filter, channelOrder, layout);
  }
}
