package org.taco4j.execute;

import java.util.Arrays;
import org.bytedeco.pytorch.LongOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;

/** Operators that pick or place elements by index: Gather…, Scatter…, Slice, OneHot, Trilu. */
final class IndexingOperators {
  private IndexingOperators() {}

  static void addTo(OperatorTable table) {
    table.add("Gather", IndexingOperators::gather);
    table.add(
        "GatherElements",
        node -> {
          long axis = node.integer("axis", 0);
          return in -> {
            Tensor x = in.get(0);
            return torch.gather(x, axis, fromFront(in.get(1), x.size(axis)));
          };
        });
    table.add("GatherND", IndexingOperators::gatherNd);
    table.add("ScatterND", IndexingOperators::scatterNd);
    table.add("ScatterElements", IndexingOperators::scatterElements);
    table.add("Slice", IndexingOperators::slice);
    table.add("OneHot", IndexingOperators::oneHot);
    table.add(
        "Trilu",
        node -> {
          boolean upper = node.flag("upper", true);
          return in -> {
            long k = in.has(1) ? in.longs(1)[0] : 0;
            return upper ? torch.triu(in.get(0), k) : torch.tril(in.get(0), k);
          };
        });
  }

  /** Indices as int64 with negative ones counted from the front. */
  private static Tensor fromFront(Tensor indices, long size) {
    Tensor wide = indices.to(ScalarType.Long);
    return torch.where(torch.lt(wide, new Scalar(0L)), torch.add(wide, new Scalar(size)), wide);
  }

  /** Output shape: that of the data with the axis replaced by the indices' shape. */
  private static Kernel.Single gather(NodeSpec node) {
    long given = node.integer("axis", 0);
    return in -> {
      Tensor x = in.get(0);
      Tensor indices = in.get(1);
      int axis = Axes.of(given, x.dim());
      if (indices.dim() == 0) {
        return x.select(axis, indices.item_long());
      }
      Tensor flat = torch.reshape(fromFront(indices, x.size(axis)), -1);
      Tensor taken = torch.index_select(x, axis, flat);
      if (indices.dim() == 1) {
        return taken;
      }
      return torch.reshape(taken, splice(Tensors.shape(x), axis, 1, Tensors.shape(indices)));
    };
  }

  /** The sizes with {@code count} of them, from {@code at} on, replaced by others. */
  private static long[] splice(long[] sizes, int at, int count, long[] others) {
    long[] result = new long[sizes.length - count + others.length];
    System.arraycopy(sizes, 0, result, 0, at);
    System.arraycopy(others, 0, result, at, others.length);
    System.arraycopy(sizes, at + count, result, at + others.length, sizes.length - at - count);
    return result;
  }

  /**
   * Index tuples, [tuples, depth], over axes of the given sizes as positions, [tuples], in the
   * tensor with these axes flattened into one.
   */
  private static Tensor positions(Tensor tuples, long[] sizes) {
    Tensor result = null;
    for (int i = 0; i < sizes.length; i++) {
      Tensor index = fromFront(tuples.select(1, i), sizes[i]);
      result = result == null ? index : torch.add(torch.mul(result, new Scalar(sizes[i])), index);
    }
    return result == null ? Tensors.of(new long[(int) tuples.size(0)], tuples.size(0)) : result;
  }

  private static Kernel.Single gatherNd(NodeSpec node) {
    int batch = Math.toIntExact(node.integer("batch_dims", 0));
    return in -> {
      Tensor x = in.get(0);
      Tensor indices = in.get(1);
      long[] shape = Tensors.shape(x);
      long[] indexShape = Tensors.shape(indices);
      int depth = (int) indexShape[indexShape.length - 1];
      long batches = Axes.product(Arrays.copyOf(shape, batch));
      long[] indexed = Arrays.copyOfRange(shape, batch, batch + depth);
      long[] slice = Arrays.copyOfRange(shape, batch + depth, shape.length);
      Tensor positions = positions(torch.reshape(indices, -1, depth), indexed);
      if (batch > 0) {
        // Each batch has its own part of the flattened data.
        Tensor parts = torch.reshape(torch.arange(new Scalar(batches)), batches, 1);
        positions =
            torch.add(
                torch.reshape(positions, batches, -1),
                torch.mul(parts, new Scalar(Axes.product(indexed))));
      }
      Tensor flat = torch.reshape(x, batches * Axes.product(indexed), Axes.product(slice));
      Tensor taken = torch.index_select(flat, 0, torch.reshape(positions, -1));
      return torch.reshape(taken, splice(indexShape, indexShape.length - 1, 1, slice));
    };
  }

