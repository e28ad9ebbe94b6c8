package org.taco4j.export;

import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import com.google.protobuf.UnsafeByteOperations;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.Attributes;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;
import org.taco4j.solve.QuantizationGrid;

/**
 * Weight-only quantisation of a layer in the QDQ form: the weights are stored as 8-bit integers,
 * and a DequantizeLinear node with a scale for each output channel and the zero point 0 turns them
 * into floats. A grid of fewer bits is stored in 8 all the same. Biases stay float.
 */
public final class WeightQuantization {
  /** The first in which DequantizeLinear has an axis. */
  private static final int FIRST_OPSET = 13;

  private WeightQuantization() {}

  /**
   * Stores a layer's weights as integers. What the model dequantises is bit for bit what was given;
   * names of layers and of the tensors that nodes read stay. On failure the model is unchanged.
   *
   * @param weights for each group [rows, cols] row-major, on its grid
   * @param grids for each group; symmetric
   * @throws TacoException of kind USAGE for a grid that is not symmetric; of kind MODEL for an
   *     opset before 13, or a layer whose weights are not float32, or not stored, or read by others
   *     too
   * @throws IllegalArgumentException for weights that do not lie on their grid
   */
  public static void apply(
      OnnxModel model, Layer layer, float[][] weights, List<QuantizationGrid> grids) {
    Layer now = LayerDiscovery.find(model, layer.name());
    check(model, now, grids);
    OnnxModel work = model.copy();
    LayerWeights.fold(work, now, weights);
    GraphIndex.Constant constant = constant(work, now);
    replace(work, now, constant, scales(now, grids));
    model.adopt(work);
  }

  /**
   * Rounds a layer's weights to 8 bits, each output channel to 255 points between its largest
   * magnitude's negative and itself, and stores them as {@link #apply} does.
   *
   * @throws TacoException as {@link #apply}
   */
  public static void round(OnnxModel model, Layer layer) {
    float[][] weights = LayerWeights.unfold(model, layer);
    List<QuantizationGrid> grids = new ArrayList<>();
    for (float[] group : weights) {
      float[] scale = new float[layer.rows()];
      float[] zero = new float[layer.rows()];
      Arrays.fill(zero, -(float) Byte.MIN_VALUE);
      for (int row = 0; row < layer.rows(); row++) {
        float largest = 0;
        for (int i = row * layer.cols(); i < (row + 1) * layer.cols(); i++) {
          largest = Math.max(largest, Math.abs(group[i]));
        }
        scale[row] = largest == 0 ? 1 : Math.max(Float.MIN_NORMAL, largest / Byte.MAX_VALUE);
        for (int i = row * layer.cols(); i < (row + 1) * layer.cols(); i++) {
          group[i] = scale[row] * (float) Math.rint(group[i] / scale[row]) + 0f;
        }
      }
      grids.add(new QuantizationGrid(Byte.SIZE, true, scale, zero));
    }
    apply(model, layer, weights, grids);
  }

  /**
   * Throws for a model that {@link #apply} cannot quantise, whichever layer.
   *
   * @throws TacoException of kind MODEL for an opset before 13
   */
  public static void requireOpset(OnnxModel model) {
    if (model.opset() < FIRST_OPSET) {
      throw TacoException.model(
          ("%s: opset %d has no scale for each channel, QDQ needs opset %d; convert the model with"
                  + " onnx.version_converter, or export it again")
              .formatted(model.source(), model.opset(), FIRST_OPSET));
    }
  }

  /**
   * Throws for a layer that {@link #apply} cannot quantise.
   *
   * @throws TacoException of kind MODEL for weights that are not float32, or not stored, or read by
   *     others too
   */
  public static void requireSupport(OnnxModel model, Layer layer) {
    if (!LayerWeights.canFold(model, layer)) {
      throw TacoException.model(
          "layer %s: its weights cannot be replaced: %s"
              .formatted(layer.name(), layer.whyNotPrunable().orElse("other nodes read them too")));
    }
    GraphIndex.Constant constant = constant(model, layer);
    if (constant.tensor().getDataType() != TensorProto.DataType.FLOAT_VALUE) {
      throw TacoException.model(
          "layer %s: its weights '%s' are no float32 numbers; convert the model to float32 to quantise it"
              .formatted(layer.name(), constant.name()));
    }
  }

