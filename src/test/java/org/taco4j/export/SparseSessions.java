package org.taco4j.export;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import java.nio.FloatBuffer;
import java.util.LinkedHashMap;
import java.util.Map;
import org.taco4j.onnx.Ort;
import org.taco4j.runtime.OperatorLibrary;

/** Sessions with the operator library, for tests. */
public final class SparseSessions {
  private SparseSessions() {}

  /** A session that runs the sparse operators; its options are closed. */
  public static OrtSession open(byte[] model, int threads) throws OrtException {
    return open(model, threads, true);
  }

  /** A session with or without the operators. */
  public static OrtSession open(byte[] model, int threads, boolean sparse) throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(threads);
      options.setSessionLogLevel(ai.onnxruntime.OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL);
      if (sparse) {
        OperatorLibrary.register(options);
      }
      return OrtEnvironment.getEnvironment().createSession(model, options);
    }
  }

  /** The first output. */
  public static Ort.Tensor run(OrtSession session, Map<String, Ort.Tensor> inputs)
      throws OrtException {
    Map<String, OnnxTensor> feeds = new LinkedHashMap<>();
    try {
      for (Map.Entry<String, Ort.Tensor> input : inputs.entrySet()) {
        feeds.put(
            input.getKey(),
            OnnxTensor.createTensor(
                OrtEnvironment.getEnvironment(),
                FloatBuffer.wrap(input.getValue().values()),
                input.getValue().shape()));
      }
      try (OrtSession.Result result = session.run(feeds)) {
        OnnxTensor output = (OnnxTensor) result.get(0);
        float[] values = new float[output.getFloatBuffer().remaining()];
        output.getFloatBuffer().get(values);
        return new Ort.Tensor(values, ((TensorInfo) output.getInfo()).getShape());
      }
    } finally {
      feeds.values().forEach(OnnxTensor::close);
    }
  }
}
