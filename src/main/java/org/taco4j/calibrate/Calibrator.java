package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.data.ImageBatches;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.RepeatedRun;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/**
 * Streams images through a model and adds what each layer reads into its Gram matrix. Batches run
 * in waves of one per thread, each in its own thread; then the tensors of the wave are added, a
 * tensor's batches in order, so that the sums are the same bytes at any number of threads. No
 * activation outlives its wave.
 */
public final class Calibrator {
  private final OnnxModel model;
  private final Backend backend;
  private final Workers workers;

  /**
   * A calibrator for a model.
   *
   * @param model borrowed, not changed
   */
  public Calibrator(OnnxModel model, Backend backend, Workers workers) {
    this.model = model;
    this.backend = backend;
    this.workers = workers;
  }

  /**
   * Divides layers into passes over the images such that the Gram matrices of one pass fit.
   *
   * @param layers in graph order
   * @param matrices Gram matrices per layer problem that are held at a time: 2 with held-out images
   * @param memory bytes for the Gram matrices in flight; a single layer that needs more gets a pass
   *     of its own
   * @param backend with a device, its memory is another limit: one matrix per layer problem is
   *     summed up there at a time
   */
  public static List<List<Layer>> passes(
      List<Layer> layers, int matrices, long memory, Backend backend) {
    List<List<Layer>> passes = new ArrayList<>();
    List<Layer> pass = new ArrayList<>();
    Set<GramKey> held = new LinkedHashSet<>();
    long bytes = 0;
    DeviceBytes onDevice = new DeviceBytes(backend.device());
    for (Layer layer : layers) {
      List<GramKey> keys = keys(layer);
      long added = keys.stream().filter(key -> !held.contains(key)).mapToLong(GramKey::bytes).sum();
      boolean fits = bytes + added * matrices <= memory;
      if (!pass.isEmpty() && !(fits && (added == 0 || onDevice.fits(layer)))) {
        passes.add(pass);
        pass = new ArrayList<>();
        held.clear();
        bytes = 0;
        onDevice = new DeviceBytes(backend.device());
        added = keys.stream().mapToLong(GramKey::bytes).sum();
      }
      if (added > 0) {
        onDevice.add(layer);
      }
      pass.add(layer);
      held.addAll(keys);
      bytes += added * matrices;
    }
    if (!pass.isEmpty()) {
      passes.add(pass);
    }
    return passes;
  }

  /** The memory of devices that the layers of a pass take. */
  private static final class DeviceBytes {
    private final @Nullable DeviceKernels device;
    private long bytes;
    private long largest;

    DeviceBytes(@Nullable DeviceKernels device) {
      this.device = device;
    }

    private static long of(DeviceKernels device, Layer layer) {
      return device.gramBytes(DevicePatches.of(layer.unfold()));
    }

    /** Whether there is room, even if what is left is spread over several devices. */
    boolean fits(Layer layer) {
      if (device == null) {
        return true;
      }
      long needed = of(device, layer);
      long lost = Math.max(largest, needed) * (device.devices() - 1);
      return bytes + needed + lost <= device.memory();
    }

    void add(Layer layer) {
      if (device != null) {
        bytes += of(device, layer);
        largest = Math.max(largest, of(device, layer));
      }
    }
  }

  /** The Gram matrices that a layer needs: one for each convolution group. */
  public static List<GramKey> keys(Layer layer) {
    List<GramKey> keys = new ArrayList<>(layer.groups());
    for (int group = 0; group < layer.groups(); group++) {
      keys.add(GramKey.of(layer, group));
    }
    return keys;
  }

  /**
   * The Gram matrices of the given layers over the given images.
   *
   * @throws TacoException of kind NUMERICAL when a layer reads NaN or infinite values
   */
  public Map<GramKey, GramMatrix> gramMatrices(Collection<Layer> layers, ImageBatches images) {
    Map<GramKey, GramAccumulator> accumulators = new LinkedHashMap<>();
    List<GramAccumulator> onDevice = new ArrayList<>();
    try {
      for (Layer layer : layers) {
        List<GramKey> keys = keys(layer);
        if (!accumulators.containsKey(keys.getFirst())) {
          List<GramAccumulator> created = GramAccumulator.create(keys, backend);
          for (int i = 0; i < keys.size(); i++) {
            accumulators.put(keys.get(i), created.get(i));
          }
          if (backend.device() != null) {
            onDevice.addAll(created);
          }
        }
      }
      stream(accumulators, images);
      return finish(accumulators);
    } finally {
      onDevice.forEach(GramAccumulator::close);
    }
  }

