package org.taco4j.cli;

import java.io.PrintWriter;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import org.taco4j.Doctor;
import org.taco4j.compute.cuda.CudaProbe;
import org.taco4j.report.ReportFiles;
import org.taco4j.runtime.tensorrt.TensorRtProbe;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** {@code taco doctor}. */
@Command(
    name = "doctor",
    description = "Say what this machine has: processor, memory, backend, GPUs and versions.",
    mixinStandardHelpOptions = true,
    footer = {"", "Example:", "  ${ROOT-COMMAND-NAME} doctor"})
final class DoctorCommand implements Callable<Integer> {
  @Option(names = "--json", description = "print the result as JSON to standard output")
  boolean json;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    PrintWriter out = Objects.requireNonNull(spec).commandLine().getOut();
    Doctor doctor = Doctor.examine();
    if (json) {
      out.print(ReportFiles.toJson(doctor));
    } else {
      out.printf("taco4j        %s%n", doctor.taco());
      out.printf(
          "ONNX Runtime  %s, %s%n",
          doctor.onnxRuntime(), String.join(", ", doctor.onnxRuntimeProviders()));
      out.printf("Java          %s%n", doctor.machine().java());
      out.printf("system        %s%n", doctor.machine().os());
      out.printf("processor     %s, %d cores%n", doctor.machine().cpu(), doctor.machine().cores());
      out.printf("SIMD          %s%n", String.join(" ", doctor.cpuFeatures()));
      out.printf(
          Locale.ROOT,
          "memory        %.1f GiB, JVM heap up to %.1f GiB%n",
          doctor.machine().memoryBytes() / (double) (1L << 30),
          doctor.maxHeapBytes() / (double) (1L << 30));
      out.printf("backend       %s%n", doctor.machine().backend());
      Doctor.Operators operators = doctor.operators();
      if (operators.available()) {
        out.printf(
            "sparse ops    library %s, kernels for %s%n",
            operators.build(), String.join(", ", operators.instructionSets()));
        out.printf(
            "              %s%n",
            operators.timedLayers() == 0
                ? "no times measured yet: bench --calibrate-ops"
                : operators.timedLayers() + " layers timed, in " + operators.table());
      } else {
        out.println("sparse ops    no library for this platform: such models run densely");
      }
      printCuda(doctor.cuda(), out);
      printTensorRt(doctor.tensorRt(), out);
    }
    out.flush();
    return 0;
  }

  private static void printCuda(Doctor.Gpus cuda, PrintWriter out) {
    out.printf(
        "CUDA          --backend cuda %s; CUDA kernels: %s%n",
        cuda.available() ? "can be used" : "cannot be used", cuda.kernels());
    for (CudaProbe.Part part : cuda.parts()) {
      out.printf(
          "              %-8s  %-7s  %s%n",
          part.name(), part.available() ? "found" : "missing", part.detail());
    }
  }

  /** The version, or what is missing. */
  static void printTensorRt(Doctor.TensorRt tensorRt, PrintWriter out) {
    List<TensorRtProbe.Part> missing =
        tensorRt.parts().stream().filter(part -> !part.available()).toList();
    if (missing.isEmpty()) {
      missing = List.of(tensorRt.parts().getLast());
    }
    out.printf(
        "TensorRT      bench --runtime tensorrt %s: %s%n",
        tensorRt.available() ? "can be used" : "cannot be used", missing.getFirst().detail());
    for (TensorRtProbe.Part part : missing.subList(1, missing.size())) {
      out.printf("              %s%n", part.detail());
    }
  }
}
