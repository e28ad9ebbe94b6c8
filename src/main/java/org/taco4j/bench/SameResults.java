package org.taco4j.bench;

import java.util.Locale;
import java.util.Map;
import java.util.Random;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.Tensor;

/** Whether two models compute the same: asked before their speeds are compared. */
public final class SameResults {
  /** A hundred layers, each of which rounds to 1e-6 or so, perhaps in another order. */
  private static final double TOLERANCE = 1e-4;

  private SameResults() {}

  /**
   * Runs both on one random image.
   *
   * @param imageShape shape of a batch of one image
   * @return the relative difference of their first outputs, ‖a − b‖ / ‖a‖
   * @throws TacoException of kind NUMERICAL where it is more than rounding
   */
  public static double require(
      OnnxModel first, OnnxModel second, ModelInput input, long[] imageShape) {
    float[] image = new float[Math.toIntExact(Tensor.elements(imageShape))];
    Random random = new Random(1);
    for (int i = 0; i < image.length; i++) {
      image[i] = (float) random.nextGaussian();
    }
    Map<String, Tensor> feed = input.feed(image, 1, imageShape);
    try (Session a = Session.open(first, 1);
        Session b = Session.open(second, 1)) {
      float[] expected = output(a, feed);
      float[] actual = output(b, feed);
      double error = 0;
      double norm = 0;
      for (int i = 0; i < expected.length; i++) {
        error += Math.pow(expected[i] - (double) actual[i], 2);
        norm += Math.pow(expected[i], 2);
      }
      double difference = error == 0 ? 0 : Math.sqrt(error / norm);
      if (!(difference <= TOLERANCE)) {
        throw TacoException.numerical(
            String.format(
                Locale.ROOT,
                "%s: dense and sparse operators give different results (relative difference %.1e);"
                    + " please report it",
                first.source(),
                difference));
      }
      return difference;
    } finally {
      feed.values().forEach(Tensor::close);
    }
  }

  private static float[] output(Session session, Map<String, Tensor> feed) {
    Map<String, Tensor> outputs = session.run(feed);
    float[] values = outputs.values().iterator().next().floats().clone();
    outputs.values().forEach(Tensor::close);
    return values;
  }
}
