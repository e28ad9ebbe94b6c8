package org.taco4j.runtime.tensorrt;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.taco4j.common.Suggestions;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.OnnxModel;

/**
 * What an engine may compute in. Layers between QuantizeLinear and DequantizeLinear multiply 8-bit
 * integers in all of them: that is the model's own doing.
 */
public enum Precision {
  /** 32-bit floats, without TF32, which would round operands to 10 bits. */
  FP32(2e-3),
  /** 16-bit floats where they are faster. */
  FP16(3e-2),
  /** Integers where the model says so, else 16-bit floats; the model has to say so somewhere. */
  INT8(1.5e-1);

  private final double tolerance;

  Precision(double tolerance) {
    this.tolerance = tolerance;
  }

  /**
   * How far results may be from those of the same model in ONNX Runtime on the CPU, ‖a − b‖ / ‖b‖:
   * some hundred layers each of which rounds to 2⁻²⁴ (and may be computed by Winograd's transforms,
   * which lose three digits), to 2⁻¹¹, or puts a value into the neighbouring code of 256.
   */
  public double tolerance() {
    return tolerance;
  }

  /**
   * The precision of that name.
   *
   * @throws TacoException of kind USAGE where there is none
   */
  public static Precision of(String name) {
    List<String> names = Arrays.stream(values()).map(Precision::toString).toList();
    if (!names.contains(name)) {
      throw TacoException.usage(
          "--precision is fp32, fp16 or int8, not '%s'%s"
              .formatted(name, Suggestions.didYouMean(name, names)));
    }
    return valueOf(name.toUpperCase(Locale.ROOT));
  }

  /** Whether the model says which layers multiply 8-bit integers. */
  public static boolean isQuantized(OnnxModel model) {
    Map<String, Integer> operators = model.operatorCounts();
    return operators.containsKey("QuantizeLinear") || operators.containsKey("DequantizeLinear");
  }

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
