package org.taco4j.export;

import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.Operators;
import org.taco4j.onnx.TensorData;

/**
 * Shapes of the tensors of a graph as far as they follow from it, whatever is fed: each dimension a
 * number, or an expression over those of inputs and of tensors that nothing is known of. Equal
 * expressions are equal sizes; different ones may be, too.
 */
final class SymbolicShapes {
  private static final Set<String> KEEPING =
      Set.of(
          "BatchNormalization",
          "DequantizeLinear",
          "GroupNormalization",
          "InstanceNormalization",
          "LayerNormalization",
          "LogSoftmax",
          "LRN",
          "QuantizeLinear",
          "Softmax");

  private static final Set<String> BROADCASTING =
      Set.of("Add", "Sub", "Mul", "Div", "Pow", "Sum", "Min", "Max", "PRelu");

  private final GraphIndex index;
  private final Map<String, List<String>> shapes = new HashMap<>();

  SymbolicShapes(GraphIndex index) {
    this.index = index;
    for (NodeProto node : index.graph().getNodeList()) {
      if (node.getOutputCount() == 0 || !index.isDynamic(node.getOutput(0))) {
        continue;
      }
      String output = node.getOutput(0);
      List<String> shape = declared(output);
      if (shape == null || !areNumbers(shape)) {
        List<String> inferred = infer(node);
        shape = inferred == null ? shape : inferred;
      }
      if (shape != null) {
        shapes.put(output, shape);
      }
    }
  }

  /**
   * Whether two tensors have the same shape whatever is fed. Batches, the first dimension, count as
   * the same where neither is a number.
   */
  private boolean areSame(String first, String second) {
    List<String> a = shape(first);
    List<String> b = shape(second);
    if (a == null || b == null || a.isEmpty() || a.size() != b.size()) {
      return a != null && a.equals(b);
    }
    boolean batch =
        a.getFirst().equals(b.getFirst()) || !(isNumber(a.getFirst()) || isNumber(b.getFirst()));
    return batch && a.subList(1, a.size()).equals(b.subList(1, b.size()));
  }

  /**
   * Whether an addition can be trusted not to repeat its first operand. So it is where both have
   * the same shape, or the first one's is known and the other's is not: sizes above 1 are never
   * repeated. Where nothing at all is known of the first, behind Reshape with computed sizes, it is
   * taken for whole in models of one image size, in which attention ends so; not in others.
   */
  boolean isWhole(String first, String second) {
    List<String> a = shape(first);
    List<String> b = shape(second);
    if (a == null) {
      return hasOneImageSize();
    }
    return areSame(first, second) || (b == null && isLarge(a));
  }

  /** Whether all dimensions but the batch are known and above 1: an addition repeats none. */
  private static boolean isLarge(@Nullable List<String> shape) {
    return shape != null
        && shape.size() > 1
        && shape.subList(1, shape.size()).stream()
            .allMatch(dim -> isNumber(dim) && !dim.equals("1"));
  }

  /** Whether all inputs have known shapes, but for the batch. */
  private boolean hasOneImageSize() {
    return index.graph().getInputList().stream()
        .map(input -> declared(input.getName()))
        .allMatch(
            dims -> dims != null && (dims.isEmpty() || areNumbers(dims.subList(1, dims.size()))));
  }

  private @Nullable List<String> shape(String tensor) {
    List<String> shape = shapes.get(tensor);
    return shape != null ? shape : declared(tensor);
  }

  /** What an input, an output or a value_info says. */
  private @Nullable List<String> declared(String tensor) {
    GraphIndex.Constant constant = index.isDynamic(tensor) ? null : index.constant(tensor);
    if (constant != null) {
      return constant.dims().stream().map(String::valueOf).toList();
    }
    long[] shape = index.shape(tensor);
    if (shape == null) {
      return null;
    }
    List<String> dims = new ArrayList<>();
    for (int i = 0; i < shape.length; i++) {
      dims.add(shape[i] >= 0 ? Long.toString(shape[i]) : unknown(tensor, i));
    }
    return dims;
  }

  private static String unknown(String tensor, int axis) {
    return "'" + tensor + "'[" + axis + "]";
  }

