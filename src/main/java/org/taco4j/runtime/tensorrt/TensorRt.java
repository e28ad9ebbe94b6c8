package org.taco4j.runtime.tensorrt;

import java.lang.foreign.AddressLayout;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.function.Consumer;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.tensorrt.global.nvinfer;
import org.bytedeco.tensorrt.global.nvinfer.BuilderFlag;
import org.bytedeco.tensorrt.global.nvinfer.OptProfileSelector;
import org.bytedeco.tensorrt.global.nvinfer.ProfilingVerbosity;
import org.bytedeco.tensorrt.global.nvonnxparser;
import org.bytedeco.tensorrt.nvinfer.Dims64;
import org.bytedeco.tensorrt.nvinfer.IBuilder;
import org.bytedeco.tensorrt.nvinfer.IBuilderConfig;
import org.bytedeco.tensorrt.nvinfer.ICudaEngine;
import org.bytedeco.tensorrt.nvinfer.IHostMemory;
import org.bytedeco.tensorrt.nvinfer.ILogger;
import org.bytedeco.tensorrt.nvinfer.INetworkDefinition;
import org.bytedeco.tensorrt.nvinfer.IOptimizationProfile;
import org.bytedeco.tensorrt.nvinfer.IRuntime;
import org.bytedeco.tensorrt.nvonnxparser.IParser;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;

/**
 * Builds TensorRT engines from ONNX models, and loads them. Touch it only where {@link
 * TensorRtProbe} has found everything. What can be done without TensorRT is done elsewhere in this
 * package.
 */
public final class TensorRt {
  /** TensorRT wants one logger for everything in a process, which outlives it all. */
  private static final Log LOG = new Log();

  private TensorRt() {}

  /** Hands TensorRT's messages on. */
  private static final class Log extends ILogger {
    final BuildLog messages = new BuildLog();

    @Override
    public void log(Severity severity, String message) {
      messages.add(severity.value, message);
    }
  }

  /** What TensorRT has said since the last build or load began. */
  static BuildLog messages() {
    return LOG.messages;
  }

  /** Its version: 10.15.1. */
  public static String version() {
    return "%d.%d.%d"
        .formatted(
            nvinfer.getInferLibMajorVersion(),
            nvinfer.getInferLibMinorVersion(),
            nvinfer.getInferLibPatchVersion());
  }

  /**
   * An engine of a model on the first GPU: the kept one, or a new one, which is kept.
   *
   * @param progress is told when one is built, which takes minutes
   * @throws TacoException of kind MODEL where TensorRT refuses the model, of kind RUNTIME where the
   *     GPU does
   */
  public static TensorRtEngine open(
      OnnxModel model,
      ModelInput input,
      EngineOptions options,
      EngineCache cache,
      Notices notices,
      Consumer<String> progress) {
    GpuStream stream = GpuStream.open();
    try {
      EngineCache.Key key = EngineCache.Key.of(model.sha256(), version(), stream.device(), options);
      Optional<EngineCache.Stored> kept = cache.load(key, notices);
      EngineCache.Stored stored =
          kept.isPresent() ? kept.get() : build(model, input, options, progress);
      if (kept.isEmpty()) {
        cache.save(key, stored.engine(), stored.built(), notices);
      }
      return load(model, input, options, stored, stream);
    } catch (RuntimeException | Error e) {
      stream.close();
      throw e;
    }
  }

  private static EngineCache.Stored build(
      OnnxModel model, ModelInput input, EngineOptions options, Consumer<String> progress) {
    progress.accept("building an engine of %s: %s".formatted(model.source(), options));
    LOG.messages.clear();
    long start = System.nanoTime();
    IBuilder builder = require(nvinfer.createInferBuilder(LOG), model, "no builder");
    INetworkDefinition network = null;
    IBuilderConfig config = null;
    IHostMemory plan = null;
    try {
      network = require(builder.createNetworkV2(0), model, "no network");
      parse(model, network);
      config = require(builder.createBuilderConfig(), model, "no configuration");
      configure(config, options, Precision.isQuantized(model));
      if (input.batch() < 0 || isDynamic(network)) {
        addProfiles(builder, config, input, options);
      }
      plan = require(builder.buildSerializedNetwork(network, config), model, "no engine");
      byte[] bytes = new byte[Math.toIntExact(plan.size())];
      new BytePointer(plan.data()).capacity(bytes.length).get(bytes);
      return new EngineCache.Stored(
          bytes,
          new EngineCache.Built(
              (System.nanoTime() - start) / 1e9,
              LOG.messages.eligible(),
              LOG.messages.picked(),
              LOG.messages.warnings()));
    } finally {
      delete(plan);
      delete(config);
      delete(network);
      delete(builder);
    }
  }

  private static void parse(OnnxModel model, INetworkDefinition network) {
    // The parser's destructor is not the first of its virtual functions: it stays, once for each
    // engine that is built.
    IParser parser = require(nvonnxparser.createParser(network, LOG), model, "no parser");
    byte[] bytes = model.toBytes();
    try (BytePointer data = new BytePointer(bytes)) {
      if (!parser.parse(data, bytes.length)) {
        StringBuilder why = new StringBuilder();
        for (int i = 0; i < parser.getNbErrors(); i++) {
          var error = parser.getError(i);
          why.append(i == 0 ? "" : "; ")
              .append(error.nodeOperator())
              .append(" '")
              .append(error.nodeName())
              .append("': ")
              .append(error.desc());
        }
        throw TacoException.model(
            "%s: TensorRT %s does not take the model: %s; export --runtime tensorrt writes what it takes"
                .formatted(
                    model.source(),
                    version(),
                    why.isEmpty() ? LOG.messages.reason() : why.toString()));
      }
    }
  }

