package org.taco4j.execute;

import java.util.Arrays;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.jspecify.annotations.Nullable;

/**
 * Resize and Upsample. libtorch's own interpolation knows few of ONNX's coordinate modes; here each
 * axis is gathered (nearest) or multiplied by a matrix of interpolation weights (linear, cubic), as
 * the operator's definition says. Coordinates are float, as ONNX Runtime has them: with ties, the
 * last bit decides.
 */
final class ResizeOperators {
  private ResizeOperators() {}

  static void addTo(OperatorTable table) {
    table.add("Upsample", ResizeOperators::upsample);
    table.add("Resize", ResizeOperators::resize);
  }

  /** How positions of the output are found in the input. */
  private record Sampling(
      String mode, String coordinates, String rounding, float cubicA, boolean excludeOutside) {

    /** The position in the input of element i of {@code out}. */
    float source(int i, int in, int out, float scale) {
      return switch (coordinates) {
        case "asymmetric" -> i / scale;
        case "align_corners" -> out == 1 ? 0 : i * (float) (in - 1) / (out - 1);
        case "pytorch_half_pixel" -> out > 1 ? (i + 0.5f) / scale - 0.5f : 0;
        case "tf_half_pixel_for_nn" -> (i + 0.5f) / scale;
        case "half_pixel_symmetric" ->
            in / 2f * (1 - out / (scale * in)) + (i + 0.5f) / scale - 0.5f;
        default -> (i + 0.5f) / scale - 0.5f;
      };
    }

    int nearest(float x, int in) {
      double rounded =
          switch (rounding) {
            case "floor" -> Math.floor(x);
            case "ceil" -> Math.ceil(x);
            case "round_prefer_ceil" -> Math.floor(x + 0.5f);
            default -> Math.ceil(x - 0.5f);
          };
      return Math.clamp((int) rounded, 0, in - 1);
    }

    /** Adds the weights of the input's elements for position x to a row of {@code in} weights. */
    void weigh(float x, double[] weights, int row, int in) {
      int left = (int) Math.floor(x);
      double t = x - left;
      if (mode.equals("linear")) {
        weights[row + Math.clamp(left, 0, in - 1)] += 1 - t;
        weights[row + Math.clamp(left + 1, 0, in - 1)] += t;
        return;
      }
      double[] taps = {cubic(1 + t), cubic(t), cubic(1 - t), cubic(2 - t)};
      double sum = 1;
      if (excludeOutside) {
        for (int k = 0; k < taps.length; k++) {
          if (left - 1 + k < 0 || left - 1 + k >= in) {
            taps[k] = 0;
          }
        }
        sum = Arrays.stream(taps).sum();
      }
      for (int k = 0; k < taps.length; k++) {
        weights[row + Math.clamp(left - 1 + k, 0, in - 1)] += taps[k] / sum;
      }
    }

    /** Keys' cubic convolution at a distance of at most 2. */
    private double cubic(double d) {
      double a = cubicA;
      return d <= 1
          ? ((a + 2) * d - (a + 3)) * d * d + 1
          : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
    }
  }

  private static Kernel.Single upsample(NodeSpec node) {
    node.require(node.opset() < 10, "opset " + node.opset());
    Sampling sampling =
        new Sampling(
            node.oneOf("mode", "nearest", "nearest", "linear"), "asymmetric", "floor", 0, false);
    return in -> resize(in.get(0), Tensors.floats(in.get(1)), null, null, sampling);
  }

  private static Kernel.Single resize(NodeSpec node) {
    if (node.opset() < 11) {
      String mode = node.oneOf("mode", "nearest", "nearest", "linear");
      Sampling sampling = new Sampling(mode, "asymmetric", "floor", 0, false);
      return in -> resize(in.get(0), Tensors.floats(in.get(1)), null, null, sampling);
    }
    Sampling sampling =
        new Sampling(
            node.oneOf("mode", "nearest", "nearest", "linear", "cubic"),
            node.oneOf(
                "coordinate_transformation_mode",
                "half_pixel",
                "half_pixel",
                "pytorch_half_pixel",
                "half_pixel_symmetric",
                "align_corners",
                "asymmetric",
                "tf_half_pixel_for_nn"),
            node.oneOf(
                "nearest_mode",
                "round_prefer_floor",
                "round_prefer_floor",
                "round_prefer_ceil",
                "floor",
                "ceil"),
            (float) node.real("cubic_coeff_a", -0.75),
            node.flag("exclude_outside", false));
    node.real("extrapolation_value", 0);
    node.require(!node.flag("antialias", false), "antialias = 1");
    node.oneOf("keep_aspect_ratio_policy", "stretch", "stretch");
    long[] axes = node.integers("axes");
    return in -> {
      boolean scaled = in.has(2) && in.get(2).numel() > 0;
      return resize(
          in.get(0),
          scaled ? Tensors.floats(in.get(2)) : null,
          scaled ? null : in.longs(3),
          axes,
          sampling);
    };
  }

  private static Tensor resize(
      Tensor x,
      float @Nullable [] scales,
      long @Nullable [] sizes,
      long @Nullable [] given,
      Sampling sampling) {
    long[] axes = given != null ? given : Axes.all(x.dim());
    for (int k = 0; k < axes.length; k++) {
      int axis = Axes.of(axes[k], x.dim());
      int in = (int) x.size(axis);
      float scale = scales != null ? scales[k] : sizes == null ? 1 : sizes[k] / (float) in;
      int out = sizes != null ? (int) sizes[k] : (int) Math.floor(in * scale);
      if (out != in || scale != 1) {
        x = along(x, axis, in, out, scale, sampling);
      }
    }
    return x;
  }

  private static Tensor along(Tensor x, int axis, int in, int out, float scale, Sampling sampling) {
    if (sampling.mode.equals("nearest")) {
      long[] from = new long[out];
      for (int i = 0; i < out; i++) {
        from[i] = sampling.nearest(sampling.source(i, in, out, scale), in);
      }
      return torch.index_select(x, axis, Tensors.of(from, out));
    }
    double[] weights = new double[Math.multiplyExact(out, in)];
    for (int i = 0; i < out; i++) {
      sampling.weigh(sampling.source(i, in, out, scale), weights, i * in, in);
    }
    Tensor matrix = Tensors.of(weights, out, in).to(Tensors.type(x));
    return torch.matmul(x.transpose(axis, -1), matrix.transpose(0, 1)).transpose(axis, -1);
  }
}
