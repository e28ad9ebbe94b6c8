package org.taco4j.compute.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/**
 * What of CUDA this machine has, found out one library after the other: any of them may be missing,
 * and each absence has its reason. No class of the bindings is touched before the driver has shown
 * that it has a device, as a binding that once failed to load stays broken for the life of the JVM.
 */
public final class CudaProbe {
  /** The lowest driver that the bindings' CUDA 13 runs on, as cuDriverGetVersion says it. */
  static final int LEAST_DRIVER = 13000;

  private static final int NAME_BYTES = 256;
  private static final int SUCCESS = 0;
  private static final int STUB_LIBRARY = 34;
  private static final int NO_DEVICE = 100;
  private static final int MAJOR = 75; // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
  private static final int MINOR = 76;

  /** The oldest GPUs that kernels are compiled for: T4. */
  static final int LEAST_CAPABILITY = 75;

  private CudaProbe() {}

  /**
   * One part of CUDA.
   *
   * @param name {@code driver}, {@code device}, {@code kernels}, {@code cudart}, {@code cuBLAS} or
   *     {@code cuSOLVER}
   * @param available whether it can be used
   * @param detail its version or the like; or why it cannot be used, and what to do
   */
  public record Part(String name, boolean available, String detail) {}

  /**
   * A GPU.
   *
   * @param ordinal its number in CUDA's order
   * @param name such as Tesla T4
   * @param capability 10 times the compute capability: 75
   */
  public record Gpu(int ordinal, String name, int capability) {
    @Override
    public String toString() {
      return "GPU %d (%s, sm_%d)".formatted(ordinal, name, capability);
    }
  }

  /**
   * What was found. Libraries that were not looked for, as there is no GPU or no kernel, are not
   * listed.
   *
   * @param parts in the order in which they were looked for
   * @param gpus those of a kind that kernels are compiled for
   */
  public record Findings(List<Part> parts, List<Gpu> gpus) {
    /** Why there is no CUDA backend; empty where there can be one. */
    public String obstacle() {
      return parts.stream()
          .filter(part -> !part.available() && !isOptional(part))
          .findFirst()
          .map(Part::detail)
          .orElse("");
    }

    /** Whether a part is there. */
    public boolean has(String name) {
      return part(name).map(Part::available).orElse(false);
    }

    /** A part, where it was looked for. */
    public Optional<Part> part(String name) {
      return parts.stream().filter(part -> part.name().equals(name)).findFirst();
    }

    /** Our own kernels stand in for these two. */
    private static boolean isOptional(Part part) {
      return part.name().equals("cuBLAS") || part.name().equals("cuSOLVER");
    }
  }

  /** Looks. Costs a failed search for the driver's library where there is none. */
  public static Findings examine() {
    List<Part> parts = new ArrayList<>();
    List<Gpu> gpus = new ArrayList<>();
    boolean device = driver(parts) && device(parts, gpus);
    boolean kernels = kernels(parts);
    if (device && kernels && cudart(parts)) {
      // What others need comes first. Of the functions that need no handle.
      boolean blas =
          library(
              parts,
              "cuBLAS",
              List.of("cublasLt", "cublas"),
              () -> version(org.bytedeco.cuda.global.cublas::cublasGetProperty));
      if (blas) {
        library(
            parts,
            "cuSOLVER",
            List.of("nvJitLink", "cusparse", "cusolver", "cusolverMg"),
            () -> version(org.bytedeco.cuda.global.cusolver::cusolverGetProperty));
      } else {
        parts.add(new Part("cuSOLVER", false, "cuSOLVER needs cuBLAS"));
      }
    }
    return new Findings(List.copyOf(parts), List.copyOf(gpus));
  }

  /** The driver's library, in the words of the system. */
  private static boolean driver(List<Part> parts) {
    if (isMac()) {
      parts.add(new Part("driver", false, "there is no CUDA for macOS"));
      return false;
    }
    boolean found = find(driverName()).isPresent();
    parts.add(
        new Part(
            "driver",
            found,
            found
                ? driverName()
                : "no NVIDIA driver: %s is not on the library path; install the driver, 580 or newer; in a container, start that with --gpus all"
                    .formatted(driverName())));
    return found;
  }

