package org.taco4j.export;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.TensorData;

/**
 * A small integer tensor that does not depend on the model's input: stored, or computed by the few
 * operators that exporters leave between a constant and the pads of a Pad.
 *
 * @param dims its shape
 * @param values its elements, row-major
 */
record IntegerConstant(List<Long> dims, List<Long> values) {
  private static final int LARGEST = 64;

  /** The values of a tensor; null where it is not constant, not of integers, or not so simple. */
  static @Nullable IntegerConstant of(GraphIndex index, String tensor) {
    GraphIndex.Constant constant = index.constant(tensor);
    if (constant != null && constant.alteredBy() == null) {
      int type = constant.tensor().getDataType();
      boolean plain =
          (type == DataType.INT64_VALUE || type == DataType.INT32_VALUE)
              && constant.chain().size() == 1
              && TensorData.count(constant.dims()) <= LARGEST;
      if (plain) {
        return new IntegerConstant(
            constant.dims(), Arrays.stream(TensorData.longs(constant.tensor())).boxed().toList());
      }
    }
    int producer = index.producer(tensor);
    return producer < 0 || index.isDynamic(tensor) ? null : computed(index, index.node(producer));
  }

  private static @Nullable IntegerConstant computed(GraphIndex index, NodeProto node) {
    IntegerConstant first = node.getInputCount() == 0 ? null : of(index, node.getInput(0));
    if (first == null) {
      return null;
    }
    return switch (Nodes.operator(node)) {
      case "Identity" -> first;
      case "Cast" -> Nodes.integer(node, "to", 0) == DataType.INT64_VALUE ? first : null;
      case "ConstantOfShape" -> filled(node, first);
      case "Concat" -> concatenated(index, node);
      case "Reshape" -> first.reshaped(of(index, Nodes.input(node, 1)));
      case "Transpose" -> first.transposed(Nodes.integers(node, "perm"));
      case "Slice" -> first.sliced(index, node);
      default -> null;
    };
  }

  private static @Nullable IntegerConstant filled(NodeProto node, IntegerConstant shape) {
    long count = TensorData.count(shape.values);
    long value = 0;
    for (AttributeProto attribute : node.getAttributeList()) {
      if (attribute.getT().getDataType() != DataType.INT64_VALUE) {
        return null;
      }
      value = TensorData.longs(attribute.getT())[0];
    }
    long[] values = new long[Math.clamp(count, 0, LARGEST)];
    Arrays.fill(values, value);
    return count < 0 || count > LARGEST || node.getAttributeCount() == 0
        ? null
        : new IntegerConstant(shape.values, Arrays.stream(values).boxed().toList());
  }

  private static @Nullable IntegerConstant concatenated(GraphIndex index, NodeProto node) {
    List<IntegerConstant> parts =
        node.getInputList().stream().map(input -> of(index, input)).toList();
    if (parts.stream().anyMatch(part -> part == null || part.dims.size() != 1)) {
      return null;
    }
    List<Long> values = parts.stream().flatMap(part -> part.values.stream()).toList();
    return new IntegerConstant(List.of((long) values.size()), values);
  }

  private @Nullable IntegerConstant reshaped(@Nullable IntegerConstant shape) {
    if (shape == null) {
      return null;
    }
    long others = shape.values.stream().filter(size -> size > 0).reduce(1L, (a, b) -> a * b);
    List<Long> sizes =
        shape.values.stream().map(size -> size == -1 ? values.size() / others : size).toList();
    return TensorData.count(sizes) == values.size() ? new IntegerConstant(sizes, values) : null;
  }

  private @Nullable IntegerConstant transposed(@Nullable List<Long> perm) {
    boolean swap = dims.size() == 2 && (perm == null || perm.equals(List.of(1L, 0L)));
    if (!swap) {
      return null;
    }
    int rows = dims.getFirst().intValue();
    int cols = dims.getLast().intValue();
    Long[] swapped = new Long[values.size()];
    for (int i = 0; i < swapped.length; i++) {
      swapped[i] = values.get(i % rows * cols + i / rows);
    }
    return new IntegerConstant(dims.reversed(), List.of(swapped));
  }

  /** Rows (slices of the first axis) from a start to an end with a step. */
  private @Nullable IntegerConstant sliced(GraphIndex index, NodeProto node) {
    Long start = scalar(index, Nodes.input(node, 1));
    Long end = scalar(index, Nodes.input(node, 2));
    Long axis = Nodes.input(node, 3).isEmpty() ? Long.valueOf(0) : scalar(index, node.getInput(3));
    Long step = Nodes.input(node, 4).isEmpty() ? Long.valueOf(1) : scalar(index, node.getInput(4));
    if (start == null || end == null || axis == null || step == null || axis != 0 || step == 0) {
      return null;
    }
    long rows = dims.getFirst();
    int width = values.size() / (int) Math.max(1, rows);
    long lowest = step > 0 ? 0 : -1;
    long from = Math.clamp(start < 0 ? start + rows : start, lowest, rows + lowest);
    long to = Math.clamp(end < 0 ? end + rows : end, lowest, rows + lowest);
    List<Long> taken = new ArrayList<>();
    long count = 0;
    for (long row = from; step > 0 ? row < to : row > to; row += step) {
      taken.addAll(values.subList((int) row * width, (int) (row + 1) * width));
      count++;
    }
    List<Long> sizes = new ArrayList<>(dims);
    sizes.set(0, count);
    return new IntegerConstant(List.copyOf(sizes), List.copyOf(taken));
  }

  private static @Nullable Long scalar(GraphIndex index, String tensor) {
    IntegerConstant constant = of(index, tensor);
    return constant != null && constant.values.size() == 1 ? constant.values.getFirst() : null;
  }
}
