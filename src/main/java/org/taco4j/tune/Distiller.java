package org.taco4j.tune;

import ai.onnx.proto.OnnxMl.NodeProto;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.execute.Tensors;
import org.taco4j.execute.TorchGraph;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.tune.Objective.Distillation;

/**
 * The loss of a student on a few images, and its gradient. Both models are graphs on libtorch; any
 * number of threads may ask at once.
 */
@SuppressWarnings("try") // Scopes and guards work by being open.
final class Distiller implements AutoCloseable {
  /** Against a tensor of zeros, which nothing can be relative to. */
  private static final double TINY = 1e-12;

  private final Objective objective;
  private final ModelInput input;
  private final long[] imageShape;
  private final TorchGraph teacher;
  private final TorchGraph student;
  private final String teacherLogits;
  private final String studentLogits;
  private List<String> features = List.of();

  /**
   * What a shard gave, as sums over its images.
   *
   * @param distance of the softmax outputs in total variation
   * @param correct images whose label has the highest logit
   * @param gradients of the total loss, divided by the images of the whole batch; one for each
   *     leaf, in their order; empty where none were wanted
   */
  record Sums(
      double task,
      double logit,
      double feature,
      double distance,
      int correct,
      int count,
      List<float[]> gradients) {
    Sums plus(Sums other) {
      return new Sums(
          task + other.task,
          logit + other.logit,
          feature + other.feature,
          distance + other.distance,
          correct + other.correct,
          count + other.count,
          List.of());
    }

    TuneReport.Losses means(Objective objective) {
      double t = task / count;
      double l = logit / count;
      double f = feature / count;
      return new TuneReport.Losses(
          objective.total(t, l, f), t, l, f, distance / count, correct / (double) count);
    }
  }

  static final Sums NOTHING = new Sums(0, 0, 0, 0, 0, 0, List.of());

  /**
   * Some images.
   *
   * @param data of {@code count} images, one after the other
   * @param labels [count]
   * @param targets for each image what {@link #targets} gave of it; null to run the teacher
   */
  @SuppressWarnings("ArrayRecordComponent") // Tensors: comparing them by value is no use.
  record Shard(float[] data, int[] labels, float @Nullable [][][] targets) {
    int count() {
      return labels.length;
    }
  }

  /**
   * Compiles the models.
   *
   * @param imageShape shape of a batch of one image, in the models' layout
   * @throws TacoException of kind MODEL where one of them cannot be run on libtorch, or they have
   *     not the same outputs
   */
  Distiller(OnnxModel teacher, OnnxModel student, Objective objective, long[] imageShape) {
    this.objective = objective;
    this.imageShape = imageShape.clone();
    input = ModelInput.of(student);
    teacherLogits = logits(teacher);
    studentLogits = logits(student);
    this.teacher = TorchGraph.of(teacher);
    try {
      this.student = TorchGraph.of(student);
    } catch (RuntimeException | Error e) {
      this.teacher.close();
      throw e;
    }
  }

  /** The model's output, or what it is the softmax of. */
  static String logits(OnnxModel model) {
    String output = model.outputs().getFirst().name();
    GraphIndex index = model.index();
    int producer = index.producer(output);
    if (producer < 0) {
      throw TacoException.model(model.source() + ": its output '" + output + "' is not computed");
    }
    NodeProto node = index.node(producer);
    boolean softmax = Nodes.is(node, "Softmax") || Nodes.is(node, "LogSoftmax");
    return softmax ? node.getInput(0) : output;
  }

