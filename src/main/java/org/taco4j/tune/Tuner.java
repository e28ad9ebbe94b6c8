package org.taco4j.tune;

import ai.onnx.proto.OnnxMl.TensorProto;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notices;
import org.taco4j.common.Sha256;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.Augmentation;
import org.taco4j.data.DataFingerprint;
import org.taco4j.data.TrainingImages;
import org.taco4j.execute.Tensors;
import org.taco4j.execute.TorchGraph;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;
import org.taco4j.runtime.ModelInput;
import org.taco4j.tune.TuneReport.Pass;
import org.taco4j.tune.TuneReport.Stop;

/**
 * Tunes a compressed model towards the dense one on a few images: the TACO tuner. What a mask holds
 * at zero stays zero in every step; quantised weights stay on their grid, by the straight-through
 * estimator; everything else that {@link TrainableConstants} calls a parameter is free.
 *
 * <p>A batch is cut into micro-batches, whose gradients are summed in a fixed order: the same seed
 * gives the same bytes at any number of threads. The result is the pass whose outputs on held-out
 * images are the nearest to the dense model's, by {@link TuneReport.Losses#distance}: finer than
 * accuracy on so few, and less ruled by single images than the loss. They are looked at in random
 * crops and mirrored: those set aside from the calibration images were seen by the compression, as
 * they are, which otherwise speaks for the untuned model too much. Pass 0, the untuned model, takes
 * part. Without held-out images it is the last pass. Whoever can gives images that the compression
 * has not seen either: {@link TuneTask#heldOut}.
 *
 * <p>Interrupting the thread that tunes ends it before the next step, with an exception of kind
 * INTERRUPTED; what was saved lets the same call go on after the last finished pass.
 */
@SuppressWarnings("try") // Scopes and guards work by being open.
public final class Tuner {
  /** Gradients of at most so many micro-batches are kept beside each other. */
  private static final int MOST_LANES = 8;

  /** So many even where they are large: fewer would leave threads idle. */
  private static final int FEWEST_LANES = 4;

  /** Numbers in the gradients beside each other, where that leaves more than the fewest lanes. */
  private static final long LANE_VALUES = 1L << 26;

  private static final int SMALL_IMAGE = 64 * 64;

  /** Random changes of each held-out image: their losses are less noisy together. */
  private static final int VIEWS = 4;

  private static final Optional<Augmentation> VIEW =
      Optional.of(Augmentation.torchvision().withMinScale(0.5));

  /** Held-out images are looked at so often in a tuning, spread over its passes. */
  private static final int LOOKS = 25;

  private static final int CHECKPOINT_VERSION = 1;

  private final Workers workers;
  private final Notices notices;
  private final long memory;

  /**
   * A tuner.
   *
   * @param workers the threads that compute; borrowed
   * @param memory bytes for decoded images, and as many for what the dense model gives, at most
   */
  public Tuner(Workers workers, Notices notices, long memory) {
    this.workers = workers;
    this.notices = notices;
    this.memory = memory;
  }

  /**
   * Tunes.
   *
   * @param checkpoint file in which the state after each pass is kept and looked for; empty for
   *     none
   * @param listener is told of each pass
   * @throws TacoException of kind USAGE for a mask, or named features, that do not fit; of kind
   *     MODEL for a model that cannot be run on libtorch or has nothing to train; of kind DATA for
   *     unreadable images; of kind RUNTIME when memory is short, saying what would fit; of kind
   *     INTERRUPTED. A loss that is infinite or no number is no exception: the result has the best
   *     weights so far, and {@link TuneReport#failure} says what happened
   */
  public Tuned tune(
      TuneTask task, TuneSettings settings, Optional<Path> checkpoint, TuneListener listener) {
    return tune(task, settings, settings.passes(), checkpoint, listener);
  }

