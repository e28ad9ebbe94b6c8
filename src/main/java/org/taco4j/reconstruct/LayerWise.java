package org.taco4j.reconstruct;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.taco4j.calibrate.Calibrator;
import org.taco4j.calibrate.GramKey;
import org.taco4j.calibrate.GramMatrix;
import org.taco4j.common.Notice;
import org.taco4j.common.Notices;
import org.taco4j.common.Pipeline;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.data.ImageBatches;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.solve.Damping;
import org.taco4j.solve.Hessian;
import org.taco4j.solve.LayerError;
import org.taco4j.solve.Pattern;
import org.taco4j.solve.QuantizationGrid;
import org.taco4j.solve.SearchReport;
import org.taco4j.solve.Solver;
import org.taco4j.solve.SplitHessian;

/**
 * The papers' form of compression: every layer is solved on its own, on the inputs that the dense
 * model gives it. Layers go in passes, so that the Gram matrices in flight stay within bounds.
 */
public final class LayerWise {
  /**
   * Gram matrices that are no longer needed, in bytes, after which the collector is asked to run.
   * Left to itself it lets the heap grow before it looks for old garbage, and the process is to
   * stay small.
   */
  private static final long GARBAGE_BYTES = 100L << 20;

  private final OnnxModel dense;
  private final OnnxModel compressed;
  private final Backend backend;
  private final Workers workers;
  private final Notices notices;
  private final @Nullable LayerCheckpoints checkpoints;

  /** Bytes of Gram matrices let go since the collector was last asked to run. */
  private long garbage;

  /**
   * Layer-wise compression of a model.
   *
   * @param dense borrowed, not changed
   * @param compressed a copy of it, whose weights are changed
   */
  public LayerWise(
      OnnxModel dense, OnnxModel compressed, Backend backend, Workers workers, Notices notices) {
    this(dense, compressed, backend, workers, notices, null);
  }

  /**
   * The same, saving each layer as it is done, and taking over the layers that were saved before.
   *
   * @param checkpoints of this run and its predecessors; null for none
   */
  public LayerWise(
      OnnxModel dense,
      OnnxModel compressed,
      Backend backend,
      Workers workers,
      Notices notices,
      @Nullable LayerCheckpoints checkpoints) {
    this.dense = dense;
    this.compressed = compressed;
    this.backend = backend;
    this.workers = workers;
    this.notices = notices;
    this.checkpoints = checkpoints;
  }

  /** What is to be done to a layer. */
  public record Plan(Layer layer, Pattern pattern, Solver solver) {}

  /**
   * What was done to a layer.
   *
   * @param solver the name of what ran: of the hybrid solver what it chose
   * @param layerError layer-wise error over all groups on the calibration images
   * @param heldOutError the same on held-out images; null without them
   * @param damping the largest λ of any group
   * @param deadColumns inputs of all groups that were zero on every calibration image
   * @param seconds of the solver, and of choosing λ
   * @param searches what searches over masks did, of each group; empty where there were none
   * @param grids on which the weights lie, of each group; empty where they are not quantised
   */
  public record Outcome(
      Plan plan,
      String solver,
      double layerError,
      @Nullable Double heldOutError,
      double damping,
      int deadColumns,
      double seconds,
      List<SearchReport> searches,
      List<QuantizationGrid> grids) {}

  /**
   * What was done to all layers.
   *
   * @param outcomes in the order of the plans, taken over or not
   * @param calibrateSeconds wall time of streaming images, in this run
   * @param solveSeconds wall time of solvers and errors, in this run
   */
  public record Result(List<Outcome> outcomes, double calibrateSeconds, double solveSeconds) {}

  /** Is told what happens. */
  public interface Listener {
    /** A pass over the images begins, for {@code layers} layers. */
    void calibrating(int pass, int passes, int layers);

    /** A layer has been solved, and saved. */
    void solved(Outcome outcome);

    /** These layers were done in an earlier run and are taken over; comes first, if at all. */
    default void resumed(List<Outcome> outcomes) {}
  }

