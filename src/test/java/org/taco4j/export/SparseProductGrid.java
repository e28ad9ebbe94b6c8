package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;

/** As {@link SparseConvGrid}, for products with a matrix. */
final class SparseProductGrid {
  /** What the model writes for the product. */
  private enum Form {
    MATMUL,
    MATMUL_LEFT,
    GEMM,
    GEMM_TRANSPOSED
  }

  /**
   * One product.
   *
   * @param leading the axes before those of the product
   */
  private record Case(
      Form form,
      long[] leading,
      int tokens,
      int inputs,
      int outputs,
      double sparsity,
      boolean residual,
      FusedActivation.Kind activation) {
    long[] shape(int features) {
      long[] shape = Arrays.copyOf(leading, leading.length + 2);
      boolean left = form == Form.MATMUL_LEFT;
      shape[leading.length] = left ? features : tokens;
      shape[leading.length + 1] = left ? tokens : features;
      return shape;
    }
  }

  private SparseProductGrid() {}

  private static List<Case> cases() {
    List<Case> cases = new ArrayList<>();
    FusedActivation.Kind[] activations = FusedActivation.Kind.values();
    int next = 0;
    for (Form form : Form.values()) {
      boolean gemm = form == Form.GEMM || form == Form.GEMM_TRANSPOSED;
      for (int tokens : new int[] {1, 2, 7, 15, 16, 17, 50, 197}) {
        for (long[] leading : gemm ? new long[][] {{}} : new long[][] {{}, {1}, {3}, {2, 2}}) {
          for (boolean residual : new boolean[] {false, true}) {
            cases.add(
                new Case(
                    form,
                    leading,
                    tokens,
                    33,
                    21,
                    0.7,
                    residual,
                    activations[next++ % activations.length]));
          }
        }
      }
      for (double sparsity : new double[] {0, 0.9, 1}) {
        cases.add(
            new Case(
                form,
                gemm ? new long[0] : new long[] {2},
                98,
                192,
                96,
                sparsity,
                true,
                FusedActivation.Kind.GELU));
      }
      // Long enough for tiles over the features that are summed.
      cases.add(new Case(form, new long[0], 50, 3072, 40, 0.9, true, FusedActivation.Kind.NONE));
      cases.add(new Case(form, new long[0], 5, 1, 1, 0.5, false, FusedActivation.Kind.NONE));
    }
    return cases;
  }

  private static OnnxModel dense(Case c, Random random) {
    float[] weights = new float[c.inputs * c.outputs];
    for (int i = 0; i < weights.length; i++) {
      float value = (float) random.nextGaussian();
      weights[i] = random.nextDouble() < c.sparsity ? 0 : value;
    }
    boolean rowsFirst = c.form == Form.MATMUL_LEFT || c.form == Form.GEMM_TRANSPOSED;
    long[] dims = rowsFirst ? new long[] {c.outputs, c.inputs} : new long[] {c.inputs, c.outputs};
    long[] bias = c.form == Form.MATMUL_LEFT ? new long[] {c.outputs, 1} : new long[] {c.outputs};
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", c.shape(c.inputs))
            .output("y", c.shape(c.outputs))
            .floats("w", dims, weights)
            .random("b", bias);
    String sum = c.residual ? "biased" : "added";
    switch (c.form) {
      case MATMUL ->
          builder
              .node("layer", "MatMul", List.of("x", "w"), List.of("plain"))
              .node("Add", List.of("b", "plain"), List.of(sum));
      case MATMUL_LEFT ->
          builder
              .node("layer", "MatMul", List.of("w", "x"), List.of("plain"))
              .node("Add", List.of("plain", "b"), List.of(sum));
      case GEMM ->
          builder.node(
              "layer", "Gemm", List.of("x", "w", "b"), List.of(sum), attribute("beta", 0.5f));
      case GEMM_TRANSPOSED ->
          builder.node(
              "layer", "Gemm", List.of("x", "w", "b"), List.of(sum), attribute("transB", 1));
    }
    if (c.residual) {
      builder
          .input("z", c.shape(c.outputs))
          .node("Neg", List.of("z"), List.of("negated"))
          .node("Add", List.of("biased", "negated"), List.of("added"));
    }
    ActivationPatterns.add(builder, c.activation, "added", "y");
    return builder.model();
  }

  private static void check(Case c, Random random) throws OrtException {
    OnnxModel model = dense(c, random);
    byte[] before = model.toBytes();
    Map<String, Ort.Tensor> inputs = new HashMap<>();
    inputs.put("x", Ort.Tensor.random(c.shape(c.inputs)));
    if (c.residual) {
      inputs.put("z", Ort.Tensor.random(c.shape(c.outputs)));
    }
    String name =
        SparseFunctions.name(
            c.form == Form.MATMUL_LEFT
                ? SparseFunctions.Product.MATRIX_ON_THE_LEFT
                : SparseFunctions.Product.MATRIX,
            c.residual,
            c.activation);
    SparseOperators.Outcome outcome = SparseOperators.rewrite(model, layer -> true);
    assertEquals(Map.of("layer", "taco4j." + name), outcome.rewritten(), outcome.toString());
    try (OrtSession dense = SparseSessions.open(before, 1, false);
        OrtSession sparse = SparseSessions.open(model.toBytes(), 2);
        OrtSession without = SparseSessions.open(model.toBytes(), 1, false)) {
      Ort.Tensor expected = SparseSessions.run(dense, inputs);
      SparseConvGrid.assertClose(c + " as " + name, expected, SparseSessions.run(sparse, inputs));
      SparseConvGrid.assertClose(
          c + " as the function", expected, SparseSessions.run(without, inputs));
    }
  }

  /** A vector has no tokens. */
  private static void checkVector(boolean left) throws OrtException {
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", 5)
            .output("y", 3)
            .random("w", left ? 3 : 5, left ? 5 : 3)
            .random("b", 3)
            .node("layer", "MatMul", left ? List.of("w", "x") : List.of("x", "w"), List.of("plain"))
            .node("Add", List.of("plain", "b"), List.of("y"));
    OnnxModel model = builder.model();
    byte[] before = model.toBytes();
    Map<String, Ort.Tensor> inputs = Map.of("x", Ort.Tensor.random(5));
    assertEquals(1, SparseOperators.rewrite(model, layer -> true).rewritten().size());
    try (OrtSession dense = SparseSessions.open(before, 1, false);
        OrtSession sparse = SparseSessions.open(model.toBytes(), 1)) {
      SparseConvGrid.assertClose(
          "vector", SparseSessions.run(dense, inputs), SparseSessions.run(sparse, inputs));
    }
  }

  /** How many cases agree. */
  static int checkAll() throws OrtException {
    Random random = new Random(2);
    List<Case> cases = cases();
    for (Case c : cases) {
      check(c, random);
    }
    checkVector(false);
    checkVector(true);
    return cases.size() + 2;
  }
}
