package org.taco4j.runtime.tensorrt;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.TreeSet;
import java.util.stream.Stream;

/**
 * The layers of an engine, as its inspector describes them in JSON: {@code {"Layers": [{"Name":
 * ..., "LayerType": ..., "TacticName": ..., "HasSparseWeights": 1, ...}, ...], "Bindings": [...]}},
 * or plain names where an engine was built without details. Versions differ in what they say, so
 * what is not there is taken for not known, and nothing of it is an error.
 */
public final class EngineLayers {
  private static final ObjectMapper JSON = new ObjectMapper();

  /** Parts of the names of kernels that skip zeros. */
  private static final List<String> SPARSE_KERNELS = List.of("sparse", "spmma", "spgemm");

  private EngineLayers() {}

  /**
   * What became of a model in an engine.
   *
   * @param layers how many layers the engine has, after fusion
   * @param detailed whether the inspector named tactics
   * @param sparseWeights layers whose weights have the pattern 2:4, by TensorRT's names
   * @param sparseTactics layers whose kernel skips zeros
   */
  public record Summary(
      int layers, boolean detailed, List<String> sparseWeights, List<String> sparseTactics) {

    /** With what the builder's log says as well. */
    Summary and(List<String> eligible, List<String> picked) {
      return new Summary(
          layers, detailed, union(sparseWeights, eligible), union(sparseTactics, picked));
    }

    private static List<String> union(List<String> a, List<String> b) {
      return Stream.concat(a.stream(), b.stream()).distinct().toList();
    }
  }

  /**
   * Reads the text of {@code IEngineInspector::getEngineInformation}.
   *
   * @param json the text; one that is no JSON gives no layers
   */
  public static Summary parse(String json) {
    JsonNode root;
    try {
      root = JSON.readTree(json);
    } catch (JsonProcessingException e) {
      return new Summary(0, false, List.of(), List.of());
    }
    JsonNode layers = root.isArray() ? root : root.path("Layers");
    boolean detailed = false;
    List<String> weights = new ArrayList<>();
    List<String> tactics = new ArrayList<>();
    for (JsonNode layer : layers) {
      String name = layer.path("Name").asText();
      String tactic = layer.path("TacticName").asText();
      detailed |= !tactic.isEmpty();
      if (isTrue(layer.path("HasSparseWeights"))) {
        weights.add(name);
      }
      String kernel = tactic.toLowerCase(Locale.ROOT);
      if (SPARSE_KERNELS.stream().anyMatch(kernel::contains)) {
        tactics.add(name);
      }
    }
    return new Summary(layers.size(), detailed, List.copyOf(weights), List.copyOf(tactics));
  }

  /** A number in most versions, a word in others. */
  private static boolean isTrue(JsonNode flag) {
    return flag.asInt() != 0 || flag.asBoolean() || flag.asText().equalsIgnoreCase("true");
  }

  /** All tactic names, sorted, for the file that is kept beside an engine. */
  static List<String> tactics(String json) {
    try {
      TreeSet<String> names = new TreeSet<>();
      JSON.readTree(json).findValuesAsText("TacticName").forEach(names::add);
      names.remove("");
      return List.copyOf(names);
    } catch (JsonProcessingException e) {
      return List.of();
    }
  }
}
