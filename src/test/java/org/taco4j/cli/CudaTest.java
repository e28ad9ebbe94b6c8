package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.TinyTask;
import org.taco4j.compute.ChildJvm;
import org.taco4j.compute.cuda.CudaProbe;
import org.taco4j.compute.cuda.FakeCuda;
import org.taco4j.compute.cuda.Verification;
import org.taco4j.data.NpyFile;

/** {@code --backend cuda} as users meet it: with a GPU that is a fake, and without any. */
class CudaTest {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final int ROWS = 5;
  private static final int COLS = 24;
  private static final boolean IS_VERIFIED = !Verification.describe().startsWith("not yet");

  @TempDir static Path folder;
  private static Path weights;
  private static Path hessian;
  private static Path model;
  private static Path images;

  @BeforeAll
  static void makeInputs() {
    Random random = new Random(3);
    float[] w = new float[ROWS * COLS];
    for (int i = 0; i < w.length; i++) {
      w[i] = (float) random.nextGaussian();
    }
    float[] h = new float[COLS * COLS];
    for (int i = 0; i < COLS; i++) {
      for (int j = 0; j < COLS; j++) {
        h[i * COLS + j] = (float) Math.pow(0.7, Math.abs(i - j));
      }
    }
    weights = folder.resolve("W.npy");
    hessian = folder.resolve("H.npy");
    NpyFile.write(weights, w, ROWS, COLS);
    NpyFile.write(hessian, h, COLS, COLS);
    model = TinyTask.convNet(folder.resolve("model.onnx"), TinyTask.Input.FREE);
    images = TinyTask.images(folder.resolve("images"), model, 8);
  }

  private static Cli.Result solve(Object... more) {
    return Cli.run(
        Stream.concat(
                Stream.of(
                    "solve",
                    "--weights",
                    weights,
                    "--hessian",
                    hessian,
                    "--sparsity",
                    "0.5",
                    "--threads",
                    "2"),
                Stream.of(more))
            .toArray());
  }

  private static Cli.Result specialize(Path out, Object... more) {
    return Cli.run(
        Stream.concat(
                Stream.of(
                    "specialize",
                    model,
                    "--data",
                    images,
                    "--sparsity",
                    "0.5",
                    "--solver",
                    "fast",
                    "--threads",
                    "2",
                    "--out",
                    out),
                Stream.of(more))
            .toArray());
  }

  @Test
  void withoutAGpuItIsAnErrorThatSaysWhy() {
    String obstacle = CudaProbe.examine().obstacle();
    assumeFalse(obstacle.isEmpty(), "there is a GPU");
    Path out = folder.resolve("none");
    for (Cli.Result result :
        List.of(solve("--backend", "cuda"), specialize(out, "--backend", "cuda"))) {
      assertEquals(7, result.exitCode(), result.err());
      assertTrue(
          result.err().contains("taco: backend cuda is not available: " + obstacle), result.err());
      assertFalse(result.err().contains("internal error"), result.err());
    }
    assertFalse(Files.exists(out.resolve("model.onnx")));
  }

  @ParameterizedTest
  @ValueSource(strings = {"auto", "simd", "scalar"})
  void memoryOfGpusIsForTheirBackend(String backend) {
    for (Cli.Result result :
        List.of(
            solve("--backend", backend, "--gpu-memory", "1g"),
            specialize(folder.resolve("memory"), "--backend", backend, "--gpu-memory", "1g"))) {
      assertEquals(2, result.exitCode(), result.err());
      assertTrue(
          result.err().contains("--gpu-memory is for --backend cuda; the backend is " + backend),
          result.err());
    }
  }

  @Test
  void memoryIsASize() {
    Cli.Result result = solve("--backend", "cuda", "--gpu-memory", "much");
    assertEquals(2, result.exitCode(), result.err());
    assertTrue(result.err().contains("--gpu-memory: 'much' is no memory size"), result.err());
  }

  @Test
  void moreMemoryThanTheGpuHasIsRefused() {
    try (FakeCuda cuda = FakeCuda.load().memory(1L << 30)) {
      Cli.Result result = solve("--backend", "cuda", "--gpu-memory", "2g");
      assertEquals(2, result.exitCode(), result.err());
      assertTrue(
          result.err().contains("--gpu-memory of 2048 MiB is more than the 1024 MiB of GPU 0"),
          result.err());
      assertEquals(0, cuda.liveBytes());
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"fast", "obc", "magnitude"})
  void solvesALayerAsTheProcessorDoes(String solver) throws IOException {
    JsonNode onHost =
        JSON.readTree(solve("--solver", solver, "--json", "--backend", "simd").succeeded().out());
    // What is left on the GPU when the command is over fails the test.
    try (FakeCuda cuda = FakeCuda.load()) {
      Cli.Result result = solve("--solver", solver, "--json", "--backend", "cuda");
      JsonNode onGpu = JSON.readTree(result.succeeded().out());
      assertEquals("cuda", onGpu.path("backend").asText());
      // Ties and rounding may choose another weight among equals.
      double error = onHost.path("layerError").asDouble();
      assertEquals(error, onGpu.path("layerError").asDouble(), 1e-3 * error);
      assertEquals(onHost.path("sparsity").asDouble(), onGpu.path("sparsity").asDouble());
      assertEquals(!IS_VERIFIED, result.err().contains("not yet verified on a GPU"), result.err());
      assertEquals(0, cuda.liveBytes());
    }
  }

