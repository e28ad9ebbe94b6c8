package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.ValueInfoProto;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;

/**
 * Puts the classifier of a model with all its classes behind the body of a specialist that was made
 * from it, so that both can be compared on all classes.
 */
public final class HeadGraft {
  private HeadGraft() {}

  /**
   * The specialist with the whole model's classifier; empty where its classifier has another form
   * than {@link HeadRestriction} left it, as when it was quantised or lost columns.
   *
   * @param specialist made from {@code restricted}; not changed
   * @param restricted the whole model after {@link HeadRestriction}; not changed
   * @param whole with all classes; not changed
   */
  public static Optional<OnnxModel> graft(
      OnnxModel specialist, OnnxModel restricted, OnnxModel whole) {
    Map<String, TensorProto> wanted = constants(whole);
    Map<String, TensorProto> cut = constants(restricted);
    Map<String, TensorProto> present = constants(specialist);
    OnnxModel grafted = specialist.copy();
    for (Map.Entry<String, TensorProto> entry : wanted.entrySet()) {
      TensorProto of = cut.get(entry.getKey());
      if (of != null && of.getDimsList().equals(entry.getValue().getDimsList())) {
        continue;
      }
      TensorProto now = present.get(entry.getKey());
      if (of == null || now == null || !now.getDimsList().equals(of.getDimsList())) {
        return Optional.empty();
      }
      grafted.setConstant(entry.getKey(), entry.getValue());
    }
    grafted.edit(
        graph -> {
          for (int i = 0; i < graph.getOutputCount(); i++) {
            graph.setOutput(i, whole.index().graph().getOutput(i));
          }
          // Tensors between the classifier and the output have their old width again.
          for (int i = 0; i < graph.getValueInfoCount(); i++) {
            ValueInfoProto info = whole.index().info(graph.getValueInfo(i).getName());
            if (info != null && restricted.index().info(info.getName()) != null) {
              boolean narrowed = !info.equals(restricted.index().info(info.getName()));
              graph.setValueInfo(i, narrowed ? info : graph.getValueInfo(i));
            }
          }
        });
    return Optional.of(grafted);
  }

  private static Map<String, TensorProto> constants(OnnxModel model) {
    Map<String, TensorProto> constants = new HashMap<>();
    model.index().graph().getInitializerList().forEach(t -> constants.put(t.getName(), t));
    model
        .index()
        .graph()
        .getNodeList()
        .forEach(
            node -> {
              if (Nodes.is(node, "Constant")) {
                TensorProto stored = model.index().stored(node.getOutput(0));
                if (stored != null) {
                  constants.put(node.getOutput(0), stored);
                }
              }
            });
    return constants;
  }
}
