package org.taco4j.execute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.taco4j.execute.OperatorCase.op;

import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;

/**
 * Every operator of the table: outputs against ONNX Runtime, gradients against central differences
 * in double.
 */
@SuppressWarnings("try")
class OperatorsTest {
  /**
   * Relative to the largest output: sums of at most a few hundred products in float32 differ by
   * their order, and vector forms of exp and erf by a few units in the last place.
   */
  private static final double TOLERANCE = 2e-6;

  /**
   * Half the distance of the two points. The difference quotient errs by h² f‴/6, some 1e-9, and by
   * rounding of 1e-16 · |f| / h, some 1e-9.
   */
  private static final double H = 1e-5;

  /** Ten times what is said at {@link #H}, relative to the largest gradient but at least 1. */
  private static final double GRADIENT_TOLERANCE = 1e-7;

  static List<OperatorCase> cases() {
    List<OperatorCase> cases = new ArrayList<>();
    activations(cases);
    arithmetic(cases);
    convolutionsAndPools(cases);
    matrices(cases);
    normalizations(cases);
    reductions(cases);
    indexing(cases);
    shapes(cases);
    resizing(cases);
    quantization(cases);
    return cases;
  }

  private static void activations(List<OperatorCase> cases) {
    for (String name : List.of("Relu", "Sigmoid", "Tanh", "Softsign", "Softplus")) {
      cases.add(op(name, 13).x(3, 17));
    }
    cases.add(op("HardSwish", 14).values(new long[] {7}, -4, -2.9f, -1, 0.1f, 1, 2.9f, 4));
    cases.add(op("Mish", 18).x(3, 17));
    cases.add(op("PRelu", 16).x(2, 3, 4, 5).w(3, 1, 1));
    cases.add(op("PRelu", 9).x(2, 3).w(3));
    cases.add(op("Gelu", 20).x(3, 17));
    cases.add(op("Gelu", 20).x(3, 17).a("approximate", "tanh"));
    cases.add(op("LeakyRelu", 16).x(3, 17));
    cases.add(op("LeakyRelu", 9).x(3, 17).a("alpha", 0.3f));
    cases.add(op("Elu", 9).x(3, 17).a("alpha", 1.5f));
    cases.add(op("Celu", 12).x(3, 17).a("alpha", 1.5f));
    cases.add(op("Selu", 9).x(3, 17));
    cases.add(op("HardSigmoid", 9).x(3, 17));
    cases.add(op("HardSigmoid", 14).x(3, 17).a("alpha", 1f / 6));
    for (String name : List.of("Softmax", "LogSoftmax")) {
      cases.add(op(name, 9).x(2, 3, 4));
      cases.add(op(name, 11).x(2, 3, 4).a("axis", 0));
      cases.add(op(name, 12).x(2, 3, 4).a("axis", -1));
      cases.add(op(name, 13).x(2, 3, 4).a("axis", 1));
      cases.add(op(name, 13).x(2, 3, 4));
    }
    cases.add(op("Clip", 9).x(3, 17).a("min", -0.5f).a("max", 0.7f));
    cases.add(op("Clip", 10).x(3, 17).a("min", 0f));
    cases.add(op("Clip", 13).x(3, 17).number(-0.5f).number(0.7f));
    cases.add(op("Clip", 11).x(3, 17).none().number(0.7f));
    cases.add(op("Clip", 12).x(3, 17));
    cases.add(op("Clip", 13).x(3, 17).number(0.7f).number(-0.5f).flat());
    cases.add(
        op("Clip", 13)
            .typed(DataType.INT64, new long[] {4}, -3, 0, 2, 9)
            .longs(new long[0], new long[] {-1})
            .longs(new long[0], new long[] {3})
            .cast());
    cases.add(op("Dropout", 10).x(3, 4).a("ratio", 0.3f));
    cases.add(op("Dropout", 13).x(3, 4).number(0.3f));
  }

