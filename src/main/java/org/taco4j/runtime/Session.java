package org.taco4j.runtime;

import ai.onnxruntime.OnnxTensorLike;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.OnnxModel;

/**
 * A model loaded in ONNX Runtime on the CPU, with the {@link OperatorLibrary} where the model has
 * sparse operators. {@link #run} may be called by several threads at once; with one intra-op
 * thread, each call computes in the thread that calls.
 */
public final class Session implements AutoCloseable {
  /**
   * Models above this, in bytes, go to ONNX Runtime through a temporary file: handing over bytes
   * takes copies of the whole model on the heap.
   */
  private static final long IN_MEMORY_LIMIT = 256L << 20;

  private final OrtSession session;
  private final String source;

  private Session(OrtSession session, String source) {
    this.session = session;
    this.source = source;
  }

  /** Version of ONNX Runtime. */
  public static String runtimeVersion() {
    return OrtEnvironment.getEnvironment().getVersion();
  }

  /** What its build can run models on: {@code CPU}, {@code CUDA}, {@code Tensorrt}, ... */
  public static List<String> runtimeProviders() {
    return OrtEnvironment.getAvailableProviders().stream()
        .map(provider -> provider.getName().replace("ExecutionProvider", ""))
        .toList();
  }

  /**
   * Loads a model.
   *
   * @param threads threads inside one operator, the calling one included
   * @throws TacoException of kind MODEL when the runtime refuses the model
   */
  public static Session open(OnnxModel model, int threads) {
    if (model.sizeInBytes() <= IN_MEMORY_LIMIT) {
      byte[] bytes = model.toBytes();
      return open(
          model.source(),
          threads,
          model.hasSparseOperators(),
          (env, options) -> env.createSession(bytes, options));
    }
    Path folder = temporaryFolder(model);
    // Ctrl-C leaves no folder behind either.
    Thread hook = new Thread(() -> deleteFolder(folder), "taco-session-clean-up");
    Runtime.getRuntime().addShutdownHook(hook);
    try {
      Path file = folder.resolve("model.onnx");
      model.write(file);
      return open(
          model.source(),
          threads,
          model.hasSparseOperators(),
          (env, options) -> env.createSession(file.toString(), options));
    } finally {
      deleteFolder(folder);
      try {
        Runtime.getRuntime().removeShutdownHook(hook);
      } catch (IllegalStateException e) {
        // The process is ending; the hook finds nothing left to do.
      }
    }
  }

  private static Path temporaryFolder(OnnxModel model) {
    try {
      return Files.createTempDirectory("taco4j-session");
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.RUNTIME,
          "no temporary folder for loading " + model.source() + ": " + e.getMessage(),
          e);
    }
  }

  /** Loads a model file as it is. */
  public static Session open(Path file, int threads) {
    return open(
        file.toString(),
        threads,
        OnnxModel.hasSparseOperators(file),
        (env, options) -> env.createSession(file.toString(), options));
  }

  private interface Creation {
    OrtSession create(OrtEnvironment environment, OrtSession.SessionOptions options)
        throws OrtException;
  }

  private static Session open(
      String source, int threads, boolean sparseOperators, Creation creation) {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(threads);
      options.setInterOpNumThreads(1);
      options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR);
      // Sessions take turns here: one that spins after its run would steal from the next.
      options.addConfigEntry("session.force_spinning_stop", "1");
      if (sparseOperators) {
        OperatorLibrary.registerFor(source, options);
      }
      return new Session(creation.create(OrtEnvironment.getEnvironment(), options), source);
    } catch (OrtException e) {
      throw failure(source + ": ONNX Runtime " + runtimeVersion() + " refuses the model: ", e);
    }
  }

  /** The model is to blame, unless memory ran out. */
  private static TacoException failure(String what, OrtException e) {
    String message = String.valueOf(e.getMessage());
    return message.contains("bad_alloc") || message.contains("Failed to allocate memory")
        ? new TacoException(
            TacoException.Kind.RUNTIME,
            what
                + message
                + "; there is not enough memory outside of the JVM's heap: use a smaller heap"
                + " (TACO_JAVA_OPTS=-Xmx...), a smaller --memory or fewer --threads",
            e)
        : new TacoException(TacoException.Kind.MODEL, what + message, e);
  }

  /**
   * Runs the model.
   *
   * @param inputs all inputs by name; borrowed
   * @return all outputs by name; the caller closes them
   */
  public Map<String, Tensor> run(Map<String, Tensor> inputs) {
    Map<String, OnnxTensorLike> values = new LinkedHashMap<>();
    inputs.forEach((name, tensor) -> values.put(name, tensor.value()));
    try {
      // The result only refers to its values; these live on until they are closed one by one.
      OrtSession.Result result = session.run(values);
      Map<String, Tensor> outputs = new LinkedHashMap<>();
      for (Map.Entry<String, OnnxValue> entry : result) {
        outputs.put(entry.getKey(), Tensor.of(entry.getKey(), entry.getValue()));
      }
      return outputs;
    } catch (OrtException e) {
      throw failure(source + ": ONNX Runtime could not run the model: ", e);
    }
  }

  /** Runs the model into outputs that the caller allocated. */
  void runInto(Map<String, Tensor> inputs, Map<String, Tensor> outputs) {
    Map<String, OnnxTensorLike> values = new LinkedHashMap<>();
    inputs.forEach((name, tensor) -> values.put(name, tensor.value()));
    Map<String, OnnxValue> pinned = new LinkedHashMap<>();
    outputs.forEach((name, tensor) -> pinned.put(name, tensor.value()));
    try {
      // The result does not own what was pinned: closing it frees nothing of the caller's.
      session.run(values, pinned).close();
    } catch (OrtException e) {
      throw new TacoException(
          TacoException.Kind.MODEL,
          source + ": ONNX Runtime could not run the model: " + e.getMessage(),
          e);
    }
  }

  @Override
  public void close() {
    try {
      session.close();
    } catch (OrtException e) {
      throw new IllegalStateException(e);
    }
  }

  /** One caller at a time, as the shutdown hook may meet the thread that made the folder. */
  static synchronized void deleteFolder(Path folder) {
    if (!Files.exists(folder)) {
      return;
    }
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path path : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.deleteIfExists(path);
      }
    } catch (IOException e) {
      System.getLogger(Session.class.getName())
          .log(System.Logger.Level.WARNING, "temporary folder " + folder + " is left behind", e);
    }
  }
}
