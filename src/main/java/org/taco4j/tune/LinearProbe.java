package org.taco4j.tune;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto.DataType;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.TrainingImages;
import org.taco4j.execute.Tensors;
import org.taco4j.execute.TorchGraph;
import org.taco4j.onnx.Attributes;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;
import org.taco4j.onnx.Unfold;
import org.taco4j.runtime.ModelInput;
import org.taco4j.tune.SoftmaxRegression.Fit;

/**
 * Linear probing: trains the classifier of a model on features that stay as they are, computed
 * once. Without a named node the classifier is the Gemm or MatMul that writes the model's output;
 * training starts from it, and its zeros stay under its mask. With a named node, as for a backbone
 * without a head, the graph is cut there and a new Gemm, which starts from zeros, is put behind.
 *
 * <p>Features of more than two axes are averaged: [N, C, H, W] over rows and columns, [N, tokens,
 * d] over tokens. {@link SoftmaxRegression} says how they are scaled.
 */
@SuppressWarnings("try") // Scopes and guards work by being open.
public final class LinearProbe {
  private static final String OUTPUT = "logits";

  /** Names in a message, at the most. */
  private static final int MOST_CANDIDATES = 4;

  private final Workers workers;
  private final Notices notices;
  private final long memory;

  /**
   * A probe.
   *
   * @param workers the threads that compute; borrowed
   * @param memory bytes for decoded images at most
   */
  public LinearProbe(Workers workers, Notices notices, long memory) {
    this.workers = workers;
    this.notices = notices;
    this.memory = memory;
  }

  /**
   * How to train.
   *
   * @param learningRate of stochastic gradient descent
   * @param momentum of it
   * @param batch images of a step
   * @param passes over the images
   * @param features name of a node, or of the tensor that it writes, whose output are the features;
   *     empty: what the model's classifier reads
   * @param holdOut whether a quarter of the images is set aside to choose the best pass, where
   *     there are enough and no others are given for that. Where the compression has seen these
   *     images they flatter the untuned model, which was fitted to them; better give {@link
   *     TuneTask#heldOut} images that it has not seen
   * @param seed of the order of images
   */
  public record Settings(
      double learningRate,
      double momentum,
      int batch,
      int passes,
      Optional<String> features,
      boolean holdOut,
      long seed) {
    /** Checks the numbers. */
    public Settings {
      if (!(learningRate > 0 && Double.isFinite(learningRate))
          || !(momentum >= 0 && momentum < 1)
          || batch < 1
          || passes < 1) {
        throw TacoException.usage(
            "linear probing needs a learning rate above 0, a momentum of at least 0 and below 1, a"
                + " batch and passes; not %s, %s, %d and %d"
                    .formatted(learningRate, momentum, batch, passes));
      }
    }

    /** SGD 0.1, momentum 0.9, batch 128, 10 passes. */
    public static Settings usual() {
      return new Settings(0.1, 0.9, 128, 10, Optional.empty(), true, 0);
    }

    /** This with a named node. */
    public Settings withFeatures(Optional<String> newFeatures) {
      return new Settings(learningRate, momentum, batch, passes, newFeatures, holdOut, seed);
    }

    /** This with another number of passes. */
    public Settings withPasses(int newPasses) {
      return new Settings(learningRate, momentum, batch, newPasses, features, holdOut, seed);
    }

    /** This with another seed. */
    public Settings withSeed(long newSeed) {
      return new Settings(learningRate, momentum, batch, passes, features, holdOut, newSeed);
    }
  }

  /**
   * One pass.
   *
   * @param pass its number; 0 is the classifier before
   * @param trainLoss cross entropy on the images that it is trained on, after the pass
   * @param trainAccuracy on these
   * @param heldOutLoss on held-out images; null where there are none
   * @param heldOutAccuracy on these
   */
  public record Pass(
      int pass,
      double trainLoss,
      double trainAccuracy,
      @Nullable Double heldOutLoss,
      @Nullable Double heldOutAccuracy) {}

  /**
   * What a probing did.
   *
   * @param features the tensor whose values are the features
   * @param dimension numbers of an image
   * @param pooled whether they were averaged over space or tokens
   * @param newHead whether a new classifier was put behind
   * @param curve of each pass, from 0 on
   * @param bestPass whose classifier is the result: the one with the least held-out loss, or the
   *     last
   * @param trainImages images that it was trained on
   * @param heldOutImages images that chose the pass
   * @param failure what went wrong, for people, where a loss or a weight became infinite or no
   *     number; the best pass before is the result then, and the curve ends there
   */
  public record Report(
      String features,
      int dimension,
      boolean pooled,
      boolean newHead,
      List<Pass> curve,
      int bestPass,
      int trainImages,
      int heldOutImages,
      Optional<String> failure) {}

