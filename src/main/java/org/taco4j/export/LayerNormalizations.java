package org.taco4j.export;

import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.ArrayList;
import java.util.List;
import org.taco4j.onnx.Attributes;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;

/**
 * Rewrites layer normalizations to an operator of the library, which needs a sixteenth of the time
 * of ONNX Runtime's own: in a pruned vision transformer that is more than the products. As with
 * {@link SparseOperators}, the model computes the same where the library is missing.
 */
public final class LayerNormalizations {
  private LayerNormalizations() {}

  /**
   * Rewrites all that are over the last axis with constant scale and bias; gives the names of their
   * outputs, in graph order. Models before opset 17 have no such operator.
   */
  public static List<String> rewrite(OnnxModel model) {
    List<String> rewritten = new ArrayList<>();
    GraphIndex index = model.index();
    List<NodeProto> nodes = index.graph().getNodeList();
    List<Integer> places = new ArrayList<>();
    for (int i = 0; i < nodes.size(); i++) {
      if (fits(model, nodes.get(i))) {
        places.add(i);
        rewritten.add(nodes.get(i).getOutput(0));
      }
    }
    if (places.isEmpty()) {
      return rewritten;
    }
    int opset = model.opset();
    model.edit(
        graph -> {
          for (int place : places) {
            NodeProto node = graph.getNode(place);
            graph.setNode(
                place,
                NodeProto.newBuilder()
                    .setName(node.getName())
                    .setDomain(SparseFunctions.DOMAIN)
                    .setOpType(SparseFunctions.LAYER_NORMALIZATION)
                    .addAllInput(node.getInputList())
                    .addOutput(node.getOutput(0))
                    .addAttribute(Attributes.real("epsilon", Nodes.real(node, "epsilon", 1e-5f))));
          }
        });
    model.addFunctions(
        SparseFunctions.DOMAIN,
        SparseFunctions.VERSION,
        List.of(SparseFunctions.layerNormalization(opset)));
    model.check();
    return rewritten;
  }

  private static boolean fits(OnnxModel model, NodeProto node) {
    if (!Nodes.is(node, "LayerNormalization")
        || node.getInputCount() != 3
        || node.getOutputList().stream().skip(1).anyMatch(output -> !output.isEmpty())
        || Nodes.integer(node, "stash_type", 1) != 1) {
      return false;
    }
    long[] shape = model.index().shape(node.getInput(0));
    long axis = Nodes.integer(node, "axis", -1);
    if (axis != -1 && (shape == null || axis != shape.length - 1)) {
      return false;
    }
    return isVector(model, node.getInput(1)) && isVector(model, node.getInput(2));
  }

  private static boolean isVector(OnnxModel model, String name) {
    GraphIndex.Constant constant = model.index().constant(name);
    return constant != null
        && constant.chain().size() == 1
        && constant.alteredBy() == null
        && constant.dims().size() == 1
        && constant.tensor().getDataType() == TensorProto.DataType.FLOAT_VALUE
        && !SparseOperators.isReplaceable(model, constant.name());
  }
}