  /**
   * Settles which intermediate tensors are compared, by running both models on a shard: those of
   * the objective, or those found in the student, that both models compute in the same shape, with
   * a first axis that grows with the images; of models with a fixed batch it is a multiple of that.
   *
   * @param shard two images, or one where one at a time is all that ever runs
   * @throws TacoException of kind USAGE for a named tensor that cannot be compared
   */
  void chooseFeatures(
      OnnxModel teacherModel, OnnxModel studentModel, Shard shard, Notices notices) {
    if (objective.featureWeight() == 0) {
      return;
    }
    boolean named = !objective.features().isEmpty();
    List<String> candidates = named ? objective.features() : FeatureTensors.find(studentModel);
    Set<String> missing = new HashSet<>();
    for (String name : candidates) {
      boolean both =
          teacherModel.index().producer(name) >= 0 && studentModel.index().producer(name) >= 0;
      if (!both) {
        missing.add(name);
      }
    }
    List<String> there = candidates.stream().filter(name -> !missing.contains(name)).toList();
    List<String> chosen = new ArrayList<>();
    List<String> different = new ArrayList<>();
    try (PointerScope scope = new PointerScope();
        NoGradGuard noGraph = new NoGradGuard()) {
      Map<String, Tensor> feed = feed(shard);
      Map<String, Tensor> dense = teacher.run(Map.of(), feed, there);
      Map<String, Tensor> sparse = student.run(Map.of(), feed, there);
      int rows = rows(shard.count());
      Map<String, Tensor> ofOne =
          rows == rows(1) ? sparse : student.run(Map.of(), feed(first(shard)), there);
      for (String name : candidates) {
        Tensor a = dense.get(name);
        Tensor b = sparse.get(name);
        Tensor one = ofOne.get(name);
        if (a == null || b == null || one == null) {
          different.add(name + " (not in both models)");
          continue;
        }
        long[] shape = Tensors.shape(a);
        boolean same = Arrays.equals(shape, Tensors.shape(b)) && a.is_floating_point();
        if (!same) {
          different.add(
              "%s (%s in the dense model, %s in the compressed one)"
                  .formatted(name, Arrays.toString(shape), Arrays.toString(Tensors.shape(b))));
        } else if (!isPerImage(shape, rows, Tensors.shape(one), rows(1))) {
          different.add(
              "%s (%s for %d images: not the images along the first axis)"
                  .formatted(name, Arrays.toString(shape), rows));
        } else {
          chosen.add(name);
        }
      }
    }
    if (chosen.isEmpty() || (named && !different.isEmpty())) {
      throw TacoException.usage(
          "feature distillation needs tensors that both models compute in the same shape, the first"
              + " axis along the images: "
              + (different.isEmpty() ? "none was found" : String.join(", ", different))
              + "; tune with a method that compares the outputs alone, such as taco-v1");
    }
    if (!different.isEmpty()) {
      notices.add(
          "features-left-out",
          "feature distillation",
          "compares "
              + chosen.size()
              + " tensors; left out, as the models do not have them in the same shape, image by image: "
              + String.join(", ", different),
          different.size());
    }
    features = List.copyOf(chosen);
  }

  private static Shard first(Shard shard) {
    float[] data = Arrays.copyOf(shard.data(), shard.data().length / shard.count());
    return new Shard(data, new int[] {shard.labels()[0]}, null);
  }

  /** Whether the first axis grows with the images, and nothing else does. */
  private static boolean isPerImage(long[] shape, int rows, long[] fewer, int fewerRows) {
    return shape.length > 1
        && shape.length == fewer.length
        && shape[0] % rows == 0
        && shape[0] * fewerRows == fewer[0] * rows
        && Arrays.equals(shape, 1, shape.length, fewer, 1, fewer.length);
  }

  /** The intermediate tensors that are compared. */
  List<String> features() {
    return features;
  }

  /** Whether the loss looks at the teacher at all. */
  boolean needsTeacher() {
    return objective.logitWeight() > 0 || objective.featureWeight() > 0;
  }

  /** Images that run together where {@code count} are wanted: models may fix their batch. */
  private int rows(int count) {
    return Math.max(input.batch(), count);
  }

  private Map<String, Tensor> feed(Shard shard) {
    int length = shard.data().length / shard.count();
    int rows = rows(shard.count());
    float[] data = shard.data();
    if (rows > shard.count()) {
      data = Arrays.copyOf(data, rows * length);
      for (int i = shard.count(); i < rows; i++) {
        System.arraycopy(data, (shard.count() - 1) * length, data, i * length, length);
      }
    }
    return Map.of(
        input.name(), Tensors.of(data, rows, imageShape[1], imageShape[2], imageShape[3]));
  }

