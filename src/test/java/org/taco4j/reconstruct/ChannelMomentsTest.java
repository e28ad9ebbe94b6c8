package org.taco4j.reconstruct;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class ChannelMomentsTest {
  @Test
  void partsMergeToTheWhole() {
    // [2, 3, 2]: channel c of image n holds 10 c + n and 10 c - n.
    float[] values = {0, 0, 10, 10, 20, 20, 1, -1, 11, 9, 21, 19};
    ChannelMoments whole = ChannelMoments.of(values, new long[] {2, 3, 2}, 1);
    ChannelMoments merged = new ChannelMoments(3);
    merged.merge(ChannelMoments.of(new float[] {0, 0, 10, 10, 20, 20}, new long[] {1, 3, 2}, 1));
    merged.merge(ChannelMoments.of(new float[] {1, -1, 11, 9, 21, 19}, new long[] {1, 3, 2}, 1));
    for (int c = 0; c < 3; c++) {
      assertEquals(10.0 * c, whole.mean(c), 1e-12);
      assertEquals(0.5, whole.variance(c), 1e-12);
      assertEquals(whole.mean(c), merged.mean(c), 1e-12);
      assertEquals(whole.variance(c), merged.variance(c), 1e-12);
    }
  }

  @Test
  void aLargeMeanDoesNotCancelTheVariance() {
    // float32 holds 1e6 to 1/16: the variance of 1e6 ± 0.25 is exactly 1/16.
    float[] values = {1e6f + 0.25f, 1e6f - 0.25f, 1e6f + 0.25f, 1e6f - 0.25f};
    assertEquals(0.0625, ChannelMoments.of(values, new long[] {4, 1}, -1).variance(0), 1e-12);
  }

  @Test
  void scalesAndShiftsAlongTheAxis() {
    float[] values = {1, 2, 3, 4};
    assertArrayEquals(
        new float[] {3, 21, 7, 41},
        ChannelMoments.affine(
            values, new long[] {2, 2}, -1, new float[] {2, 10}, new float[] {1, 1}));
    assertArrayEquals(
        new float[] {3, 5, 31, 41},
        ChannelMoments.affine(
            values, new long[] {2, 2}, 0, new float[] {2, 10}, new float[] {1, 1}));
  }
}