  private static void arithmetic(List<OperatorCase> cases) {
    for (String name : List.of("Add", "Sub", "Mul")) {
      cases.add(op(name, 14).x(2, 3, 4).w(3, 1));
      cases.add(op(name, 9).x(4).x(3, 1));
    }
    cases.add(op("Div", 14).x(2, 3).positive(2, 1));
    long[] four = {4};
    cases.add(
        op("Div", 14)
            .typed(DataType.INT64, four, -7, 7, -6, 5)
            .typed(DataType.INT64, four, 2, -2, 4, 3)
            .cast());
    for (boolean truncated : new boolean[] {false, true}) {
      cases.add(
          op("Mod", 13)
              .typed(DataType.INT32, four, -7, 7, -6, 5)
              .typed(DataType.INT32, four, 2, -2, 4, 3)
              .a("fmod", truncated ? 1L : 0L)
              .cast());
    }
    cases.add(op("Mod", 13).x(5).positive(5).a("fmod", 1L).flat());
    cases.add(op("Pow", 13).positive(3, 4).w(4));
    cases.add(op("Pow", 12).x(3, 4).number(2));
    cases.add(op("Pow", 15).positive(3, 4).number(-0.5f));
    cases.add(
        op("Pow", 15)
            .typed(DataType.INT64, four, -2, 3, 0, 5)
            .typed(DataType.INT64, four, 2, 3, 2, 1)
            .cast());
    for (String name : List.of("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")) {
      int opset = name.endsWith("OrEqual") ? 16 : 13;
      cases.add(
          op(name, opset)
              .typed(DataType.INT64, four, 1, 2, 3, 4)
              .typed(DataType.INT64, four, 1, 3, 2, 4)
              .cast());
      cases.add(op(name, opset).x(3, 4).x(4).cast());
    }
    for (String name : List.of("And", "Or", "Xor")) {
      cases.add(op(name, 7 + 2).mask(3, 4).mask(4).cast());
    }
    cases.add(op("Not", 9).mask(3, 4).cast());
    cases.add(op("IsNaN", 13).values(new long[] {3}, 1, Float.NaN, Float.NEGATIVE_INFINITY).cast());
    for (String name : List.of("Abs", "Neg", "Exp", "Erf", "Sin", "Cos")) {
      cases.add(op(name, 13).x(3, 17));
    }
    for (String name : List.of("Sqrt", "Reciprocal", "Log")) {
      cases.add(op(name, 13).positive(3, 17));
    }
    for (String name : List.of("Floor", "Ceil", "Round", "Sign")) {
      cases.add(op(name, 13).values(new long[] {6}, -1.5f, -0.5f, 0, 0.5f, 1.5f, 2.2f).flat());
    }
    for (String name : List.of("Sum", "Min", "Max", "Mean")) {
      cases.add(op(name, 13).x(2, 3).x(3).w(2, 1));
      cases.add(op(name, 13).x(2, 3));
    }
    cases.add(op("Where", 16).mask(3, 4).x(3, 1).w(4));
    cases.add(
        op("Cast", 13)
            .values(new long[] {4}, -1.7f, 1.7f, 0, 3)
            .a("to", (long) DataType.INT32_VALUE)
            .cast());
    cases.add(op("CastLike", 15).values(new long[] {3}, -1.7f, 1.7f, 0).longs(1).cast());
  }

