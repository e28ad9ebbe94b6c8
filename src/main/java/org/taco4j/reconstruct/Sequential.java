package org.taco4j.reconstruct;

import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.calibrate.LayerMoments;
import org.taco4j.calibrate.ResidualMoments;
import org.taco4j.common.Notice;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.data.ImageBatches;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.ResidualAdd;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;
import org.taco4j.solve.Damping;
import org.taco4j.solve.Hessian;
import org.taco4j.solve.Pattern;
import org.taco4j.solve.SolveRequest;
import org.taco4j.solve.SplitHessian;
import org.taco4j.solve.TargetFit;

/**
 * Sequential reconstruction with dense targets. The graph is walked once with two streams of
 * activations, those of the dense and those of the compressed model. A layer is solved on the
 * inputs X that the layers compressed before it give, towards the outputs that the dense layer
 * gives on dense inputs. Where its output goes straight into an addition, the target also makes up
 * for what the other operand lacks: the error of the residual stream.
 *
 * <p>With all statistics centred, the layer is first fitted densely to the target ({@link
 * TargetFit}); from there the solver goes on as ever, and the bias takes up the means. Layers that
 * are not compressed are fitted in the same way, because what they read has changed.
 */
public final class Sequential {
  /**
   * Batches, at the least, in which images are streamed where there are so many: threads and the
   * parts of sums divide them.
   */
  private static final int BATCHES = 16;

  /** Parts of sums that are added up side by side, at the most, and bytes that they may take. */
  private static final int MOST_PARTS = 16;

  private static final long PART_BYTES = 512L << 20;

  /**
   * An input whose centred energy is this part of its energy or less does not vary: what is left is
   * rounding, of products in float.
   */
  private static final double CONSTANT = 8 * Math.ulp(1f);

  /** A layer with more than this part of zeros has been pruned before. */
  private static final double SPARSE = 0.05;

  private final OnnxModel dense;
  private final OnnxModel compressed;
  private final Backend backend;
  private final Workers workers;
  private final Notices notices;
  private final @Nullable LayerCheckpoints checkpoints;

  /**
   * Sequential reconstruction of a model.
   *
   * @param dense borrowed, not changed
   * @param compressed a copy of it, whose weights and biases are changed
   * @param checkpoints of this run and its predecessors; null for none
   */
  public Sequential(
      OnnxModel dense,
      OnnxModel compressed,
      Backend backend,
      Notices notices,
      @Nullable LayerCheckpoints checkpoints) {
    this.dense = dense;
    this.compressed = compressed;
    this.backend = backend;
    this.workers = backend.workers();
    this.notices = notices;
    this.checkpoints = checkpoints;
  }

  /** Is told what happens. */
  public interface Listener extends LayerWise.Listener {
    /** A layer that is not compressed has been fitted to its target. */
    void refitted(Layer layer);
  }

  /**
   * A layer of the walk.
   *
   * @param plan null for a layer that is fitted only
   * @param operand what is added to its output, if that is known when the layer is solved
   * @param outputStage the stage that ends in its output
   * @param biased whether its bias can be set; otherwise means are not taken out
   */
  private record Step(
      Layer layer,
      LayerWise.@Nullable Plan plan,
      @Nullable String operand,
      int outputStage,
      boolean biased) {}

  /** One batch of the walk. */
  private record Part(int count, boolean heldOut, int half) {}

  /**
   * Solves all layers.
   *
   * @param plans of the layers to compress
   * @param mayFit of the other layers, which may be fitted
   * @param damping λ, relative to the mean of the Hessian's diagonal, of the fit and of the solver;
   *     where it is chosen automatically, that is for the solver, and the fit takes {@link
   *     Damping#USUAL}
   * @param memory bytes for activations that are kept; it changes no result
   * @param scratch an existing folder for activations that exceed it; left empty
   * @param heldOut images on which errors are measured; null for none
   */
  public LayerWise.Result run(
      List<LayerWise.Plan> plans,
      Predicate<Layer> mayFit,
      Damping damping,
      long memory,
      Path scratch,
      ImageBatches calibration,
      @Nullable ImageBatches heldOut,
      Listener listener) {
    return new Walk(plans, mayFit, damping, listener).run(memory, scratch, calibration, heldOut);
  }