  /** The values of each image, [count, values of an image], without those that fill a batch. */
  private Tensor perImage(Tensor tensor, int count) {
    int rows = rows(count);
    Tensor flat = tensor.reshape(rows, -1L);
    return rows == count ? flat : flat.narrow(0, 0, count);
  }

  private List<String> wanted(String logits) {
    List<String> names = new ArrayList<>(List.of(logits));
    names.addAll(features);
    return names;
  }

  private List<Tensor> perImage(Map<String, Tensor> values, List<String> names, int count) {
    List<Tensor> flat = new ArrayList<>();
    for (String name : names) {
      Tensor value = values.get(name);
      if (value == null) {
        throw new IllegalStateException("'" + name + "' was asked for");
      }
      flat.add(perImage(value, count));
    }
    return flat;
  }

  private List<Tensor> runTeacher(Map<String, Tensor> feed, int count) {
    try (NoGradGuard noGraph = new NoGradGuard()) {
      List<String> names = wanted(teacherLogits);
      return perImage(teacher.run(Map.of(), feed, names), names, count);
    }
  }

  /** What the teacher gives for each image of a shard: logits and features, to be kept. */
  float[][][] targets(Shard shard) {
    try (PointerScope scope = new PointerScope()) {
      List<Tensor> values = runTeacher(feed(shard), shard.count());
      float[][][] targets = new float[shard.count()][values.size()][];
      for (int k = 0; k < values.size(); k++) {
        float[] all = Tensors.floats(values.get(k));
        int length = all.length / shard.count();
        for (int i = 0; i < shard.count(); i++) {
          targets[i][k] = Arrays.copyOfRange(all, i * length, (i + 1) * length);
        }
      }
      return targets;
    }
  }

  private static List<Tensor> targets(float[][][] targets) {
    List<Tensor> tensors = new ArrayList<>();
    for (int k = 0; k < targets[0].length; k++) {
      int length = targets[0][k].length;
      float[] all = new float[targets.length * length];
      for (int i = 0; i < targets.length; i++) {
        System.arraycopy(targets[i][k], 0, all, i * length, length);
      }
      tensors.add(Tensors.of(all, targets.length, length));
    }
    return tensors;
  }

  /** The losses of a shard, without gradients. */
  Sums evaluate(Map<String, Tensor> weights, Shard shard) {
    try (PointerScope scope = new PointerScope();
        NoGradGuard noGraph = new NoGradGuard()) {
      return run(weights, List.of(), shard, shard.count());
    }
  }

  /**
   * The losses of a shard and their gradient.
   *
   * @param weights in place of the student's constants, by name
   * @param leaves those of them by which the gradient is taken
   * @param batch images of the whole batch
   */
  Sums gradient(Map<String, Tensor> weights, List<Tensor> leaves, Shard shard, int batch) {
    try (PointerScope scope = new PointerScope()) {
      return run(weights, leaves, shard, batch);
    }
  }

  private Sums run(Map<String, Tensor> weights, List<Tensor> leaves, Shard shard, int batch) {
    int count = shard.count();
    Map<String, Tensor> feed = feed(shard);
    float[][][] kept = shard.targets();
    boolean compare = needsTeacher() || leaves.isEmpty();
    List<Tensor> wished =
        !compare ? List.of() : kept != null ? targets(kept) : runTeacher(feed, count);
    List<String> names = wanted(studentLogits);
    List<Tensor> given = perImage(student.run(weights, feed, names), names, count);
    Tensor logits = given.getFirst();
    int correct = correct(logits, shard.labels());
    double distance = compare ? distance(logits, wished.getFirst()) : 0;
    List<Tensor> parts = new ArrayList<>();
    double task = part(parts, objective.taskWeight(), () -> taskLoss(logits, shard.labels()));
    double logit = part(parts, objective.logitWeight(), () -> logitLoss(logits, wished.getFirst()));
    double feature = part(parts, objective.featureWeight(), () -> featureLoss(given, wished));
    List<float[]> gradients = new ArrayList<>();
    if (!leaves.isEmpty()) {
      Tensor total = parts.stream().reduce(Tensor::add).orElseThrow().div(new Scalar(batch));
      for (Tensor gradient : Tensors.gradients(total, leaves)) {
        gradients.add(Tensors.floats(gradient));
      }
    }
    return new Sums(task, logit, feature, distance, correct, count, gradients);
  }

