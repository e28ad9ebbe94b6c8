package org.taco4j.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class AccuracyTest {
  @Test
  void theIntervalIsWilsons() {
    // Brown, Cai, DasGupta 2001: n = 10, x = 8 gives (0.490, 0.943).
    Accuracy accuracy = new Accuracy(10, 8, 10);
    assertEquals(0.490, accuracy.top1Low(), 0.0005);
    assertEquals(0.943, accuracy.top1High(), 0.0005);
    assertEquals(0.8, accuracy.top1());
    assertEquals(1.0, accuracy.top5());
  }

  @Test
  void theExtremesStayWithinZeroAndOne() {
    assertEquals(0, new Accuracy(5, 0, 0).top1Low());
    assertEquals(1, new Accuracy(5, 5, 5).top1High());
    assertEquals(0, new Accuracy(0, 0, 0).top1());
  }

  @Test
  void percentilesInterpolateAsNumPyDoes() {
    double[] values = {4, 1, 3, 2};
    assertEquals(2.5, LatencyComparison.percentile(values, 0.5));
    assertEquals(1.0, LatencyComparison.percentile(values, 0));
    assertEquals(3.7, LatencyComparison.percentile(values, 0.9), 1e-12);
  }
}
