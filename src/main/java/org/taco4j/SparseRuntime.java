package org.taco4j;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.taco4j.bench.OperatorPlan;
import org.taco4j.bench.OperatorTable;
import org.taco4j.common.Notices;
import org.taco4j.common.Suggestions;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.PackedWeights;
import org.taco4j.report.RunReport;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.OperatorLibrary;
import org.taco4j.runtime.Session;

/** The runtimes that a model is written for, and the way of one to the operator library. */
final class SparseRuntime {
  /** ONNX Runtime with our operator library. */
  static final String TACO4J = "taco4j";

  /** ONNX Runtime as it is. */
  static final String ONNX_RUNTIME = "onnxruntime";

  /** TensorRT on NVIDIA GPUs. */
  static final String TENSORRT = "tensorrt";

  /** Below that share of zeros a model is not pruned. */
  private static final double LEAST_ZEROS = 0.1;

  private SparseRuntime() {}

  /** Throws an exception of kind USAGE for a runtime that there is not. */
  static void check(String runtime) {
    List<String> names = List.of(ONNX_RUNTIME, TACO4J, TENSORRT);
    if (!names.contains(runtime)) {
      throw TacoException.usage(
          "--runtime is onnxruntime, taco4j or tensorrt, not '"
              + runtime
              + "'"
              + Suggestions.didYouMean(runtime, names));
    }
  }

  /** Throws an exception of kind MODEL for a model that has sparse operators already. */
  static void refuseRewritten(OnnxModel model) {
    if (model.hasSparseOperators()) {
      throw TacoException.model(
          model.source() + " has sparse operators already; give the model that it was made from");
    }
  }

  /** What became of layers, by name, for the report. */
  static Map<String, RunReport.Operator> reports(OperatorPlan.Result result) {
    Map<String, RunReport.Operator> operators = new HashMap<>();
    for (OperatorPlan.LayerChoice layer : result.layers()) {
      operators.put(
          layer.layer(),
          new RunReport.Operator(
              layer.operator(), layer.denseMillis(), layer.sparseMillis(), layer.whyDense()));
    }
    return operators;
  }

  /** The operators that layers have become by 8-bit activations, by name, for the report. */
  static Map<String, RunReport.Operator> reports(RunReport.Activations activations) {
    Map<String, RunReport.Operator> operators = new HashMap<>();
    for (RunReport.IntegerLayer layer : activations.layers()) {
      operators.put(
          layer.name(), new RunReport.Operator(layer.operator(), null, null, layer.whyFloat()));
    }
    return operators;
  }

  /** Notes that a model with operators of the library runs without them here. */
  static void noteMissingLibrary(OnnxModel model, Notices notices) {
    if (model.hasSparseOperators() && !OperatorLibrary.isAvailable()) {
      notices.add(
          "operators-without-library",
          model.source(),
          "has operators of the library, of which there is none for this platform: it computes the"
              + " same with ordinary ones, and its times are those of these",
          1);
    }
  }

  /**
   * What measured times depend on here.
   *
   * @throws TacoException of kind RUNTIME where there is no library for this platform
   */
  static OperatorTable.Machine machine(int threads) {
    return new OperatorTable.Machine(
        Doctor.machine("").cpu(),
        OperatorLibrary.instructionSet(),
        Session.runtimeVersion(),
        OperatorLibrary.build(),
        threads);
  }

  /** Opens the table of this machine. */
  static OperatorTable table(int threads, Notices notices) {
    return OperatorTable.open(OperatorTable.cacheFolder(), machine(threads), notices);
  }

  /** Rewrites the layers of a pruned model that gain; says how that gets on. */
  static OperatorPlan.Result rewrite(
      OnnxModel model, OperatorPlan.Use use, Notices notices, Progress progress) {
    refuseRewritten(model);
    OperatorTable table = table(use.threads(), notices);
    progress.stage("choosing operators", 0);
    OperatorPlan.Result result =
        OperatorPlan.rewrite(model, use, table, notices, listener(progress));
    progress.message(
        String.format(
            Locale.ROOT,
            "%d of %d layers%s rewritten to operators of the library",
            result.rewritten(),
            result.layers().size(),
            result.normalizations() == 0
                ? ""
                : " and " + result.normalizations() + " layer normalizations"));
    return result;
  }

  /**
   * Says what of a model keeps its export from gaining.
   *
   * @throws TacoException of kind USAGE for a batch that the model does not take
   */
  static void checkExport(OnnxModel model, ModelInput input, int batch, Notices notices) {
    if (input.batch() > 0 && batch != 1 && batch != input.batch()) {
      throw TacoException.usage(
          "--batch %d: %s takes %d image(s) at once"
              .formatted(batch, model.source(), input.batch()));
    }
    List<Layer> layers = LayerDiscovery.discover(model);
    long integers = layers.stream().filter(Layer::isRewritten).count();
    if (integers > 0) {
      notices.add(
          "integer-layers-kept",
          model.source(),
          integers
              + " layers multiply integers and stay as they are; specialize --activation-bits 8"
              + " --runtime taco4j writes sparse operators for such",
          (double) integers);
    }
    long weights = 0;
    long zeros = 0;
    for (Layer layer : layers) {
      if (LayerWeights.hasKnownZeros(model, layer)) {
        weights += layer.parameters();
        zeros += LayerWeights.zeros(model, layer);
      }
    }
    if (zeros < LEAST_ZEROS * weights) {
      notices.add(
          "no-zeros",
          model.source(),
          String.format(
              Locale.ROOT,
              "%.1f %% of its weights are zero: there is nothing to skip; prune it first, with"
                  + " specialize",
              100.0 * zeros / weights),
          (double) zeros / weights);
    }
  }

  /** Packs the weights of a model; says what came of it. */
  static void pack(OnnxModel model, Notices notices, Progress progress) {
    PackedWeights.Outcome packed = PackedWeights.pack(model);
    if (packed.tensors() == 0) {
      notices.add(
          "weights-not-packed",
          model.source(),
          "no weights have so many zeros that packing them saves a quarter: they stay as they are",
          0);
    } else {
      progress.message(
          String.format(
              Locale.ROOT,
              "%d weights packed: %.2f MB in place of %.2f",
              packed.tensors(),
              packed.packedBytes() / 1e6,
              packed.denseBytes() / 1e6));
    }
  }

  static OperatorPlan.Listener listener(Progress progress) {
    return new OperatorPlan.Listener() {
      @Override
      public void measuring(int layers) {
        progress.stage("timing layers, dense and sparse", layers);
      }

      @Override
      public void measured(String layer) {
        progress.step(layer);
      }

      @Override
      public void comparing() {
        progress.stage("comparing whole models", 0);
      }
    };
  }

  /** What {@code taco doctor} says of the library. */
  static Doctor.Operators describe() {
    if (!OperatorLibrary.isAvailable()) {
      return new Doctor.Operators(false, List.of(), null, null, 0);
    }
    OperatorTable.Machine machine = machine(1);
    Path file = OperatorTable.fileOf(OperatorTable.cacheFolder(), machine);
    OperatorTable table = OperatorTable.open(OperatorTable.cacheFolder(), machine, new Notices());
    return new Doctor.Operators(
        true, OperatorLibrary.instructionSets(), machine.library(), file.toString(), table.size());
  }
}