  /**
   * Solves all layers.
   *
   * @param damping λ, relative to the mean of the Hessian's diagonal. To be chosen automatically it
   *     takes two Gram matrices for each layer problem: of every other image of each class
   * @param memory bytes for Gram matrices in flight
   * @param heldOut images on which errors are measured; null for none
   */
  public Result run(
      List<Plan> plans,
      Damping damping,
      long memory,
      ImageBatches calibration,
      @Nullable ImageBatches heldOut,
      Listener listener) {
    Map<Layer, Plan> byLayer = new HashMap<>();
    plans.forEach(plan -> byLayer.put(plan.layer(), plan));
    Map<Plan, Outcome> outcomes = resume(plans, listener);
    // What a layer's Gram matrix is does not depend on which layers share its pass.
    List<Plan> left = plans.stream().filter(plan -> !outcomes.containsKey(plan)).toList();
    // Decided by all plans: a resumed run must not sum other parts than the first one did.
    List<ImageBatches> images = parts(damping, plans, calibration);
    int matrices = images.size() + (heldOut == null ? 0 : 1);
    List<List<Layer>> passes =
        Calibrator.passes(left.stream().map(Plan::layer).toList(), matrices, memory, backend);
    Calibrator calibrator = new Calibrator(dense, backend, workers);
    double calibrateSeconds = 0;
    double solveSeconds = 0;
    int[] noted = {notices.list().size()};
    for (int pass = 0; pass < passes.size(); pass++) {
      List<Layer> layers = passes.get(pass);
      listener.calibrating(pass, passes.size(), layers.size());
      long start = System.nanoTime();
      Map<GramKey, List<Hessian>> hessians = new HashMap<>();
      for (ImageBatches part : images) {
        addHessians(calibrator.gramMatrices(layers, part), hessians);
      }
      Map<GramKey, List<Hessian>> heldOutHessians = new HashMap<>();
      if (heldOut != null) {
        addHessians(calibrator.gramMatrices(layers, heldOut), heldOutHessians);
      }
      long calibrated = System.nanoTime();
      Map<GramKey, Integer> users = new HashMap<>();
      layers.forEach(layer -> Calibrator.keys(layer).forEach(k -> users.merge(k, 1, Integer::sum)));
      Pipeline.run(
          layers.stream().map(layer -> Objects.requireNonNull(byLayer.get(layer))).toList(),
          layersAtOnce(),
          plan -> solving(plan, damping, hessians, heldOutHessians),
          solved -> {
            Outcome outcome = finish(solved);
            outcomes.put(outcome.plan(), outcome);
            noted[0] = save(outcome, noted[0]);
            listener.solved(outcome);
            dispose(outcome.plan().layer(), users, hessians, heldOutHessians, matrices);
          });
      calibrateSeconds += (calibrated - start) / 1e9;
      solveSeconds += (System.nanoTime() - calibrated) / 1e9;
    }
    int dead = outcomes.values().stream().mapToInt(Outcome::deadColumns).sum();
    if (dead > 0) {
      notices.add(
          "dead-columns",
          compressed.source(),
          dead
              + " layer inputs are zero on every calibration image: what their weights are for does"
              + " not show there; more varied images make them fewer (deadColumns in layers.csv)",
          dead);
    }
    List<Outcome> inOrder =
        plans.stream().map(plan -> Objects.requireNonNull(outcomes.get(plan))).toList();
    return new Result(inOrder, calibrateSeconds, solveSeconds);
  }

  /** Takes over the layers that an earlier run has saved. */
  private Map<Plan, Outcome> resume(List<Plan> plans, Listener listener) {
    Map<Plan, Outcome> outcomes = new LinkedHashMap<>();
    if (checkpoints == null) {
      return outcomes;
    }
    for (Plan plan : plans) {
      checkpoints
          .load(plan)
          .ifPresent(
              finished -> {
                LayerWeights.fold(compressed, plan.layer(), finished.weights());
                finished.notices().forEach(notices::add);
                outcomes.put(plan, finished.outcome());
              });
    }
    if (!outcomes.isEmpty()) {
      listener.resumed(List.copyOf(outcomes.values()));
    }
    return outcomes;
  }

  /**
   * Saves a layer that is done with what was noted since {@code noted}; returns how many notices
   * there are now.
   */
  private int save(Outcome outcome, int noted) {
    List<Notice> all = notices.list();
    if (checkpoints != null) {
      Layer layer = outcome.plan().layer();
      checkpoints.save(
          new LayerCheckpoints.Finished(
              outcome,
              LayerWeights.unfold(compressed, layer),
              /* bias= */ null,
              all.subList(noted, all.size())));
    }
    return all.size();
  }

  /** The calibration images in the parts of which Gram matrices are needed: two halves, or all. */
  private List<ImageBatches> parts(Damping damping, List<Plan> plans, ImageBatches calibration) {
    return damping instanceof Damping.Fixed
        ? List.of(calibration)
        : halves(plans, calibration, compressed, notices);
  }