  /**
   * What came of it.
   *
   * @param model the student with the trained classifier
   */
  public record Probed(OnnxModel model, Report report) {}

  /** Where the features are, and the classifier that reads them, where there is one. */
  private record Site(String tensor, @Nullable Layer head) {}

  /**
   * Trains a classifier for the student of a task; its teacher is not looked at.
   *
   * @param classes of the task
   * @throws TacoException of kind USAGE for a node that does not exist or gives no features; of
   *     kind MODEL where the classifier cannot be found or changed; of kind DATA for unreadable
   *     images; of kind NUMERICAL where a new classifier is wanted and not one pass gives finite
   *     numbers. Later ones are no exception: {@link Report#failure}
   */
  public Probed probe(TuneTask task, int classes, Settings settings) {
    OnnxModel model = task.student().copy();
    Site site =
        settings.features().isPresent()
            ? named(model, settings.features().get())
            : classifier(model, classes);
    Layer head = site.head();
    TrainingImages images =
        TrainingImages.load(task.images(), task.preprocessor(), memory, workers, notices);
    TrainingImages heldOut = null;
    if (!task.heldOut().isEmpty()) {
      heldOut = TrainingImages.load(task.heldOut(), task.preprocessor(), memory, workers, notices);
    } else if (head != null && settings.holdOut()) {
      HoldOut split =
          HoldOut.split(
              images.files().stream().map(file -> file.classIndex()).toList(), settings.seed());
      heldOut = split.heldOut().isEmpty() ? null : images.subset(split.heldOut());
      images = images.subset(split.train());
    }
    boolean[] pooled = new boolean[1];
    int[] rank = new int[1];
    List<float[]> train;
    List<float[]> test;
    try (TorchGraph graph = TorchGraph.of(model)) {
      train = features(graph, model, site, images, pooled, rank);
      test = heldOut == null ? List.of() : features(graph, model, site, heldOut, pooled, rank);
    }
    List<Integer> labels = labels(images);
    List<Integer> testLabels = heldOut == null ? List.of() : labels(heldOut);
    int dimension = train.getFirst().length;
    SoftmaxRegression regression = new SoftmaxRegression(train, classes);
    boolean[] keep = new boolean[classes * dimension];
    Arrays.fill(keep, true);
    if (head != null) {
      regression.set(LayerWeights.unfold(model, head, 0), LayerWeights.bias(model, head));
      for (LayerMask mask : task.masks()) {
        if (mask.layer().equals(head.name())) {
          mask.requireFit(model);
          keep = mask.keep()[0];
        }
      }
    }
    List<Pass> curve = new ArrayList<>();
    int bestPass = head == null ? -1 : 0;
    float[] weights = regression.weights();
    float[] bias = regression.bias();
    double best = Double.POSITIVE_INFINITY;
    Optional<String> failure = Optional.empty();
    for (int pass = 0; pass <= settings.passes(); pass++) {
      if (pass > 0) {
        regression.pass(train, labels, keep, settings, pass);
      }
      Fit fit = regression.evaluate(train, labels);
      Fit held = test.isEmpty() ? null : regression.evaluate(test, testLabels);
      float[] newWeights = regression.weights();
      float[] newBias = regression.bias();
      if (!Double.isFinite(fit.loss())
          || (held != null && !Double.isFinite(held.loss()))
          || !isFinite(newWeights)
          || !isFinite(newBias)) {
        failure = Optional.of(notFinite(pass, fit, held, bestPass, settings, site.tensor()));
        break;
      }
      curve.add(
          new Pass(
              pass,
              fit.loss(),
              fit.accuracy(),
              held == null ? null : held.loss(),
              held == null ? null : held.accuracy()));
      boolean candidate = pass > 0 || head != null;
      if (candidate && (held == null || held.loss() < best)) {
        best = held == null ? best : held.loss();
        bestPass = pass;
        weights = newWeights;
        bias = newBias;
      }
    }
    if (bestPass < 0) {
      throw TacoException.numerical(
          failure.orElseThrow(() -> new IllegalStateException("there is at least one pass")));
    }
    if (bestPass > 0) {
      if (head == null) {
        model = append(model, site.tensor(), rank[0], weights, bias);
      } else {
        LayerWeights.fold(model, head, new float[][] {weights});
        LayerWeights.setBias(model, head, bias);
      }
    }
    return new Probed(
        model,
        new Report(
            site.tensor(),
            dimension,
            pooled[0],
            head == null,
            List.copyOf(curve),
            bestPass,
            images.size(),
            heldOut == null ? 0 : heldOut.size(),
            failure));
  }