  private static void convolutionsAndPools(List<OperatorCase> cases) {
    cases.add(op("Conv", 11).x(2, 3, 6, 5).w(4, 3, 3, 2).w(4));
    cases.add(
        op("Conv", 11).x(1, 3, 7, 6).w(4, 3, 3, 3).list("pads", 1, 0, 2, 1).list("strides", 2, 1));
    cases.add(
        op("Conv", 11).x(1, 4, 7, 7).w(6, 2, 3, 3).w(6).a("group", 2).list("pads", 1, 1, 1, 1));
    cases.add(
        op("Conv", 11)
            .x(1, 4, 8, 8)
            .w(4, 1, 3, 3)
            .a("group", 4)
            .list("dilations", 2, 2)
            .list("pads", 2, 2, 2, 2));
    cases.add(op("Conv", 11).x(2, 3, 9).w(4, 3, 3).list("strides", 2).list("pads", 1, 2));
    cases.add(op("Conv", 11).x(1, 2, 4, 4, 4).w(2, 2, 2, 2, 2));
    for (String pad : List.of("SAME_UPPER", "SAME_LOWER", "VALID")) {
      cases.add(
          op("Conv", 11).x(1, 2, 7, 8).w(3, 2, 4, 3).list("strides", 2, 3).a("auto_pad", pad));
      cases.add(
          op("MaxPool", 12)
              .x(1, 2, 7, 8)
              .list("kernel_shape", 2, 3)
              .list("strides", 2, 3)
              .a("auto_pad", pad));
      cases.add(
          op("AveragePool", 11)
              .x(1, 2, 7, 8)
              .list("kernel_shape", 2, 3)
              .list("strides", 2, 3)
              .a("auto_pad", pad));
    }
    for (String pool : List.of("MaxPool", "AveragePool")) {
      for (long ceil : new long[] {0, 1}) {
        cases.add(
            op(pool, 11)
                .x(2, 2, 7, 8)
                .list("kernel_shape", 3, 3)
                .list("strides", 2, 2)
                .list("pads", 1, 1, 1, 1)
                .a("ceil_mode", ceil));
        cases.add(
            op(pool, 11)
                .x(1, 2, 6, 8)
                .list("kernel_shape", 3, 2)
                .list("strides", 2, 3)
                .list("pads", 0, 1, 1, 0)
                .a("ceil_mode", ceil));
        // The last window would begin behind the elements.
        cases.add(
            op(pool, 11)
                .x(1, 1, 5, 5)
                .list("kernel_shape", 2, 2)
                .list("strides", 3, 3)
                .a("ceil_mode", ceil));
      }
      cases.add(op(pool, 11).x(1, 2, 9).list("kernel_shape", 3).list("strides", 2));
      cases.add(op(pool, 11).x(1, 1, 4, 4, 4).list("kernel_shape", 2, 2, 2));
    }
    cases.add(op("MaxPool", 11).x(1, 2, 9, 9).list("kernel_shape", 3, 3).list("dilations", 2, 2));
    cases.add(
        op("AveragePool", 11)
            .x(1, 2, 7, 7)
            .list("kernel_shape", 3, 3)
            .list("strides", 2, 2)
            .list("pads", 1, 1, 1, 1)
            .a("count_include_pad", 1));
    cases.add(
        op("AveragePool", 19)
            .x(1, 2, 6, 6)
            .list("kernel_shape", 3, 3)
            .list("strides", 2, 2)
            .list("pads", 1, 0, 0, 1)
            .a("ceil_mode", 1)
            .a("count_include_pad", 1));
    cases.add(op("GlobalAveragePool", 9).x(2, 3, 4, 5));
    cases.add(op("GlobalAveragePool", 9).x(2, 3, 5));
    cases.add(op("GlobalMaxPool", 9).x(2, 3, 4, 5));
  }

  private static void matrices(List<OperatorCase> cases) {
    cases.add(op("MatMul", 13).x(2, 3, 4).w(4, 5));
    cases.add(op("MatMul", 9).x(2, 1, 3, 4).x(3, 4, 2));
    cases.add(op("MatMul", 13).x(4).w(4, 5));
    cases.add(op("MatMul", 13).x(2, 3, 4).w(4));
    cases.add(op("Gemm", 13).x(3, 4).w(4, 5).w(5));
    cases.add(op("Gemm", 11).x(4, 3).w(5, 4).a("transA", 1).a("transB", 1).a("alpha", 0.5f));
    cases.add(op("Gemm", 9).x(3, 4).w(4, 5).w(3, 1).a("beta", 0.3f).a("alpha", 2f));
    cases.add(op("Gemm", 13).x(3, 4).w(5, 4).number(0.7f).a("transB", 1));
    cases.add(op("Einsum", 12).x(2, 3, 4).w(2, 4, 5).a("equation", "bij, bjk -> bik"));
    cases.add(op("Einsum", 12).x(2, 3, 4).a("equation", "...ij->...ji"));
    cases.add(op("Einsum", 12).x(3, 4).w(4, 2).a("equation", "ij,jk"));
  }

  private static void normalizations(List<OperatorCase> cases) {
    cases.add(op("BatchNormalization", 9).x(2, 3, 4, 5).w(3).w(3).statistics(3).statistics(3));
    cases.add(
        op("BatchNormalization", 15)
            .x(4, 3)
            .w(3)
            .w(3)
            .statistics(3)
            .statistics(3)
            .a("epsilon", 0.1f));
    cases.add(
        op("BatchNormalization", 15)
            .x(4, 3, 5)
            .w(3)
            .w(3)
            .statistics(3)
            .statistics(3)
            .a("training_mode", 1)
            .unread(2));
    cases.add(op("LayerNormalization", 17).x(2, 3, 8).w(8).w(8));
    cases.add(op("LayerNormalization", 17).x(2, 3, 8).w(3, 8).a("axis", 1).a("epsilon", 0.01f));
    cases.add(op("InstanceNormalization", 9).x(2, 3, 4, 5).w(3).w(3).a("epsilon", 0.01f));
    cases.add(op("InstanceNormalization", 9).x(2, 3, 9).w(3).w(3));
    cases.add(op("GroupNormalization", 18).x(2, 6, 4, 3).w(3).w(3).a("num_groups", 3));
    cases.add(op("LpNormalization", 9).x(3, 5).a("p", 2));
    cases.add(op("LpNormalization", 9).x(3, 5).a("p", 1).a("axis", 0));
  }

