package org.taco4j;

import java.util.Locale;
import org.taco4j.data.Preprocessing;
import org.taco4j.data.Preprocessing.Resize;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorInfo;
import org.taco4j.report.RunReport;

/** How to feed a specialist, as its report says it. */
final class ModelContract {
  private ModelContract() {}

  static RunReport.Contract of(Preprocessing preprocessing, OnnxModel specialist) {
    TensorInfo input = specialist.inputs().getFirst();
    return new RunReport.Contract(
        input.name(),
        input.shape(),
        specialist.outputs().getFirst().name(),
        preprocessing.cropWidth(),
        preprocessing.cropHeight(),
        resize(preprocessing.resize()),
        preprocessing.directBelow(),
        lower(preprocessing.filter()),
        preprocessing.mean(),
        preprocessing.std(),
        lower(preprocessing.order()),
        lower(preprocessing.layout()));
  }

  /** As the option takes it. */
  private static String resize(Resize resize) {
    return switch (resize) {
      case Resize.ShortSide side -> String.valueOf(side.pixels());
      case Resize.Exact exact -> exact.width() + "x" + exact.height();
      case Resize.None none -> "none";
    };
  }

  private static String lower(Enum<?> value) {
    return value.name().toLowerCase(Locale.ROOT);
  }
}