  /** The state of one run. */
  private final class Walk {
    private final List<LayerWise.Plan> plans;
    private final Predicate<Layer> mayFit;
    private final Damping damping;
    private final Listener listener;
    private final ModelInput input = ModelInput.of(dense);
    private final List<Step> steps = new ArrayList<>();
    private final List<OnnxModel.Stage> stages;
    private final List<Part> parts = new ArrayList<>();
    private final Map<LayerWise.Plan, LayerWise.Outcome> outcomes = new LinkedHashMap<>();
    private int noted = notices.list().size();
    private double solveSeconds;

    Walk(List<LayerWise.Plan> plans, Predicate<Layer> mayFit, Damping damping, Listener listener) {
      this.plans = plans;
      this.mayFit = mayFit;
      this.damping = damping;
      this.listener = listener;
      this.stages = dense.stages(cuts());
    }

    /** Finds the steps; returns the tensors at which the graph is cut. */
    private List<String> cuts() {
      Map<String, LayerWise.Plan> planned = new HashMap<>();
      plans.forEach(plan -> planned.put(plan.layer().name(), plan));
      List<Layer> walked = new ArrayList<>();
      for (Layer layer : LayerDiscovery.discover(dense)) {
        if (planned.containsKey(layer.name()) || canFit(layer)) {
          walked.add(layer);
        }
      }
      GraphIndex index = dense.index();
      Set<String> cuts = new LinkedHashSet<>();
      for (int i = 0; i < walked.size(); i++) {
        Layer layer = walked.get(i);
        if (index.producer(layer.input()) >= 0) {
          cuts.add(layer.input());
        }
        List<Layer> rest = walked.subList(i, walked.size());
        Optional<String> operand =
            ResidualAdd.operand(dense, layer)
                .filter(tensor -> ResidualAdd.isIndependentOf(dense, tensor, rest));
        operand.ifPresent(cuts::add);
        cuts.add(layer.output());
        steps.add(
            new Step(
                layer,
                planned.get(layer.name()),
                operand.orElse(null),
                cuts.size() - 1,
                !LayerWeights.hasUnknownBias(dense, layer)));
      }
      return List.copyOf(cuts);
    }

    /** Whether a layer that is not compressed is fitted. */
    private boolean canFit(Layer layer) {
      if (!mayFit.test(layer)) {
        return false;
      }
      String why = null;
      if (!LayerWeights.canFold(dense, layer) || LayerWeights.hasUnknownBias(dense, layer)) {
        why = "its weights or bias cannot be rewritten";
      } else if (LayerWeights.zeros(compressed, layer) > SPARSE * layer.parameters()) {
        why = "it is sparse already, and a fit would fill its zeros";
      }
      if (why != null) {
        notices.add(
            "layer-not-refitted", layer.name(), "left out of the reconstruction: " + why, 1);
      }
      return why == null;
    }

    LayerWise.Result run(
        long memory, Path scratch, ImageBatches calibration, @Nullable ImageBatches heldOut) {
      long start = System.nanoTime();
      Map<LayerWise.Plan, LayerCheckpoints.Finished> saved = load();
      listener.calibrating(0, 1, steps.size());
      Path denseScratch = folder(scratch, "dense");
      Path compressedScratch = folder(scratch, "compressed");
      try (ModelStream from = new ModelStream(dense, memory / 2, denseScratch, workers);
          ModelStream to = new ModelStream(compressed, memory / 2, compressedScratch, workers)) {
        addImages(from, to, calibration, heldOut);
        int stage = 0;
        for (Step step : steps) {
          for (; stage < step.outputStage(); stage++) {
            from.run(stages.get(stage));
            to.run(stages.get(stage));
          }
          from.run(stages.get(stage));
          LayerCheckpoints.Finished finished = step.plan() == null ? null : saved.get(step.plan());
          if (finished != null) {
            takeOver(step.layer(), finished);
            to.run(stages.get(stage));
          } else {
            reconstruct(step, from, to);
          }
          stage++;
          Set<String> needed = new LinkedHashSet<>();
          stages.subList(stage, stages.size()).forEach(later -> needed.addAll(later.inputs()));
          from.retain(needed);
          to.retain(needed);
        }
      }
      delete(denseScratch);
      delete(compressedScratch);
      noteConstantColumns();
      List<LayerWise.Outcome> inOrder =
          plans.stream().map(plan -> Objects.requireNonNull(outcomes.get(plan))).toList();
      double all = (System.nanoTime() - start) / 1e9;
      return new LayerWise.Result(inOrder, all - solveSeconds, solveSeconds);
    }