  private static void reductions(List<OperatorCase> cases) {
    for (String name :
        List.of(
            "ReduceMean",
            "ReduceSum",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceLogSum",
            "ReduceLogSumExp")) {
      int since = name.equals("ReduceSum") ? 13 : 18;
      cases.add(op(name, 11).positive(2, 3, 4).list("axes", 0, -1).a("keepdims", 0));
      cases.add(op(name, 12).positive(2, 3, 4).list("axes", 1));
      cases.add(op(name, since).positive(2, 3, 4).longs(-1, 1).a("keepdims", 0));
      cases.add(op(name, since).positive(2, 3, 4));
      cases.add(op(name, since).positive(2, 3).longs().a("noop_with_empty_axes", 1));
    }
    for (String name : List.of("ReduceL1", "ReduceL2", "ReduceMean")) {
      cases.add(op(name, 18).x(2, 3).longs().a("noop_with_empty_axes", 1));
    }
    for (String name : List.of("ArgMax", "ArgMin")) {
      cases.add(op(name, 13).x(3, 5).cast());
      cases.add(
          op(name, 13)
              .values(new long[] {2, 4}, 1, 3, 3, 1, 2, 0, 2, 0)
              .a("axis", -1)
              .a("keepdims", 0)
              .a("select_last_index", 1)
              .cast());
      cases.add(op(name, 11).values(new long[] {2, 4}, 1, 3, 3, 1, 2, 0, 2, 0).a("axis", 1).cast());
    }
    cases.add(op("TopK", 11).x(3, 7).longs(4).unread(1));
    cases.add(op("TopK", 10).x(7, 3).longs(2).a("axis", 0).unread(1));
    cases.add(op("TopK", 11).x(3, 7).longs(4).a("largest", 0).outputs(2).cast());
    long[] first = {1};
    for (long exclusive : new long[] {0, 1}) {
      for (long reverse : new long[] {0, 1}) {
        cases.add(
            op("CumSum", 14)
                .x(3, 5)
                .longs(new long[0], first)
                .a("exclusive", exclusive)
                .a("reverse", reverse));
      }
    }
  }

  private static void indexing(List<OperatorCase> cases) {
    cases.add(op("Gather", 13).x(3, 4, 5).longs(new long[0], new long[] {-1}).a("axis", 1));
    cases.add(op("Gather", 11).x(3, 4).longs(new long[] {2, 2}, new long[] {0, -1, 2, 0}));
    cases.add(op("Gather", 9).x(3, 4).longs(3, 0).a("axis", 1));
    cases.add(
        op("GatherElements", 13)
            .x(3, 4)
            .longs(new long[] {3, 2}, new long[] {0, -1, 2, 1, 3, 3})
            .a("axis", 1));
    cases.add(op("GatherND", 13).x(3, 4, 5).longs(new long[] {2, 2}, new long[] {0, -1, 2, 1}));
    cases.add(
        op("GatherND", 12)
            .x(2, 4, 3)
            .longs(new long[] {2, 3, 1}, new long[] {0, -1, 2, 1, 1, 3})
            .a("batch_dims", 1));
    cases.add(op("ScatterND", 16).x(4, 3).longs(new long[] {2, 1}, new long[] {-1, 1}).x(2, 3));
    cases.add(
        op("ScatterND", 16)
            .x(4, 3)
            .longs(new long[] {3, 2}, new long[] {0, 1, 2, 2, 0, 1})
            .x(3)
            .a("reduction", "add"));
    cases.add(
        op("ScatterElements", 13)
            .x(3, 4)
            .longs(new long[] {1, 4}, new long[] {0, -1, 2, 1})
            .x(1, 4));
    cases.add(
        op("ScatterElements", 16)
            .x(3, 4)
            .longs(new long[] {3, 2}, new long[] {0, 0, 2, 1, 3, 3})
            .x(3, 2)
            .a("axis", 1)
            .a("reduction", "add"));
    cases.add(op("Slice", 9).x(4, 5).list("starts", 1, -3).list("ends", 3, 1000));
    cases.add(op("Slice", 9).x(4, 5).list("starts", 1).list("ends", -1).list("axes", 1));
    cases.add(op("Slice", 13).x(4, 5).longs(1, -3).longs(3, Long.MAX_VALUE));
    cases.add(
        op("Slice", 10).x(4, 7).longs(-1, 0).longs(Long.MIN_VALUE, 7).longs(1, 0).longs(-2, 2));
    cases.add(op("Slice", 13).x(4, 7).longs(5).longs(1).longs(-1).longs(-3));
    cases.add(op("Slice", 13).x(4, 7).longs(100).longs(-100).longs(1).longs(-1));
    cases.add(
        op("OneHot", 11)
            .longs(new long[] {2, 2}, new long[] {0, -1, 2, 5})
            .longs(4)
            .w(new long[] {2}, -1, 3)
            .a("axis", 1)
            .flat());
    cases.add(op("Trilu", 14).x(2, 4, 5));
    cases.add(op("Trilu", 14).x(4, 5).longs(new long[0], new long[] {-1}).a("upper", 0));
  }