  @Test
  void specializesAndSaysOnWhat() throws IOException {
    Path out = folder.resolve("specialist");
    try (FakeCuda cuda = FakeCuda.load()) {
      specialize(out, "--backend", "cuda", "--gpu-memory", "512m").succeeded();
      assertEquals(0, cuda.liveBytes());
    }
    JsonNode report = JSON.readTree(Files.readString(out.resolve("report.json")));
    String backend = report.at("/machine/backend").asText();
    assertTrue(backend.startsWith("cuda: GPU 0 ("), backend);
    assertTrue(backend.endsWith("; cuda was asked for"), backend);
    assertEquals(!IS_VERIFIED, backend.contains("not yet verified on a GPU"), backend);
    assertEquals(
        IS_VERIFIED ? 0 : 1,
        report.path("notices").findValuesAsText("code").stream()
            .filter("backend-unverified"::equals)
            .count());
    String recipe = Files.readString(out.resolve("recipe.resolved.yaml"));
    assertTrue(recipe.contains("backend: cuda\ngpu-memory: 512m\n"), recipe);
    assertTrue(Files.readString(out.resolve("run.log")).contains("backend cuda: GPU 0 ("));
    // The same recipe runs where there is no GPU.
    Cli.Result again =
        Cli.run(
            "specialize",
            "--recipe",
            out.resolve("recipe.resolved.yaml"),
            "--backend",
            "auto",
            "--out",
            folder.resolve("again"));
    again.succeeded();
  }

  @Test
  void aRunThatFailsGivesTheGpuBack() {
    // What is left on the GPU fails the test.
    try (FakeCuda cuda = FakeCuda.load()) {
      Cli.Result result =
          Cli.run(
              "specialize",
              model,
              "--data",
              folder.resolve("nothing"),
              "--sparsity",
              "0.5",
              "--backend",
              "cuda",
              "--out",
              folder.resolve("failed"));
      assertEquals(4, result.exitCode(), result.err());
      assertEquals(0, cuda.liveBytes());
    }
  }

  @Test
  void doctorListsThePartsOfCuda() throws IOException {
    try (FakeCuda cuda = FakeCuda.load()) {
      JsonNode doctor = JSON.readTree(Cli.run("doctor", "--json").succeeded().out()).path("cuda");
      assertTrue(doctor.path("available").asBoolean(), doctor.toString());
      assertEquals(
          List.of("driver", "device", "kernels", "cudart", "cuBLAS", "cuSOLVER"),
          doctor.path("parts").findValuesAsText("name"));
      assertTrue(doctor.at("/gpus/0/capability").asInt() >= 75, doctor.toString());
      assertEquals(Verification.describe(), doctor.path("kernels").asText());
      String text = Cli.run("doctor").succeeded().out();
      assertTrue(
          text.contains("--backend cuda can be used; CUDA kernels: " + Verification.describe()),
          text);
      assertTrue(text.contains("cuSOLVER  found"), text);
      assertTrue(text.contains("backend       simd"), "it is never chosen unasked: " + text);
      assertTrue(cuda.liveBytes() == 0);
    }
  }

  /** The command line in a JVM of its own, with a log of the classes that it loads. */
  private static String classesOf(Object... arguments) throws IOException {
    Path log = Files.createTempFile(folder, "classes", ".log");
    ChildJvm.Result result =
        ChildJvm.run(
            Main.class,
            List.of(
                "--add-modules=jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED",
                "-Xlog:class+load:file=" + log),
            Map.of(),
            Stream.of(arguments).map(Object::toString).toArray(String[]::new));
    assertEquals(0, result.exitCode(), result.output());
    return Files.readString(log);
  }

  @Test
  void nothingOfItIsLoadedUnasked() throws IOException {
    String classes =
        classesOf("solve", "--weights", weights, "--hessian", hessian, "--sparsity", "0.5");
    assertTrue(classes.contains("org.taco4j.compute.Backends"), "the log is one");
    assertFalse(classes.contains("org.bytedeco.cuda"), "no binding of CUDA");
    assertFalse(classes.contains("org.taco4j.compute.cuda.CudaProbe"), "nobody looks for a GPU");
  }

  @Test
  void doctorLoadsNoBindingWithoutADriver() throws IOException {
    assumeTrue(
        Stream.of("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/lib/wsl/lib")
            .noneMatch(library -> Files.exists(Path.of(library, "libcuda.so.1"))),
        "there is a driver");
    String classes = classesOf("doctor");
    assertTrue(classes.contains("org.taco4j.compute.cuda.CudaProbe"), "the log is one");
    assertFalse(classes.contains("org.bytedeco.cuda"), "no binding of CUDA");
  }
}
