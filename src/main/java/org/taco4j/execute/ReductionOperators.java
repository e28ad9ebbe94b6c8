package org.taco4j.execute;

import org.bytedeco.pytorch.LongOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.ScalarOptional;
import org.bytedeco.pytorch.ScalarTypeOptional;
import org.bytedeco.pytorch.T_TensorTensor_T;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;

/** Reductions over axes, ArgMax and ArgMin, TopK, CumSum. */
final class ReductionOperators {
  private ReductionOperators() {}

  @FunctionalInterface
  private interface Reduction {
    Tensor apply(Tensor x, long[] axes, boolean keep);
  }

  static void addTo(OperatorTable table) {
    reduction(table, "ReduceMean", 18, ReductionOperators::mean);
    reduction(table, "ReduceSum", 13, ReductionOperators::sum);
    reduction(table, "ReduceMax", 18, torch::amax);
    reduction(table, "ReduceMin", 18, torch::amin);
    reduction(table, "ReduceProd", 18, ReductionOperators::product);
    reduction(table, "ReduceL1", 18, (x, axes, keep) -> norm(x, 1, axes, keep));
    reduction(table, "ReduceL2", 18, (x, axes, keep) -> norm(x, 2, axes, keep));
    reduction(table, "ReduceSumSquare", 18, (x, axes, keep) -> sum(torch.mul(x, x), axes, keep));
    reduction(table, "ReduceLogSum", 18, (x, axes, keep) -> torch.log(sum(x, axes, keep)));
    reduction(table, "ReduceLogSumExp", 18, torch::logsumexp);
    table.add("ArgMax", node -> extreme(node, true));
    table.add("ArgMin", node -> extreme(node, false));
    table.addMultiple("TopK", ReductionOperators::topK);
    table.add("CumSum", ReductionOperators::cumulative);
  }

  /** Axes are an input from opset {@code since} on, an attribute before. */
  private static void reduction(
      OperatorTable table, String operator, int since, Reduction reduction) {
    table.add(
        operator,
        node -> {
          boolean keep = node.flag("keepdims", true);
          long[] attribute = node.opset() < since ? node.integers("axes") : null;
          boolean nothing = node.opset() >= since && node.flag("noop_with_empty_axes", false);
          return in -> {
            Tensor x = in.get(0);
            long[] axes = attribute != null ? attribute : in.has(1) ? in.longs(1) : new long[0];
            if (axes.length == 0) {
              if (nothing) {
                // Each element by itself: still squared, say.
                return reduction.apply(x.unsqueeze(-1), new long[] {x.dim()}, false);
              }
              axes = Axes.all(x.dim());
            }
            return reduction.apply(x, Axes.of(axes, x.dim()), keep);
          };
        });
  }

  private static Tensor mean(Tensor x, long[] axes, boolean keep) {
    return torch.mean(x, axes, keep, new ScalarTypeOptional());
  }

  private static Tensor sum(Tensor x, long[] axes, boolean keep) {
    return torch.sum(x, axes, keep, new ScalarTypeOptional(Tensors.type(x)));
  }

  private static Tensor norm(Tensor x, int p, long[] axes, boolean keep) {
    return torch.norm(x, new ScalarOptional(new Scalar((double) p)), axes, keep);
  }

  private static Tensor product(Tensor x, long[] axes, boolean keep) {
    Tensor result = x;
    for (int i = axes.length - 1; i >= 0; i--) {
      result = torch.prod(result, axes[i], keep, new ScalarTypeOptional(Tensors.type(x)));
    }
    return result;
  }

  private static Kernel.Single extreme(NodeSpec node, boolean largest) {
    long axis = node.integer("axis", 0);
    boolean keep = node.flag("keepdims", true);
    boolean last = node.flag("select_last_index", false);
    return in -> {
      Tensor x = in.get(0);
      Tensor searched = last ? x.flip(axis) : x;
      LongOptional along = new LongOptional(axis);
      Tensor found =
          largest ? torch.argmax(searched, along, keep) : torch.argmin(searched, along, keep);
      long end = x.size(axis) - 1;
      return last ? torch.add(torch.neg(found), new Scalar(end)) : found;
    };
  }

  private static Kernel topK(NodeSpec node) {
    long axis = node.integer("axis", -1);
    boolean largest = node.opset() < 11 || node.flag("largest", true);
    boolean sorted = node.opset() < 11 || node.flag("sorted", true);
    return in -> {
      T_TensorTensor_T found = torch.topk(in.get(0), in.longs(1)[0], axis, largest, sorted);
      return new Tensor[] {new Tensor(found.get0()), new Tensor(found.get1())};
    };
  }

  private static Kernel.Single cumulative(NodeSpec node) {
    boolean exclusive = node.flag("exclusive", false);
    boolean reverse = node.flag("reverse", false);
    return in -> {
      Tensor x = in.get(0);
      long axis = Axes.of(in.longs(1)[0], x.dim());
      Tensor forward = reverse ? x.flip(axis) : x;
      Tensor sums = torch.cumsum(forward, axis, new ScalarTypeOptional(Tensors.type(x)));
      if (exclusive) {
        sums = torch.sub(sums, forward);
      }
      return reverse ? sums.flip(axis) : sums;
    };
  }
}
