package org.taco4j;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import org.taco4j.common.Sha256;

/**
 * All that decides the bytes of the solved layers: two runs of which this is the same may share
 * finished layers.
 *
 * @param parts by a name for people; the values are hashes or texts
 */
record RunFingerprint(Map<String, String> parts) {
  private static final ObjectMapper JSON = new ObjectMapper();

  /** SHA-256 in hex. */
  String sha256() {
    return Sha256.hex(toJson());
  }

  /** The names of the parts in which {@code other} differs. */
  List<String> differences(RunFingerprint other) {
    Set<String> names = new LinkedHashSet<>(parts.keySet());
    names.addAll(other.parts.keySet());
    return names.stream()
        .filter(name -> !Objects.equals(parts.get(name), other.parts.get(name)))
        .toList();
  }

  /** As JSON, the parts in their order. */
  String toJson() {
    try {
      return JSON.writerWithDefaultPrettyPrinter().writeValueAsString(this) + "\n";
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }

  /**
   * What {@link #toJson} wrote.
   *
   * @throws JsonProcessingException for a damaged text
   */
  static RunFingerprint parse(String json) throws JsonProcessingException {
    return JSON.readValue(json, RunFingerprint.class);
  }
}
