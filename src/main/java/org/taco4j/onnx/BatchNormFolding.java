package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.NodeProto;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/** Folds BatchNormalization into the convolution or Gemm before it. */
public final class BatchNormFolding {
  private BatchNormFolding() {}

  /**
   * Folds each BatchNormalization whose only input is a convolution or Gemm with constant weights
   * that nothing else reads, and with a bias that is constant or none; the others stay. With scale
   * γ, shift β, mean μ and variance σ² the layer's W x + b becomes (γ/√(σ²+ε)) W x + (b − μ)
   * γ/√(σ²+ε) + β, computed in double. The tensor that the BatchNormalization wrote keeps its name.
   *
   * @return the names of the folded nodes (of their outputs, where they have no name)
   * @throws org.taco4j.common.TacoException of kind NUMERICAL when folded weights are not finite in
   *     their stored type
   */
  public static List<String> fold(OnnxModel model) {
    OnnxModel work = model.copy();
    List<String> folded = new ArrayList<>();
    Set<String> candidates = new HashSet<>();
    for (NodeProto node : work.index().graph().getNodeList()) {
      if (Nodes.is(node, "BatchNormalization")) {
        candidates.add(node.getOutput(0));
      }
    }
    for (Layer layer : LayerDiscovery.discover(work)) {
      NodeProto norm = normOf(work, LayerDiscovery.find(work, layer.name()));
      if (norm != null && candidates.contains(norm.getOutput(0))) {
        fold(work, layer, norm);
        folded.add(Nodes.name(norm));
      }
    }
    if (!folded.isEmpty()) {
      model.adopt(work);
    }
    return folded;
  }

  /** The tensor behind the layer's bias: what a BatchNormalization reads. */
  private static String end(Layer layer) {
    return layer.bias().map(Layer.BiasSource::node).orElse(layer.output());
  }

  /** The BatchNormalization that can be folded into the layer; null where there is none. */
  private static @Nullable NodeProto normOf(OnnxModel model, Layer layer) {
    GraphIndex index = model.index();
    String end = end(layer);
    boolean gemmRows = layer.opType().equals("Gemm") && layer.outputAxis() == -1;
    if (!(layer.opType().equals("Conv") || gemmRows)
        || !index.readOnce(end)
        || !LayerWeights.canFold(model, layer)
        || LayerWeights.hasUnknownBias(model, layer)) {
      return null;
    }
    GraphIndex.Use use = index.uses(end).getFirst();
    NodeProto norm = index.node(use.node());
    boolean inference =
        Nodes.is(norm, "BatchNormalization")
            && use.input() == 0
            && Nodes.integer(norm, "training_mode", 0) == 0
            && Nodes.integer(norm, "spatial", 1) == 1
            && norm.getOutputList().stream().skip(1).allMatch(String::isEmpty);
    if (!inference || norm.getInputCount() < 5) {
      return null;
    }
    for (int i = 1; i < 5; i++) {
      GraphIndex.Constant constant = index.constant(norm.getInput(i));
      if (constant == null
          || constant.alteredBy() != null
          || !TensorData.isFloat(constant.tensor().getDataType())
          || TensorData.count(constant.dims()) != (long) layer.rows() * layer.groups()) {
        return null;
      }
    }
    return norm;
  }

  private static void fold(OnnxModel model, Layer layer, NodeProto norm) {
    float[] scale = parameter(model, norm, 1);
    float[] shift = parameter(model, norm, 2);
    float[] mean = parameter(model, norm, 3);
    float[] variance = parameter(model, norm, 4);
    double epsilon = Nodes.real(norm, "epsilon", 1e-5f);
    float[] bias = LayerWeights.bias(model, layer);
    float[][] weights = LayerWeights.unfold(model, layer);
    for (int channel = 0; channel < bias.length; channel++) {
      double factor = scale[channel] / Math.sqrt(variance[channel] + epsilon);
      float[] group = weights[channel / layer.rows()];
      int start = channel % layer.rows() * layer.cols();
      for (int i = start; i < start + layer.cols(); i++) {
        group[i] = (float) (group[i] * factor);
      }
      bias[channel] = (float) (((double) bias[channel] - mean[channel]) * factor + shift[channel]);
    }
    LayerWeights.fold(model, layer, weights);
    LayerWeights.setBias(model, layer, bias);
    removeNorm(model, layer, norm);
  }

  private static float[] parameter(OnnxModel model, NodeProto norm, int input) {
    GraphIndex.Constant constant = model.index().constant(norm.getInput(input));
    if (constant == null) {
      throw new IllegalStateException(Nodes.label(norm) + " has lost its parameters");
    }
    return TensorData.floats(constant.tensor());
  }

  /** Lets the layer write what the BatchNormalization wrote. */
  private static void removeNorm(OnnxModel model, Layer layer, NodeProto norm) {
    String before = end(LayerDiscovery.find(model, layer.name()));
    GraphIndex index = model.index();
    int last = index.producer(before);
    int normAt = index.producer(norm.getOutput(0));
    model.edit(
        graph -> {
          NodeProto.Builder node = graph.getNode(last).toBuilder().setOutput(0, norm.getOutput(0));
          if (node.getName().isEmpty() && node.getOpType().equals(layer.opType())) {
            // An unnamed layer is called by its output, which changes here: keep the name.
            node.setName(layer.name());
          }
          graph.setNode(last, node);
          graph.removeNode(normAt);
        });
    model.forgetShapes(Set.of(before));
    Set<String> parameters = new HashSet<>();
    for (int i = 1; i < 5; i++) {
      GraphIndex.Constant constant = index.constant(norm.getInput(i));
      if (constant != null && constant.chain().size() == 1) {
        parameters.add(constant.name());
      }
    }
    model.dropUnused(parameters);
  }
}
