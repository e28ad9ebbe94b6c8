package org.taco4j.execute;

import org.jspecify.annotations.Nullable;

/**
 * Where the windows of a convolution or pool lie: kernel, strides, dilations, padding.
 *
 * @param kernel sizes along the spatial axes; null where the weight says
 */
@SuppressWarnings("ArrayRecordComponent") // never compared
record Windows(
    long @Nullable [] kernel,
    long @Nullable [] strides,
    long @Nullable [] dilations,
    long @Nullable [] pads,
    String autoPad,
    boolean ceil) {

  /** Reads the attributes that convolutions and pools share. */
  static Windows of(NodeSpec node, boolean ceil) {
    String autoPad =
        node.oneOf("auto_pad", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER");
    long[] pads = node.integers("pads");
    return new Windows(
        node.integers("kernel_shape"),
        node.integers("strides"),
        node.integers("dilations"),
        autoPad.equals("NOTSET") ? pads : null,
        autoPad,
        ceil);
  }

  /**
   * Along one spatial axis.
   *
   * @param before zeros, or whatever pads, before the first element
   * @param after pads after the last, as the node asks
   * @param size how many windows there are
   */
  record Axis(long kernel, long stride, long dilation, long before, long after, long size) {
    /** Elements from the first to the last of a window. */
    long span() {
      return dilation * (kernel - 1) + 1;
    }

    /** Pads after the last element so that all windows, and nothing more, are covered. */
    long reach(long length) {
      return (size - 1) * stride + span() - length - before;
    }
  }

  /** Along each axis of sizes {@code lengths}, for windows of {@code kernel}. */
  Axis[] axes(long[] kernel, long[] lengths) {
    Axis[] axes = new Axis[lengths.length];
    for (int i = 0; i < axes.length; i++) {
      long stride = strides == null ? 1 : strides[i];
      long dilation = dilations == null ? 1 : dilations[i];
      long span = dilation * (kernel[i] - 1) + 1;
      long before = pads == null ? 0 : pads[i];
      long after = pads == null ? 0 : pads[i + axes.length];
      if (autoPad.startsWith("SAME")) {
        long size = Math.ceilDiv(lengths[i], stride);
        long total = Math.max(0, (size - 1) * stride + span - lengths[i]);
        before = autoPad.equals("SAME_LOWER") ? Math.ceilDiv(total, 2) : total / 2;
        after = total - before;
      }
      long room = lengths[i] + before + after - span;
      long size = (ceil ? Math.ceilDiv(room, stride) : Math.floorDiv(room, stride)) + 1;
      if (ceil && (size - 1) * stride >= lengths[i] + before) {
        // A window that would begin in the padding behind does not count.
        size--;
      }
      if (size < 1) {
        throw new IllegalArgumentException(
            "windows of %d do not fit %d elements".formatted(span, lengths[i] + before + after));
      }
      axes[i] = new Axis(kernel[i], stride, dilation, before, after, size);
    }
    return axes;
  }
}