  private static void shapes(List<OperatorCase> cases) {
    cases.add(op("Constant", 13).a("value", ModelBuilder.tensor("", new long[] {2}, 1, 2)).flat());
    cases.add(op("Constant", 13).a("value_float", 1.5f).flat());
    cases.add(op("Constant", 13).list("value_ints", 1, 2, 3).cast());
    cases.add(op("ConstantOfShape", 9).longs(2, 3).flat());
    cases.add(
        op("ConstantOfShape", 9)
            .longs(2, 3)
            .a(
                "value",
                TensorProto.newBuilder()
                    .setDataType(DataType.INT64_VALUE)
                    .addDims(1)
                    .addInt64Data(-7)
                    .build())
            .cast());
    cases.add(op("Identity", 13).x(2, 3));
    cases.add(op("Range", 11).number(1).number(4.5f).number(0.7f).flat());
    long[] none = {};
    cases.add(
        op("Range", 11)
            .longs(none, new long[] {9})
            .longs(none, new long[] {-1})
            .longs(none, new long[] {-4})
            .cast());
    cases.add(op("Shape", 13).x(2, 3, 4).cast());
    cases.add(op("Shape", 15).x(2, 3, 4).a("start", 1).a("end", -1).cast());
    cases.add(op("Shape", 15).x(2, 3, 4).a("start", -2).cast());
    cases.add(op("Size", 13).x(2, 3, 4).cast());
    cases.add(op("Reshape", 13).x(2, 3, 4).longs(0, -1, 2));
    cases.add(op("Reshape", 14).x(0, 3).longs(3, 0).a("allowzero", 1));
    cases.add(op("Flatten", 13).x(2, 3, 4));
    cases.add(op("Flatten", 11).x(2, 3, 4).a("axis", 3));
    cases.add(op("Flatten", 13).x(2, 3, 4).a("axis", 0));
    cases.add(op("Squeeze", 11).x(1, 3, 1).list("axes", -1));
    cases.add(op("Squeeze", 13).x(1, 3, 1).longs(0));
    cases.add(op("Squeeze", 13).x(1, 3, 1));
    cases.add(op("Unsqueeze", 11).x(3, 4).list("axes", -1, 0));
    cases.add(op("Unsqueeze", 13).x(3, 4).longs(3, 1));
    cases.add(op("Transpose", 13).x(2, 3, 4));
    cases.add(op("Transpose", 9).x(2, 3, 4).list("perm", 1, 2, 0));
    cases.add(op("Concat", 13).x(2, 3).x(2, 1).w(2, 2).a("axis", -1));
    cases.add(op("Split", 11).x(6, 2).list("split", 1, 5).outputs(2));
    cases.add(op("Split", 9).x(6, 2).outputs(3));
    cases.add(op("Split", 13).x(2, 7).longs(3, 4).a("axis", -1).outputs(2));
    cases.add(op("Split", 18).x(2, 7).a("num_outputs", 3).a("axis", 1).outputs(3));
    cases.add(op("Expand", 13).x(3, 1).longs(2, 1, 4));
    cases.add(op("Expand", 9).x(2, 3, 4).longs(1));
    cases.add(op("Tile", 13).x(2, 3).longs(2, 3));
    cases.add(op("Pad", 9).x(2, 3).list("pads", 1, 0, 0, 2).a("value", 1.5f));
    cases.add(op("Pad", 13).x(2, 3, 4).longs(0, 1, -1, 0, 2, 3).number(0.5f));
    cases.add(op("Pad", 11).x(1, 3, 4).longs(0, 2, 1, 0, 1, 3).none().a("mode", "reflect"));
    cases.add(op("Pad", 13).x(3, 4).longs(2, 1, 0, 3).a("mode", "edge"));
    cases.add(op("Pad", 18).x(2, 3, 4).longs(1, 2).none().longs(-1).a("mode", "edge"));
    cases.add(op("Pad", 19).x(3, 4).longs(2, 1, 0, 3).a("mode", "wrap"));
    cases.add(op("DepthToSpace", 13).x(2, 8, 3, 2).a("blocksize", 2));
    cases.add(op("DepthToSpace", 11).x(2, 8, 3, 2).a("blocksize", 2).a("mode", "CRD"));
    cases.add(op("SpaceToDepth", 13).x(2, 3, 4, 6).a("blocksize", 2));
  }

