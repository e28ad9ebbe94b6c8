package org.taco4j.tune;

import java.util.List;
import org.taco4j.data.ImageFile;
import org.taco4j.data.Preprocessor;
import org.taco4j.onnx.OnnxModel;

/**
 * What to tune.
 *
 * @param teacher the dense model; not changed
 * @param student the compressed model; not changed. It has the teacher's inputs and outputs
 * @param masks weights that stay zero, by layer of the student; layers without one may change all
 *     of theirs
 * @param images the calibration images
 * @param heldOut images that choose the best pass, best such that the compression has not seen:
 *     those that it has flatter the untuned model. Where there are none a quarter of {@code images}
 *     is set aside, if there are enough
 * @param preprocessor makes tensors of images
 */
public record TuneTask(
    OnnxModel teacher,
    OnnxModel student,
    List<LayerMask> masks,
    List<ImageFile> images,
    List<ImageFile> heldOut,
    Preprocessor preprocessor) {
  /** Copies the lists. */
  public TuneTask {
    masks = List.copyOf(masks);
    images = List.copyOf(images);
    heldOut = List.copyOf(heldOut);
  }
}
