package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.OperatorSetIdProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import ai.onnx.proto.OnnxMl.TensorShapeProto;
import ai.onnx.proto.OnnxMl.TypeProto;
import ai.onnx.proto.OnnxMl.ValueInfoProto;
import com.google.protobuf.ByteString;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;

/** Builds small ONNX models for tests. Dimensions of -1 are symbolic. */
public final class ModelBuilder {
  private final ModelProto.Builder model = ModelProto.newBuilder().setProducerName("test");
  private final GraphProto.Builder graph = GraphProto.newBuilder().setName("test");
  private final Random random = new Random(7);

  /** A model of that default opset and IR version 8. */
  public ModelBuilder(int opset) {
    model
        .setIrVersion(8)
        .addOpsetImport(OperatorSetIdProto.newBuilder().setDomain("").setVersion(opset));
  }

  /** Sets another IR version. */
  public ModelBuilder irVersion(int version) {
    model.setIrVersion(version);
    return this;
  }

  /** Adds another operator domain. */
  public ModelBuilder domain(String domain, int version) {
    model.addOpsetImport(OperatorSetIdProto.newBuilder().setDomain(domain).setVersion(version));
    return this;
  }

  /** A FLOAT input. */
  public ModelBuilder input(String name, long... dims) {
    graph.addInput(info(name, dims));
    return this;
  }

  /** A FLOAT input without a shape. */
  public ModelBuilder inputOfUnknownRank(String name) {
    graph.addInput(infoOfUnknownRank(name));
    return this;
  }

  /** A FLOAT output. */
  public ModelBuilder output(String name, long... dims) {
    graph.addOutput(info(name, dims));
    return this;
  }

  /** A FLOAT output without a shape. */
  public ModelBuilder outputOfUnknownRank(String name) {
    graph.addOutput(infoOfUnknownRank(name));
    return this;
  }

  /** A value_info entry for a FLOAT tensor. */
  public ModelBuilder valueInfo(String name, long... dims) {
    graph.addValueInfo(info(name, dims));
    return this;
  }

  /** A FLOAT initializer. */
  public ModelBuilder floats(String name, long[] dims, float... values) {
    graph.addInitializer(tensor(name, dims, values));
    return this;
  }

  /** A FLOAT initializer of normally distributed values. */
  public ModelBuilder random(String name, long... dims) {
    float[] values = new float[(int) Arrays.stream(dims).reduce(1, (a, b) -> a * b)];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return floats(name, dims, values);
  }

  /** A FLOAT initializer of values between 0.5 and 1.5, such as variances. */
  public ModelBuilder positive(String name, long... dims) {
    float[] values = new float[(int) Arrays.stream(dims).reduce(1, (a, b) -> a * b)];
    for (int i = 0; i < values.length; i++) {
      values[i] = 0.5f + random.nextFloat();
    }
    return floats(name, dims, values);
  }

  /** A 1-D INT64 initializer. */
  public ModelBuilder longs(String name, long... values) {
    TensorProto.Builder tensor =
        TensorProto.newBuilder()
            .setName(name)
            .setDataType(DataType.INT64_VALUE)
            .addDims(values.length);
    Arrays.stream(values).forEach(tensor::addInt64Data);
    graph.addInitializer(tensor);
    return this;
  }

  /** Any initializer. */
  public ModelBuilder initializer(TensorProto tensor) {
    graph.addInitializer(tensor);
    return this;
  }

  /** An unnamed node of the default domain. */
  public ModelBuilder node(
      String opType, List<String> inputs, List<String> outputs, AttributeProto... attributes) {
    return node("", opType, inputs, outputs, attributes);
  }

  /** A node of the default domain. */
  public ModelBuilder node(
      String name,
      String opType,
      List<String> inputs,
      List<String> outputs,
      AttributeProto... attributes) {
    return node(
        NodeProto.newBuilder()
            .setName(name)
            .setOpType(opType)
            .addAllInput(inputs)
            .addAllOutput(outputs)
            .addAllAttribute(List.of(attributes))
            .build());
  }

  /** Any node. */
  public ModelBuilder node(NodeProto node) {
    graph.addNode(node);
    return this;
  }

  /** An integer attribute. */
  public static AttributeProto attribute(String name, long value) {
    return AttributeProto.newBuilder()
        .setName(name)
        .setType(AttributeProto.AttributeType.INT)
        .setI(value)
        .build();
  }

  /** A float attribute. */
  public static AttributeProto attribute(String name, float value) {
    return AttributeProto.newBuilder()
        .setName(name)
        .setType(AttributeProto.AttributeType.FLOAT)
        .setF(value)
        .build();
  }

  /** An attribute of several integers. */
  public static AttributeProto attribute(String name, long[] values) {
    AttributeProto.Builder attribute =
        AttributeProto.newBuilder().setName(name).setType(AttributeProto.AttributeType.INTS);
    Arrays.stream(values).forEach(attribute::addInts);
    return attribute.build();
  }

  /** A text attribute. */
  public static AttributeProto attribute(String name, String value) {
    return AttributeProto.newBuilder()
        .setName(name)
        .setType(AttributeProto.AttributeType.STRING)
        .setS(ByteString.copyFromUtf8(value))
        .build();
  }

  /** A tensor attribute. */
  public static AttributeProto attribute(String name, TensorProto value) {
    return AttributeProto.newBuilder()
        .setName(name)
        .setType(AttributeProto.AttributeType.TENSOR)
        .setT(value)
        .build();
  }

  /** A graph attribute. */
  public static AttributeProto attribute(String name, GraphProto value) {
    return AttributeProto.newBuilder()
        .setName(name)
        .setType(AttributeProto.AttributeType.GRAPH)
        .setG(value)
        .build();
  }

  /** A FLOAT tensor stored as raw_data. */
  public static TensorProto tensor(String name, long[] dims, float... values) {
    ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(values);
    TensorProto.Builder tensor =
        TensorProto.newBuilder()
            .setName(name)
            .setDataType(DataType.FLOAT_VALUE)
            .setRawData(ByteString.copyFrom(bytes));
    Arrays.stream(dims).forEach(tensor::addDims);
    return tensor.build();
  }

  private static ValueInfoProto info(String name, long... dims) {
    TensorShapeProto.Builder shape = TensorShapeProto.newBuilder();
    for (int i = 0; i < dims.length; i++) {
      TensorShapeProto.Dimension.Builder dim = TensorShapeProto.Dimension.newBuilder();
      shape.addDim(dims[i] < 0 ? dim.setDimParam("d" + i) : dim.setDimValue(dims[i]));
    }
    ValueInfoProto.Builder info = infoOfUnknownRank(name).toBuilder();
    info.getTypeBuilder().getTensorTypeBuilder().setShape(shape);
    return info.build();
  }

  private static ValueInfoProto infoOfUnknownRank(String name) {
    return ValueInfoProto.newBuilder()
        .setName(name)
        .setType(
            TypeProto.newBuilder()
                .setTensorType(TypeProto.Tensor.newBuilder().setElemType(DataType.FLOAT_VALUE)))
        .build();
  }

  /** The graph, such as for an attribute. */
  public GraphProto graph() {
    return graph.build();
  }

  /** The model as protobuf. */
  public ModelProto proto() {
    return model.setGraph(graph).build();
  }

  /** Writes the model to a file. */
  public Path write(Path file) {
    try {
      return Files.write(file, proto().toByteArray());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The model, read from a temporary file. */
  public OnnxModel model() {
    try {
      Path file = Files.createTempFile("test", ".onnx");
      file.toFile().deleteOnExit();
      return OnnxModel.read(write(file));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