    private void noteConstantColumns() {
      int dead = outcomes.values().stream().mapToInt(LayerWise.Outcome::deadColumns).sum();
      if (dead > 0) {
        notices.add(
            "dead-columns",
            compressed.source(),
            dead
                + " layer inputs do not vary over the calibration images: what their weights are for"
                + " does not show there, and biases take up what they add; more varied images make"
                + " them fewer (deadColumns in layers.csv)",
            dead);
      }
    }

    private Map<LayerWise.Plan, LayerCheckpoints.Finished> load() {
      Map<LayerWise.Plan, LayerCheckpoints.Finished> saved = new LinkedHashMap<>();
      if (checkpoints != null) {
        plans.forEach(
            plan -> checkpoints.load(plan).ifPresent(finished -> saved.put(plan, finished)));
      }
      if (!saved.isEmpty()) {
        listener.resumed(saved.values().stream().map(LayerCheckpoints.Finished::outcome).toList());
      }
      return saved;
    }

    private void takeOver(Layer layer, LayerCheckpoints.Finished finished) {
      LayerWeights.fold(compressed, layer, finished.weights());
      if (finished.bias() != null) {
        LayerWeights.setBias(compressed, layer, finished.bias());
      }
      finished.notices().forEach(notices::add);
      outcomes.put(finished.outcome().plan(), finished.outcome());
      noted = notices.list().size();
    }

    private void addImages(
        ModelStream from,
        ModelStream to,
        ImageBatches calibration,
        @Nullable ImageBatches heldOut) {
      List<ImageBatches> halves =
          damping instanceof Damping.Fixed
              ? List.of(calibration)
              : LayerWise.halves(plans, calibration, compressed, notices);
      for (int half = 0; half < halves.size(); half++) {
        add(halves.get(half), false, half, from, to);
      }
      if (heldOut != null) {
        add(heldOut, true, 0, from, to);
      }
    }

    private void add(
        ImageBatches images, boolean isHeldOut, int half, ModelStream from, ModelStream to) {
      int batch = input.batch() > 0 ? images.batchSize() : images.size() / BATCHES + 1;
      ImageBatches finer = images.inBatchesOf(Math.min(batch, images.batchSize()));
      for (ImageBatches.Batch next : finer) {
        from.add(next, images.imageShape());
        to.add(next, images.imageShape());
        parts.add(new Part(next.count(), isHeldOut, half));
      }
    }

    private void reconstruct(Step step, ModelStream from, ModelStream to) {
      Layer layer = step.layer();
      OnnxModel.Stage stage = stages.get(step.outputStage());
      List<List<ResidualMoments.Sums>> sums = moments(step, from, to);
      long start = System.nanoTime();
      float[][] weights = LayerWeights.unfold(compressed, layer);
      float[][] solved = new float[weights.length][];
      double[] shift = new double[layer.rows() * layer.groups()];
      double factor = LayerWeights.factor(compressed, layer);
      LayerSolving solving =
          step.plan() == null ? null : new LayerSolving(step.plan(), damping, backend);
      for (int group = 0; group < weights.length; group++) {
        SplitHessian halves = null;
        List<ResidualMoments.Sums> ofGroup = sums.get(group);
        if (ofGroup.size() == 2 && solving != null) {
          halves =
              new SplitHessian(
                  Centred.of(ofGroup.get(0).copy(), step.biased(), factor).hessian(),
                  Centred.of(ofGroup.get(1).copy(), step.biased(), factor).hessian());
        }
        Centred whole =
            Centred.of(
                ofGroup.stream().reduce(ResidualMoments.Sums::plus).orElseThrow(),
                step.biased(),
                factor);
        float[] target = fit(layer, weights[group], whole);
        solved[group] = solving == null ? target : solving.solve(target, whole.hessian(), halves);
        if (step.biased()) {
          whole.shift(weights[group], solved[group], shift, group * layer.rows());
        }
      }
      LayerWeights.fold(compressed, layer, solved);
      // A bias that an Add behind the layer brings is no part of the outputs that were compared.
      boolean addedBehind =
          layer.bias().isPresent() && !layer.bias().get().node().equals(layer.output());
      double[] outputShift = new double[shift.length];
      float[] bias = null;
      if (step.biased()) {
        float[] denseBias = LayerWeights.bias(dense, layer);
        bias = addedBehind ? denseBias.clone() : LayerWeights.bias(compressed, layer);
        for (int c = 0; c < bias.length; c++) {
          bias[c] += (float) shift[c];
          outputShift[c] = addedBehind ? bias[c] - denseBias[c] : 0;
        }
        LayerWeights.setBias(compressed, layer, bias);
      }
      solveSeconds += (System.nanoTime() - start) / 1e9;
      to.run(stage);
      if (solving == null) {
        listener.refitted(layer);
        return;
      }
      LayerWise.Outcome outcome =
          solving.outcome(
              error(step, from, to, false, outputShift),
              parts.stream().anyMatch(Part::heldOut)
                  ? error(step, from, to, true, outputShift)
                  : null,
              notices);
      outcomes.put(outcome.plan(), outcome);
      List<Notice> all = notices.list();
      if (checkpoints != null) {
        checkpoints.save(
            new LayerCheckpoints.Finished(
                outcome,
                LayerWeights.unfold(compressed, layer),
                bias,
                all.subList(noted, all.size())));
      }
      noted = all.size();
      listener.solved(outcome);
    }