  /**
   * The same, ended after some pass; the learning rate falls as if all passes were to come.
   *
   * @param lastPass at most the passes of the settings
   */
  public Tuned tune(
      TuneTask task,
      TuneSettings settings,
      int lastPass,
      Optional<Path> checkpoint,
      TuneListener listener) {
    long[] imageShape = task.preprocessor().shape(1);
    FloatForm student = FloatForm.of(task.student());
    try (Distiller distiller =
        new Distiller(task.teacher(), student.model(), settings.objective(), imageShape)) {
      return new Run(task, settings, student, distiller).tune(lastPass, checkpoint, listener);
    }
  }

  /** The keep-array of each masked constant, in its stored order. */
  static Map<String, boolean[]> keep(OnnxModel floats, List<LayerMask> masks) {
    Map<String, boolean[]> keep = new HashMap<>();
    for (LayerMask mask : masks) {
      Layer layer = mask.requireFit(floats);
      if (!LayerWeights.canFold(floats, layer)) {
        throw TacoException.model(
            "%s: layer '%s' has a mask, but its weights cannot be changed: %s"
                .formatted(
                    floats.source(),
                    layer.name(),
                    layer.whyNotPrunable().orElse("other nodes read them too")));
      }
      float[][] ones = new float[mask.keep().length][mask.rows() * mask.cols()];
      for (int g = 0; g < ones.length; g++) {
        for (int i = 0; i < ones[g].length; i++) {
          ones[g][i] = mask.keep()[g][i] ? 1 : 0;
        }
      }
      // As weights, so that folding brings them into the stored order.
      OnnxModel copy = floats.copy();
      LayerWeights.fold(copy, layer, ones);
      String constant = layer.weight().constant();
      TensorProto stored = copy.index().stored(constant);
      if (stored == null) {
        throw new IllegalStateException("layer '" + layer.name() + "' has lost its weights");
      }
      float[] values = TensorData.floats(stored);
      boolean[] kept = new boolean[values.length];
      for (int i = 0; i < kept.length; i++) {
        kept[i] = values[i] != 0;
      }
      keep.put(constant, kept);
    }
    return keep;
  }

  private static final class NotFinite extends Exception {
    private static final long serialVersionUID = 1L;

    NotFinite(String message) {
      super(message);
    }
  }

  /** One tuning. */
  private final class Run {
    private final TuneTask task;
    private final TuneSettings settings;
    private final FloatForm student;
    private final Distiller distiller;
    private final List<Parameter> parameters;
    private final TrainingImages train;
    private final @Nullable TrainingImages heldOut;
    private final int microBatch;
    private final int batch;
    private final int lanes;
    private final long stepsOfPass;
    private final List<Pass> curve = new ArrayList<>();
    private List<float[]> best;
    private int bestPass;
    private long steps;
    private long samples;
    private float @Nullable [][][] trainTargets;
    private float @Nullable [][][] heldOutTargets;

    Run(TuneTask task, TuneSettings settings, FloatForm student, Distiller distiller) {
      this.task = task;
      this.settings = settings;
      this.student = student;
      this.distiller = distiller;
      parameters = parameters();
      TrainingImages images =
          TrainingImages.load(task.images(), task.preprocessor(), memory, workers, notices);
      if (task.heldOut().isEmpty() && settings.holdOut()) {
        HoldOut split =
            HoldOut.split(
                images.files().stream().map(file -> file.classIndex()).toList(), settings.seed());
        train = images.subset(split.train());
        heldOut = split.heldOut().isEmpty() ? null : views(images.subset(split.heldOut()));
      } else {
        train = images;
        heldOut =
            task.heldOut().isEmpty()
                ? null
                : views(
                    TrainingImages.load(
                        task.heldOut(), task.preprocessor(), memory, workers, notices));
      }
      if (heldOut == null && settings.holdOut()) {
        notices.add(
            "no-held-out-images",
            "tuning",
            "of %d images none are held out (that takes %d, and %d of each class): the last pass is the result, better or not"
                .formatted(images.size(), HoldOut.LEAST_IMAGES, HoldOut.LEAST_PER_CLASS),
            images.size());
      }
      ModelInput input = ModelInput.of(student.model());
      int pixels = task.preprocessor().length() / 3;
      int automatic = pixels <= SMALL_IMAGE ? 8 : 4;
      batch = Math.min(settings.batch(), train.size());
      microBatch =
          Math.min(
              input.batch() > 0
                  ? input.batch()
                  : settings.microBatch() > 0 ? settings.microBatch() : automatic,
              batch);
      long values = parameters.stream().mapToLong(Parameter::size).sum();
      lanes = Math.clamp(LANE_VALUES / values, FEWEST_LANES, MOST_LANES);
      stepsOfPass = ((long) train.size() + batch - 1) / batch;
      best = snapshot();
    }

