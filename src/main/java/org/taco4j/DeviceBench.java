package org.taco4j;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.taco4j.bench.DeviceComparison;
import org.taco4j.bench.OperatorTable;
import org.taco4j.common.Notices;
import org.taco4j.common.Suggestions;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ExecutionProvider;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.ProviderSession;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;
import org.taco4j.runtime.TimedModel;
import org.taco4j.runtime.tensorrt.EngineCache;
import org.taco4j.runtime.tensorrt.EngineLayers;
import org.taco4j.runtime.tensorrt.EngineOptions;
import org.taco4j.runtime.tensorrt.Precision;
import org.taco4j.runtime.tensorrt.TensorRt;
import org.taco4j.runtime.tensorrt.TensorRtEngine;
import org.taco4j.runtime.tensorrt.TensorRtProbe;

/**
 * Measures two models on a GPU: in TensorRT, or in ONNX Runtime on one of its providers for GPUs.
 */
final class DeviceBench {
  /** ONNX Runtime on the CPU, which {@link Taco#bench} measures otherwise. */
  static final String CPU = "onnxruntime";

  private static final String TENSORRT = "tensorrt";
  private static final String ORT_CUDA = "onnxruntime-cuda";
  private static final String ORT_TENSORRT = "onnxruntime-tensorrt";

  /** Runtimes that models are measured in. */
  static final List<String> RUNTIMES = List.of(CPU, TENSORRT, ORT_CUDA, ORT_TENSORRT);

  /** Pairs of runs at the most, for each size of batch. */
  private static final int MOST_PAIRS = 100_000;

  /** A model, and what it takes. */
  private record Subject(OnnxModel model, ModelInput input) {}

  private final Taco.DeviceBenchRequest request;
  private final Progress progress;
  private final Notices notices;
  private final Precision precision;

  DeviceBench(Taco.DeviceBenchRequest request, Progress progress) {
    checkRuntime(request.runtime());
    this.request = request;
    this.progress = progress;
    this.notices = new Notices(progress::notice);
    this.precision = Precision.of(request.precision());
    if (request.runtime().equals(CPU)) {
      throw TacoException.usage("--runtime onnxruntime is the CPU, and no GPU");
    }
    if (request.runtime().equals(ORT_CUDA) && precision != Precision.FP32) {
      throw TacoException.usage(
          "--precision "
              + precision
              + " is for TensorRT: ONNX Runtime's CUDA provider computes in the types of the model");
    }
    if (request.batches().isEmpty() || request.batches().stream().anyMatch(batch -> batch < 1)) {
      throw TacoException.usage("--batch must be positive, it is " + request.batches());
    }
  }

  /** Throws an exception of kind USAGE for a runtime that models are not measured in. */
  static void checkRuntime(String runtime) {
    if (!RUNTIMES.contains(runtime)) {
      throw TacoException.usage(
          "--runtime is onnxruntime, tensorrt, onnxruntime-cuda or onnxruntime-tensorrt, not '%s'%s%s"
              .formatted(
                  runtime,
                  Suggestions.didYouMean(runtime, RUNTIMES),
                  runtime.equals(SparseRuntime.TACO4J)
                      ? ": a model with operators of the library loads it by itself"
                      : ""));
    }
  }

  Taco.DeviceBenchResult run() {
    // What is wrong with the models can be put right here; what this machine lacks, perhaps not.
    Subject dense = read(request.dense());
    Subject compressed = read(request.compressed());
    long[] shape =
        Taco.commonShape(dense.model(), dense.input(), compressed.model(), compressed.input());
    if (request.runtime().equals(TENSORRT)) {
      TensorRtProbe.examine().require();
    } else {
      provider().require();
    }
    List<Integer> batches = batches(dense.input(), compressed.input());
    checkIntegers(dense.model(), compressed.model());
    return request.runtime().equals(TENSORRT)
        ? inTensorRt(dense, compressed, shape, batches)
        : inOnnxRuntime(dense, compressed, shape, batches);
  }

  private ExecutionProvider provider() {
    return request.runtime().equals(ORT_CUDA) ? ExecutionProvider.CUDA : ExecutionProvider.TENSORRT;
  }

  private static Subject read(java.nio.file.Path file) {
    OnnxModel model = OnnxModel.read(file);
    if (model.hasSparseOperators()) {
      throw TacoException.model(
          file
              + " has operators of this project's library, which is for the CPU; give the model that"
              + " it was made from");
    }
    return new Subject(model, ModelInput.of(model));
  }

  /** Those asked for, or the one that a model fixes. */
  private List<Integer> batches(ModelInput dense, ModelInput compressed) {
    int fixed = Math.max(dense.batch(), compressed.batch());
    if (fixed <= 0) {
      return request.batches().stream().distinct().toList();
    }
    if (!request.batches().equals(List.of(fixed))) {
      notices.add(
          "batch-fixed",
          request.dense().toString(),
          "a model's batch is fixed: both run " + fixed + " images at once",
          fixed);
    }
    return List.of(fixed);
  }

  private void checkIntegers(OnnxModel dense, OnnxModel compressed) {
    if (precision != Precision.INT8) {
      return;
    }
    if (!Precision.isQuantized(compressed)) {
      throw TacoException.model(
          "%s: --precision int8 needs QuantizeLinear and DequantizeLinear in the model; specialize with --bits 8 --activation-bits 8 --runtime tensorrt writes them"
              .formatted(compressed.source()));
    }
    if (!Precision.isQuantized(dense)) {
      notices.add(
          "dense-in-fp16",
          dense.source(),
          "has no QuantizeLinear and DequantizeLinear: it runs in fp16, the compressed one in int8",
          1);
    }
  }

