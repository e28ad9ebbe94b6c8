import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.function.Function;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.taco4j.common.Workers;
import org.taco4j.execute.Tensors;
import org.taco4j.execute.TorchGraph;
import org.taco4j.onnx.OnnxModel;

/**
 * Speed of the executor: DeiT-tiny against the same computation written in libtorch calls, in
 * turns, in CPU time, and wall-clock milliseconds a sample of three models with shards on one and
 * two threads. Arguments: the folder of the models, and how many rounds (default 15).
 */
@SuppressWarnings("try")
public final class ExecutorSpeed {
  /** The calling thread computes all: its own time, whatever else the machine does. */
  private static final ThreadMXBean CLOCK = ManagementFactory.getThreadMXBean();

  private ExecutorSpeed() {}

  /** A model as a function of images and weights; gives logits. */
  private interface Network {
    Tensor apply(Tensor images, Map<String, Tensor> weights);
  }

  public static void main(String[] arguments) {
    Path folder = Path.of(arguments[0]);
    int rounds = arguments.length > 1 ? Integer.parseInt(arguments[1]) : 15;
    compareDeit(folder.resolve("imagenet-deit-tiny.onnx"), 8, rounds);
    for (String name : List.of("imagenet-deit-tiny", "imagenet-mobilenetv2", "cifar10-resnet56")) {
      samples(folder.resolve(name + ".onnx"), name.startsWith("cifar") ? 32 : 224, rounds);
    }
  }

  private static void compareDeit(Path file, int batch, int rounds) {
    try (TorchGraph graph = TorchGraph.of(OnnxModel.read(file));
        PointerScope scope = new PointerScope()) {
      Map<String, Tensor> weights = leaves(graph.floatConstants());
      Map<String, Tensor> rearranged = leaves(linear(graph.floatConstants()));
      Tensor images = images(batch, 224);
      Network executor = executor(graph);
      Map<String, Network> networks = new LinkedHashMap<>();
      networks.put("executor", executor);
      networks.put("libtorch", (x, w) -> deit(x, w, false));
      networks.put("libtorch, fused attention", (x, w) -> deit(x, w, true));
      float[] expected = Tensors.floats(executor.apply(images, weights));
      Function<String, Map<String, Tensor>> of =
          name -> name.equals("executor") ? weights : rearranged;
      networks.forEach(
          (name, network) ->
              checkSame(expected, Tensors.floats(network.apply(images, of.apply(name)))));
      for (boolean backward : new boolean[] {false, true}) {
        Map<String, double[]> times = new LinkedHashMap<>();
        networks.keySet().forEach(name -> times.put(name, new double[rounds]));
        for (int round = -2; round < rounds; round++) {
          for (Map.Entry<String, Network> network : networks.entrySet()) {
            long start = CLOCK.getCurrentThreadCpuTime();
            pass(network.getValue(), images, of.apply(network.getKey()), backward);
            if (round >= 0) {
              times.get(network.getKey())[round] =
                  (CLOCK.getCurrentThreadCpuTime() - start) / 1e6 / batch;
            }
          }
        }
        double[] own = times.get("executor");
        times.forEach(
            (name, t) -> {
              double[] ratios = new double[rounds];
              Arrays.setAll(ratios, i -> own[i] / t[i]);
              print(
                  "DeiT-tiny %s, batch %d, one thread: %-26s %s ms of CPU a sample; executor / it = %s",
                  backward ? "forward+backward" : "forward",
                  batch,
                  name,
                  spread(t),
                  spread(ratios));
            });
      }
    }
  }

  private static void samples(Path file, int size, int rounds) {
    int batch = 8;
    try (TorchGraph graph = TorchGraph.of(OnnxModel.read(file));
        PointerScope scope = new PointerScope()) {
      Map<String, Tensor> weights = leaves(graph.floatConstants());
      Tensor images = images(batch, size);
      Network network = executor(graph);
      for (boolean backward : new boolean[] {false, true}) {
        for (int threads = 1; threads <= 2; threads++) {
          try (Workers workers = new Workers(threads)) {
            double[] times = new double[rounds];
            double[] cpu = new double[rounds];
            int shards = 2;
            for (int round = -1; round < rounds; round++) {
              long start = System.nanoTime();
              long cpuStart = processCpu();
              workers.forEach(shards, i -> pass(network, images, weights, backward));
              if (round >= 0) {
                times[round] = (System.nanoTime() - start) / 1e6 / batch / shards;
                cpu[round] = (processCpu() - cpuStart) / 1e6 / batch / shards;
              }
            }
            print(
                "%s %s, shards of %d, %d thread(s): %s ms a sample, %s ms of CPU",
                file.getFileName(),
                backward ? "forward+backward" : "forward",
                batch,
                threads,
                spread(times),
                spread(cpu));
          }
        }
      }
    }
  }

  /** CPU time of all threads, in nanoseconds. */
  private static long processCpu() {
    return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
        .getProcessCpuTime();
  }

  private static Network executor(TorchGraph graph) {
    String input = graph.inputs().getFirst();
    String output = graph.outputs().getFirst();
    return (x, weights) -> graph.run(weights, Map.of(input, x), List.of(output)).get(output);
  }