    /** W₀ of one group. */
    private float[] fit(Layer layer, float[] weights, Centred moments) {
      TargetFit.Fit fit =
          TargetFit.fit(
              new SolveRequest(
                  layer.name(),
                  weights,
                  layer.rows(),
                  layer.cols(),
                  moments.hessian(),
                  SolveRequest.naturalOrder(layer.cols()),
                  new Pattern.Unstructured(0),
                  damping instanceof Damping.Fixed fixed ? fixed.value() : Damping.USUAL),
              moments.cross(),
              backend);
      if (fit.escalations() > 0) {
        notices.add(
            "extra-damping",
            layer.name(),
            "the fit to the dense outputs took damping " + fit.damping(),
            fit.damping());
      }
      return fit.weights();
    }

    /** The sums over the calibration images: for each group, of each half. */
    private List<List<ResidualMoments.Sums>> moments(Step step, ModelStream from, ModelStream to) {
      Layer layer = step.layer();
      int halves = parts.stream().mapToInt(Part::half).max().orElse(0) + 1;
      // The parts depend on shapes and the number of images only, so that sums repeat.
      long bytes = ResidualMoments.bytes(layer) * layer.groups();
      int most = Math.clamp(PART_BYTES / bytes / halves, 1, MOST_PARTS);
      List<int[]> tasks = new ArrayList<>();
      List<Integer> halfOf = new ArrayList<>();
      for (int half = 0; half < halves; half++) {
        int h = half;
        int[] batches =
            IntStream.range(0, parts.size())
                .filter(b -> !parts.get(b).heldOut() && parts.get(b).half() == h)
                .toArray();
        int count = Math.min(most, batches.length);
        for (int i = 0; i < count; i++) {
          tasks.add(
              Arrays.copyOfRange(
                  batches, i * batches.length / count, (i + 1) * batches.length / count));
          halfOf.add(half);
        }
      }
      ResidualMoments.Sums[][] results = new ResidualMoments.Sums[tasks.size()][];
      try (Session session = to.open(stages.get(step.outputStage()))) {
        workers.forEach(
            tasks.size(),
            t -> {
              try (LayerMoments moments = LayerMoments.of(layer, backend)) {
                for (int b : tasks.get(t)) {
                  add(step, from, to, session, b, moments);
                }
                results[t] = moments.finish();
              }
            });
      }
      List<List<ResidualMoments.Sums>> sums = new ArrayList<>();
      for (int g = 0; g < layer.groups(); g++) {
        List<ResidualMoments.Sums> ofGroup = new ArrayList<>();
        for (int t = 0; t < results.length; t++) {
          if (ofGroup.size() <= halfOf.get(t)) {
            ofGroup.add(results[t][g]);
          } else {
            ofGroup.set(halfOf.get(t), ofGroup.getLast().plus(results[t][g]));
          }
        }
        sums.add(ofGroup);
      }
      return sums;
    }

