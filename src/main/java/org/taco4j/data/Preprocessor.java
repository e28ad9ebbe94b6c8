package org.taco4j.data;

import static org.taco4j.data.Preprocessing.Filter.NEAREST;

import java.util.random.RandomGenerator;
import org.taco4j.common.TacoException;
import org.taco4j.data.Preprocessing.ChannelOrder;
import org.taco4j.data.Preprocessing.Layout;
import org.taco4j.data.Preprocessing.Resize;

/**
 * Performs a {@link Preprocessing}: an image in, one normalised float tensor out. Immutable; may be
 * used from any number of threads.
 *
 * <p>Sizes and offsets are torchvision's: the long side is cut to a whole number, the offset of the
 * crop is {@code (side - crop) / 2} with halves rounded to even, and a side shorter than the crop
 * (possible with {@link Resize.None} and very unequal crops) is padded with black on both sides.
 */
public final class Preprocessor {
  private final Preprocessing preprocessing;

  /** [channel of the tensor, sample 0..255] to the normalised value. */
  private final float[][] normalised = new float[3][256];

  /** Of each channel of the tensor: its position in an RGB pixel. */
  private final int[] source;

  /**
   * A preprocessor.
   *
   * @throws TacoException of kind USAGE when the crop does not fit into the resized image
   */
  public Preprocessor(Preprocessing preprocessing) {
    this.preprocessing = preprocessing;
    int cropWidth = preprocessing.cropWidth();
    int cropHeight = preprocessing.cropHeight();
    boolean fits =
        switch (preprocessing.resize()) {
          case Resize.ShortSide side -> Math.min(cropWidth, cropHeight) <= side.pixels();
          case Resize.Exact exact -> cropWidth <= exact.width() && cropHeight <= exact.height();
          case Resize.None none -> true;
        };
    if (!fits) {
      throw TacoException.usage(
          "the crop is larger than the resized image: "
              + preprocessing.describe()
              + "; give a larger resize or a smaller crop");
    }
    source = preprocessing.order() == ChannelOrder.RGB ? new int[] {0, 1, 2} : new int[] {2, 1, 0};
    for (int channel = 0; channel < 3; channel++) {
      float mean = preprocessing.mean().get(source[channel]);
      float std = preprocessing.std().get(source[channel]);
      for (int sample = 0; sample < 256; sample++) {
        normalised[channel][sample] = (sample / 255f - mean) / std;
      }
    }
  }

  /** What this performs. */
  public Preprocessing preprocessing() {
    return preprocessing;
  }

  /** Number of values of one image's tensor. */
  public int length() {
    return Math.multiplyExact(
        3, Math.multiplyExact(preprocessing.cropWidth(), preprocessing.cropHeight()));
  }

  /** Shape of the tensor of {@code batch} images: [batch, 3, rows, columns] or NHWC. */
  public long[] shape(int batch) {
    int width = preprocessing.cropWidth();
    int height = preprocessing.cropHeight();
    return switch (preprocessing.layout()) {
      case NCHW -> new long[] {batch, 3, height, width};
      case NHWC -> new long[] {batch, height, width, 3};
    };
  }

  /**
   * Writes the tensor of {@code image}.
   *
   * @param out the tensor of a batch; {@link #length()} values are written from {@code offset} on,
   *     [3, rows, columns] or [rows, columns, 3]
   */
  public void apply(RgbImage image, float[] out, int offset) {
    normalise(resizeAndCrop(image), out, offset);
  }

  /**
   * Writes the tensor of {@code image} after a random crop, which takes the place of resize and
   * centre crop, and perhaps a flip.
   *
   * @param random decides
   * @param out as for {@link #apply(RgbImage, float[], int)}
   */
  public void apply(
      RgbImage image, Augmentation augmentation, RandomGenerator random, float[] out, int offset) {
    int width = preprocessing.cropWidth();
    int height = preprocessing.cropHeight();
    Augmentation.Draw draw = augmentation.draw(image.width(), image.height(), random);
    // Cropped first: the filter must not see pixels outside of the crop.
    RgbImage cropped = Resampler.resize(image, image.width(), image.height(), NEAREST, draw.crop());
    RgbImage resized =
        Resampler.resize(
            cropped,
            width,
            height,
            preprocessing.filter(),
            new Resampler.Window(0, 0, width, height));
    normalise(draw.flip() ? flipped(resized) : resized, out, offset);
  }

  private static RgbImage flipped(RgbImage image) {
    byte[] out = new byte[image.rgb().length];
    int width = image.width();
    for (int y = 0; y < image.height(); y++) {
      for (int x = 0; x < width; x++) {
        int from = 3 * (y * width + x);
        System.arraycopy(image.rgb(), from, out, 3 * (y * width + width - 1 - x), 3);
      }
    }
    return new RgbImage(width, image.height(), out);
  }

  /** Writes an image of the size of the crop. */
  private void normalise(RgbImage image, float[] out, int offset) {
    int width = preprocessing.cropWidth();
    int height = preprocessing.cropHeight();
    byte[] rgb = image.rgb();
    int pixels = width * height;
    boolean planar = preprocessing.layout() == Layout.NCHW;
    for (int channel = 0; channel < 3; channel++) {
      float[] table = normalised[channel];
      int at = planar ? offset + channel * pixels : offset + channel;
      int step = planar ? 1 : 3;
      for (int i = 0, sample = source[channel]; i < pixels; i++, sample += 3, at += step) {
        out[at] = table[rgb[sample] & 0xff];
      }
    }
  }

  /** The first two steps: an image of exactly the size of the crop, still 8-bit RGB. */
  public RgbImage resizeAndCrop(RgbImage image) {
    int cropWidth = preprocessing.cropWidth();
    int cropHeight = preprocessing.cropHeight();
    int shortSide = Math.min(image.width(), image.height());
    int width;
    int height;
    if (shortSide <= preprocessing.directBelow()) {
      width = cropWidth;
      height = cropHeight;
    } else {
      switch (preprocessing.resize()) {
        case Resize.ShortSide side -> {
          width = scaled(image.width(), side.pixels(), shortSide);
          height = scaled(image.height(), side.pixels(), shortSide);
        }
        case Resize.Exact exact -> {
          width = exact.width();
          height = exact.height();
        }
        case Resize.None none -> {
          width = image.width();
          height = image.height();
        }
      }
    }
    Resampler.Window window =
        new Resampler.Window(
            cropOffset(width, cropWidth),
            cropOffset(height, cropHeight),
            Math.min(width, cropWidth),
            Math.min(height, cropHeight));
    RgbImage cropped = Resampler.resize(image, width, height, preprocessing.filter(), window);
    return pad(cropped, cropWidth, cropHeight);
  }

  private static int scaled(int side, int pixels, int shortSide) {
    return Math.toIntExact((long) pixels * side / shortSide);
  }

  private static int cropOffset(int side, int crop) {
    return side <= crop ? 0 : (int) Math.rint((side - crop) / 2.0);
  }

  private static RgbImage pad(RgbImage image, int width, int height) {
    if (image.width() == width && image.height() == height) {
      return image;
    }
    byte[] out = new byte[3 * width * height];
    int left = (width - image.width()) / 2;
    int top = (height - image.height()) / 2;
    int rowLength = 3 * image.width();
    for (int y = 0; y < image.height(); y++) {
      int to = 3 * ((top + y) * width + left);
      System.arraycopy(image.rgb(), y * rowLength, out, to, rowLength);
    }
    return new RgbImage(width, height, out);
  }
}