  private static boolean isFinite(float[] values) {
    for (float value : values) {
      if (!Float.isFinite(value)) {
        return false;
      }
    }
    return true;
  }

  private static String notFinite(
      int pass, Fit fit, @Nullable Fit held, int kept, Settings settings, String features) {
    String losses =
        "the loss is %s%s"
            .formatted(fit.loss(), held == null ? "" : ", on held-out images " + held.loss());
    return pass == 0
        ? "linear probing: %s before the first pass; the features '%s', or the classifier that was there, are not finite"
            .formatted(losses, features)
        : "linear probing: %s after pass %d, or a weight is not finite; %s; use a lower learning rate than %s"
            .formatted(
                losses,
                pass,
                kept < 0
                    ? "there is no pass before it to keep"
                    : "pass %d, the best so far, is kept".formatted(kept),
                settings.learningRate());
  }

  private static List<Integer> labels(TrainingImages images) {
    return images.files().stream().map(file -> file.classIndex()).toList();
  }

  /**
   * Checks that a model has a classifier that can be trained.
   *
   * @throws TacoException of kind MODEL where it has not, saying why
   */
  public static void requireClassifier(OnnxModel model, int classes) {
    classifier(model, classes);
  }

  private static Site named(OnnxModel model, String name) {
    GraphIndex index = model.index();
    for (NodeProto node : index.graph().getNodeList()) {
      if (node.getName().equals(name) || node.getOutputList().contains(name)) {
        String tensor = node.getOutputList().contains(name) ? name : node.getOutput(0);
        return new Site(tensor, null);
      }
    }
    List<String> near = candidates(index);
    throw TacoException.usage(
        "%s has no node, and no tensor that a node writes, of the name '%s'%s"
            .formatted(
                model.source(),
                name,
                near.isEmpty()
                    ? ""
                    : "; features are often what these write: " + String.join(", ", near)));
  }

  /** Nodes that write what the last layer reads, or that pool over space; the last ones first. */
  private static List<String> candidates(GraphIndex index) {
    List<String> names = new ArrayList<>();
    List<NodeProto> nodes = index.graph().getNodeList();
    for (int i = nodes.size() - 1; i >= 0 && names.size() < MOST_CANDIDATES; i--) {
      NodeProto node = nodes.get(i);
      boolean reads = names.isEmpty() && (Nodes.is(node, "Gemm") || Nodes.is(node, "MatMul"));
      int producer = reads ? index.producer(node.getInput(0)) : -1;
      if (producer >= 0) {
        names.add(nameOf(index.node(producer)));
      }
      if (Nodes.is(node, "GlobalAveragePool") || Nodes.is(node, "ReduceMean")) {
        names.add(nameOf(node));
      }
    }
    return names.stream().distinct().toList();
  }

  private static String nameOf(NodeProto node) {
    return node.getName().isEmpty() ? node.getOutput(0) : node.getName();
  }

  private static Site classifier(OnnxModel model, int classes) {
    GraphIndex index = model.index();
    String logits = Distiller.logits(model);
    for (Layer layer : LayerDiscovery.discover(model)) {
      boolean writes =
          layer.output().equals(logits)
              || layer.bias().map(bias -> bias.node().equals(logits)).orElse(false);
      if (!writes) {
        continue;
      }
      NodeProto node = index.node(index.producer(layer.output()));
      AttributeProto alpha = Nodes.is(node, "Gemm") ? Nodes.attribute(node, "alpha") : null;
      boolean simple = layer.unfold() instanceof Unfold.LastAxis && layer.rows() == classes;
      if (!simple
          || !LayerWeights.canFold(model, layer)
          || LayerWeights.hasUnknownBias(model, layer)
          || (alpha != null && alpha.getF() != 1)) {
        throw TacoException.model(
            ("%s: the classifier '%s' (%s of %d rows) cannot be trained for %d classes: it must be a"
                    + " plain Gemm or MatMul of as many rows with float weights of its own; name a"
                    + " node with features to put a new one behind it")
                .formatted(model.source(), layer.name(), layer.opType(), layer.rows(), classes));
      }
      return new Site(layer.input(), layer);
    }
    throw TacoException.model(
        "%s: no Gemm or MatMul writes the output '%s': name a node with features to put a classifier behind it"
            .formatted(model.source(), logits));
  }

