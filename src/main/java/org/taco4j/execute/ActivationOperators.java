package org.taco4j.execute;

import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.ScalarOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.global.torch;
import org.jspecify.annotations.Nullable;

/** Activation functions, Clip and Dropout. */
final class ActivationOperators {
  private ActivationOperators() {}

  static void addTo(OperatorTable table) {
    table.add("Relu", node -> in -> torch.relu(in.get(0)));
    table.add("Sigmoid", node -> in -> torch.sigmoid(in.get(0)));
    table.add("Tanh", node -> in -> torch.tanh(in.get(0)));
    table.add("Softsign", node -> in -> torch.softsign(in.get(0)));
    table.add("Mish", node -> in -> torch.mish(in.get(0)));
    table.add("HardSwish", node -> in -> torch.hardswish(in.get(0)));
    table.add("Softplus", node -> in -> torch.softplus(in.get(0)));
    table.add("PRelu", node -> in -> prelu(in.get(0), in.get(1)));
    table.add(
        "Gelu",
        node -> {
          String approximate = node.oneOf("approximate", "none", "none", "tanh");
          return in -> torch.gelu(in.get(0), approximate);
        });
    table.add(
        "LeakyRelu",
        node -> {
          double alpha = node.real("alpha", 0.01);
          return in -> torch.leaky_relu(in.get(0), new Scalar(alpha));
        });
    table.add(
        "Elu",
        node -> {
          double alpha = node.real("alpha", 1);
          return in -> elu(in.get(0), alpha, 1, 1);
        });
    table.add(
        "Celu",
        node -> {
          double alpha = node.real("alpha", 1);
          return in -> elu(in.get(0), alpha, 1, 1 / alpha);
        });
    table.add(
        "Selu",
        node -> {
          double alpha = node.real("alpha", 1.6732632f);
          double gamma = node.real("gamma", 1.050701f);
          return in -> elu(in.get(0), alpha, gamma, 1);
        });
    table.add("HardSigmoid", ActivationOperators::hardSigmoid);
    table.add("Softmax", node -> softmax(node, torch::softmax));
    table.add("LogSoftmax", node -> softmax(node, torch::log_softmax));
    table.add("Clip", ActivationOperators::clip);
    table.add("Dropout", ActivationOperators::dropout);
  }

  /** torch::prelu takes slopes along one axis; ONNX any that broadcast. */
  private static Tensor prelu(Tensor x, Tensor slope) {
    try (Tensor negative = torch.lt(x, new Scalar(0.0))) {
      return torch.where(negative, torch.mul(slope, x), x);
    }
  }

  private static Tensor elu(Tensor x, double alpha, double scale, double inputScale) {
    return torch.elu(x, new Scalar(alpha), new Scalar(scale), new Scalar(inputScale));
  }

  private static Kernel.Single hardSigmoid(NodeSpec node) {
    double alpha = node.real("alpha", 0.2f);
    double beta = node.real("beta", 0.5);
    if (alpha == 1f / 6 && beta == 0.5) {
      return in -> torch.hardsigmoid(in.get(0));
    }
    return in ->
        torch.clamp(
            torch.add(torch.mul(in.get(0), new Scalar(alpha)), new Scalar(beta)),
            new ScalarOptional(new Scalar(0.0)),
            new ScalarOptional(new Scalar(1.0)));
  }

  @FunctionalInterface
  private interface AlongAxis {
    Tensor apply(Tensor x, long axis);
  }

  /** Before opset 13, all axes from {@code axis} on are taken as one. */
  private static Kernel.Single softmax(NodeSpec node, AlongAxis function) {
    long axis = node.integer("axis", node.opset() < 13 ? 1 : -1);
    if (node.opset() >= 13) {
      return in -> function.apply(in.get(0), axis);
    }
    return in -> {
      Tensor x = in.get(0);
      int from = Axes.of(axis, x.dim());
      if (from == x.dim() - 1) {
        return function.apply(x, from);
      }
      return torch.reshape(function.apply(torch.flatten(x, from, -1), from), Tensors.shape(x));
    };
  }

  private static Kernel.Single clip(NodeSpec node) {
    if (node.opset() < 11) {
      double min = node.real("min", -Float.MAX_VALUE);
      double max = node.real("max", Float.MAX_VALUE);
      return in -> torch.hardtanh(in.get(0), new Scalar(min), new Scalar(max));
    }
    return in -> {
      Tensor x = in.get(0);
      Tensor min = in.optional(1);
      Tensor max = in.optional(2);
      if (isPlain(min) && isPlain(max) && x.is_floating_point()) {
        double low = min == null ? Double.NEGATIVE_INFINITY : min.item_double();
        double high = max == null ? Double.POSITIVE_INFINITY : max.item_double();
        if (low <= high) {
          // As torch::clamp, with a cheaper gradient.
          return torch.hardtanh(x, new Scalar(low), new Scalar(high));
        }
      }
      if (min == null && max == null) {
        return x;
      }
      TensorOptional none = new TensorOptional();
      return torch.clamp(
          x,
          min == null ? none : new TensorOptional(min),
          max == null ? none : new TensorOptional(max));
    };
  }

  private static boolean isPlain(@Nullable Tensor bound) {
    return bound == null || !bound.requires_grad();
  }

  /** The identity: graphs are run as at inference. */
  private static Kernel.Single dropout(NodeSpec node) {
    node.real("ratio", 0.5);
    node.integer("seed", 0);
    return in -> {
      Tensor training = in.optional(2);
      if (training != null && training.item_bool()) {
        throw new IllegalArgumentException("Dropout in training mode");
      }
      return in.get(0);
    };
  }
}
