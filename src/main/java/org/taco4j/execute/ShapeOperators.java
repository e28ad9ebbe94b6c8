package org.taco4j.execute;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.Arrays;
import java.util.Set;
import java.util.stream.LongStream;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.jspecify.annotations.Nullable;

/** Operators that make, move, cut or repeat tensors whole, and arithmetic on shapes. */
final class ShapeOperators {
  private ShapeOperators() {}

  static void addTo(OperatorTable table) {
    table.add("Constant", ShapeOperators::constant);
    table.add("ConstantOfShape", ShapeOperators::constantOfShape);
    table.add("Identity", node -> in -> in.get(0));
    table.add("Range", node -> in -> range(in.get(0), in.get(1), in.get(2)));
    table.add("Shape", ShapeOperators::shape);
    table.add("Size", node -> in -> scalar(in.get(0).numel()));
    table.add("Reshape", ShapeOperators::reshape);
    table.add("Flatten", ShapeOperators::flatten);
    table.add("Squeeze", ShapeOperators::squeeze);
    table.add("Unsqueeze", ShapeOperators::unsqueeze);
    table.add("Transpose", ShapeOperators::transpose);
    table.add("Concat", ShapeOperators::concat);
    table.addMultiple("Split", ShapeOperators::split);
    table.add("Expand", node -> in -> expand(in.get(0), in.longs(1)));
    table.add("Tile", node -> in -> torch.tile(in.get(0), in.longs(1)));
    table.add("Pad", ShapeOperators::pad);
    table.add("DepthToSpace", ShapeOperators::depthToSpace);
    table.add("SpaceToDepth", ShapeOperators::spaceToDepth);
  }

  private static Tensor scalar(long value) {
    return Tensors.of(new long[] {value});
  }

  /** Only checked here: the graph takes the tensor as one of its constants. */
  private static Kernel.Single constant(NodeSpec node) {
    for (String name : new String[] {"value_float", "value_floats", "value_int", "value_ints"}) {
      if (node.has(name)) {
        return in -> {
          throw new IllegalStateException("constants are not run");
        };
      }
    }
    AttributeProto value = node.tensor("value");
    node.require(value != null, "neither a tensor nor numbers");
    if (value != null) {
      Tensors.type(value.getT().getDataType());
    }
    return in -> {
      throw new IllegalStateException("constants are not run");
    };
  }

  private static Kernel.Single constantOfShape(NodeSpec node) {
    AttributeProto value = node.tensor("value");
    TensorProto element =
        value != null
            ? value.getT()
            : TensorProto.newBuilder()
                .setDataType(TensorProto.DataType.FLOAT_VALUE)
                .addFloatData(0)
                .build();
    Tensors.type(element.getDataType());
    return in -> torch.reshape(Tensors.of(element)).expand(in.longs(0)).contiguous();
  }

  private static Tensor range(Tensor start, Tensor limit, Tensor delta) {
    TensorOptions type = new TensorOptions(Tensors.type(start));
    return start.is_floating_point()
        ? torch.arange(
            new Scalar(start.item_double()),
            new Scalar(limit.item_double()),
            new Scalar(delta.item_double()),
            type)
        : torch.arange(
            new Scalar(Tensors.longs(start)[0]),
            new Scalar(Tensors.longs(limit)[0]),
            new Scalar(Tensors.longs(delta)[0]),
            type);
  }

  private static Kernel.Single shape(NodeSpec node) {
    long start = node.opset() < 15 ? 0 : node.integer("start", 0);
    long end = node.opset() < 15 ? Long.MAX_VALUE : node.integer("end", Long.MAX_VALUE);
    return in -> {
      long[] shape = Tensors.shape(in.get(0));
      long from = Math.clamp(start < 0 ? start + shape.length : start, 0L, shape.length);
      long to = Math.clamp(end < 0 ? end + shape.length : end, from, Math.max(from, shape.length));
      return Tensors.of(Arrays.copyOfRange(shape, (int) from, (int) to), to - from);
    };
  }

