import java.io.IOException;
import java.io.PrintStream;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.function.Supplier;
import org.bytedeco.cuda.cudart.CUctx_st;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.Pointer;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.Backends;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.GramSum;
import org.taco4j.compute.Patches;
import org.taco4j.compute.cuda.CudaProbe;
import org.taco4j.data.NpyFile;
import org.taco4j.solve.Hessian;
import org.taco4j.solve.LayerError;
import org.taco4j.solve.LayerSolution;
import org.taco4j.solve.Pattern;
import org.taco4j.solve.Quantization;
import org.taco4j.solve.SolveRequest;
import org.taco4j.solve.Solver;
import org.taco4j.solve.SolverOptions;
import org.taco4j.solve.Solvers;

/**
 * FastOBC, GPTQ, exact OBC, the inverse and the Gram matrix on a backend: checked against simd
 * first, then timed from heap arrays to heap arrays, and set against what the GPU could do. {@code
 * sparsegpt_torch.py} reads the layer problems that this writes.
 *
 * <p>Arguments: a folder for the layer problems; shapes, such as {@code 768x768,3072x768}; samples
 * that their Hessians are made of; how often each is timed; the backend, {@code cuda} by default. A
 * line of JSON is printed for each operation and shape; {@code seconds} is the median, copies to
 * the GPU and back included; {@code copySeconds} is what copies of as many bytes take by
 * themselves, from pinned memory; {@code ofLimit} is GFLOP/s over the product of multiprocessors,
 * lanes, 2 and the clock rate, for float32 or, where {@code type} says so, float64. The exit code
 * is 5 where a result differs from simd's.
 *
 * <p>Run from the repository root: {@code TACO_MAIN=benchmarks/SolverSpeed.java ./taco target/gpu
 * 768x768 8192 5}. {@code cuda-kernels/verify.sh} does.
 */
public final class SolverSpeed {
  private static final double DAMPING = 0.01;

  /** Exact OBC beyond so many floating-point operations is checked by its error alone. */
  private static final double CHECKED_GFLOP = 3000;

  /**
   * By how much layer-wise errors may differ, relative: float32 on both sides, in another order, so
   * that weights that are nearly equally good change places.
   */
  private static final double ERROR_TOLERANCE = 2e-3;

  private final Path folder;
  private final int samples;
  private final int repeats;
  private final Backend backend;
  private final Backend host;
  private final Limits limits;
  private final PrintStream out = System.out;
  private int failures;

  private SolverSpeed(Path folder, int samples, int repeats, Backend backend, Backend host) {
    this.folder = folder;
    this.samples = samples;
    this.repeats = repeats;
    this.backend = backend;
    this.host = host;
    this.limits = backend.name().equals("cuda") ? Limits.ofFirstGpu() : Limits.unknown();
  }

  public static void main(String[] arguments) throws IOException {
    if (arguments.length < 4) {
      System.err.println("usage: SolverSpeed FOLDER SHAPES SAMPLES REPEATS [BACKEND]");
      System.exit(2);
    }
    int code = 0;
    try (Workers workers = new Workers(Runtime.getRuntime().availableProcessors());
        Backend backend =
            Backends.choose(arguments.length > 4 ? arguments[4] : "cuda", workers).backend();
        Backend host = Backends.choose("simd", workers).backend()) {
      System.err.println("backend " + backend.description());
      SolverSpeed solvers =
          new SolverSpeed(
              Files.createDirectories(Path.of(arguments[0])),
              Integer.parseInt(arguments[2]),
              Integer.parseInt(arguments[3]),
              backend,
              host);
      for (String shape : arguments[1].split(",")) {
        String[] sizes = shape.split("x");
        solvers.measure(Integer.parseInt(sizes[0]), Integer.parseInt(sizes[1]));
      }
      code = solvers.failures > 0 ? 5 : 0;
    } catch (TacoException e) {
      System.err.println("SolverSpeed: " + e.getMessage());
      code = e.kind().exitCode();
    }
    System.exit(code);
  }

  /** All operations on one shape. */
  private void measure(int rows, int cols) {
    Random random = new Random(31L * rows + cols);
    float[] weights = new float[rows * cols];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = (float) (0.05 * random.nextGaussian());
    }
    float[] x = inputs(cols, random);
    NpyFile.write(folder.resolve(rows + "x" + cols + "-W.npy"), weights, rows, cols);
    NpyFile.write(folder.resolve(rows + "x" + cols + "-X.npy"), x, samples, cols);
    double[] gram = gram(x, cols);
    deviceGram(x, gram, rows, cols);
    Hessian hessian = Hessian.ofGram(gram, cols, samples);

