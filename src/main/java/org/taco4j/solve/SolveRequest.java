package org.taco4j.solve;

import java.util.stream.IntStream;
import org.taco4j.common.TacoException;

/**
 * One layer problem: minimise ‖Ŵ X − W X‖² over the Ŵ that follow a pattern.
 *
 * @param layer its name, for messages
 * @param weights W: [rows, cols] row-major; borrowed, never written
 * @param rows number of outputs
 * @param cols number of inputs
 * @param hessian H: [cols, cols]
 * @param order [cols], a permutation: the order of columns along which solvers sweep and along
 *     which the groups of N:M and blocks run; for an unfolded convolution with such a pattern (ky,
 *     kx, c), else {@link #naturalOrder}; borrowed
 * @param pattern what may be removed, and how much
 * @param damping λ: λ · mean(diag H) is added to the diagonal of H, by the solvers that invert it
 */
@SuppressWarnings("ArrayRecordComponent") // weights are large; a request lends them
public record SolveRequest(
    String layer,
    float[] weights,
    int rows,
    int cols,
    Hessian hessian,
    int[] order,
    Pattern pattern,
    double damping) {

  /**
   * Checks shapes, order, pattern and weights.
   *
   * @throws TacoException of kind USAGE for a pattern that does not divide the columns or a damping
   *     that is no positive fraction; of kind MODEL for weights that are not finite
   */
  public SolveRequest {
    if (weights.length != (long) rows * cols || rows < 1 || cols < 1 || hessian.cols() != cols) {
      throw new IllegalArgumentException(
          "layer %s: %d weights and a Hessian of %d columns for the shape [%d, %d]"
              .formatted(layer, weights.length, hessian.cols(), rows, cols));
    }
    boolean[] seen = new boolean[cols];
    for (int col : order) {
      if (col < 0 || col >= cols || seen[col]) {
        throw new IllegalArgumentException(
            "layer " + layer + ": the column order is no permutation");
      }
      seen[col] = true;
    }
    if (order.length != cols) {
      throw new IllegalArgumentException("layer " + layer + ": the column order is no permutation");
    }
    if (cols % pattern.groupSize() != 0) {
      throw TacoException.usage(
          "layer %s: the pattern %s needs a multiple of %d columns, the layer has %d; exclude it"
              .formatted(layer, pattern, pattern.groupSize(), cols));
    }
    if (!(damping >= 0 && damping <= 1)) {
      throw TacoException.usage("damping " + damping + ": must lie between 0 and 1");
    }
    for (int i = 0; i < weights.length; i++) {
      if (!Float.isFinite(weights[i])) {
        throw TacoException.model(
            "layer %s: weight [%d, %d] is %s; the model is damaged"
                .formatted(layer, i / cols, i % cols, weights[i]));
      }
    }
  }

  /** The order 0, 1, …, cols - 1. */
  public static int[] naturalOrder(int cols) {
    return IntStream.range(0, cols).toArray();
  }

  /**
   * The order (ky, kx, channel) of the columns of an unfolded convolution, which are stored as
   * (channel, ky, kx).
   *
   * @param positions of the kernel
   * @return [channels · positions]: the column at each place
   */
  public static int[] channelOrder(int channels, int positions) {
    return IntStream.range(0, channels * positions)
        .map(i -> i % channels * positions + i / channels)
        .toArray();
  }

  /** This request in {@link #naturalOrder}. */
  SolveRequest inNaturalOrder() {
    return new SolveRequest(
        layer, weights, rows, cols, hessian, naturalOrder(cols), pattern, damping);
  }

  /** This request with another W. */
  SolveRequest withWeights(float[] other) {
    return new SolveRequest(layer, other, rows, cols, hessian, order, pattern, damping);
  }

  /** This request with another λ. */
  public SolveRequest withDamping(double other) {
    return new SolveRequest(layer, weights, rows, cols, hessian, order, pattern, other);
  }
}
