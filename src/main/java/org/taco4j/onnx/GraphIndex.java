package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.SparseTensorProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.ValueInfoProto;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/**
 * Who writes and who reads each tensor of a model's main graph, and which tensors are constant. A
 * tensor that a subgraph of an If, Loop or Scan node captures counts as read by that node.
 */
public final class GraphIndex {
  /**
   * One reading of a tensor.
   *
   * @param node index of the reading node
   * @param input which of its inputs; -1 where a subgraph of the node captures the tensor
   */
  public record Use(int node, int input) {}

  /**
   * A constant as a node sees it through Identity and Transpose nodes.
   *
   * @param name of the initializer, or of the Constant node's output, at the start of the chain
   * @param tensor what is stored there
   * @param permutation of the stored axes to the axes that the node sees, as Transpose's perm
   * @param chain the tensors from the one that the node reads back to {@code name}
   * @param alteredBy operator on the way, or storage, that hides the plain values; null for a
   *     constant that can be read and written
   */
  public record Constant(
      String name,
      TensorProto tensor,
      List<Integer> permutation,
      List<String> chain,
      @Nullable String alteredBy) {

    /** The shape that the node sees. */
    public List<Long> dims() {
      return permutation.stream().map(tensor::getDims).toList();
    }
  }

  private final GraphProto graph;
  private final Map<String, Integer> producers;
  private final Map<String, List<Use>> uses;
  private final Map<String, Integer> initializers;
  private final Map<String, SparseTensorProto> sparse;
  private final Map<String, ValueInfoProto> infos;
  private final Set<String> outputs;
  private final Set<String> inputs;
  private final Set<String> dynamic;

  private GraphIndex(GraphProto graph, GraphIndex same) {
    this.graph = graph;
    producers = same.producers;
    uses = same.uses;
    initializers = same.initializers;
    sparse = same.sparse;
    infos = same.infos;
    outputs = same.outputs;
    inputs = same.inputs;
    dynamic = same.dynamic;
  }

  /** The index of a graph that differs from this one only in the values of constants. */
  GraphIndex with(GraphProto otherValues) {
    return new GraphIndex(otherValues, this);
  }

  GraphIndex(GraphProto graph) {
    this.graph = graph;
    producers = new HashMap<>();
    uses = new HashMap<>();
    initializers = new HashMap<>();
    sparse = new HashMap<>();
    infos = new HashMap<>();
    outputs = new LinkedHashSet<>();
    inputs = new LinkedHashSet<>();
    dynamic = new HashSet<>();
    for (int i = 0; i < graph.getInitializerCount(); i++) {
      initializers.put(graph.getInitializer(i).getName(), i);
    }
    for (SparseTensorProto tensor : graph.getSparseInitializerList()) {
      sparse.put(tensor.getValues().getName(), tensor);
    }
    for (ValueInfoProto info : graph.getValueInfoList()) {
      infos.put(info.getName(), info);
    }
    for (ValueInfoProto input : graph.getInputList()) {
      infos.put(input.getName(), input);
      if (!initializers.containsKey(input.getName()) && !sparse.containsKey(input.getName())) {
        inputs.add(input.getName());
      }
    }
    for (ValueInfoProto output : graph.getOutputList()) {
      infos.put(output.getName(), output);
      outputs.add(output.getName());
    }
    for (int i = 0; i < graph.getNodeCount(); i++) {
      NodeProto node = graph.getNode(i);
      for (String output : node.getOutputList()) {
        if (!output.isEmpty()) {
          producers.putIfAbsent(output, i);
        }
      }
      for (int k = 0; k < node.getInputCount(); k++) {
        addUse(node.getInput(k), new Use(i, k));
      }
      for (String captured : captured(node)) {
        addUse(captured, new Use(i, -1));
      }
    }
    List<String> open = new ArrayList<>(inputs);
    dynamic.addAll(inputs);
    for (int i = 0; i < graph.getNodeCount(); i++) {
      // Random numbers differ from run to run: no constant comes out of them.
      if (graph.getNode(i).getOpType().startsWith("Random")
          || Nodes.is(graph.getNode(i), "Multinomial")
          || Nodes.is(graph.getNode(i), "Bernoulli")) {
        markOutputs(graph.getNode(i), open);
      }
    }
    while (!open.isEmpty()) {
      for (Use use : uses(open.removeLast())) {
        markOutputs(graph.getNode(use.node), open);
      }
    }
  }

  private void markOutputs(NodeProto node, List<String> open) {
    for (String output : node.getOutputList()) {
      if (dynamic.add(output)) {
        open.add(output);
      }
    }
  }

  private void addUse(String tensor, Use use) {
    if (!tensor.isEmpty()) {
      uses.computeIfAbsent(tensor, t -> new ArrayList<>()).add(use);
    }
  }