    /** Adds a batch to the sums of all groups. */
    private void add(
        Step step,
        ModelStream from,
        ModelStream to,
        Session session,
        int batch,
        LayerMoments moments) {
      Layer layer = step.layer();
      OnnxModel.Stage stage = stages.get(step.outputStage());
      Target target = target(step, from, batch);
      Set<String> names = new LinkedHashSet<>(stage.inputs());
      names.add(layer.input());
      if (step.operand() != null) {
        names.add(step.operand());
      }
      to.activations()
          .use(
              batch,
              names,
              tensors -> {
                Map<String, Tensor> given = new LinkedHashMap<>();
                stage
                    .inputs()
                    .forEach(name -> given.put(name, Objects.requireNonNull(tensors.get(name))));
                Map<String, Tensor> outputs = session.run(given);
                float[] residual;
                try {
                  Tensor output = Objects.requireNonNull(outputs.get(layer.output()));
                  residual = residual(step, target, output, tensors, batch);
                } finally {
                  outputs.values().forEach(Tensor::close);
                }
                Tensor x = Objects.requireNonNull(tensors.get(layer.input()));
                long[] shape = leading(layer.input(), x, batch);
                FloatBuffer values = x.buffer();
                values.limit(Math.toIntExact(Tensor.elements(shape)));
                moments.add(values, shape, FloatBuffer.wrap(residual), target.shape());
                return Map.of();
              });
    }

    private long[] leading(String name, Tensor tensor, int batch) {
      return input.leading(name, tensor.shape(), parts.get(batch).count());
    }

    /** What the dense model gives for a batch: the layer's output, and the other operand. */
    @SuppressWarnings("ArrayRecordComponent") // tensors
    private record Target(float[] output, long[] shape, float @Nullable [] operand) {}

    private Target target(Step step, ModelStream from, int batch) {
      List<String> names = new ArrayList<>(List.of(step.layer().output()));
      if (step.operand() != null) {
        names.add(step.operand());
      }
      Target[] target = new Target[1];
      from.activations()
          .use(
              batch,
              names,
              tensors -> {
                Tensor output = Objects.requireNonNull(tensors.get(step.layer().output()));
                long[] shape = leading(step.layer().output(), output, batch);
                target[0] =
                    new Target(
                        ModelStream.leading(output.floats(), shape),
                        shape,
                        operand(step, tensors, shape, batch));
                return Map.of();
              });
      return target[0];
    }

    /** The other operand's values, where there is one of the output's shape. */
    private float @Nullable [] operand(
        Step step, Map<String, Tensor> tensors, long[] outputShape, int batch) {
      if (step.operand() == null) {
        return null;
      }
      Tensor tensor = Objects.requireNonNull(tensors.get(step.operand()));
      long[] shape = leading(step.operand(), tensor, batch);
      return Arrays.equals(shape, outputShape) ? ModelStream.leading(tensor.floats(), shape) : null;
    }

    /** What the compressed layer's output lacks of the target. */
    private float[] residual(
        Step step, Target target, Tensor output, Map<String, Tensor> tensors, int batch) {
      float[] actual = ModelStream.leading(output.floats(), target.shape());
      float[] operand = operand(step, tensors, target.shape(), batch);
      float[] denseOperand = target.operand();
      float[] residual = new float[target.output().length];
      for (int i = 0; i < residual.length; i++) {
        residual[i] = target.output()[i] - actual[i];
      }
      if (operand != null && denseOperand != null) {
        for (int i = 0; i < residual.length; i++) {
          residual[i] += denseOperand[i] - operand[i];
        }
      }
      return residual;
    }

