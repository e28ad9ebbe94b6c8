package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.FunctionProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.OperatorSetIdProto;
import ai.onnx.proto.OnnxMl.StringStringEntryProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorShapeProto;
import ai.onnx.proto.OnnxMl.TypeProto;
import ai.onnx.proto.OnnxMl.ValueInfoProto;
import com.google.protobuf.ByteString;
import com.google.protobuf.CodedInputStream;
import com.google.protobuf.WireFormat;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestOutputStream;
import java.security.MessageDigest;
import java.util.Collection;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.Sha256;

/**
 * An ONNX model in memory that can be edited. What is not edited is written back as it was, byte
 * for byte as far as protobuf allows. Not thread-safe while it is edited.
 */
public final class OnnxModel {
  private static final long FIRST_IR_WITH_FUNCTIONS = 8;

  private final String source;
  private ModelProto proto;

  /**
   * The file that the model came from, until the first edit; null where it was more than a file, or
   * had packed weights.
   */
  private @Nullable ByteString original;

  /** Bytes of the files that the model came from; negative for none. */
  private long bytesRead = -1;

  private @Nullable GraphIndex index;
  private LayerDiscovery.@Nullable Found found;

  private OnnxModel(String source, ModelProto proto, @Nullable ByteString original) {
    this.source = source;
    this.proto = proto;
    this.original = original;
  }

  /**
   * Reads a model, its external data files included. The files are mapped, not copied: they may be
   * replaced or deleted while the model is in use, but not changed in place.
   *
   * @throws org.taco4j.common.TacoException of kind MODEL: no such file, not an ONNX model,
   *     truncated, an external data file that is missing, too short, or outside the model's folder,
   *     an opset or IR version this project cannot handle, a NaN or infinite weight
   */
  public static OnnxModel read(Path file) {
    ModelReader.Content content = ModelReader.read(file);
    OnnxModel model = new OnnxModel(file.toString(), content.proto(), content.original());
    model.bytesRead = content.bytes();
    return model;
  }

  /**
   * A model that was built in memory.
   *
   * @param source what it is called in messages
   * @throws org.taco4j.common.TacoException of kind MODEL when it is not consistent
   */
  public static OnnxModel of(String source, ModelProto proto) {
    OnnxModel model = new OnnxModel(source, proto, null);
    model.check();
    return model;
  }

  /**
   * Writes the model; the file appears whole or not at all. Weights go to one external data file,
   * {@code <file name>.data}, where the model would exceed 2 GB as one file.
   *
   * @throws org.taco4j.common.TacoException of kind RUNTIME when the file system refuses
   */
  public void write(Path file) {
    write(file, ModelWriter.PROTOBUF_LIMIT);
  }

  /** {@link #write(Path)} with another limit, in bytes, for what one file may hold. */
  void write(Path file, long limit) {
    ByteString bytes = original;
    if (bytes != null && bytes.size() < limit) {
      AtomicFiles.write(file, bytes::writeTo);
    } else {
      ModelWriter.write(proto, file, limit);
    }
  }

  /** Bytes of the model as one protobuf, external data included: what {@link #write} would need. */
  public long sizeInBytes() {
    return original != null ? original.size() : ModelWriter.size(proto);
  }

  /**
   * Bytes of the model as it was read, external data included: fewer than {@link #sizeInBytes}
   * where its weights were packed. For a model that was not read, what it has now.
   */
  public long bytesRead() {
    return bytesRead >= 0 ? bytesRead : sizeInBytes();
  }

  /** An independent copy; weights that neither side changes are shared. */
  public OnnxModel copy() {
    return new OnnxModel(source, proto, original);
  }

  /** The model as one protobuf; only where {@link #sizeInBytes} is below 2 GB. */
  public byte[] toBytes() {
    if (sizeInBytes() > ModelWriter.PROTOBUF_LIMIT) {
      throw new IllegalStateException(
          source + ": " + sizeInBytes() + " bytes do not fit one protobuf; write it to a file");
    }
    return original != null ? original.toByteArray() : proto.toByteArray();
  }

  /** SHA-256 in hex over graph and weights, wherever those are stored. */
  public String sha256() {
    GraphProto graph = proto.getGraph();
    try {
      MessageDigest digest = Sha256.create();
      try (OutputStream out = new DigestOutputStream(OutputStream.nullOutputStream(), digest)) {
        // The weights one by one: together they may be more than one message can be.
        proto.toBuilder().setGraph(graph.toBuilder().clearInitializer()).build().writeTo(out);
        for (TensorProto tensor : graph.getInitializerList()) {
          tensor.writeTo(out);
        }
      }
      return HexFormat.of().formatHex(digest.digest());
    } catch (IOException e) {
      throw new IllegalStateException("a stream that takes everything", e);
    }
  }

  /** Where the model was read from, for messages. */
  public String source() {
    return source;
  }

