package org.taco4j.runtime;

import ai.onnxruntime.OnnxTensorLike;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.OnnxModel;

/**
 * A small model in ONNX Runtime whose nodes the runtime times, those included that it adds to
 * reorder tensors. Used by one thread.
 */
public final class ProfiledSession implements AutoCloseable {
  private static final String TIME = "_kernel_time";

  private final OrtSession session;
  private final Path folder;

  /**
   * A node of the optimised graph.
   *
   * @param name that the runtime gave it
   * @param operator such as {@code Conv} or {@code ReorderInput}
   * @param inputShape of its first input
   * @param millis of each run, in their order
   */
  public record NodeTimes(
      String name, String operator, List<Long> inputShape, List<Double> millis) {}

  private ProfiledSession(OrtSession session, Path folder) {
    this.session = session;
    this.folder = folder;
  }

  /**
   * Loads a model.
   *
   * @param threads threads inside one operator, the calling one included
   * @param sparse whether sparse operators run on the library, or as what stands for them
   * @throws TacoException of kind RUNTIME where the library is asked for and there is none, or the
   *     runtime refuses the model
   */
  public static ProfiledSession open(OnnxModel model, int threads, boolean sparse) {
    Path folder;
    try {
      folder = Files.createTempDirectory("taco4j-profile");
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.RUNTIME, "no temporary folder for a profile: " + e.getMessage(), e);
    }
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(threads);
      options.setInterOpNumThreads(1);
      options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR);
      options.addConfigEntry("session.force_spinning_stop", "1");
      options.enableProfiling(folder.resolve("profile").toString());
      if (sparse) {
        OperatorLibrary.register(options);
      }
      return new ProfiledSession(
          OrtEnvironment.getEnvironment().createSession(model.toBytes(), options), folder);
    } catch (OrtException e) {
      throw refused(model, e);
    }
  }

  private static TacoException refused(OnnxModel model, OrtException e) {
    return new TacoException(
        TacoException.Kind.RUNTIME,
        "a layer of "
            + model.source()
            + " cannot be timed in ONNX Runtime "
            + Session.runtimeVersion()
            + ": "
            + e.getMessage(),
        e);
  }

  /** Runs the model; inputs by name are borrowed, outputs are dropped. */
  public void run(Map<String, Tensor> inputs) {
    Map<String, OnnxTensorLike> values = new LinkedHashMap<>();
    inputs.forEach((name, tensor) -> values.put(name, tensor.value()));
    try {
      session.run(values).close();
    } catch (OrtException e) {
      throw new TacoException(
          TacoException.Kind.RUNTIME,
          "ONNX Runtime could not run a layer that is timed: " + e.getMessage(),
          e);
    }
  }

  /** The times of all runs, by node; the last call but {@link #close}. */
  public List<NodeTimes> times() {
    try {
      JsonNode events = new ObjectMapper().readTree(Path.of(session.endProfiling()).toFile());
      Map<String, NodeTimes> nodes = new LinkedHashMap<>();
      for (JsonNode event : events) {
        String name = event.path("name").asText();
        if (!event.path("cat").asText().equals("Node") || !name.endsWith(TIME)) {
          continue;
        }
        JsonNode arguments = event.path("args");
        nodes
            .computeIfAbsent(
                name + arguments.path("node_index").asText(),
                n ->
                    new NodeTimes(
                        name.substring(0, name.length() - TIME.length()),
                        arguments.path("op_name").asText(),
                        shape(arguments.at("/input_type_shape/0")),
                        new ArrayList<>()))
            .millis()
            .add(event.path("dur").asDouble() / 1000); // microseconds
      }
      return List.copyOf(nodes.values());
    } catch (IOException | OrtException e) {
      throw new TacoException(
          TacoException.Kind.RUNTIME,
          "the profile that ONNX Runtime wrote to " + folder + " cannot be read: " + e.getMessage(),
          e);
    }
  }

  /** Of {@code {"float": [1, 64, 56, 56]}}. */
  private static List<Long> shape(JsonNode typed) {
    List<Long> shape = new ArrayList<>();
    typed.forEach(dims -> dims.forEach(dim -> shape.add(dim.asLong())));
    return shape;
  }

  @Override
  public void close() {
    try {
      session.close();
    } catch (OrtException e) {
      throw new IllegalStateException(e);
    } finally {
      Session.deleteFolder(folder);
    }
  }
}
