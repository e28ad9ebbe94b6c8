package org.taco4j.calibrate;

/** How the range of an activation follows from the values that it takes on calibration images. */
public enum RangeMethod {
  /** From the least value to the greatest: nothing is clipped, and one outlier widens all steps. */
  MIN_MAX("minmax"),

  /**
   * From the value that 0.01 % of all lie below to the one that 0.01 % lie above (Wu et al. 2020,
   * "Integer Quantization for Deep Learning Inference", section 3.3, 99.99 %).
   */
  PERCENTILE("percentile"),

  /**
   * The range of the least expected squared error of quantisation, rounding and clipping together
   * (Sung et al. 2015, "Resiliency of Deep Neural Networks under Quantization", the L2 error).
   */
  MSE("mse");

  private final String text;

  RangeMethod(String text) {
    this.text = text;
  }

  /** As options write it. */
  @Override
  public String toString() {
    return text;
  }
}
