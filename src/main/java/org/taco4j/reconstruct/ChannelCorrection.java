package org.taco4j.reconstruct;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.Consumer;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/**
 * The channel correction. Pruning shrinks what a layer puts out, and folded BatchNorm no longer
 * makes up for it. So, layer by layer in graph order, each output channel is scaled and shifted (in
 * the layer's weights and bias, at no cost at run time) such that its mean and variance over the
 * calibration images are those of the dense model, given the layers before it as corrected.
 *
 * <p>The compressed model is run once, in stages that each end in a layer's output; between stages
 * the tensors that later stages read are kept for all images, in files where they exceed the memory
 * allowed.
 */
public final class ChannelCorrection {
  /**
   * Scales outside [1/LIMIT, LIMIT] are clamped: a channel that pruning has nearly silenced holds
   * little but noise, and amplifying it without bound harms.
   */
  private static final double LIMIT = 4;

  private final OnnxModel dense;
  private final OnnxModel compressed;
  private final Workers workers;
  private final Notices notices;

  /**
   * A correction of one model towards another.
   *
   * @param dense borrowed, not changed
   * @param compressed the same graph with pruned weights; its weights and biases are changed
   */
  public ChannelCorrection(
      OnnxModel dense, OnnxModel compressed, Workers workers, Notices notices) {
    this.dense = dense;
    this.compressed = compressed;
    this.workers = workers;
    this.notices = notices;
  }

  /**
   * Corrects the given layers.
   *
   * @param layers in graph order, as found in the compressed model; with weights that can be folded
   *     ({@link LayerWeights#canFold}) and without an unknown bias ({@link
   *     LayerWeights#hasUnknownBias})
   * @param memory bytes that kept activations may take; it changes no result
   * @param scratch an existing folder for activations that exceed it; left empty
   * @param progress told each layer's name as it is finished
   * @throws IllegalArgumentException for a layer with an unknown bias
   */
  public void correct(
      List<Layer> layers,
      ImageBatches images,
      long memory,
      Path scratch,
      Consumer<String> progress) {
    for (Layer layer : layers) {
      if (LayerWeights.hasUnknownBias(compressed, layer)) {
        throw new IllegalArgumentException(
            "the bias of layer '" + layer.name() + "' cannot be read, so not be scaled");
      }
    }
    ModelInput input = ModelInput.of(dense);
    Map<String, ChannelMoments> targets = denseMoments(layers, images, input);

    List<String> outputs = layers.stream().map(Layer::output).toList();
    List<OnnxModel.Stage> stages = compressed.stages(outputs);
    List<Integer> counts = new ArrayList<>();
    try (ModelStream stream = new ModelStream(compressed, memory, scratch, workers)) {
      for (ImageBatches.Batch batch : images) {
        counts.add(batch.count());
        stream.add(batch, images.imageShape());
      }
      int clamped = 0;
      for (int i = 0; i < layers.size(); i++) {
        Layer layer = layers.get(i);
        stream.run(stages.get(i));
        ChannelMoments target = Objects.requireNonNull(targets.get(layer.output()));
        clamped += correctLayer(layer, target, stream.activations(), counts, input);
        Set<String> needed = new LinkedHashSet<>();
        stages.subList(i + 1, stages.size()).forEach(stage -> needed.addAll(stage.inputs()));
        stream.retain(needed);
        progress.accept(layer.name());
      }
      if (clamped > 0) {
        notices.add(
            "channel-correction-clamped",
            compressed.source(),
            clamped
                + " output channels would need a scale outside [1/4, 4] to match the dense"
                + " model's variance; the scale was clamped",
            clamped);
      }
    }
  }