    /** Each image several times; the random change of each time is another. */
    private static TrainingImages views(TrainingImages images) {
      return images.subset(
          IntStream.range(0, VIEWS * images.size()).map(i -> i / VIEWS).boxed().toList());
    }

    private List<Parameter> parameters() {
      OnnxModel floats = student.model();
      Map<String, TensorProto> constants = TrainableConstants.find(floats);
      Map<String, boolean[]> keep = keep(floats, task.masks());
      List<Parameter> list = new ArrayList<>();
      constants.forEach(
          (name, tensor) ->
              list.add(
                  new Parameter(
                      name,
                      tensor.getDimsList().stream().mapToLong(Long::longValue).toArray(),
                      TensorData.floats(tensor),
                      keep.get(name),
                      student.grids().get(name),
                      settings.optimizer().rule().moments())));
      if (list.isEmpty()) {
        throw TacoException.model(floats.source() + ": has no float32 weights that could be tuned");
      }
      for (Layer layer : LayerDiscovery.discover(floats)) {
        if (!constants.containsKey(layer.weight().constant())) {
          notices.add(
              "layer-not-tuned",
              layer.name(),
              "its weights are left as they are: they are no stored float32 numbers",
              (double) layer.parameters());
        }
      }
      return list;
    }

    Tuned tune(int lastPass, Optional<Path> checkpointFile, TuneListener listener) {
      long begin = System.nanoTime();
      try {
        distiller.chooseFeatures(
            task.teacher(),
            student.model(),
            shard(
                train,
                IntStream.range(0, Math.min(2, microBatch)).toArray(),
                Optional.empty(),
                0,
                null),
            notices);
        TuneCheckpoint checkpoint =
            checkpointFile
                .map(file -> new TuneCheckpoint(file, fingerprint(), notices))
                .orElse(null);
        int done = checkpoint == null ? 0 : resume(checkpoint);
        listener.begin(lastPass, done);
        keepTargets();
        Stop stop = Stop.FINISHED;
        String failure = null;
        try {
          if (curve.isEmpty()) {
            long start = System.nanoTime();
            finish(new Pass(0, null, null, evaluate(0), secondsSince(start)), checkpoint, listener);
          }
          for (int pass = curve.size(); pass <= lastPass; pass++) {
            if (isStale()) {
              stop = Stop.EARLY;
              break;
            }
            finish(pass(pass, listener), checkpoint, listener);
          }
        } catch (NotFinite e) {
          stop = Stop.NOT_FINITE;
          failure = e.getMessage();
        }
        return new Tuned(write(), report(stop, failure, done, secondsSince(begin)));
      } catch (OutOfMemoryError | RuntimeException e) {
        if (TorchGraph.isOutOfMemory(e)) {
          throw outOfMemory(e);
        }
        throw e;
      }
    }

    private static double secondsSince(long start) {
      return (System.nanoTime() - start) / 1e9;
    }

    private String fingerprint() {
      return Sha256.hex(
          String.join(
              "\n",
              String.valueOf(CHECKPOINT_VERSION),
              task.teacher().sha256(),
              task.student().sha256(),
              settings.toString(),
              String.join(",", task.masks().stream().map(LayerMask::sha256).toList()),
              task.preprocessor().preprocessing().toJson(),
              DataFingerprint.inOrder(train.files()),
              heldOut == null ? "" : DataFingerprint.inOrder(heldOut.files())));
    }

