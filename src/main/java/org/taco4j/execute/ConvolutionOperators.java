package org.taco4j.execute;

import java.util.Arrays;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.MemoryFormat;
import org.taco4j.execute.Windows.Axis;

/** Conv, along any number of spatial axes that libtorch knows (1 to 3). */
final class ConvolutionOperators {
  private ConvolutionOperators() {}

  static void addTo(OperatorTable table) {
    table.add("Conv", ConvolutionOperators::conv);
  }

  /** Input [N, C, spatial…], weight [O, C / groups, kernel…], bias [O]. */
  private static Kernel.Single conv(NodeSpec node) {
    long groups = node.integer("group", 1);
    Windows windows = Windows.of(node, false);
    return in -> {
      Tensor x = in.get(0);
      Tensor weight = in.get(1);
      long[] shape = Tensors.shape(x);
      long[] kernel = Arrays.copyOfRange(Tensors.shape(weight), 2, (int) weight.dim());
      Axis[] axes = windows.axes(kernel, Arrays.copyOfRange(shape, 2, shape.length));
      long[] padding = Arrays.stream(axes).mapToLong(Axis::before).toArray();
      if (Arrays.stream(axes).anyMatch(axis -> axis.before() != axis.after())) {
        x = torch.constant_pad_nd(x, Pads.lastFirst(axes, Axis::before, Axis::after));
        padding = new long[axes.length];
      }
      if (axes.length == 2) {
        // Channels last in memory, which convolutions and what follows them then keep: a third less
        // time for MobileNetV2, a tenth for ResNet-56 and ConvMixer (oneDNN, AVX-512).
        x = x.contiguous(MemoryFormat.ChannelsLast);
      }
      return torch.convolution(
          x,
          weight,
          in.asOptional(2),
          Arrays.stream(axes).mapToLong(Axis::stride).toArray(),
          padding,
          Arrays.stream(axes).mapToLong(Axis::dilation).toArray(),
          false,
          new long[axes.length],
          groups);
    };
  }
}
