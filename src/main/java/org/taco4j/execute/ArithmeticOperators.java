package org.taco4j.execute;

import java.util.function.BinaryOperator;
import java.util.function.UnaryOperator;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.StringViewOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;

/** Arithmetic, comparisons and logic, element by element with broadcasting; Cast. */
final class ArithmeticOperators {
  private ArithmeticOperators() {}

  static void addTo(OperatorTable table) {
    binary(table, "Add", torch::add);
    binary(table, "Sub", torch::sub);
    binary(table, "Mul", torch::mul);
    binary(table, "Div", ArithmeticOperators::divide);
    binary(table, "Pow", ArithmeticOperators::power);
    binary(table, "Equal", torch::eq);
    binary(table, "Less", torch::lt);
    binary(table, "LessOrEqual", torch::le);
    binary(table, "Greater", torch::gt);
    binary(table, "GreaterOrEqual", torch::ge);
    binary(table, "And", torch::logical_and);
    binary(table, "Or", torch::logical_or);
    binary(table, "Xor", torch::logical_xor);
    table.add(
        "Mod",
        node -> {
          boolean truncated = node.flag("fmod", false);
          return in ->
              truncated ? torch.fmod(in.get(0), in.get(1)) : torch.remainder(in.get(0), in.get(1));
        });

    unary(table, "Abs", torch::abs);
    unary(table, "Neg", torch::neg);
    unary(table, "Sqrt", torch::sqrt);
    unary(table, "Reciprocal", torch::reciprocal);
    unary(table, "Exp", torch::exp);
    unary(table, "Log", torch::log);
    unary(table, "Erf", torch::erf);
    unary(table, "Sin", torch::sin);
    unary(table, "Cos", torch::cos);
    unary(table, "Floor", torch::floor);
    unary(table, "Ceil", torch::ceil);
    unary(table, "Round", torch::round);
    unary(table, "Sign", torch::sign);
    unary(table, "Not", torch::logical_not);
    unary(table, "IsNaN", torch::isnan);

    table.add("Sum", node -> in -> fold(in, torch::add));
    table.add("Min", node -> in -> fold(in, torch::minimum));
    table.add("Max", node -> in -> fold(in, torch::maximum));
    table.add(
        "Mean", node -> in -> torch.div(fold(in, torch::add), new Scalar((double) in.count())));
    table.add("Where", node -> in -> torch.where(in.get(0), in.get(1), in.get(2)));

    table.add(
        "Cast",
        node -> {
          node.flag("saturate", true);
          ScalarType type = Tensors.type((int) node.integer("to", 0));
          return in -> in.get(0).to(type);
        });
    table.add(
        "CastLike",
        node -> {
          node.flag("saturate", true);
          return in -> in.get(0).to(Tensors.type(in.get(1)));
        });
  }

  private static void unary(OperatorTable table, String operator, UnaryOperator<Tensor> function) {
    table.add(operator, node -> in -> function.apply(in.get(0)));
  }

  private static void binary(
      OperatorTable table, String operator, BinaryOperator<Tensor> function) {
    table.add(operator, node -> in -> function.apply(in.get(0), in.get(1)));
  }

  private static Tensor fold(Inputs in, BinaryOperator<Tensor> function) {
    Tensor result = in.get(0);
    for (int i = 1; i < in.count(); i++) {
      result = function.apply(result, in.get(i));
    }
    return result;
  }

  /** Integers are divided towards zero. */
  private static Tensor divide(Tensor a, Tensor b) {
    return a.is_floating_point()
        ? torch.div(a, b)
        : torch.div(a, b, new StringViewOptional(new BytePointer("trunc")));
  }

  /** Of the base's type. A plain number as exponent has a cheaper gradient, without logarithms. */
  private static Tensor power(Tensor base, Tensor exponent) {
    Tensor result =
        exponent.numel() == 1
                && !exponent.requires_grad()
                && exponent.dim() <= base.dim()
                && base.is_floating_point()
            ? torch.pow(base, new Scalar(exponent.item_double()))
            : torch.pow(base, exponent);
    return Tensors.type(result) == Tensors.type(base) ? result : result.to(Tensors.type(base));
  }
}
