package org.taco4j.export;

import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.TensorData;

/**
 * The shape that a Reshape asks for, as far as it is constant.
 *
 * @param entries the last ones; each a size, {@link #REST} or {@link #COMPUTED}
 * @param whole whether {@code entries} are all
 * @param copied those entries that are written as 0: the input's size at the same place
 */
record TargetShape(List<Long> entries, boolean whole, Set<Integer> copied) {
  /** What is left of the elements. */
  static final long REST = -1;

  /** Known at run time only. */
  static final long COMPUTED = -2;

  /** The shape of a Reshape whose input is the given one. */
  static TargetShape of(GraphIndex index, NodeProto reshape, Carrier input) {
    List<Long> entries = new ArrayList<>();
    boolean whole = true;
    List<String> parts = parts(index, reshape.getInput(1));
    for (String part : parts.reversed()) {
      long[] values = integers(index, part);
      int length = computedLength(index, part);
      if (values != null) {
        for (int k = values.length - 1; k >= 0; k--) {
          entries.add(values[k]);
        }
      } else if (length > 0) {
        entries.addAll(Collections.nCopies(length, COMPUTED));
      } else {
        whole = false;
        break;
      }
    }
    Collections.reverse(entries);
    boolean zeroCopies = Nodes.integer(reshape, "allowzero", 0) == 0;
    Set<Integer> copied = new TreeSet<>();
    for (int k = 0; k < entries.size(); k++) {
      if (entries.get(k) == 0 && zeroCopies) {
        copied.add(k);
        boolean known = whole && input.whole() && k < input.dims().size();
        long size = known ? input.dims().get(k) : COMPUTED;
        entries.set(k, size < 0 ? COMPUTED : size);
      }
    }
    return new TargetShape(List.copyOf(entries), whole, copied);
  }

  /** The tensors whose elements, one after another, are the shape. */
  static List<String> parts(GraphIndex index, String shape) {
    int producer = index.producer(shape);
    return producer >= 0 && Nodes.is(index.node(producer), "Concat")
        ? index.node(producer).getInputList()
        : List.of(shape);
  }

  /**
   * How many entries a computed part of a shape has: one for a scalar made a vector, most often the
   * size of the batch, or as many as are gathered; -1 where that is not certain.
   */
  static int computedLength(GraphIndex index, String part) {
    int writer = index.producer(part);
    if (writer >= 0 && Nodes.is(index.node(writer), "Unsqueeze")) {
      return 1;
    }
    if (writer >= 0 && Nodes.is(index.node(writer), "Gather")) {
      GraphIndex.Constant indices = index.constant(index.node(writer).getInput(1));
      return indices != null && indices.dims().size() == 1
          ? indices.dims().getFirst().intValue()
          : -1;
    }
    return -1;
  }

  /** Whether this is [the size of the first axis of {@code tensor}, all the rest]. */
  boolean flattens(GraphIndex index, String shape, String tensor) {
    return whole
        && entries.size() == 2
        && entries.getLast() == REST
        && (copies(0) || isBatch(index, parts(index, shape).getFirst(), tensor));
  }

  private static boolean isBatch(GraphIndex index, String part, String tensor) {
    int writer = index.producer(part);
    if (writer >= 0 && Nodes.is(index.node(writer), "Unsqueeze")) {
      writer = index.producer(index.node(writer).getInput(0));
    }
    if (writer < 0 || !Nodes.is(index.node(writer), "Gather")) {
      return false;
    }
    NodeProto gather = index.node(writer);
    IntegerConstant indices = IntegerConstant.of(index, gather.getInput(1));
    int shaped = index.producer(gather.getInput(0));
    return indices != null
        && indices.values().equals(List.of(0L))
        && shaped >= 0
        && Nodes.is(index.node(shaped), "Shape")
        && index.node(shaped).getInput(0).equals(tensor);
  }

  private static long @Nullable [] integers(GraphIndex index, String tensor) {
    GraphIndex.Constant constant = index.constant(tensor);
    return constant != null
            && constant.alteredBy() == null
            && constant.tensor().getDataType() == DataType.INT64_VALUE
        ? TensorData.longs(constant.tensor())
        : null;
  }

  /** Whether an entry is written as 0. */
  boolean copies(int entry) {
    return copied.contains(entry);
  }

  /** Whether entries that end before the given one multiply to that product. */
  boolean endsBefore(int entry, long product) {
    long rest = product;
    for (int k = entry - 1; k >= 0 && rest > 1; k--) {
      if (entries.get(k) <= 0 || rest % entries.get(k) != 0) {
        return false;
      }
      rest /= entries.get(k);
    }
    return rest == 1;
  }

  /**
   * The last entries as outer x units x inside, in case the borders lie between entries.
   *
   * @return the entries that make up the units; empty where they do not
   */
  long[] factors(long outer, long units, long inside) {
    int end = start(entries.size(), inside);
    int start = end < 0 ? -1 : start(end, units);
    return start >= 0 && start(start, outer) >= 0
        ? entries.subList(start, end).stream().mapToLong(entry -> entry).toArray()
        : new long[0];
  }

  /** Where entries begin that end before the given one and multiply to the product; -1 if not. */
  private int start(int end, long product) {
    long rest = product;
    int k = end;
    while (rest > 1) {
      k--;
      if (k < 0 || entries.get(k) <= 0 || rest % entries.get(k) != 0) {
        return -1;
      }
      rest /= entries.get(k);
    }
    return k;
  }

  @Override
  public String toString() {
    return entries.stream()
        .map(entry -> entry == COMPUTED ? "?" : String.valueOf(entry))
        .collect(Collectors.joining(", ", whole ? "[" : "[..., ", "]"));
  }
}
