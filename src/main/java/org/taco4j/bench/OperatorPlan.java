package org.taco4j.bench;

import ai.onnx.proto.OnnxMl.NodeProto;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.NavigableSet;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.BiConsumer;
import java.util.function.Consumer;
import java.util.function.IntConsumer;
import java.util.function.ToDoubleBiFunction;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.export.LayerNormalizations;
import org.taco4j.export.SparseOperators;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Operators;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/**
 * Rewrites the layers of a pruned model that the operator library runs faster than ONNX Runtime
 * runs them densely, on this machine: by a table of measured times, where it has the layer, else by
 * measuring it. Layer normalizations are rewritten all or none. The whole model has the last word:
 * it is measured dense and rewritten, in turns.
 */
public final class OperatorPlan {
  /** Seconds for which two whole models are compared. */
  private static final double COMPARISON_SECONDS = 1;

  private static final int COMPARISON_PAIRS = 300;

  /** A whole model that is faster by less than that is not faster. */
  public static final double NOTABLE = 1.02;

  private OperatorPlan() {}

  /**
   * Where and how the model is to run.
   *
   * @param imageShape shape of a batch of one image, in the model's layout
   * @param threads inside an operator
   * @param batch images in a run, where the model does not fix it
   */
  @SuppressWarnings("ArrayRecordComponent") // Handed on, never compared.
  public record Use(ModelInput input, long[] imageShape, int threads, int batch) {}

  /**
   * What became of a layer.
   *
   * @param layer its name
   * @param operator what it was rewritten to; null where it stays dense
   * @param denseMillis its time in ONNX Runtime, without reordering; null where not known
   * @param sparseMillis its time with the library; null where not known
   * @param whyDense why it stays dense; null where it was rewritten
   */
  public record LayerChoice(
      String layer,
      @Nullable String operator,
      @Nullable Double denseMillis,
      @Nullable Double sparseMillis,
      @Nullable String whyDense) {}

  /**
   * What came of it.
   *
   * @param model the rewritten model; an unchanged copy where nothing gains
   * @param layers all of them, in graph order
   * @param normalizations how many layer normalizations run on the library, too
   * @param measured layers whose times were not in the table
   */
  public record Result(
      OnnxModel model, List<LayerChoice> layers, int normalizations, int measured) {
    /** How many layers were rewritten. */
    public int rewritten() {
      return (int) layers.stream().filter(layer -> layer.operator() != null).count();
    }
  }

  /** Is told of layers that are measured: how many there are, and which are done. */
  public interface Listener {
    /** So many layers will be measured. */
    void measuring(int layers);

    /** This one is done. */
    void measured(String layer);

    /** Whole models are compared now. */
    void comparing();
  }

  /**
   * Chooses and rewrites.
   *
   * @param model pruned; not changed
   * @param table of this machine; gets what is measured
   * @throws org.taco4j.common.TacoException of kind RUNTIME where there is no library for this
   *     platform
   */
  public static Result rewrite(
      OnnxModel model, Use use, OperatorTable table, Notices notices, Listener listener) {
    return rewrite(
        model, use, table, notices, listener, (first, second) -> ratio(first, second, use));
  }

