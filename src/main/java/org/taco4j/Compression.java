package org.taco4j;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageFile;
import org.taco4j.data.Preprocessor;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.reconstruct.ChannelCorrection;
import org.taco4j.reconstruct.LayerCheckpoints;
import org.taco4j.reconstruct.LayerWise;
import org.taco4j.reconstruct.Sequential;
import org.taco4j.report.RunReport;
import org.taco4j.solve.Damping;

/**
 * Compression of one copy of a model on some images: removal of units, solving of layers with what
 * belongs to it, tuning; with the time that each took.
 */
final class Compression {
  private final Recipe recipe;
  private final LayerSelection selection;
  private final Backend backend;
  private final RunFolder folder;
  private final LayerCheckpoints checkpoints;
  private final Images images;
  private final RunLog log;
  private final Notices notices;
  private double calibrateSeconds;
  private double solveSeconds;
  private double correctSeconds;
  private double tuneSeconds;

  /**
   * The images that compression sees.
   *
   * @param files the calibration images
   * @param labelled whether their class indices are those of the task
   * @param calibration the same as batches
   * @param heldOut on which layer errors are measured; null for none
   * @param correction for the channel correction
   */
  record Images(
      List<ImageFile> files,
      boolean labelled,
      ImageBatches calibration,
      @Nullable ImageBatches heldOut,
      ImageBatches correction) {}

  /**
   * A compressed copy.
   *
   * @param untuned the model before tuning; null where there was no tuning
   * @param unitOutcomes of the layers that read removed units
   * @param outcomes of the pruned layers
   */
  record Compressed(
      OnnxModel model,
      @Nullable OnnxModel untuned,
      List<LayerWise.Outcome> unitOutcomes,
      List<LayerWise.Outcome> outcomes,
      RunReport.@Nullable Tuning tuning,
      Optional<String> failure) {}

  Compression(
      Recipe recipe,
      LayerSelection selection,
      Backend backend,
      RunFolder folder,
      LayerCheckpoints checkpoints,
      Images images,
      RunLog log,
      Notices notices) {
    this.recipe = recipe;
    this.selection = selection;
    this.backend = backend;
    this.folder = folder;
    this.checkpoints = checkpoints;
    this.images = images;
    this.log = log;
    this.notices = notices;
  }

  double tuneSeconds() {
    return tuneSeconds;
  }

  /**
   * Compresses a model: units first, then weights, then tuning.
   *
   * @param dense not changed
   * @param structured which units to remove; null for none
   * @param plans for the layers of the dense model; empty where units only are removed
   * @param planner plans for the layers of a model without its removed units
   */
  Compressed compress(
      OnnxModel dense,
      @Nullable StructuredPruning structured,
      List<LayerWise.Plan> plans,
      Function<OnnxModel, List<LayerWise.Plan>> planner,
      int classes,
      Preprocessor preprocessor) {
    OnnxModel compressed = dense.copy();
    List<LayerWise.Outcome> unitOutcomes = List.of();
    if (structured != null) {
      unitOutcomes = run("units", dense, compressed, structured.plans());
      structured.remove(compressed);
    }
    List<LayerWise.Outcome> outcomes = List.of();
    if (!plans.isEmpty()) {
      // Without its removed units the model is another one: what its layers read has changed.
      OnnxModel reference = structured == null ? dense : compressed.copy();
      outcomes =
          run(
              "weights",
              reference,
              compressed,
              structured == null ? plans : planner.apply(compressed));
    }
    if (!Tuning.isAsked(recipe)) {
      return new Compressed(compressed, null, unitOutcomes, outcomes, null, Optional.empty());
    }
    long start = System.nanoTime();
    Set<String> pruned =
        outcomes.stream().map(o -> o.plan().layer().name()).collect(Collectors.toSet());
    Tuning.Result tuned =
        new Tuning(recipe, backend.workers(), log, notices, memory())
            .tune(
                dense,
                compressed,
                LayerDiscovery.discover(compressed).stream()
                    .filter(layer -> pruned.contains(layer.name()))
                    .toList(),
                images.files(),
                images.labelled(),
                classes,
                preprocessor,
                checkpoints.fileOf("tuning"));
    tuneSeconds += (System.nanoTime() - start) / 1e9;
    return new Compressed(
        tuned.model(), compressed, unitOutcomes, outcomes, tuned.report(), tuned.failure());
  }

  double calibrateSeconds() {
    return calibrateSeconds;
  }

  double solveSeconds() {
    return solveSeconds;
  }

  double correctSeconds() {
    return correctSeconds;
  }

