package org.taco4j.runtime;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorInfo;

/**
 * The one image input of a classifier.
 *
 * @param name name of the input tensor
 * @param batch images per run where the model fixes it, else -1
 * @param channelsLast whether the layout is NHWC, not NCHW
 * @param height image height in pixels, -1 where the model takes any
 * @param width image width in pixels, -1 where the model takes any
 */
public record ModelInput(String name, int batch, boolean channelsLast, int height, int width) {

  /**
   * Reads the input's layout off its shape.
   *
   * @throws TacoException of kind MODEL when the model has not one float input of rank 4 with three
   *     channels
   */
  public static ModelInput of(OnnxModel model) {
    List<TensorInfo> inputs = model.inputs();
    if (inputs.size() != 1) {
      throw TacoException.model(
          model.source()
              + ": a classifier with one image input is needed; this model has "
              + inputs.size()
              + " inputs: "
              + inputs.stream().map(TensorInfo::name).toList());
    }
    TensorInfo input = inputs.getFirst();
    if (!input.rankKnown()) {
      throw TacoException.model(
          model.source()
              + ": input '"
              + input.name()
              + "' has no shape; export the model with an input shape such as [N, 3, 224, 224]");
    }
    List<Long> shape = input.shape();
    boolean first = shape.size() == 4 && (shape.get(1) == 3 || shape.get(1) == -1);
    boolean last = shape.size() == 4 && shape.get(3) == 3 && shape.get(1) != 3;
    if (!first && !last) {
      throw TacoException.model(
          model.source()
              + ": input '"
              + input.name()
              + "' has shape "
              + shape
              + "; RGB images need [N, 3, H, W] or [N, H, W, 3]");
    }
    if (!input.elementType().equals("FLOAT")) {
      throw TacoException.model(
          model.source()
              + ": input '"
              + input.name()
              + "' is of type "
              + input.elementType()
              + "; FLOAT is needed");
    }
    return new ModelInput(
        input.name(),
        Math.toIntExact(shape.get(0)),
        last,
        Math.toIntExact(shape.get(last ? 1 : 2)),
        Math.toIntExact(shape.get(last ? 2 : 3)));
  }

  /**
   * Images per run for streaming work: what the model fixes, or about as many as make 100,000
   * pixels, 64 at most. It depends on nothing else, so that results repeat.
   */
  public int batchSize(int imageHeight, int imageWidth) {
    return batch > 0 ? batch : Math.clamp(100_352 / ((long) imageHeight * imageWidth), 1, 64);
  }

  /**
   * The shape of the leading part of a tensor, row-major, that belongs to the images of a run: all
   * of it, unless the model's fixed batch had to be filled.
   *
   * @param tensor its name, for the error
   * @param shape of the whole tensor; not changed
   * @param count how many images {@link #feed} was given
   * @throws TacoException of kind MODEL when the tensor has no axis that runs along the images
   *     first
   */
  public long[] leading(String tensor, long[] shape, int count) {
    if (batch <= count) {
      return shape;
    }
    if (shape.length == 0 || shape[0] % batch != 0) {
      throw TacoException.model(
          "tensor "
              + tensor
              + " has shape "
              + Arrays.toString(shape)
              + ", which does not divide into the model's fixed batch of "
              + batch
              + "; use a number of calibration images that it divides");
    }
    long[] leading = shape.clone();
    leading[0] = shape[0] / batch * count;
    return leading;
  }

  /**
   * The input of one run; the caller closes the tensor.
   *
   * @param images preprocessed images, one after the other; at least {@code count}
   * @param count how many; a model with a fixed batch gets the last one again to fill it
   * @param imageShape shape of a batch of one image, in this input's layout
   */
  public Map<String, Tensor> feed(float[] images, int count, long[] imageShape) {
    int image = Math.toIntExact(imageShape[1] * imageShape[2] * imageShape[3]);
    int rows = Math.max(batch, count);
    float[] data = images;
    if (rows > count) {
      data = Arrays.copyOf(images, rows * image);
      for (int i = count; i < rows; i++) {
        System.arraycopy(images, (count - 1) * image, data, i * image, image);
      }
    }
    return Map.of(name, Tensor.ofFloats(data, rows, imageShape[1], imageShape[2], imageShape[3]));
  }
}
