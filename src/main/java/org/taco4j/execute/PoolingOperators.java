package org.taco4j.execute;

import java.util.Arrays;
import org.bytedeco.pytorch.LongOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.ScalarTypeOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.taco4j.execute.Windows.Axis;

/** Pools over windows and over all positions. */
final class PoolingOperators {
  private PoolingOperators() {}

  static void addTo(OperatorTable table) {
    table.add("MaxPool", PoolingOperators::max);
    table.add("AveragePool", PoolingOperators::average);
    table.add(
        "GlobalAveragePool",
        node ->
            in ->
                torch.mean(
                    in.get(0), Axes.from(2, in.get(0).dim()), true, new ScalarTypeOptional()));
    table.add(
        "GlobalMaxPool", node -> in -> torch.amax(in.get(0), Axes.from(2, in.get(0).dim()), true));
  }

  private static long[] spatial(Tensor x) {
    long[] shape = Tensors.shape(x);
    return Arrays.copyOfRange(shape, 2, shape.length);
  }

  private static Kernel.Single max(NodeSpec node) {
    Windows windows = Windows.of(node, node.flag("ceil_mode", false));
    node.flag("storage_order", false);
    long[] kernel = windows.kernel();
    if (kernel == null || kernel.length > 3) {
      throw new NodeSpec.Unsupported("kernel_shape of this rank");
    }
    return in -> {
      Tensor x = in.get(0);
      long[] lengths = spatial(x);
      Axis[] axes = windows.axes(kernel, lengths);
      long[] padding = Arrays.stream(axes).mapToLong(Axis::before).toArray();
      if (!coveredBySymmetric(axes, lengths)) {
        x = pad(x, axes, lengths, Double.NEGATIVE_INFINITY);
        padding = new long[axes.length];
      }
      long[] strides = Arrays.stream(axes).mapToLong(Axis::stride).toArray();
      long[] dilations = Arrays.stream(axes).mapToLong(Axis::dilation).toArray();
      return switch (kernel.length) {
        case 1 -> torch.max_pool1d(x, kernel, strides, padding, dilations, false);
        case 2 -> torch.max_pool2d(x, kernel, strides, padding, dilations, false);
        default -> torch.max_pool3d(x, kernel, strides, padding, dilations, false);
      };
    };
  }

  private static Kernel.Single average(NodeSpec node) {
    Windows windows = Windows.of(node, node.flag("ceil_mode", false));
    boolean includePad = node.flag("count_include_pad", false);
    long[] kernel = windows.kernel();
    if (kernel == null || kernel.length > 3) {
      throw new NodeSpec.Unsupported("kernel_shape of this rank");
    }
    long[] dilations = windows.dilations();
    node.require(
        dilations == null || Arrays.stream(dilations).allMatch(d -> d == 1),
        "dilations " + Arrays.toString(dilations));
    return in -> {
      Tensor x = in.get(0);
      long[] lengths = spatial(x);
      Axis[] axes = windows.axes(kernel, lengths);
      long[] strides = Arrays.stream(axes).mapToLong(Axis::stride).toArray();
      if (coveredBySymmetric(axes, lengths)) {
        long[] padding = Arrays.stream(axes).mapToLong(Axis::before).toArray();
        return average(x, kernel, strides, padding, includePad);
      }
      // Sums over windows of the padded tensor, over how many elements count.
      Tensor means =
          average(pad(x, axes, lengths, 0), kernel, strides, new long[kernel.length], true);
      for (int i = 0; i < axes.length; i++) {
        means = torch.mul(means, weights(axes, i, lengths[i], includePad).to(Tensors.type(x)));
      }
      return means;
    };
  }

  private static Tensor average(
      Tensor x, long[] kernel, long[] strides, long[] padding, boolean includePad) {
    return switch (kernel.length) {
      case 1 -> torch.avg_pool1d(x, kernel, strides, padding, false, includePad);
      case 2 ->
          torch.avg_pool2d(x, kernel, strides, padding, false, includePad, new LongOptional());
      default ->
          torch.avg_pool3d(x, kernel, strides, padding, false, includePad, new LongOptional());
    };
  }

  /** Kernel size over the number of elements that count, for the windows along axis i. */
  private static Tensor weights(Axis[] axes, int i, long length, boolean includePad) {
    Axis axis = axes[i];
    double[] weights = new double[(int) axis.size()];
    for (int w = 0; w < weights.length; w++) {
      long begin = w * axis.stride() - axis.before();
      long end = begin + axis.kernel();
      long first = includePad ? -axis.before() : 0;
      long last = includePad ? length + axis.after() : length;
      weights[w] = (double) axis.kernel() / (Math.min(end, last) - Math.max(begin, first));
    }
    long[] shape = new long[axes.length];
    Arrays.fill(shape, 1);
    shape[i] = weights.length;
    return Tensors.of(weights, shape);
  }

  /**
   * Whether libtorch's own padding, the same before and after and at most half a window, gives
   * these windows.
   */
  private static boolean coveredBySymmetric(Axis[] axes, long[] lengths) {
    for (int i = 0; i < axes.length; i++) {
      Axis axis = axes[i];
      if (axis.before() != axis.after()
          || axis.before() > axis.kernel() / 2
          || Math.floorDiv(lengths[i] + 2 * axis.before() - axis.span(), axis.stride()) + 1
              != axis.size()) {
        return false;
      }
    }
    return true;
  }

  private static Tensor pad(Tensor x, Axis[] axes, long[] lengths, double value) {
    Axis[] reaching = new Axis[axes.length];
    for (int i = 0; i < axes.length; i++) {
      Axis a = axes[i];
      reaching[i] =
          new Axis(a.kernel(), a.stride(), a.dilation(), a.before(), a.reach(lengths[i]), a.size());
    }
    return torch.constant_pad_nd(
        x, Pads.lastFirst(reaching, Axis::before, Axis::after), new Scalar(value));
  }
}