  /**
   * Solves layers on what the reference gives them, and corrects their channels.
   *
   * @param stage distinguishes the parts of a run that solve layers
   * @param reference not changed
   * @param compressed a copy of it, whose weights are changed
   */
  private List<LayerWise.Outcome> run(
      String stage, OnnxModel reference, OnnxModel compressed, List<LayerWise.Plan> plans) {
    Workers workers = backend.workers();
    LayerWise.Result solved = solve(stage, reference, compressed, plans);
    QuantizedLayers quantized = new QuantizedLayers(compressed, solved.outcomes());
    calibrateSeconds += solved.calibrateSeconds();
    solveSeconds += solved.solveSeconds();
    if ("mean-variance".equals(recipe.correct())) {
      long start = System.nanoTime();
      folder.withScratch(scratch -> correct(reference, compressed, plans, workers, scratch));
      correctSeconds += (System.nanoTime() - start) / 1e9;
    }
    quantized.store(compressed);
    return solved.outcomes();
  }

  private LayerWise.Result solve(
      String stage, OnnxModel reference, OnnxModel compressed, List<LayerWise.Plan> plans) {
    Damping damping = Damping.parse(Objects.requireNonNull(recipe.damping()));
    LayerCheckpoints saved = checkpoints.ofStage(stage);
    SolveProgress progress = new SolveProgress(plans.size());
    if (!recipe.isSequential()) {
      return new LayerWise(reference, compressed, backend, backend.workers(), notices, saved)
          .run(plans, damping, memory(), images.calibration(), images.heldOut(), progress);
    }
    LayerWise.Result[] result = new LayerWise.Result[1];
    folder.withScratch(
        scratch ->
            result[0] =
                new Sequential(reference, compressed, backend, notices, saved)
                    .run(
                        plans,
                        damping,
                        memory(),
                        scratch,
                        images.calibration(),
                        images.heldOut(),
                        progress));
    return result[0];
  }

  private long memory() {
    return recipe.memory() == null ? MemorySize.defaultBytes() : MemorySize.parse(recipe.memory());
  }

  private void correct(
      OnnxModel reference,
      OnnxModel compressed,
      List<LayerWise.Plan> plans,
      Workers workers,
      Path scratch) {
    // Depthwise layers are not pruned, but what they read has changed.
    Set<String> pruned =
        plans.stream().map(plan -> plan.layer().name()).collect(Collectors.toSet());
    List<Layer> layers = new ArrayList<>();
    for (Layer layer : LayerDiscovery.discover(compressed)) {
      boolean wanted =
          pruned.contains(layer.name()) || (layer.isDepthwise() && selection.chooses(layer.name()));
      if (!wanted) {
        continue;
      }
      if (LayerWeights.canFold(compressed, layer)
          && !LayerWeights.hasUnknownBias(compressed, layer)) {
        layers.add(layer);
      } else {
        notices.add(
            "layer-not-corrected",
            layer.name(),
            "left out of the channel correction: its weights or bias cannot be rewritten",
            1);
      }
    }
    log.stage("channel correction", layers.size());
    new ChannelCorrection(reference, compressed, workers, notices)
        .correct(layers, images.correction(), memory(), scratch, log::step);
  }

  /** Passes on what the layer-wise solving says. */
  private final class SolveProgress implements Sequential.Listener {
    private final int layers;
    private int solved;
    private boolean solving;

    SolveProgress(int layers) {
      this.layers = layers;
    }

    @Override
    public void calibrating(int pass, int passes, int passLayers) {
      if (recipe.isSequential()) {
        log.stage("reconstructing", passLayers - solved);
        solving = true;
        return;
      }
      log.stage(
          passes == 1
              ? "calibrating " + passLayers + " layers"
              : "calibrating " + passLayers + " layers (pass " + (pass + 1) + " of " + passes + ")",
          0);
      solving = false;
    }

    @Override
    public void resumed(List<LayerWise.Outcome> outcomes) {
      solved = outcomes.size();
      notices.add(
          "resumed",
          String.valueOf(recipe.model()),
          "resuming: " + solved + " of " + layers + " layers are done",
          solved);
    }

    @Override
    public void refitted(Layer layer) {
      log.write(layer.name() + " refitted");
      log.step(layer.name() + " refitted");
    }

    @Override
    public void solved(LayerWise.Outcome outcome) {
      if (!solving) {
        log.stage("solving", layers - solved);
        solving = true;
      }
      solved++;
      String name = outcome.plan().layer().name();
      String solver = outcome.solver();
      log.write(
          String.format(
              Locale.ROOT,
              "(%d/%d) %s %s %s: layer error %.3g, held out %.3g, damping %.3g, %.3f s",
              solved,
              layers,
              name,
              solver,
              outcome.plan().pattern(),
              outcome.layerError(),
              outcome.heldOutError() == null ? Double.NaN : outcome.heldOutError(),
              outcome.damping(),
              outcome.seconds()));
      log.step(name + " " + solver);
    }
  }
}
