package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.taco4j.onnx.ModelBuilder.attribute;

import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;

/**
 * Convolutions of all kinds through the operator library and through ONNX Runtime's own operators.
 * A process of its own for each instruction set, because the environment names it.
 */
final class SparseConvGrid {
  /**
   * Of the largest output: float sums of up to a few thousand terms in different orders differ by
   * about a millionth, and an error of indexing by about one.
   */
  private static final float TOLERANCE = 1e-5f;

  /**
   * One convolution.
   *
   * @param channels input channels
   * @param outputs output channels
   * @param pads top, left, bottom, right
   * @param sparsity share of zeros; 1 for none but zeros
   */
  private record Case(
      int batch,
      int channels,
      int outputs,
      int groups,
      int kernelHeight,
      int kernelWidth,
      int height,
      int width,
      int stride,
      int dilation,
      int[] pads,
      double sparsity,
      boolean residual,
      FusedActivation.Kind activation) {
    static Case of(int channels, int outputs, int kernel, int size) {
      int pad = kernel / 2;
      return new Case(
          1,
          channels,
          outputs,
          1,
          kernel,
          kernel,
          size,
          size,
          1,
          1,
          new int[] {pad, pad, pad, pad},
          0.8,
          false,
          FusedActivation.Kind.NONE);
    }

    Case batch(int n) {
      return new Case(
          n,
          channels,
          outputs,
          groups,
          kernelHeight,
          kernelWidth,
          height,
          width,
          stride,
          dilation,
          pads,
          sparsity,
          residual,
          activation);
    }

    Case groups(int n) {
      return new Case(
          batch,
          channels,
          outputs,
          n,
          kernelHeight,
          kernelWidth,
          height,
          width,
          stride,
          dilation,
          pads,
          sparsity,
          residual,
          activation);
    }

    Case kernel(int h, int w) {
      return new Case(
          batch,
          channels,
          outputs,
          groups,
          h,
          w,
          height,
          width,
          stride,
          dilation,
          pads,
          sparsity,
          residual,
          activation);
    }

    Case width(int w) {
      return new Case(
          batch,
          channels,
          outputs,
          groups,
          kernelHeight,
          kernelWidth,
          height,
          w,
          stride,
          dilation,
          pads,
          sparsity,
          residual,
          activation);
    }

    Case stride(int n) {
      return new Case(
          batch,
          channels,
          outputs,
          groups,
          kernelHeight,
          kernelWidth,
          height,
          width,
          n,
          dilation,
          pads,
          sparsity,
          residual,
          activation);
    }

    Case dilation(int n) {
      return new Case(
          batch,
          channels,
          outputs,
          groups,
          kernelHeight,
          kernelWidth,
          height,
          width,
          stride,
          n,
          pads,
          sparsity,
          residual,
          activation);
    }

    Case pads(int... tlbr) {
      return new Case(
          batch,
          channels,
          outputs,
          groups,
          kernelHeight,
          kernelWidth,
          height,
          width,
          stride,
          dilation,
          tlbr,
          sparsity,
          residual,
          activation);
    }

    Case sparsity(double s) {
      return new Case(
          batch,
          channels,
          outputs,
          groups,
          kernelHeight,
          kernelWidth,
          height,
          width,
          stride,
          dilation,
          pads,
          s,
          residual,
          activation);
    }

    Case adding() {
      return new Case(
          batch,
          channels,
          outputs,
          groups,
          kernelHeight,
          kernelWidth,
          height,
          width,
          stride,
          dilation,
          pads,
          sparsity,
          true,
          activation);
    }

    Case then(FusedActivation.Kind kind) {
      return new Case(
          batch,
          channels,
          outputs,
          groups,
          kernelHeight,
          kernelWidth,
          height,
          width,
          stride,
          dilation,
          pads,
          sparsity,
          residual,
          kind);
    }

    int outputSize(int size, int kernel, int before, int after) {
      return (size + before + after - (kernel - 1) * dilation - 1) / stride + 1;
    }

    long[] outputShape() {
      return new long[] {
        batch,
        outputs,
        outputSize(height, kernelHeight, pads[0], pads[2]),
        outputSize(width, kernelWidth, pads[1], pads[3])
      };
    }

    int weights() {
      return outputs * (channels / groups) * kernelHeight * kernelWidth;
    }
  }

  private SparseConvGrid() {}

