package org.taco4j.runtime;

import ai.onnxruntime.OnnxTensorLike;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.providers.OrtCUDAProviderOptions;
import ai.onnxruntime.providers.OrtTensorRTProviderOptions;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.OnnxModel;

/**
 * A model in ONNX Runtime on an {@link ExecutionProvider}, which is timed from host to host: its
 * Java interface keeps no tensors on the device. ONNX Runtime puts what a provider does not take
 * elsewhere without a word, so the first run counts the nodes that each one ran.
 */
public final class ProviderSession implements TimedModel {
  private final OrtSession session;
  private final Path folder;
  private final String source;
  private final ModelInput input;
  private final long[] imageShape;
  private final Map<String, Integer> nodes = new TreeMap<>();
  private boolean profiled;
  private @Nullable Map<String, Tensor> feed;

  private ProviderSession(
      OrtSession session, Path folder, String source, ModelInput input, long[] imageShape) {
    this.session = session;
    this.folder = folder;
    this.source = source;
    this.input = input;
    this.imageShape = imageShape.clone();
  }

  /**
   * How TensorRT is to build engines.
   *
   * @param fp16 whether it may compute in 16-bit floats
   * @param int8 whether the model has QuantizeLinear and DequantizeLinear
   * @param sparseTactics whether zeros of the pattern 2:4 may be skipped
   * @param cache the folder that ONNX Runtime keeps engines in
   */
  public record EngineFlags(boolean fp16, boolean int8, boolean sparseTactics, Path cache) {}

  /**
   * Loads a model; call {@link ExecutionProvider#require} before.
   *
   * @param imageShape shape of a batch of one image, in the model's layout
   * @throws TacoException of kind RUNTIME where the provider cannot be had
   */
  public static ProviderSession open(
      OnnxModel model,
      ModelInput input,
      long[] imageShape,
      ExecutionProvider provider,
      EngineFlags flags) {
    Path folder;
    try {
      folder = Files.createTempDirectory("taco4j-provider");
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.RUNTIME, "no temporary folder: " + e.getMessage(), e);
    }
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(1);
      options.setInterOpNumThreads(1);
      options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR);
      options.enableProfiling(folder.resolve("profile").toString());
      if (provider == ExecutionProvider.TENSORRT) {
        addTensorRt(options, flags);
      }
      if (provider != ExecutionProvider.CPU) {
        addCuda(options);
      }
      return new ProviderSession(
          OrtEnvironment.getEnvironment().createSession(model.toBytes(), options),
          folder,
          model.source(),
          input,
          imageShape);
    } catch (OrtException | IOException e) {
      Session.deleteFolder(folder);
      throw new TacoException(
          TacoException.Kind.RUNTIME,
          "%s: ONNX Runtime %s cannot run it with %s: %s%s"
              .formatted(
                  model.source(),
                  Session.runtimeVersion(),
                  provider.ortName(),
                  e.getMessage(),
                  hint(provider, String.valueOf(e.getMessage()))),
          e);
    }
  }

  /** What to install, where the provider's own library does not find what it needs. */
  private static String hint(ExecutionProvider provider, String message) {
    return message.contains("Failed to load library")
        ? "; onnxruntime_gpu "
            + Session.runtimeVersion()
            + " needs the libraries of CUDA 12 and cuDNN 9"
            + (provider == ExecutionProvider.TENSORRT ? " and TensorRT 10" : "")
            + " on the library path"
        : "";
  }

  private static void addTensorRt(OrtSession.SessionOptions options, EngineFlags flags)
      throws OrtException, IOException {
    Files.createDirectories(flags.cache());
    try (OrtTensorRTProviderOptions tensorRt = new OrtTensorRTProviderOptions(0)) {
      tensorRt.add("trt_fp16_enable", flag(flags.fp16()));
      tensorRt.add("trt_int8_enable", flag(flags.int8()));
      tensorRt.add("trt_sparsity_enable", flag(flags.sparseTactics()));
      tensorRt.add("trt_engine_cache_enable", flag(true));
      tensorRt.add("trt_engine_cache_path", flags.cache().toString());
      options.addTensorrt(tensorRt);
    }
  }

  private static void addCuda(OrtSession.SessionOptions options) throws OrtException {
    try (OrtCUDAProviderOptions cuda = new OrtCUDAProviderOptions(0)) {
      // TF32 would round the operands of products to 10 bits.
      cuda.add("use_tf32", flag(false));
      options.addCUDA(cuda);
    }
  }

  private static String flag(boolean on) {
    return on ? "1" : "0";
  }

  /** How many nodes of the optimised graph each provider ran in the first run, by its name. */
  public Map<String, Integer> nodes() {
    return nodes;
  }

  @Override
  public void load(float[] images, int batch) {
    closeFeed();
    feed = input.feed(images, batch, imageShape);
  }

  @Override
  public float[] run() {
    Map<String, OnnxTensorLike> values = values();
    try (OrtSession.Result result = session.run(values)) {
      Map.Entry<String, OnnxValue> first = result.iterator().next();
      float[] output = Tensor.of(first.getKey(), first.getValue()).floats().clone();
      if (!profiled) {
        count();
      }
      return output;
    } catch (OrtException e) {
      throw failed(e);
    }
  }

  /** Counts nodes by provider in the profile, which ends here. */
  private void count() throws OrtException {
    profiled = true;
    try {
      Set<String> seen = new HashSet<>();
      for (JsonNode event : new ObjectMapper().readTree(Path.of(session.endProfiling()).toFile())) {
        String provider = event.at("/args/provider").asText();
        if (!provider.isEmpty() && seen.add(event.at("/args/node_index").asText())) {
          nodes.merge(provider, 1, Integer::sum);
        }
      }
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.RUNTIME,
          "the profile that ONNX Runtime wrote to " + folder + " cannot be read: " + e.getMessage(),
          e);
    }
  }

  private Map<String, OnnxTensorLike> values() {
    Map<String, OnnxTensorLike> values = new TreeMap<>();
    Objects.requireNonNull(feed, "load was not called")
        .forEach((name, tensor) -> values.put(name, tensor.value()));
    return values;
  }

  private TacoException failed(OrtException e) {
    return new TacoException(
        TacoException.Kind.RUNTIME,
        source + ": ONNX Runtime could not run the model: " + e.getMessage(),
        e);
  }

  @Override
  public boolean timesDevice() {
    return false;
  }

  @Override
  public double millisOnDevice() {
    throw new UnsupportedOperationException(
        "ONNX Runtime's Java interface times runs host to host");
  }

  @Override
  public double millisWithCopies() {
    Map<String, OnnxTensorLike> values = values();
    long start = System.nanoTime();
    try {
      OrtSession.Result result = session.run(values);
      double millis = (System.nanoTime() - start) / 1e6;
      result.close();
      return millis;
    } catch (OrtException e) {
      throw failed(e);
    }
  }

  private void closeFeed() {
    if (feed != null) {
      feed.values().forEach(Tensor::close);
      feed = null;
    }
  }

  @Override
  public void close() {
    closeFeed();
    try {
      session.close();
    } catch (OrtException e) {
      throw new IllegalStateException(e);
    } finally {
      Session.deleteFolder(folder);
    }
  }
}