  private static void resizing(List<OperatorCase> cases) {
    cases.add(op("Upsample", 9).x(1, 2, 3, 4).numbers(1, 1, 2, 3));
    cases.add(op("Upsample", 9).x(1, 2, 3, 4).numbers(1, 1, 2, 2).a("mode", "linear"));
    cases.add(op("Resize", 10).x(1, 2, 3, 4).numbers(1, 1, 2, 0.5f));
    for (String rounding : List.of("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")) {
      for (String coordinates : List.of("half_pixel", "asymmetric", "align_corners")) {
        cases.add(
            op("Resize", 13)
                .x(1, 2, 5, 4)
                .none()
                .numbers(1, 1, 1.7f, 0.6f)
                .a("coordinate_transformation_mode", coordinates)
                .a("nearest_mode", rounding));
      }
    }
    for (String mode : List.of("linear", "cubic")) {
      for (String coordinates :
          List.of("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")) {
        cases.add(
            op("Resize", 13)
                .x(1, 2, 4, 5)
                .none()
                .none()
                .longs(1, 2, 7, 3)
                .a("coordinate_transformation_mode", coordinates)
                .a("mode", mode));
      }
    }
    cases.add(
        op("Resize", 13)
            .x(1, 1, 4, 5)
            .none()
            .numbers(1, 1, 2, 1.5f)
            .a("mode", "cubic")
            .a("cubic_coeff_a", -0.5f)
            .a("exclude_outside", 1));
    cases.add(
        op("Resize", 19)
            .x(1, 2, 4, 5)
            .none()
            .numbers(1.4f, 0.7f)
            .list("axes", 2, 3)
            .a("coordinate_transformation_mode", "half_pixel_symmetric")
            .a("mode", "linear"));
  }

  private static void quantization(List<OperatorCase> cases) {
    long[] shape = {2, 3};
    cases.add(
        op("DequantizeLinear", 13)
            .codes(DataType.INT8, shape, -128, 127, 0, 3, -4, 9)
            .w(new long[] {3}, 0.1f, 0.2f, 0.3f)
            .codes(DataType.INT8, new long[] {3}, 1, -2, 0));
    cases.add(
        op("DequantizeLinear", 13)
            .codes(DataType.INT8, shape, -128, 127, 0, 3, -4, 9)
            .w(new long[] {2}, 0.1f, 0.2f)
            .a("axis", 0));
    cases.add(
        op("DequantizeLinear", 10)
            .codes(DataType.UINT8, shape, 0, 255, 7, 3, 4, 9)
            .w(new long[0], 0.1f)
            .codes(DataType.UINT8, new long[0], 128));
    cases.add(
        op("QuantizeLinear", 13)
            .x(4, 3)
            .w(new long[] {3}, 0.01f, 0.02f, 0.5f)
            .codes(DataType.INT8, new long[] {3}, 1, -2, 0)
            .cast());
    cases.add(
        op("QuantizeLinear", 10)
            .x(4, 3)
            .w(new long[0], 0.01f)
            .codes(DataType.UINT8, new long[0], 128)
            .cast());
    cases.add(op("QuantizeLinear", 13).x(4, 3).w(new long[0], 0.25f).cast());
  }

