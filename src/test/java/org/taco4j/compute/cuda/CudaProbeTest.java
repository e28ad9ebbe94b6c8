package org.taco4j.compute.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backends;
import org.taco4j.compute.ChildJvm;

/**
 * Each state that a machine's CUDA can be in, in a JVM of its own, as a library that is open and a
 * binding that has failed stay so. What is there is a folder of the fake libraries on the loader's
 * path; what is missing is left out of it, what is broken is another library under its name.
 */
class CudaProbeTest {
  private static final Path FAKES = Path.of("target", "cmake", "tests", "fake-cuda");
  private static final List<String> FLAGS =
      List.of("--add-modules=jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED");

  @TempDir Path folder;

  @BeforeAll
  static void isWithoutGpu() {
    assumeFalse(FakeCuda.ON_GPU, "the machine has a CUDA of its own");
    assumeTrue(Files.exists(FAKES.resolve("libcuda.so.1")), "no fake CUDA was built");
  }

  /** Prints the parts, and what comes of asking for the backend. */
  static final class Prober {
    private Prober() {}

    public static void main(String[] args) {
      for (CudaProbe.Part part : CudaProbe.examine().parts()) {
        System.out.println(
            "%s %s: %s"
                .formatted(part.name(), part.available() ? "found" : "missing", part.detail()));
      }
      // A binding that has failed once fails in another way the next time.
      String obstacle = CudaProbe.examine().obstacle();
      System.out.println("obstacle: " + obstacle);
      try (Workers workers = new Workers(1);
          var backend = Backends.choose("cuda", workers).backend()) {
        System.out.println("chosen: " + backend.description());
        System.out.println("caveat: " + backend.caveat());
      } catch (TacoException e) {
        System.out.println("refused: " + e.getMessage());
        System.exit(e.kind().exitCode());
      }
    }
  }

