package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.Unfold;

/**
 * Sums over samples of what one layer problem reads, x, and of the residual of its outputs, r: what
 * they lack of a target. They are all that linear regression of the target on the inputs needs.
 * Products are computed in float over some hundreds of samples and added in double. Used by one
 * thread at a time.
 */
public final class ResidualMoments {
  private final int rows;
  private final int cols;
  private final Backend backend;
  private final DoubleGram gram;

  /** In the place of {@code gram}, for the convolutions that it is made for. */
  private final @Nullable ShiftGram shiftGram;

  private final SampleReader inputs;
  private final SampleReader residuals;

  /** Σ r xᵀ, [rows, cols], columns in the order of the reader. */
  private final DoubleMatrix cross;

  private final double[] inputSum;
  private final double[] residualSum;
  private long samples;

  /** Tiles of a thread: of inputs, of residuals, their product, and sums. */
  private static final class Scratch {
    float[] inputs = new float[0];
    float[] residuals = new float[0];
    float[] product = new float[0];
    float[] sums = new float[0];

    static float[] atLeast(float[] array, int length) {
      return array.length < length ? new float[length] : array;
    }
  }

  private static final ThreadLocal<Scratch> SCRATCH = ThreadLocal.withInitial(Scratch::new);

  /**
   * Sums of nothing yet.
   *
   * @param group of the layer's problems
   */
  public ResidualMoments(Layer layer, int group, Backend backend) {
    this.rows = layer.rows();
    this.cols = layer.cols();
    this.backend = backend;
    // Of a single channel (depthwise) the products of shifts are too small to be worth it.
    boolean byShifts =
        layer.unfold() instanceof Unfold.Convolution u && u.channels() > 1 && ShiftGram.fits(u);
    this.shiftGram =
        byShifts ? new ShiftGram((Unfold.Convolution) layer.unfold(), group, backend) : null;
    this.gram = new DoubleGram(byShifts ? 0 : cols, backend);
    this.inputs = SampleReader.of(layer.unfold(), group);
    this.residuals = SampleReader.of(outputUnfold(layer), group);
    this.cross = DoubleMatrix.zeros(rows, cols);
    this.inputSum = new double[cols];
    this.residualSum = new double[rows];
  }

  /** How the samples of a layer's output lie in its tensor. */
  static Unfold outputUnfold(Layer layer) {
    if (layer.unfold() instanceof Unfold.Convolution c) {
      return new Unfold.Convolution(
          layer.rows(),
          layer.groups(),
          1,
          1,
          1,
          1,
          0,
          0,
          0,
          0,
          1,
          1,
          Unfold.AutoPad.EXPLICIT,
          c.oneDimensional());
    }
    return layer.outputAxis() == -2
        ? new Unfold.SecondToLastAxis(layer.rows())
        : new Unfold.LastAxis(layer.rows());
  }

  /** Memory that the sums of one layer problem take, in bytes. */
  public static long bytes(Layer layer) {
    return Double.BYTES * (long) layer.cols() * (layer.cols() + layer.rows());
  }

  /**
   * Adds the samples in one batch.
   *
   * @param input the tensor that the layer reads, row-major; borrowed
   * @param residual of the layer's output tensor, all groups, row-major; borrowed
   */
  public void add(FloatBuffer input, long[] inputShape, FloatBuffer residual, long[] outputShape) {
    int count = inputs.samples(inputShape);
    if (residuals.samples(outputShape) != count) {
      throw new IllegalArgumentException(
          "%d samples in an input of shape %s and %d in an output of shape %s"
              .formatted(
                  count,
                  Arrays.toString(inputShape),
                  residuals.samples(outputShape),
                  Arrays.toString(outputShape)));
    }
    if (shiftGram != null) {
      shiftGram.add(input, inputShape);
    }
    int capacity = Math.min(count, TileGram.capacity(Math.max(rows, cols)));
    Scratch scratch = SCRATCH.get();
    scratch.inputs = Scratch.atLeast(scratch.inputs, capacity * cols);
    scratch.residuals = Scratch.atLeast(scratch.residuals, capacity * rows);
    scratch.product = Scratch.atLeast(scratch.product, rows * cols);
    scratch.sums = Scratch.atLeast(scratch.sums, Math.max(rows, cols));
    for (int done = 0; done < count; done += capacity) {
      int tile = Math.min(capacity, count - done);
      inputs.read(input, inputShape, done, tile, scratch.inputs, 0);
      residuals.read(residual, outputShape, done, tile, scratch.residuals, 0);
      FloatMatrix x = FloatMatrix.of(scratch.inputs, tile, cols);
      if (shiftGram == null) {
        gram.add(x);
      }
      FloatMatrix product = FloatMatrix.of(scratch.product, rows, cols);
      backend.gramTile(FloatMatrix.of(scratch.residuals, tile, rows), x, product);
      cross.add(product);
      addRows(scratch.inputs, tile, scratch.sums, inputSum);
      addRows(scratch.residuals, tile, scratch.sums, residualSum);
    }
    samples += count;
  }

  /** total += the sum of the first {@code rows} rows of a tile. */
  private static void addRows(float[] tile, int rows, float[] sums, double[] total) {
    int cols = total.length;
    Arrays.fill(sums, 0, cols, 0f);
    for (int row = 0; row < rows; row++) {
      int at = row * cols;
      for (int i = 0; i < cols; i++) {
        sums[i] += tile[at + i];
      }
    }
    for (int i = 0; i < cols; i++) {
      total[i] += sums[i];
    }
  }

  /** What was added; afterwards this is spent. */
  public Sums finish() {
    return new Sums(
        rows,
        cols,
        samples,
        shiftGram != null
            ? shiftGram.finish().values()
            : inputs.gramInLayerOrder(gram.finish().values()),
        inputs.columnsInLayerOrder(cross.data()),
        inputs.columnsInLayerOrder(inputSum),
        residualSum);
  }

  /**
   * Sums over samples, not centred.
   *
   * @param gram Σ x xᵀ, [cols, cols], both triangles
   * @param cross Σ r xᵀ, [rows, cols]
   * @param input Σ x, [cols]
   * @param residual Σ r, [rows]
   */
  @SuppressWarnings("ArrayRecordComponent") // large; whoever gets the record owns the arrays
  public record Sums(
      int rows,
      int cols,
      long samples,
      double[] gram,
      double[] cross,
      double[] input,
      double[] residual) {

    /** Sums of the same values in other arrays. */
    public Sums copy() {
      return new Sums(
          rows, cols, samples, gram.clone(), cross.clone(), input.clone(), residual.clone());
    }

    /** Adds the sums over other samples; these arrays change. */
    public Sums plus(Sums other) {
      add(gram, other.gram);
      add(cross, other.cross);
      add(input, other.input);
      add(residual, other.residual);
      return new Sums(rows, cols, samples + other.samples, gram, cross, input, residual);
    }

    private static void add(double[] to, double[] addend) {
      for (int i = 0; i < to.length; i++) {
        to[i] += addend[i];
      }
    }
  }
}