  private static void pass(
      Network network, Tensor images, Map<String, Tensor> weights, boolean backward) {
    try (PointerScope scope = new PointerScope()) {
      if (backward) {
        Tensor logits = network.apply(images, weights);
        Tensors.gradients(logits.mul(logits).mean(), new ArrayList<>(weights.values()));
      } else {
        try (org.bytedeco.pytorch.NoGradGuard none = new org.bytedeco.pytorch.NoGradGuard()) {
          network.apply(images, weights);
        }
      }
    }
  }

  /** Weights of rank 1 and more as leaves; scalars of the graph stay what they are. */
  private static Map<String, Tensor> leaves(Map<String, Tensor> constants) {
    Map<String, Tensor> leaves = new LinkedHashMap<>();
    constants.forEach(
        (name, value) -> {
          if (value.dim() > 0 && !name.contains("running_")) {
            leaves.put(name, value.clone().set_requires_grad(true));
          }
        });
    return leaves;
  }

  private static Tensor images(int batch, int size) {
    Random random = new Random(1);
    float[] values = new float[batch * 3 * size * size];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return Tensors.of(values, batch, 3, size, size);
  }

  /** The exporter stored the linear layers' weights transposed, four in each block, in order. */
  private static Map<String, Tensor> linear(Map<String, Tensor> constants) {
    List<String> layers = List.of("attn.qkv", "attn.proj", "fc1", "fc2");
    Map<String, Tensor> weights = new LinkedHashMap<>();
    int number = 0;
    for (Map.Entry<String, Tensor> constant : constants.entrySet()) {
      if (constant.getKey().startsWith("onnx::MatMul")) {
        weights.put(
            "blocks.%d.%s.weight".formatted(number / 4, layers.get(number % 4)),
            constant.getValue().transpose(0, 1).contiguous());
        number++;
      } else {
        weights.put(constant.getKey(), constant.getValue());
      }
    }
    return weights;
  }

  /** DeiT-tiny as one would write it by hand. */
  private static Tensor deit(Tensor images, Map<String, Tensor> w, boolean fusedAttention) {
    long n = images.size(0);
    Tensor x =
        torch.convolution(
            images,
            w.get("patch.weight"),
            new TensorOptional(w.get("patch.bias")),
            new long[] {16, 16},
            new long[] {0, 0},
            new long[] {1, 1},
            false,
            new long[] {0, 0},
            1);
    x = x.reshape(n, 192, 196).transpose(1, 2);
    x = torch.cat(new TensorVector(w.get("cls").expand(n, 1, 192), x), 1).add(w.get("pos"));
    for (int i = 0; i < 12; i++) {
      String block = "blocks." + i + ".";
      Tensor qkv =
          linear(norm(x, w, block + "norm1"), w, block + "attn.qkv")
              .reshape(n, 197, 3, 3, 64)
              .permute(2, 0, 3, 1, 4);
      Tensor q = qkv.select(0, 0);
      Tensor k = qkv.select(0, 1);
      Tensor v = qkv.select(0, 2);
      Tensor attended =
          fusedAttention
              ? torch.scaled_dot_product_attention(q, k, v)
              : torch.softmax(q.mul(new Scalar(0.125)).matmul(k.transpose(-2, -1)), -1).matmul(v);
      x = x.add(linear(attended.transpose(1, 2).reshape(n, 197, 192), w, block + "attn.proj"));
      Tensor hidden = torch.gelu(linear(norm(x, w, block + "norm2"), w, block + "fc1"));
      x = x.add(linear(hidden, w, block + "fc2"));
    }
    return linear(norm(x, w, "norm").select(1, 0), w, "head");
  }

  private static Tensor linear(Tensor x, Map<String, Tensor> w, String layer) {
    return torch.linear(x, w.get(layer + ".weight"), new TensorOptional(w.get(layer + ".bias")));
  }

  private static Tensor norm(Tensor x, Map<String, Tensor> w, String layer) {
    return torch.layer_norm(
        x,
        new long[] {192},
        new TensorOptional(w.get(layer + ".weight")),
        new TensorOptional(w.get(layer + ".bias")),
        1e-6,
        false);
  }

  private static void checkSame(float[] expected, float[] actual) {
    double largest = 0;
    double error = 0;
    for (int i = 0; i < expected.length; i++) {
      largest = Math.max(largest, Math.abs(expected[i]));
      error = Math.max(error, Math.abs(expected[i] - actual[i]));
    }
    if (!(error <= 1e-4 * largest)) {
      throw new IllegalStateException("the networks differ by " + error + " of " + largest);
    }
  }

  /** Median, and the quartiles in brackets. */
  private static String spread(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    int n = sorted.length;
    return String.format(
        Locale.ROOT, "%.2f (%.2f to %.2f)", sorted[n / 2], sorted[n / 4], sorted[3 * n / 4]);
  }

  private static void print(String format, Object... values) {
    System.out.printf(Locale.ROOT, format + "%n", values);
  }
}
