package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.data.NpyFile;
import org.taco4j.solve.GoldenProblem;

/** {@code taco solve}, from NumPy files to NumPy files. */
class SolveTest {
  private static final int ROWS = 6;
  private static final int COLS = 36;

  @TempDir Path folder;
  private final Random random = new Random(3);
  private Path weights;
  private Path hessian;

  @BeforeEach
  void makeProblem() {
    weights = save("W.npy", gaussian(ROWS * COLS), ROWS, COLS);
    hessian = save("H.npy", hessian(200), COLS, COLS);
  }

  private Path save(String name, float[] values, int... shape) {
    Path file = folder.resolve(name);
    NpyFile.write(file, values, shape);
    return file;
  }

  private float[] gaussian(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /** 2/N · XᵀX of correlated inputs of which column 5 is dead. */
  private float[] hessian(int samples) {
    double[] h = new double[COLS * COLS];
    for (int s = 0; s < samples; s++) {
      double common = random.nextGaussian();
      double[] x = random.doubles(COLS, -1, 1).map(v -> v + common).toArray();
      x[5] = 0;
      for (int i = 0; i < h.length; i++) {
        h[i] += 2.0 / samples * x[i / COLS] * x[i % COLS];
      }
    }
    float[] values = new float[h.length];
    IntStream.range(0, h.length).forEach(i -> values[i] = (float) h[i]);
    return values;
  }

  private static JsonNode json(Object... arguments) throws IOException {
    return new ObjectMapper().readTree(Cli.run(arguments).succeeded().out());
  }

  @ParameterizedTest
  @CsvSource({
    "fast, 0.5",
    "fast, 2:4",
    "fast, block4:0.5",
    "wanda, 0.5",
    "magnitude, block3:0.5",
    "obc, 0.5",
    "hybrid, 2:4"
  })
  void solvesAndWritesWhatItReports(String solver, String pattern) throws IOException {
    Path unseen = save("H2.npy", hessian(100), COLS, COLS);
    Path out = folder.resolve("made/What.npy");
    Path mask = folder.resolve("made/M.npy");
    JsonNode result =
        json(
            "solve",
            "--weights",
            weights,
            "--hessian",
            hessian,
            "--hessian-heldout",
            unseen,
            "--solver",
            solver,
            "--pattern",
            pattern,
            "--out",
            out,
            "--mask",
            mask,
            "--json");
    float[] before = NpyFile.read(weights).floats();
    float[] after = NpyFile.read(out).floats();
    byte[] kept = NpyFile.read(mask).bytes();
    assertEquals("[6, 36]", NpyFile.read(out).describeShape());
    assertEquals("[6, 36]", NpyFile.read(mask).describeShape());
    int removed = 0;
    for (int i = 0; i < kept.length; i++) {
      removed += 1 - kept[i];
      assertTrue(kept[i] == 1 || after[i] == 0);
    }
    assertEquals(0.5, result.path("sparsity").asDouble());
    assertEquals(ROWS * COLS / 2, removed);
    assertEquals(
        relativeError(before, after, NpyFile.read(hessian).doubles()),
        result.path("layerError").asDouble(),
        1e-9);
    assertEquals(
        relativeError(before, after, NpyFile.read(unseen).doubles()),
        result.path("heldOutError").asDouble(),
        1e-9);
    boolean damped = !solver.equals("wanda") && !solver.equals("magnitude");
    assertEquals(damped ? 0.01 : 0, result.path("damping").asDouble());
    assertEquals(1, result.path("deadColumns").asInt());
    assertTrue(result.path("seconds").asDouble() > 0);
    assertEquals(
        result.path("gflop").asDouble() / result.path("seconds").asDouble(),
        result.path("gflops").asDouble(),
        1e-9);
    assertEquals("simd", result.path("backend").asText());
    // The hybrid says which solver it took.
    assertEquals(solver.equals("hybrid") ? "obc" : solver, result.path("solver").asText());
    assertEquals(ROWS, result.path("rows").asInt());
    assertEquals(COLS, result.path("cols").asInt());
    assertEquals(0, result.path("notices").size());
  }

  private static double relativeError(float[] before, float[] after, double[] h) {
    double error = 0;
    double energy = 0;
    for (int row = 0; row < ROWS; row++) {
      for (int i = 0; i < COLS; i++) {
        for (int j = 0; j < COLS; j++) {
          int a = row * COLS + i;
          int b = row * COLS + j;
          double g = h[i * COLS + j];
          error += ((double) after[a] - before[a]) * g * ((double) after[b] - before[b]);
          energy += (double) before[a] * g * before[b];
        }
      }
    }
    return error / energy;
  }

  @Test
  void printsOneValueALine() {
    String text =
        Cli.run("solve", "--weights", weights, "--hessian", hessian, "--sparsity", "0.25")
            .succeeded()
            .out();
    assertTrue(text.contains("layer error") && text.contains("sparsity        0.25"), text);
    assertFalse(text.contains("held-out"), text);
    String same =
        Cli.run(
                "solve",
                "--weights",
                weights,
                "--hessian",
                hessian,
                "--pattern",
                "block2",
                "--sparsity",
                "0.25")
            .succeeded()
            .out();
    assertTrue(same.contains("block2:0.25"), same);
  }

  @Test
  void groupsOfAConvolutionRunAlongItsInputChannels() throws IOException {
    Path mask = folder.resolve("M.npy");
    // 4 channels at 9 positions: without the kernel, groups of 4 would mix positions.
    json(
        "solve",
        "--weights",
        weights,
        "--hessian",
        hessian,
        "--pattern",
        "1:4",
        "--conv-kernel",
        "3x3",
        "--mask",
        mask,
        "--json");
    byte[] kept = NpyFile.read(mask).bytes();
    for (int row = 0; row < ROWS; row++) {
      for (int position = 0; position < 9; position++) {
        int count = 0;
        for (int channel = 0; channel < 4; channel++) {
          count += kept[row * COLS + channel * 9 + position];
        }
        assertEquals(1, count);
      }
    }
    refused(2, "multiple of 8 input channels", "--pattern", "4:8", "--conv-kernel", "3x3");
    refused(4, "5x5", "--pattern", "0.5", "--conv-kernel", "5x5");
    refused(2, "3x3", "--pattern", "0.5", "--conv-kernel", "3");
  }

  @Test
  void dampingIsChosenWhereSamplesAreFew() throws IOException {
    Path few = save("few.npy", hessian(20), COLS, COLS);
    JsonNode inferred =
        json(
            "solve",
            "--weights",
            weights,
            "--hessian",
            few,
            "--sparsity",
            "0.5",
            "--damping",
            "auto",
            "--json");
    assertTrue(inferred.path("damping").asDouble() > 0.01, inferred.toString());
    assertEquals(
        inferred.path("damping").asDouble(), inferred.at("/dampingChoice/damping").asDouble());
    assertEquals("samples-inferred", inferred.at("/notices/0/code").asText());
    assertEquals(20, inferred.at("/notices/0/value").asInt());
    JsonNode given =
        json(
            "solve",
            "--weights",
            weights,
            "--hessian",
            few,
            "--sparsity",
            "0.5",
            "--damping",
            "auto",
            "--samples",
            "20",
            "--json");
    assertEquals(0, given.path("notices").size());
    assertEquals(inferred.path("dampingChoice").path("curve"), given.at("/dampingChoice/curve"));

    JsonNode unknown =
        json(
            "solve",
            "--weights",
            weights,
            "--hessian",
            hessian,
            "--sparsity",
            "0.5",
            "--damping",
            "auto",
            "--json");
    assertEquals(0.01, unknown.path("damping").asDouble());
    assertTrue(unknown.path("dampingChoice").isNull());
    assertEquals("damping-not-chosen", unknown.at("/notices/0/code").asText());
    assertTrue(unknown.at("/notices/0/message").asText().contains("--samples"));
    JsonNode unused =
        json(
            "solve",
            "--weights",
            weights,
            "--hessian",
            few,
            "--sparsity",
            "0.5",
            "--damping",
            "auto",
            "--solver",
            "wanda",
            "--json");
    assertEquals("damping-not-chosen", unused.at("/notices/0/code").asText());

    Cli.Result impossible =
        Cli.run(
            "solve",
            "--weights",
            weights,
            "--hessian",
            hessian,
            "--sparsity",
            "0.5",
            "--damping",
            "auto",
            "--samples",
            "10");
    assertEquals(4, impossible.exitCode());
    assertTrue(impossible.err().contains("rank 35"), impossible.err());
  }

  @Test
  void aSearchIsReported() throws IOException {
    Object[] problem = {
      "solve",
      "--weights",
      weights,
      "--hessian",
      hessian,
      "--sparsity",
      "0.5",
      "--solver",
      "fast",
      "--json"
    };
    JsonNode plain = json(problem);
    assertTrue(plain.path("search").isNull());
    JsonNode searched = json(with(problem, "--search", "swap"));
    assertTrue(searched.at("/search/swaps").asLong() > 0, searched.toString());
    assertTrue(searched.path("layerError").asDouble() < plain.path("layerError").asDouble());
    assertEquals(plain.path("sparsity"), searched.path("sparsity"));
    assertEquals(0, searched.path("notices").size());
  }

  @ParameterizedTest
  @CsvSource({"gptq, --asymmetric, 0", "obc, --symmetric, 0.5"})
  void quantisedWeightsLieOnTheirGrid(String solver, String kind, double sparsity)
      throws IOException {
    Path out = folder.resolve("What.npy");
    Path scale = folder.resolve("S.npy");
    Path zero = folder.resolve("Z.npy");
    Object[] problem = {
      "solve",
      "--weights",
      weights,
      "--hessian",
      hessian,
      "--solver",
      solver,
      "--bits",
      "4",
      kind,
      "--out",
      out,
      "--scale",
      scale,
      "--zero",
      zero,
      "--json"
    };
    JsonNode result = json(sparsity == 0 ? problem : with(problem, "--sparsity", "" + sparsity));
    assertEquals(sparsity, result.path("sparsity").asDouble());
    float[] quantised = NpyFile.read(out).floats();
    float[] scales = NpyFile.read(scale).floats();
    int[] zeros = NpyFile.read(zero).ints();
    assertEquals(ROWS, scales.length);
    for (int i = 0; i < quantised.length; i++) {
      int row = i / COLS;
      double code = quantised[i] / (double) scales[row] + zeros[row];
      assertEquals(Math.rint(code), code, 1e-5); // float32 scale times a small whole number
      assertTrue(code > -1e-5 && code < 15 + 1e-5, "4 bits: " + code);
    }
    refused(2, "--bits", "--sparsity", "0.5", "--scale", scale.toString());
  }

  /** The reference's 4 bits, asymmetric and symmetric with searched scales, through the command. */
  @ParameterizedTest
  @CsvSource({
    "dev_conv32x144, 4bit_asym, ''",
    "dev_lin48x96, 4bit_asym, --asymmetric",
    "dev_conv32x144, 4bit_sym_mse, --symmetric --mse",
    "dev_lin48x96, 4bit_sym_mse, --symmetric --mse",
    "dev_lin48x96, 4bit_asym_actorder, --act-order"
  })
  void quantisesAsTheReference(String name, String setting, String options) throws IOException {
    GoldenProblem problem = GoldenProblem.named(name);
    GoldenProblem.Answer expected =
        problem.answers("gptq").stream()
            .filter(answer -> answer.setting().equals(setting))
            .findFirst()
            .orElseThrow();
    Path scale = folder.resolve("S.npy");
    Path zero = folder.resolve("Z.npy");
    Object[] arguments = {
      "solve",
      "--weights",
      problem.path("W.npy"),
      "--hessian",
      problem.path("H.npy"),
      "--solver",
      "gptq",
      "--bits",
      "4",
      "--scale",
      scale,
      "--zero",
      zero,
      "--json"
    };
    JsonNode result =
        json(options.isEmpty() ? arguments : with(arguments, (Object[]) options.split(" ")));
    // Float on the reference's side (golden README: 1e-3).
    assertEquals(expected.error(), result.path("layerError").asDouble(), 1e-3 * expected.error());
    assertEquals("gptq", result.path("solver").asText());
    assertEquals(0, result.path("sparsity").asDouble());
    if (expected.has("scale")) {
      float[] scales = expected.floats("scale");
      float[] zeros = expected.floats("zero");
      int[] actualZeros = NpyFile.read(zero).ints();
      float[] actualScales = NpyFile.read(scale).floats();
      for (int row = 0; row < scales.length; row++) {
        // One division, perhaps rounded otherwise.
        assertEquals(scales[row], actualScales[row], Math.ulp(scales[row]));
        assertEquals(zeros[row], actualZeros[row]);
      }
    }
  }

  @Test
  void sweepsLowerTheErrorOfQuantisedWeights() throws IOException {
    Object[] problem = {
      "solve", "--weights", weights, "--hessian", hessian, "--bits", "3", "--json"
    };
    // Without a pattern nothing is removed, whatever the solver.
    JsonNode plain = json(problem);
    assertEquals(0, plain.path("sparsity").asDouble());
    assertEquals("gptq", plain.path("solver").asText());
    JsonNode swept = json(with(problem, "--sweeps", "10"));
    assertTrue(swept.path("layerError").asDouble() < plain.path("layerError").asDouble());
  }

  private static Object[] with(Object[] arguments, Object... more) {
    return Stream.concat(Stream.of(arguments), Stream.of(more)).toArray();
  }

  @Test
  void shapesMustMatch() {
    hessian = save("H7.npy", new float[49], 7, 7);
    refused(4, "[7, 7]", "--sparsity", "0.5");
    hessian = save("flat.npy", new float[COLS * COLS], COLS * COLS);
    refused(4, "[1296]", "--sparsity", "0.5");
    weights = save("W4.npy", new float[16], 2, 2, 2, 2);
    refused(4, "[2, 2, 2, 2]", "--sparsity", "0.5");
  }

  @Test
  void valuesMustBeSound() {
    float[] values = hessian(50);
    float[] broken = values.clone();
    broken[COLS + 2] += 1;
    hessian = save("skew.npy", broken, COLS, COLS);
    refused(4, "skew.npy: not symmetric: element [2, 1]", "--sparsity", "0.5");
    broken = values.clone();
    broken[3] = Float.NaN;
    hessian = save("nan.npy", broken, COLS, COLS);
    refused(4, "nan.npy: element [0, 3] is NaN", "--sparsity", "0.5");
    broken = values.clone();
    broken[0] = -1;
    hessian = save("negative.npy", broken, COLS, COLS);
    refused(4, "diagonal element 0", "--sparsity", "0.5");
    float[] infinite = gaussian(ROWS * COLS);
    infinite[COLS] = Float.POSITIVE_INFINITY;
    weights = save("inf.npy", infinite, ROWS, COLS);
    refused(4, "inf.npy: element [1, 0] is Infinity", "--sparsity", "0.5");
  }

  @Test
  void filesMustBeOfTheRightKind() throws IOException {
    weights = folder.resolve("mask.npy");
    NpyFile.write(weights, new byte[ROWS * COLS], ROWS, COLS);
    refused(4, "mask.npy: elements are of type u1", "--sparsity", "0.5");
    weights = folder.resolve("no.npy");
    Files.writeString(weights, "hello");
    refused(4, "no.npy: this is no NumPy", "--sparsity", "0.5");
    weights = folder.resolve("absent.npy");
    refused(4, "absent.npy: there is no such file", "--sparsity", "0.5");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "--solver obd --sparsity 0.5",
        "--pattern 3:2",
        "--pattern 0.5 --sparsity 0.5",
        "",
        "--sparsity 1",
        "--pattern 4:8",
        "--solver magnitude --pattern columns:0.5",
        "--sparsity 0.5 --damping 2",
        "--sparsity 0.5 --damping much",
        "--sparsity 0.5 --samples 0",
        "--sparsity 0.5 --search far",
        "--sparsity 0.5 --precision float16",
        "--sparsity 0.5 --time-budget 0",
        "--sparsity 0.5 --bits 1",
        "--sparsity 0.5 --bits 4 --symmetric --asymmetric",
        "--sparsity 0.5 --symmetric",
        "--sparsity 0.5 --mse",
        "--sparsity 0.5 --act-order",
        "--sparsity 0.5 --sweeps 2",
        "--bits 4 --sweeps -1",
        "--solver gptq",
        "--solver gptq --bits 4 --search swap",
        "--solver ziplm --pattern columns:0.5 --search full",
        "--sparsity 0.5 --backend gpu",
        "--sparsity 0.5 --threads 0",
      })
  void optionsThatCannotBeMeantAreRefused(String options) {
    refused(2, "", options.isEmpty() ? new String[0] : options.split(" "));
  }

  @Test
  void inputsAreNotOverwritten() {
    refused(2, "named twice", "--sparsity", "0.5", "--out", weights.toString());
    refused(
        2,
        "named twice",
        "--sparsity",
        "0.5",
        "--out",
        folder.resolve("x.npy").toString(),
        "--mask",
        folder.resolve("y/../x.npy").toString());
  }

  /** Runs with the problem's files; the exit code and a part of the message must be these. */
  private void refused(int code, String message, String... options) {
    Object[] arguments = new Object[5 + options.length];
    arguments[0] = "solve";
    arguments[1] = "--weights";
    arguments[2] = weights;
    arguments[3] = "--hessian";
    arguments[4] = hessian;
    System.arraycopy(options, 0, arguments, 5, options.length);
    Cli.Result result = Cli.run(arguments);
    assertEquals(code, result.exitCode(), result.err());
    assertTrue(result.err().startsWith("taco: ") && result.err().contains(message), result.err());
    assertEquals("", result.out());
  }
}