    /** Takes over what an interrupted tuning saved; the number of the passes that it had done. */
    private int resume(TuneCheckpoint checkpoint) {
      List<float[]> state = state();
      List<float[]> before = state.stream().map(float[]::clone).toList();
      Optional<TuneCheckpoint.Head> head = checkpoint.load(state);
      if (head.isEmpty()) {
        for (int i = 0; i < state.size(); i++) {
          System.arraycopy(before.get(i), 0, state.get(i), 0, before.get(i).length);
        }
        return 0;
      }
      steps = head.get().steps();
      bestPass = head.get().bestPass();
      curve.addAll(head.get().curve());
      return curve.size() - 1;
    }

    /** All arrays that change. */
    private List<float[]> state() {
      List<float[]> state = new ArrayList<>();
      for (int i = 0; i < parameters.size(); i++) {
        state.addAll(Arrays.asList(parameters.get(i).state()));
        state.add(best.get(i));
      }
      return state;
    }

    private List<float[]> snapshot() {
      return new ArrayList<>(parameters.stream().map(p -> p.state()[0].clone()).toList());
    }

    private void finish(Pass pass, @Nullable TuneCheckpoint checkpoint, TuneListener listener) {
      curve.add(pass);
      boolean better =
          heldOut == null || pass.pass() == 0 || distance(pass) < distance(curve.get(bestPass));
      if (better) {
        bestPass = pass.pass();
        best = snapshot();
      }
      if (checkpoint != null) {
        checkpoint.save(steps, bestPass, curve, state());
      }
      listener.pass(pass);
    }

    private static double distance(Pass pass) {
      TuneReport.Losses losses = pass.heldOut();
      return losses == null ? Double.NaN : losses.distance();
    }

    private boolean isStale() {
      return heldOut != null
          && settings.patience() > 0
          && curve.size() - 1 - bestPass >= settings.patience();
    }

    private TuneReport report(Stop stop, @Nullable String failure, int resumed, double seconds) {
      long values = parameters.stream().mapToLong(Parameter::size).sum();
      long held = parameters.stream().mapToLong(Parameter::held).sum();
      return new TuneReport(
          List.copyOf(curve),
          settings.passes(),
          bestPass,
          heldOut == null ? "last pass" : "held-out distance",
          stop,
          train.size(),
          heldOut == null ? 0 : heldOut.size() / VIEWS,
          parameters.size(),
          values - held,
          held,
          distiller.features(),
          resumed,
          seconds,
          samples,
          Optional.ofNullable(failure));
    }

    private Pass pass(int pass, TuneListener listener) throws NotFinite {
      long start = System.nanoTime();
      double rate = rate();
      int[] order = TrainingImages.order(train.size(), settings.seed(), pass);
      Distiller.Sums sums = Distiller.NOTHING;
      for (int first = 0; first < order.length; first += batch) {
        if (Thread.currentThread().isInterrupted()) {
          throw new TacoException(
              TacoException.Kind.INTERRUPTED, "tuning was stopped in pass " + pass);
        }
        int[] images = Arrays.copyOfRange(order, first, Math.min(order.length, first + batch));
        sums = sums.plus(step(images, pass));
        listener.images(pass, first + images.length, order.length);
      }
      return new Pass(
          pass, rate, sums.means(settings.objective()), evaluate(pass), secondsSince(start));
    }

    private double rate() {
      return settings.optimizer().rate(steps, stepsOfPass * settings.passes());
    }