  private static Kernel.Single scatterNd(NodeSpec node) {
    String reduction = node.oneOf("reduction", "none", "none", "add");
    return in -> {
      Tensor x = in.get(0);
      long[] shape = Tensors.shape(x);
      Tensor indices = in.get(1);
      int depth = (int) indices.size(-1);
      long[] indexed = Arrays.copyOf(shape, depth);
      long slice = Axes.product(Arrays.copyOfRange(shape, depth, shape.length));
      Tensor positions = positions(torch.reshape(indices, -1, depth), indexed);
      Tensor flat = torch.reshape(x, Axes.product(indexed), slice);
      Tensor updates = torch.reshape(in.get(2), positions.size(0), slice);
      Tensor result =
          reduction.equals("add")
              ? flat.index_add(0, positions, updates)
              : flat.index_copy(0, positions, updates);
      return torch.reshape(result, shape);
    };
  }

  private static Kernel.Single scatterElements(NodeSpec node) {
    long axis = node.integer("axis", 0);
    String reduction = node.oneOf("reduction", "none", "none", "add");
    return in -> {
      Tensor x = in.get(0);
      Tensor indices = fromFront(in.get(1), x.size(axis));
      return reduction.equals("add")
          ? x.scatter_add(axis, indices, in.get(2))
          : torch.scatter(x, axis, indices, in.get(2));
    };
  }

  /** Starts, ends and axes are attributes before opset 10. */
  private static Kernel.Single slice(NodeSpec node) {
    long[] starts = node.opset() < 10 ? node.integers("starts") : null;
    long[] ends = node.opset() < 10 ? node.integers("ends") : null;
    long[] axes = node.opset() < 10 ? node.integers("axes") : null;
    if (starts != null && ends != null) {
      return in -> slice(in.get(0), starts, ends, axes != null ? axes : Axes.all(starts.length));
    }
    return in -> {
      long[] from = in.longs(1);
      long[] along = in.has(3) ? in.longs(3) : Axes.all(from.length);
      if (in.has(4)) {
        return slice(in.get(0), from, in.longs(2), along, in.longs(4));
      }
      return slice(in.get(0), from, in.longs(2), along);
    };
  }

  private static Tensor slice(Tensor x, long[] starts, long[] ends, long[] axes) {
    long[] steps = new long[starts.length];
    Arrays.fill(steps, 1);
    return slice(x, starts, ends, axes, steps);
  }

  private static Tensor slice(Tensor x, long[] starts, long[] ends, long[] axes, long[] steps) {
    Tensor result = x;
    for (int i = 0; i < axes.length; i++) {
      int axis = Axes.of(axes[i], x.dim());
      long size = x.size(axis);
      long start = starts[i] < 0 ? starts[i] + size : starts[i];
      long end = ends[i] < 0 ? ends[i] + size : ends[i];
      long step = steps[i];
      if (step < 0) {
        // Backwards over the tensor is forwards over the mirrored one.
        start = size - 1 - Math.clamp(start, 0L, size - 1);
        end = size - 1 - Math.clamp(end, -1L, size - 1);
        step = -step;
        result = result.flip(axis);
      } else {
        start = Math.clamp(start, 0L, size);
        end = Math.clamp(end, 0L, size);
      }
      result =
          torch.slice(
              result, axis, new LongOptional(start), new LongOptional(Math.max(start, end)), step);
    }
    return result;
  }

  private static Kernel.Single oneHot(NodeSpec node) {
    long given = node.integer("axis", -1);
    return in -> {
      Tensor indices = in.get(0);
      long depth = in.longs(1)[0];
      Tensor values = in.get(2);
      int axis = Axes.of(given, indices.dim() + 1);
      long[] shape = new long[(int) indices.dim() + 1];
      Arrays.fill(shape, 1);
      shape[axis] = depth;
      Tensor classes = torch.reshape(torch.arange(new Scalar(depth)), shape);
      Tensor hot = torch.eq(fromFront(indices, depth).unsqueeze(axis), classes);
      return torch.where(hot, values.select(0, 1), values.select(0, 0));
    };
  }
}