  @Test
  void everyOperatorHasACase() {
    assertEquals(
        new TreeSet<>(OperatorTable.names()),
        cases().stream().map(c -> c.operator).collect(Collectors.toCollection(TreeSet::new)));
  }

  @ParameterizedTest
  @MethodSource("cases")
  void outputsAndGradientsAreRight(OperatorCase operatorCase) {
    OnnxModel model = operatorCase.model();
    Map<String, Ort.Tensor> expected = Ort.run(model.toBytes(), operatorCase.feeds);
    try (TorchGraph graph = TorchGraph.of(model);
        PointerScope scope = new PointerScope()) {
      Map<String, Tensor> feeds = new LinkedHashMap<>();
      operatorCase.feeds.forEach(
          (name, tensor) -> feeds.put(name, Tensors.of(tensor.values(), tensor.shape())));
      Map<String, Tensor> actual = graph.run(Map.of(), feeds, graph.outputs());
      expected.forEach((name, tensor) -> assertClose(name, tensor, actual.get(name)));
      if (operatorCase.differentiable) {
        assertGradients(graph, operatorCase, feeds);
      }
    }
  }

  private static void assertClose(String name, Ort.Tensor expected, Tensor actual) {
    assertArrayEquals(expected.shape(), Tensors.shape(actual), name);
    float largest = 0;
    for (float value : expected.values()) {
      largest = Math.max(largest, Math.abs(value));
    }
    assertArrayEquals(
        expected.values(), Tensors.floats(actual), (float) TOLERANCE * Math.max(largest, 1), name);
  }

  /** Gradients of a random weighting of all outputs by all float inputs and constants. */
  private static void assertGradients(
      TorchGraph graph, OperatorCase operatorCase, Map<String, Tensor> feeds) {
    Map<String, double[]> points = new LinkedHashMap<>();
    Map<String, Tensor> given = new LinkedHashMap<>();
    for (Map<String, Tensor> tensors : List.of(feeds, TorchGraphTest.floatConstants(graph))) {
      tensors.forEach(
          (name, tensor) -> {
            given.put(name, tensor.to(ScalarType.Double).clone());
            if (!operatorCase.frozen.contains(name)) {
              points.put(name, Tensors.doubles(tensor));
            }
          });
    }
    assertTrue(!points.isEmpty(), "nothing to differentiate by");
    List<Tensor> leaves = new ArrayList<>();
    points.keySet().forEach(name -> leaves.add(given.get(name).set_requires_grad(true)));
    List<Tensor> gradients = Tensors.gradients(weighted(graph, given), leaves);
    int at = 0;
    for (Map.Entry<String, double[]> point : points.entrySet()) {
      double[] gradient = Tensors.doubles(gradients.get(at++));
      double[] x = point.getValue();
      long[] shape = Tensors.shape(given.get(point.getKey()));
      double largest = 1;
      double[] quotient = new double[x.length];
      for (int i = 0; i < x.length; i++) {
        double old = x[i];
        x[i] = old + H;
        double above = at(graph, given, point.getKey(), x, shape);
        x[i] = old - H;
        double below = at(graph, given, point.getKey(), x, shape);
        x[i] = old;
        quotient[i] = (above - below) / (2 * H);
        largest = Math.max(largest, Math.abs(quotient[i]));
      }
      assertArrayEquals(quotient, gradient, GRADIENT_TOLERANCE * largest, point.getKey());
    }
  }

  private static double at(
      TorchGraph graph, Map<String, Tensor> given, String name, double[] x, long[] shape) {
    try (PointerScope scope = new PointerScope()) {
      Map<String, Tensor> moved = new LinkedHashMap<>(given);
      moved.put(name, Tensors.of(x, shape));
      return weighted(graph, moved).item_double();
    }
  }

  private static Tensor weighted(TorchGraph graph, Map<String, Tensor> given) {
    Random random = new Random(5);
    Tensor sum = Tensors.of(new double[] {0});
    for (Tensor output : graph.run(Map.of(), given, graph.outputs()).values()) {
      if (output.is_floating_point()) {
        double[] weights = random.doubles(output.numel(), -1, 1).toArray();
        sum = sum.add(output.mul(Tensors.of(weights, Tensors.shape(output))).sum());
      }
    }
    return sum;
  }
}