  /** Names of outer tensors that the subgraphs of a node read. */
  static Set<String> captured(NodeProto node) {
    Set<String> names = new LinkedHashSet<>();
    for (AttributeProto attribute : node.getAttributeList()) {
      if (attribute.hasG()) {
        names.addAll(free(attribute.getG()));
      }
      for (GraphProto body : attribute.getGraphsList()) {
        names.addAll(free(body));
      }
    }
    return names;
  }

  private static Set<String> free(GraphProto body) {
    Set<String> read = new LinkedHashSet<>();
    Set<String> own = new HashSet<>(Set.of(""));
    body.getInputList().forEach(input -> own.add(input.getName()));
    body.getInitializerList().forEach(tensor -> own.add(tensor.getName()));
    body.getSparseInitializerList().forEach(tensor -> own.add(tensor.getValues().getName()));
    for (NodeProto node : body.getNodeList()) {
      read.addAll(node.getInputList());
      read.addAll(captured(node));
      own.addAll(node.getOutputList());
    }
    body.getOutputList().forEach(output -> read.add(output.getName()));
    read.removeAll(own);
    return read;
  }

  /** The graph. */
  public GraphProto graph() {
    return graph;
  }

  /** The i-th node in graph order. */
  public NodeProto node(int i) {
    return graph.getNode(i);
  }

  /** Index of the node that writes the tensor; -1 for inputs, initializers and unknown names. */
  public int producer(String tensor) {
    return producers.getOrDefault(tensor, -1);
  }

  /** All readings of the tensor by nodes, in graph order. */
  public List<Use> uses(String tensor) {
    return uses.getOrDefault(tensor, List.of());
  }

  /** Whether the tensor is an output of the model. */
  public boolean isOutput(String tensor) {
    return outputs.contains(tensor);
  }

  /** Names of the graph inputs that are fed at run time. */
  Set<String> inputs() {
    return inputs;
  }

  boolean isInitializer(String tensor) {
    return initializers.containsKey(tensor) || sparse.containsKey(tensor);
  }

  /** Index of an initializer in the graph; -1 for other tensors. */
  int initializer(String tensor) {
    return initializers.getOrDefault(tensor, -1);
  }

  /** Whether the tensor exists: somebody writes it, or it is an input or an initializer. */
  boolean exists(String tensor) {
    return producers.containsKey(tensor) || inputs.contains(tensor) || isInitializer(tensor);
  }

  /** Whether the tensor's values depend on what is fed at run time, or on chance. */
  public boolean isDynamic(String tensor) {
    return dynamic.contains(tensor);
  }

  /** Whether nothing but the reader of {@code uses(tensor)[0]} reads the tensor. */
  public boolean readOnce(String tensor) {
    return uses(tensor).size() == 1 && !isOutput(tensor);
  }

  /** Type and shape as declared by an input, an output or a value_info; null where nobody does. */
  @Nullable ValueInfoProto info(String tensor) {
    return infos.get(tensor);
  }

  /** The declared shape, -1 for dimensions that are not fixed; null where the rank is not known. */
  public long @Nullable [] shape(String tensor) {
    ValueInfoProto info = infos.get(tensor);
    if (info == null || !info.getType().getTensorType().hasShape()) {
      return null;
    }
    return info.getType().getTensorType().getShape().getDimList().stream()
        .mapToLong(dim -> dim.hasDimValue() ? dim.getDimValue() : -1)
        .toArray();
  }

  /** The tensor of an initializer or Constant node; null for others. */
  public @Nullable TensorProto stored(String tensor) {
    Integer initializer = initializers.get(tensor);
    if (initializer != null) {
      return graph.getInitializer(initializer);
    }
    int producer = producer(tensor);
    if (producer < 0 || !Nodes.is(node(producer), "Constant")) {
      return null;
    }
    return constantValue(node(producer));
  }

  private static @Nullable TensorProto constantValue(NodeProto node) {
    TensorProto.Builder tensor = TensorProto.newBuilder();
    for (AttributeProto attribute : node.getAttributeList()) {
      switch (attribute.getName()) {
        case "value" -> {
          return attribute.getT();
        }
        case "value_float" -> {
          return tensor.setDataType(TensorData.FLOAT).addFloatData(attribute.getF()).build();
        }
        case "value_floats" -> {
          return tensor
              .setDataType(TensorData.FLOAT)
              .addDims(attribute.getFloatsCount())
              .addAllFloatData(attribute.getFloatsList())
              .build();
        }
        case "value_int" -> {
          return tensor
              .setDataType(TensorProto.DataType.INT64_VALUE)
              .addInt64Data(attribute.getI())
              .build();
        }
        case "value_ints" -> {
          return tensor
              .setDataType(TensorProto.DataType.INT64_VALUE)
              .addDims(attribute.getIntsCount())
              .addAllInt64Data(attribute.getIntsList())
              .build();
        }
        default -> {}
      }
    }
    return null;
  }

