package org.taco4j.execute;

import java.util.Arrays;
import org.bytedeco.pytorch.LongOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.ScalarOptional;
import org.bytedeco.pytorch.T_TensorTensorTensor_T;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.global.torch;

/** Normalisation layers. */
final class NormalizationOperators {
  private NormalizationOperators() {}

  static void addTo(OperatorTable table) {
    table.addMultiple("BatchNormalization", NormalizationOperators::batch);
    table.add("LayerNormalization", NormalizationOperators::layer);
    table.add("InstanceNormalization", NormalizationOperators::instance);
    table.add("GroupNormalization", NormalizationOperators::group);
    table.add("LpNormalization", NormalizationOperators::lp);
  }

  private static Kernel batch(NodeSpec node) {
    double epsilon = node.real("epsilon", 1e-5f);
    double momentum = node.real("momentum", 0.9f);
    if (node.flag("training_mode", false)) {
      return in -> train(in, epsilon, momentum);
    }
    node.onlyFirstOutput();
    return Kernel.single(in -> infer(in, epsilon));
  }

  /** With the stored statistics, which get no gradient; scale and shift do. */
  private static Tensor infer(Inputs in, double epsilon) {
    return torch.batch_norm(
        in.get(0),
        in.asOptional(1),
        in.asOptional(2),
        new TensorOptional(in.get(3).detach()),
        new TensorOptional(in.get(4).detach()),
        false,
        0,
        epsilon,
        false);
  }

  /** With those of the batch; and what the stored ones become, which get no gradient. */
  private static Tensor[] train(Inputs in, double epsilon, double momentum) {
    TensorOptional none = new TensorOptional();
    T_TensorTensorTensor_T result =
        torch.native_batch_norm(
            in.get(0), in.asOptional(1), in.asOptional(2), none, none, true, 0, epsilon);
    Tensor variance =
        torch.sub(torch.pow(result.get2().detach(), new Scalar(-2.0)), new Scalar(epsilon));
    return new Tensor[] {
      new Tensor(result.get0()),
      moved(in.get(3), result.get1().detach(), momentum),
      moved(in.get(4), variance, momentum)
    };
  }

  private static Tensor moved(Tensor stored, Tensor batch, double momentum) {
    return torch.add(
        torch.mul(stored.detach(), new Scalar(momentum)),
        torch.mul(batch, new Scalar(1 - momentum)));
  }

  private static Kernel.Single layer(NodeSpec node) {
    long first = node.integer("axis", -1);
    double epsilon = node.real("epsilon", 1e-5f);
    long type = node.integer("stash_type", 1);
    node.require(type == 1, "stash_type = " + type);
    return in -> {
      Tensor x = in.get(0);
      long[] shape = Tensors.shape(x);
      long[] normalized = Arrays.copyOfRange(shape, Axes.of(first, shape.length), shape.length);
      Tensor scale = in.get(1);
      Tensor shift = in.optional(2);
      if (has(scale, normalized) && (shift == null || has(shift, normalized))) {
        return torch.layer_norm(x, normalized, in.asOptional(1), in.asOptional(2), epsilon, false);
      }
      TensorOptional none = new TensorOptional();
      Tensor y = torch.mul(torch.layer_norm(x, normalized, none, none, epsilon, false), scale);
      return shift == null ? y : torch.add(y, shift);
    };
  }

  private static boolean has(Tensor tensor, long[] shape) {
    return Arrays.equals(Tensors.shape(tensor), shape);
  }

  private static Kernel.Single instance(NodeSpec node) {
    double epsilon = node.real("epsilon", 1e-5f);
    return in ->
        torch.instance_norm(
            in.get(0),
            in.asOptional(1),
            in.asOptional(2),
            new TensorOptional(),
            new TensorOptional(),
            true,
            0,
            epsilon,
            false);
  }

  /** Scale and shift: one a group until opset 20, one a channel from 21 on. */
  private static Kernel.Single group(NodeSpec node) {
    long groups = node.integer("num_groups", 0);
    double epsilon = node.real("epsilon", 1e-5f);
    node.require(groups > 0, "num_groups = " + groups);
    boolean perGroup = node.opset() < 21;
    return in -> {
      Tensor x = in.get(0);
      long each = perGroup ? x.size(1) / groups : 1;
      LongOptional axis = new LongOptional(0);
      return torch.group_norm(
          x,
          groups,
          new TensorOptional(torch.repeat_interleave(in.get(1), each, axis, new LongOptional())),
          new TensorOptional(torch.repeat_interleave(in.get(2), each, axis, new LongOptional())),
          epsilon,
          false);
    };
  }

  /** A vector of norm zero stays zero. */
  private static Kernel.Single lp(NodeSpec node) {
    long axis = node.integer("axis", -1);
    long p = node.integer("p", 2);
    node.require(p == 1 || p == 2, "p = " + p);
    return in -> {
      Tensor x = in.get(0);
      Tensor norm =
          torch.norm(x, new ScalarOptional(new Scalar((double) p)), new long[] {axis}, true);
      Tensor zero = torch.eq(norm, new Scalar(0.0));
      return torch.div(x, torch.where(zero, torch.ones_like(norm), norm));
    };
  }
}