  private static boolean device(List<Part> parts, List<Gpu> gpus) {
    String obstacle;
    String detail = "";
    try (Arena arena = Arena.ofConfined()) {
      SymbolLookup library = find(driverName()).orElseThrow();
      MemorySegment out = arena.allocate(JAVA_INT);
      int code = call(library, "cuInit", 0);
      if (code == NO_DEVICE) {
        obstacle = noGpu();
      } else if (code == STUB_LIBRARY) {
        obstacle =
            "%s is the toolkit's stub to link with, not the driver's: take its folder off the library path"
                .formatted(driverName());
      } else if (code != SUCCESS) {
        obstacle =
            "the NVIDIA driver does not start: cuInit returned %d%s; nvidia-smi should say the same, and a restart helps after an update of the driver"
                .formatted(code, errorName(library, code, arena));
      } else {
        require(call(library, "cuDriverGetVersion", out), "cuDriverGetVersion");
        int version = out.get(JAVA_INT, 0);
        detail = "driver for CUDA %d.%d".formatted(version / 1000, version % 1000 / 10);
        obstacle =
            version < LEAST_DRIVER
                ? "the NVIDIA driver is for CUDA %d.%d; 13.0 or newer (580 or newer) is needed"
                    .formatted(version / 1000, version % 1000 / 10)
                : gpus(library, gpus, out, arena);
      }
    } catch (IllegalStateException e) {
      obstacle = "the NVIDIA driver does not answer: " + e.getMessage();
    }
    if (obstacle.isEmpty()) {
      detail = String.join(", ", gpus.stream().map(Gpu::toString).toList()) + "; " + detail;
    }
    parts.add(new Part("device", obstacle.isEmpty(), obstacle.isEmpty() ? detail : obstacle));
    return obstacle.isEmpty();
  }

  /** Lists the GPUs that serve; returns why there is none, or nothing. */
  private static String gpus(SymbolLookup library, List<Gpu> gpus, MemorySegment out, Arena arena) {
    require(call(library, "cuDeviceGetCount", out), "cuDeviceGetCount");
    int count = out.get(JAVA_INT, 0);
    MemorySegment name = arena.allocate(NAME_BYTES);
    List<String> tooOld = new ArrayList<>();
    for (int ordinal = 0; ordinal < count; ordinal++) {
      require(call(library, "cuDeviceGet", out, ordinal), "cuDeviceGet");
      int device = out.get(JAVA_INT, 0);
      require(call(library, "cuDeviceGetName", name, NAME_BYTES, device), "cuDeviceGetName");
      require(call(library, "cuDeviceGetAttribute", out, MAJOR, device), "cuDeviceGetAttribute");
      int capability = 10 * out.get(JAVA_INT, 0);
      require(call(library, "cuDeviceGetAttribute", out, MINOR, device), "cuDeviceGetAttribute");
      capability += out.get(JAVA_INT, 0);
      Gpu gpu = new Gpu(ordinal, name.getString(0, StandardCharsets.UTF_8), capability);
      if (capability >= LEAST_CAPABILITY) {
        gpus.add(gpu);
      } else {
        tooOld.add(gpu.toString());
      }
    }
    if (!gpus.isEmpty()) {
      return "";
    }
    return tooOld.isEmpty()
        ? noGpu()
        : "%s: kernels are compiled for sm_%d and newer"
            .formatted(String.join(", ", tooOld), LEAST_CAPABILITY);
  }

  private static String noGpu() {
    String visible = System.getenv("CUDA_VISIBLE_DEVICES");
    return "the NVIDIA driver is there but sees no GPU (nvidia-smi shows what it sees%s)"
        .formatted(visible == null ? "" : "; CUDA_VISIBLE_DEVICES is '" + visible + "'");
  }

  /** The name of a code, in brackets; nothing where the driver has none for it. */
  private static String errorName(SymbolLookup library, int code, Arena arena) {
    if (library.find("cuGetErrorName").isEmpty()) {
      return "";
    }
    MemorySegment out = arena.allocate(ADDRESS);
    if (call(library, "cuGetErrorName", code, out) != SUCCESS
        || out.get(ADDRESS, 0).equals(MemorySegment.NULL)) {
      return "";
    }
    MemorySegment name = out.get(ADDRESS, 0).reinterpret(NAME_BYTES);
    return " (%s)".formatted(name.getString(0, StandardCharsets.UTF_8));
  }

  /** What nvcc has made of cuda-kernels. */
  private static boolean kernels(List<Part> parts) {
    boolean found = CudaProbe.class.getResource(CudaModules.resource("fill")) != null;
    parts.add(
        new Part(
            "kernels",
            found,
            found
                ? "compiled for sm_75, sm_80, sm_86, sm_89, sm_90 and newer"
                : "this taco4j was built without nvcc and has no CUDA kernels; put nvcc 12.4 or"
                    + " newer on PATH and build again"));
    return found;
  }

  private static boolean cudart(List<Part> parts) {
    return library(
        parts,
        "cudart",
        List.of("cudart"),
        () -> {
          int[] version = new int[1];
          // Of the driver's functions, which this binding has too.
          require(org.bytedeco.cuda.global.cudart.cuDriverGetVersion(version), "cudart");
          return "loaded";
        });
  }

  /** A call that shows that a library works, and what to say of it. */
  @FunctionalInterface
  private interface Trial {
    String run();
  }

  /** Of a libraryPropertyType: 0 for the major version, 1 for the minor, 2 for the patch level. */
  @FunctionalInterface
  private interface Property {
    int get(int which, int[] value);
  }