  /** A size of 0 is taken from the input, unless {@code allowzero}; one of -1 follows. */
  private static Kernel.Single reshape(NodeSpec node) {
    boolean allowZero = node.opset() >= 14 && node.flag("allowzero", false);
    return in -> {
      Tensor x = in.get(0);
      long[] sizes = in.longs(1);
      for (int i = 0; i < sizes.length && !allowZero; i++) {
        sizes[i] = sizes[i] == 0 ? x.size(i) : sizes[i];
      }
      return torch.reshape(x, sizes);
    };
  }

  private static Kernel.Single flatten(NodeSpec node) {
    long given = node.integer("axis", 1);
    return in -> {
      Tensor x = in.get(0);
      long[] shape = Tensors.shape(x);
      int axis = Axes.of(given, shape.length, shape.length);
      long rows = Axes.product(Arrays.copyOf(shape, axis));
      long columns = Axes.product(Arrays.copyOfRange(shape, axis, shape.length));
      return torch.reshape(x, rows, columns);
    };
  }

  private static long @Nullable [] axes(NodeSpec node) {
    return node.opset() < 13 ? node.integers("axes") : null;
  }

  private static Kernel.Single squeeze(NodeSpec node) {
    long[] attribute = axes(node);
    return in -> {
      Tensor x = in.get(0);
      if (attribute == null && !in.has(1)) {
        return torch.squeeze(x);
      }
      long[] axes = Axes.of(attribute != null ? attribute : in.longs(1), x.dim());
      long[] shape = Tensors.shape(x);
      for (long axis : axes) {
        if (shape[(int) axis] != 1) {
          throw new IllegalArgumentException("axis " + axis + " is not of size 1");
        }
      }
      return torch.squeeze(x, axes);
    };
  }

  private static Kernel.Single unsqueeze(NodeSpec node) {
    long[] attribute = axes(node);
    return in -> {
      Tensor x = in.get(0);
      long[] axes = attribute != null ? attribute : in.longs(1);
      for (long axis : Axes.of(axes, x.dim() + axes.length)) {
        x = torch.unsqueeze(x, axis);
      }
      return x;
    };
  }

  private static Kernel.Single transpose(NodeSpec node) {
    long[] perm = node.integers("perm");
    return in -> {
      Tensor x = in.get(0);
      long last = x.dim() - 1;
      return torch.permute(
          x, perm != null ? perm : Arrays.stream(Axes.all(x.dim())).map(a -> last - a).toArray());
    };
  }

  private static Kernel.Single concat(NodeSpec node) {
    long axis = node.integer("axis", 0);
    return in -> {
      TensorVector parts = new TensorVector();
      for (int i = 0; i < in.count(); i++) {
        parts.push_back(in.get(i));
      }
      return torch.cat(parts, axis);
    };
  }

  /** Sizes: an attribute before opset 13, then an input; without them, equal parts. */
  private static Kernel split(NodeSpec node) {
    long given = node.integer("axis", 0);
    long[] attribute = node.opset() < 13 ? node.integers("split") : null;
    int parts = node.outputs();
    boolean counted = node.opset() >= 18 && node.has("num_outputs");
    node.require(
        !counted || node.integer("num_outputs", 0) == parts, "num_outputs is not " + parts);
    return in -> {
      Tensor x = in.get(0);
      int axis = Axes.of(given, x.dim());
      long size = x.size(axis);
      long[] sizes = attribute != null ? attribute : in.has(1) ? in.longs(1) : null;
      if (sizes == null) {
        long each = Math.ceilDiv(size, parts);
        if (each * parts != size && !counted) {
          throw new IllegalArgumentException(size + " elements in " + parts + " equal parts");
        }
        sizes =
            LongStream.range(0, parts).map(i -> Math.clamp(size - i * each, 0L, each)).toArray();
      }
      if (sizes.length != parts || Arrays.stream(sizes).sum() != size) {
        throw new IllegalArgumentException(
            "parts of " + Arrays.toString(sizes) + " of " + size + " elements");
      }
      Tensor[] results = new Tensor[parts];
      long from = 0;
      for (int i = 0; i < parts; i++) {
        results[i] = x.narrow(axis, from, sizes[i]);
        from += sizes[i];
      }
      return results;
    };
  }

