package org.taco4j;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backends;
import org.taco4j.compute.cuda.CudaProbe;
import org.taco4j.compute.cuda.Verification;
import org.taco4j.report.RunReport;
import org.taco4j.runtime.Session;
import org.taco4j.runtime.tensorrt.TensorRtProbe;

/**
 * What this machine has: for reports and for {@code taco doctor}.
 *
 * @param taco version of taco4j
 * @param onnxRuntime version of ONNX Runtime
 * @param onnxRuntimeProviders what this build of it can run models on: {@code CPU}, and more in
 *     that for GPUs, whether or not there is one
 * @param machine the machine and the backend that would be chosen
 * @param maxHeapBytes heap that the JVM may use
 * @param cpuFeatures SIMD extensions that the operating system reports; empty where it does not
 * @param operators the library of sparse operators
 * @param cuda what there is of CUDA
 * @param tensorRt what there is of TensorRT
 */
public record Doctor(
    String taco,
    String onnxRuntime,
    List<String> onnxRuntimeProviders,
    RunReport.Machine machine,
    long maxHeapBytes,
    List<String> cpuFeatures,
    Operators operators,
    Gpus cuda,
    TensorRt tensorRt) {

  /**
   * CUDA, part by part.
   *
   * @param available whether {@code --backend cuda} can be had
   * @param parts what was looked for, in its order; what comes after a missing part that all else
   *     needs was not looked for
   * @param gpus those of a kind that the kernels are compiled for
   * @param kernels what they have been verified on
   */
  public record Gpus(
      boolean available, List<CudaProbe.Part> parts, List<CudaProbe.Gpu> gpus, String kernels) {}

  /**
   * TensorRT, part by part.
   *
   * @param available whether {@code bench --runtime tensorrt} can be had
   * @param parts what was looked for, in its order; what comes after a missing part that all else
   *     needs was not looked for
   */
  public record TensorRt(boolean available, List<TensorRtProbe.Part> parts) {}

  /**
   * The library of sparse operators for ONNX Runtime.
   *
   * @param available whether there is one for this platform
   * @param instructionSets that it has kernels for and this processor runs, best first
   * @param build of the library; null without one
   * @param table file of the times measured on one thread; null without a library
   * @param timedLayers layers in that file; 0 where there is none, or it is of another version
   */
  public record Operators(
      boolean available,
      List<String> instructionSets,
      @Nullable String build,
      @Nullable String table,
      int timedLayers) {}

  /** Extensions worth naming: those that the kernels here or in the runtimes use. */
  private static final List<String> FEATURES =
      List.of(
          "sse4_2",
          "avx",
          "avx2",
          "fma",
          "f16c",
          "avx512f",
          "avx512bw",
          "avx512vl",
          "avx_vnni",
          "avx512_vnni",
          "avx512_bf16",
          "amx_tile",
          "asimd",
          "asimddp",
          "sve");

  /** Looks at this machine. */
  public static Doctor examine() {
    try (Workers workers = new Workers(Runtime.getRuntime().availableProcessors())) {
      Backends.Choice choice = Backends.choose("auto", workers);
      CudaProbe.Findings cuda = CudaProbe.examine();
      TensorRtProbe.Findings tensorRt = TensorRtProbe.examine(cuda);
      return new Doctor(
          Taco.version(),
          Session.runtimeVersion(),
          Session.runtimeProviders(),
          machine(choice.backend().description() + "; " + choice.reason()),
          Runtime.getRuntime().maxMemory(),
          readCpuFeatures(),
          SparseRuntime.describe(),
          new Gpus(cuda.obstacle().isEmpty(), cuda.parts(), cuda.gpus(), Verification.describe()),
          new TensorRt(tensorRt.obstacle().isEmpty(), tensorRt.parts()));
    }
  }

  static RunReport.Machine machine(String backend) {
    long memory =
        ManagementFactory.getOperatingSystemMXBean()
                instanceof com.sun.management.OperatingSystemMXBean os
            ? os.getTotalMemorySize()
            : 0;
    return new RunReport.Machine(
        System.getProperty("os.name")
            + " "
            + System.getProperty("os.version")
            + " "
            + System.getProperty("os.arch"),
        cpuInfo("model name").orElse(System.getProperty("os.arch")),
        Runtime.getRuntime().availableProcessors(),
        memory,
        System.getProperty("java.vm.name") + " " + Runtime.version(),
        backend);
  }

  private static List<String> readCpuFeatures() {
    List<String> flags =
        cpuInfo("flags")
            .or(() -> cpuInfo("Features"))
            .map(f -> List.of(f.split(" ")))
            .orElse(List.of());
    return FEATURES.stream().filter(flags::contains).toList();
  }

  /** The first line of that name in Linux' description of the processors. */
  private static Optional<String> cpuInfo(String name) {
    Path file = Path.of("/proc/cpuinfo");
    if (!Files.isReadable(file)) {
      return Optional.empty();
    }
    try {
      return Files.readAllLines(file).stream()
          .filter(line -> line.startsWith(name + "\t") || line.startsWith(name + " "))
          .map(line -> line.substring(line.indexOf(':') + 1).strip())
          .findFirst();
    } catch (IOException e) {
      // Only a description: the machine works without one.
      return Optional.empty();
    }
  }
}