  private @Nullable List<String> infer(NodeProto node) {
    if (node.getInputCount() == 0) {
      return null;
    }
    String operator = node.getOpType();
    boolean own = node.getDomain().equals(Operators.SPARSE_DOMAIN);
    if (!own && !Nodes.isDefaultDomain(node.getDomain())) {
      return null;
    }
    List<String> x = shape(node.getInput(0));
    if (own ? operator.startsWith("SparseConv") : operator.equals("Conv")) {
      return convolution(node, x);
    }
    if (own ? operator.matches("SparseMatMul(?!Left).*") : operator.equals("MatMul")) {
      return product(x, shape(Nodes.input(node, 1)));
    }
    if (own) {
      return operator.equals("LayerNormalization") ? x : null;
    }
    if (Operators.ELEMENTWISE.contains(operator) || KEEPING.contains(operator)) {
      return x;
    }
    if (BROADCASTING.contains(operator)) {
      List<String> sum = x;
      for (int i = 1; i < node.getInputCount(); i++) {
        sum = broadcast(sum, shape(node.getInput(i)));
      }
      return sum;
    }
    if (Operators.POOLS.contains(operator) && x != null) {
      List<Long> kernel = Nodes.integers(node, "kernel_shape");
      return kernel == null ? null : windows(node, x, x.get(1), kernel);
    }
    if (Operators.REDUCTIONS.contains(operator) && x != null && !x.isEmpty()) {
      // Which axes are left is not looked at, but that it is not what came in.
      List<String> reduced = new ArrayList<>(List.of(x.getFirst()));
      while (reduced.size() < x.size() && Nodes.integer(node, "keepdims", 1) != 0) {
        reduced.add(unknown(node.getOutput(0), reduced.size()));
      }
      return reduced;
    }
    if (Operators.GLOBAL_POOLS.contains(operator) && x != null) {
      List<String> pooled = new ArrayList<>(x.subList(0, 2));
      while (pooled.size() < x.size()) {
        pooled.add("1");
      }
      return pooled;
    }
    return switch (operator) {
      case "Gemm" -> gemm(node, x);
      case "Transpose" -> transpose(node, x);
      case "Reshape" -> reshape(node, x);
      default -> null;
    };
  }

  private @Nullable List<String> convolution(NodeProto node, @Nullable List<String> x) {
    List<String> weight = shape(Nodes.input(node, 1));
    if (weight == null || weight.size() < 3 || !areNumbers(weight)) {
      return null;
    }
    if (x == null) {
      x = new ArrayList<>();
      for (int i = 0; i < weight.size(); i++) {
        x.add(unknown(node.getInput(0), i));
      }
    }
    List<Long> kernel = weight.subList(2, weight.size()).stream().map(Long::valueOf).toList();
    return windows(node, x, weight.getFirst(), kernel);
  }

  /** What windows with the attributes of a node leave. */
  private static @Nullable List<String> windows(
      NodeProto node, List<String> x, String channels, List<Long> kernel) {
    int axes = kernel.size();
    if (x.size() != axes + 2) {
      return null;
    }
    List<Long> strides = Nodes.integers(node, "strides");
    List<Long> dilations = Nodes.integers(node, "dilations");
    List<Long> pads = Nodes.integers(node, "pads");
    String autoPad = Nodes.text(node, "auto_pad", "NOTSET");
    boolean up = Nodes.integer(node, "ceil_mode", 0) != 0;
    List<String> result = new ArrayList<>(List.of(x.get(0), channels));
    for (int i = 0; i < axes; i++) {
      long stride = strides == null ? 1 : strides.get(i);
      long extent = (dilations == null ? 1 : dilations.get(i)) * (kernel.get(i) - 1) + 1;
      long padding = pads == null ? 0 : pads.get(i) + pads.get(i + axes);
      boolean same = autoPad.startsWith("SAME");
      // SAME makes ceil(size / stride) = floor((size - 1) / stride) + 1.
      long change = same ? -1 : autoPad.equals("VALID") ? -extent : padding - extent;
      result.add(steps(x.get(i + 2), change, stride, up && !same));
    }
    return result;
  }

