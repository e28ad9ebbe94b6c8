import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.ModelProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.OperatorSetIdProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorShapeProto;
import ai.onnx.proto.OnnxMl.TypeProto;
import ai.onnx.proto.OnnxMl.ValueInfoProto;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.google.protobuf.ByteString;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.function.IntUnaryOperator;
import java.util.function.Predicate;
import org.taco4j.calibrate.ActivationRange;
import org.taco4j.calibrate.RangeMethod;
import org.taco4j.export.IntegerOperators;
import org.taco4j.export.LayerNormalizations;
import org.taco4j.export.SparseOperators;
import org.taco4j.export.WeightQuantization;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Unfold;
import org.taco4j.runtime.OperatorLibrary;

/**
 * A pruned model with sparse operators against the same model, dense, in ONNX Runtime: in turns in
 * one process, in CPU time on one thread. Speed only: weights are pruned by magnitude, and those of
 * ResNet-50 and DeiT-Base are random.
 *
 * <p>Arguments: {@code resnet50}, {@code deit-base} or a model file; sparsities, such as {@code
 * 0.8,0.9}; {@code unstructured} or {@code rows4}; batch; threads; rounds; which layers become
 * operators of the library, any of {@code pruned} (the default), {@code convolutions} (also those
 * without zeros: depthwise ones and the first) and {@code all} (layer normalizations, too), such as
 * {@code pruned,convolutions}; how many runs of the same session come before each measured one, 0
 * by default: with 2 caches are as a program leaves them that runs one model. All layers are pruned
 * but the first, the last and those with groups. Run from the repository root after {@code mvn
 * package}: {@code java --enable-native-access=ALL-UNNAMED -cp "target/classes:target/lib/*"
 * benchmarks/SparseSpeed.java resnet50 0.8,0.9 unstructured 1 1 30}.
 */
public final class SparseSpeed {
  private static final ThreadMXBean CLOCK = ManagementFactory.getThreadMXBean();

  private SparseSpeed() {}

  public static void main(String[] arguments) throws IOException, OrtException {
    String network = arguments[0];
    String mask = arguments[2];
    int batch = Integer.parseInt(arguments[3]);
    int threads = Integer.parseInt(arguments[4]);
    int rounds = Integer.parseInt(arguments[5]);
    int before = arguments.length > 7 ? Integer.parseInt(arguments[7]) : 0;
    List<String> choices = List.of((arguments.length > 6 ? arguments[6] : "pruned").split(","));
    Network built =
        switch (network) {
          case "resnet50" -> new ResNet50();
          case "deit-base" -> new DeitBase();
          default -> null;
        };
    Path file = Path.of(network);
    if (built != null) {
      file = Files.createTempFile(network, ".onnx");
      Files.write(file, built.build(batch));
    }
    for (String sparsity : arguments[1].split(",")) {
      OnnxModel dense = OnnxModel.read(file);
      int pruned = prune(dense, Double.parseDouble(sparsity), mask);
      List<byte[]> sparse = new ArrayList<>();
      for (String choice : choices) {
        sparse.add(rewrite(dense.copy(), choice, batch).toBytes());
      }
      String title =
          String.format(
              Locale.ROOT,
              "%s, %s zeros, %s, batch %d, %d threads, %d layers pruned",
              network.replaceAll(".*/", ""),
              sparsity,
              mask,
              batch,
              threads,
              pruned);
      compare(title, choices, dense.toBytes(), sparse, batch, threads, rounds, before);
    }
    if (built != null) {
      Files.delete(file);
    }
  }

  private static OnnxModel rewrite(OnnxModel model, String choice, int batch) throws OrtException {
    Predicate<Layer> sparse = SparseOperators.sparserThan(model, 0.3);
    switch (choice) {
      case "pruned" -> SparseOperators.rewrite(model, sparse);
      case "convolutions", "all" -> {
        SparseOperators.rewrite(model, sparse.or(layer -> layer.opType().equals("Conv")));
        if (choice.equals("all")) {
          LayerNormalizations.rewrite(model);
        }
      }
      case "int8" -> {
        return integers(model, 0.5, batch);
      }
      case "int8-dense" -> {
        return integers(model, 2, batch);
      }
      default -> throw new IllegalArgumentException(choice);
    }
    return model;
  }

