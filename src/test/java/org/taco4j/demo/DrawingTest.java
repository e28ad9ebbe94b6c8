package org.taco4j.demo;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.taco4j.common.Workers;

class DrawingTest {
  private static final int PIXELS = Drawing.SIDE * Drawing.SIDE;

  private static int[] pixels(java.awt.image.BufferedImage image) {
    return image.getRGB(0, 0, Drawing.SIDE, Drawing.SIDE, null, 0, Drawing.SIDE);
  }

  private static int[] pixels(DrawnClass thing, int index) {
    return pixels(Drawing.draw(thing, 5, index));
  }

  @Test
  void thePictureDependsOnClassSeedAndIndexAlone() {
    DrawnClass[] classes = DrawnClass.values();
    int[][] inOrder = new int[2 * classes.length][];
    for (int i = 0; i < inOrder.length; i++) {
      inOrder[i] = pixels(classes[i / 2], i % 2);
    }
    int[][] backwards = new int[inOrder.length][];
    try (Workers workers = new Workers(3)) {
      workers.forEach(
          inOrder.length,
          task -> {
            int i = inOrder.length - 1 - task;
            backwards[i] = pixels(classes[i / 2], i % 2);
          });
    }
    assertArrayEquals(inOrder, backwards);
    long different = Arrays.stream(inOrder).mapToInt(Arrays::hashCode).distinct().count();
    assertEquals(inOrder.length, different);
    assertFalse(Arrays.equals(inOrder[0], pixels(Drawing.draw(classes[0], 6, 0))));
  }

  /** Averaged over pictures, as light and noise change the background, too. */
  @ParameterizedTest
  @EnumSource
  void aThingStandsOutFromItsBackground(DrawnClass thing) {
    int pictures = 20;
    double changed = 0;
    for (int index = 0; index < pictures; index++) {
      int[] with = pixels(thing, index);
      int[] without = pixels(Drawing.background(thing, 5, index));
      changed += IntStream.range(0, PIXELS).filter(i -> distance(with[i], without[i]) > 90).count();
    }
    double part = changed / pictures / PIXELS;
    // What no thing changes: below 4 %, from noise and what stands in front.
    assertTrue(part > 0.1, () -> "only " + part + " of the pixels show the " + thing);
  }

  /** Of red, green and blue together. */
  private static int distance(int a, int b) {
    return Math.abs((a >> 16 & 255) - (b >> 16 & 255))
        + Math.abs((a >> 8 & 255) - (b >> 8 & 255))
        + Math.abs((a & 255) - (b & 255));
  }

  @Test
  void everyClassIsInOneFamilyOfSixOrMore() {
    EnumSet<DrawnClass> seen = EnumSet.noneOf(DrawnClass.class);
    for (Family family : Family.values()) {
      List<DrawnClass> classes = family.classes();
      assertTrue(classes.size() >= 6, family + " has " + classes);
      assertTrue(seen.addAll(classes));
    }
    assertEquals(EnumSet.allOf(DrawnClass.class), seen);
  }
}