  private List<float[]> features(
      TorchGraph graph,
      OnnxModel model,
      Site site,
      TrainingImages images,
      boolean[] pooled,
      int[] rank) {
    ModelInput input = ModelInput.of(model);
    long[] shape = images.preprocessor().shape(1);
    int batch = input.batchSize((int) shape[2], (int) shape[3]);
    int length = images.preprocessor().length();
    float[][] features = new float[images.size()][];
    int batches = (images.size() + batch - 1) / batch;
    workers.forEach(
        batches,
        b -> {
          int first = b * batch;
          int count = Math.min(batch, images.size() - first);
          int rows = Math.max(count, input.batch());
          float[] data = new float[rows * length];
          for (int i = 0; i < rows; i++) {
            images.plain(first + Math.min(i, count - 1), data, i * length);
          }
          try (PointerScope scope = new PointerScope();
              NoGradGuard noGraph = new NoGradGuard()) {
            Map<String, Tensor> feed =
                Map.of(input.name(), Tensors.of(data, rows, shape[1], shape[2], shape[3]));
            Tensor values =
                graph.run(Map.of(), feed, List.of(site.tensor())).values().iterator().next();
            long[] dims = Tensors.shape(values);
            boolean usable =
                values.is_floating_point()
                    && dims[0] == rows
                    && (dims.length == 2 || (site.head() == null && dims.length <= 4))
                    && dims.length >= 2;
            if (!usable) {
              throw TacoException.usage(
                  "the tensor '%s' of shape %s gives no features for %d images: [N, d], or for a new classifier [N, C, H, W] or [N, tokens, d], is needed"
                      .formatted(site.tensor(), Arrays.toString(dims), rows));
            }
            Tensor flat =
                switch (dims.length) {
                  case 4 -> values.mean(2L, 3L);
                  case 3 -> values.mean(1L);
                  default -> values;
                };
            float[] all = Tensors.floats(flat);
            int dimension = all.length / rows;
            IntStream.range(0, count)
                .forEach(
                    i ->
                        features[first + i] =
                            Arrays.copyOfRange(all, i * dimension, (i + 1) * dimension));
            if (b == 0) {
              pooled[0] = dims.length > 2;
              rank[0] = dims.length;
            }
          }
        });
    return List.of(features);
  }

  /** Cuts a model at a tensor and puts pooling, where needed, and a Gemm behind it. */
  private static OnnxModel append(
      OnnxModel model, String tensor, int rank, float[] weights, float[] bias) {
    OnnxModel cut = model.withOutputs(List.of(tensor), /* keepOutputs= */ false);
    int classes = bias.length;
    List<NodeProto> nodes = new ArrayList<>();
    String features = tensor;
    if (rank > 2) {
      features = cut.uniqueName("probe_features");
      NodeProto.Builder pool =
          NodeProto.newBuilder()
              .setOpType("ReduceMean")
              .setName(cut.uniqueName("probe_pool"))
              .addInput(tensor)
              .addOutput(features)
              .addAttribute(Attributes.integer("keepdims", 0));
      long[] axes = rank == 4 ? new long[] {2, 3} : new long[] {1};
      if (cut.opset() < 18) {
        pool.addAttribute(Attributes.integers("axes", axes));
      } else {
        pool.addInput(cut.addConstant("probe_axes", TensorData.ofLongs("probe_axes", axes)));
      }
      nodes.add(pool.build());
    }
    List<Long> dims = List.of((long) classes, (long) weights.length / classes);
    String weight =
        cut.addConstant(
            "probe_weight", TensorData.of("probe_weight", DataType.FLOAT_VALUE, dims, weights));
    String shift =
        cut.addConstant(
            "probe_bias",
            TensorData.of("probe_bias", DataType.FLOAT_VALUE, List.of((long) classes), bias));
    String output = cut.uniqueName(OUTPUT);
    nodes.add(
        NodeProto.newBuilder()
            .setOpType("Gemm")
            .setName(cut.uniqueName("probe"))
            .addInput(features)
            .addInput(weight)
            .addInput(shift)
            .addOutput(output)
            .addAttribute(Attributes.integer("transB", 1))
            .build());
    cut.edit(
        graph -> {
          graph.addAllNode(nodes);
          graph.clearOutput();
          graph.addOutput(Attributes.floats(output, "N", classes));
        });
    cut.check();
    return cut;
  }
}
