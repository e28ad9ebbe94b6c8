package org.taco4j.export;

import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import java.util.List;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;

/**
 * The weights of a layer as 8-bit integers, as {@link WeightQuantization} stores them: w = scale ·
 * code, with a scale for each output channel.
 *
 * @param dims [O, I / groups, kh, kw] of a convolution; [K, N] of a product X · W
 * @param codes row-major
 * @param scales [O] or [N]
 */
@SuppressWarnings("ArrayRecordComponent") // tensors: comparing them by value is no use
record IntegerWeights(List<Long> dims, byte[] codes, float[] scales) {
  /** Input channels that kernels read, and skip, at a time. */
  static final int BLOCK = 4;

  /**
   * Beyond this, in steps of the products, a bias leaves no room for what is added to it. Products
   * of 8 bits need 2^30 themselves from 33,000 summands on.
   */
  private static final double LARGEST_BIAS = 1 << 30;

  /** Why a layer's weights are no such integers; empty where {@link #of} gives them. */
  static Optional<String> whyNot(OnnxModel model, Layer layer) {
    GraphIndex.Constant constant = constant(model, layer);
    if (constant == null || constant.alteredBy() == null) {
      return Optional.of("its weights are no 8-bit integers");
    }
    NodeProto dequantize = dequantize(model, constant);
    if (dequantize == null
        || constant.tensor().getDataType() != TensorProto.DataType.INT8_VALUE
        || !constant.tensor().hasRawData()) {
      return Optional.of("its weights come through " + constant.alteredBy() + " in another form");
    }
    TensorProto zeroPoint = model.index().stored(Nodes.input(dequantize, 2));
    boolean symmetric =
        Nodes.input(dequantize, 2).isEmpty()
            || (zeroPoint != null && zeroPoint.hasRawData() && isZero(zeroPoint.getRawData()));
    if (!symmetric) {
      return Optional.of("its weights have zero points other than 0");
    }
    TensorProto scale = model.index().stored(dequantize.getInput(1));
    long count = scale == null ? -1 : TensorData.count(scale.getDimsList());
    int rows = layer.rows() * layer.groups();
    if (scale == null
        || scale.getDataType() != TensorProto.DataType.FLOAT_VALUE
        || (count != 1 && (count != rows || axis(dequantize, constant) != rowsAxis(layer)))) {
      return Optional.of("its weights have no scale for each output channel");
    }
    if (SparseOperators.isReplaceable(model, constant.name())) {
      return Optional.of("its weights '" + constant.name() + "' are an input of the model");
    }
    return Optional.empty();
  }

  /** The weights of a layer for which {@link #whyNot} has no reason. */
  static IntegerWeights of(OnnxModel model, Layer layer) {
    GraphIndex.Constant constant = constant(model, layer);
    NodeProto dequantize = constant == null ? null : dequantize(model, constant);
    TensorProto scale = dequantize == null ? null : model.index().stored(dequantize.getInput(1));
    if (constant == null || scale == null) {
      throw new IllegalStateException("layer '" + layer.name() + "' has lost its weights");
    }
    TensorProto seen = TensorData.transpose(constant.tensor(), constant.permutation());
    if (!layer.opType().equals("Conv") && !layer.weight().rowsLast()) {
      seen = TensorData.transpose(seen, List.of(1, 0));
    }
    float[] stored = TensorData.floats(scale);
    float[] scales = new float[layer.rows() * layer.groups()];
    byte[] codes = seen.getRawData().toByteArray();
    int inner = layer.opType().equals("Conv") ? codes.length / scales.length : 1;
    for (int row = 0; row < scales.length; row++) {
      scales[row] = stored[stored.length == 1 ? 0 : row];
      if (scales[row] == 0) {
        // Zeros in any step; by a step of 0 no bias can be divided.
        scales[row] = 1;
        for (int i = 0; i < codes.length; i++) {
          codes[i] = i / inner % scales.length == row ? 0 : codes[i];
        }
      }
    }
    return new IntegerWeights(seen.getDimsList(), codes, scales);
  }

  /** Of those tensors between a layer and its stored weights that nodes write, the nodes. */
  static List<Integer> nodes(OnnxModel model, Layer layer) {
    GraphIndex.Constant constant = constant(model, layer);
    return constant == null
        ? List.of()
        : constant.chain().stream().map(model.index()::producer).filter(i -> i >= 0).toList();
  }

  private static GraphIndex.@Nullable Constant constant(OnnxModel model, Layer layer) {
    GraphIndex index = model.index();
    NodeProto node = index.node(index.producer(layer.output()));
    return index.constant(node.getInput(node.getInput(0).equals(layer.input()) ? 1 : 0));
  }

