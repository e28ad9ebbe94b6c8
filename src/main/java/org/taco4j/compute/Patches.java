package org.taco4j.compute;

/**
 * Which values of a tensor make a sample of a layer problem: the patches of a convolution over
 * images, [images, groups · channels, height, width]. Column c·kernelHeight·kernelWidth +
 * ky·kernelWidth + kx is channel c of the group at kernel position (ky, kx). The inputs of matrix
 * products are patches of one pixel: of images of one pixel where samples are rows, of one row
 * where they are columns.
 *
 * @param channels of one group
 * @param groups each with a problem of its own
 * @param byShifts whether it is a 3x3 kernel with strides, dilations and padding of 1, whose Gram
 *     matrix can be had from products of shifted images
 */
public record Patches(
    int channels,
    int groups,
    int kernelHeight,
    int kernelWidth,
    int strideHeight,
    int strideWidth,
    int dilationHeight,
    int dilationWidth,
    boolean byShifts) {
  /** Patches of one pixel. */
  public static Patches pixels(int channels) {
    return new Patches(channels, 1, 1, 1, 1, 1, 1, 1, false);
  }

  /** The length of a sample. */
  public int cols() {
    return Math.multiplyExact(channels, taps());
  }

  /** Positions in the kernel. */
  public int taps() {
    return kernelHeight * kernelWidth;
  }

  /**
   * The images of one batch, and where patches lie in them.
   *
   * @param count how many images
   * @param height of an image; of its rows
   * @param width of an image
   * @param top rows of zeros above an image
   * @param left columns of zeros before it
   * @param outputHeight how many rows of patches there are
   * @param outputWidth how many patches a row has
   */
  public record Images(
      int count, int height, int width, int top, int left, int outputHeight, int outputWidth) {
    /** Images without padding, for patches of one pixel. */
    public static Images plain(int count, int height, int width) {
      return new Images(count, height, width, 0, 0, height, width);
    }

    /** Samples in one image. */
    public int positions() {
      return Math.multiplyExact(outputHeight, outputWidth);
    }

    /** Whether an image of these and one of the others lie in memory alike. */
    public boolean sameSize(Images other) {
      return withCount(other.count).equals(other);
    }

    private Images withCount(int images) {
      return new Images(images, height, width, top, left, outputHeight, outputWidth);
    }
  }
}