  /**
   * {@link #rewrite(OnnxModel, Use, OperatorTable, Notices, Listener)}.
   *
   * @param ratio how many times faster the second of two whole models is
   */
  static Result rewrite(
      OnnxModel model,
      Use use,
      OperatorTable table,
      Notices notices,
      Listener listener,
      ToDoubleBiFunction<OnnxModel, OnnxModel> ratio) {
    Map<String, String> reasons = new HashMap<>();
    Map<String, long[]> shapes = shapes(model, use);
    List<SingleLayer> layers = new ArrayList<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      layers.addAll(SingleLayer.of(model, layer, shapes, reasons));
    }
    int measured = measure(layers, use.threads(), table, listener::measuring, listener::measured);
    if (measured > 0) {
      notices.add(
          "operators-measured",
          model.source(),
          "the times of %d of %d layers were not in the table of this machine, and were measured now"
              .formatted(measured, layers.size()),
          measured);
      table.save(notices);
    }
    List<OperatorChoice.Candidate> candidates =
        layers.stream().map(layer -> candidate(model, layer, table)).toList();
    List<Set<String>> worthMeasuring = OperatorChoice.choose(model, candidates, shapes);
    listener.comparing();
    OnnxModel rewritten = rewritten(model, worthMeasuring.getFirst());
    for (Set<String> other : worthMeasuring.subList(1, worthMeasuring.size())) {
      OnnxModel rival = rewritten(model, other);
      if (ratio.applyAsDouble(rewritten, rival) > NOTABLE) {
        rewritten = rival;
      }
    }
    OnnxModel normalized = rewritten.copy();
    int normalizations = LayerNormalizations.rewrite(normalized).size();
    if (normalizations > 0 && ratio.applyAsDouble(rewritten, normalized) > NOTABLE) {
      rewritten = normalized;
    } else {
      normalizations = 0;
    }
    String refusal = null;
    if (rewritten.hasSparseOperators()) {
      double gain = ratio.applyAsDouble(model, rewritten);
      if (gain < NOTABLE) {
        refusal =
            String.format(
                Locale.ROOT, "the whole model was not faster with the library (%.2fx)", gain);
        normalizations = 0;
        rewritten = model.copy();
      }
    }
    List<LayerChoice> choices = new ArrayList<>();
    Map<String, OperatorChoice.Candidate> byName = new LinkedHashMap<>();
    candidates.forEach(candidate -> byName.put(candidate.layer(), candidate));
    Map<String, String> operators = new HashMap<>();
    for (NodeProto node : rewritten.index().graph().getNodeList()) {
      if (node.getDomain().equals(Operators.SPARSE_DOMAIN)) {
        operators.put(node.getName(), Nodes.operator(node));
      }
    }
    for (Layer layer : LayerDiscovery.discover(model)) {
      OperatorChoice.Candidate candidate = byName.get(layer.name());
      String operator = operators.get(layer.name());
      choices.add(
          new LayerChoice(
              layer.name(),
              operator,
              candidate == null ? null : candidate.dense().millis(),
              candidate == null ? null : candidate.sparseMillis(),
              operator != null
                  ? null
                  : candidate == null
                      ? reasons.getOrDefault(layer.name(), "there is no sparse operator for it")
                      : whyDense(candidate, refusal)));
    }
    if (!rewritten.hasSparseOperators()) {
      notices.add(
          "operators-not-used",
          model.source(),
          "no layer is rewritten, the model is left as it is: "
              + (refusal != null
                  ? refusal
                  : candidates.isEmpty()
                      ? "there is no sparse operator for any layer"
                      : "dense operators are as fast for every layer"),
          0);
    }
    return new Result(rewritten, choices, normalizations, measured);
  }

  private static String whyDense(OperatorChoice.Candidate candidate, @Nullable String refusal) {
    if (candidate.sparseMillis() >= candidate.dense().millis()) {
      return "the dense operator is as fast";
    }
    return refusal != null
        ? refusal
        : "reordering between it and its neighbours would cost more than it gains";
  }

  private static OnnxModel rewritten(OnnxModel model, Set<String> layers) {
    OnnxModel copy = model.copy();
    SparseOperators.rewrite(copy, layer -> layers.contains(layer.name()));
    return copy;
  }

  /** How many times faster the second model is, by the fastest quarter of the runs of both. */
  public static double ratio(OnnxModel first, OnnxModel second, Use use) {
    try (Session a = Session.open(first, use.threads());
        Session b = Session.open(second, use.threads())) {
      double[][] millis =
          LatencyComparison.pairs(
              a,
              use.input(),
              b,
              use.input(),
              use.imageShape(),
              LatencyComparison.images(use.input(), use.input(), use.batch()),
              COMPARISON_SECONDS,
              COMPARISON_PAIRS);
      return LayerClock.ofFastest(millis[0]) / LayerClock.ofFastest(millis[1]);
    }
  }

  private static OperatorChoice.Candidate candidate(
      OnnxModel model, SingleLayer layer, OperatorTable table) {
    List<String> inputs = List.copyOf(layer.inputs().keySet());
    return new OperatorChoice.Candidate(
        layer.layer(),
        model.index().producer(LayerDiscovery.find(model, layer.layer()).output()),
        OperatorChoice.fused(model.index(), inputs, layer.output()),
        inputs,
        layer.output(),
        table.dense(layer.shape()).orElseThrow(),
        table.sparse(layer.shape(), layer.zeros().name(), layer.sparsity()).orElseThrow());
  }

  /**
   * Measures what a table lacks.
   *
   * @return how many layers that was; those of one shape and sparsity count as one
   */
  static int measure(
      List<SingleLayer> layers,
      int threads,
      OperatorTable table,
      IntConsumer begin,
      Consumer<String> done) {
    Set<String> denseShapes = new HashSet<>();
    Map<String, NavigableSet<Double>> sparsities = new HashMap<>();
    List<LayerClock.Job> jobs = new ArrayList<>();
    for (SingleLayer layer : layers) {
      boolean dense = table.dense(layer.shape()).isEmpty() && denseShapes.add(layer.shape());
      boolean sparse = false;
      if (table.sparse(layer.shape(), layer.zeros().name(), layer.sparsity()).isEmpty()) {
        NavigableSet<Double> planned =
            sparsities.computeIfAbsent(layer.shape() + layer.zeros(), s -> new TreeSet<>());
        double rounded = OperatorTable.rounded(layer.sparsity());
        Double near = planned.ceiling(rounded - OperatorTable.SAME);
        sparse = near == null || near > rounded + OperatorTable.SAME;
        if (sparse) {
          planned.add(rounded);
        }
      }
      if (dense || sparse) {
        jobs.add(new LayerClock.Job(layer, dense, sparse));
      }
    }
    if (!jobs.isEmpty()) {
      begin.accept(jobs.size());
      LayerClock.measure(jobs, threads, table, layer -> done.accept(layer.layer()));
    }
    return jobs.size();
  }

  /**
   * Shapes of the tensors that layers, and what may stand between them, read and write.
   *
   * @return by name, for the batch that the model is to run
   */
  static Map<String, long[]> shapes(OnnxModel model, Use use) {
    GraphIndex index = model.index();
    Set<Integer> layers = new HashSet<>();
    LayerDiscovery.discover(model).forEach(layer -> layers.add(index.producer(layer.output())));
    Set<String> tensors = new LinkedHashSet<>();
    for (int i = 0; i < index.graph().getNodeCount(); i++) {
      NodeProto node = index.node(i);
      if (layers.contains(i)
          || OperatorChoice.KEEPING.contains(node.getOpType())
          || Operators.ELEMENTWISE.contains(node.getOpType())) {
        node.getInputList().stream().filter(index::isDynamic).forEach(tensors::add);
        tensors.addAll(node.getOutputList());
      }
    }
    tensors.removeIf(tensor -> index.producer(tensor) < 0 || !index.isDynamic(tensor));
    long factor = use.input().batch() > 0 ? 1 : use.batch();
    Map<String, long[]> shapes = new HashMap<>();
    BiConsumer<String, long[]> put =
        (name, shape) -> {
          long[] scaled = shape.clone();
          if (scaled.length > 0) {
            scaled[0] *= factor;
          }
          shapes.put(name, scaled);
        };
    long[] image = use.imageShape();
    float[] blank = new float[Math.toIntExact(Tensor.elements(image))];
    Map<String, Tensor> feed = use.input().feed(blank, 1, image);
    feed.forEach((name, tensor) -> put.accept(name, tensor.shape()));
    if (!tensors.isEmpty()) {
      try (Session session = Session.open(model.withOutputs(tensors, false), 1)) {
        Map<String, Tensor> results = session.run(feed);
        results.forEach((name, tensor) -> put.accept(name, tensor.shape()));
        results.values().forEach(Tensor::close);
      }
    }
    feed.values().forEach(Tensor::close);
    return shapes;
  }
}
