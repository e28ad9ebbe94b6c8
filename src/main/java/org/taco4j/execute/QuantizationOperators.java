package org.taco4j.execute;

import java.util.Arrays;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.ScalarOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;

/**
 * QuantizeLinear and DequantizeLinear, per tensor or along one axis. Integers carry no gradient: to
 * train through them, override the dequantised value with an expression that has one.
 */
final class QuantizationOperators {
  private QuantizationOperators() {}

  static void addTo(OperatorTable table) {
    table.add("DequantizeLinear", QuantizationOperators::dequantize);
    table.add("QuantizeLinear", QuantizationOperators::quantize);
  }

  private static Kernel.Single dequantize(NodeSpec node) {
    long axis = node.integer("axis", 1);
    return in -> {
      Tensor codes = in.get(0);
      Tensor scale = along(in.get(1), codes, axis);
      Tensor zeroPoint = in.optional(2);
      if (zeroPoint != null) {
        // The difference of two 8-bit numbers needs more bits.
        codes =
            torch.sub(codes.to(ScalarType.Int), along(zeroPoint, codes, axis).to(ScalarType.Int));
      }
      return torch.mul(codes.to(Tensors.type(scale)), scale);
    };
  }

  private static Kernel.Single quantize(NodeSpec node) {
    long axis = node.integer("axis", 1);
    node.flag("saturate", true);
    return in -> {
      Tensor x = in.get(0);
      Tensor zeroPoint = in.optional(2);
      ScalarType type = zeroPoint == null ? ScalarType.Byte : Tensors.type(zeroPoint);
      Tensor codes = torch.round(torch.div(x, along(in.get(1), x, axis)));
      if (zeroPoint != null) {
        codes = torch.add(codes, along(zeroPoint, x, axis).to(Tensors.type(x)));
      }
      boolean signed = type == ScalarType.Char;
      if (!signed && type != ScalarType.Byte) {
        throw new IllegalArgumentException("codes of type " + type);
      }
      return torch
          .clamp(
              codes,
              new ScalarOptional(new Scalar(signed ? -128.0 : 0.0)),
              new ScalarOptional(new Scalar(signed ? 127.0 : 255.0)))
          .to(type);
    };
  }

  /** One number for the whole tensor, or a vector along an axis, so that it broadcasts. */
  private static Tensor along(Tensor values, Tensor x, long axis) {
    if (values.numel() == 1) {
      return torch.reshape(values);
    }
    int at = Axes.of(axis, x.dim());
    if (values.dim() != 1 || values.size(0) != x.size(at)) {
      throw new IllegalArgumentException("scales in blocks");
    }
    long[] shape = new long[(int) x.dim()];
    Arrays.fill(shape, 1);
    shape[at] = values.size(0);
    return torch.reshape(values, shape);
  }
}
