package org.taco4j;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.data.ImageBatches;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.reconstruct.ChannelCorrection;
import org.taco4j.reconstruct.LayerCheckpoints;
import org.taco4j.reconstruct.LayerWise;
import org.taco4j.reconstruct.Sequential;
import org.taco4j.solve.Damping;

/**
 * Solving of layers and the channel correction after it, for removal of units and for that of
 * weights, with the time that they took together.
 */
final class Compression {
  private final Recipe recipe;
  private final LayerSelection selection;
  private final Backend backend;
  private final RunFolder folder;
  private final LayerCheckpoints checkpoints;
  private final ImageBatches calibration;
  private final @Nullable ImageBatches heldOut;
  private final ImageBatches correctionImages;
  private final RunLog log;
  private final Notices notices;
  private double calibrateSeconds;
  private double solveSeconds;
  private double correctSeconds;

  Compression(
      Recipe recipe,
      LayerSelection selection,
      Backend backend,
      RunFolder folder,
      LayerCheckpoints checkpoints,
      ImageBatches calibration,
      @Nullable ImageBatches heldOut,
      ImageBatches correctionImages,
      RunLog log,
      Notices notices) {
    this.recipe = recipe;
    this.selection = selection;
    this.backend = backend;
    this.folder = folder;
    this.checkpoints = checkpoints;
    this.calibration = calibration;
    this.heldOut = heldOut;
    this.correctionImages = correctionImages;
    this.log = log;
    this.notices = notices;
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
  List<LayerWise.Outcome> run(
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
          .run(plans, damping, memory(), calibration, heldOut, progress);
    }
    LayerWise.Result[] result = new LayerWise.Result[1];
    folder.withScratch(
        scratch ->
            result[0] =
                new Sequential(reference, compressed, backend, notices, saved)
                    .run(plans, damping, memory(), scratch, calibration, heldOut, progress));
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
        .correct(layers, correctionImages, memory(), scratch, log::step);
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
