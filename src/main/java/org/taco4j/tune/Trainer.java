package org.taco4j.tune;

import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.execute.Tensors;
import org.taco4j.execute.TorchGraph;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;

/**
 * Trains a classifier from scratch, by the cross entropy of its first output and the labels.
 *
 * <p>A batch is cut into micro-batches, whose gradients are summed in a fixed order: the same bytes
 * at any number of threads. BatchNormalization nodes in training mode see the statistics of their
 * micro-batch; {@link BatchNormStatistics} gives them those of all images afterwards.
 */
@SuppressWarnings("try") // Scopes work by being open.
public final class Trainer {
  /** An endless supply of labelled images; asked by several threads at once. */
  @FunctionalInterface
  public interface Images {
    /**
     * Writes the tensor of an image.
     *
     * @param number which one, from 0 on
     * @param out the tensor of a batch
     * @param offset where in it the image begins
     * @return its class
     */
    int image(long number, float[] out, int offset);
  }

  /** Is told how the training gets on. */
  @FunctionalInterface
  public interface Listener {
    /**
     * A step is done.
     *
     * @param step from 1 on
     * @param loss mean over the images of the step
     * @param top1 fraction of them that the model had right before the step
     */
    void step(int step, double loss, double top1);
  }

  /**
   * How to train.
   *
   * @param optimizer by which rule
   * @param steps of the optimizer
   * @param batch images of a step
   * @param microBatch images that run through the model together; divides the batch
   * @param labelSmoothing the part of each label that is spread over all classes
   */
  public record Settings(
      Optimizer optimizer, int steps, int batch, int microBatch, double labelSmoothing) {
    /** Checks the numbers. */
    public Settings {
      if (steps < 1 || microBatch < 1 || batch < microBatch || batch % microBatch != 0) {
        throw TacoException.usage(
            "training needs steps, and batches of whole micro-batches, not %d steps of %d images by %d"
                .formatted(steps, batch, microBatch));
      }
      if (!(labelSmoothing >= 0 && labelSmoothing < 1)) {
        throw TacoException.usage("the label smoothing is within 0..1, not " + labelSmoothing);
      }
    }
  }

  /** What a micro-batch gave. */
  private record Part(double loss, int correct, List<float[]> gradients) {}

  private final OnnxModel model;
  private final long[] imageShape;
  private final Images images;
  private final Settings settings;
  private final Workers workers;
  private final List<Parameter> parameters = new ArrayList<>();

  private Trainer(
      OnnxModel model, long[] imageShape, Images images, Settings settings, Workers workers) {
    this.model = model;
    this.imageShape = imageShape.clone();
    this.images = images;
    this.settings = settings;
    this.workers = workers;
    TrainableConstants.find(model)
        .forEach(
            (name, tensor) ->
                parameters.add(
                    new Parameter(
                        name,
                        tensor.getDimsList().stream().mapToLong(Long::longValue).toArray(),
                        TensorData.floats(tensor),
                        null,
                        null,
                        settings.optimizer().rule().moments())));
    if (parameters.isEmpty()) {
      throw TacoException.model(model.source() + ": has no float32 weights that could be trained");
    }
  }

  /**
   * Trains.
   *
   * @param model with its first weights; not changed
   * @param imageShape of one image, without the batch
   * @return the trained model
   * @throws TacoException of kind MODEL for a model that cannot be run on libtorch or has nothing
   *     to train; of kind NUMERICAL when the loss is no finite number any more
   */
  public static OnnxModel train(
      OnnxModel model,
      long[] imageShape,
      Images images,
      Settings settings,
      Workers workers,
      Listener listener) {
    return new Trainer(model, imageShape, images, settings, workers).train(listener);
  }

  private OnnxModel train(Listener listener) {
    try (TorchGraph graph = TorchGraph.of(model)) {
      for (int step = 1; step <= settings.steps(); step++) {
        step(graph, step, listener);
      }
    }
    OnnxModel trained = model.copy();
    Map<String, TensorProto> tensors = new HashMap<>();
    for (Parameter parameter : parameters) {
      TensorProto old = trained.index().stored(parameter.name());
      if (old == null) {
        throw new IllegalStateException("the constant '" + parameter.name() + "' is gone");
      }
      tensors.put(parameter.name(), TensorData.withFloats(old, parameter.effective()));
    }
    trained.setConstants(tensors);
    return trained;
  }