  private static void check(OnnxModel model, Layer layer, List<QuantizationGrid> grids) {
    requireOpset(model);
    requireSupport(model, layer);
    if (grids.size() != layer.groups()) {
      throw new IllegalArgumentException(
          "%d grids for the %d groups of layer '%s'"
              .formatted(grids.size(), layer.groups(), layer.name()));
    }
    for (QuantizationGrid grid : grids) {
      if (!grid.symmetric()) {
        throw TacoException.usage(
            "layer %s: QDQ export is symmetric, with the zero point 0; quantise symmetrically"
                .formatted(layer.name()));
      }
      if (grid.scale().length != layer.rows()) {
        throw new IllegalArgumentException(
            "%d scales for the %d rows of layer '%s'"
                .formatted(grid.scale().length, layer.rows(), layer.name()));
      }
    }
  }

  private static GraphIndex.Constant constant(OnnxModel model, Layer layer) {
    GraphIndex index = model.index();
    NodeProto node = index.node(index.producer(layer.output()));
    String tensor = node.getInput(node.getInput(0).equals(layer.input()) ? 1 : 0);
    GraphIndex.Constant constant = index.constant(tensor);
    if (constant == null) {
      throw new IllegalStateException("layer '" + layer.name() + "' has lost its weights");
    }
    return constant;
  }

  /** The scales of all rows of all groups. */
  private static float[] scales(Layer layer, List<QuantizationGrid> grids) {
    float[] scales = new float[layer.rows() * layer.groups()];
    for (int g = 0; g < grids.size(); g++) {
      System.arraycopy(grids.get(g).scale(), 0, scales, g * layer.rows(), layer.rows());
    }
    return scales;
  }

  /** Lets a DequantizeLinear write the tensor that was stored, under its name. */
  private static void replace(
      OnnxModel model, Layer layer, GraphIndex.Constant constant, float[] scales) {
    TensorProto stored = constant.tensor();
    int seen = layer.weight().rowsLast() ? constant.permutation().size() - 1 : 0;
    int axis = constant.permutation().get(seen);
    String name = constant.name();
    TensorProto codes = codes(layer, stored, axis, scales);
    List<Long> rows = List.of((long) scales.length);
    String quantized = model.addConstant(name + "_quantized", codes);
    String scale = model.addConstant(name + "_scale", scaleTensor(rows, scales));
    String zero = model.addConstant(name + "_zero_point", bytes(rows, new byte[scales.length]));
    NodeProto dequantize =
        NodeProto.newBuilder()
            .setOpType("DequantizeLinear")
            .setName(model.uniqueName(layer.name() + ".dequantize"))
            .addInput(quantized)
            .addInput(scale)
            .addInput(zero)
            .addOutput(name)
            .addAttribute(Attributes.integer("axis", axis))
            .build();
    model.edit(
        graph -> {
          remove(graph, name);
          graph.addNode(0, dequantize);
        });
  }

  /** Removes the stored tensor: an initializer, declared as an input or not, or a Constant node. */
  private static void remove(GraphProto.Builder graph, String name) {
    for (int i = graph.getInitializerCount() - 1; i >= 0; i--) {
      if (graph.getInitializer(i).getName().equals(name)) {
        graph.removeInitializer(i);
      }
    }
    for (int i = graph.getInputCount() - 1; i >= 0; i--) {
      if (graph.getInput(i).getName().equals(name)) {
        graph.removeInput(i);
      }
    }
    for (int i = graph.getNodeCount() - 1; i >= 0; i--) {
      if (Nodes.is(graph.getNode(i), "Constant") && graph.getNode(i).getOutput(0).equals(name)) {
        graph.removeNode(i);
      }
    }
  }

  /** The codes w / scale, in the stored order. */
  private static TensorProto codes(Layer layer, TensorProto stored, int axis, float[] scales) {
    List<Long> dims = stored.getDimsList();
    int inner = Math.toIntExact(TensorData.count(dims.subList(axis + 1, dims.size())));
    float[] values = TensorData.floats(stored);
    byte[] codes = new byte[values.length];
    for (int i = 0; i < values.length; i++) {
      float scale = scales[i / inner % scales.length];
      codes[i] = (byte) Math.clamp(Math.rint(values[i] / scale), Byte.MIN_VALUE, Byte.MAX_VALUE);
      if (codes[i] * scale != values[i]) {
        throw new IllegalArgumentException(
            "layer '%s': weight %d, %s, is no multiple of its scale %s between -128 and 127"
                .formatted(layer.name(), i, values[i], scale));
      }
    }
    return bytes(dims, codes);
  }

  private static TensorProto bytes(List<Long> dims, byte[] values) {
    return TensorProto.newBuilder()
        .setDataType(TensorProto.DataType.INT8_VALUE)
        .addAllDims(dims)
        .setRawData(UnsafeByteOperations.unsafeWrap(values))
        .build();
  }

  private static TensorProto scaleTensor(List<Long> dims, float[] values) {
    return TensorData.of("scale", TensorProto.DataType.FLOAT_VALUE, dims, values);
  }
}
