package org.taco4j.tune;

import ai.onnx.proto.OnnxMl.TensorProto;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.function.IntPredicate;
import org.junit.jupiter.api.Assumptions;
import org.taco4j.TinyTask;
import org.taco4j.data.ImageFile;
import org.taco4j.data.Preprocessor;
import org.taco4j.execute.TorchGraph;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;

/** What the tests of this package share: tiny tasks, and models made worse. */
final class TuneTests {
  static final Preprocessor PREPROCESSOR = new Preprocessor(TinyTask.preprocessing(false));

  private TuneTests() {}

  /** Skips, saying why, where libtorch cannot be loaded. */
  static void assumeLibTorch() {
    TorchGraph.unavailable().ifPresent(why -> Assumptions.abort("no libtorch: " + why));
  }

  /** Images of {@link TinyTask#images}, class by class. */
  static List<ImageFile> images(Path folder, Path model, int perClass) {
    TinyTask.images(folder, model, perClass);
    List<ImageFile> files = new ArrayList<>();
    for (int c = 0; c < TinyTask.CLASSES; c++) {
      for (int i = 0; i < perClass; i++) {
        files.add(new ImageFile(folder.resolve("c" + c).resolve("i%03d.png".formatted(i)), c));
      }
    }
    return files;
  }

  /** A copy with some weights of each layer but the head set to zero. */
  static OnnxModel pruned(OnnxModel dense, IntPredicate remove) {
    OnnxModel model = dense.copy();
    for (Layer layer : bodyLayers(dense)) {
      float[][] weights = LayerWeights.unfold(model, layer);
      for (float[] group : weights) {
        for (int i = 0; i < group.length; i++) {
          group[i] = remove.test(i) ? 0 : group[i];
        }
      }
      LayerWeights.fold(model, layer, weights);
    }
    return model;
  }

  static List<Layer> bodyLayers(OnnxModel model) {
    return LayerDiscovery.discover(model).stream().filter(l -> !l.name().equals("head")).toList();
  }

  /** A copy with noise added to a stored constant. */
  static OnnxModel noisy(OnnxModel dense, String constant, double size) {
    OnnxModel model = dense.copy();
    TensorProto stored = model.index().stored(constant);
    float[] values = TensorData.floats(stored);
    Random random = new Random(9);
    for (int i = 0; i < values.length; i++) {
      values[i] += (float) (size * random.nextGaussian());
    }
    model.setConstants(java.util.Map.of(constant, TensorData.withFloats(stored, values)));
    return model;
  }

  static float[] floats(OnnxModel model, String constant) {
    return TensorData.floats(model.index().stored(constant));
  }
}
