package org.taco4j.tune;

import ai.onnx.proto.OnnxMl.NodeProto;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Predicate;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;

/**
 * The intermediate tensors that feature distillation compares where none are named: what blocks end
 * in. In nets with a residual stream these are the sums of a block and its shortcut: Add nodes of
 * two computed tensors, behind a layer. In others, where blocks join branches, the outputs of such
 * Concat nodes. In plain nets what each layer but the first reads.
 */
final class FeatureTensors {
  private FeatureTensors() {}

  /** Their names, in the order of the graph; shapes are not known here and remain to be checked. */
  static List<String> find(OnnxModel model) {
    GraphIndex index = model.index();
    List<Layer> layers = LayerDiscovery.discover(model);
    Set<String> behindLayers = behind(index, layers);
    List<String> sums = joins(index, behindLayers, node -> Nodes.is(node, "Add"));
    if (!sums.isEmpty()) {
      return sums;
    }
    List<String> joins = joins(index, behindLayers, node -> Nodes.is(node, "Concat"));
    return !joins.isEmpty()
        ? joins
        : layers.stream()
            .skip(1)
            .map(Layer::input)
            .filter(behindLayers::contains)
            .distinct()
            .toList();
  }

  private static List<String> joins(
      GraphIndex index, Set<String> behindLayers, Predicate<NodeProto> kind) {
    List<String> outputs = new ArrayList<>();
    for (NodeProto node : index.graph().getNodeList()) {
      boolean joined =
          kind.test(node)
              && node.getInputCount() > 1
              && behindLayers.containsAll(node.getInputList())
              && !index.isOutput(node.getOutput(0));
      if (joined) {
        outputs.add(node.getOutput(0));
      }
    }
    return outputs;
  }

  /** The tensors into which a layer's output flows, but for shapes and what is made of them. */
  private static Set<String> behind(GraphIndex index, List<Layer> layers) {
    Set<String> tensors = new HashSet<>();
    layers.forEach(layer -> tensors.add(layer.output()));
    for (NodeProto node : index.graph().getNodeList()) {
      boolean values = !Nodes.is(node, "Shape") && !Nodes.is(node, "Size");
      if (values && node.getInputList().stream().anyMatch(tensors::contains)) {
        tensors.addAll(node.getOutputList());
      }
    }
    return tensors;
  }
}