    /** One step of the optimizer on these images. */
    private Distiller.Sums step(int[] images, int pass) throws NotFinite {
      int shards = (images.length + microBatch - 1) / microBatch;
      int lanes = Math.min(this.lanes, shards);
      List<List<float[]>> gradients = new ArrayList<>();
      Distiller.Sums[] sums = new Distiller.Sums[shards];
      IntStream.range(0, lanes).forEach(lane -> gradients.add(new ArrayList<>()));
      try (PointerScope scope = new PointerScope()) {
        Map<String, Tensor> weights = weights();
        List<Tensor> leaves = new ArrayList<>(weights.values());
        leaves.forEach(leaf -> leaf.requires_grad_(true));
        workers.forEach(
            lanes,
            lane -> {
              for (int s = lane; s < shards; s += lanes) {
                int end = Math.min(images.length, (s + 1) * microBatch);
                int[] part = Arrays.copyOfRange(images, s * microBatch, end);
                Distiller.Sums sum =
                    distiller.gradient(
                        weights,
                        leaves,
                        shard(train, part, settings.augmentation(), pass, trainTargets),
                        images.length);
                add(gradients.get(lane), sum.gradients());
                sums[s] = Distiller.NOTHING.plus(sum);
              }
            });
      }
      samples += images.length;
      Distiller.Sums total = Arrays.stream(sums).reduce(Distiller.NOTHING, Distiller.Sums::plus);
      double loss = total.means(settings.objective()).loss();
      boolean[] finite = new boolean[parameters.size()];
      workers.forEach(
          parameters.size(),
          p -> {
            float[] sum = gradients.getFirst().get(p);
            for (int lane = 1; lane < lanes; lane++) {
              add(sum, gradients.get(lane).get(p));
            }
            finite[p] = isFinite(sum);
          });
      for (int p = 0; p < finite.length; p++) {
        if (!Double.isFinite(loss) || !finite[p]) {
          throw notFinite(
              Double.isFinite(loss)
                  ? "the gradient of '" + parameters.get(p).name() + "' is not finite"
                  : "the loss is " + loss,
              "step " + (steps + 1) + " (pass " + pass + ")");
        }
      }
      double rate = rate();
      steps++;
      workers.forEach(
          parameters.size(),
          p ->
              parameters
                  .get(p)
                  .step(gradients.getFirst().get(p), settings.optimizer(), rate, steps));
      return total;
    }

    private NotFinite notFinite(String what, String where) {
      return new NotFinite(
          "tuning: %s at %s; the weights of pass %d, the best so far, are kept; tune with a lower learning rate than %s"
              .formatted(what, where, bestPass, settings.optimizer().learningRate()));
    }

    private void add(List<float[]> sums, List<float[]> gradients) {
      if (sums.isEmpty()) {
        sums.addAll(gradients);
        return;
      }
      for (int p = 0; p < gradients.size(); p++) {
        add(sums.get(p), gradients.get(p));
      }
    }

    private static void add(float[] sum, float[] more) {
      for (int i = 0; i < sum.length; i++) {
        sum[i] += more[i];
      }
    }

    private static boolean isFinite(float[] values) {
      for (float value : values) {
        if (!Float.isFinite(value)) {
          return false;
        }
      }
      return true;
    }

    /** What the student computes with now, by name; of the innermost scope. */
    private Map<String, Tensor> weights() {
      Map<String, Tensor> weights = new LinkedHashMap<>();
      for (Parameter parameter : parameters) {
        weights.put(parameter.name(), Tensors.of(parameter.effective(), parameter.shape()));
      }
      return weights;
    }

    private Distiller.Shard shard(
        TrainingImages images,
        int[] indices,
        Optional<Augmentation> change,
        int pass,
        float @Nullable [][][] allTargets) {
      int length = task.preprocessor().length();
      float[] data = new float[Math.multiplyExact(indices.length, length)];
      int[] labels = new int[indices.length];
      float[][][] targets = allTargets == null ? null : new float[indices.length][][];
      for (int i = 0; i < indices.length; i++) {
        if (change.isPresent()) {
          images.augmented(indices[i], change.get(), settings.seed(), pass, data, i * length);
        } else {
          images.plain(indices[i], data, i * length);
        }
        labels[i] = images.classIndex(indices[i]);
        if (targets != null && allTargets != null) {
          targets[i] = allTargets[indices[i]];
        }
      }
      return new Distiller.Shard(data, labels, targets);
    }

    @SuppressWarnings("ReferenceEquality")
    private Distiller.Shard micro(TrainingImages images, int s) {
      int[] indices =
          IntStream.range(s * microBatch, Math.min(images.size(), (s + 1) * microBatch)).toArray();
      return shard(images, indices, images == heldOut ? VIEW : Optional.empty(), 0, null);
    }

