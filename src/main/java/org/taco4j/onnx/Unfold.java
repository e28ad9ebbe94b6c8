package org.taco4j.onnx;

/**
 * How the samples of a layer problem come out of the activation tensor that the layer reads: the
 * matrix X, [cols, samples], that the layer's weights W, [rows, cols], are multiplied with. Layers
 * that read the same tensor with an equal unfold share their Gram matrices.
 */
public sealed interface Unfold {
  /** Columns of one layer problem: the length of one sample. */
  int cols();

  /** How many problems (convolution groups) the activation divides into; 1 but for convolutions. */
  int groups();

  /** How ONNX pads a convolution. */
  enum AutoPad {
    /** By the numbers in the {@code pads} attribute, or not at all. */
    EXPLICIT,
    /** To ceil(size / stride), the odd element at the end. */
    SAME_UPPER,
    /** To ceil(size / stride), the odd element at the beginning. */
    SAME_LOWER
  }

  /**
   * The patches of a convolution over [N, channels · groups, H, W] (or [N, channels · groups, W]
   * where {@code oneDimensional}: then all heights are 1). A sample is one output position; column
   * c·kernelHeight·kernelWidth + ky·kernelWidth + kx is input channel c of the group at kernel
   * position (ky, kx); padding reads as zero.
   *
   * @param channels input channels of one group
   * @param groups convolution groups; group g reads channels g·channels to (g+1)·channels
   */
  record Convolution(
      int channels,
      int groups,
      int kernelHeight,
      int kernelWidth,
      int strideHeight,
      int strideWidth,
      int padTop,
      int padLeft,
      int padBottom,
      int padRight,
      int dilationHeight,
      int dilationWidth,
      AutoPad autoPad,
      boolean oneDimensional)
      implements Unfold {
    @Override
    public int cols() {
      return channels * kernelHeight * kernelWidth;
    }

    /** The padding that applies to an image of the given size: {top, left, bottom, right}. */
    public int[] pads(int height, int width) {
      if (autoPad == AutoPad.EXPLICIT) {
        return new int[] {padTop, padLeft, padBottom, padRight};
      }
      int vertical = samePadding(height, kernelHeight, strideHeight, dilationHeight);
      int horizontal = samePadding(width, kernelWidth, strideWidth, dilationWidth);
      int top = autoPad == AutoPad.SAME_UPPER ? vertical / 2 : vertical - vertical / 2;
      int left = autoPad == AutoPad.SAME_UPPER ? horizontal / 2 : horizontal - horizontal / 2;
      return new int[] {top, left, vertical - top, horizontal - left};
    }

    private static int samePadding(int size, int kernel, int stride, int dilation) {
      int outputs = (size + stride - 1) / stride;
      return Math.max(0, (outputs - 1) * stride + (kernel - 1) * dilation + 1 - size);
    }

    /** Output height for an image of the given height. */
    public int outputHeight(int height, int width) {
      int[] p = pads(height, width);
      return (height + p[0] + p[2] - (kernelHeight - 1) * dilationHeight - 1) / strideHeight + 1;
    }

    /** Output width for an image of the given width. */
    public int outputWidth(int height, int width) {
      int[] p = pads(height, width);
      return (width + p[1] + p[3] - (kernelWidth - 1) * dilationWidth - 1) / strideWidth + 1;
    }
  }

  /**
   * The rows of the last axis: the activation is [..., samples, features], each vector along the
   * last axis is a sample.
   */
  record LastAxis(int features) implements Unfold {
    @Override
    public int cols() {
      return features;
    }

    @Override
    public int groups() {
      return 1;
    }
  }

  /**
   * The columns of the last two axes: the activation is [..., features, samples], each vector along
   * the second to last axis is a sample.
   */
  record SecondToLastAxis(int features) implements Unfold {
    @Override
    public int cols() {
      return features;
    }

    @Override
    public int groups() {
      return 1;
    }
  }
}