  private static List<Case> cases() {
    List<Case> cases = new ArrayList<>();
    for (int kernel : new int[] {1, 3, 5, 7}) {
      for (int size : new int[] {1, 2, 7, 8, 14, 17, 28, 33}) {
        cases.add(Case.of(13, 11, kernel, size));
      }
      cases.add(Case.of(16, 32, kernel, 15).stride(2));
      cases.add(Case.of(16, 32, kernel, 16).stride(2));
      cases.add(Case.of(5, 3, kernel, 20).stride(3).dilation(2));
      cases.add(Case.of(6, 9, kernel, 21).dilation(2).pads(kernel, 0, 1, kernel / 2));
      cases.add(Case.of(12, 18, kernel, 9).groups(3));
      cases.add(Case.of(10, 10, kernel, 9).groups(10).sparsity(0.3));
      cases.add(Case.of(9, 6, kernel, 12).width(5).batch(2));
      cases.add(Case.of(9, 6, kernel, 8).width(41).stride(2));
    }
    // Depthwise: with all weights, with some, with more outputs than inputs.
    for (int kernel : new int[] {3, 5, 7}) {
      for (int size : new int[] {1, 7, 14, 15, 28, 57}) {
        for (int stride : new int[] {1, 2}) {
          Case c = Case.of(21, 21, kernel, size).groups(21).stride(stride).sparsity(0);
          cases.add(c);
          cases.add(c.sparsity(0.6).batch(3).adding().then(FusedActivation.Kind.CLIP));
        }
      }
      cases.add(Case.of(6, 18, kernel, 19).groups(6).sparsity(0.1));
      cases.add(Case.of(8, 8, kernel, 19).groups(8).sparsity(0).dilation(2));
      cases.add(Case.of(8, 8, kernel, 19).groups(8).sparsity(0).stride(2).pads(0, 0, 1, 1));
    }
    for (int batch : new int[] {2, 3, 4, 8, 16, 17}) {
      cases.add(Case.of(19, 8, 1, 7).batch(batch).adding().then(FusedActivation.Kind.RELU));
      cases.add(Case.of(8, 12, 3, 14).batch(batch).adding().then(FusedActivation.Kind.RELU));
      cases.add(Case.of(8, 12, 3, 7).batch(batch).stride(2));
    }
    for (FusedActivation.Kind activation : FusedActivation.Kind.values()) {
      for (int kernel : new int[] {1, 3}) {
        cases.add(Case.of(24, 20, kernel, 10).then(activation));
        cases.add(Case.of(24, 20, kernel, 10).adding().then(activation));
      }
    }
    for (double sparsity : new double[] {0, 0.5, 0.99, 1}) {
      cases.add(Case.of(64, 48, 1, 14).sparsity(sparsity));
      cases.add(Case.of(32, 48, 3, 14).sparsity(sparsity));
      cases.add(Case.of(32, 16, 3, 7).sparsity(sparsity).adding());
    }
    // Reductions long enough for tiles over input channels.
    cases.add(Case.of(1100, 70, 1, 7).sparsity(0.9).adding().then(FusedActivation.Kind.RELU));
    cases.add(Case.of(600, 33, 3, 7).sparsity(0.95));
    cases.add(Case.of(256, 64, 1, 56).sparsity(0.9).then(FusedActivation.Kind.RELU));
    cases.add(Case.of(64, 64, 3, 56).sparsity(0.9));
    cases.add(Case.of(64, 96, 3, 28).kernel(3, 1).pads(1, 0, 1, 0));
    cases.add(Case.of(64, 96, 3, 28).kernel(1, 7).pads(0, 3, 0, 3));
    // All of the image in the padding but one pixel.
    cases.add(Case.of(3, 4, 3, 1).pads(4, 4, 4, 4));
    return cases;
  }

  private static float[] weights(Case c, Random random) {
    float[] weights = new float[c.weights()];
    int row = weights.length / c.outputs;
    for (int i = 0; i < weights.length; i++) {
      // Every fifth row has no weights at all, unless it is about none being zero.
      boolean empty = c.sparsity > 0 && i / row % 5 == 4;
      float value = (float) random.nextGaussian();
      weights[i] = empty || random.nextDouble() < c.sparsity ? 0 : value;
    }
    return weights;
  }

  private static OnnxModel dense(Case c, Random random) {
    ModelBuilder builder =
        new ModelBuilder(17)
            .input("x", -1, c.channels, -1, -1)
            .output("y", -1, c.outputs, -1, -1)
            .floats(
                "w",
                new long[] {c.outputs, c.channels / c.groups, c.kernelHeight, c.kernelWidth},
                weights(c, random))
            .random("b", c.outputs)
            .node(
                "conv",
                "Conv",
                List.of("x", "w", "b"),
                List.of(c.residual ? "convolved" : "added"),
                attribute("strides", new long[] {c.stride, c.stride}),
                attribute("dilations", new long[] {c.dilation, c.dilation}),
                attribute("pads", new long[] {c.pads[0], c.pads[1], c.pads[2], c.pads[3]}),
                attribute("group", c.groups));
    if (c.residual) {
      builder.input("z", c.outputShape());
      // A residual has to be computed for the rewrite to take it: a constant would be a bias.
      builder.node("Neg", List.of("z"), List.of("negated"));
      builder.node("Add", List.of("negated", "convolved"), List.of("added"));
    }
    ActivationPatterns.add(builder, c.activation, "added", "y");
    return builder.model();
  }