  private static String version(Property property) {
    int[] value = new int[1];
    List<String> numbers = new ArrayList<>();
    for (int which = 0; which < 3; which++) {
      require(property.get(which, value), "its version");
      numbers.add(String.valueOf(value[0]));
    }
    return "version " + String.join(".", numbers);
  }

  /**
   * A library of the toolkit: its file and those it needs are opened first, from the toolkit's
   * folder where the loader does not know it, so that the binding finds them open.
   *
   * @return whether it can be used
   */
  private static boolean library(
      List<Part> parts, String name, List<String> libraries, Trial trial) {
    List<String> missing =
        libraries.stream().map(CudaProbe::fileName).filter(file -> !opens(file)).toList();
    String obstacle;
    try {
      parts.add(new Part(name, true, trial.run()));
      return true;
    } catch (LinkageError | IllegalStateException e) {
      obstacle =
          missing.isEmpty()
              ? reason(e)
              : "no %s on the library path, nor under CUDA_HOME or /usr/local/cuda"
                  .formatted(String.join(", ", missing));
    }
    parts.add(
        new Part(
            name,
            false,
            "%s does not load: %s; install the CUDA 13 toolkit, or set CUDA_HOME to it"
                .formatted(name, obstacle)));
    return false;
  }

  /** Of a binding that did not load, now or when it was touched first. */
  private static String reason(Throwable e) {
    Throwable first = e;
    while (first.getCause() != null) {
      first = first.getCause();
    }
    return String.valueOf(first.getMessage()).lines().findFirst().orElse(first.toString());
  }

  /** The file of a library of CUDA 13: not all of them count as the toolkit does. */
  private static String fileName(String library) {
    String version =
        switch (library) {
          case "cusolver", "cusolverMg", "cusparse" -> "12";
          default -> "13";
        };
    if (!isWindows()) {
      return "lib%s.so.%s".formatted(library, version);
    }
    return library.equals("nvJitLink")
        ? "nvJitLink_130_0.dll"
        : "%s64_%s.dll".formatted(library, version);
  }

  /** {@link #opens(String, String)} in the toolkit's places alone. */
  private static boolean opens(String file) {
    return opens(file, /* home= */ null);
  }

  /**
   * Opens a library for good, from the loader's places or a folder of the toolkit, so that bindings
   * which need it find it open; whether it could be.
   *
   * @param file its name, such as libcudart.so.13
   * @param home where a product beside the toolkit is installed, which is looked at first; null for
   *     none
   */
  public static boolean opens(String file, @Nullable String home) {
    return find(file).isPresent()
        || libraryFolders(home)
            .map(folder -> folder.resolve(file))
            .anyMatch(path -> Files.exists(path) && find(path.toString()).isPresent());
  }

  private static Stream<Path> libraryFolders(@Nullable String home) {
    List<String> folders =
        isWindows()
            ? List.of("bin/x64", "bin")
            : List.of("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib");
    return Stream.of(
            home,
            System.getenv("CUDA_HOME"),
            System.getenv("CUDA_PATH"),
            "/usr/local/cuda",
            "/usr/local/cuda-13")
        .filter(place -> place != null && !place.isBlank())
        .flatMap(place -> folders.stream().map(folder -> Path.of(place, folder)));
  }

  private static boolean isWindows() {
    return System.getProperty("os.name").startsWith("Windows");
  }

  private static boolean isMac() {
    return System.getProperty("os.name").toLowerCase(Locale.ROOT).contains("mac");
  }

  private static String driverName() {
    return isWindows() ? "nvcuda.dll" : "libcuda.so.1";
  }

  private static Optional<SymbolLookup> find(String library) {
    try {
      return Optional.of(SymbolLookup.libraryLookup(library, Arena.global()));
    } catch (IllegalArgumentException e) {
      return Optional.empty(); // that is its way to say that there is no such library
    }
  }

  /** Calls a function of the driver whose arguments are ints and pointers, and returns its code. */
  private static int call(SymbolLookup library, String function, Object... arguments) {
    MemorySegment symbol =
        library
            .find(function)
            .orElseThrow(() -> new IllegalStateException("it has no function " + function));
    java.lang.foreign.MemoryLayout[] layouts =
        Stream.of(arguments)
            .map(argument -> argument instanceof Integer ? JAVA_INT : ADDRESS)
            .toArray(java.lang.foreign.MemoryLayout[]::new);
    MethodHandle handle =
        Linker.nativeLinker().downcallHandle(symbol, FunctionDescriptor.of(JAVA_INT, layouts));
    try {
      return (int) handle.invokeWithArguments(arguments);
    } catch (Throwable e) {
      throw new IllegalStateException(function + ": " + e, e);
    }
  }

  private static void require(int code, String what) {
    if (code != SUCCESS) {
      throw new IllegalStateException(what + " returned " + code);
    }
  }
}
