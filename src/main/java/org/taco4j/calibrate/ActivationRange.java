package org.taco4j.calibrate;

/**
 * The range of a tensor in 8 bits: value = scale · (code - zeroPoint), code 0 to 255. It always
 * holds 0, as the code zeroPoint, so that zero padding is exact.
 *
 * @param tensor its name in the model
 * @param method that chose the range
 * @param lowest least value on the calibration images
 * @param highest greatest value on the calibration images
 * @param minimum least value that is not clipped, but for rounding of the zero point; 0 or less
 * @param maximum greatest value that is not clipped; 0 or more
 * @param scale distance of neighbouring codes; 1 for a tensor that is always 0
 * @param zeroPoint code of 0, 0 to 255
 * @param clipped share of the values below minimum or above maximum, 0 to 1
 */
public record ActivationRange(
    String tensor,
    RangeMethod method,
    float lowest,
    float highest,
    float minimum,
    float maximum,
    float scale,
    int zeroPoint,
    double clipped) {
  /** The highest code. */
  static final int CODES = 255;

  /**
   * The grid of a range.
   *
   * @param minimum 0 or less
   * @param maximum 0 or more
   */
  static ActivationRange of(
      String tensor,
      RangeMethod method,
      float lowest,
      float highest,
      float minimum,
      float maximum,
      double clipped) {
    float scale = scale(minimum, maximum);
    return new ActivationRange(
        tensor,
        method,
        lowest,
        highest,
        minimum,
        maximum,
        scale,
        zeroPoint(minimum, scale),
        clipped);
  }

  /** Whether the tensor was always 0: what else it may hold is not known. */
  public boolean isEmpty() {
    return minimum == maximum;
  }

  /**
   * Distance of neighbouring codes of a grid from -127 to 127 whose code of 0 is 0, as TensorRT
   * wants it; 1 for a tensor that is always 0.
   */
  public float symmetricScale() {
    float largest = Math.max(-minimum, maximum);
    return largest == 0 ? 1 : Math.max(Float.MIN_NORMAL, largest / Byte.MAX_VALUE);
  }

  static float scale(float minimum, float maximum) {
    // In double: the difference of two floats may be infinite.
    double scale = ((double) maximum - minimum) / CODES;
    return scale == 0 ? 1 : (float) Math.max(Float.MIN_NORMAL, scale);
  }

  static int zeroPoint(float minimum, float scale) {
    return (int) Math.clamp(Math.rint(-minimum / scale), 0, CODES);
  }
}