    double bytes = 8.0 * cols * cols + 9.0 * rows * cols; // H; W there, Ŵ and the mask back
    SolverOptions plain = SolverOptions.defaults();
    SolverOptions fourBits =
        new SolverOptions(
            plain.search(),
            plain.timeBudget(),
            plain.refit(),
            plain.precision(),
            new Quantization(4, false, false, false, 0),
            0);
    solve("fastobc", Solvers.create("fast", plain), weights, rows, cols, hessian, 0.5, bytes);
    solve("gptq", Solvers.create("gptq", fourBits), weights, rows, cols, hessian, 0, bytes);
    solve("obc", Solvers.create("obc", plain), weights, rows, cols, hessian, 0.8, bytes);
    inverse(rows, cols, hessian);
  }

  /** G = X Xᵀ where a device takes it, against what the host made of the same inputs. */
  private void deviceGram(float[] x, double[] expected, int rows, int cols) {
    DeviceKernels device = backend.device();
    if (device == null) {
      return;
    }
    double[] seconds = new double[repeats];
    double[] result = onDevice(device, x, cols);
    for (int i = 0; i < repeats; i++) {
      long start = System.nanoTime();
      onDevice(device, x, cols);
      seconds[i] = (System.nanoTime() - start) / 1e9;
    }
    // Sums of float32 products: n u Σ|x_i x_j|, which √(G_ii G_jj) bounds; twice, for both sides.
    double worst = 0;
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j < cols; j++) {
        double scale = Math.sqrt(expected[i * cols + i] * expected[j * cols + j]);
        worst = Math.max(worst, Math.abs(result[i * cols + j] - expected[i * cols + j]) / scale);
      }
    }
    boolean isClose = worst <= 2 * samples * 0x1p-24;
    failures += isClose ? 0 : 1;
    double gflop = 1e-9 * samples * cols * (cols + 1.0);
    Map<String, Object> line = line("gram", rows, cols, median(seconds), gflop);
    line.put("samples", samples);
    line.put("copySeconds", limits.copySeconds(4.0 * samples * cols + 8.0 * cols * cols));
    line.put(
        "check",
        String.format(
            Locale.ROOT,
            "%s: greatest difference %.3g, relative",
            isClose ? "close" : "FAILED",
            worst));
    print(line);
  }

  private double[] onDevice(DeviceKernels device, float[] x, int cols) {
    try (GramSum sum = device.gram(Patches.pixels(cols))) {
      sum.add(FloatBuffer.wrap(x), Patches.Images.plain(samples, 1, 1));
      return sum.gram(0);
    }
  }

  /** Correlated inputs of different scale, [samples, cols]. */
  private float[] inputs(int cols, Random random) {
    float[] x = new float[samples * cols];
    float[] scale = new float[cols];
    for (int j = 0; j < cols; j++) {
      scale[j] = 0.2f + random.nextFloat();
    }
    for (int i = 0; i < samples; i++) {
      float before = 0;
      for (int j = 0; j < cols; j++) {
        before = 0.7f * before + (float) random.nextGaussian();
        x[i * cols + j] = scale[j] * before;
      }
    }
    return x;
  }

  private double[] gram(float[] x, int cols) {
    FloatMatrix inputs = FloatMatrix.of(x, samples, cols);
    FloatMatrix product = FloatMatrix.zeros(cols, cols);
    host.gemm(1f, inputs.transposed(), inputs, 0, product);
    double[] gram = new double[cols * cols];
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j <= i; j++) {
        gram[i * cols + j] = product.at(i, j);
        gram[j * cols + i] = product.at(i, j);
      }
    }
    return gram;
  }

  private void solve(
      String operation,
      Solver solver,
      float[] weights,
      int rows,
      int cols,
      Hessian hessian,
      double sparsity,
      double bytes) {
    SolveRequest request =
        new SolveRequest(
            rows + "x" + cols,
            weights,
            rows,
            cols,
            hessian,
            SolveRequest.naturalOrder(cols),
            new Pattern.Unstructured(sparsity),
            DAMPING);
    // The first run loads kernels and compiles classes; its result is the one that is checked.
    LayerSolution solution = solver.solve(request, backend);
    double error = LayerError.relative(weights, solution.weights(), rows, cols, hessian, host);
    String check = check(solver, request, solution, error);
    double[] seconds = new double[solution.seconds() > 60 ? 1 : repeats];
    for (int i = 0; i < seconds.length; i++) {
      long start = System.nanoTime();
      solver.solve(request, backend);
      seconds[i] = (System.nanoTime() - start) / 1e9;
    }
    Map<String, Object> line = line(operation, rows, cols, median(seconds), solution.gflop());
    line.put("error", error);
    if (sparsity > 0) {
      line.put("sparsity", sparsity);
    }
    line.put("copySeconds", limits.copySeconds(bytes));
    line.put("check", check);
    print(line);
  }

  /** "equal", how far from simd's result it is, or that it was not compared. */
  private String check(Solver solver, SolveRequest request, LayerSolution solution, double error) {
    if (!Double.isFinite(error)) {
      failures++;
      return "FAILED: error " + error;
    }
    if (solver.name().equals("obc") && solution.gflop() > CHECKED_GFLOP) {
      LayerSolution fast = Solvers.create("fast", SolverOptions.defaults()).solve(request, host);
      double bound =
          LayerError.relative(
              request.weights(),
              fast.weights(),
              request.rows(),
              request.cols(),
              request.hessian(),
              host);
      if (error > bound) {
        failures++;
        return String.format(Locale.ROOT, "FAILED: FastOBC's error is %.4g", bound);
      }
      return String.format(Locale.ROOT, "below FastOBC's error (%.4g) only", bound);
    }
    LayerSolution expected = solver.solve(request, host);
    if (Arrays.equals(expected.weights(), solution.weights())) {
      return "equal";
    }
    double expectedError =
        LayerError.relative(
            request.weights(),
            expected.weights(),
            request.rows(),
            request.cols(),
            request.hessian(),
            host);
    int same = 0;
    for (int i = 0; i < expected.kept().length; i++) {
      same += expected.kept()[i] == solution.kept()[i] ? 1 : 0;
    }
    boolean isClose =
        Math.abs(error - expectedError) <= ERROR_TOLERANCE * expectedError
            && expected.removed() == solution.removed();
    failures += isClose ? 0 : 1;
    return String.format(
        Locale.ROOT,
        "%s: error %.6g (simd %.6g), %.3f %% of the mask equal",
        isClose ? "close" : "FAILED",
        error,
        expectedError,
        100.0 * same / expected.kept().length);
  }

  /** H⁻¹ of the damped H, in double. */
  private void inverse(int rows, int cols, Hessian hessian) {
    double[] damped = hessian.values().data().clone();
    for (int j = 0; j < cols; j++) {
      damped[j * cols + j] += hessian.shift(DAMPING);
    }
    Supplier<DoubleMatrix> fresh = () -> DoubleMatrix.of(damped.clone(), cols, cols);
    DoubleMatrix expected = fresh.get();
    host.invertPositiveDefinite(expected);
    DoubleMatrix result = fresh.get();
    int failed = backend.invertPositiveDefinite(result);
    double largest = 0;
    double difference = 0;
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j < cols; j++) {
        largest = Math.max(largest, Math.abs(expected.at(i, j)));
        difference = Math.max(difference, Math.abs(expected.at(i, j) - result.at(i, j)));
      }
    }
    // Two backward stable inversions: n u cond(H), relative to the largest element; damping of 1 %
    // keeps the condition number below some 1e4.
    boolean isClose = failed < 0 && difference <= cols * 0x1p-53 * 1e5 * largest;
    failures += isClose ? 0 : 1;
    double[] seconds = new double[repeats];
    for (int i = 0; i < repeats; i++) {
      DoubleMatrix a = fresh.get();
      long start = System.nanoTime();
      backend.invertPositiveDefinite(a);
      seconds[i] = (System.nanoTime() - start) / 1e9;
    }
    Map<String, Object> line =
        line("inverse", rows, cols, median(seconds), 1e-9 * cols * cols * cols);
    line.put("type", "float64");
    line.put("ofLimit", limits.ofDoubleLimit(1e-9 * cols * cols * cols / median(seconds)));
    line.put("copySeconds", limits.copySeconds(16.0 * cols * cols));
    line.put(
        "check",
        String.format(
            Locale.ROOT,
            "%s: greatest difference %.3g of %.3g",
            isClose ? "close" : "FAILED",
            difference,
            largest));
    print(line);
  }

  private Map<String, Object> line(
      String operation, int rows, int cols, double seconds, double gflop) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("side", "taco4j");
    line.put("operation", operation);
    line.put("rows", rows);
    line.put("cols", cols);
    line.put("seconds", seconds);
    line.put("gflop", gflop);
    line.put("gflops", gflop / seconds);
    line.put("ofLimit", limits.ofFloatLimit(gflop / seconds));
    line.put("backend", backend.name());
    line.put("device", limits.name());
    return line;
  }

  private void print(Map<String, Object> line) {
    List<String> parts = new ArrayList<>();
    line.forEach(
        (key, value) -> {
          String text =
              value instanceof Double number
                  ? Double.isFinite(number) ? String.format(Locale.ROOT, "%.6g", number) : "null"
                  : value instanceof Integer ? value.toString() : "\"" + value + "\"";
          parts.add("\"%s\": %s".formatted(key, text));
        });
    out.println("{" + String.join(", ", parts) + "}");
    out.flush();
  }

  private static double median(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    return sorted[sorted.length / 2];
  }

  /**
   * What a GPU can do at most, from what its driver says.
   *
   * @param floatGflops float32 additions and multiplications; NaN where that is not known
   * @param doubleGflops the same of float64
   * @param copyBytesPerSecond from and to pinned memory of the host, measured
   */
  private record Limits(
      String name, double floatGflops, double doubleGflops, double copyBytesPerSecond) {
    private static final int COPY_BYTES = 64 << 20;

    static Limits unknown() {
      return new Limits("cpu", Double.NaN, Double.NaN, Double.NaN);
    }

    static Limits ofFirstGpu() {
      CudaProbe.Gpu gpu = CudaProbe.examine().gpus().getFirst();
      int[] device = new int[1];
      check(cudart.cuDeviceGet(device, gpu.ordinal()));
      double multiprocessors =
          attribute(cudart.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device[0]);
      double clock = 1e3 * attribute(cudart.CU_DEVICE_ATTRIBUTE_CLOCK_RATE, device[0]);
      double gflops = 2e-9 * multiprocessors * clock;
      return new Limits(
          gpu.name(),
          gflops * lanes(gpu.capability(), 64, 128),
          gflops * doubleLanes(gpu.capability()),
          copyRate(device[0]));
    }

    /** Float32 lanes of a multiprocessor: of Turing and the A100, of the others. */
    private static double lanes(int capability, int few, int many) {
      return capability == 75 || capability == 80 ? few : many;
    }

    /** Float64 lanes of a multiprocessor. */
    private static double doubleLanes(int capability) {
      return switch (capability) {
        case 80 -> 32;
        case 90, 100 -> 64;
        default -> 2;
      };
    }

    private static int attribute(int which, int device) {
      int[] value = new int[1];
      check(cudart.cuDeviceGetAttribute(value, which, device));
      return value[0];
    }

    private static double copyRate(int device) {
      CUctx_st context = new CUctx_st();
      check(cudart.cuDevicePrimaryCtxRetain(context, device));
      check(cudart.cuCtxSetCurrent(context));
      long[] memory = new long[1];
      check(cudart.cuMemAlloc(memory, COPY_BYTES));
      Pointer pinned = new Pointer();
      check(cudart.cuMemHostAlloc(pinned, COPY_BYTES, 0));
      double best = 0;
      for (int i = 0; i < 5; i++) {
        long start = System.nanoTime();
        check(cudart.cuMemcpyHtoD(memory[0], pinned, COPY_BYTES));
        best = Math.max(best, COPY_BYTES / ((System.nanoTime() - start) / 1e9));
      }
      check(cudart.cuMemFreeHost(pinned));
      check(cudart.cuMemFree(memory[0]));
      check(cudart.cuDevicePrimaryCtxRelease(device));
      return best;
    }

    private static void check(int code) {
      if (code != 0) {
        throw TacoException.runtime("the driver returned " + code);
      }
    }

    double ofFloatLimit(double gflops) {
      return gflops / floatGflops;
    }

    double ofDoubleLimit(double gflops) {
      return gflops / doubleGflops;
    }

    double copySeconds(double bytes) {
      return bytes / copyBytesPerSecond;
    }
  }
}