  /**
   * The constant that a node sees as {@code tensor}; null where it is not constant, or computed
   * from constants by more than Identity, Transpose, Cast and (de)quantisation.
   */
  public @Nullable Constant constant(String tensor) {
    List<String> chain = new ArrayList<>();
    List<Integer> permutation = null;
    boolean reversed = false;
    String alteredBy = null;
    String name = tensor;
    while (true) {
      chain.add(name);
      TensorProto found = stored(name);
      SparseTensorProto notDense = sparse.get(name);
      if (found == null && notDense != null) {
        found =
            notDense.getValues().toBuilder().clearDims().addAllDims(notDense.getDimsList()).build();
        alteredBy = "a sparse initializer";
      }
      if (found != null) {
        int rank = found.getDimsCount();
        if (permutation == null) {
          permutation = IntStream.range(0, rank).boxed().toList();
          if (reversed) {
            permutation = permutation.reversed();
          }
        }
        return permutation.size() == rank
            ? new Constant(name, found, permutation, List.copyOf(chain), alteredBy)
            : null;
      }
      int producer = producer(name);
      if (producer < 0 || chain.size() > graph.getNodeCount()) {
        return null;
      }
      NodeProto node = node(producer);
      if (!Nodes.isDefaultDomain(node.getDomain()) || !node.getOutput(0).equals(name)) {
        return null;
      }
      switch (node.getOpType()) {
        case "Identity" -> {}
        case "Transpose" -> {
          List<Long> perm = Nodes.integers(node, "perm");
          if (perm == null) {
            // Without perm the axes are reversed, however many there are.
            if (permutation == null) {
              reversed = !reversed;
            } else {
              int last = permutation.size() - 1;
              permutation = permutation.stream().map(axis -> last - axis).toList();
            }
          } else {
            List<Integer> inner = perm.stream().map(Long::intValue).toList();
            List<Integer> outer =
                permutation != null
                    ? permutation
                    : IntStream.range(0, inner.size()).boxed().toList();
            if (permutation == null && reversed) {
              outer = outer.reversed();
            }
            if (outer.size() != inner.size()
                || !outer.stream().allMatch(axis -> axis >= 0 && axis < inner.size())) {
              return null;
            }
            permutation = outer.stream().map(inner::get).toList();
          }
        }
        case "Cast", "DequantizeLinear", "QuantizeLinear" ->
            alteredBy = alteredBy == null ? node.getOpType() : alteredBy;
        default -> {
          return null;
        }
      }
      if (node.getInputCount() == 0) {
        return null;
      }
      name = node.getInput(0);
    }
  }

  /**
   * Who else reads a constant, for people; null where only one reading, through the chain, leads to
   * it, so that it can be changed in place.
   */
  public @Nullable String otherReader(Constant constant, Use reader) {
    for (String tensor : constant.chain()) {
      if (isOutput(tensor)) {
        return "the model's output '" + tensor + "'";
      }
      for (Use use : uses(tensor)) {
        boolean onChain =
            node(use.node).getOutputList().stream().anyMatch(constant.chain()::contains);
        if (!use.equals(reader) && !onChain) {
          return use.node == reader.node
              ? "input " + use.input + " of the same node"
              : Nodes.label(node(use.node));
        }
      }
    }
    return null;
  }

  /** All names of tensors, those inside subgraphs included. */
  Set<String> names() {
    Set<String> names = new HashSet<>();
    addNames(graph, names);
    return names;
  }

  private static void addNames(GraphProto graph, Set<String> names) {
    graph.getInputList().forEach(input -> names.add(input.getName()));
    graph.getOutputList().forEach(output -> names.add(output.getName()));
    graph.getInitializerList().forEach(tensor -> names.add(tensor.getName()));
    graph.getSparseInitializerList().forEach(tensor -> names.add(tensor.getValues().getName()));
    for (NodeProto node : graph.getNodeList()) {
      names.addAll(node.getInputList());
      names.addAll(node.getOutputList());
      for (AttributeProto attribute : node.getAttributeList()) {
        if (attribute.hasG()) {
          addNames(attribute.getG(), names);
        }
        attribute.getGraphsList().forEach(body -> addNames(body, names));
      }
    }
  }

  /** The nodes that the tensors need, going back no further than {@code given} tensors. */
  Set<Integer> needed(Iterable<String> tensors, Set<String> given) {
    Set<Integer> nodes = new HashSet<>();
    List<String> open = new ArrayList<>();
    tensors.forEach(open::add);
    while (!open.isEmpty()) {
      String tensor = open.removeLast();
      int producer = given.contains(tensor) ? -1 : producer(tensor);
      if (producer >= 0 && nodes.add(producer)) {
        open.addAll(reads(producer));
      }
    }
    return nodes;
  }

  /** All tensors of this graph that a node reads, captured ones included. */
  Set<String> reads(int node) {
    Set<String> names = new LinkedHashSet<>(node(node).getInputList());
    names.addAll(captured(node(node)));
    names.remove("");
    return names;
  }
}