  /** The two halves of the images by which damping is chosen; all, where it cannot be: noted. */
  static List<ImageBatches> halves(
      List<Plan> plans, ImageBatches calibration, OnnxModel model, Notices notices) {
    if (plans.stream().noneMatch(plan -> plan.solver().usesDamping())) {
      notices.add(
          "damping-not-chosen",
          model.source(),
          "the solver uses no damping, so none was chosen",
          Damping.USUAL);
      return List.of(calibration);
    }
    List<ImageBatches> halves = calibration.halves();
    if (halves.size() < 2) {
      notices.add(
          "damping-not-chosen",
          model.source(),
          "a single calibration image cannot be halved to choose the damping; it stays "
              + Damping.USUAL,
          Damping.USUAL);
    }
    return halves;
  }

  private static void addHessians(
      Map<GramKey, GramMatrix> grams, Map<GramKey, List<Hessian>> hessians) {
    grams.forEach(
        (key, gram) ->
            hessians
                .computeIfAbsent(key, k -> new ArrayList<>())
                .add(Hessian.ofGram(gram.values(), gram.cols(), gram.samples())));
  }

  /** How many layers are solved side by side: some for each device, else all threads on one. */
  private int layersAtOnce() {
    DeviceKernels device = backend.device();
    return device == null ? 1 : device.layersAtOnce();
  }

  /** A layer's solved weights, which are not yet in the model: [rows, cols] for each group. */
  @SuppressWarnings("ArrayRecordComponent") // handed from one step to the next
  private record Solved(
      Plan plan,
      LayerSolving solving,
      float[][] weights,
      LayerError errors,
      @Nullable LayerError heldOutErrors) {}

  /** Reads a layer's weights; what is returned solves it, and touches the model no more. */
  private Supplier<Solved> solving(
      Plan plan,
      Damping damping,
      Map<GramKey, List<Hessian>> hessians,
      Map<GramKey, List<Hessian>> heldOutHessians) {
    Layer layer = plan.layer();
    float[][] groups = LayerWeights.unfold(compressed, layer);
    List<List<Hessian>> parts = new ArrayList<>();
    List<@Nullable Hessian> unseen = new ArrayList<>();
    for (int group = 0; group < groups.length; group++) {
      GramKey key = GramKey.of(layer, group);
      parts.add(Objects.requireNonNull(hessians.get(key)));
      unseen.add(
          heldOutHessians.isEmpty()
              ? null
              : Objects.requireNonNull(heldOutHessians.get(key)).getFirst());
    }
    return () -> solve(plan, damping, groups, parts, unseen);
  }

  private Solved solve(
      Plan plan,
      Damping damping,
      float[][] groups,
      List<List<Hessian>> hessians,
      List<@Nullable Hessian> heldOutHessians) {
    Layer layer = plan.layer();
    float[][] solved = new float[groups.length][];
    LayerError errors = new LayerError();
    LayerError heldOutErrors = heldOutHessians.contains(null) ? null : new LayerError();
    LayerSolving solving = new LayerSolving(plan, damping, backend);
    for (int group = 0; group < groups.length; group++) {
      float[] weights = groups[group];
      List<Hessian> parts = hessians.get(group);
      SplitHessian halves =
          parts.size() < 2 ? null : new SplitHessian(parts.getFirst(), parts.getLast());
      Hessian hessian = halves == null ? parts.getFirst() : halves.whole();
      solved[group] = solving.solve(weights, hessian, halves);
      errors.add(weights, solved[group], layer.rows(), layer.cols(), hessian, backend);
      Hessian unseen = heldOutHessians.get(group);
      if (heldOutErrors != null && unseen != null) {
        heldOutErrors.add(weights, solved[group], layer.rows(), layer.cols(), unseen, backend);
      }
    }
    return new Solved(plan, solving, solved, errors, heldOutErrors);
  }

  private Outcome finish(Solved solved) {
    LayerWeights.fold(compressed, solved.plan().layer(), solved.weights());
    LayerError heldOut = solved.heldOutErrors();
    return solved
        .solving()
        .outcome(solved.errors().relative(), heldOut == null ? null : heldOut.relative(), notices);
  }

  /** Lets go of a solved layer's Gram matrices that no layer needs any more. */
  private void dispose(
      Layer layer,
      Map<GramKey, Integer> users,
      Map<GramKey, List<Hessian>> hessians,
      Map<GramKey, List<Hessian>> heldOutHessians,
      int matrices) {
    for (GramKey key : Calibrator.keys(layer)) {
      if (users.merge(key, -1, Integer::sum) == 0) {
        hessians.remove(key);
        heldOutHessians.remove(key);
        garbage += key.bytes() * matrices;
      }
    }
    if (garbage > GARBAGE_BYTES) {
      System.gc();
      garbage = 0;
    }
  }
}
