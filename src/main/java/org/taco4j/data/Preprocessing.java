package org.taco4j.data;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.taco4j.common.TacoException;

/**
 * How an image becomes a model's input: resize, crop in the centre, scale to 0..1, {@code (x/255 -
 * mean) / std} per channel, and lay out. It is part of the model and travels in its metadata as
 * {@linkplain #toJson() JSON}. The steps are those of torchvision's PIL transforms ({@code Resize},
 * {@code CenterCrop}, {@code ToTensor}, {@code Normalize}); {@link Preprocessor} performs them.
 *
 * @param resize the first step
 * @param directBelow pixels: an image whose short side is at most this is resized straight to
 *     {@code cropWidth} x {@code cropHeight} instead of by {@code resize}; 0 is never
 * @param filter the resampling filter
 * @param cropWidth columns of the model's input
 * @param cropHeight rows of the model's input
 * @param mean per channel in the order red, green, blue, whatever {@code order} is; of values in
 *     0..1
 * @param std as {@code mean}; each greater than 0
 * @param order order of the channels in the tensor
 * @param layout layout of the tensor
 */
public record Preprocessing(
    Resize resize,
    int directBelow,
    Filter filter,
    int cropWidth,
    int cropHeight,
    List<Float> mean,
    List<Float> std,
    ChannelOrder order,
    Layout layout) {

  /** What is done to the size of an image before the crop. */
  public sealed interface Resize {
    /**
     * The short side becomes {@code pixels} and the long side {@code floor(pixels * long / short)}.
     *
     * @param pixels the new short side
     */
    record ShortSide(int pixels) implements Resize {
      /** Checks that there is at least one pixel. */
      public ShortSide {
        requirePositive("resize", pixels);
      }
    }

    /**
     * Straight to a size, whatever that does to the aspect ratio.
     *
     * @param width columns
     * @param height rows
     */
    record Exact(int width, int height) implements Resize {
      /** Checks that there is at least one pixel. */
      public Exact {
        requirePositive("resize width", width);
        requirePositive("resize height", height);
      }
    }

    /** The image is cropped as it is. */
    record None() implements Resize {}

    /**
     * Reads {@code 256} (short side), {@code 224x192} (width x height) or {@code none}.
     *
     * @throws TacoException of kind USAGE for anything else
     */
    static Resize parse(String text) {
      String value = text.strip().toLowerCase(Locale.ROOT);
      if (value.equals("none")) {
        return new None();
      }
      int[] sides = parseSides("resize", value, "256, 224x224 or none");
      return sides.length == 1 ? new ShortSide(sides[0]) : new Exact(sides[0], sides[1]);
    }
  }

  /**
   * Resampling filters, as Pillow's of the same names. All but {@link #NEAREST} are antialiased:
   * their support grows with the factor by which the image shrinks.
   */
  public enum Filter {
    /** Triangle, support 1. */
    BILINEAR,
    /** Cubic convolution with a = -0.5, support 2. */
    BICUBIC,
    /** The pixel under the centre; no antialiasing. */
    NEAREST,
    /** Lanczos' windowed sinc with three lobes, support 3. */
    LANCZOS;

    /**
     * Reads a filter's name, in any case.
     *
     * @throws TacoException of kind USAGE for an unknown one
     */
    public static Filter parse(String text) {
      return parseEnum(Filter.class, "filter", text);
    }
  }

  /** Order of the channels in the tensor. */
  public enum ChannelOrder {
    /** Red first: what nearly every model takes. */
    RGB,
    /** Blue first: Caffe, OpenCV. */
    BGR;

    /**
     * Reads {@code rgb} or {@code bgr}, in any case.
     *
     * @throws TacoException of kind USAGE for anything else
     */
    public static ChannelOrder parse(String text) {
      return parseEnum(ChannelOrder.class, "channel order", text);
    }
  }

  /** Layout of the tensor of a batch. */
  public enum Layout {
    /** [batch, channel, row, column]. */
    NCHW,
    /** [batch, row, column, channel]. */
    NHWC;

    /**
     * Reads {@code nchw} or {@code nhwc}, in any case.
     *
     * @throws TacoException of kind USAGE for anything else
     */
    public static Layout parse(String text) {
      return parseEnum(Layout.class, "layout", text);
    }
  }

  private static final int VERSION = 1;

  /**
   * Pixels: data sets of images this small (CIFAR 32, Tiny-ImageNet 64) are cut close to the object
   * and have no margin to crop away. Larger images that are still smaller than a model's input are
   * photos that happen to be small, and go the way of all photos.
   */
  private static final int THUMBNAIL = 64;

  private static final ObjectMapper JSON = new ObjectMapper();

  private static final List<Float> IMAGENET_MEAN = List.of(0.485f, 0.456f, 0.406f);
  private static final List<Float> IMAGENET_STD = List.of(0.229f, 0.224f, 0.225f);
  private static final List<Float> ZERO = List.of(0f, 0f, 0f);
  private static final List<Float> HALF = List.of(0.5f, 0.5f, 0.5f);
  private static final List<Float> ONE = List.of(1f, 1f, 1f);

  @FunctionalInterface
  private interface Preset {
    Preprocessing at(int width, int height, Layout layout);
  }

  private static final Map<String, Preset> PRESETS =
      new TreeMap<>(
          Map.of(
              "imagenet", Preprocessing::imageNet,
              "imagenet-bicubic",
                  (w, h, layout) ->
                      imageNet(w, h, layout)
                          .withShortSide(Math.toIntExact(Math.round(Math.min(w, h) / 0.9)))
                          .withFilter(Filter.BICUBIC),
              "cifar10",
                  (w, h, layout) ->
                      imageNet(w, h, layout)
                          .withMean(List.of(0.4914f, 0.4822f, 0.4465f))
                          .withStd(List.of(0.2023f, 0.1994f, 0.2010f)),
              "inception", (w, h, layout) -> imageNet(w, h, layout).withMean(HALF).withStd(HALF),
              "raw255",
                  (w, h, layout) ->
                      imageNet(w, h, layout)
                          .withMean(ZERO)
                          .withStd(List.of(1 / 255f, 1 / 255f, 1 / 255f)),
              "unit", (w, h, layout) -> imageNet(w, h, layout).withMean(ZERO).withStd(ONE)));

  /**
   * Checks each value on its own; whether the resized image is large enough for the crop is checked
   * by {@link Preprocessor}, so that options can be set one by one.
   *
   * @throws TacoException of kind USAGE
   */
  public Preprocessing {
    requirePositive("crop width", cropWidth);
    requirePositive("crop height", cropHeight);
    if (directBelow < 0) {
      throw TacoException.usage("directBelow must not be negative, but is " + directBelow);
    }
    mean = List.copyOf(mean);
    std = List.copyOf(std);
    requireThree("mean", mean);
    requireThree("std", std);
    for (float value : std) {
      if (value <= 0) {
        throw TacoException.usage("std must be greater than 0, but is " + join(std));
      }
    }
  }

  /**
   * ImageNet's preprocessing at a model's input size, the default of this project: short side to
   * 256/224 of the input's (rounded), bilinear, centre crop; an image of at most {@value
   * #THUMBNAIL} pixels on its short side that is no larger than the input is resized straight to
   * it.
   */
  public static Preprocessing imageNet(int width, int height, Layout layout) {
    int side = Math.min(width, height);
    return new Preprocessing(
        new Resize.ShortSide(Math.toIntExact(Math.round(side * 256.0 / 224.0))),
        Math.min(side, THUMBNAIL),
        Filter.BILINEAR,
        width,
        height,
        IMAGENET_MEAN,
        IMAGENET_STD,
        ChannelOrder.RGB,
        layout);
  }

  /**
   * A preset by its name, at a model's input size: {@code imagenet}; {@code imagenet-bicubic}
   * (short side to 1/0.9 of the input's, bicubic: DeiT and other timm models); {@code cifar10};
   * {@code inception} (-1..1); {@code raw255} (0..255); {@code unit} (0..1). All but the second
   * differ from {@link #imageNet} in mean and std only.
   *
   * @throws TacoException of kind USAGE for an unknown name
   */
  public static Preprocessing preset(String name, int width, int height, Layout layout) {
    Preset preset = PRESETS.get(name.strip().toLowerCase(Locale.ROOT));
    if (preset == null) {
      throw TacoException.usage(
          "unknown preprocessing preset '" + name + "'; there are " + String.join(", ", presets()));
    }
    return preset.at(width, height, layout);
  }

  /** The names of the presets, sorted. */
  public static List<String> presets() {
    return List.copyOf(PRESETS.keySet());
  }

  /** This with another mean (red, green, blue; of values in 0..1). */
  public Preprocessing withMean(List<Float> newMean) {
    return new Preprocessing(
        resize, directBelow, filter, cropWidth, cropHeight, newMean, std, order, layout);
  }

  /** This with another std (red, green, blue; of values in 0..1). */
  public Preprocessing withStd(List<Float> newStd) {
    return new Preprocessing(
        resize, directBelow, filter, cropWidth, cropHeight, mean, newStd, order, layout);
  }

  /** This with an explicit resize, which holds for small images too: directBelow becomes 0. */
  public Preprocessing withResize(Resize newResize) {
    return new Preprocessing(newResize, 0, filter, cropWidth, cropHeight, mean, std, order, layout);
  }

  /** This with another crop; the size of the model's input. */
  public Preprocessing withCrop(int width, int height) {
    return new Preprocessing(resize, directBelow, filter, width, height, mean, std, order, layout);
  }

  /** This with another resampling filter. */
  public Preprocessing withFilter(Filter newFilter) {
    return new Preprocessing(
        resize, directBelow, newFilter, cropWidth, cropHeight, mean, std, order, layout);
  }

  /** This with another tensor layout. */
  public Preprocessing withLayout(Layout newLayout) {
    return new Preprocessing(
        resize, directBelow, filter, cropWidth, cropHeight, mean, std, order, newLayout);
  }

  /** This with another channel order. */
  public Preprocessing withOrder(ChannelOrder newOrder) {
    return new Preprocessing(
        resize, directBelow, filter, cropWidth, cropHeight, mean, std, newOrder, layout);
  }

  private Preprocessing withShortSide(int pixels) {
    return new Preprocessing(
        new Resize.ShortSide(pixels),
        directBelow,
        filter,
        cropWidth,
        cropHeight,
        mean,
        std,
        order,
        layout);
  }

  /**
   * Reads the text of {@code --mean} or {@code --std}: three numbers with commas between them, or
   * one for all channels.
   *
   * @param option what is read, for the message
   * @throws TacoException of kind USAGE when it is not that
   */
  public static List<Float> parseChannels(String option, String text) {
    String[] parts = text.strip().split(",", -1);
    List<Float> values = new ArrayList<>(3);
    try {
      for (String part : parts) {
        values.add(Float.valueOf(part.strip()));
      }
    } catch (NumberFormatException e) {
      throw new TacoException(
          TacoException.Kind.USAGE,
          option + " takes numbers such as 0.485,0.456,0.406, not '" + text + "'",
          e);
    }
    List<Float> channels = values.size() == 1 ? Collections.nCopies(3, values.getFirst()) : values;
    requireThree(option, channels);
    return List.copyOf(channels);
  }

  /**
   * Reads the text of {@code --crop}: {@code 224} or {@code 224x192} (width x height).
   *
   * @return width, height
   * @throws TacoException of kind USAGE when it is not that
   */
  public static int[] parseCrop(String text) {
    int[] sides = parseSides("crop", text.strip().toLowerCase(Locale.ROOT), "224 or 224x224");
    return sides.length == 2 ? sides : new int[] {sides[0], sides[0]};
  }

  /** One line for reports. */
  public String describe() {
    String size =
        switch (resize) {
          case Resize.ShortSide side -> "short side to " + side.pixels();
          case Resize.Exact exact -> "resize to " + exact.width() + "x" + exact.height();
          case Resize.None none -> "no resize";
        };
    String by = resize instanceof Resize.None && directBelow == 0 ? "" : " (" + lower(filter) + ")";
    String crop = cropWidth + "x" + cropHeight;
    String direct =
        directBelow == 0
            ? ""
            : ", images with a short side of at most " + directBelow + " straight to " + crop;
    return size
        + by
        + ", centre crop "
        + crop
        + direct
        + ", mean "
        + join(mean)
        + ", std "
        + join(std)
        + ", "
        + order
        + ", "
        + layout;
  }

  /**
   * This as one line of JSON with stable keys: {@code version} (1), {@code resize} ({@code kind}:
   * {@code short-side} with {@code pixels}, {@code exact} with {@code width} and {@code height},
   * {@code none}), {@code directBelow}, {@code filter}, {@code crop} ({@code width}, {@code
   * height}), {@code mean}, {@code std}, {@code order}, {@code layout}.
   */
  public String toJson() {
    ObjectNode root = JSON.createObjectNode();
    root.put("version", VERSION);
    ObjectNode size = root.putObject("resize");
    switch (resize) {
      case Resize.ShortSide side -> size.put("kind", "short-side").put("pixels", side.pixels());
      case Resize.Exact exact ->
          size.put("kind", "exact").put("width", exact.width()).put("height", exact.height());
      case Resize.None none -> size.put("kind", "none");
    }
    root.put("directBelow", directBelow);
    root.put("filter", lower(filter));
    root.putObject("crop").put("width", cropWidth).put("height", cropHeight);
    ArrayNode means = root.putArray("mean");
    mean.forEach(means::add);
    ArrayNode stds = root.putArray("std");
    std.forEach(stds::add);
    root.put("order", order.name());
    root.put("layout", layout.name());
    return root.toString();
  }

  /**
   * Reads what {@link #toJson()} wrote; keys it does not know are ignored.
   *
   * @throws TacoException of kind DATA when it is not JSON, of another version, or when a key is
   *     missing or wrong
   */
  public static Preprocessing fromJson(String json) {
    JsonNode root;
    try {
      root = JSON.readTree(json);
    } catch (JsonProcessingException e) {
      throw new TacoException(
          TacoException.Kind.DATA, "preprocessing is not JSON: " + e.getOriginalMessage(), e);
    }
    int version = integer(root, "version");
    if (version != VERSION) {
      throw TacoException.data(
          "preprocessing of version "
              + version
              + "; this taco4j reads version "
              + VERSION
              + ": use a newer one, or give the preprocessing by options");
    }
    try {
      JsonNode size = child(root, "resize");
      String kind = text(size, "kind");
      Resize resize =
          switch (kind) {
            case "short-side" -> new Resize.ShortSide(integer(size, "pixels"));
            case "exact" -> new Resize.Exact(integer(size, "width"), integer(size, "height"));
            case "none" -> new Resize.None();
            default ->
                throw TacoException.data("preprocessing: unknown resize kind '" + kind + "'");
          };
      JsonNode crop = child(root, "crop");
      return new Preprocessing(
          resize,
          integer(root, "directBelow"),
          Filter.parse(text(root, "filter")),
          integer(crop, "width"),
          integer(crop, "height"),
          floats(root, "mean"),
          floats(root, "std"),
          ChannelOrder.parse(text(root, "order")),
          Layout.parse(text(root, "layout")));
    } catch (TacoException e) {
      if (e.kind() == TacoException.Kind.DATA) {
        throw e;
      }
      throw new TacoException(TacoException.Kind.DATA, "preprocessing: " + e.getMessage(), e);
    }
  }

  private static JsonNode child(JsonNode node, String key) {
    JsonNode child = node.get(key);
    if (child == null) {
      throw TacoException.data("preprocessing: the key '" + key + "' is missing in " + node);
    }
    return child;
  }

  private static int integer(JsonNode node, String key) {
    JsonNode child = child(node, key);
    if (!child.canConvertToInt() || !child.isIntegralNumber()) {
      throw TacoException.data("preprocessing: '" + key + "' is not a whole number: " + child);
    }
    return child.intValue();
  }

  private static String text(JsonNode node, String key) {
    JsonNode child = child(node, key);
    if (!child.isTextual()) {
      throw TacoException.data("preprocessing: '" + key + "' is not a text: " + child);
    }
    return child.textValue();
  }

  private static List<Float> floats(JsonNode node, String key) {
    JsonNode child = child(node, key);
    List<Float> values = new ArrayList<>();
    for (JsonNode element : child) {
      if (!element.isNumber()) {
        throw TacoException.data("preprocessing: '" + key + "' holds no number: " + child);
      }
      values.add(element.floatValue());
    }
    return values;
  }

  private static int[] parseSides(String option, String value, String expected) {
    try {
      int[] sides = Arrays.stream(value.split("x", -1)).mapToInt(Integer::parseInt).toArray();
      if (sides.length <= 2 && Arrays.stream(sides).allMatch(side -> side > 0)) {
        return sides;
      }
    } catch (NumberFormatException e) {
      throw new TacoException(
          TacoException.Kind.USAGE, option + " takes " + expected + ", not '" + value + "'", e);
    }
    throw TacoException.usage(option + " takes " + expected + ", not '" + value + "'");
  }

  private static <E extends Enum<E>> E parseEnum(Class<E> type, String what, String text) {
    for (E value : type.getEnumConstants()) {
      if (value.name().equalsIgnoreCase(text.strip())) {
        return value;
      }
    }
    throw TacoException.usage(
        "unknown "
            + what
            + " '"
            + text
            + "'; there are "
            + Arrays.stream(type.getEnumConstants())
                .map(Preprocessing::lower)
                .collect(Collectors.joining(", ")));
  }

  private static void requirePositive(String what, int value) {
    if (value < 1) {
      throw TacoException.usage(what + " must be at least 1, but is " + value);
    }
  }

  private static void requireThree(String what, List<Float> values) {
    if (values.size() != 3 || values.stream().anyMatch(value -> !Float.isFinite(value))) {
      throw TacoException.usage(
          what + " must be three finite numbers (red, green, blue), but is " + join(values));
    }
  }

  private static String join(List<Float> values) {
    return values.stream().map(String::valueOf).collect(Collectors.joining(","));
  }

  private static String lower(Enum<?> value) {
    return value.name().toLowerCase(Locale.ROOT);
  }
}
