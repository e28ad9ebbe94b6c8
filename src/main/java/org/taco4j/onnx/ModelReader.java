package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.OperatorSetIdProto;
import ai.onnx.proto.OnnxMl.SparseTensorProto;
import ai.onnx.proto.OnnxMl.StringStringEntryProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import com.google.protobuf.ByteString;
import com.google.protobuf.CodedInputStream;
import com.google.protobuf.UnsafeByteOperations;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;

/**
 * Reads model files and checks them. File and external data are mapped: tensors are views of the
 * mapping, so a model costs page cache, not heap. The mapping lives as long as a tensor refers to
 * it.
 */
final class ModelReader {
  /** The oldest default operator set whose operators mean what this package takes them to mean. */
  static final int OLDEST_OPSET = 7;

  /** The newest default operator set that ONNX Runtime 1.29 takes. */
  static final int NEWEST_OPSET = 26;

  /** The newest IR version that ONNX Runtime 1.29 takes. */
  static final int NEWEST_IR = 13;

  /** Operators whose float constants are weights, where an infinity is always damage. */
  private static final Set<String> WEIGHT_OPS =
      Set.of(
          "Conv",
          "ConvTranspose",
          "Gemm",
          "MatMul",
          "BatchNormalization",
          "LayerNormalization",
          "InstanceNormalization",
          "GroupNormalization",
          "PRelu",
          "Mul",
          "Div",
          "DequantizeLinear");

  /** Operators that hand a constant on to those that use it. */
  private static final Set<String> PASSING = Set.of("Identity", "Transpose", "Reshape", "Cast");

  /**
   * What came out of a file.
   *
   * @param proto with external data, and with packed weights as dense ones
   * @param original the file; null where {@code proto} is not what it says, as one of these two was
   *     in it
   * @param bytes of the model as it is stored, external data included
   */
  record Content(ModelProto proto, @Nullable ByteString original, long bytes) {}

  private final Path file;
  private final Map<String, MemorySegment> dataFiles = new HashMap<>();

  private ModelReader(Path file) {
    this.file = file;
  }

  static Content read(Path file) {
    return new ModelReader(file).read();
  }

  /** See {@link OnnxModel#check}. */
  static void check(String source, GraphIndex index) {
    new ModelReader(Path.of(source)).checkGraph(index);
  }

  // Unpacking gives back the same object where there is nothing to unpack.
  @SuppressWarnings("ReferenceEquality")
  private Content read() {
    ByteString bytes = UnsafeByteOperations.unsafeWrap(mapModel().asByteBuffer());
    ModelProto proto = parse(bytes);
    if (!proto.hasGraph() || proto.getGraph().getNodeCount() == 0) {
      throw error(
          proto.hasGraph()
              ? "the model's graph has no nodes"
              : "not an ONNX model: it holds no graph");
    }
    checkVersions(proto);
    GraphProto graph = mapTensors(proto.getGraph(), this::load);
    boolean external = !dataFiles.isEmpty();
    if (external) {
      proto = proto.toBuilder().setGraph(graph).build();
    }
    long stored = external ? ModelWriter.size(proto) : bytes.size();
    ModelProto unpacked = PackedWeights.unpack(file.toString(), proto);
    GraphIndex index = new GraphIndex(unpacked.getGraph());
    checkGraph(index);
    checkFinite(index);
    // The file of a model that came packed would write it packed, edited or not.
    return new Content(unpacked, external || unpacked != proto ? null : bytes, stored);
  }

  private MemorySegment mapModel() {
    if (Files.isDirectory(file)) {
      throw error("this is a folder; a model file is expected");
    }
    MemorySegment segment = map(file, "the model");
    if (segment.byteSize() == 0) {
      throw error("the file is empty");
    }
    if (segment.byteSize() > Integer.MAX_VALUE) {
      throw error(
          "the file has "
              + segment.byteSize()
              + " bytes, more than a protobuf can have (2 GiB); store the weights as external data");
    }
    return segment;
  }