  /**
   * All layers in 8 bits but the classifier, weights rounded, activations from their least to their
   * greatest value.
   *
   * @param sparserThan share of empty blocks from which on a layer becomes a sparse operator
   */
  private static OnnxModel integers(OnnxModel model, double sparserThan, int batch)
      throws OrtException {
    List<Layer> layers = LayerDiscovery.discover(model);
    String classifier = layers.getLast().name();
    layers.stream()
        .filter(layer -> !layer.name().equals(classifier))
        .forEach(layer -> WeightQuantization.round(model, layer));
    IntegerOperators plan =
        IntegerOperators.plan(
            model,
            layer -> !layer.name().equals(classifier),
            IntegerOperators.sparserThan(model, sparserThan));
    Map<String, ActivationRange> ranges = new HashMap<>();
    String image = model.inputs().getFirst().name();
    List<String> computed =
        plan.tensors().stream().filter(tensor -> !tensor.equals(image)).toList();
    byte[] watched = model.withOutputs(computed, false).toBytes();
    try (OrtSession session = open(watched, 1);
        OnnxTensor input = input(session, batch);
        OrtSession.Result result = session.run(Map.of(image, input))) {
      for (String tensor : plan.tensors()) {
        OnnxTensor watchedTensor =
            tensor.equals(image) ? input : (OnnxTensor) result.get(tensor).orElseThrow();
        FloatBuffer values = watchedTensor.getFloatBuffer();
        float low = 0;
        float high = 0;
        while (values.hasRemaining()) {
          float value = values.get();
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
        float scale = (high - low) / 255;
        int zero = Math.round(-low / scale);
        ranges.put(
            tensor,
            new ActivationRange(tensor, RangeMethod.MIN_MAX, low, high, low, high, scale, zero, 0));
      }
    }
    OnnxModel integers = model.copy();
    plan.rewrite(integers, ranges);
    return integers;
  }

  /** By magnitude, blocks by their sum; gives how many layers. */
  private static int prune(OnnxModel model, double sparsity, String mask) {
    int layers = 0;
    List<Layer> all = LayerDiscovery.discover(model);
    for (Layer layer : all.subList(1, all.size() - 1)) {
      // Weights whose fate is shared: neighbouring rows, or input channels, which in a row of the
      // weights are a kernel apart.
      int taps =
          layer.unfold() instanceof Unfold.Convolution patches
              ? patches.kernelHeight() * patches.kernelWidth()
              : 1;
      int channels = layer.cols() / taps;
      if (layer.groups() > 1
          || (mask.equals("rows4") && layer.rows() % 4 != 0)
          || (mask.equals("block4") && channels % 4 != 0)) {
        continue;
      }
      layers++;
      float[] weights = LayerWeights.unfold(model, layer, 0);
      int cols = layer.cols();
      IntUnaryOperator block =
          switch (mask) {
            case "unstructured" -> i -> i;
            case "rows4" -> i -> i / cols / 4 * cols + i % cols;
            case "block4" -> i -> i / (4 * taps) * taps + i % taps;
            default -> throw new IllegalArgumentException(mask);
          };
      float[] scores = new float[weights.length / (mask.equals("unstructured") ? 1 : 4)];
      for (int i = 0; i < weights.length; i++) {
        scores[block.applyAsInt(i)] += Math.abs(weights[i]);
      }
      float[] sorted = scores.clone();
      Arrays.sort(sorted);
      float threshold = sorted[(int) Math.ceil(sorted.length * sparsity)];
      for (int i = 0; i < weights.length; i++) {
        if (scores[block.applyAsInt(i)] < threshold) {
          weights[i] = 0;
        }
      }
      LayerWeights.fold(model, layer, 0, weights);
    }
    return layers;
  }

  private static void compare(
      String title,
      List<String> choices,
      byte[] dense,
      List<byte[]> sparse,
      int batch,
      int threads,
      int rounds,
      int before)
      throws OrtException {
    List<OrtSession> sessions = new ArrayList<>();
    try {
      sessions.add(open(dense, threads));
      for (byte[] model : sparse) {
        sessions.add(open(model, threads));
      }
      String name = sessions.getFirst().getInputNames().iterator().next();
      try (OnnxTensor input = input(sessions.getFirst(), batch)) {
        Map<String, OnnxTensor> feeds = Map.of(name, input);
        double[] differences = new double[sessions.size()];
        float[] expected = output(sessions.getFirst(), feeds);
        for (int i = 1; i < differences.length; i++) {
          differences[i] = difference(expected, output(sessions.get(i), feeds));
          // Some fifty layers, each of which rounds to 1e-6 or so; to 255 steps with integers.
          double most = choices.get(i - 1).startsWith("int8") ? 0.3 : 1e-4;
          if (!(differences[i] < most)) {
            throw new IllegalStateException(title + ": results differ, " + differences[i]);
          }
        }
        double[][] times = new double[sessions.size()][rounds];
        for (int round = -3; round < rounds; round++) {
          for (int i = 0; i < times.length; i++) {
            for (int run = 0; run < before; run++) {
              sessions.get(i).run(feeds).close();
            }
            double time = time(sessions.get(i), feeds, threads);
            if (round >= 0) {
              times[i][round] = time;
            }
          }
        }
        for (int i = 1; i < times.length; i++) {
          report(title + ", " + choices.get(i - 1), times[0], times[i], differences[i]);
        }
      }
    } finally {
      for (OrtSession session : sessions) {
        session.close();
      }
    }
  }

  private static OnnxTensor input(OrtSession session, int batch) throws OrtException {
    String name = session.getInputNames().iterator().next();
    long[] shape =
        ((ai.onnxruntime.TensorInfo) session.getInputInfo().get(name).getInfo()).getShape();
    shape[0] = batch;
    float[] values = new float[(int) Arrays.stream(shape).reduce(1, (a, b) -> a * b)];
    Random random = new Random(3);
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return OnnxTensor.createTensor(
        OrtEnvironment.getEnvironment(), FloatBuffer.wrap(values), shape);
  }

  /** Of the results, relative to the size of what is expected. */
  private static double difference(float[] expected, float[] actual) {
    double error = 0;
    double norm = 0;
    for (int i = 0; i < expected.length; i++) {
      error += Math.pow(expected[i] - actual[i], 2);
      norm += Math.pow(expected[i], 2);
    }
    return Math.sqrt(error / norm);
  }

  private static void report(String title, double[] dense, double[] sparse, double difference) {
    int rounds = dense.length;
    double[] ratios = new double[rounds];
    for (int i = 0; i < rounds; i++) {
      ratios[i] = dense[i] / sparse[i];
    }
    double[] a = sorted(dense);
    double[] b = sorted(sparse);
    double[] r = sorted(ratios);
    System.out.printf(
        Locale.ROOT,
        "%s: dense %.2f ms (least %.2f), sparse %.2f ms (least %.2f); ratio %.2f (5th to 95th"
            + " percentile %.2f to %.2f), of the least %.2f; relative difference %.1e%n",
        title,
        a[rounds / 2],
        a[0],
        b[rounds / 2],
        b[0],
        r[rounds / 2],
        r[rounds / 20],
        r[rounds - 1 - rounds / 20],
        a[0] / b[0],
        difference);
  }

  private static double[] sorted(double[] values) {
    double[] copy = values.clone();
    Arrays.sort(copy);
    return copy;
  }

  private static OrtSession open(byte[] model, int threads) throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(threads);
      OperatorLibrary.register(options);
      return OrtEnvironment.getEnvironment().createSession(model, options);
    }
  }

  private static float[] output(OrtSession session, Map<String, OnnxTensor> feeds)
      throws OrtException {
    try (OrtSession.Result result = session.run(feeds)) {
      FloatBuffer buffer = ((OnnxTensor) result.get(0)).getFloatBuffer();
      float[] values = new float[buffer.remaining()];
      buffer.get(values);
      return values;
    }
  }

  /** Milliseconds: of the calling thread where it computes all, else of the clock. */
  private static double time(OrtSession session, Map<String, OnnxTensor> feeds, int threads)
      throws OrtException {
    long start = threads == 1 ? CLOCK.getCurrentThreadCpuTime() : System.nanoTime();
    session.run(feeds).close();
    long end = threads == 1 ? CLOCK.getCurrentThreadCpuTime() : System.nanoTime();
    return (end - start) / 1e6;
  }

  /** A model built in code, with random weights. */
  private abstract static class Network {
    final GraphProto.Builder graph = GraphProto.newBuilder().setName("network");
    private final Random random = new Random(1);

    abstract void add(int batch);

    final byte[] build(int batch) {
      add(batch);
      return ModelProto.newBuilder()
          .setIrVersion(8)
          .addOpsetImport(OperatorSetIdProto.newBuilder().setDomain("").setVersion(17))
          .setGraph(graph)
          .build()
          .toByteArray();
    }

    final String node(
        String operator, String output, List<String> inputs, AttributeProto... attributes) {
      graph.addNode(
          NodeProto.newBuilder()
              .setOpType(operator)
              .setName(output)
              .addAllInput(inputs)
              .addOutput(output)
              .addAllAttribute(Arrays.asList(attributes)));
      return output;
    }

    final String floats(String name, double deviation, long... dims) {
      int count = (int) Arrays.stream(dims).reduce(1, (a, b) -> a * b);
      ByteBuffer bytes = ByteBuffer.allocate(4 * count).order(ByteOrder.LITTLE_ENDIAN);
      while (bytes.hasRemaining()) {
        bytes.putFloat((float) (deviation * random.nextGaussian()));
      }
      TensorProto.Builder tensor =
          TensorProto.newBuilder()
              .setName(name)
              .setDataType(TensorProto.DataType.FLOAT_VALUE)
              .setRawData(ByteString.copyFrom(bytes.flip()));
      Arrays.stream(dims).forEach(tensor::addDims);
      graph.addInitializer(tensor);
      return name;
    }

    static AttributeProto ints(String name, long... values) {
      AttributeProto.Builder attribute =
          AttributeProto.newBuilder().setName(name).setType(AttributeProto.AttributeType.INTS);
      Arrays.stream(values).forEach(attribute::addInts);
      return attribute.build();
    }

    static AttributeProto number(String name, long value) {
      return AttributeProto.newBuilder()
          .setName(name)
          .setType(AttributeProto.AttributeType.INT)
          .setI(value)
          .build();
    }

    static ValueInfoProto info(String name, long... dims) {
      TensorShapeProto.Builder shape = TensorShapeProto.newBuilder();
      for (long dim : dims) {
        shape.addDim(TensorShapeProto.Dimension.newBuilder().setDimValue(dim));
      }
      return ValueInfoProto.newBuilder()
          .setName(name)
          .setType(
              TypeProto.newBuilder()
                  .setTensorType(
                      TypeProto.Tensor.newBuilder()
                          .setElemType(TensorProto.DataType.FLOAT_VALUE)
                          .setShape(shape)))
          .build();
    }
  }

  /** ResNet-50 as it is exported with its batch normalisations folded. */
  private static final class ResNet50 extends Network {
    @Override
    void add(int batch) {
      graph.addInput(info("image", batch, 3, 224, 224));
      graph.addOutput(info("logits", batch, 1000));
      String x = relu(conv("image", 3, 64, 7, 2));
      node(
          "MaxPool",
          "pooled",
          List.of(x),
          ints("kernel_shape", 3, 3),
          ints("strides", 2, 2),
          ints("pads", 1, 1, 1, 1));
      x = "pooled";
      int channels = 64;
      int[] blocks = {3, 4, 6, 3};
      for (int stage = 0; stage < 4; stage++) {
        int width = 64 << stage;
        for (int block = 0; block < blocks[stage]; block++) {
          int stride = block == 0 && stage > 0 ? 2 : 1;
          String y = relu(conv(x, channels, width, 1, 1));
          y = relu(conv(y, width, width, 3, stride));
          y = conv(y, width, 4 * width, 1, 1);
          String shortcut = block == 0 ? conv(x, channels, 4 * width, 1, stride) : x;
          x = relu(node("Add", "sum" + stage + "_" + block, List.of(y, shortcut)));
          channels = 4 * width;
        }
      }
      node("GlobalAveragePool", "average", List.of(x));
      node("Flatten", "features", List.of("average"));
      floats("classifier", 0.02, 1000, channels);
      node("Gemm", "logits", List.of("features", "classifier"), number("transB", 1));
    }

    private String conv(String x, int in, int out, int kernel, int stride) {
      String name = "conv" + graph.getNodeCount();
      floats(name + ".weight", Math.sqrt(2.0 / (in * kernel * kernel)), out, in, kernel, kernel);
      floats(name + ".bias", 0.01, out);
      int pad = kernel / 2;
      return node(
          "Conv",
          name,
          List.of(x, name + ".weight", name + ".bias"),
          ints("kernel_shape", kernel, kernel),
          ints("strides", stride, stride),
          ints("pads", pad, pad, pad, pad));
    }

    private String relu(String x) {
      return node("Relu", x + ".relu", List.of(x));
    }
  }

  /** DeiT-Base (ViT-B/16) as it is exported: twelve blocks of 768 features, 197 tokens. */
  private static final class DeitBase extends Network {
    private static final int FEATURES = 768;
    private static final int HEADS = 12;
    private static final int TOKENS = 197;

    @Override
    void add(int batch) {
      graph.addInput(info("image", batch, 3, 224, 224));
      graph.addOutput(info("logits", batch, 1000));
      floats("patch.weight", 0.03, FEATURES, 3, 16, 16);
      floats("patch.bias", 0.01, FEATURES);
      node(
          "Conv",
          "patches",
          List.of("image", "patch.weight", "patch.bias"),
          ints("kernel_shape", 16, 16),
          ints("strides", 16, 16));
      String x = reshape("patches", "patches.flat", batch, FEATURES, TOKENS - 1);
      x = node("Transpose", "patches.tokens", List.of(x), ints("perm", 0, 2, 1));
      floats("cls", 1, batch, 1, FEATURES);
      x = node("Concat", "tokens", List.of("cls", x), number("axis", 1));
      x = node("Add", "embedded", List.of(x, floats("positions", 1, 1, TOKENS, FEATURES)));
      for (int block = 0; block < 12; block++) {
        String at = "block" + block + ".";
        String y = attention(at, norm(at + "norm1", x), batch);
        x = node("Add", at + "attended", List.of(x, y));
        y = linear(at + "fc1", norm(at + "norm2", x), FEATURES, 4 * FEATURES);
        y = linear(at + "fc2", gelu(y), 4 * FEATURES, FEATURES);
        x = node("Add", at + "sum", List.of(x, y));
      }
      x = norm("norm", x);
      integers("first", new long[0], 0);
      x = node("Gather", "class", List.of(x, "first"), number("axis", 1));
      floats("head.weight", 0.03, 1000, FEATURES);
      floats("head.bias", 0.01, 1000);
      node("Gemm", "logits", List.of(x, "head.weight", "head.bias"), number("transB", 1));
    }

    private String attention(String at, String x, int batch) {
      int size = FEATURES / HEADS;
      String qkv = linear(at + "qkv", x, FEATURES, 3 * FEATURES);
      qkv = reshape(qkv, at + "qkv.heads", batch, TOKENS, 3, HEADS, size);
      qkv = node("Transpose", at + "heads", List.of(qkv), ints("perm", 2, 0, 3, 1, 4));
      List<String> parts = new ArrayList<>();
      for (int i = 0; i < 3; i++) {
        integers(at + "index" + i, new long[0], i);
        parts.add(
            node("Gather", at + "part" + i, List.of(qkv, at + "index" + i), number("axis", 0)));
      }
      scalar(at + "scale", (float) (1 / Math.sqrt(size)));
      String q = node("Mul", at + "scaled", List.of(parts.get(0), at + "scale"));
      String k = node("Transpose", at + "keys", List.of(parts.get(1)), ints("perm", 0, 1, 3, 2));
      String scores = node("MatMul", at + "scores", List.of(q, k));
      String weights = node("Softmax", at + "weights", List.of(scores), number("axis", -1));
      String y = node("MatMul", at + "values", List.of(weights, parts.get(2)));
      y = node("Transpose", at + "joined", List.of(y), ints("perm", 0, 2, 1, 3));
      y = reshape(y, at + "joined.flat", batch, TOKENS, FEATURES);
      return linear(at + "proj", y, FEATURES, FEATURES);
    }

    private String linear(String name, String x, int in, int out) {
      floats(name + ".weight", 1 / Math.sqrt(in), in, out);
      floats(name + ".bias", 0.01, out);
      node("MatMul", name + ".product", List.of(x, name + ".weight"));
      return node("Add", name, List.of(name + ".bias", name + ".product"));
    }

    private String norm(String name, String x) {
      floats(name + ".scale", 1, FEATURES);
      floats(name + ".bias", 0.1, FEATURES);
      return node(
          "LayerNormalization",
          name,
          List.of(x, name + ".scale", name + ".bias"),
          number("axis", -1));
    }

    private String gelu(String x) {
      scalar(x + ".sqrt2", (float) Math.sqrt(2));
      scalar(x + ".one", 1);
      scalar(x + ".half", 0.5f);
      String erf =
          node("Erf", x + ".erf", List.of(node("Div", x + ".d", List.of(x, x + ".sqrt2"))));
      String gate = node("Add", x + ".gate", List.of(erf, x + ".one"));
      String twice = node("Mul", x + ".twice", List.of(x, gate));
      return node("Mul", x + ".gelu", List.of(twice, x + ".half"));
    }

    private String reshape(String x, String name, long... dims) {
      integers(name + ".shape", new long[] {dims.length}, dims);
      return node("Reshape", name, List.of(x, name + ".shape"));
    }

    private void scalar(String name, float value) {
      graph.addInitializer(
          TensorProto.newBuilder()
              .setName(name)
              .setDataType(TensorProto.DataType.FLOAT_VALUE)
              .addFloatData(value));
    }

    private void integers(String name, long[] dims, long... values) {
      TensorProto.Builder tensor =
          TensorProto.newBuilder().setName(name).setDataType(TensorProto.DataType.INT64_VALUE);
      Arrays.stream(dims).forEach(tensor::addDims);
      Arrays.stream(values).forEach(tensor::addInt64Data);
      graph.addInitializer(tensor);
    }
  }
}