  private Map<String, ChannelMoments> denseMoments(
      List<Layer> layers, ImageBatches images, ModelInput input) {
    Map<String, ChannelMoments> moments = new LinkedHashMap<>();
    Set<String> outputs = new LinkedHashSet<>();
    layers.forEach(layer -> outputs.add(layer.output()));
    try (Session session = Session.open(dense.withOutputs(outputs, false), 1)) {
      images.forEachWave(
          workers.threads(),
          wave -> {
            List<List<ChannelMoments>> parts = new ArrayList<>();
            wave.forEach(b -> parts.add(new ArrayList<>()));
            workers.forEach(
                wave.size(),
                i -> {
                  ImageBatches.Batch batch = wave.get(i);
                  Map<String, Tensor> feed =
                      input.feed(batch.data(), batch.count(), images.imageShape());
                  Map<String, Tensor> result = session.run(feed);
                  for (Layer layer : layers) {
                    Tensor tensor = Objects.requireNonNull(result.get(layer.output()));
                    parts.get(i).add(moments(tensor, layer, batch.count(), input));
                  }
                  feed.values().forEach(Tensor::close);
                  result.values().forEach(Tensor::close);
                });
            for (List<ChannelMoments> part : parts) {
              for (int l = 0; l < layers.size(); l++) {
                ChannelMoments added = part.get(l);
                moments
                    .computeIfAbsent(
                        layers.get(l).output(), o -> new ChannelMoments(added.channels()))
                    .merge(added);
              }
            }
          });
    }
    return moments;
  }

  private static ChannelMoments moments(Tensor tensor, Layer layer, int count, ModelInput input) {
    long[] shape = input.leading(layer.output(), tensor.shape(), count);
    return ChannelMoments.of(
        ModelStream.leading(tensor.floats(), shape), shape, layer.outputAxis());
  }

  /** Returns how many channels were clamped. */
  private int correctLayer(
      Layer layer,
      ChannelMoments target,
      ActivationStore activations,
      List<Integer> counts,
      ModelInput input) {
    List<String> outputOnly = List.of(layer.output());
    ChannelMoments[] parts = new ChannelMoments[activations.size()];
    workers.forEach(
        activations.size(),
        b ->
            activations.use(
                b,
                outputOnly,
                tensors -> {
                  Tensor output = Objects.requireNonNull(tensors.get(layer.output()));
                  parts[b] = moments(output, layer, counts.get(b), input);
                  return Map.of();
                }));
    ChannelMoments actual = new ChannelMoments(target.channels());
    for (ChannelMoments part : parts) {
      actual.merge(part);
    }

    int channels = target.channels();
    float[] scale = new float[channels];
    float[] shift = new float[channels];
    int clamped = 0;
    for (int c = 0; c < channels; c++) {
      double wanted = Math.sqrt(target.variance(c));
      double found = Math.sqrt(actual.variance(c));
      // A channel without variance has nothing to scale: its mean is all that can be right.
      double factor = found > 0 && wanted > 0 ? wanted / found : 1;
      double kept = Math.clamp(factor, 1 / LIMIT, LIMIT);
      clamped += kept == factor ? 0 : 1;
      scale[c] = (float) kept;
      shift[c] = (float) (target.mean(c) - kept * actual.mean(c));
      if (!Float.isFinite(scale[c]) || !Float.isFinite(shift[c])) {
        throw TacoException.numerical(
            "layer "
                + layer.name()
                + ": the channel correction of output channel "
                + c
                + " is not finite; try --correct none, or a lower sparsity");
      }
    }

    float[][] groups = LayerWeights.unfold(compressed, layer);
    for (int group = 0; group < groups.length; group++) {
      float[] weights = groups[group];
      for (int r = 0; r < layer.rows(); r++) {
        float factor = scale[group * layer.rows() + r];
        for (int c = r * layer.cols(); c < (r + 1) * layer.cols(); c++) {
          weights[c] *= factor;
        }
      }
    }
    LayerWeights.fold(compressed, layer, groups);
    float[] bias = LayerWeights.bias(compressed, layer);
    // A bias that an Add behind the layer brings is no part of the output that was scaled, and
    // that Add, not the output, takes the shift.
    boolean addedBehind =
        layer.bias().isPresent() && !layer.bias().get().node().equals(layer.output());
    for (int c = 0; c < channels; c++) {
      bias[c] = (addedBehind ? bias[c] : scale[c] * bias[c]) + shift[c];
    }
    LayerWeights.setBias(compressed, layer, bias);
    float[] outputShift = addedBehind ? new float[channels] : shift;

    workers.forEach(
        activations.size(),
        b ->
            activations.use(
                b,
                outputOnly,
                tensors -> {
                  Tensor output = Objects.requireNonNull(tensors.get(layer.output()));
                  long[] shape = output.shape();
                  float[] corrected =
                      ChannelMoments.affine(
                          output.floats(), shape, layer.outputAxis(), scale, outputShift);
                  return Map.of(
                      layer.output(), Tensor.ofFloats(output.elementType(), corrected, shape));
                }));
    return clamped;
  }
}
