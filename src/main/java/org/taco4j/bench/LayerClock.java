package org.taco4j.bench;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Consumer;
import org.taco4j.runtime.ProfiledSession;
import org.taco4j.runtime.Tensor;

/**
 * Times layers on their own in ONNX Runtime, dense and with the operator library, in turns. What
 * the runtime needs to reorder tensors to its blocked layout and back is told apart by its own
 * profile: in a whole model neighbours share it.
 */
final class LayerClock {
  /** Runs of each layer that are counted; more of quick ones. */
  private static final int ROUNDS = 15;

  private static final int MOST_ROUNDS = 60;
  private static final int WARM_UP = 3;

  /** About how long the layers of one part are timed, once each has had its rounds. */
  private static final double PART_SECONDS = 1;

  /**
   * Layers whose sessions are open at a time. Between two runs of one all others run, so that its
   * weights have to come from farther caches, as in a model.
   */
  private static final int PART = 24;

  /** What ONNX Runtime adds to the names of nodes that it brings to its blocked layout. */
  private static final String NCHWC = "_nchwc";

  private LayerClock() {}

  /** What is timed: a layer, dense, with the library, or both. */
  record Job(SingleLayer layer, boolean dense, boolean sparse) {}

  /**
   * Times layers and puts the times into a table.
   *
   * @param done is told each layer that is done
   */
  static void measure(
      List<Job> jobs, int threads, OperatorTable table, Consumer<SingleLayer> done) {
    for (int from = 0; from < jobs.size(); from += PART) {
      measurePart(jobs.subList(from, Math.min(from + PART, jobs.size())), threads, table);
      jobs.subList(from, Math.min(from + PART, jobs.size()))
          .forEach(job -> done.accept(job.layer()));
    }
  }

  /** A session of one layer and its inputs. */
  private record Timed(
      SingleLayer layer, boolean sparse, ProfiledSession session, Map<String, Tensor> feed) {}

  private static void measurePart(List<Job> jobs, int threads, OperatorTable table) {
    List<Timed> timed = new ArrayList<>();
    List<Tensor> tensors = new ArrayList<>();
    try {
      for (Job job : jobs) {
        Map<String, Tensor> feed = new LinkedHashMap<>();
        job.layer()
            .inputs()
            .forEach(
                (name, shape) -> {
                  Tensor tensor = random(shape);
                  tensors.add(tensor);
                  feed.put(name, tensor);
                });
        if (job.dense()) {
          timed.add(open(job.layer(), false, threads, feed));
        }
        if (job.sparse()) {
          timed.add(open(job.layer(), true, threads, feed));
        }
      }
      long end = 0;
      for (int round = -WARM_UP; round < MOST_ROUNDS; round++) {
        if (round == 0) {
          end = System.nanoTime() + (long) (PART_SECONDS * 1e9);
        }
        if (round >= ROUNDS && System.nanoTime() > end) {
          break;
        }
        timed.forEach(each -> each.session().run(each.feed()));
      }
      for (Timed each : timed) {
        keep(each, table);
      }
    } finally {
      timed.forEach(each -> each.session().close());
      tensors.forEach(Tensor::close);
    }
  }

  private static Timed open(
      SingleLayer layer, boolean sparse, int threads, Map<String, Tensor> feed) {
    return new Timed(
        layer,
        sparse,
        ProfiledSession.open(sparse ? layer.sparse() : layer.dense(), threads, sparse),
        feed);
  }

  private static Tensor random(long[] shape) {
    float[] values = new float[Math.toIntExact(Tensor.elements(shape))];
    Random random = new Random(1);
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return Tensor.ofFloats(values, shape);
  }

  private static void keep(Timed timed, OperatorTable table) {
    List<ProfiledSession.NodeTimes> nodes = timed.session().times();
    SingleLayer layer = timed.layer();
    if (timed.sparse()) {
      double millis = nodes.stream().mapToDouble(node -> typical(node.millis())).sum();
      table.putSparse(layer.shape(), layer.zeros().name(), layer.sparsity(), millis);
    } else {
      table.putDense(layer.shape(), dense(nodes, layer));
    }
  }

  /** Takes the nodes of the layer and those of the reordering apart. */
  static OperatorTable.Dense dense(List<ProfiledSession.NodeTimes> nodes, SingleLayer layer) {
    String inputName = layer.inputs().keySet().iterator().next();
    long[] input = layer.inputs().values().iterator().next();
    double own = 0;
    // The reordering of an operand of a sum goes with a node that is no part of the layer, unless
    // it is the input once more, which is reordered once.
    int inputs = 0;
    List<Double> in = new ArrayList<>();
    List<Double> out = new ArrayList<>();
    for (ProfiledSession.NodeTimes node : nodes) {
      double millis = typical(node.millis());
      switch (node.operator()) {
        case "ReorderInput" -> {
          inputs++;
          // An operand that has the input's shape takes the same time.
          if (isOf(input, node.inputShape())) {
            in.add(millis);
          }
        }
        case "ReorderOutput" -> out.add(millis);
        default -> {
          if (!node.name().contains(SingleLayer.BLOCKED)) {
            own += millis;
          } else if (node.name().endsWith(NCHWC)
              && !node.name().startsWith(inputName + SingleLayer.BLOCKED)) {
            inputs--;
          }
        }
      }
    }
    return new OperatorTable.Dense(
        own, inputs > 0, !out.isEmpty(), inputs > 0 ? mean(in) : 0, mean(out));
  }

  private static boolean isOf(long[] shape, List<Long> other) {
    return Arrays.equals(shape, other.stream().mapToLong(dim -> dim).toArray());
  }

  private static double mean(List<Double> values) {
    return values.stream().mapToDouble(value -> value).average().orElse(0);
  }

  /** Of the runs that count. */
  private static double typical(List<Double> millis) {
    return ofFastest(millis.stream().skip(WARM_UP).mapToDouble(value -> value).toArray());
  }

  /**
   * The mean of the fastest quarter: what else the machine does makes a run longer, never shorter.
   * A mean, as a profile has whole microseconds.
   */
  static double ofFastest(double[] millis) {
    return Arrays.stream(millis).sorted().limit((millis.length + 3) / 4).average().orElse(0);
  }
}