  /**
   * The flags of precision are deprecated in favour of networks whose types the model says, which a
   * model of 32-bit floats cannot say of 16-bit ones; TensorRT 10 has both.
   */
  @SuppressWarnings("deprecation")
  private static void configure(IBuilderConfig config, EngineOptions options, boolean isQuantized) {
    // TF32 is on by default and rounds the operands of products to 10 bits: fp32 is to be fp32.
    config.clearFlag(BuilderFlag.kTF32);
    if (options.precision() != Precision.FP32) {
      config.setFlag(BuilderFlag.kFP16);
    }
    if (isQuantized) {
      config.setFlag(BuilderFlag.kINT8);
    }
    if (options.sparseTactics()) {
      config.setFlag(BuilderFlag.kSPARSE_WEIGHTS);
    }
    // Else the inspector knows no tactics.
    config.setProfilingVerbosity(ProfilingVerbosity.kDETAILED);
  }

  private static boolean isDynamic(INetworkDefinition network) {
    Dims64 dims = network.getInput(0).getDimensions();
    for (int i = 0; i < dims.nbDims(); i++) {
      if (dims.d(i) < 0) {
        return true;
      }
    }
    return false;
  }

  /** One for each batch, of just that size: so kernels are chosen for it and nothing else. */
  private static void addProfiles(
      IBuilder builder, IBuilderConfig config, ModelInput input, EngineOptions options) {
    for (int batch : options.batches()) {
      IOptimizationProfile profile = builder.createOptimizationProfile();
      Dims64 dims = dims(options.shape(batch));
      for (OptProfileSelector selector :
          List.of(OptProfileSelector.kMIN, OptProfileSelector.kOPT, OptProfileSelector.kMAX)) {
        profile.setDimensions(input.name(), selector, dims);
      }
      if (config.addOptimizationProfile(profile) < 0) {
        throw TacoException.runtime(
            "TensorRT does not take batches of %d: %s".formatted(batch, LOG.messages.reason()));
      }
    }
  }

  static Dims64 dims(long[] shape) {
    Dims64 dims = new Dims64();
    dims.nbDims(shape.length);
    for (int i = 0; i < shape.length; i++) {
      dims.d(i, shape[i]);
    }
    return dims;
  }

  private static TensorRtEngine load(
      OnnxModel model,
      ModelInput input,
      EngineOptions options,
      EngineCache.Stored stored,
      GpuStream stream) {
    LOG.messages.clear();
    IRuntime runtime = require(nvinfer.createInferRuntime(LOG), model, "no runtime");
    ICudaEngine engine = null;
    try (BytePointer bytes = new BytePointer(stored.engine())) {
      engine =
          require(
              runtime.deserializeCudaEngine(bytes, stored.engine().length),
              model,
              "the engine does not load");
      return new TensorRtEngine(model, input, options, stored.built(), runtime, engine, stream);
    } catch (RuntimeException | Error e) {
      delete(engine);
      delete(runtime);
      throw e;
    }
  }

  /** What TensorRT gave, which is null where something went wrong. */
  static <P extends Pointer> P require(@Nullable P pointer, OnnxModel model, String what) {
    if (pointer == null || pointer.isNull()) {
      throw TacoException.runtime(
          "%s: TensorRT %s: %s: %s"
              .formatted(model.source(), version(), what, LOG.messages.reason()));
    }
    return pointer;
  }

  /**
   * Deletes one of TensorRT's objects. In C++ that is {@code delete}, which JavaCPP has no call
   * for: a call of the second entry of its table of virtual functions, as all of these classes
   * begin with their virtual destructor (Itanium C++ ABI: the first entry destroys, the second also
   * frees). Elsewhere than on Linux the objects stay until the process ends.
   */
  static void delete(@Nullable Pointer object) {
    if (object == null
        || object.isNull()
        || !System.getProperty("os.name").toLowerCase(Locale.ROOT).contains("linux")) {
      return;
    }
    AddressLayout table =
        ValueLayout.ADDRESS.withTargetLayout(MemoryLayout.sequenceLayout(2, ValueLayout.ADDRESS));
    MemorySegment self =
        MemorySegment.ofAddress(object.address()).reinterpret(ValueLayout.ADDRESS.byteSize());
    MemorySegment destructor = self.get(table, 0).getAtIndex(ValueLayout.ADDRESS, 1);
    try {
      Linker.nativeLinker()
          .downcallHandle(destructor, FunctionDescriptor.ofVoid(ValueLayout.ADDRESS))
          .invoke(self);
    } catch (Throwable e) {
      throw new IllegalStateException("a destructor of TensorRT threw", e);
    }
    object.setNull();
  }

  /** The shape of a tensor. */
  static long[] shape(Dims64 dims) {
    long[] shape = new long[Math.max(0, dims.nbDims())];
    Arrays.setAll(shape, dims::d);
    return shape;
  }
}