    /** The losses on the held-out images as they are; null where there are none. */
    private TuneReport.@Nullable Losses evaluate(int pass) throws NotFinite {
      TrainingImages images = heldOut;
      int interval = (settings.passes() + LOOKS - 1) / LOOKS;
      if (images == null || (pass % interval != 0 && pass != settings.passes())) {
        return null;
      }
      int shards = (images.size() + microBatch - 1) / microBatch;
      Distiller.Sums[] sums = new Distiller.Sums[shards];
      try (PointerScope scope = new PointerScope()) {
        Map<String, Tensor> weights = weights();
        workers.forEach(
            shards,
            s -> {
              int[] indices =
                  IntStream.range(s * microBatch, Math.min(images.size(), (s + 1) * microBatch))
                      .toArray();
              sums[s] =
                  distiller.evaluate(weights, shard(images, indices, VIEW, 0, heldOutTargets));
            });
      }
      TuneReport.Losses losses =
          Arrays.stream(sums)
              .reduce(Distiller.NOTHING, Distiller.Sums::plus)
              .means(settings.objective());
      if (!Double.isFinite(losses.loss())) {
        throw notFinite(
            "the loss on held-out images is " + losses.loss(), "the end of pass " + pass);
      }
      return losses;
    }

    /** Runs the teacher once where the images stay the same and its values fit into memory. */
    private void keepTargets() {
      if (heldOut == null && !distiller.needsTeacher()) {
        return;
      }
      long perImage = 0;
      for (float[] values : distiller.targets(micro(train, 0))[0]) {
        perImage += (long) values.length * Float.BYTES;
      }
      long room = memory;
      TrainingImages fixed = heldOut;
      if (fixed != null && perImage * fixed.size() <= room) {
        heldOutTargets = targets(fixed);
        room -= perImage * fixed.size();
      }
      if (distiller.needsTeacher()
          && settings.augmentation().isEmpty()
          && perImage * train.size() <= room) {
        trainTargets = targets(train);
      }
    }

    private float[][][] targets(TrainingImages images) {
      float[][][] all = new float[images.size()][][];
      workers.forEach(
          (images.size() + microBatch - 1) / microBatch,
          s -> {
            float[][][] some = distiller.targets(micro(images, s));
            System.arraycopy(some, 0, all, s * microBatch, some.length);
          });
      return all;
    }

    /** The student with the best weights. */
    private OnnxModel write() {
      OnnxModel model = task.student().copy();
      Map<String, TensorProto> tensors = new HashMap<>();
      for (int p = 0; p < parameters.size(); p++) {
        Parameter parameter = parameters.get(p);
        System.arraycopy(best.get(p), 0, parameter.state()[0], 0, parameter.size());
        FloatForm.Grid grid = parameter.grid();
        String stored = grid == null ? parameter.name() : grid.stored();
        TensorProto old = model.index().stored(stored);
        if (old == null) {
          throw new IllegalStateException("the constant '" + stored + "' is gone");
        }
        float[] values = parameter.effective();
        tensors.put(
            stored,
            grid == null
                ? TensorData.withFloats(old, values)
                : FloatForm.integers(grid, old, values));
      }
      model.setConstants(tensors);
      return model;
    }

    /** Says what would fit, by the values that one image takes. */
    private TacoException outOfMemory(Throwable cause) {
      String advice;
      try {
        // The values and their gradients, and what single operators need besides.
        long perImage =
            3
                * distiller.activationBytes(
                    student.model(), shard(train, new int[] {0}, Optional.empty(), 0, null));
        long free = org.bytedeco.javacpp.Pointer.availablePhysicalBytes();
        long fits = free / Math.max(1, perImage);
        advice =
            "one image takes about %d MiB, %d MiB are free: on %d threads a micro-batch of %d fits"
                .formatted(perImage >> 20, free >> 20, workers.threads(), fits / workers.threads());
        if (fits < workers.threads()) {
          advice += fits < 1 ? ", not even one image" : "; use %d threads".formatted(fits);
        }
      } catch (OutOfMemoryError | RuntimeException e) {
        advice = "not even one image fits; free memory, or use a machine with more";
      }
      return new TacoException(
          TacoException.Kind.RUNTIME,
          "out of memory while tuning with micro-batches of %d images (batch %d): %s"
              .formatted(microBatch, batch, advice),
          cause);
    }
  }
}
