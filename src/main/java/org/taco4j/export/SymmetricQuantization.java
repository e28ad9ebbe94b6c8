package org.taco4j.export;

import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import com.google.protobuf.ByteString;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.Predicate;
import org.taco4j.calibrate.ActivationRange;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;
import org.taco4j.onnx.Unfold;

/**
 * 8-bit activations in the form that TensorRT wants: a QuantizeLinear and a DequantizeLinear,
 * signed and with the zero point 0, in front of each layer whose weights are stored in 8 bits
 * ({@link WeightQuantization}). Operators stay what they are; TensorRT reads the pair before a
 * convolution or product and the DequantizeLinear of its weights as one operation on integers, and
 * moves pairs past what only chooses values. Where a convolution's result is added to a residual
 * stream, the other operand gets a pair too, so that the addition is fused behind the convolution.
 *
 * <p>It takes no unsigned bytes and no zero points but 0, so half of the codes of a tensor that is
 * never negative are not used: that is the price of the form.
 */
public final class SymmetricQuantization implements ActivationQuantization {

  /** An input of a node that reads a quantised tensor. */
  private record Reader(int node, int input) {}

  private final GraphIndex index;
  private final Map<String, String> rewritten = new LinkedHashMap<>();
  private final Map<String, String> floats = new LinkedHashMap<>();

  /** By the tensor that they read. */
  private final Map<String, List<Reader>> readers = new HashMap<>();

  private SymmetricQuantization(OnnxModel model) {
    this.index = model.index();
  }

  /**
   * What can be rewritten.
   *
   * @param model not changed
   * @param chosen the layers to rewrite, as far as their weights are 8 bits
   * @param empty tensors whose range is empty ({@link ActivationRange#isEmpty}), which get no pair
   * @throws org.taco4j.common.TacoException of kind MODEL for an opset before 13
   */
  public static SymmetricQuantization plan(
      OnnxModel model, Predicate<Layer> chosen, Set<String> empty) {
    WeightQuantization.requireOpset(model);
    SymmetricQuantization plan = new SymmetricQuantization(model);
    Set<Integer> additions = new HashSet<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      Optional<String> reason =
          chosen.test(layer)
              ? plan.whyNot(layer, empty).or(() -> IntegerWeights.whyNot(model, layer))
              : Optional.of("left out");
      if (reason.isPresent()) {
        plan.floats.put(layer.name(), reason.get());
      } else {
        plan.add(layer, empty, additions);
      }
    }
    return plan;
  }

  private Optional<String> whyNot(Layer layer, Set<String> empty) {
    if (layer.opType().equals("Conv")) {
      if (!(layer.unfold() instanceof Unfold.Convolution patches) || patches.oneDimensional()) {
        return Optional.of("only 2-D convolutions and products with a matrix are quantised");
      }
    } else if (!index.node(index.producer(layer.output())).getInput(0).equals(layer.input())) {
      return Optional.of("its weights are the left operand");
    }
    return empty.contains(layer.input())
        ? Optional.of(
            "'" + layer.input() + "' is 0 on all calibration images, which tells no range")
        : Optional.empty();
  }

  private void add(Layer layer, Set<String> empty, Set<Integer> additions) {
    rewritten.put(layer.name(), layer.opType() + " with Q/DQ");
    read(layer.input(), new Reader(index.producer(layer.output()), 0));
    String sum = layer.bias().map(Layer.BiasSource::node).orElse(layer.output());
    String other = layer.opType().equals("Conv") ? SparseOperators.residual(index, sum) : null;
    if (other == null || empty.contains(other)) {
      return;
    }
    // Where both operands are convolutions, one of them is enough.
    int addition = index.uses(sum).getFirst().node();
    if (additions.add(addition)) {
      read(other, new Reader(addition, index.node(addition).getInput(0).equals(other) ? 0 : 1));
    }
  }

  private void read(String tensor, Reader reader) {
    readers.computeIfAbsent(tensor, name -> new ArrayList<>()).add(reader);
  }

  @Override
  public Set<String> tensors() {
    Set<String> tensors = new LinkedHashSet<>();
    index.graph().getInputList().forEach(input -> addTo(tensors, input.getName()));
    for (NodeProto node : index.graph().getNodeList()) {
      node.getOutputList().forEach(output -> addTo(tensors, output));
    }
    return tensors;
  }

  private void addTo(Set<String> tensors, String tensor) {
    if (readers.containsKey(tensor)) {
      tensors.add(tensor);
    }
  }

  @Override
  public Outcome rewrite(OnnxModel target, Map<String, ActivationRange> ranges) {
    OnnxModel work = target.copy();
    Map<String, List<NodeProto>> pairs = new HashMap<>();
    Set<String> names = new HashSet<>();
    index.graph().getNodeList().forEach(node -> names.add(node.getName()));
    List<NodeProto> nodes = new ArrayList<>(index.graph().getNodeList());
    for (String tensor : tensors()) {
      ActivationRange range = Objects.requireNonNull(ranges.get(tensor), tensor);
      List<NodeProto> pair = pair(work, tensor, range.symmetricScale(), names);
      pairs.put(tensor, pair);
      for (Reader reader : Objects.requireNonNull(readers.get(tensor))) {
        nodes.set(
            reader.node(),
            Nodes.withInput(nodes.get(reader.node()), reader.input(), pair.getLast().getOutput(0)));
      }
    }
    List<NodeProto> ordered = new ArrayList<>();
    index
        .graph()
        .getInputList()
        .forEach(input -> ordered.addAll(pairs.getOrDefault(input.getName(), List.of())));
    for (NodeProto node : nodes) {
      ordered.add(node);
      node.getOutputList().forEach(output -> ordered.addAll(pairs.getOrDefault(output, List.of())));
    }
    work.edit(graph -> graph.clearNode().addAllNode(ordered));
    work.check();
    target.adopt(work);
    return new Outcome(Collections.unmodifiableMap(rewritten), Collections.unmodifiableMap(floats));
  }

  private static List<NodeProto> pair(
      OnnxModel work, String tensor, float step, Set<String> names) {
    String scale =
        work.addConstant(
            tensor + "_scale",
            TensorData.of("", TensorProto.DataType.FLOAT_VALUE, List.of(), new float[] {step}));
    String zeroPoint =
        work.addConstant(
            tensor + "_zero_point",
            TensorProto.newBuilder()
                .setDataType(TensorProto.DataType.INT8_VALUE)
                .setRawData(ByteString.copyFrom(new byte[1]))
                .build());
    String codes = work.uniqueName(tensor + "_quantized");
    String values = work.uniqueName(tensor + "_dequantized");
    return List.of(
        Nodes.of("QuantizeLinear", codes, tensor, scale, zeroPoint)
            .setName(newName(tensor + ".quantize", names))
            .build(),
        Nodes.of("DequantizeLinear", values, codes, scale, zeroPoint)
            .setName(newName(tensor + ".dequantize", names))
            .build());
  }

  /**
   * A node's name that no other has: a layer may be called like a tensor, and its weights' node.
   */
  private static String newName(String wished, Set<String> names) {
    String name = wished;
    for (int i = 2; !names.add(name); i++) {
      name = wished + "_" + i;
    }
    return name;
  }
}
