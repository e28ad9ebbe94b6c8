package org.taco4j.tune;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.taco4j.common.Workers;
import org.taco4j.execute.Tensors;
import org.taco4j.execute.TorchGraph;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;

/** Ends the training mode of BatchNormalization nodes: they get the statistics of many images. */
@SuppressWarnings("try") // Scopes and guards work by being open.
public final class BatchNormStatistics {
  private BatchNormStatistics() {}

  /**
   * The model with BatchNormalization nodes that use stored statistics: mean and variance of each
   * channel over the images, in micro-batches as they were trained in.
   *
   * @param model with nodes in training mode; not changed
   * @param imageShape of one image, [channels, rows, columns]
   * @param images the first {@code microBatches · microBatch} of them
   */
  public static OnnxModel measure(
      OnnxModel model,
      long[] imageShape,
      Trainer.Images images,
      int microBatches,
      int microBatch,
      Workers workers) {
    List<NodeProto> norms =
        model.index().graph().getNodeList().stream()
            .filter(node -> Nodes.is(node, "BatchNormalization"))
            .filter(node -> Nodes.integer(node, "training_mode", 0) != 0)
            .toList();
    List<String> inputs = norms.stream().map(node -> node.getInput(0)).toList();
    // [micro-batch, node, sum and sum of squares, channel]
    double[][][][] sums = new double[microBatches][][][];
    try (TorchGraph graph = TorchGraph.of(model)) {
      workers.forEach(
          microBatches,
          m ->
              sums[m] = sums(graph, inputs, imageShape, images, (long) m * microBatch, microBatch));
    }
    Map<String, TensorProto> constants = new HashMap<>();
    for (int k = 0; k < norms.size(); k++) {
      int channels = sums[0][k][0].length;
      float[] mean = new float[channels];
      float[] variance = new float[channels];
      for (int c = 0; c < channels; c++) {
        double first = 0;
        double second = 0;
        for (double[][][] sum : sums) {
          first += sum[k][0][c] / microBatches;
          second += sum[k][1][c] / microBatches;
        }
        mean[c] = (float) first;
        variance[c] = (float) Math.max(0, second - first * first);
      }
      put(constants, model, norms.get(k).getInput(3), mean);
      put(constants, model, norms.get(k).getInput(4), variance);
    }
    OnnxModel measured = model.copy();
    measured.setConstants(constants);
    measured.edit(
        graph -> {
          for (int i = 0; i < graph.getNodeCount(); i++) {
            if (norms.contains(graph.getNode(i))) {
              NodeProto.Builder node = graph.getNode(i).toBuilder();
              List<AttributeProto> others =
                  node.getAttributeList().stream()
                      .filter(attribute -> !attribute.getName().equals("training_mode"))
                      .toList();
              String output = node.getOutput(0);
              graph.setNode(
                  i, node.clearAttribute().addAllAttribute(others).clearOutput().addOutput(output));
            }
          }
        });
    return measured;
  }

  private static void put(
      Map<String, TensorProto> constants, OnnxModel model, String name, float[] values) {
    TensorProto old = model.index().stored(name);
    if (old == null) {
      throw new IllegalArgumentException("the statistics '" + name + "' are no constant");
    }
    constants.put(name, TensorData.withFloats(old, values));
  }

  /** Means of the values and of their squares, of each node's input and channel. */
  private static double[][][] sums(
      TorchGraph graph,
      List<String> inputs,
      long[] imageShape,
      Trainer.Images images,
      long first,
      int count) {
    int length = Math.toIntExact(Arrays.stream(imageShape).reduce(1, (a, b) -> a * b));
    float[] data = new float[Math.multiplyExact(count, length)];
    for (int i = 0; i < count; i++) {
      images.image(first + i, data, i * length);
    }
    try (PointerScope scope = new PointerScope();
        NoGradGuard noGraph = new NoGradGuard()) {
      Tensor input = Tensors.of(data, Trainer.batchShape(count, imageShape));
      Map<String, Tensor> values =
          graph.run(Map.of(), Map.of(graph.inputs().getFirst(), input), inputs);
      double[][][] sums = new double[inputs.size()][2][];
      int k = 0;
      for (Tensor value : values.values()) {
        long[] shape = Tensors.shape(value);
        int channels = (int) shape[1];
        int pixels = Math.toIntExact(value.numel() / shape[0] / channels);
        float[] all = Tensors.floats(value);
        double[] mean = new double[channels];
        double[] square = new double[channels];
        for (int i = 0; i < all.length; i++) {
          int c = i / pixels % channels;
          mean[c] += all[i];
          square[c] += (double) all[i] * all[i];
        }
        for (int c = 0; c < channels; c++) {
          mean[c] /= (double) count * pixels;
          square[c] /= (double) count * pixels;
        }
        sums[k++] = new double[][] {mean, square};
      }
      return sums;
    }
  }
}