  private Taco.DeviceBenchResult inTensorRt(
      Subject dense, Subject compressed, long[] shape, List<Integer> batches) {
    EngineOptions options = new EngineOptions(precision, request.sparseTactics(), batches, shape);
    EngineCache cache = new EngineCache(OperatorTable.cacheFolder().resolve("tensorrt"));
    try (TensorRtEngine a =
            TensorRt.open(dense.model(), dense.input(), options, cache, notices, this::stage);
        TensorRtEngine b =
            TensorRt.open(
                compressed.model(), compressed.input(), options, cache, notices, this::stage)) {
      List<DeviceComparison> measured = measure(dense, a, compressed, b, shape, batches);
      EngineLayers.Summary compressedLayers = b.layers();
      if (!compressedLayers.detailed()) {
        notices.add(
            "tactics-unknown",
            request.compressed().toString(),
            "the engine's inspector names no tactics; which layers skip zeros is known from the"
                + " builder's log alone, if at all",
            1);
      }
      return new Taco.DeviceBenchResult(
          "TensorRT " + TensorRt.version(),
          a.device().name() + ", " + a.device().capability(),
          precision.toString(),
          request.sparseTactics(),
          measured,
          a.layers(),
          compressedLayers,
          null,
          null,
          notices.list());
    }
  }

  private Taco.DeviceBenchResult inOnnxRuntime(
      Subject dense, Subject compressed, long[] shape, List<Integer> batches) {
    ExecutionProvider provider = provider();
    try (ProviderSession a = open(dense, shape, provider);
        ProviderSession b = open(compressed, shape, provider)) {
      List<DeviceComparison> measured = measure(dense, a, compressed, b, shape, batches);
      noteElsewhere(dense.model(), a.nodes(), provider);
      noteElsewhere(compressed.model(), b.nodes(), provider);
      return new Taco.DeviceBenchResult(
          "ONNX Runtime %s, %s".formatted(Session.runtimeVersion(), request.runtime()),
          "the first GPU",
          precision.toString(),
          request.sparseTactics() && provider == ExecutionProvider.TENSORRT,
          measured,
          null,
          null,
          a.nodes(),
          b.nodes(),
          notices.list());
    }
  }

  private ProviderSession open(Subject subject, long[] shape, ExecutionProvider provider) {
    stage("loading " + subject.model().source() + ", for TensorRT this takes minutes");
    // ONNX Runtime names its engines by model and precision, but not by the flag for sparsity.
    String flags = precision + (request.sparseTactics() ? "-sparse" : "");
    return ProviderSession.open(
        subject.model(),
        subject.input(),
        shape,
        provider,
        new ProviderSession.EngineFlags(
            precision != Precision.FP32,
            Precision.isQuantized(subject.model()),
            request.sparseTactics(),
            OperatorTable.cacheFolder().resolve("onnxruntime-tensorrt").resolve(flags)));
  }

  private void noteElsewhere(
      OnnxModel model, Map<String, Integer> nodes, ExecutionProvider provider) {
    String wanted = provider.ortName();
    int elsewhere =
        nodes.entrySet().stream()
            .filter(entry -> !entry.getKey().equals(wanted))
            .mapToInt(Map.Entry::getValue)
            .sum();
    if (elsewhere > 0) {
      notices.add(
          "nodes-elsewhere",
          model.source(),
          "ONNX Runtime ran nodes elsewhere than with %s: %s"
              .formatted(
                  wanted,
                  nodes.entrySet().stream()
                      .map(entry -> entry.getValue() + " with " + entry.getKey())
                      .collect(Collectors.joining(", "))),
          elsewhere);
    }
  }

  private List<DeviceComparison> measure(
      Subject dense,
      TimedModel denseOnDevice,
      Subject compressed,
      TimedModel compressedOnDevice,
      long[] shape,
      List<Integer> batches) {
    List<DeviceComparison> measured = new ArrayList<>();
    try (Session a = Session.open(dense.model(), 1);
        Session b = Session.open(compressed.model(), 1)) {
      DeviceComparison.Pair pair =
          new DeviceComparison.Pair(
              denseOnDevice,
              (images, count) -> onCpu(a, dense.input(), images, count, shape),
              compressedOnDevice,
              (images, count) -> onCpu(b, compressed.input(), images, count, shape),
              shape,
              precision.tolerance());
      for (int batch : batches) {
        stage("batches of " + batch + ", dense and compressed in turns");
        measured.add(DeviceComparison.measure(pair, batch, request.seconds(), MOST_PAIRS));
      }
    }
    return measured;
  }

  /** The first output of those images, without what fills a fixed batch. */
  private static float[] onCpu(
      Session session, ModelInput input, float[] images, int count, long[] shape) {
    Map<String, Tensor> feed = input.feed(images, count, shape);
    Map<String, Tensor> outputs = session.run(feed);
    try {
      Map.Entry<String, Tensor> first = outputs.entrySet().iterator().next();
      long[] leading = input.leading(first.getKey(), first.getValue().shape(), count);
      return java.util.Arrays.copyOf(
          first.getValue().floats(), Math.toIntExact(Tensor.elements(leading)));
    } finally {
      feed.values().forEach(Tensor::close);
      outputs.values().forEach(Tensor::close);
    }
  }

  private void stage(String what) {
    progress.stage(what, 0);
  }
}
