package org.taco4j.execute;

import java.util.Locale;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;

/** Matrix products. */
final class MatrixOperators {
  private MatrixOperators() {}

  static void addTo(OperatorTable table) {
    table.add("MatMul", node -> in -> torch.matmul(in.get(0), in.get(1)));
    table.add("Gemm", MatrixOperators::gemm);
    table.add("Einsum", MatrixOperators::einsum);
  }

  /** alpha op(A) op(B) + beta C; C broadcasts to the product's shape. */
  private static Kernel.Single gemm(NodeSpec node) {
    double alpha = node.real("alpha", 1);
    double beta = node.real("beta", 1);
    boolean transA = node.flag("transA", false);
    boolean transB = node.flag("transB", false);
    return in -> {
      Tensor a = transA ? in.get(0).transpose(0, 1) : in.get(0);
      Tensor b = transB ? in.get(1).transpose(0, 1) : in.get(1);
      Tensor c = in.optional(2);
      if (c != null) {
        return torch.addmm(c, a, b, new Scalar(beta), new Scalar(alpha));
      }
      Tensor product = torch.matmul(a, b);
      return alpha == 1 ? product : torch.mul(product, new Scalar(alpha));
    };
  }

  private static Kernel.Single einsum(NodeSpec node) {
    String equation = node.text("equation", "").replace(" ", "");
    // libtorch reads capitals, too, but sorts them otherwise where there is no "->".
    node.require(
        equation.contains("->") || equation.equals(equation.toLowerCase(Locale.ROOT)),
        "equation " + equation);
    return in -> {
      TensorVector operands = new TensorVector();
      for (int i = 0; i < in.count(); i++) {
        operands.push_back(in.get(i));
      }
      return torch.einsum(equation, operands);
    };
  }
}