  /** Version of the default operator set. */
  public int opset() {
    return ModelReader.opset(proto);
  }

  /** Version of the model format. */
  public long irVersion() {
    return proto.getIrVersion();
  }

  /** The inputs that are fed at run time: graph inputs that are no initializers. */
  public List<TensorInfo> inputs() {
    return proto.getGraph().getInputList().stream()
        .filter(input -> !index().isInitializer(input.getName()))
        .map(OnnxModel::tensorInfo)
        .toList();
  }

  /** The outputs. */
  public List<TensorInfo> outputs() {
    return proto.getGraph().getOutputList().stream().map(OnnxModel::tensorInfo).toList();
  }

  private static TensorInfo tensorInfo(ValueInfoProto info) {
    TypeProto type = info.getType();
    if (!type.hasTensorType()) {
      // SEQUENCE_TYPE and the like; VALUE_NOT_SET where the model leaves the type to inference.
      return new TensorInfo(info.getName(), type.getValueCase().name(), List.of(), false);
    }
    TypeProto.Tensor tensor = type.getTensorType();
    List<Long> shape =
        tensor.getShape().getDimList().stream()
            .map(dim -> dim.hasDimValue() && dim.getDimValue() >= 0 ? dim.getDimValue() : -1L)
            .toList();
    return new TensorInfo(
        info.getName(), TensorData.typeName(tensor.getElemType()), shape, tensor.hasShape());
  }

  /** The model's metadata properties. */
  public Map<String, String> metadata() {
    Map<String, String> metadata = new LinkedHashMap<>();
    for (StringStringEntryProto entry : proto.getMetadataPropsList()) {
      metadata.put(entry.getKey(), entry.getValue());
    }
    return metadata;
  }

  /** Sets one metadata property. */
  public void setMetadata(String key, String value) {
    ModelProto.Builder builder = proto.toBuilder();
    StringStringEntryProto entry =
        StringStringEntryProto.newBuilder().setKey(key).setValue(value).build();
    int at = 0;
    while (at < builder.getMetadataPropsCount()
        && !builder.getMetadataProps(at).getKey().equals(key)) {
      at++;
    }
    if (at < builder.getMetadataPropsCount()) {
      builder.setMetadataProps(at, entry);
    } else {
      builder.addMetadataProps(entry);
    }
    proto = builder.build();
    original = null;
  }

  /**
   * How many nodes of each operator the main graph has, by name; operators of other domains than
   * the default one are called {@code domain.Operator}.
   */
  public Map<String, Integer> operatorCounts() {
    Map<String, Integer> counts = new TreeMap<>();
    for (NodeProto node : proto.getGraph().getNodeList()) {
      counts.merge(Nodes.operator(node), 1, Integer::sum);
    }
    return counts;
  }

  /** Whether the model has operators of this project, for which there is a library. */
  public boolean hasSparseOperators() {
    return proto.getOpsetImportList().stream()
        .anyMatch(set -> set.getDomain().equals(Operators.SPARSE_DOMAIN));
  }

  /**
   * {@link #hasSparseOperators()} of a model file, of which the weights are not read; false for a
   * file that is no model.
   */
  public static boolean hasSparseOperators(Path file) {
    int operatorSet =
        ModelProto.OPSET_IMPORT_FIELD_NUMBER << 3 | WireFormat.WIRETYPE_LENGTH_DELIMITED;
    try (InputStream in = Files.newInputStream(file)) {
      CodedInputStream fields = CodedInputStream.newInstance(in);
      for (int tag = fields.readTag(); tag != 0; tag = fields.readTag()) {
        if (tag != operatorSet) {
          fields.skipField(tag);
        } else if (OperatorSetIdProto.parseFrom(fields.readByteArray())
            .getDomain()
            .equals(Operators.SPARSE_DOMAIN)) {
          return true;
        }
      }
      return false;
    } catch (IOException e) {
      return false; // Whoever loads it says what is wrong with it.
    }
  }

  /**
   * A copy that has the given intermediate tensors as outputs beside (or, without {@code
   * keepOutputs}, instead of) its own; nodes and weights that no output needs are left out. Its
   * inputs are those of this model, needed or not.
   *
   * @throws IllegalArgumentException for a tensor that no node writes
   */
  public OnnxModel withOutputs(Collection<String> tensors, boolean keepOutputs) {
    return withGraph(GraphCutter.withOutputs(index(), tensors, keepOutputs));
  }

  /**
   * Cuts the model: the part that computes {@code outputs} when the tensors in {@code inputs} are
   * given. Weights are shared with this model. An input that is not one of the model's has no
   * declared shape.
   *
   * @param inputs the given tensors with their ONNX element types (TensorProto.DataType numbers)
   * @throws IllegalArgumentException when the outputs need more than the inputs give
   */
  public OnnxModel subgraph(Map<String, Integer> inputs, Collection<String> outputs) {
    return withGraph(GraphCutter.subgraph(index(), inputs, outputs));
  }