  /** Adds the images to the accumulators. */
  private void stream(Map<GramKey, GramAccumulator> accumulators, ImageBatches images) {
    Map<String, List<GramKey>> byTensor = new LinkedHashMap<>();
    for (GramKey key : accumulators.keySet()) {
      byTensor.computeIfAbsent(key.tensor(), t -> new ArrayList<>()).add(key);
    }
    // The most expensive tensors first, so that threads end together.
    List<List<GramKey>> tasks = new ArrayList<>(byTensor.values());
    tasks.sort(
        Comparator.comparingLong(
                (List<GramKey> keys) -> keys.stream().mapToLong(GramKey::bytes).sum())
            .reversed());

    ModelInput input = ModelInput.of(model);
    // An input of the model that a layer reads directly is no output of any node.
    Set<String> fetched = new LinkedHashSet<>(byTensor.keySet());
    fetched.remove(input.name());
    List<RepeatedRun> runs = new ArrayList<>();
    try (Session session =
        fetched.isEmpty() ? null : Session.open(model.withOutputs(fetched, false), 1)) {
      for (int i = 0; session != null && i < workers.threads(); i++) {
        runs.add(new RepeatedRun(session));
      }
      images.forEachWave(
          workers.threads(),
          wave -> {
            List<Map<String, Tensor>> feeds = new ArrayList<>();
            try {
              for (ImageBatches.Batch batch : wave) {
                feeds.add(input.feed(batch.data(), batch.count(), images.imageShape()));
              }
              List<Map<String, Tensor>> activations = forward(runs, feeds);
              workers.forEach(
                  tasks.size(),
                  i -> {
                    for (int b = 0; b < wave.size(); b++) {
                      int count = wave.get(b).count();
                      add(tasks.get(i), accumulators, activations.get(b), count, input);
                    }
                  });
            } finally {
              feeds.forEach(feed -> feed.values().forEach(Tensor::close));
            }
          });
    } finally {
      runs.forEach(RepeatedRun::close);
    }
  }

  /** Empties the map: finishing may take a copy, and memory holds no accumulator beside its own. */
  private Map<GramKey, GramMatrix> finish(Map<GramKey, GramAccumulator> accumulators) {
    List<GramKey> keys = List.copyOf(accumulators.keySet());
    Map<GramKey, GramAccumulator> unfinished = new ConcurrentHashMap<>(accumulators);
    accumulators.clear();
    GramMatrix[] matrices = new GramMatrix[keys.size()];
    workers.forEach(
        matrices.length,
        i -> matrices[i] = Objects.requireNonNull(unfinished.remove(keys.get(i))).finish());
    Map<GramKey, GramMatrix> result = new LinkedHashMap<>();
    for (int i = 0; i < matrices.length; i++) {
      result.put(keys.get(i), checked(keys.get(i), matrices[i]));
    }
    return result;
  }

  /** The tensors of each batch that layers read: what the model computes, and its input. */
  private List<Map<String, Tensor>> forward(
      List<RepeatedRun> runs, List<Map<String, Tensor>> feeds) {
    List<Map<String, Tensor>> activations = new ArrayList<>();
    feeds.forEach(feed -> activations.add(new LinkedHashMap<>(feed)));
    if (!runs.isEmpty()) {
      workers.forEach(feeds.size(), i -> activations.get(i).putAll(runs.get(i).run(feeds.get(i))));
    }
    return activations;
  }

  private static void add(
      List<GramKey> keys,
      Map<GramKey, GramAccumulator> accumulators,
      Map<String, Tensor> activations,
      int count,
      ModelInput input) {
    String name = keys.getFirst().tensor();
    Tensor tensor = Objects.requireNonNull(activations.get(name), name);
    long[] shape = input.leading(name, tensor.shape(), count);
    FloatBuffer values = tensor.buffer();
    values.limit(Math.toIntExact(Tensor.elements(shape)));
    for (GramKey key : keys) {
      GramAccumulator accumulator = Objects.requireNonNull(accumulators.get(key));
      accumulator.add(values, shape);
    }
  }

  private static GramMatrix checked(GramKey key, GramMatrix gram) {
    int n = gram.cols();
    for (int i = 0; i < n; i++) {
      if (!Double.isFinite(gram.values()[i * n + i])) {
        throw TacoException.numerical(
            "tensor "
                + key.tensor()
                + " holds NaN or infinite values on the calibration images (feature "
                + i
                + "); check the preprocessing, or the model in another runtime");
      }
    }
    return gram;
  }
}