    /**
     * ‖target − output‖² / ‖dense output − its mean‖², over calibration or held-out images; where
     * the dense output does not vary, relative to its energy, and 1 where it is zero.
     *
     * @param shift per output channel, what an Add behind the layer adds more than before
     */
    private double error(
        Step step, ModelStream from, ModelStream to, boolean onHeldOut, double[] shift) {
      Layer layer = step.layer();
      int[] batches =
          IntStream.range(0, parts.size())
              .filter(b -> parts.get(b).heldOut() == onHeldOut)
              .toArray();
      ChannelMoments[] lacking = new ChannelMoments[batches.length];
      ChannelMoments[] wanted = new ChannelMoments[batches.length];
      Set<String> names = new LinkedHashSet<>(List.of(layer.output()));
      if (step.operand() != null) {
        names.add(step.operand());
      }
      workers.forEach(
          batches.length,
          i -> {
            Target target = target(step, from, batches[i]);
            to.activations()
                .use(
                    batches[i],
                    names,
                    tensors -> {
                      Tensor output = Objects.requireNonNull(tensors.get(layer.output()));
                      float[] residual = residual(step, target, output, tensors, batches[i]);
                      lacking[i] = ChannelMoments.of(residual, target.shape(), layer.outputAxis());
                      wanted[i] =
                          ChannelMoments.of(target.output(), target.shape(), layer.outputAxis());
                      return Map.of();
                    });
          });
      ChannelMoments error = merged(lacking);
      ChannelMoments energy = merged(wanted);
      double numerator = 0;
      double variance = 0;
      double whole = 0;
      for (int c = 0; c < shift.length; c++) {
        double mean = error.mean(c) - shift[c];
        numerator += error.variance(c) + mean * mean;
        variance += energy.variance(c);
        whole += energy.variance(c) + energy.mean(c) * energy.mean(c);
      }
      // Outputs that do not vary, as those of a single sample: relative to themselves.
      double denominator = variance > CONSTANT * whole ? variance : whole;
      return numerator == 0 ? 0 : denominator == 0 ? 1 : numerator / denominator;
    }

    private static ChannelMoments merged(ChannelMoments[] moments) {
      ChannelMoments sum = new ChannelMoments(moments[0].channels());
      for (ChannelMoments part : moments) {
        sum.merge(part);
      }
      return sum;
    }
  }

  /**
   * Centred second moments of one layer problem, scaled as Hessians are (2/N).
   *
   * @param cross of residuals and inputs, [rows, cols]
   * @param meanInput [cols]
   * @param meanResidual [rows], of outputs
   * @param factor that the layer multiplies the product with its weights with
   */
  @SuppressWarnings("ArrayRecordComponent") // private, and never compared
  private record Centred(
      Hessian hessian, double[] cross, double[] meanInput, double[] meanResidual, double factor) {

    /**
     * Takes the means out, in place.
     *
     * @param centre false to leave the means in
     * @param factor that the layer multiplies the product with its weights with
     */
    static Centred of(ResidualMoments.Sums sums, boolean centre, double factor) {
      int rows = sums.rows();
      int cols = sums.cols();
      double n = sums.samples();
      double[] gram = sums.gram();
      double[] cross = sums.cross();
      double[] x = sums.input();
      double[] r = sums.residual();
      if (centre) {
        double[] before = new double[cols];
        for (int i = 0; i < cols; i++) {
          before[i] = gram[i * cols + i];
          for (int j = 0; j < cols; j++) {
            gram[i * cols + j] -= x[i] * x[j] / n;
          }
        }
        for (int row = 0; row < rows; row++) {
          for (int j = 0; j < cols; j++) {
            cross[row * cols + j] -= r[row] * x[j] / n;
          }
        }
        for (int i = 0; i < cols; i++) {
          if (gram[i * cols + i] <= CONSTANT * before[i]) {
            for (int j = 0; j < cols; j++) {
              gram[i * cols + j] = 0;
              gram[j * cols + i] = 0;
            }
            for (int row = 0; row < rows; row++) {
              cross[row * cols + i] = 0;
            }
          }
        }
      }
      for (int i = 0; i < cross.length; i++) {
        cross[i] *= 2 / n / factor;
      }
      double[] meanInput = new double[cols];
      double[] meanResidual = new double[rows];
      Arrays.setAll(meanInput, i -> x[i] / n);
      Arrays.setAll(meanResidual, i -> r[i] / n);
      return new Centred(
          Hessian.ofGram(gram, cols, sums.samples()), cross, meanInput, meanResidual, factor);
    }

    /** Writes by how much the biases of the rows must change. */
    void shift(float[] before, float[] after, double[] shift, int offset) {
      int cols = meanInput.length;
      for (int row = 0; row < meanResidual.length; row++) {
        double sum = meanResidual[row];
        for (int j = 0; j < cols; j++) {
          int at = row * cols + j;
          sum += factor * ((double) before[at] - after[at]) * meanInput[j];
        }
        shift[offset + row] = sum;
      }
    }
  }

  private static Path folder(Path scratch, String name) {
    try {
      return Files.createDirectories(scratch.resolve(name));
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.RUNTIME, scratch.resolve(name) + ": cannot be made: " + e, e);
    }
  }

  private static void delete(Path folder) {
    try {
      Files.deleteIfExists(folder);
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, folder + ": cannot be deleted: " + e, e);
    }
  }
}
