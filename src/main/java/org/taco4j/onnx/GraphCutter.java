package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TypeProto;
import ai.onnx.proto.OnnxMl.ValueInfoProto;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;

/** Takes parts out of a graph. */
final class GraphCutter {
  private GraphCutter() {}

  /** See {@link OnnxModel#withOutputs}. */
  static GraphProto withOutputs(GraphIndex index, Collection<String> tensors, boolean keepOutputs) {
    Set<String> outputs = new LinkedHashSet<>();
    if (keepOutputs) {
      index.graph().getOutputList().forEach(output -> outputs.add(output.getName()));
    }
    for (String tensor : tensors) {
      if (index.producer(tensor) < 0) {
        throw new IllegalArgumentException("no node writes the tensor '" + tensor + "'");
      }
      outputs.add(tensor);
    }
    List<ValueInfoProto> inputs =
        index.graph().getInputList().stream()
            .filter(input -> index.inputs().contains(input.getName()))
            .toList();
    return part(index, index.needed(outputs, Set.of()), inputs, outputs);
  }

  /** See {@link OnnxModel#subgraph}. */
  static GraphProto subgraph(
      GraphIndex index, Map<String, Integer> given, Collection<String> outputs) {
    for (String output : outputs) {
      if (index.producer(output) < 0 || given.containsKey(output)) {
        throw new IllegalArgumentException("'" + output + "' is nothing to compute here");
      }
    }
    Set<Integer> nodes = index.needed(outputs, given.keySet());
    for (int node : nodes) {
      for (String tensor : index.reads(node)) {
        if (index.inputs().contains(tensor) && !given.containsKey(tensor)) {
          throw new IllegalArgumentException(
              Nodes.label(index.node(node)) + " needs '" + tensor + "', which is not given");
        }
      }
    }
    List<ValueInfoProto> inputs = new ArrayList<>();
    given.forEach((name, type) -> inputs.add(input(index, name, type)));
    return part(index, nodes, inputs, new LinkedHashSet<>(outputs));
  }

  private static ValueInfoProto input(GraphIndex index, String name, int elementType) {
    ValueInfoProto declared = index.info(name);
    if (declared != null
        && index.inputs().contains(name)
        && declared.getType().getTensorType().getElemType() == elementType) {
      return declared;
    }
    return ValueInfoProto.newBuilder()
        .setName(name)
        .setType(
            TypeProto.newBuilder()
                .setTensorType(TypeProto.Tensor.newBuilder().setElemType(elementType)))
        .build();
  }

  private static GraphProto part(
      GraphIndex index, Set<Integer> nodes, List<ValueInfoProto> inputs, Set<String> outputs) {
    GraphProto whole = index.graph();
    GraphProto.Builder part =
        whole.toBuilder()
            .clearNode()
            .clearInitializer()
            .clearSparseInitializer()
            .clearInput()
            .clearOutput()
            .clearValueInfo()
            .clearQuantizationAnnotation();
    Set<String> given = new HashSet<>();
    inputs.forEach(input -> given.add(input.getName()));
    part.addAllInput(inputs);
    // An output may be an initializer itself.
    Set<String> read = new HashSet<>(outputs);
    Set<String> written = new HashSet<>();
    for (int i = 0; i < whole.getNodeCount(); i++) {
      if (nodes.contains(i)) {
        part.addNode(whole.getNode(i));
        read.addAll(index.reads(i));
        written.addAll(whole.getNode(i).getOutputList());
      }
    }
    read.removeAll(given);
    for (TensorProto tensor : whole.getInitializerList()) {
      if (read.contains(tensor.getName())) {
        part.addInitializer(tensor);
      }
    }
    whole.getSparseInitializerList().stream()
        .filter(tensor -> read.contains(tensor.getValues().getName()))
        .forEach(part::addSparseInitializer);
    for (ValueInfoProto input : whole.getInputList()) {
      if (index.isInitializer(input.getName()) && read.contains(input.getName())) {
        part.addInput(input);
      }
    }
    for (String output : outputs) {
      ValueInfoProto info = index.info(output);
      // Without a type the runtime infers it.
      part.addOutput(info != null ? info : ValueInfoProto.newBuilder().setName(output).build());
    }
    // Outputs of the whole that are inner tensors here keep their declared shape, too.
    Set<String> declared = new HashSet<>(outputs);
    Stream.concat(whole.getValueInfoList().stream(), whole.getOutputList().stream())
        .filter(info -> written.contains(info.getName()) && declared.add(info.getName()))
        .forEach(part::addValueInfo);
    whole.getQuantizationAnnotationList().stream()
        .filter(
            annotation ->
                written.contains(annotation.getTensorName())
                    || read.contains(annotation.getTensorName()))
        .forEach(part::addQuantizationAnnotation);
    return part.build();
  }

  /** See {@link OnnxModel#stages}. */
  static List<OnnxModel.Stage> stages(GraphIndex index, List<String> tensors) {
    List<String> ends = new ArrayList<>();
    index.graph().getOutputList().forEach(output -> ends.add(output.getName()));
    Set<String> wanted = new HashSet<>(ends);
    for (String tensor : tensors) {
      if (index.producer(tensor) < 0 || !index.isDynamic(tensor)) {
        throw new IllegalArgumentException(
            "no node computes '" + tensor + "' from the model's inputs");
      }
      wanted.add(tensor);
    }
    // The stage of each node; nodes that compute constants have none.
    int count = tensors.size() + 1;
    int[] stageOf = new int[index.graph().getNodeCount()];
    Arrays.fill(stageOf, -1);
    for (int stage = 0; stage < count; stage++) {
      List<String> goal = stage < tensors.size() ? List.of(tensors.get(stage)) : ends;
      for (int node : index.needed(goal, Set.of())) {
        if (stageOf[node] < 0 && isDynamic(index, node)) {
          stageOf[node] = stage;
        }
      }
    }
    List<Set<String>> inputs = new ArrayList<>();
    List<Set<String>> outputs = new ArrayList<>();
    for (int stage = 0; stage < count; stage++) {
      inputs.add(new LinkedHashSet<>());
      outputs.add(new LinkedHashSet<>());
    }
    for (int node = 0; node < stageOf.length; node++) {
      int stage = stageOf[node];
      if (stage < 0) {
        continue;
      }
      for (String tensor : index.reads(node)) {
        int producer = index.producer(tensor);
        int from = producer < 0 ? -1 : stageOf[producer];
        if (index.isDynamic(tensor) && from != stage) {
          inputs.get(stage).add(tensor);
          if (from >= 0) {
            outputs.get(from).add(tensor);
          }
        }
      }
      for (String tensor : index.node(node).getOutputList()) {
        if (wanted.contains(tensor)) {
          outputs.get(stage).add(tensor);
        }
      }
    }
    // Outputs of the model that are constants come with the rest.
    ends.stream()
        .filter(end -> index.producer(end) >= 0 && !index.isDynamic(end))
        .forEach(outputs.get(count - 1)::add);
    List<OnnxModel.Stage> stages = new ArrayList<>();
    for (int stage = 0; stage < count; stage++) {
      stages.add(
          new OnnxModel.Stage(List.copyOf(inputs.get(stage)), List.copyOf(outputs.get(stage))));
    }
    return stages;
  }

  private static boolean isDynamic(GraphIndex index, int node) {
    return index.node(node).getOutputList().stream().anyMatch(index::isDynamic);
  }
}