  /** To the shape to which the tensor and the wished shape broadcast. */
  private static Tensor expand(Tensor x, long[] wished) {
    long[] shape = Tensors.shape(x);
    long[] sizes = new long[Math.max(shape.length, wished.length)];
    for (int i = 1; i <= sizes.length; i++) {
      long has = i <= shape.length ? shape[shape.length - i] : 1;
      long wants = i <= wished.length ? wished[wished.length - i] : 1;
      sizes[sizes.length - i] = has == 1 ? wants : has;
      if (has != 1 && wants != 1 && has != wants) {
        throw new IllegalArgumentException(
            Arrays.toString(shape) + " does not broadcast to " + Arrays.toString(wished));
      }
    }
    return x.expand(sizes);
  }

  private static final Set<String> PAD_MODES = Set.of("constant", "reflect", "edge", "wrap");

  /** Pads: an attribute before opset 11, then an input; negative ones cut. */
  private static Kernel.Single pad(NodeSpec node) {
    String mode = node.text("mode", "constant");
    node.require(PAD_MODES.contains(mode), "mode = " + mode);
    long[] attribute = node.opset() < 11 ? node.integers("pads") : null;
    double value = node.opset() < 11 ? node.real("value", 0) : 0;
    return in -> {
      Tensor x = in.get(0);
      int rank = (int) x.dim();
      long[] given = attribute != null ? attribute : in.longs(1);
      long[] axes = in.has(3) ? in.longs(3) : Axes.all(rank);
      long[] before = new long[rank];
      long[] after = new long[rank];
      for (int i = 0; i < axes.length; i++) {
        before[Axes.of(axes[i], rank)] = given[i];
        after[Axes.of(axes[i], rank)] = given[i + axes.length];
      }
      if (mode.equals("constant")) {
        long[] pads = new long[2 * rank];
        for (int i = 0; i < rank; i++) {
          pads[2 * i] = before[rank - 1 - i];
          pads[2 * i + 1] = after[rank - 1 - i];
        }
        Tensor filler = in.optional(2);
        return torch.constant_pad_nd(x, pads, filler == null ? new Scalar(value) : filler.item());
      }
      for (int axis = 0; axis < rank; axis++) {
        if (before[axis] != 0 || after[axis] != 0) {
          long size = x.size(axis);
          long[] from =
              LongStream.range(-before[axis], size + after[axis])
                  .map(i -> source(mode, i, size))
                  .toArray();
          x = torch.index_select(x, axis, Tensors.of(from, from.length));
        }
      }
      return x;
    };
  }

  /** Which element is seen at position i of a padded axis. */
  private static long source(String mode, long i, long size) {
    return switch (mode) {
      case "edge" -> Math.clamp(i, 0L, size - 1);
      case "wrap" -> Math.floorMod(i, size);
      default -> {
        long period = Math.max(1, 2 * (size - 1));
        long at = Math.floorMod(i, period);
        yield at < size ? at : period - at;
      }
    };
  }

  private static Kernel.Single depthToSpace(NodeSpec node) {
    long b = node.integer("blocksize", 1);
    boolean depthFirst = node.oneOf("mode", "DCR", "DCR", "CRD").equals("DCR");
    return in -> {
      long[] s = Tensors.shape(in.get(0));
      long depth = s[1] / (b * b);
      Tensor blocks =
          depthFirst
              ? torch.permute(
                  torch.reshape(in.get(0), s[0], b, b, depth, s[2], s[3]), 0, 3, 4, 1, 5, 2)
              : torch.permute(
                  torch.reshape(in.get(0), s[0], depth, b, b, s[2], s[3]), 0, 1, 4, 2, 5, 3);
      return torch.reshape(blocks, s[0], depth, s[2] * b, s[3] * b);
    };
  }

  private static Kernel.Single spaceToDepth(NodeSpec node) {
    long b = node.integer("blocksize", 1);
    return in -> {
      long[] s = Tensors.shape(in.get(0));
      Tensor blocks = torch.reshape(in.get(0), s[0], s[1], s[2] / b, b, s[3] / b, b);
      return torch.reshape(
          torch.permute(blocks, 0, 3, 5, 1, 2, 4), s[0], s[1] * b * b, s[2] / b, s[3] / b);
    };
  }
}