  /** The fake libraries but these. */
  private void libraries(Set<String> without) throws IOException {
    try (Stream<Path> files = Files.list(FAKES)) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        if (!without.contains(file.getFileName().toString())) {
          Files.copy(file, folder.resolve(file.getFileName()));
        }
      }
    }
  }

  /** A library under the name of another. */
  private void disguise(String library, String as) throws IOException {
    Files.copy(FAKES.resolve(library), folder.resolve(as), StandardCopyOption.REPLACE_EXISTING);
  }

  private ChildJvm.Result probe(String... settings) {
    return probe(entry -> entry, settings);
  }

  private ChildJvm.Result probe(
      java.util.function.UnaryOperator<String> classPath, String... settings) {
    Map<String, String> environment = new TreeMap<>();
    environment.put("LD_LIBRARY_PATH", folder.toString());
    environment.put("CUDA_HOME", folder.toString());
    environment.put("CUDA_PATH", folder.toString());
    for (String setting : settings) {
      String[] parts = setting.split("=", 2);
      environment.put(parts[0], parts[1]);
    }
    return ChildJvm.run(Prober.class, FLAGS, environment, classPath);
  }

  private static void refuses(ChildJvm.Result result, String reason) {
    assertEquals(TacoException.Kind.RUNTIME.exitCode(), result.exitCode(), result.output());
    assertTrue(
        result
            .output()
            .lines()
            .anyMatch(
                line ->
                    line.startsWith("refused: backend cuda is not available: ")
                        && line.contains(reason)),
        result.output());
  }

  @Test
  void noDriver() throws IOException {
    assumeFalse(
        Stream.of("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/lib/wsl/lib")
            .anyMatch(library -> Files.exists(Path.of(library, "libcuda.so.1"))),
        "there is a driver");
    Path classes = folder.resolve("classes.log");
    ChildJvm.Result result =
        ChildJvm.run(
            Prober.class,
            Stream.concat(FLAGS.stream(), Stream.of("-Xlog:class+load:file=" + classes)).toList(),
            Map.of("LD_LIBRARY_PATH", folder.toString()));
    refuses(
        result,
        "no NVIDIA driver: libcuda.so.1 is not on the library path; install the driver, 580 or newer");
    assertTrue(result.output().contains("driver missing: no NVIDIA driver"), result.output());
    assertTrue(result.output().contains("kernels found"), result.output());
    assertFalse(result.output().contains("cudart"), "not looked for: " + result.output());
    String loaded = Files.readString(classes);
    assertTrue(loaded.contains("org.taco4j.compute.cuda.CudaProbe"), "the log is one");
    assertFalse(loaded.contains("org.bytedeco.cuda"), "no class of the bindings was touched");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "TACO4J_FAKE_CUDA_DEVICES=0 | the NVIDIA driver is there but sees no GPU",
        "TACO4J_FAKE_CUDA_INIT=34 | libcuda.so.1 is the toolkit's stub",
        "TACO4J_FAKE_CUDA_INIT=999 | cuInit returned 999 (CUDA_ERROR_UNKNOWN)",
        "TACO4J_FAKE_CUDA_INIT=12345 | cuInit returned 12345;",
        "TACO4J_FAKE_CUDA_DRIVER=12080 | driver is for CUDA 12.8; 13.0 or newer (580 or newer)",
        "TACO4J_FAKE_CUDA_CAPABILITY=70 | sm_70): kernels are compiled for sm_75 and newer",
      })
  void driverWithoutAGpuThatServes(String setting, String reason) throws IOException {
    libraries(Set.of());
    ChildJvm.Result result = probe(setting);
    refuses(result, reason);
    assertTrue(result.output().contains("driver found: libcuda.so.1"), result.output());
    assertTrue(result.output().contains("device missing: "), result.output());
  }

  @Test
  void noGpuThatIsVisible() throws IOException {
    libraries(Set.of());
    refuses(
        probe("TACO4J_FAKE_CUDA_DEVICES=0", "CUDA_VISIBLE_DEVICES=3"),
        "CUDA_VISIBLE_DEVICES is '3'");
  }

  @Test
  void someLibraryThatIsNoDriver() throws IOException {
    disguise("libcudart.so.13", "libcuda.so.1");
    refuses(probe(), "the NVIDIA driver does not answer: it has no function cuInit");
  }

  @Test
  void cudartDoesNotLoad() throws IOException {
    libraries(Set.of());
    disguise("libnvJitLink.so.13", "libcudart.so.13");
    ChildJvm.Result result = probe();
    refuses(result, "cudart does not load: ");
    assertTrue(result.output().contains("install the CUDA 13 toolkit"), result.output());
    assertFalse(result.output().contains("cuBLAS"), "not looked for: " + result.output());
    assertFalse(
        result.output().contains("Could not initialize class"),
        "the reason is that of the first time: " + result.output());
  }

  /** Whether a toolkit is where the bindings find it, whatever the environment says. */
  private static boolean isInstalled(String library) {
    return Stream.of("/usr/local/cuda/lib64", "/usr/local/cuda-13.1/lib64", "/usr/lib64")
        .anyMatch(path -> Files.exists(Path.of(path, library)));
  }

  @ParameterizedTest
  @CsvSource({"libcudart.so.13, cudart", "libcublas.so.13, cuBLAS", "libcusolver.so.12, cuSOLVER"})
  void aLibraryIsMissing(String library, String part) throws IOException {
    assumeFalse(isInstalled(library), library + " is installed");
    libraries(Set.of(library));
    ChildJvm.Result result = probe();
    String detail =
        "%s does not load: no %s on the library path, nor under CUDA_HOME or /usr/local/cuda; install the CUDA 13 toolkit"
            .formatted(part, library);
    assertTrue(result.output().contains(part + " missing: " + detail), result.output());
    if (part.equals("cudart")) {
      refuses(result, detail);
    } else {
      runsWithout(result, part);
    }
  }

  @ParameterizedTest
  @CsvSource({"libcublas.so.13, cuBLAS", "libcusolver.so.12, cuSOLVER"})
  void aLibraryIsBroken(String library, String part) throws IOException {
    libraries(Set.of());
    disguise("libnvJitLink.so.13", library);
    ChildJvm.Result result = probe();
    assertTrue(result.output().contains(part + " missing: " + part), result.output());
    runsWithout(result, part);
  }

  /** The kernels are there without it, and the description says so. */
  private static void runsWithout(ChildJvm.Result result, String part) {
    assertEquals(0, result.exitCode(), result.output());
    assertTrue(result.output().lines().anyMatch("obstacle: "::equals), result.output());
    assertTrue(result.output().contains("(no " + part + ")"), result.output());
    assertTrue(
        result.output().contains(part.equals("cuBLAS") ? "cuSOLVER needs cuBLAS" : "cuBLAS found"),
        result.output());
  }

  @Test
  void kernelsAreNotBuilt() throws IOException {
    libraries(Set.of());
    Path classes = Path.of("target", "classes").toAbsolutePath();
    Path without = Files.createDirectories(Path.of("target", "without-kernels").toAbsolutePath());
    Path link = without.resolve("org");
    if (!Files.exists(link)) {
      Files.createSymbolicLink(link, classes.resolve("org"));
    }
    // The fake's are on the tests' class path, where there are no others.
    ChildJvm.Result result =
        probe(
            entry ->
                entry.contains(FAKES.getFileName().toString())
                    ? null
                    : Path.of(entry).equals(classes) ? without.toString() : entry);
    refuses(result, "this taco4j was built without nvcc and has no CUDA kernels; put nvcc");
    assertTrue(result.output().contains("device found: GPU 0"), result.output());
  }

  @Test
  void everythingIsThere() throws IOException {
    libraries(Set.of());
    ChildJvm.Result result = probe("TACO4J_FAKE_CUDA_DEVICES=2", "TACO4J_FAKE_CUDA_CAPABILITY=90");
    assertEquals(0, result.exitCode(), result.output());
    for (String part : List.of("driver", "device", "kernels", "cudart", "cuBLAS", "cuSOLVER")) {
      assertTrue(result.output().contains(part + " found: "), result.output());
    }
    assertTrue(result.output().contains("cuBLAS found: version 13.0.0"), result.output());
    assertTrue(
        result.output().lines().anyMatch(line -> line.startsWith("chosen: cuda: GPU 0 (")),
        result.output());
    assertTrue(result.output().contains("sm_90), GPU 1 ("), result.output());
    assertEquals(
        !Verification.isDone(), result.output().contains("kernels not yet verified on a GPU"));
    assertEquals(!Verification.isDone(), result.output().contains("caveat: the CUDA kernels"));
  }
}
