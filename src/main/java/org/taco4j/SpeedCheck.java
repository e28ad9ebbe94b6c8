package org.taco4j;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import org.taco4j.bench.LatencyComparison;
import org.taco4j.bench.OperatorPlan;
import org.taco4j.bench.SameResults;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.export.MagnitudePruning;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.OperatorLibrary;
import org.taco4j.runtime.Session;

/** What speed-up a model has to expect here from zeros, before any of its weights is pruned. */
final class SpeedCheck {
  private static final String UNSTRUCTURED = "unstructured";
  private static final String ROWS4 = "rows4";
  private static final int MOST_PAIRS = 100_000;

  private SpeedCheck() {}

  static Taco.CheckResult run(Taco.CheckRequest request, Progress progress) {
    if (!List.of(UNSTRUCTURED, ROWS4).contains(request.pattern())) {
      throw TacoException.usage(
          "--pattern is unstructured or rows4 here, not '"
              + request.pattern()
              + "': the sparse operators gain from no other");
    }
    for (double sparsity : request.sparsities()) {
      if (!(sparsity >= 0 && sparsity < 1)) {
        throw TacoException.usage("--sparsity must be 0 to below 1, it is " + sparsity);
      }
    }
    OperatorLibrary.file(); // Where there is none, that is said before any work.
    Notices notices = new Notices(progress::notice);
    OnnxModel model = OnnxModel.read(request.model());
    SparseRuntime.refuseRewritten(model);
    ModelInput input = ModelInput.of(model);
    OperatorPlan.Use use =
        new OperatorPlan.Use(
            input, Taco.imageShape(model, input), request.threads(), request.batch());
    int blockRows = request.pattern().equals(ROWS4) ? 4 : 1;
    Optional<Layer> classifier = LayerDiscovery.classifier(model);
    List<Taco.CheckedSparsity> checked = new ArrayList<>();
    for (double sparsity : request.sparsities()) {
      OnnxModel pruned = model.copy();
      List<String> names =
          MagnitudePruning.prune(
              pruned, sparsity, blockRows, layer -> !classifier.equals(Optional.of(layer)));
      if (names.isEmpty()) {
        throw TacoException.model(
            request.model() + ": no layer can be pruned; `taco inspect` says why");
      }
      progress.message(
          String.format(Locale.ROOT, "%.1f %% zeros in %d layers", 100 * sparsity, names.size()));
      OperatorPlan.Result result = SparseRuntime.rewrite(pruned, use, notices, progress);
      double difference = SameResults.require(pruned, result.model(), input, use.imageShape());
      progress.stage("latency, dense and sparse in turns", 0);
      try (Session a = Session.open(pruned, request.threads());
          Session b = Session.open(result.model(), request.threads())) {
        checked.add(
            new Taco.CheckedSparsity(
                sparsity,
                names.size(),
                result.rewritten(),
                result.normalizations(),
                LatencyComparison.measure(
                    a,
                    input,
                    b,
                    input,
                    use.imageShape(),
                    request.threads(),
                    request.batch(),
                    request.seconds(),
                    MOST_PAIRS),
                difference,
                result.layers()));
      }
    }
    return new Taco.CheckResult(
        request.model().toString(), request.pattern(), checked, notices.list());
  }
}
