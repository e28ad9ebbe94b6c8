package org.taco4j.runtime.tensorrt;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.taco4j.common.TacoException;
import org.taco4j.compute.cuda.CudaProbe;

/**
 * What of TensorRT this machine has, found out one library after the other, each absence with its
 * reason and what to install. The bindings' classes are touched last: they load all of these
 * libraries at once, and one that once failed stays broken for the life of the JVM.
 */
public final class TensorRtProbe {
  /** The bindings are made for this one; others of the same major version have the same ABI. */
  private static final int MAJOR = 10;

  private TensorRtProbe() {}

  /**
   * One part of what TensorRT needs.
   *
   * @param name {@code driver}, {@code device}, {@code CUDA runtime}, ...
   * @param available whether it can be used
   * @param detail its version or the like; or why it cannot be used, and what to do
   */
  public record Part(String name, boolean available, String detail) {}

  /**
   * A library that the bindings load.
   *
   * @param files their names on Linux
   * @param packages what to install, of apt and of pip
   */
  private record Library(String name, List<String> files, String packages) {}

  private static final List<Library> LIBRARIES =
      List.of(
          new Library(
              "CUDA runtime",
              List.of("libcudart.so.13"),
              "CUDA 13 (apt: cuda-cudart-13-1; pip: nvidia-cuda-runtime)"),
          new Library(
              "cuBLAS",
              List.of("libcublasLt.so.13", "libcublas.so.13"),
              "CUDA 13 (apt: libcublas-13-1; pip: nvidia-cublas)"),
          new Library(
              "cuDNN",
              List.of(
                  "libcudnn_graph.so.9",
                  "libcudnn_ops.so.9",
                  "libcudnn_cnn.so.9",
                  "libcudnn_adv.so.9"),
              "cuDNN 9 (apt: libcudnn9-cuda-13; pip: nvidia-cudnn-cu13)"),
          new Library(
              "NVRTC",
              List.of("libnvrtc.so.13"),
              "CUDA 13 (apt: cuda-nvrtc-13-1; pip: nvidia-cuda-nvrtc)"),
          new Library(
              "TensorRT",
              List.of("libnvinfer.so.10"),
              "TensorRT 10.15 for CUDA 13 (apt: libnvinfer10; pip: tensorrt-cu13)"),
          new Library(
              "TensorRT plugins",
              List.of("libnvinfer_plugin.so.10"),
              "TensorRT 10.15 for CUDA 13 (apt: libnvinfer-plugin10; pip: tensorrt-cu13)"),
          new Library(
              "TensorRT's ONNX parser",
              List.of("libnvonnxparser.so.10"),
              "TensorRT 10.15 for CUDA 13 (apt: libnvonnxparsers10; pip: tensorrt-cu13)"));

  /**
   * What was found. Without a driver or a GPU no library was looked for, and without one of these
   * not the bindings: such are not listed.
   *
   * @param parts in the order in which they were looked for
   */
  public record Findings(List<Part> parts) {
    /** Why TensorRT cannot be used; empty where it can. */
    public String obstacle() {
      return missing().stream().findFirst().map(Part::detail).orElse("");
    }

    /** The parts that cannot be used, in their order. */
    public List<Part> missing() {
      return parts.stream().filter(part -> !part.available()).toList();
    }

    /**
     * Throws where TensorRT cannot be used.
     *
     * @throws TacoException of kind RUNTIME with the reason and what to install
     */
    public void require() {
      String obstacle = obstacle();
      if (!obstacle.isEmpty()) {
        int others = missing().size() - 1;
        throw TacoException.runtime(
            "TensorRT cannot be used here: "
                + obstacle
                + (others == 0
                    ? ""
                    : "; %d more are missing, `taco doctor` lists them".formatted(others)));
      }
    }
  }

  /** Looks. Costs a failed search for the driver's library where there is none. */
  public static Findings examine() {
    return examine(CudaProbe.examine());
  }

  /** Looks, where it is known what there is of CUDA. */
  public static Findings examine(CudaProbe.Findings cuda) {
    return examine(cuda, TensorRtProbe::opens, TensorRtProbe::version);
  }

  /**
   * Looks.
   *
   * @param cuda what there is of CUDA; of it the driver and the device count
   * @param opens whether a library of that name can be opened
   * @param binding loads the bindings; their version, or an exception that says why not
   */
  static Findings examine(
      CudaProbe.Findings cuda, Predicate<String> opens, Supplier<Integer> binding) {
    List<Part> parts = new ArrayList<>();
    for (String name : List.of("driver", "device")) {
      CudaProbe.Part part =
          cuda.part(name).orElseGet(() -> new CudaProbe.Part(name, false, cuda.obstacle()));
      parts.add(new Part(name, part.available(), part.detail()));
      if (!part.available()) {
        return new Findings(parts);
      }
    }
    for (Library library : isLinux() ? LIBRARIES : List.<Library>of()) {
      // All of them, so that one message says all that is missing.
      List<String> missing = library.files().stream().filter(opens.negate()).toList();
      if (!missing.isEmpty()) {
        parts.add(
            new Part(
                library.name(),
                false,
                "%s is not on the library path (LD_LIBRARY_PATH, ld.so.conf, CUDA_HOME, TENSORRT_HOME); install %s"
                    .formatted(String.join(", ", missing), library.packages())));
      } else {
        parts.add(new Part(library.name(), true, String.join(", ", library.files())));
      }
    }
    if (parts.stream().allMatch(Part::available)) {
      parts.add(binding(binding));
    }
    return new Findings(parts);
  }

  private static Part binding(Supplier<Integer> binding) {
    try {
      int version = binding.get();
      // 101501 is 10.15.1.
      String text = "%d.%d.%d".formatted(version / 10_000, version / 100 % 100, version % 100);
      return version / 10_000 == MAJOR
          ? new Part("bindings", true, "TensorRT " + text)
          : new Part(
              "bindings",
              false,
              "TensorRT %s is there, the bindings are for TensorRT %d; install 10.15"
                  .formatted(text, MAJOR));
    } catch (LinkageError e) {
      // The first line names the library; what follows is where the loader looked.
      return new Part(
          "bindings",
          false,
          "the bindings to TensorRT do not load: "
              + String.valueOf(e.getMessage()).lines().findFirst().orElse(e.toString()));
    }
  }

  private static int version() {
    // Both, so that a parser that does not load is said here.
    org.bytedeco.tensorrt.global.nvonnxparser.getNvOnnxParserVersion();
    return org.bytedeco.tensorrt.global.nvinfer.getInferLibVersion();
  }

  private static boolean isLinux() {
    return System.getProperty("os.name").toLowerCase(Locale.ROOT).contains("linux");
  }

  /** Opens a library for good, from the loader's places or those of CUDA and TensorRT. */
  private static boolean opens(String file) {
    return CudaProbe.opens(file, System.getenv("TENSORRT_HOME"));
  }
}
