package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import java.util.Arrays;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.compute.ResidualSum;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.Unfold;

/**
 * The {@link ResidualMoments} of all groups of a layer: on the backend's device where it has one.
 * Used by one thread at a time, which must not hold two of them.
 */
public sealed interface LayerMoments extends AutoCloseable {
  /** Sums of nothing yet. */
  static LayerMoments of(Layer layer, Backend backend) {
    DeviceKernels device = backend.device();
    return device == null ? new OnHost(layer, backend) : new OnDevice(layer, device);
  }

  /**
   * Adds the samples in one batch.
   *
   * @param input the tensor that the layer reads, row-major; borrowed
   * @param residual of the layer's output tensor, all groups, row-major; borrowed
   */
  void add(FloatBuffer input, long[] inputShape, FloatBuffer residual, long[] outputShape);

  /** What was added, for each group; afterwards this is spent. */
  ResidualMoments.Sums[] finish();

  @Override
  void close();

  /** On the heap, group after group. */
  final class OnHost implements LayerMoments {
    private final ResidualMoments[] groups;

    private OnHost(Layer layer, Backend backend) {
      groups = new ResidualMoments[layer.groups()];
      Arrays.setAll(groups, group -> new ResidualMoments(layer, group, backend));
    }

    @Override
    public void add(
        FloatBuffer input, long[] inputShape, FloatBuffer residual, long[] outputShape) {
      for (ResidualMoments group : groups) {
        group.add(input, inputShape, residual, outputShape);
      }
    }

    @Override
    public ResidualMoments.Sums[] finish() {
      ResidualMoments.Sums[] sums = new ResidualMoments.Sums[groups.length];
      Arrays.setAll(sums, group -> groups[group].finish());
      return sums;
    }

    @Override
    public void close() {}
  }

  /** On a device, all groups at once; only Σ r is added up here. */
  final class OnDevice implements LayerMoments {
    private final Layer layer;
    private final Unfold outputs;
    private final ResidualSum sum;

    /** [groups, rows]. */
    private final double[][] residualSum;

    private long samples;

    private OnDevice(Layer layer, DeviceKernels device) {
      this.layer = layer;
      this.outputs = ResidualMoments.outputUnfold(layer);
      this.residualSum = new double[layer.groups()][layer.rows()];
      this.sum = device.residuals(DevicePatches.of(layer.unfold()), layer.rows());
    }

    @Override
    public void add(
        FloatBuffer input, long[] inputShape, FloatBuffer residual, long[] outputShape) {
      var images = DevicePatches.images(layer.unfold(), inputShape);
      var residualImages = DevicePatches.images(outputs, outputShape);
      long count = (long) images.count() * images.positions();
      if ((long) residualImages.count() * residualImages.positions() != count) {
        throw new IllegalArgumentException(
            "%d samples in an input of shape %s, but not in an output of shape %s"
                .formatted(count, Arrays.toString(inputShape), Arrays.toString(outputShape)));
      }
      sum.add(input, images, residual, residualImages);
      addResiduals(residual, residualImages.count(), residualImages.positions());
      samples += count;
    }

    private void addResiduals(FloatBuffer residual, int images, int positions) {
      int at = residual.position();
      for (int image = 0; image < images; image++) {
        for (double[] group : residualSum) {
          for (int row = 0; row < group.length; row++) {
            double total = 0;
            for (int i = 0; i < positions; i++) {
              total += residual.get(at++);
            }
            group[row] += total;
          }
        }
      }
    }

    @Override
    public ResidualMoments.Sums[] finish() {
      int rows = layer.rows();
      int cols = layer.cols();
      ResidualMoments.Sums[] sums = new ResidualMoments.Sums[layer.groups()];
      for (int group = 0; group < sums.length; group++) {
        double[] cross = sum.cross(group);
        sums[group] =
            new ResidualMoments.Sums(
                rows,
                cols,
                samples,
                sum.gram(group),
                Arrays.copyOf(cross, rows * cols),
                Arrays.copyOfRange(cross, rows * cols, (rows + 1) * cols),
                residualSum[group]);
      }
      return sums;
    }

    @Override
    public void close() {
      sum.close();
    }
  }
}