  /**
   * Splits the nodes of the main graph into consecutive stages, one for each of the given tensors
   * in that order and one for the rest: stage i holds the nodes that tensor i needs and no earlier
   * stage has. Nodes that compute constants belong to no stage: {@link #subgraph} copies them to
   * where they are read. Nodes that no output needs are left out.
   *
   * @param tensors outputs of nodes, in graph order
   * @throws IllegalArgumentException for a tensor that no node computes from the model's inputs
   */
  public List<Stage> stages(List<String> tensors) {
    return GraphCutter.stages(index(), tensors);
  }

  /**
   * One part of a model that has been split.
   *
   * @param inputs tensors (no constants) that the part reads and does not compute itself
   * @param outputs tensors that it computes and that a later part, or the user of the model, reads,
   *     and the tensor that it was made for
   */
  public record Stage(List<String> inputs, List<String> outputs) {}

  private OnnxModel withGraph(GraphProto graph) {
    return new OnnxModel(source, proto.toBuilder().setGraph(graph).build(), null);
  }

  // What follows is for graph rewrites.

  /** Reading and writing relations of the graph as it is now. */
  public GraphIndex index() {
    if (index == null) {
      index = new GraphIndex(proto.getGraph());
    }
    return index;
  }

  /** The layers of the graph as it is now. */
  LayerDiscovery.Found found() {
    if (found == null) {
      found = LayerDiscovery.search(index());
    }
    return found;
  }

  /**
   * Checks that every tensor that a node reads exists, and that no two nodes write the same.
   *
   * @throws org.taco4j.common.TacoException of kind MODEL naming the node
   */
  public void check() {
    ModelReader.check(source, index());
  }

  /** Changes the graph; all at once, or not at all when {@code change} throws. */
  public void edit(Consumer<GraphProto.Builder> change) {
    GraphProto.Builder graph = proto.getGraph().toBuilder();
    change.accept(graph);
    proto = proto.toBuilder().setGraph(graph).build();
    original = null;
    index = null;
    found = null;
  }

  /** Takes over everything from an edited copy of this model. */
  public void adopt(OnnxModel edited) {
    proto = edited.proto;
    original = edited.original;
    index = null;
    found = null;
  }

  /**
   * Replaces the tensors of initializers or Constant nodes; another shape goes to the declaration
   * of an equally named graph input, too.
   *
   * @param tensors by the names of the constants that they replace
   * @throws IllegalArgumentException for a name that is no constant's
   */
  public void setConstants(Map<String, TensorProto> tensors) {
    GraphIndex before = index();
    Set<String> reshaped = new HashSet<>();
    for (Map.Entry<String, TensorProto> entry : tensors.entrySet()) {
      TensorProto old = before.stored(entry.getKey());
      if (old == null) {
        throw new IllegalArgumentException("no constant '" + entry.getKey() + "'");
      }
      if (!old.getDimsList().equals(entry.getValue().getDimsList())) {
        reshaped.add(entry.getKey());
      }
    }
    LayerDiscovery.Found layers = found;
    edit(
        graph -> {
          tensors.forEach(
              (name, tensor) -> {
                int initializer = before.initializer(name);
                if (initializer >= 0) {
                  graph.setInitializer(initializer, tensor.toBuilder().setName(name));
                } else {
                  int node = before.producer(name);
                  graph.setNode(node, constantNode(graph.getNode(node), tensor));
                }
              });
          for (int i = 0; i < graph.getInputCount(); i++) {
            String name = graph.getInput(i).getName();
            TensorProto tensor = tensors.get(name);
            if (tensor != null && reshaped.contains(name)) {
              graph.setInput(i, declare(name, tensor));
            }
          }
        });
    if (reshaped.isEmpty()) {
      // Layers know shapes and names, no values: what was found stays true.
      index = before.with(proto.getGraph());
      found = layers;
    }
  }

  /** {@link #setConstants} for one. */
  void setConstant(String name, TensorProto tensor) {
    setConstants(Map.of(name, tensor));
  }

  /**
   * Gives a node another tensor in place of one of its constant inputs: changes it where it is
   * stored, or adds one of the node's own where others read it, too.
   *
   * @param reader the node and which of its inputs
   * @param constant what it reads now
   * @param stored what to store instead, with axes as {@code constant} has them stored
   * @param suffix follows the constant's name in that of a new one
   * @return whether the constant was changed where it is stored
   */
  public boolean replaceConstant(
      GraphIndex.Use reader, GraphIndex.Constant constant, TensorProto stored, String suffix) {
    if (index().otherReader(constant, reader) == null) {
      setConstant(constant.name(), stored);
      return true;
    }
    String name =
        addConstant(
            constant.name() + "." + suffix, TensorData.transpose(stored, constant.permutation()));
    edit(
        graph ->
            graph.setNode(
                reader.node(),
                Nodes.withInput(graph.getNode(reader.node()), reader.input(), name)));
    return false;
  }

