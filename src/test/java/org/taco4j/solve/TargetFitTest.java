package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import org.junit.jupiter.api.Test;
import org.taco4j.common.Workers;
import org.taco4j.compute.scalar.ScalarBackend;

class TargetFitTest {
  private static final int ROWS = 3;
  private static final int COLS = 5;
  private static final int SAMPLES = 40;

  private final Random random = new Random(4);
  private final double[] x = random.doubles(COLS * SAMPLES, -1, 1).toArray();
  private final float[] weights = weights();

  private float[] weights() {
    float[] w = new float[ROWS * COLS];
    for (int i = 0; i < w.length; i++) {
      w[i] = (float) random.nextGaussian();
    }
    return w;
  }

  private SolveRequest request(double damping) {
    double[] gram = new double[COLS * COLS];
    for (int s = 0; s < SAMPLES; s++) {
      for (int i = 0; i < COLS; i++) {
        for (int j = 0; j < COLS; j++) {
          gram[i * COLS + j] += x[s * COLS + i] * x[s * COLS + j];
        }
      }
    }
    return new SolveRequest(
        "layer",
        weights,
        ROWS,
        COLS,
        Hessian.ofGram(gram, COLS, SAMPLES),
        SolveRequest.naturalOrder(COLS),
        new Pattern.Unstructured(0),
        damping);
  }

  /** 2/N (V X - W X) Xᵀ for other weights V. */
  private double[] cross(double[] other) {
    double[] cross = new double[ROWS * COLS];
    for (int s = 0; s < SAMPLES; s++) {
      for (int row = 0; row < ROWS; row++) {
        double residual = 0;
        for (int j = 0; j < COLS; j++) {
          residual += (other[row * COLS + j] - weights[row * COLS + j]) * x[s * COLS + j];
        }
        for (int j = 0; j < COLS; j++) {
          cross[row * COLS + j] += 2.0 / SAMPLES * residual * x[s * COLS + j];
        }
      }
    }
    return cross;
  }

  private TargetFit.Fit fit(SolveRequest request, double[] cross) {
    try (Workers workers = new Workers(1)) {
      return TargetFit.fit(request, cross, new ScalarBackend(workers));
    }
  }

  @Test
  void withoutDampingTheTargetsOwnWeightsAreFound() {
    double[] other = random.doubles(ROWS * COLS, -2, 2).toArray();
    TargetFit.Fit fit = fit(request(0), cross(other));
    for (int i = 0; i < other.length; i++) {
      // The result is float, and the system well conditioned (uniform inputs).
      assertEquals(other[i], fit.weights()[i], 1e-5);
    }
    assertEquals(0, fit.escalations());
  }

  @Test
  void aLayerThatLacksNothingStaysAsItIs() {
    TargetFit.Fit fit = fit(request(0.01), new double[ROWS * COLS]);
    assertArrayEquals(weights, fit.weights());
  }

  @Test
  void dampingPullsTowardsTheWeights() {
    double[] other = random.doubles(ROWS * COLS, -2, 2).toArray();
    double last = 0;
    for (double damping : new double[] {1, 0.1, 0.01}) {
      float[] fitted = fit(request(damping), cross(other)).weights();
      double moved = 0;
      for (int i = 0; i < fitted.length; i++) {
        moved += Math.pow(fitted[i] - weights[i], 2);
      }
      assertTrue(moved > last);
      last = moved;
    }
  }

  @Test
  void inputsThatNeverVaryNeedDampingAndGetIt() {
    SolveRequest request = request(0);
    for (int j = 0; j < COLS; j++) {
      request.hessian().values().data()[2 * COLS + j] = 0;
      request.hessian().values().data()[j * COLS + 2] = 0;
    }
    double[] cross = new double[ROWS * COLS];
    cross[0] = 1;
    TargetFit.Fit fit = fit(request, cross);
    assertEquals(weights[2], fit.weights()[2]);
    assertTrue(fit.weights()[0] != weights[0]);
  }
}