  /** The DequantizeLinear that reads what is stored; null where another operator changes it. */
  private static @Nullable NodeProto dequantize(OnnxModel model, GraphIndex.Constant constant) {
    GraphIndex index = model.index();
    NodeProto found = null;
    for (String tensor : constant.chain().subList(0, constant.chain().size() - 1)) {
      NodeProto node = index.node(index.producer(tensor));
      if (Nodes.is(node, "DequantizeLinear") && node.getInput(0).equals(constant.name())) {
        found = node;
      } else if (!Nodes.is(node, "Identity") && !Nodes.is(node, "Transpose")) {
        return null;
      }
    }
    return found;
  }

  /** The axis of the scales as the layer sees the weights. */
  private static int axis(NodeProto dequantize, GraphIndex.Constant constant) {
    long axis = Nodes.integer(dequantize, "axis", 1);
    int rank = constant.permutation().size();
    return constant.permutation().indexOf((int) (axis < 0 ? axis + rank : axis));
  }

  private static int rowsAxis(Layer layer) {
    return layer.weight().rowsLast() ? 1 : 0;
  }

  private static boolean isZero(ByteString bytes) {
    for (int i = 0; i < bytes.size(); i++) {
      if (bytes.byteAt(i) != 0) {
        return false;
      }
    }
    return true;
  }

  private boolean isConvolution() {
    return dims.size() == 4;
  }

  /**
   * The share of blocks that are all zero: {@value #BLOCK} neighbouring input channels of one
   * output channel, at one place of the kernel; what remains at the end counts as one.
   */
  double emptyBlocks() {
    int rows = scales.length;
    int inner = isConvolution() ? Math.toIntExact(dims.get(2) * dims.get(3)) : rows;
    int inputs = Math.toIntExact(isConvolution() ? dims.get(1) : dims.get(0));
    int outer = isConvolution() ? rows : 1;
    long blocks = 0;
    long empty = 0;
    // Both layouts are [outer, inputs, inner]: a matrix has its outputs inside.
    for (int o = 0; o < outer; o++) {
      for (int first = 0; first < inputs; first += BLOCK) {
        for (int i = 0; i < inner; i++) {
          boolean zero = true;
          for (int input = first; input < Math.min(inputs, first + BLOCK); input++) {
            zero &= codes[(o * inputs + input) * inner + i] == 0;
          }
          blocks++;
          empty += zero ? 1 : 0;
        }
      }
    }
    return blocks == 0 ? 0 : empty / (double) blocks;
  }

  /**
   * These weights with coarser steps for output channels whose bias would not fit 32 bits in steps
   * of their products: next to such a bias what that loses cannot be seen. Zeros stay zeros, and a
   * channel of nothing but zeros takes any step.
   *
   * @param bias [O] or [N]
   */
  IntegerWeights withRoomFor(float[] bias, float inputScale) {
    byte[] coarser = codes.clone();
    float[] steps = scales.clone();
    boolean changed = false;
    int inner = isConvolution() ? codes.length / scales.length : 1;
    for (int row = 0; row < steps.length; row++) {
      double factor = Math.abs(bias[row]) / (LARGEST_BIAS * inputScale * scales[row]);
      if (factor > 1) {
        changed = true;
        // The factor itself may be too large for a float.
        steps[row] = (float) (steps[row] * factor);
        for (int i = 0; i < codes.length; i++) {
          if (i / inner % steps.length == row) {
            coarser[i] = (byte) Math.rint(codes[i] / factor);
          }
        }
      }
    }
    return changed ? new IntegerWeights(dims, coarser, steps) : this;
  }

  /** The bias in steps of the products, inputScale · scale. */
  int[] bias(float[] bias, float inputScale) {
    int[] steps = new int[bias.length];
    for (int row = 0; row < steps.length; row++) {
      steps[row] = (int) Math.rint(bias[row] / ((double) inputScale * scales[row]));
    }
    return steps;
  }

  /** The codes as a tensor. */
  TensorProto tensor() {
    return TensorProto.newBuilder()
        .setDataType(TensorProto.DataType.INT8_VALUE)
        .addAllDims(dims)
        .setRawData(UnsafeByteOperations.unsafeWrap(codes))
        .build();
  }

  /** The scales as a tensor. */
  TensorProto scaleTensor() {
    return TensorData.of(
        "", TensorProto.DataType.FLOAT_VALUE, List.of((long) scales.length), scales);
  }

  /** As many zero points. */
  TensorProto zeroPoints() {
    return TensorProto.newBuilder()
        .setDataType(TensorProto.DataType.INT8_VALUE)
        .addDims(scales.length)
        .setRawData(ByteString.copyFrom(new byte[scales.length]))
        .build();
  }

  /** How many codes are 0. */
  static long zeros(byte[] codes) {
    long zeros = 0;
    for (byte code : codes) {
      zeros += code == 0 ? 1 : 0;
    }
    return zeros;
  }
}
