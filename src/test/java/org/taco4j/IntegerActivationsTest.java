package org.taco4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Map;
import org.junit.jupiter.api.Test;
import org.taco4j.calibrate.RangeMethod;
import org.taco4j.common.TacoException;

class IntegerActivationsTest {
  @Test
  void notANumberIsFartherThanAnything() {
    assertEquals(
        RangeMethod.MSE,
        IntegerActivations.nearest(
            "m.onnx", Map.of(RangeMethod.MIN_MAX, Double.NaN, RangeMethod.MSE, 7.0)));
    TacoException e =
        assertThrows(
            TacoException.class,
            () -> IntegerActivations.nearest("m.onnx", Map.of(RangeMethod.MSE, Double.NaN)));
    assertEquals(TacoException.Kind.NUMERICAL, e.kind());
    assertTrue(e.getMessage().contains("m.onnx"), e.getMessage());
  }
}
