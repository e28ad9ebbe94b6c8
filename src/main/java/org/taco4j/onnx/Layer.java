package org.taco4j.onnx;

import java.util.List;
import java.util.Optional;

/**
 * A Conv, Gemm or MatMul node with constant weights, as {@link LayerDiscovery} finds it. It refers
 * to its model by names only: {@link LayerWeights} reads and writes the weights.
 *
 * @param name unique in the model: the node's name, or its output's name where the node has none
 * @param opType {@code Conv}, {@code Gemm} or {@code MatMul}; of a layer that was rewritten the
 *     sparse operator, such as {@code taco4j.SparseConvRelu}
 * @param input name of the activation tensor that the layer reads
 * @param output name of the tensor that the node writes
 * @param unfold how samples come out of {@code input}
 * @param rows output rows (channels, features) of one group
 * @param outputAxis the axis of {@code output} along which the rows of all groups lie, one after
 *     another; negative counts from the end: 1 for convolutions, -1 for most Gemm and MatMul
 * @param weight where the weights are stored
 * @param bias where the layer's bias is stored; empty where there is none yet
 * @param whyNotPrunable why this layer must stay as it is, for people; empty for a prunable layer
 */
public record Layer(
    String name,
    String opType,
    String input,
    String output,
    Unfold unfold,
    int rows,
    int outputAxis,
    WeightSource weight,
    Optional<BiasSource> bias,
    Optional<String> whyNotPrunable) {

  /** Columns of one layer problem. */
  public int cols() {
    return unfold.cols();
  }

  /** Layer problems in this layer. */
  public int groups() {
    return unfold.groups();
  }

  /** Weights of all groups. */
  public long parameters() {
    return (long) groups() * rows * cols();
  }

  /** Whether this is a convolution in which each output channel reads one input channel. */
  public boolean isDepthwise() {
    return unfold instanceof Unfold.Convolution convolution
        && convolution.channels() == 1
        && convolution.groups() > 1;
  }

  /** Whether this is an operator of the library that a layer was rewritten to. */
  public boolean isSparseOperator() {
    return opType.startsWith(Operators.SPARSE_DOMAIN + ".");
  }

  /**
   * Whether this is an operator that a layer was rewritten to: one that skips zeros, or integers.
   */
  public boolean isRewritten() {
    return isSparseOperator() || Operators.INTEGER.contains(opType);
  }

  /** Whether weights of this layer may be pruned. */
  public boolean prunable() {
    return whyNotPrunable.isEmpty();
  }

  /**
   * The order in which N:M and block groups run through the columns: along the input channels, at
   * each kernel position in turn.
   *
   * @return [cols]: the column that stands at each position. For a convolution column
   *     c·kernelHeight·kernelWidth + k stands at position k·channels + c; for Gemm and MatMul the
   *     order is that of the columns
   */
  public int[] groupingOrder() {
    int positions = cols() / groupingExtent();
    int[] order = new int[cols()];
    for (int i = 0; i < order.length; i++) {
      order[i] = i % groupingExtent() * positions + i / groupingExtent();
    }
    return order;
  }

  /**
   * How many columns in {@link #groupingOrder} belong together: what N:M's M or a block size must
   * divide. The input channels of a group for convolutions, all columns for Gemm and MatMul.
   */
  public int groupingExtent() {
    return switch (unfold) {
      case Unfold.Convolution convolution -> convolution.channels();
      case Unfold.LastAxis axis -> axis.features();
      case Unfold.SecondToLastAxis axis -> axis.features();
    };
  }

  /**
   * Where a layer's weights are stored.
   *
   * @param constant name of the initializer, or of the output of the Constant node, at the start of
   *     the chain of Identity and Transpose nodes that leads to the layer
   * @param permutation of the stored axes to the operator's axes: axis i of what the operator sees
   *     is axis permutation[i] of what is stored (as Transpose's {@code perm})
   * @param rowsLast whether the operator's weight matrix is [cols, rows], as MatMul's right operand
   *     and Gemm's B without transB are; false for [rows, cols] and for convolutions
   */
  public record WeightSource(String constant, List<Integer> permutation, boolean rowsLast) {}

  /**
   * Where a layer's bias is stored.
   *
   * @param constant name of the initializer or of the output of the Constant node: [rows · groups]
   *     values, or one for all
   * @param node name of the output of the node that adds it: the layer itself, or an Add after it
   */
  public record BiasSource(String constant, String node) {}
}
