package org.taco4j.runtime.tensorrt;

import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.Notices;
import org.taco4j.common.Sha256;
import org.taco4j.common.TacoException;

/**
 * Built engines in the user's folder for caches: {@code NAME.engine}, which trtexec loads too, and
 * {@code NAME.json}, which says what it was built from and what the builder said. The name is a
 * hash of all that an engine depends on, so an old one is never taken for a new one. To build anew,
 * delete the folder.
 */
public final class EngineCache {
  private static final int SCHEMA = 1;

  private static final int NAME_DIGITS = 32;

  private static final ObjectMapper JSON =
      JsonMapper.builder()
          .enable(SerializationFeature.INDENT_OUTPUT)
          .enable(DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES)
          .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES)
          .enable(DeserializationFeature.FAIL_ON_NULL_CREATOR_PROPERTIES)
          .build();

  /**
   * All that an engine depends on.
   *
   * @param model SHA-256 of graph and weights
   * @param tensorRt version of TensorRT: 10.15.1
   * @param device name of the GPU
   * @param capability its compute capability: sm_86
   * @param uuid of the GPU: two of a kind may differ in clocks, by which kernels are chosen
   * @param driver version of the driver's CUDA: 13010
   * @param precision fp32, fp16 or int8
   * @param sparseTactics whether zeros of the pattern 2:4 may be skipped
   * @param batches that kernels are chosen for
   * @param imageShape of one image
   */
  @JsonPropertyOrder({
    "model",
    "tensorRt",
    "device",
    "capability",
    "uuid",
    "driver",
    "precision",
    "sparseTactics",
    "batches",
    "imageShape"
  })
  public record Key(
      String model,
      String tensorRt,
      String device,
      String capability,
      String uuid,
      int driver,
      String precision,
      boolean sparseTactics,
      List<Integer> batches,
      List<Long> imageShape) {

    /** For a model on a device. */
    static Key of(String model, String tensorRt, Device device, EngineOptions options) {
      return new Key(
          model,
          tensorRt,
          device.name(),
          device.capability(),
          device.uuid(),
          device.driver(),
          options.precision().toString(),
          options.sparseTactics(),
          List.copyOf(options.batches()),
          Arrays.stream(options.imageShape()).skip(1).boxed().toList());
    }

    String fileName() {
      try {
        return Sha256.hex(JSON.writeValueAsString(this)).substring(0, NAME_DIGITS);
      } catch (JsonProcessingException e) {
        throw new IllegalStateException(e);
      }
    }
  }

  /**
   * A GPU.
   *
   * @param capability such as sm_86
   * @param driver as cuDriverGetVersion says it
   */
  public record Device(String name, String capability, String uuid, int driver) {}

  /**
   * What is known of a built engine beside its bytes.
   *
   * @param seconds that building took
   * @param eligible layers that may skip zeros, as the builder said
   * @param picked those that do
   * @param warnings of the builder
   */
  public record Built(
      double seconds, List<String> eligible, List<String> picked, List<String> warnings) {}

  /** The JSON file. */
  @JsonPropertyOrder({"schema", "key", "engineSha256", "built"})
  record Description(int schema, Key key, String engineSha256, Built built) {}

  /** An engine, ready to be loaded. */
  @SuppressWarnings("ArrayRecordComponent") // bytes of a file: comparing them by value is no use
  record Stored(byte[] engine, Built built) {}

  private final Path folder;

  /** Engines in that folder, which need not be there. */
  public EngineCache(Path folder) {
    this.folder = folder;
  }

  Path engineFile(Key key) {
    return folder.resolve(key.fileName() + ".engine");
  }

  Path descriptionFile(Key key) {
    return folder.resolve(key.fileName() + ".json");
  }

  /** The engine of a key; empty where there is none, or none that is whole, which is noted. */
  Optional<Stored> load(Key key, Notices notices) {
    Path engine = engineFile(key);
    Path description = descriptionFile(key);
    if (!Files.exists(engine) || !Files.exists(description)) {
      return Optional.empty();
    }
    try {
      Description said = JSON.readValue(Files.readString(description), Description.class);
      byte[] bytes = Files.readAllBytes(engine);
      String problem =
          said.schema() != SCHEMA || !said.key().equals(key)
              ? "is of another version"
              : hash(bytes).equals(said.engineSha256()) ? "" : "is damaged";
      if (problem.isEmpty()) {
        return Optional.of(new Stored(bytes, said.built()));
      }
      notices.add("engine-not-used", engine.toString(), problem + ": it is built anew", 1);
    } catch (IOException e) {
      notices.add(
          "engine-not-used",
          engine.toString(),
          "cannot be read, it is built anew: "
              + (e instanceof JsonProcessingException json
                  ? json.getOriginalMessage()
                  : e.getMessage()),
          1);
    }
    return Optional.empty();
  }

  /** Keeps an engine; that it cannot be kept is noted, and no error. */
  void save(Key key, byte[] engine, Built built, Notices notices) {
    try {
      // The description last: without it the engine does not count.
      AtomicFiles.write(engineFile(key), out -> out.write(engine));
      AtomicFiles.writeString(
          descriptionFile(key),
          JSON.writeValueAsString(new Description(SCHEMA, key, hash(engine), built)) + "\n");
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    } catch (TacoException e) {
      notices.add(
          "engine-not-kept",
          engineFile(key).toString(),
          "the engine is not kept for later: " + e.getMessage(),
          1);
    }
  }

  private static String hash(byte[] bytes) {
    return HexFormat.of().formatHex(Sha256.create().digest(bytes));
  }
}
