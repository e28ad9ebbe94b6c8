package org.taco4j.bench;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;
import org.taco4j.runtime.TimedModel;

/** The order of things and the arithmetic, on models that only say how long they take. */
class DeviceComparisonTest {
  private static final long[] SHAPE = {1, 3, 2, 2};

  /** Adds up each image and multiplies by a factor; its times are what it was made with. */
  private static final class Fake implements TimedModel {
    private final String name;
    private final double millis;
    private final float factor;
    private final boolean timesDevice;
    private final List<String> calls;
    private float[] images = {};
    private int batch;

    Fake(String name, double millis, float factor, boolean timesDevice, List<String> calls) {
      this.name = name;
      this.millis = millis;
      this.factor = factor;
      this.timesDevice = timesDevice;
      this.calls = calls;
    }

    @Override
    public void load(float[] newImages, int newBatch) {
      calls.add(name + " load " + newBatch);
      images = newImages;
      batch = newBatch;
    }

    @Override
    public float[] run() {
      calls.add(name + " run");
      return sums(images, batch, factor);
    }

    @Override
    public boolean timesDevice() {
      return timesDevice;
    }

    @Override
    public double millisOnDevice() {
      calls.add(name + " device");
      return millis * batch;
    }

    @Override
    public double millisWithCopies() {
      calls.add(name + " copies");
      return millis * batch + 1;
    }

    @Override
    public void close() {}
  }

  private static float[] sums(float[] images, int count, float factor) {
    float[] sums = new float[count];
    for (int i = 0; i < images.length; i++) {
      sums[i / (images.length / count)] += factor * images[i];
    }
    return sums;
  }

  private static DeviceComparison measure(Fake dense, Fake compressed, int batch) {
    DeviceComparison.Reference cpu = (images, count) -> sums(images, count, 1);
    return DeviceComparison.measure(
        new DeviceComparison.Pair(dense, cpu, compressed, cpu, SHAPE, 1e-3), batch, 0, 11);
  }

  @Test
  void resultsAreComparedBeforeTimesAreTakenInTurns() {
    List<String> calls = new ArrayList<>();
    DeviceComparison result =
        measure(
            new Fake("dense", 2, 1, true, calls), new Fake("compressed", 0.5, 1, true, calls), 8);
    assertEquals(
        List.of("dense load 8", "compressed load 8", "dense run", "compressed run"),
        calls.subList(0, 4));
    // After ten pairs to warm up at the least, each goes first in turn.
    int first = calls.indexOf("dense copies");
    List<String> onDevice = calls.subList(4, first);
    assertTrue(onDevice.size() >= 2 * 21, () -> onDevice.size() + " runs");
    assertEquals(
        List.of("dense device", "compressed device", "compressed device", "dense device"),
        onDevice.subList(onDevice.size() - 22, onDevice.size() - 18));
    assertNotNull(result.onDevice());
    assertEquals(16, result.onDevice().dense().p50Millis());
    assertEquals(4, result.onDevice().compressed().p99Millis());
    assertEquals(4, result.onDevice().ratio());
    assertEquals(17.0 / 5, result.withCopies().ratio(), 1e-12);
    assertEquals(500, result.denseImagesPerSecond());
    assertEquals(2000, result.compressedImagesPerSecond());
    assertEquals(0, result.denseDifference());
    assertEquals(8, result.batch());
  }

  @Test
  void withoutTheDevicesClockTimesAreThoseWithCopies() {
    List<String> calls = new ArrayList<>();
    DeviceComparison result =
        measure(
            new Fake("dense", 1, 1, false, calls), new Fake("compressed", 1, 1, false, calls), 3);
    assertNull(result.onDevice());
    assertEquals(750, result.denseImagesPerSecond());
    assertTrue(calls.stream().noneMatch(call -> call.endsWith("device")));
  }

  @Test
  void aModelWithOtherResultsIsNotTimed() {
    for (float factor : new float[] {1.01f, 0, Float.NaN, Float.POSITIVE_INFINITY}) {
      List<String> calls = new ArrayList<>();
      TacoException e =
          assertThrows(
              TacoException.class,
              () ->
                  measure(
                      new Fake("dense", 1, 1, true, calls),
                      new Fake("compressed", 1, factor, true, calls),
                      1));
      assertEquals(TacoException.Kind.NUMERICAL, e.kind());
      assertTrue(e.getMessage().startsWith("the compressed model gives other results"));
      assertTrue(calls.stream().noneMatch(call -> call.endsWith("device")));
    }
    List<String> calls = new ArrayList<>();
    assertTrue(
        measure(
                    new Fake("dense", 1, 1.0005f, true, calls),
                    new Fake("compressed", 1, 1, true, calls),
                    5)
                .denseDifference()
            > 4e-4);
  }

  @Test
  void imagesAreTheSameEveryTime() {
    float[] two = LatencyComparison.randomImages(2, SHAPE);
    assertEquals(24, two.length);
    assertArrayEquals(LatencyComparison.randomImages(1, SHAPE), Arrays.copyOf(two, 12));
  }
}