  @FunctionalInterface
  private interface Loss {
    Tensor sum();
  }

  /** Adds a weighted part to the loss, and gives its value without the weight. */
  private static double part(List<Tensor> parts, double weight, Loss loss) {
    if (weight == 0) {
      return 0;
    }
    Tensor sum = loss.sum();
    parts.add(sum.mul(new Scalar(weight)));
    return sum.item_double();
  }

  private static int correct(Tensor logits, int[] labels) {
    float[] scores = Tensors.floats(logits);
    int classes = scores.length / labels.length;
    int correct = 0;
    for (int i = 0; i < labels.length; i++) {
      int best = 0;
      for (int c = 1; c < classes; c++) {
        best = scores[i * classes + c] > scores[i * classes + best] ? c : best;
      }
      correct += best == labels[i] ? 1 : 0;
    }
    return correct;
  }

  private static double distance(Tensor logits, Tensor wished) {
    return torch.softmax(logits, 1).sub(torch.softmax(wished, 1)).abs().sum().item_double() / 2;
  }

  private static Tensor taskLoss(Tensor logits, int[] labels) {
    long[] columns = Arrays.stream(labels).asLongStream().toArray();
    Tensor index = Tensors.of(columns, labels.length, 1);
    return torch.log_softmax(logits, 1).gather(1, index).sum().neg();
  }

  private Tensor logitLoss(Tensor logits, Tensor wished) {
    if (objective.distillation() == Distillation.L2) {
      return logits.sub(wished).square().mean(1L).sum();
    }
    Scalar sharpness = new Scalar(1 / objective.temperature());
    Tensor target = torch.log_softmax(wished.mul(sharpness), 1);
    Tensor own = torch.log_softmax(logits.mul(sharpness), 1);
    double square = objective.temperature() * objective.temperature();
    return target.exp().mul(target.sub(own)).sum().mul(new Scalar(square));
  }

  /** The sum over images of the mean over tensors of ‖s - t‖² / ‖t‖². */
  private Tensor featureLoss(List<Tensor> given, List<Tensor> wished) {
    Tensor total = null;
    for (int k = 1; k < given.size(); k++) {
      Tensor error = given.get(k).sub(wished.get(k)).square().sum(1L);
      Tensor norm = wished.get(k).square().sum(1L).add(new Scalar(TINY));
      Tensor relative = error.div(norm).sum();
      total = total == null ? relative : total.add(relative);
    }
    if (total == null) {
      throw new IllegalStateException("chooseFeatures has found some");
    }
    return total.mul(new Scalar(1.0 / features.size()));
  }

  /** Bytes of all values that the student computes for a shard: what autograd may have to keep. */
  long activationBytes(OnnxModel studentModel, Shard shard) {
    List<String> names = new ArrayList<>();
    for (NodeProto node : studentModel.index().graph().getNodeList()) {
      String output = node.getOutput(0);
      if (studentModel.index().isDynamic(output)) {
        names.add(output);
      }
    }
    try (PointerScope scope = new PointerScope();
        NoGradGuard noGraph = new NoGradGuard()) {
      long bytes = 0;
      for (Tensor tensor : student.run(Map.of(), feed(shard), names).values()) {
        bytes += tensor.numel() * tensor.element_size();
      }
      return bytes;
    }
  }

  @Override
  public void close() {
    teacher.close();
    student.close();
  }
}
