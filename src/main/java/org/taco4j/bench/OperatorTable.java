package org.taco4j.bench;

import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;

/**
 * Measured times of layers in ONNX Runtime, dense and with the operator library, on one machine: a
 * JSON file in the user's folder for caches. Sparse times are kept by sparsity; between two of them
 * that are near enough they are interpolated.
 */
public final class OperatorTable {
  private static final int SCHEMA = 1;

  /** Sparsities between which times are taken to be on a line are at most so far apart. */
  private static final double WIDEST_GAP = 0.201;

  /** Sparsities that are no further apart than that count as one. */
  static final double SAME = 0.01;

  private static final ObjectMapper JSON =
      JsonMapper.builder()
          .enable(SerializationFeature.INDENT_OUTPUT)
          .enable(DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES)
          .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES)
          .enable(DeserializationFeature.FAIL_ON_NULL_CREATOR_PROPERTIES)
          .build();

  /**
   * What times depend on beside the layer.
   *
   * @param processor as the operating system calls it
   * @param instructionSet whose kernels run
   * @param onnxRuntime its version
   * @param library which build of it, {@link org.taco4j.runtime.OperatorLibrary#build}
   * @param threads inside an operator
   */
  public record Machine(
      String processor, String instructionSet, String onnxRuntime, String library, int threads) {}

  /**
   * A layer that runs densely.
   *
   * @param millis of its own nodes
   * @param reordersInput whether the runtime brings its input to a blocked layout first
   * @param reordersOutput whether its output is in a blocked layout, and brought back
   * @param inputMillis of bringing its input there
   * @param outputMillis of bringing its output back
   */
  public record Dense(
      double millis,
      boolean reordersInput,
      boolean reordersOutput,
      double inputMillis,
      double outputMillis) {}

  /** The time of a layer with the library, at a sparsity. */
  record Sparse(String zeros, double sparsity, double millis) {}

  /** All times of a layer. */
  @JsonPropertyOrder({"layer", "dense", "sparse"})
  record Entry(String layer, Dense dense, List<Sparse> sparse) {}

  /** The file. */
  @JsonPropertyOrder({"schema", "machine", "layers"})
  record Content(int schema, Machine machine, List<Entry> layers) {}

  private final Path file;
  private final Machine machine;
  private final Map<String, Dense> dense = new TreeMap<>();
  private final Map<String, Map<String, NavigableMap<Double, Double>>> sparse = new TreeMap<>();
  private boolean changed;

  private OperatorTable(Path file, Machine machine) {
    this.file = file;
    this.machine = machine;
  }

  /**
   * The folder for caches: {@code $XDG_CACHE_HOME}, or what the system has in its place, and in it
   * one of this project.
   */
  public static Path cacheFolder() {
    String home = System.getProperty("user.home");
    String system = System.getProperty("os.name").toLowerCase(Locale.ROOT);
    String xdg = System.getenv("XDG_CACHE_HOME");
    String local = System.getenv("LOCALAPPDATA");
    Path caches =
        xdg != null && !xdg.isEmpty() && Path.of(xdg).isAbsolute()
            ? Path.of(xdg)
            : system.startsWith("mac")
                ? Path.of(home, "Library", "Caches")
                : system.startsWith("win") && local != null && !local.isEmpty()
                    ? Path.of(local)
                    : Path.of(home, ".cache");
    return caches.resolve("taco4j");
  }

  /** The file of a machine: one for each processor, instruction set and number of threads. */
  public static Path fileOf(Path folder, Machine machine) {
    String name =
        "operators-%s-%s-%d"
            .formatted(machine.processor(), machine.instructionSet(), machine.threads())
            .toLowerCase(Locale.ROOT)
            .replaceAll("[^a-z0-9]+", "-");
    return folder.resolve(name + ".json");
  }

  /**
   * The table of a machine; empty where there is none yet, or none that can be used, which is
   * noted.
   */
  public static OperatorTable open(Path folder, Machine machine, Notices notices) {
    OperatorTable table = new OperatorTable(fileOf(folder, machine), machine);
    if (Files.exists(table.file)) {
      try {
        table.read();
      } catch (IOException e) {
        table.dense.clear();
        table.sparse.clear();
        notices.add(
            "operator-table-damaged",
            table.file.toString(),
            "cannot be read and is not used, times are measured anew: "
                + (e instanceof JsonProcessingException json
                    ? json.getOriginalMessage()
                    : e.getMessage()),
            1);
      } catch (OutdatedException e) {
        notices.add(
            "operator-table-outdated",
            table.file.toString(),
            "is not used, times are measured anew: it is " + e.getMessage(),
            1);
      }
    }
    return table;
  }

  /** A table of another version of something. */
  private static final class OutdatedException extends Exception {
    private static final long serialVersionUID = 1L;

    OutdatedException(String message) {
      super(message);
    }
  }

  private void read() throws IOException, OutdatedException {
    String text = Files.readString(file);
    JsonNode version = JSON.readTree(text).path("schema");
    if (!version.isInt()) {
      throw new IOException("it says no schema");
    }
    int schema = version.asInt();
    if (schema != SCHEMA) {
      throw new OutdatedException("of schema " + schema + ", not " + SCHEMA);
    }
    Content content = JSON.readValue(text, Content.class);
    if (!content.machine().equals(machine)) {
      Machine other = content.machine();
      throw new OutdatedException(
          "of ONNX Runtime %s and build %s of the operators on %s; these are %s, %s and %s"
              .formatted(
                  other.onnxRuntime(),
                  other.library(),
                  other.processor(),
                  machine.onnxRuntime(),
                  machine.library(),
                  machine.processor()));
    }
    for (Entry entry : content.layers()) {
      if (!(entry.dense().millis() >= 0)) {
        throw new IOException("the dense time of " + entry.layer() + " is no time");
      }
      dense.put(entry.layer(), entry.dense());
      for (Sparse time : entry.sparse()) {
        if (!(time.millis() >= 0 && time.sparsity() >= 0 && time.sparsity() <= 1)) {
          throw new IOException("a sparse time of " + entry.layer() + " is no time");
        }
        times(entry.layer(), time.zeros()).put(time.sparsity(), time.millis());
      }
    }
  }

  private NavigableMap<Double, Double> times(String layer, String zeros) {
    return sparse
        .computeIfAbsent(layer, l -> new TreeMap<>())
        .computeIfAbsent(zeros, z -> new TreeMap<>());
  }

  /** Where it is kept. */
  public Path file() {
    return file;
  }

  /** How many layers it has times of. */
  public int size() {
    return dense.size();
  }

  /** The time of a layer that runs densely. */
  Optional<Dense> dense(String layer) {
    return Optional.ofNullable(dense.get(layer));
  }

  /**
   * The time of a layer with the library, in milliseconds: as measured, or between two sparsities
   * on the line through their times.
   */
  OptionalDouble sparse(String layer, String zeros, double exactSparsity) {
    double sparsity = rounded(exactSparsity);
    NavigableMap<Double, Double> times =
        sparse.getOrDefault(layer, Map.of()).getOrDefault(zeros, new TreeMap<>());
    Map.@Nullable Entry<Double, Double> below = times.floorEntry(sparsity + SAME);
    Map.@Nullable Entry<Double, Double> above = times.ceilingEntry(sparsity - SAME);
    if (below == null || above == null) {
      return OptionalDouble.empty();
    }
    if (above.getKey() <= below.getKey()) {
      return OptionalDouble.of(below.getValue());
    }
    if (above.getKey() - below.getKey() > WIDEST_GAP) {
      return OptionalDouble.empty();
    }
    double part = (sparsity - below.getKey()) / (above.getKey() - below.getKey());
    return OptionalDouble.of(
        below.getValue() + Math.clamp(part, 0, 1) * (above.getValue() - below.getValue()));
  }

  /** As it stands in the table. */
  static double rounded(double sparsity) {
    return Math.round(sparsity * 1000) / 1000.0;
  }

  void putDense(String layer, Dense time) {
    dense.put(layer, time);
    changed = true;
  }

  void putSparse(String layer, String zeros, double sparsity, double millis) {
    times(layer, zeros).put(rounded(sparsity), millis);
    changed = true;
  }

  /** Writes what has changed; that it cannot be kept is noted, and no error. */
  public void save(Notices notices) {
    if (!changed) {
      return;
    }
    List<Entry> entries = new ArrayList<>();
    dense.forEach(
        (layer, time) -> {
          List<Sparse> times = new ArrayList<>();
          sparse
              .getOrDefault(layer, Map.of())
              .forEach(
                  (zeros, bySparsity) ->
                      bySparsity.forEach(
                          (sparsity, millis) -> times.add(new Sparse(zeros, sparsity, millis))));
          entries.add(new Entry(layer, time, times));
        });
    try {
      String text = JSON.writeValueAsString(new Content(SCHEMA, machine, entries)) + "\n";
      AtomicFiles.writeString(file, text);
      changed = false;
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    } catch (TacoException e) {
      notices.add(
          "operator-table-not-kept",
          file.toString(),
          "measured times are not kept for later: " + e.getMessage(),
          1);
    }
  }
}
