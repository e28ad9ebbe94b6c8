package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.NodeProto;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/** The addition that a layer's output goes straight into: that of a residual stream. */
public final class ResidualAdd {
  private ResidualAdd() {}

  /**
   * The tensor that is added to a layer's output, bias included, before anything else is done with
   * it; empty where the output goes elsewhere too, or is not added to something computed.
   */
  public static Optional<String> operand(OnnxModel model, Layer layer) {
    GraphIndex index = model.index();
    Layer now = LayerDiscovery.find(model, layer.name());
    String tensor = now.bias().map(Layer.BiasSource::node).orElse(now.output());
    while (index.readOnce(tensor)) {
      NodeProto reader = index.node(index.uses(tensor).getFirst().node());
      if (Nodes.is(reader, "Identity") || Nodes.is(reader, "Dropout")) {
        tensor = reader.getOutput(0);
        continue;
      }
      boolean sum =
          (Nodes.is(reader, "Add") || Nodes.is(reader, "Sum")) && reader.getInputCount() == 2;
      if (!sum) {
        return Optional.empty();
      }
      String other = reader.getInput(reader.getInput(0).equals(tensor) ? 1 : 0);
      return index.isDynamic(other) && index.producer(other) >= 0 && !other.equals(tensor)
          ? Optional.of(other)
          : Optional.empty();
    }
    return Optional.empty();
  }

  /** Whether a tensor can be computed without any of the given layers. */
  public static boolean isIndependentOf(OnnxModel model, String tensor, List<Layer> layers) {
    GraphIndex index = model.index();
    Set<String> outputs = new HashSet<>();
    layers.forEach(layer -> outputs.add(layer.output()));
    Deque<String> open = new ArrayDeque<>(List.of(tensor));
    Set<String> seen = new HashSet<>(open);
    while (!open.isEmpty()) {
      String next = open.remove();
      if (outputs.contains(next)) {
        return false;
      }
      int producer = index.producer(next);
      if (producer >= 0) {
        index.reads(producer).stream().filter(seen::add).forEach(open::add);
      }
    }
    return true;
  }
}
