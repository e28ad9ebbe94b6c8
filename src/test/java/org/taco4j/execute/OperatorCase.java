package org.taco4j.execute;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;

/** A graph around one node, for {@link OperatorsTest}: built input by input, in node order. */
final class OperatorCase {
  final String operator;
  final int opset;
  final Map<String, Ort.Tensor> feeds = new LinkedHashMap<>();

  /** Float tensors by which the outputs have no gradient. */
  final Set<String> frozen = new HashSet<>();

  boolean differentiable = true;
  private final ModelBuilder graph;
  private final List<String> inputs = new ArrayList<>();
  private final List<AttributeProto> attributes = new ArrayList<>();
  private final Random random = new Random(3);
  private boolean castOutputs;
  private int outputs = 1;
  private int unread;
  private int count;

  private OperatorCase(String operator, int opset) {
    this.operator = operator;
    this.opset = opset;
    this.graph = new ModelBuilder(opset);
  }

  static OperatorCase op(String operator, int opset) {
    return new OperatorCase(operator, opset);
  }

  private String add(String prefix) {
    String name = prefix + count++;
    inputs.add(name);
    return name;
  }

  private static int size(long... dims) {
    return (int) Arrays.stream(dims).reduce(1, (a, b) -> a * b);
  }

  private String feed(float[] values, long... dims) {
    String name = "x" + count++;
    graph.input(name, dims);
    feeds.put(name, new Ort.Tensor(values, dims));
    return name;
  }

  private float[] normal(long... dims) {
    float[] values = new float[size(dims)];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /** A fed input of normally distributed numbers. */
  OperatorCase x(long... dims) {
    inputs.add(feed(normal(dims), dims));
    return this;
  }

  /** A fed input of those values. */
  OperatorCase values(long[] dims, float... values) {
    inputs.add(feed(values, dims));
    return this;
  }

  /** A fed input of numbers from 0.5 to 1.5. */
  OperatorCase positive(long... dims) {
    float[] values = new float[size(dims)];
    for (int i = 0; i < values.length; i++) {
      values[i] = 0.5f + random.nextFloat();
    }
    inputs.add(feed(values, dims));
    return this;
  }

  /** A fed input as numbers of another type. */
  OperatorCase typed(DataType type, long[] dims, float... values) {
    String name = feed(values, dims);
    frozen.add(name);
    graph.node(
        "Cast",
        List.of(name),
        List.of(add("cast")),
        ModelBuilder.attribute("to", (long) type.getNumber()));
    return this;
  }

  /** A fed input as truth values. */
  OperatorCase mask(long... dims) {
    return typed(DataType.BOOL, dims, round(normal(dims)));
  }

  private static float[] round(float[] values) {
    for (int i = 0; i < values.length; i++) {
      values[i] = Math.round(values[i]);
    }
    return values;
  }

  /** A float initializer. */
  OperatorCase w(long... dims) {
    graph.floats(add("w"), dims, normal(dims));
    return this;
  }

  /** A float initializer of those values. */
  OperatorCase w(long[] dims, float... values) {
    graph.floats(add("w"), dims, values);
    return this;
  }

  /** Statistics: positive numbers without a gradient. */
  OperatorCase statistics(long... dims) {
    String name = add("s");
    graph.positive(name, dims);
    frozen.add(name);
    return this;
  }

  /** A float number without a gradient, such as a bound. */
  OperatorCase number(float value) {
    String name = add("n");
    graph.floats(name, new long[0], value);
    frozen.add(name);
    return this;
  }

  /** Numbers without a gradient, such as scales of Resize. */
  OperatorCase numbers(float... values) {
    String name = add("n");
    graph.floats(name, new long[] {values.length}, values);
    frozen.add(name);
    return this;
  }

  /** A 1-D int64 initializer. */
  OperatorCase longs(long... values) {
    graph.longs(add("i"), values);
    return this;
  }

  /** An int64 initializer. */
  OperatorCase longs(long[] dims, long[] values) {
    TensorProto.Builder tensor =
        TensorProto.newBuilder().setName(add("i")).setDataType(DataType.INT64_VALUE);
    Arrays.stream(dims).forEach(tensor::addDims);
    Arrays.stream(values).forEach(tensor::addInt64Data);
    graph.initializer(tensor.build());
    return this;
  }

  /** An initializer of a small integer type. */
  OperatorCase codes(DataType type, long[] dims, int... values) {
    TensorProto.Builder tensor =
        TensorProto.newBuilder().setName(add("q")).setDataType(type.getNumber());
    Arrays.stream(dims).forEach(tensor::addDims);
    Arrays.stream(values).forEach(tensor::addInt32Data);
    graph.initializer(tensor.build());
    return this;
  }

  /** An input that is left out. */
  OperatorCase none() {
    inputs.add("");
    return this;
  }

  /** The first input once more. */
  OperatorCase again() {
    inputs.add(inputs.getFirst());
    return this;
  }

  OperatorCase a(String name, long value) {
    attributes.add(ModelBuilder.attribute(name, value));
    return this;
  }

  OperatorCase list(String name, long... values) {
    attributes.add(ModelBuilder.attribute(name, values));
    return this;
  }

  OperatorCase a(String name, float value) {
    attributes.add(ModelBuilder.attribute(name, value));
    return this;
  }

  OperatorCase a(String name, String value) {
    attributes.add(ModelBuilder.attribute(name, value));
    return this;
  }

  OperatorCase a(String name, TensorProto value) {
    attributes.add(ModelBuilder.attribute(name, value));
    return this;
  }

  /** All of them are compared. */
  OperatorCase outputs(int number) {
    outputs = number;
    return this;
  }

  /** Outputs after those that are compared; nobody reads them. */
  OperatorCase unread(int number) {
    unread = number;
    return this;
  }

  /** Outputs that are no floats: compared as floats, and without gradient. */
  OperatorCase cast() {
    castOutputs = true;
    return flat();
  }

  /** Outputs that are floats but piecewise constant, or whose gradient is not defined. */
  OperatorCase flat() {
    differentiable = false;
    return this;
  }

  OnnxModel model() {
    List<String> names = new ArrayList<>();
    for (int i = 0; i < outputs + unread; i++) {
      names.add("y" + i);
    }
    graph.node("node", operator, inputs, names, attributes.toArray(AttributeProto[]::new));
    for (String name : names.subList(0, outputs)) {
      if (castOutputs) {
        graph.node(
            "Cast",
            List.of(name),
            List.of("float_" + name),
            ModelBuilder.attribute("to", (long) DataType.FLOAT_VALUE));
      }
      graph.outputOfUnknownRank(castOutputs ? "float_" + name : name);
    }
    return graph.model();
  }

  @Override
  public String toString() {
    StringBuilder text = new StringBuilder(operator + "-" + opset);
    feeds.values().forEach(tensor -> text.append(" ").append(Arrays.toString(tensor.shape())));
    for (AttributeProto attribute : attributes) {
      String value =
          switch (attribute.getType()) {
            case INT -> "" + attribute.getI();
            case INTS -> attribute.getIntsList().toString();
            case FLOAT -> "" + attribute.getF();
            case STRING -> attribute.getS().toStringUtf8();
            default -> "…";
          };
      text.append(" ").append(attribute.getName()).append("=").append(value);
    }
    return text.toString();
  }
}