  private MemorySegment map(Path path, String what) {
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
      return channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), Arena.ofAuto());
    } catch (NoSuchFileException e) {
      throw new TacoException(TacoException.Kind.MODEL, path + ": no such file (" + what + ")", e);
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.MODEL, path + ": cannot be read: " + e.getMessage(), e);
    }
  }

  private ModelProto parse(ByteString bytes) {
    CodedInputStream in = bytes.newCodedInput();
    in.enableAliasing(true);
    try {
      ModelProto proto = ModelProto.parseFrom(in);
      // An end-of-group tag in the middle of damaged bytes ends parsing early.
      in.checkLastTagWas(0);
      return proto;
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.MODEL,
          file + ": not an ONNX model, or truncated or corrupt: " + e.getMessage() + hint(bytes),
          e);
    }
  }

  private static String hint(ByteString bytes) {
    String start =
        bytes.substring(0, Math.min(bytes.size(), 64)).toString(StandardCharsets.ISO_8859_1);
    if (start.startsWith("version https://git-lfs")) {
      return " (this is a Git LFS pointer: fetch the file with 'git lfs pull')";
    }
    if (start.startsWith("PK")) {
      return " (this is a zip archive, such as PyTorch writes: export the model to ONNX first)";
    }
    return " (fetch the file again; a model of PyTorch becomes ONNX with torch.onnx.export)";
  }

  private void checkVersions(ModelProto proto) {
    if (proto.getIrVersion() > NEWEST_IR) {
      throw error(
          "IR version "
              + proto.getIrVersion()
              + " is newer than "
              + NEWEST_IR
              + ", the newest that the runtime takes; export the model with an older IR version");
    }
    int opset = opset(proto);
    if (opset == 0) {
      throw error("the model does not say which version of the ONNX operators it uses");
    }
    if (opset < OLDEST_OPSET || opset > NEWEST_OPSET) {
      throw error(
          "opset "
              + opset
              + " is not one of "
              + OLDEST_OPSET
              + " to "
              + NEWEST_OPSET
              + ", which the runtime takes; convert the model to one of them");
    }
  }

  /** Version of the default operator set; 0 where the model declares none. */
  static int opset(ModelProto proto) {
    for (OperatorSetIdProto opset : proto.getOpsetImportList()) {
      if (Nodes.isDefaultDomain(opset.getDomain())) {
        return Math.clamp(opset.getVersion(), 0, Integer.MAX_VALUE);
      }
    }
    return 0;
  }

  private void checkGraph(GraphIndex index) {
    GraphProto graph = index.graph();
    for (int i = 0; i < graph.getNodeCount(); i++) {
      NodeProto node = graph.getNode(i);
      if (node.getInputList().stream().limit(needed(node)).filter(name -> !name.isEmpty()).count()
              < needed(node)
          || node.getOutputCount() == 0) {
        throw error(
            Nodes.label(node)
                + " has the inputs "
                + node.getInputList()
                + " and the outputs "
                + node.getOutputList()
                + ", fewer than its operator needs");
      }
      for (String tensor : index.reads(i)) {
        if (!index.exists(tensor)) {
          throw error(
              Nodes.label(node) + " reads '" + tensor + "', which no node or initializer gives");
        }
      }
      for (String tensor : node.getOutputList()) {
        if (!tensor.isEmpty() && index.producer(tensor) != i) {
          throw error(
              Nodes.label(node) + " and another node both write the tensor '" + tensor + "'");
        }
      }
    }
    if (graph.getOutputCount() == 0) {
      throw error("the model's graph has no outputs");
    }
    graph.getOutputList().stream()
        .filter(output -> !index.exists(output.getName()))
        .findFirst()
        .ifPresent(
            output -> {
              throw error("no node writes the model's output '" + output.getName() + "'");
            });
  }

  /** How many inputs the operators that this package looks into have at least. */
  private static int needed(NodeProto node) {
    return switch (Nodes.operator(node)) {
      case "Conv",
          "Gemm",
          "MatMul",
          "Add",
          "Sub",
          "Mul",
          "Div",
          "Pow",
          "PRelu",
          "Reshape",
          "Gather" ->
          2;
      case "BatchNormalization" -> 5;
      default -> 0;
    };
  }

  /**
   * Refuses NaN in all float constants of the main graph, and infinity in those that are weights.
   */
  private void checkFinite(GraphIndex index) {
    GraphProto graph = index.graph();
    for (TensorProto tensor : graph.getInitializerList()) {
      checkFinite(index, tensor.getName(), "initializer", tensor);
    }
    for (NodeProto node : graph.getNodeList()) {
      TensorProto tensor =
          Nodes.is(node, "Constant") && node.getOutputCount() == 1
              ? index.stored(node.getOutput(0))
              : null;
      if (tensor != null) {
        checkFinite(index, node.getOutput(0), "constant", tensor);
      }
    }
  }

  private void checkFinite(GraphIndex index, String name, String what, TensorProto tensor) {
    TensorData.NotFinite found = TensorData.firstNotFinite(tensor);
    if (found == null) {
      return;
    }
    // Masks and bounds hold infinities on purpose: what Where, Clip, or an Add of a whole matrix
    // reads may have them.
    boolean bias = tensor.getDimsList().stream().filter(dim -> dim > 1).count() == 1;
    if (found.nan() || isWeight(index, name, bias)) {
      throw error(
          what
              + " '"
              + name
              + "' "
              + tensor.getDimsList()
              + " holds "
              + (found.nan() ? "NaN" : "an infinite value")
              + " at element "
              + found.index());
    }
  }

  private static boolean isWeight(GraphIndex index, String tensor, boolean bias) {
    for (GraphIndex.Use use : index.uses(tensor)) {
      NodeProto node = index.node(use.node());
      String operator = Nodes.operator(node);
      if (WEIGHT_OPS.contains(operator)
          || (bias && operator.equals("Add"))
          // By first inputs only: such a chain from a constant has no cycle, damaged or not.
          || (PASSING.contains(operator)
              && use.input() == 0
              && isWeight(index, node.getOutput(0), bias))) {
        return true;
      }
    }
    return false;
  }

  /** Checks one tensor's size and brings its external data in. */
  private TensorProto load(TensorProto tensor) {
    long expected = TensorData.rawBytes(tensor);
    if (tensor.getDataLocation() == TensorProto.DataLocation.EXTERNAL) {
      return external(tensor, expected);
    }
    boolean unknown = expected < 0 && TensorData.count(tensor.getDimsList()) >= 0;
    if (!unknown && tensor.hasRawData() && tensor.getRawData().size() != expected) {
      throw error(
          describe(tensor)
              + " holds "
              + tensor.getRawData().size()
              + " bytes in place of "
              + expected);
    }
    if (TensorData.isFloat(tensor.getDataType()) && !tensor.hasRawData()) {
      long values =
          switch (tensor.getDataType()) {
            case TensorProto.DataType.FLOAT_VALUE -> tensor.getFloatDataCount();
            case TensorProto.DataType.DOUBLE_VALUE -> tensor.getDoubleDataCount();
            default -> tensor.getInt32DataCount();
          };
      if (values != TensorData.count(tensor.getDimsList())) {
        throw error(describe(tensor) + " holds " + values + " values");
      }
    }
    return tensor;
  }

  private static String describe(TensorProto tensor) {
    return "the tensor '"
        + tensor.getName()
        + "' "
        + tensor.getDimsList()
        + " of type "
        + TensorData.typeName(tensor.getDataType());
  }

  private TensorProto external(TensorProto tensor, long expected) {
    Map<String, String> where = new HashMap<>();
    for (StringStringEntryProto entry : tensor.getExternalDataList()) {
      where.put(entry.getKey(), entry.getValue());
    }
    String location = where.getOrDefault("location", "");
    MemorySegment data = dataFiles.computeIfAbsent(location, at -> mapData(tensor, at));
    long offset = number(tensor, where, "offset", 0);
    long length = number(tensor, where, "length", expected);
    if (expected < 0 || length != expected || length > Integer.MAX_VALUE) {
      throw error(
          describe(tensor)
              + " has "
              + length
              + " bytes of external data"
              + (expected < 0 ? "" : " in place of " + expected));
    }
    if (offset < 0 || length < 0 || offset > data.byteSize() - length) {
      throw error(
          describe(tensor)
              + " lies at bytes "
              + offset
              + " to "
              + (offset + length)
              + " of '"
              + location
              + "', which has only "
              + data.byteSize());
    }
    return tensor.toBuilder()
        .clearDataLocation()
        .clearExternalData()
        .setRawData(UnsafeByteOperations.unsafeWrap(data.asSlice(offset, length).asByteBuffer()))
        .build();
  }

  private long number(TensorProto tensor, Map<String, String> where, String key, long otherwise) {
    String text = where.get(key);
    try {
      return text == null ? otherwise : Long.parseLong(text);
    } catch (NumberFormatException e) {
      throw error(describe(tensor) + ": external data " + key + " '" + text + "' is no number");
    }
  }

  /** Maps an external data file; it must be a file in or below the model's folder. */
  private MemorySegment mapData(TensorProto tensor, String location) {
    String problem = null;
    // Backslash and drive letter: a path that is harmless here may not be so elsewhere.
    String portable = location.replace('\\', '/');
    if (location.isEmpty()) {
      problem = "names no file";
    } else if (portable.startsWith("/") || portable.matches("[A-Za-z]:.*")) {
      problem = "names the absolute path '" + location + "'";
    } else if (List.of(portable.split("/")).contains("..")) {
      problem = "names '" + location + "', which leaves the model's folder";
    }
    if (problem == null) {
      try {
        Path real = file.toAbsolutePath().resolveSibling(location).toRealPath();
        Path folder = file.toAbsolutePath().resolveSibling("").toRealPath();
        if (!real.startsWith(folder)) {
          problem = "names '" + location + "', a link that leaves the model's folder";
        } else {
          return map(real, "external data of the model");
        }
      } catch (InvalidPathException e) {
        problem = "names '" + location + "', which is no file name";
      } catch (NoSuchFileException e) {
        throw new TacoException(
            TacoException.Kind.MODEL,
            file
                + ": the external data file '"
                + location
                + "' is missing; it belongs beside the model ("
                + describe(tensor)
                + ")",
            e);
      } catch (IOException e) {
        throw new TacoException(
            TacoException.Kind.MODEL,
            file + ": the external data file '" + location + "' cannot be read: " + e.getMessage(),
            e);
      }
    }
    throw error(describe(tensor) + ": its external data " + problem + ": refused");
  }

  private TacoException error(String message) {
    return TacoException.model(file + ": " + message);
  }

  /**
   * Applies {@code map} to all tensors of a graph, those in attributes and subgraphs included; the
   * same object comes back where nothing changes.
   */
  // Equality would compare all weights; identity is what the Javadoc promises.
  @SuppressWarnings("ReferenceEquality")
  static GraphProto mapTensors(GraphProto graph, UnaryOperator<TensorProto> map) {
    GraphProto.Builder builder = null;
    for (int i = 0; i < graph.getInitializerCount(); i++) {
      TensorProto mapped = map.apply(graph.getInitializer(i));
      if (mapped != graph.getInitializer(i)) {
        builder = builder == null ? graph.toBuilder() : builder;
        builder.setInitializer(i, mapped);
      }
    }
    for (int i = 0; i < graph.getSparseInitializerCount(); i++) {
      SparseTensorProto sparse = graph.getSparseInitializer(i);
      TensorProto values = map.apply(sparse.getValues());
      TensorProto indices = map.apply(sparse.getIndices());
      if (values != sparse.getValues() || indices != sparse.getIndices()) {
        builder = builder == null ? graph.toBuilder() : builder;
        builder.setSparseInitializer(
            i, sparse.toBuilder().setValues(values).setIndices(indices).build());
      }
    }
    for (int i = 0; i < graph.getNodeCount(); i++) {
      NodeProto mapped = mapTensors(graph.getNode(i), map);
      if (mapped != graph.getNode(i)) {
        builder = builder == null ? graph.toBuilder() : builder;
        builder.setNode(i, mapped);
      }
    }
    return builder == null ? graph : builder.build();
  }

  @SuppressWarnings("ReferenceEquality")
  private static NodeProto mapTensors(NodeProto node, UnaryOperator<TensorProto> map) {
    NodeProto.Builder builder = null;
    for (int i = 0; i < node.getAttributeCount(); i++) {
      AttributeProto attribute = node.getAttribute(i);
      AttributeProto.Builder changed = null;
      if (attribute.hasT()) {
        TensorProto mapped = map.apply(attribute.getT());
        if (mapped != attribute.getT()) {
          changed = attribute.toBuilder().setT(mapped);
        }
      }
      if (attribute.hasG()) {
        GraphProto mapped = mapTensors(attribute.getG(), map);
        if (mapped != attribute.getG()) {
          changed = (changed == null ? attribute.toBuilder() : changed).setG(mapped);
        }
      }
      for (int k = 0; k < attribute.getGraphsCount(); k++) {
        GraphProto mapped = mapTensors(attribute.getGraphs(k), map);
        if (mapped != attribute.getGraphs(k)) {
          changed = (changed == null ? attribute.toBuilder() : changed).setGraphs(k, mapped);
        }
      }
      if (changed != null) {
        builder = builder == null ? node.toBuilder() : builder;
        builder.setAttribute(i, changed);
      }
    }
    return builder == null ? node : builder.build();
  }
}
