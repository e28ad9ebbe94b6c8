package org.taco4j.export;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.OnnxModel;

/**
 * The hidden dimensions of a model that can be made smaller, and those that cannot.
 *
 * @param found in graph order of their first producers; no layer produces two of them
 * @param left layers whose rows stay, in graph order
 */
public record Structures(List<Structure> found, List<Left> left) {
  /** How often a dimension is taken apart: into query, key and value, then heads, and once more. */
  private static final int DEPTH = 3;

  /**
   * A layer whose output dimension stays as it is.
   *
   * @param reason why, for people: it names the node in the way
   */
  public record Left(String layer, String reason) {}

  /**
   * Finds the structures of a model. Each layer's rows are followed to the layers that read them;
   * where a Reshape or Split divides them, they are followed as heads. Depthwise convolutions are
   * no producers: their channels are those of the layer before.
   */
  public static Structures discover(OnnxModel model) {
    List<Structure> found = new ArrayList<>();
    List<Left> left = new ArrayList<>();
    Set<String> producers = new HashSet<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (layer.isDepthwise() || producers.contains(layer.name())) {
        continue;
      }
      try {
        Structure structure = search(model, layer, 1, layer.rows(), 1, DEPTH).structure();
        if (structure.producers().stream().anyMatch(p -> producers.contains(p.layer()))) {
          throw Refused.because(-1, "its output is joined with one that is removed elsewhere");
        }
        structure.producers().forEach(producer -> producers.add(producer.layer()));
        left.removeIf(other -> producers.contains(other.layer()));
        found.add(structure);
      } catch (Refused refused) {
        left.add(new Left(layer.name(), refused.reason()));
      }
    }
    return new Structures(List.copyOf(found), List.copyOf(left));
  }

  /** Takes rows as units, or else, where they are divided, each part of the division in turn. */
  private static UnitTrace search(
      OnnxModel model, Layer layer, int copies, int units, int rowsPerUnit, int depth)
      throws Refused {
    if (units < 2) {
      throw Refused.because(-1, "it has one unit only");
    }
    try {
      return UnitTrace.of(model, units, List.of(new UnitTrace.Root(layer, copies, rowsPerUnit)));
    } catch (Refused refused) {
      long[] factors = refused.factors();
      if (factors == null || depth == 0) {
        throw refused;
      }
      Refused furthest = refused;
      int before = 1;
      for (long factor : factors) {
        int after = (int) (units / before / factor);
        if (factor > 1 && factor < units) {
          try {
            return search(
                model, layer, copies * before, (int) factor, rowsPerUnit * after, depth - 1);
          } catch (Refused other) {
            furthest = other.node() > furthest.node() ? other : furthest;
          }
        }
        before *= (int) factor;
      }
      throw furthest;
    }
  }
}
