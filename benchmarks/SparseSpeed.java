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
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import org.taco4j.export.SparseOperators;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.OperatorLibrary;

/**
 * A pruned model with sparse operators against the same model, dense, in ONNX Runtime: in turns in
 * one process, in CPU time on one thread. Speed only: weights are pruned by magnitude, and those of
 * ResNet-50 are random.
 *
 * <p>Arguments: {@code resnet50} or a model file; sparsities, such as {@code 0.8,0.9}; {@code
 * unstructured} or {@code rows4}; batch; threads; rounds. All layers are pruned but the first, the
 * last and those with groups. Run from the repository root after {@code mvn package}: {@code java
 * --enable-native-access=ALL-UNNAMED -cp "target/classes:target/lib/*" benchmarks/SparseSpeed.java
 * resnet50 0.8,0.9 unstructured 1 1 30}.
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
    Path file = Path.of(network);
    if (network.equals("resnet50")) {
      file = Files.createTempFile("resnet50", ".onnx");
      Files.write(file, new ResNet50().build(batch));
    }
    for (String sparsity : arguments[1].split(",")) {
      OnnxModel dense = OnnxModel.read(file);
      int pruned = prune(dense, Double.parseDouble(sparsity), mask.equals("rows4") ? 4 : 1);
      OnnxModel sparse = dense.copy();
      SparseOperators.Outcome outcome =
          SparseOperators.rewrite(sparse, SparseOperators.sparserThan(sparse, 0.3));
      String title =
          String.format(
              Locale.ROOT,
              "%s, %s zeros, %s, batch %d, %d threads, %d of %d pruned layers rewritten",
              network.replaceAll(".*/", ""),
              sparsity,
              mask,
              batch,
              threads,
              outcome.rewritten().size(),
              pruned);
      compare(title, dense.toBytes(), sparse.toBytes(), batch, threads, rounds);
    }
    if (network.equals("resnet50")) {
      Files.delete(file);
    }
  }

  /** By magnitude, blocks by their sum; gives how many layers. */
  private static int prune(OnnxModel model, double sparsity, int blockRows) {
    int layers = 0;
    List<Layer> all = LayerDiscovery.discover(model);
    for (Layer layer : all.subList(1, all.size() - 1)) {
      if (layer.groups() > 1 || layer.rows() % blockRows != 0) {
        continue;
      }
      layers++;
      float[] weights = LayerWeights.unfold(model, layer, 0);
      int cols = weights.length / layer.rows();
      float[] scores = new float[weights.length / blockRows];
      for (int i = 0; i < weights.length; i++) {
        scores[i / cols / blockRows * cols + i % cols] += Math.abs(weights[i]);
      }
      float[] sorted = scores.clone();
      Arrays.sort(sorted);
      float threshold = sorted[(int) Math.ceil(sorted.length * sparsity)];
      for (int i = 0; i < weights.length; i++) {
        if (scores[i / cols / blockRows * cols + i % cols] < threshold) {
          weights[i] = 0;
        }
      }
      LayerWeights.fold(model, layer, 0, weights);
    }
    return layers;
  }

  private static void compare(
      String title, byte[] dense, byte[] sparse, int batch, int threads, int rounds)
      throws OrtException {
    try (OrtSession denseSession = open(dense, threads);
        OrtSession sparseSession = open(sparse, threads)) {
      String name = denseSession.getInputNames().iterator().next();
      long[] shape =
          ((ai.onnxruntime.TensorInfo) denseSession.getInputInfo().get(name).getInfo()).getShape();
      shape[0] = batch;
      float[] values = new float[(int) Arrays.stream(shape).reduce(1, (a, b) -> a * b)];
      Random random = new Random(3);
      for (int i = 0; i < values.length; i++) {
        values[i] = (float) random.nextGaussian();
      }
      try (OnnxTensor input =
          OnnxTensor.createTensor(
              OrtEnvironment.getEnvironment(), FloatBuffer.wrap(values), shape)) {
        Map<String, OnnxTensor> feeds = Map.of(name, input);
        float[] expected = output(denseSession, feeds);
        float[] actual = output(sparseSession, feeds);
        double error = 0;
        double norm = 0;
        for (int i = 0; i < expected.length; i++) {
          error += Math.pow(expected[i] - actual[i], 2);
          norm += Math.pow(expected[i], 2);
        }
        // Some fifty layers, each of which rounds to 1e-6 or so.
        if (!(Math.sqrt(error / norm) < 1e-4)) {
          throw new IllegalStateException(title + ": results differ, " + Math.sqrt(error / norm));
        }
        double[][] times = new double[3][rounds];
        for (int round = -3; round < rounds; round++) {
          double denseTime = time(denseSession, feeds, threads);
          double sparseTime = time(sparseSession, feeds, threads);
          if (round >= 0) {
            times[0][round] = denseTime;
            times[1][round] = sparseTime;
            times[2][round] = denseTime / sparseTime;
          }
        }
        for (double[] each : times) {
          Arrays.sort(each);
        }
        System.out.printf(
            Locale.ROOT,
            "%s: dense %.2f ms (least %.2f), sparse %.2f ms (least %.2f); ratio %.2f (5th to 95th"
                + " percentile %.2f to %.2f), of the least %.2f; relative difference %.1e%n",
            title,
            times[0][rounds / 2],
            times[0][0],
            times[1][rounds / 2],
            times[1][0],
            times[2][rounds / 2],
            times[2][rounds / 20],
            times[2][rounds - 1 - rounds / 20],
            times[0][0] / times[1][0],
            Math.sqrt(error / norm));
      }
    }
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

  /** ResNet-50 as it is exported with its batch normalisations folded; random weights. */
  private static final class ResNet50 {
    private final GraphProto.Builder graph = GraphProto.newBuilder().setName("resnet50");
    private final Random random = new Random(1);

    byte[] build(int batch) {
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
      return ModelProto.newBuilder()
          .setIrVersion(8)
          .addOpsetImport(OperatorSetIdProto.newBuilder().setDomain("").setVersion(17))
          .setGraph(graph)
          .build()
          .toByteArray();
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

    private String node(
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

    private void floats(String name, double deviation, long... dims) {
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
    }

    private static AttributeProto ints(String name, long... values) {
      AttributeProto.Builder attribute =
          AttributeProto.newBuilder().setName(name).setType(AttributeProto.AttributeType.INTS);
      Arrays.stream(values).forEach(attribute::addInts);
      return attribute.build();
    }

    private static AttributeProto number(String name, long value) {
      return AttributeProto.newBuilder()
          .setName(name)
          .setType(AttributeProto.AttributeType.INT)
          .setI(value)
          .build();
    }

    private static ValueInfoProto info(String name, long... dims) {
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
}
