package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.BiConsumer;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.RepeatedRun;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/**
 * Streams images through a model and counts which values each tensor takes that is to be 8 bits.
 * Batches run in waves of one per thread; then the tensors of the wave are counted, one thread for
 * each. No activation outlives its wave. Images run twice: extremes come first, then counts between
 * them.
 */
public final class ActivationRanges {
  /** Images in a run: all tensors of a run are there at once. */
  private static final int MOST_IMAGES = 8;

  private final List<ActivationHistogram> histograms;
  private final Workers workers;

  private ActivationRanges(List<ActivationHistogram> histograms, Workers workers) {
    this.histograms = histograms;
    this.workers = workers;
  }

  /**
   * Measures tensors.
   *
   * @param model borrowed, not changed
   * @param tensors float tensors that nodes write, or the model's input
   * @param workers not called from one of their tasks
   * @throws TacoException of kind NUMERICAL where a tensor has NaN or infinite values
   */
  public static ActivationRanges measure(
      OnnxModel model, Collection<String> tensors, ImageBatches images, Workers workers) {
    List<ActivationHistogram> histograms = tensors.stream().map(ActivationHistogram::new).toList();
    ModelInput input = ModelInput.of(model);
    ImageBatches batches =
        input.batch() > 0 ? images : images.inBatchesOf(Math.min(images.batchSize(), MOST_IMAGES));
    // The model's input is no output of any node.
    Set<String> fetched = new LinkedHashSet<>(tensors);
    fetched.remove(input.name());
    List<RepeatedRun> runs = new ArrayList<>();
    try (Session session =
        fetched.isEmpty() ? null : Session.open(model.withOutputs(fetched, false), 1)) {
      for (int i = 0; session != null && i < workers.threads(); i++) {
        runs.add(new RepeatedRun(session));
      }
      pass(runs, input, batches, workers, histograms, ActivationHistogram::addExtremes);
      for (ActivationHistogram histogram : histograms) {
        if (!histogram.isFinite()) {
          throw TacoException.numerical(
              "tensor "
                  + histogram.tensor()
                  + " holds NaN or infinite values on the calibration images; check the"
                  + " preprocessing, or the model in another runtime");
        }
      }
      pass(runs, input, batches, workers, histograms, ActivationHistogram::addCounts);
    } finally {
      runs.forEach(RepeatedRun::close);
    }
    return new ActivationRanges(histograms, workers);
  }

  /**
   * The ranges that a method chooses, the same at any number of threads.
   *
   * @return by tensor, in the order in which they were given
   */
  public Map<String, ActivationRange> by(RangeMethod method) {
    ActivationRange[] ranges = new ActivationRange[histograms.size()];
    workers.forEach(ranges.length, i -> ranges[i] = histograms.get(i).range(method));
    Map<String, ActivationRange> result = new LinkedHashMap<>();
    for (ActivationRange range : ranges) {
      result.put(range.tensor(), range);
    }
    return result;
  }

  private static void pass(
      List<RepeatedRun> runs,
      ModelInput input,
      ImageBatches images,
      Workers workers,
      List<ActivationHistogram> histograms,
      BiConsumer<ActivationHistogram, FloatBuffer> add) {
    images.forEachWave(
        workers.threads(),
        wave -> {
          List<Map<String, Tensor>> tensors = new ArrayList<>();
          List<Map<String, Tensor>> feeds = new ArrayList<>();
          try {
            for (ImageBatches.Batch batch : wave) {
              feeds.add(input.feed(batch.data(), batch.count(), images.imageShape()));
              tensors.add(new LinkedHashMap<>(feeds.getLast()));
            }
            if (!runs.isEmpty()) {
              workers.forEach(
                  feeds.size(), i -> tensors.get(i).putAll(runs.get(i).run(feeds.get(i))));
            }
            workers.forEach(
                histograms.size(),
                i -> {
                  ActivationHistogram histogram = histograms.get(i);
                  String name = histogram.tensor();
                  for (int b = 0; b < wave.size(); b++) {
                    Tensor tensor = Objects.requireNonNull(tensors.get(b).get(name), name);
                    long[] shape = input.leading(name, tensor.shape(), wave.get(b).count());
                    FloatBuffer values = tensor.buffer();
                    values.limit(Math.toIntExact(Tensor.elements(shape)));
                    add.accept(histogram, values);
                  }
                });
          } finally {
            feeds.forEach(feed -> feed.values().forEach(Tensor::close));
          }
        });
  }
}