  /** (size + change) / stride + 1, rounded down or up. */
  private static String steps(String size, long change, long stride, boolean up) {
    if (stride == 1 && change == -1) {
      return size;
    }
    // With ceil_mode a window may yet be left out that begins in the padding.
    if (!up && isNumber(size)) {
      return Long.toString(Math.floorDiv(Long.parseLong(size) + change, stride) + 1);
    }
    return "((" + size + "+" + change + ")" + (up ? "^" : "/") + stride + "+1)";
  }

  private static @Nullable List<String> product(
      @Nullable List<String> a, @Nullable List<String> b) {
    if (a == null || b == null || a.size() < 2 || b.size() < 2) {
      return null;
    }
    List<String> outer = broadcast(a.subList(0, a.size() - 2), b.subList(0, b.size() - 2));
    if (outer == null) {
      return null;
    }
    List<String> result = new ArrayList<>(outer);
    result.add(a.get(a.size() - 2));
    result.add(b.getLast());
    return result;
  }

  private @Nullable List<String> gemm(NodeProto node, @Nullable List<String> a) {
    List<String> b = shape(Nodes.input(node, 1));
    if (a == null || b == null || a.size() != 2 || b.size() != 2) {
      return null;
    }
    return List.of(
        a.get((int) Nodes.integer(node, "transA", 0)),
        b.get(1 - (int) Nodes.integer(node, "transB", 0)));
  }

  /** The shape of a sum; null where it may be either. See {@link #isWhole} for unknown ones. */
  private static @Nullable List<String> broadcast(
      @Nullable List<String> a, @Nullable List<String> b) {
    if (a == null || b == null) {
      // What is added to images are images; to a matrix it may be anything.
      List<String> known = a == null ? b : a;
      return known != null && known.size() == 4 && isLarge(known) ? known : null;
    }
    int rank = Math.max(a.size(), b.size());
    List<String> result = new ArrayList<>();
    for (int i = 0; i < rank; i++) {
      int fromA = i - rank + a.size();
      int fromB = i - rank + b.size();
      String p = fromA < 0 ? "1" : a.get(fromA);
      String q = fromB < 0 ? "1" : b.get(fromB);
      if (p.equals(q) || q.equals("1")) {
        result.add(p);
      } else if (p.equals("1") || isNumber(q)) {
        result.add(q);
      } else if (isNumber(p)) {
        result.add(p);
      } else {
        return null;
      }
    }
    return result;
  }

  private static @Nullable List<String> transpose(NodeProto node, @Nullable List<String> x) {
    List<Long> axes = Nodes.integers(node, "perm");
    if (x == null || axes == null) {
      return x == null ? null : x.reversed();
    }
    if (axes.size() != x.size()) {
      return null;
    }
    return axes.stream().map(axis -> x.get(axis.intValue())).toList();
  }

  private @Nullable List<String> reshape(NodeProto node, @Nullable List<String> x) {
    TensorProto stored = index.stored(Nodes.input(node, 1));
    if (stored == null || x == null || Nodes.integer(node, "allowzero", 0) != 0) {
      return null;
    }
    List<String> result = new ArrayList<>();
    List<String> rest = new ArrayList<>(x);
    long known = 1;
    int open = -1;
    for (long size : TensorData.longs(stored)) {
      String dim = Long.toString(size);
      if (size == 0 && result.size() < x.size()) {
        dim = x.get(result.size());
      } else if (size == -1) {
        open = result.size();
        dim = unknown(node.getOutput(0), open);
      }
      result.add(dim);
      if (isNumber(dim)) {
        known *= Long.parseLong(dim);
      } else if (size == 0) {
        rest.remove(dim);
      }
    }
    if (open >= 0 && areNumbers(rest) && known > 0) {
      long all = rest.stream().mapToLong(Long::parseLong).reduce(1, (a, b) -> a * b);
      result.set(open, Long.toString(all / known));
    }
    return result;
  }

  private static boolean areNumbers(List<String> dims) {
    return dims.stream().allMatch(SymbolicShapes::isNumber);
  }

  private static boolean isNumber(String dim) {
    return Character.isDigit(dim.charAt(0));
  }
}
