package org.taco4j.tune;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;
import org.taco4j.tune.FloatForm.Grid;
import org.taco4j.tune.Optimizer.Rule;
import org.taco4j.tune.Optimizer.Schedule;

class ParameterTest {
  /** A few roundings of float32, of numbers up to 2. */
  private static final float ROUNDING = 1e-6f;

  private static Optimizer optimizer(Rule rule, double rate, double decay, double momentum) {
    return new Optimizer(rule, rate, Schedule.CONSTANT, decay, momentum);
  }

  private static Parameter parameter(Rule rule, float... values) {
    return new Parameter("w", new long[] {values.length}, values, null, null, rule.moments());
  }

  @Test
  void sgdWithMomentumAndDecay() {
    Parameter w = parameter(Rule.SGD, 1, -2);
    Optimizer sgd = optimizer(Rule.SGD, 0.1, 0.5, 0.9);
    w.step(new float[] {2, 1}, sgd, 0.1, 1);
    // g + 0.5 w = 2.5, 0; w - 0.1 v.
    assertArrayEquals(new float[] {0.75f, -2}, w.effective(), ROUNDING);
    w.step(new float[] {1, 1}, sgd, 0.1, 2);
    // v = 0.9 · 2.5 + 1 + 0.375 = 3.625; 0.9 · 0 + 1 - 1 = 0.
    assertArrayEquals(new float[] {0.3875f, -2}, w.effective(), ROUNDING);
  }

  @Test
  void adamIsTheFormula() {
    double[] gradients = {0.3, -0.2, 0.05, 1};
    Parameter w = parameter(Rule.ADAM, 0.5f);
    double value = 0.5;
    double m = 0;
    double v = 0;
    for (int t = 1; t <= gradients.length; t++) {
      double g = gradients[t - 1];
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      double corrected = Math.sqrt(v / (1 - Math.pow(0.999, t))) + 1e-8;
      value -= 0.01 * m / (1 - Math.pow(0.9, t)) / corrected;
      w.step(new float[] {(float) g}, optimizer(Rule.ADAM, 0.01, 0, 0), 0.01, t);
      assertEquals(value, w.effective()[0], ROUNDING);
    }
  }

  @Test
  void adamwDecaysApartFromTheGradient() {
    Parameter w = parameter(Rule.ADAMW, 2);
    w.step(new float[] {1}, optimizer(Rule.ADAMW, 0.1, 0.5, 0), 0.1, 1);
    // 2 · (1 - 0.05), less 0.1 · 1, as the first step of Adam is the sign of the gradient.
    assertEquals(1.8f, w.effective()[0], ROUNDING);
  }

  @Test
  void aMaskHoldsZerosWhateverTheGradient() {
    for (Rule rule : Rule.values()) {
      Parameter w =
          new Parameter(
              "w",
              new long[] {3},
              new float[] {1, 5, -1},
              new boolean[] {true, false, true},
              null,
              rule.moments());
      assertEquals(1, w.held());
      for (int t = 1; t < 4; t++) {
        w.step(new float[] {1, -7, 1}, optimizer(rule, 0.1, 0.1, 0), 0.1, t);
        assertEquals(0, Float.floatToRawIntBits(w.effective()[1]), "+0, not -0");
      }
      assertEquals(0, w.state()[1][1], "no momentum is gathered");
    }
  }

  @Test
  void roundingToAGridPassesTheGradientWithinItsRange() {
    Grid grid = new Grid("codes", new float[] {0.5f, 0.25f}, new int[] {0, 0}, 2, -2, 1);
    Parameter w =
        new Parameter(
            "w",
            new long[] {2, 2},
            new float[] {0.5f, -1, 0.25f, -3},
            new boolean[] {true, true, true, true},
            grid,
            1);
    assertArrayEquals(new float[] {0.5f, -1, 0.25f, -0.5f}, w.effective());
    Optimizer sgd = optimizer(Rule.SGD, 0.1, 0, 0);
    w.step(new float[] {2, -2, 1.5f, 1}, sgd, 0.1, 1);
    // 0.3 is nearer to 0.5; -0.8 to -1 (both row 0, 0.5); 0.1 to 0 (row 1); -3 is out of range.
    assertArrayEquals(new float[] {0.3f, -0.8f, 0.1f, -3}, w.state()[0], ROUNDING);
    assertArrayEquals(new float[] {0.5f, -1, 0, -0.5f}, w.effective());
  }

  @Test
  void theLinearScheduleReachesZeroAfterTheLastStep() {
    Optimizer adam = new Optimizer(Rule.ADAM, 0.4, Schedule.LINEAR, 0, 0);
    assertEquals(0.4, adam.rate(0, 4));
    assertEquals(0.1, adam.rate(3, 4), 1e-15);
    assertEquals(0.4, optimizer(Rule.ADAM, 0.4, 0, 0).rate(3, 4));
  }
}