  private static NodeProto constantNode(NodeProto node, TensorProto tensor) {
    return node.toBuilder()
        .clearAttribute()
        .addAttribute(
            AttributeProto.newBuilder()
                .setName("value")
                .setType(AttributeProto.AttributeType.TENSOR)
                .setT(tensor))
        .build();
  }

  private static ValueInfoProto declare(String name, TensorProto tensor) {
    TensorShapeProto.Builder shape = TensorShapeProto.newBuilder();
    for (long dim : tensor.getDimsList()) {
      shape.addDim(TensorShapeProto.Dimension.newBuilder().setDimValue(dim));
    }
    return ValueInfoProto.newBuilder()
        .setName(name)
        .setType(
            TypeProto.newBuilder()
                .setTensorType(
                    TypeProto.Tensor.newBuilder()
                        .setElemType(tensor.getDataType())
                        .setShape(shape)))
        .build();
  }

  /**
   * Adds an initializer.
   *
   * @param name the wished name; a number follows where it is taken
   * @return the name it got
   */
  public String addConstant(String name, TensorProto tensor) {
    String unique = uniqueName(name);
    edit(
        graph -> {
          TensorProto named = tensor.toBuilder().setName(unique).build();
          graph.addInitializer(named);
          if (proto.getIrVersion() < 4) {
            // Before IR 4 every initializer is a graph input, too.
            graph.addInput(declare(unique, named));
          }
        });
    return unique;
  }

  /** A name for a tensor that no other has. */
  public String uniqueName(String wished) {
    Set<String> taken = index().names();
    String name = wished;
    for (int i = 2; taken.contains(name); i++) {
      name = wished + "_" + i;
    }
    return name;
  }

  /**
   * Adds model-local functions of one domain; those that the model has by that name already stay.
   * Functions need IR version 8, which the model gets where it has an older one.
   *
   * @param version of the domain's operators
   */
  public void addFunctions(String domain, int version, Collection<FunctionProto> functions) {
    ModelProto.Builder builder = proto.toBuilder();
    if (proto.getIrVersion() < 4) {
      // Before IR 4 every initializer is a graph input; from then on such a one is no constant.
      GraphProto.Builder graph = builder.getGraphBuilder();
      for (int i = graph.getInputCount() - 1; i >= 0; i--) {
        if (index().isInitializer(graph.getInput(i).getName())) {
          graph.removeInput(i);
        }
      }
    }
    builder.setIrVersion(Math.max(FIRST_IR_WITH_FUNCTIONS, proto.getIrVersion()));
    if (proto.getOpsetImportList().stream().noneMatch(set -> set.getDomain().equals(domain))) {
      builder.addOpsetImport(OperatorSetIdProto.newBuilder().setDomain(domain).setVersion(version));
    }
    for (FunctionProto function : functions) {
      boolean known =
          builder.getFunctionsList().stream()
              .anyMatch(
                  other ->
                      other.getDomain().equals(domain)
                          && other.getName().equals(function.getName()));
      if (!known) {
        builder.addFunctions(function.toBuilder().setDomain(domain));
      }
    }
    proto = builder.build();
    original = null;
    index = null;
    found = null;
  }

  /** Removes declared types and shapes of tensors (of no inputs and outputs). */
  public void forgetShapes(Set<String> tensors) {
    edit(
        graph -> {
          for (int i = graph.getValueInfoCount() - 1; i >= 0; i--) {
            if (tensors.contains(graph.getValueInfo(i).getName())) {
              graph.removeValueInfo(i);
            }
          }
        });
  }

  /** Removes those of the given constants that nothing reads any more. */
  public void dropUnused(Collection<String> constants) {
    GraphIndex now = index();
    Set<String> unused = new HashSet<>(constants);
    unused.removeIf(name -> !now.uses(name).isEmpty() || now.isOutput(name));
    edit(
        graph -> {
          for (int i = graph.getInitializerCount() - 1; i >= 0; i--) {
            if (unused.contains(graph.getInitializer(i).getName())) {
              graph.removeInitializer(i);
            }
          }
          for (int i = graph.getInputCount() - 1; i >= 0; i--) {
            if (unused.contains(graph.getInput(i).getName())) {
              graph.removeInput(i);
            }
          }
          for (int i = graph.getNodeCount() - 1; i >= 0; i--) {
            NodeProto node = graph.getNode(i);
            if (Nodes.is(node, "Constant") && unused.contains(node.getOutput(0))) {
              graph.removeNode(i);
            }
          }
        });
    forgetShapes(unused);
  }
}