  private static void check(Case c, Random random) throws OrtException {
    OnnxModel model = dense(c, random);
    byte[] before = model.toBytes();
    Map<String, Ort.Tensor> inputs = new HashMap<>();
    inputs.put("x", Ort.Tensor.random(c.batch, c.channels, c.height, c.width));
    if (c.residual) {
      inputs.put("z", Ort.Tensor.random(c.outputShape()));
    }
    SparseOperators.Outcome outcome = SparseOperators.rewrite(model, layer -> true);
    String name =
        SparseFunctions.name(SparseFunctions.Product.CONVOLUTION, c.residual, c.activation);
    assertTrue(outcome.rewritten().get("conv").startsWith("taco4j.SparseConv"), outcome.toString());
    try (OrtSession dense = SparseSessions.open(before, 1, false);
        OrtSession sparse = SparseSessions.open(model.toBytes(), 2);
        OrtSession without = SparseSessions.open(model.toBytes(), 1, false)) {
      Ort.Tensor expected = SparseSessions.run(dense, inputs);
      assertArrayEquals(c.outputShape(), expected.shape(), c.toString());
      assertClose(c + " as " + name, expected, SparseSessions.run(sparse, inputs));
      assertClose(c + " as the function", expected, SparseSessions.run(without, inputs));
    }
  }

  static void assertClose(String what, Ort.Tensor expected, Ort.Tensor actual) {
    assertArrayEquals(expected.shape(), actual.shape(), what);
    double largest = 0;
    double error = 0;
    for (int i = 0; i < expected.values().length; i++) {
      largest = Math.max(largest, Math.abs(expected.values()[i]));
      double difference = Math.abs(expected.values()[i] - actual.values()[i]);
      assertFalse(Double.isNaN(difference), what);
      error = Math.max(error, difference);
    }
    assertTrue(error <= TOLERANCE * Math.max(largest, 1), what + ": " + error + " of " + largest);
  }

  /** NaN and infinities go where IEEE 754 sends them through weights that are kept. */
  private static void checkNotFinite() throws OrtException {
    for (int kernel : new int[] {1, 3}) {
      for (int size : new int[] {7, 14, 30}) {
        // All weights kept, so that ONNX Runtime multiplies exactly the same numbers.
        Case c = Case.of(17, 12, kernel, size).sparsity(0);
        OnnxModel model = dense(c, new Random(3));
        byte[] before = model.toBytes();
        Ort.Tensor x = Ort.Tensor.random(1, c.channels, size, size);
        float[] odd = {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY};
        for (int i = 0; i < 9; i++) {
          x.values()[(i * 7919 + 13) % x.values().length] = odd[i % 3];
        }
        SparseOperators.rewrite(model, layer -> true);
        try (OrtSession dense = SparseSessions.open(before, 1, false);
            OrtSession sparse = SparseSessions.open(model.toBytes(), 1)) {
          Ort.Tensor expected = SparseSessions.run(dense, Map.of("x", x));
          Ort.Tensor actual = SparseSessions.run(sparse, Map.of("x", x));
          int notFinite = 0;
          for (int i = 0; i < expected.values().length; i++) {
            float value = expected.values()[i];
            if (!Float.isFinite(value)) {
              assertEquals(value, actual.values()[i], c + " at " + i);
              notFinite++;
            } else {
              assertEquals(value, actual.values()[i], 1e-3f, c + " at " + i);
            }
          }
          assertTrue(notFinite > 0, "a case without NaN");
        }
      }
    }
  }

  /** A zero weight hides what it would multiply; an activation lets NaN through. */
  private static void checkHidden() throws OrtException {
    for (FusedActivation.Kind activation : FusedActivation.Kind.values()) {
      Case c = Case.of(2, 1, 1, 9).then(activation);
      ModelBuilder builder =
          new ModelBuilder(17)
              .input("x", 1, 2, 9, 9)
              .output("y", 1, 1, 9, 9)
              .floats("w", new long[] {1, 2, 1, 1}, 0, 1)
              .node("conv", "Conv", List.of("x", "w"), List.of("added"));
      ActivationPatterns.add(builder, activation, "added", "y");
      OnnxModel model = builder.model();
      SparseOperators.rewrite(model, layer -> true);
      Ort.Tensor x = Ort.Tensor.random(1, 2, 9, 9);
      x.values()[3] = Float.NaN;
      x.values()[4] = Float.POSITIVE_INFINITY;
      x.values()[81 + 40] = Float.NaN;
      try (OrtSession sparse = SparseSessions.open(model.toBytes(), 1)) {
        float[] y = SparseSessions.run(sparse, Map.of("x", x)).values();
        for (int i = 0; i < y.length; i++) {
          assertEquals(i == 40, Float.isNaN(y[i]), c + " at " + i);
        }
      }
    }
  }

  public static void main(String[] arguments) throws OrtException {
    Random random = new Random(1);
    List<Case> cases = cases();
    for (Case c : cases) {
      check(c, random);
    }
    checkNotFinite();
    checkHidden();
    int products = SparseProductGrid.checkAll();
    System.out.println(cases.size() + " and " + products + " cases agree");
  }
}
