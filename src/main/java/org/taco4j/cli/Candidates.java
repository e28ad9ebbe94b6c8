package org.taco4j.cli;

import java.util.Iterator;
import java.util.List;
import org.taco4j.Recipes;
import org.taco4j.solve.Solvers;

/**
 * The words that options take, for the completion of the shell: a class for each option, as picocli
 * makes them by class.
 */
abstract class Candidates implements Iterable<String> {
  private final List<String> words;

  Candidates(List<String> words) {
    this.words = words;
  }

  @Override
  public final Iterator<String> iterator() {
    return words.iterator();
  }

  /** Of {@code --solver}. */
  static final class OfSolver extends Candidates {
    OfSolver() {
      super(Solvers.names());
    }
  }

  /** Of {@code --recipe}, which takes files, too. */
  static final class OfRecipe extends Candidates {
    OfRecipe() {
      super(Recipes.names());
    }
  }

  /** Of {@code --tune}. */
  static final class OfTune extends Candidates {
    OfTune() {
      super(List.of("none", "probe", "taco-v1", "taco-tmlr"));
    }
  }

  /** Of {@code --pattern}. */
  static final class OfPattern extends Candidates {
    OfPattern() {
      super(List.of("unstructured", "2:4", "block4", "rows4", "columns"));
    }
  }

  /** Of {@code --schedule}. */
  static final class OfSchedule extends Candidates {
    OfSchedule() {
      super(List.of("one-shot", "gradual", "gmp", "lth"));
    }
  }

  /** Of {@code --pattern} where sparse operators are to gain from it. */
  static final class OfSparsePattern extends Candidates {
    OfSparsePattern() {
      super(List.of("unstructured", "rows4"));
    }
  }

  /** Of {@code --runtime}. */
  static final class OfRuntime extends Candidates {
    OfRuntime() {
      super(List.of("onnxruntime", "taco4j", "tensorrt"));
    }
  }

  /** Of {@code --runtime} of {@code bench}. */
  static final class OfBenchRuntime extends Candidates {
    OfBenchRuntime() {
      super(List.of("onnxruntime", "tensorrt", "onnxruntime-cuda", "onnxruntime-tensorrt"));
    }
  }

  /** Of {@code --precision} of {@code bench}. */
  static final class OfEnginePrecision extends Candidates {
    OfEnginePrecision() {
      super(List.of("fp32", "fp16", "int8"));
    }
  }

  /** Of {@code --misfit}. */
  static final class OfMisfit extends Candidates {
    OfMisfit() {
      super(List.of("error", "dense"));
    }
  }

  /** Of {@code --structures}. */
  static final class OfStructures extends Candidates {
    OfStructures() {
      super(List.of("mlp", "channels", "heads"));
    }
  }

  /** Of {@code --classifier}. */
  static final class OfClassifier extends Candidates {
    OfClassifier() {
      super(List.of("auto", "dense", "prune"));
    }
  }

  /** Of {@code --reconstruct}. */
  static final class OfReconstruct extends Candidates {
    OfReconstruct() {
      super(List.of("sequential", "layerwise"));
    }
  }

  /** Of {@code --correct}. */
  static final class OfCorrect extends Candidates {
    OfCorrect() {
      super(List.of("mean-variance", "none"));
    }
  }

  /** Of {@code --held-out} and {@code --tune-hold-out}. */
  static final class OfAutoOrNone extends Candidates {
    OfAutoOrNone() {
      super(List.of("auto", "none"));
    }
  }

  /** Of {@code --search}. */
  static final class OfSearch extends Candidates {
    OfSearch() {
      super(List.of("none", "swap", "full"));
    }
  }

  /** Of {@code --activation-range}. */
  static final class OfActivationRange extends Candidates {
    OfActivationRange() {
      super(List.of("auto", "minmax", "percentile", "mse"));
    }
  }

  /** Of {@code --refit}. */
  static final class OfRefit extends Candidates {
    OfRefit() {
      super(List.of("ls", "adam"));
    }
  }

  /** Of {@code --precision}. */
  static final class OfPrecision extends Candidates {
    OfPrecision() {
      super(List.of("auto", "float32", "float64"));
    }
  }

  /** Of {@code --preset}. */
  static final class OfPreset extends Candidates {
    OfPreset() {
      super(List.of("imagenet", "imagenet-bicubic", "cifar10", "inception", "raw255", "unit"));
    }
  }

  /** Of {@code --filter}. */
  static final class OfFilter extends Candidates {
    OfFilter() {
      super(List.of("bilinear", "bicubic", "lanczos", "nearest"));
    }
  }

  /** Of {@code --channel-order}. */
  static final class OfChannelOrder extends Candidates {
    OfChannelOrder() {
      super(List.of("rgb", "bgr"));
    }
  }

  /** Of {@code --layout}. */
  static final class OfLayout extends Candidates {
    OfLayout() {
      super(List.of("nchw", "nhwc"));
    }
  }

  /** Of {@code --backend}. */
  static final class OfBackend extends Candidates {
    OfBackend() {
      super(List.of("auto", "simd", "scalar", "cuda"));
    }
  }
}
