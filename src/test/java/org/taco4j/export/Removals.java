package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;

/** What tests of removal share. */
final class Removals {
  private Removals() {}

  static long count(List<Structure> structures, Structure.Kind kind) {
    return structures.stream().filter(structure -> structure.kind() == kind).count();
  }

  /** Each layer but the depthwise ones produces one structure, or there is a reason why not. */
  static void assertEveryLayerIsAccountedFor(OnnxModel model, Structures structures) {
    Set<String> seen = new HashSet<>();
    for (Structure structure : structures.found()) {
      structure.producers().forEach(p -> assertEquals(true, seen.add(p.layer()), p.layer()));
    }
    structures.left().forEach(left -> assertEquals(true, seen.add(left.layer()), left.layer()));
    Set<String> layers = new HashSet<>();
    LayerDiscovery.discover(model).stream()
        .filter(layer -> !layer.isDepthwise())
        .forEach(layer -> layers.add(layer.name()));
    assertEquals(layers, seen);
  }

  /** For each structure some of its units, ascending: at least one, and not all. */
  static Map<Structure, int[]> randomSubsets(List<Structure> structures, Random random) {
    Map<Structure, int[]> kept = new LinkedHashMap<>();
    for (Structure structure : structures) {
      int[] units =
          IntStream.range(0, structure.units()).filter(u -> random.nextBoolean()).toArray();
      if (units.length == 0 || units.length == structure.units()) {
        units = new int[] {structure.units() - 1};
      }
      kept.put(structure, units);
    }
    return kept;
  }

  /** Writes zeros into the consumers' columns of all units but the given ones. */
  static void zero(OnnxModel model, Structure structure, int[] kept) {
    for (Structure.Consumer consumer : structure.consumers()) {
      Layer layer = LayerDiscovery.find(model, consumer.layer());
      float[][] weights = LayerWeights.unfold(model, layer);
      assertEquals(layer.cols(), structure.units() * consumer.columnsPerUnit());
      for (int i = 0; i < weights[0].length; i++) {
        int unit = i % layer.cols() / consumer.columnsPerUnit();
        if (Arrays.binarySearch(kept, unit) < 0) {
          weights[0][i] = 0;
        }
      }
      LayerWeights.fold(model, layer, weights);
    }
  }

  /** The layers of a structure have the rows and columns of that many units. */
  static void assertSizes(OnnxModel model, Structure structure, int units) {
    for (Structure.Producer producer : structure.producers()) {
      assertEquals(
          producer.copies() * units * producer.rowsPerUnit(),
          LayerDiscovery.find(model, producer.layer()).rows(),
          producer.layer());
    }
    for (Structure.Consumer consumer : structure.consumers()) {
      assertEquals(
          units * consumer.columnsPerUnit(),
          LayerDiscovery.find(model, consumer.layer()).cols(),
          consumer.layer());
    }
    for (String name : structure.depthwise()) {
      Layer layer = LayerDiscovery.find(model, name);
      assertEquals(0, layer.groups() % units, name);
      assertEquals(1, ((org.taco4j.onnx.Unfold.Convolution) layer.unfold()).channels(), name);
    }
  }

  /**
   * Fails unless both have the same outputs. Fewer columns let products be summed in another order:
   * float rounding, relative to the largest output, over some dozens of layers of at most some
   * thousands of terms.
   */
  static void assertSame(Map<String, Ort.Tensor> expected, Map<String, Ort.Tensor> actual) {
    assertEquals(expected.keySet(), actual.keySet());
    expected.forEach(
        (name, tensor) -> {
          float scale = 0;
          for (float value : tensor.values()) {
            scale = Math.max(scale, Math.abs(value));
          }
          assertArrayEquals(tensor.shape(), actual.get(name).shape(), name);
          assertArrayEquals(tensor.values(), actual.get(name).values(), 2e-5f * scale, name);
        });
  }
}
