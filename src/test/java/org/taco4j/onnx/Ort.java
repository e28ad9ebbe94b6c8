package org.taco4j.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;

/** Runs models in ONNX Runtime. */
public final class Ort {
  private Ort() {}

  /** A FLOAT tensor on the heap. */
  public record Tensor(float[] values, long... shape) {
    /** Normally distributed values. */
    public static Tensor random(long... shape) {
      Random random = new Random(11);
      float[] values = new float[(int) Arrays.stream(shape).reduce(1, (a, b) -> a * b)];
      for (int i = 0; i < values.length; i++) {
        values[i] = (float) random.nextGaussian();
      }
      return new Tensor(values, shape);
    }
  }

  /** All FLOAT outputs of the model for one input. */
  public static Map<String, Tensor> run(OnnxModel model, Tensor input) {
    return run(model.toBytes(), Map.of(model.inputs().getFirst().name(), input));
  }

  /** All FLOAT outputs of the model. */
  public static Map<String, Tensor> run(byte[] model, Map<String, Tensor> inputs) {
    OrtEnvironment environment = OrtEnvironment.getEnvironment();
    Map<String, OnnxTensor> feeds = new LinkedHashMap<>();
    try (OrtSession session = session(environment, model)) {
      for (Map.Entry<String, Tensor> input : inputs.entrySet()) {
        Tensor tensor = input.getValue();
        feeds.put(
            input.getKey(),
            OnnxTensor.createTensor(
                environment, FloatBuffer.wrap(tensor.values()), tensor.shape()));
      }
      Map<String, Tensor> outputs = new LinkedHashMap<>();
      try (OrtSession.Result result = session.run(feeds)) {
        for (var entry : result) {
          OnnxTensor tensor = (OnnxTensor) entry.getValue();
          float[] values = new float[tensor.getFloatBuffer().remaining()];
          tensor.getFloatBuffer().get(values);
          outputs.put(
              entry.getKey(), new Tensor(values, ((TensorInfo) tensor.getInfo()).getShape()));
        }
      }
      return outputs;
    } catch (OrtException e) {
      throw new AssertionError("ONNX Runtime refuses the model: " + e.getMessage(), e);
    } finally {
      feeds.values().forEach(OnnxTensor::close);
    }
  }

  /** A session that changes nothing in the graph, so that results can be compared bit by bit. */
  static OrtSession session(OrtEnvironment environment, byte[] model) throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setOptimizationLevel(OrtSession.SessionOptions.OptLevel.NO_OPT);
      options.setSessionLogLevel(ai.onnxruntime.OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL);
      return environment.createSession(model, options);
    }
  }

  /** Fails unless both have the same outputs of the same shapes, to a tolerance. */
  public static void assertSame(
      Map<String, Tensor> expected, Map<String, Tensor> actual, float tolerance) {
    assertEquals(expected.keySet(), actual.keySet());
    expected.forEach(
        (name, tensor) -> {
          assertArrayEquals(tensor.shape(), actual.get(name).shape(), name);
          assertArrayEquals(tensor.values(), actual.get(name).values(), tolerance, name);
        });
  }
}