  private void step(TorchGraph graph, int step, Listener listener) {
    @Nullable Part[] parts = new @Nullable Part[settings.batch() / settings.microBatch()];
    try (PointerScope scope = new PointerScope()) {
      Map<String, Tensor> weights = new LinkedHashMap<>();
      for (Parameter parameter : parameters) {
        Tensor leaf = Tensors.of(parameter.effective(), parameter.shape());
        weights.put(parameter.name(), leaf.requires_grad_(true));
      }
      long first = (long) (step - 1) * settings.batch();
      workers.forEach(
          parts.length,
          i -> parts[i] = part(graph, weights, first + (long) i * settings.microBatch()));
    }
    double loss = 0;
    int correct = 0;
    List<float[]> sums = null;
    for (Part part : parts) {
      if (part == null) {
        throw new IllegalStateException("a micro-batch was left out");
      }
      loss += part.loss / settings.batch();
      correct += part.correct;
      if (sums == null) {
        sums = part.gradients;
      } else {
        for (int p = 0; p < sums.size(); p++) {
          add(sums.get(p), part.gradients.get(p));
        }
      }
    }
    if (sums == null || !Double.isFinite(loss)) {
      throw TacoException.numerical(
          "training: the loss is %s at step %d; train with a lower learning rate than %s"
              .formatted(loss, step, settings.optimizer().learningRate()));
    }
    double rate = settings.optimizer().rate(step - 1L, settings.steps());
    List<float[]> gradients = sums;
    workers.forEach(
        parameters.size(),
        p -> parameters.get(p).step(gradients.get(p), settings.optimizer(), rate, step));
    listener.step(step, loss, (double) correct / settings.batch());
  }

  private static void add(float[] sum, float[] more) {
    for (int i = 0; i < sum.length; i++) {
      sum[i] += more[i];
    }
  }

  private Part part(TorchGraph graph, Map<String, Tensor> weights, long first) {
    int count = settings.microBatch();
    int length = Math.toIntExact(Arrays.stream(imageShape).reduce(1, (a, b) -> a * b));
    float[] data = new float[Math.multiplyExact(count, length)];
    long[] labels = new long[count];
    for (int i = 0; i < count; i++) {
      labels[i] = images.image(first + i, data, i * length);
    }
    try (PointerScope scope = new PointerScope()) {
      String output = graph.outputs().getFirst();
      Tensor input = Tensors.of(data, batchShape(count, imageShape));
      Map<String, Tensor> feed = Map.of(graph.inputs().getFirst(), input);
      Tensor logits = graph.run(weights, feed, List.of(output)).values().iterator().next();
      Tensor logarithms = torch.log_softmax(logits, 1);
      Tensor own = logarithms.gather(1, Tensors.of(labels, count, 1)).sum();
      double smoothing = settings.labelSmoothing();
      Tensor loss =
          own.mul(new Scalar(smoothing - 1))
              .sub(logarithms.mean(1L).sum().mul(new Scalar(smoothing)));
      List<float[]> gradients = new ArrayList<>();
      Tensor share = loss.div(new Scalar((double) settings.batch()));
      for (Tensor gradient : Tensors.gradients(share, List.copyOf(weights.values()))) {
        gradients.add(Tensors.floats(gradient));
      }
      return new Part(loss.item_double(), correct(Tensors.floats(logits), labels), gradients);
    }
  }

  static long[] batchShape(int count, long[] imageShape) {
    long[] shape = new long[1 + imageShape.length];
    shape[0] = count;
    System.arraycopy(imageShape, 0, shape, 1, imageShape.length);
    return shape;
  }

  private static int correct(float[] logits, long[] labels) {
    int classes = logits.length / labels.length;
    int correct = 0;
    for (int i = 0; i < labels.length; i++) {
      int best = 0;
      for (int c = 1; c < classes; c++) {
        best = logits[i * classes + c] > logits[i * classes + best] ? c : best;
      }
      correct += best == labels[i] ? 1 : 0;
    }
    return correct;
  }
}
