package org.taco4j.solve;

import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;

/**
 * How weights are quantised. The grid on which the weights of a row are to lie: q = scale ·
 * (clamp(round(w / scale) + zero, 0, 2^bits - 1) - zero), one scale and zero for each row.
 *
 * @param bits of a weight, 2 to 8
 * @param symmetric whether zero is the middle of the grid; else the grid spans the row's minimum to
 *     its maximum
 * @param searchScale whether the scale is chosen by a grid search for the least error |q - w|^2.4
 * @param actOrder whether columns are quantised in the order of falling diagonal of the Hessian
 * @param sweeps of coordinate descent over the quantised weights afterwards, 0 for none
 */
public record Quantization(
    int bits, boolean symmetric, boolean searchScale, boolean actOrder, int sweeps) {
  /** Checks bits and sweeps. */
  public Quantization {
    if (bits < 2 || bits > 8) {
      throw TacoException.usage("--bits must be 2 to 8, it is " + bits);
    }
    if (sweeps < 0) {
      throw TacoException.usage("--sweeps must not be negative, it is " + sweeps);
    }
  }

  /**
   * What users' options mean together.
   *
   * @param bits null where nothing is to be quantised
   * @param actOrder null where that is not said
   * @param sweeps null where that is not said
   * @return null without {@code bits}
   * @throws TacoException of kind USAGE for other options without {@code bits}
   */
  public static @Nullable Quantization ofOptions(
      @Nullable Integer bits,
      boolean symmetric,
      boolean searchScale,
      @Nullable Boolean actOrder,
      @Nullable Integer sweeps) {
    boolean ordered = Boolean.TRUE.equals(actOrder);
    if (bits != null) {
      return new Quantization(bits, symmetric, searchScale, ordered, sweeps == null ? 0 : sweeps);
    }
    if (ordered || sweeps != null) {
      throw TacoException.usage(
          "--act-order and --sweeps are about quantised weights; give --bits");
    }
    return null;
  }
}
