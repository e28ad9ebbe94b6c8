package org.taco4j.compute.cuda;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * Products and factorisations of matrices in a device's memory, queued in a scope's stream: by
 * cuBLAS and cuSOLVER where they load, each on its own, and where they pay; else by kernels of our
 * own ({@code gemm.cu}, {@code cholesky.cu}, {@code triangular.cu}). Which it is depends on shapes
 * only. All of it gives the same bytes on the same kind of GPU.
 *
 * <p>A factorisation that fails leaves the index of its pivot in a flag on the device; nobody waits
 * for it, and what is made of the factor afterwards means nothing then.
 */
final class DeviceLinearAlgebra implements AutoCloseable {
  /** Smaller matrices are factored at the pace of diagonal blocks, whoever does it. */
  private static final int LIBRARY_COLUMNS = 1024;

  /** The kernels' diagonal block and the side of their tiles. */
  private static final int BLOCK = 64;

  private static final int LARGE_TILE = 128;
  private static final int THREADS = 256;

  /** Which part of C a product writes, by the kernels' numbers. */
  private enum Part {
    ALL(0),
    LOWER(1),
    UPPER(2);

    final int code;

    Part(int code) {
      this.code = code;
    }
  }

  private final CudaDevice device;
  private final Libraries libraries;
  private final Deque<Handles> idle = new ArrayDeque<>();
  private final Map<DeviceScope, Handles> lent = new HashMap<>();

  /**
   * What NVIDIA's libraries are used for.
   *
   * @param cublas whether it is there
   * @param cusolver whether it is there
   * @param columns smaller matrices are factored by our kernels in any case
   */
  record Libraries(boolean cublas, boolean cusolver, int columns) {
    static Libraries of(CudaProbe.Findings findings) {
      return new Libraries(findings.has("cuBLAS"), findings.has("cuSOLVER"), LIBRARY_COLUMNS);
    }

    @Override
    public String toString() {
      return "products by %s, factorisations by %s"
          .formatted(
              cublas ? "cuBLAS" : "our own kernels (no cuBLAS)",
              cusolver
                  ? "cuSOLVER (from %d columns on)".formatted(columns)
                  : "our own kernels (no cuSOLVER)");
    }
  }

  /** What a scope has of the libraries, and the scratch that its calls share. */
  private static final class Handles {
    @Nullable Cublas cublas;
    @Nullable Cusolver cusolver;
    @Nullable DeviceArray scratch;

    void close() {
      if (cublas != null) {
        cublas.close();
      }
      if (cusolver != null) {
        cusolver.close();
      }
    }
  }

  /** On a device. */
  DeviceLinearAlgebra(CudaDevice device, Libraries libraries) {
    this.device = device;
    this.libraries = libraries;
  }

  /** Who computes, for logs and reports. */
  String description() {
    return libraries.toString();
  }

  /**
   * C = alpha op(A) op(B) + beta C, all of them float32 or all float64.
   *
   * @param a [m, k], or [k, m] where {@code transposeA}
   * @param b [k, n], or [n, k] where {@code transposeB}
   * @param beta 0 overwrites C, whatever it holds
   * @param c [m, n], sharing no element with A or B
   */
  void gemm(
      DeviceScope scope,
      double alpha,
      DeviceMatrix a,
      boolean transposeA,
      DeviceMatrix b,
      boolean transposeB,
      double beta,
      DeviceMatrix c) {
    int depth = transposeA ? a.rows() : a.cols();
    if ((transposeA ? a.cols() : a.rows()) != c.rows()
        || (transposeB ? b.rows() : b.cols()) != c.cols()
        || (transposeB ? b.cols() : b.rows()) != depth
        || a.isDouble() != c.isDouble()
        || b.isDouble() != c.isDouble()) {
      throw new IllegalArgumentException(
          "[%d, %d]%s times [%d, %d]%s into [%d, %d]"
              .formatted(
                  a.rows(),
                  a.cols(),
                  transposeA ? " transposed" : "",
                  b.rows(),
                  b.cols(),
                  transposeB ? " transposed" : "",
                  c.rows(),
                  c.cols()));
    }
    if (c.rows() == 0 || c.cols() == 0) {
      return;
    }
    if (libraries.cublas && depth > 0) {
      cublas(scope).gemm(alpha, a, transposeA, b, transposeB, beta, c);
    } else {
      multiply(scope, alpha, a, transposeA, b, transposeB, beta, c, Part.ALL, null);
    }
  }

  /** {@link #syrk} of the lower triangle: with the diagonal; above it C is not touched. */
  void syrkLower(
      DeviceScope scope,
      double alpha,
      DeviceMatrix a,
      boolean transposed,
      double beta,
      DeviceMatrix c) {
    syrk(scope, alpha, a, transposed, beta, c, Part.LOWER, null);
  }

  /** {@link #syrk} of the upper triangle: with the diagonal; below it C is not touched. */
  void syrkUpper(
      DeviceScope scope,
      double alpha,
      DeviceMatrix a,
      boolean transposed,
      double beta,
      DeviceMatrix c) {
    syrk(scope, alpha, a, transposed, beta, c, Part.UPPER, null);
  }

  /**
   * A triangle of C = alpha A Aᵀ + beta C, or of alpha Aᵀ A + beta C where {@code transposed}.
   *
   * @param flag our kernel does nothing where it is set; null for none
   */
  private void syrk(
      DeviceScope scope,
      double alpha,
      DeviceMatrix a,
      boolean transposed,
      double beta,
      DeviceMatrix c,
      Part part,
      @Nullable DeviceArray flag) {
    int n = transposed ? a.cols() : a.rows();
    int depth = transposed ? a.rows() : a.cols();
    if (c.rows() != n || c.cols() != n || a.isDouble() != c.isDouble()) {
      throw new IllegalArgumentException(
          "[%d, %d]%s times its transpose into [%d, %d]"
              .formatted(a.rows(), a.cols(), transposed ? " transposed" : "", c.rows(), c.cols()));
    }
    if (n == 0) {
      return;
    }
    if (libraries.cublas && depth > 0 && n >= libraries.columns) {
      cublas(scope).syrk(alpha, a, transposed, beta, c, part == Part.LOWER);
    } else {
      multiply(scope, alpha, a, transposed, a, !transposed, beta, c, part, flag);
    }
  }

  /** By our kernel. */
  private void multiply(
      DeviceScope scope,
      double alpha,
      DeviceMatrix a,
      boolean transposeA,
      DeviceMatrix b,
      boolean transposeB,
      double beta,
      DeviceMatrix c,
      Part part,
      @Nullable DeviceArray flag) {
    boolean large =
        !c.isDouble()
            && (long) LaunchShape.blocks(c.rows(), LARGE_TILE)
                    * LaunchShape.blocks(c.cols(), LARGE_TILE)
                >= device.multiprocessors();
    int side = large ? LARGE_TILE : BLOCK;
    String name = c.isDouble() ? "f64" : large ? "f32" : "small_f32";
    scope.launch(
        device.kernel("gemm", "taco4j_gemm_" + name),
        LaunchShape.grid(
            LaunchShape.blocks(c.cols(), side), LaunchShape.blocks(c.rows(), side), THREADS),
        c.rows(),
        c.cols(),
        transposeA ? a.rows() : a.cols(),
        scalar(c, alpha),
        a,
        a.stride(),
        transposeA ? 1 : 0,
        b,
        b.stride(),
        transposeB ? 1 : 0,
        scalar(c, beta),
        c,
        c.stride(),
        part.code,
        flag);
  }

  /**
   * A = L Lᵀ in place, float32 or float64.
   *
   * @param a [n, n]; only the lower triangle is read, and becomes L; above the diagonal anything
   *     may stand afterwards
   * @param flag [1], int: becomes -1, or the index of the first pivot that is not positive and
   *     finite; A is then spoilt
   */
  void cholesky(DeviceScope scope, DeviceMatrix a, DeviceArray flag) {
    checkSquare(a, "Cholesky factor");
    int n = a.rows();
    if (n == 0) {
      scope.upload(new int[] {-1}, 0, flag, 0, 1);
      return;
    }
    if (libraries.cusolver && n >= libraries.columns) {
      Cusolver cusolver = cusolver(scope);
      cusolver.factor(a, scratch(scope, a, cusolver.factorScratch(a)), flag);
      scope.launch(
          kernel("cholesky", "cholesky_flag", a),
          LaunchShape.of(1, THREADS),
          a,
          a.stride(),
          n,
          flag);
      return;
    }
    DeviceArray inverse = scratch(scope, a, BLOCK * BLOCK);
    Kernel diagonal = kernel("cholesky", "cholesky_diagonal", a);
    Kernel panel = kernel("cholesky", "cholesky_panel", a);
    for (int first = 0; first < n; first += BLOCK) {
      int size = Math.min(BLOCK, n - first);
      int next = first + size;
      int rest = n - next;
      scope.launch(diagonal, LaunchShape.of(1, THREADS), a, a.stride(), first, size, inverse, flag);
      if (rest > 0) {
        scope.launch(
            panel,
            LaunchShape.of(LaunchShape.blocks(rest, BLOCK), THREADS),
            a,
            a.stride(),
            n,
            first,
            size,
            inverse,
            flag);
        DeviceMatrix below = a.block(next, rest, first, size);
        syrk(scope, -1, below, false, 1, a.block(next, rest, next, rest), Part.LOWER, flag);
      }
    }
  }

  /**
   * Inverts a lower triangular matrix in place, float32 or float64.
   *
   * @param l [n, n] with a diagonal without zeros; what is above it becomes zero
   */
  void invertLower(DeviceScope scope, DeviceMatrix l) {
    checkSquare(l, "inverse");
    if (l.rows() > 0) {
      invertLowerTriangle(scope, l);
      scope.launch(
          kernel("triangular", "clear_upper", l),
          new LaunchShape(
              LaunchShape.blocks(l.rows(), 32), LaunchShape.blocks(l.rows(), 8), 1, 32, 8, 0),
          l,
          l.stride(),
          l.rows());
    }
  }

  /** Above the diagonal blocks anything stands afterwards. */
  private void invertLowerTriangle(DeviceScope scope, DeviceMatrix l) {
    int n = l.rows();
    scope.launch(
        kernel("triangular", "invert_lower_blocks", l),
        LaunchShape.of(LaunchShape.blocks(n, BLOCK), THREADS),
        l,
        l.stride(),
        n);
    Kernel couple = kernel("triangular", "invert_lower_couple", l);
    Kernel join = kernel("triangular", "invert_lower_join", l);
    for (int half = BLOCK; half < n; half *= 2) {
      int tiles = half / BLOCK;
      int pairs = LaunchShape.blocks(n - half, 2 * half);
      LaunchShape shape = new LaunchShape(tiles, tiles, pairs, THREADS, 1, 0);
      scope.launch(couple, shape, l, l.stride(), n, half);
      scope.launch(join, shape, l, l.stride(), n, half);
    }
  }

  /**
   * Inverts a symmetric positive definite matrix, float64.
   *
   * @param a [n, n]; only the lower triangle is read; spoilt afterwards
   * @param inverse [n, n], another matrix: both triangles, exactly symmetric
   * @param flag as in {@link #cholesky}; where it is set the inverse is not written
   */
  void invertPositiveDefinite(
      DeviceScope scope, DeviceMatrix a, DeviceMatrix inverse, DeviceArray flag) {
    checkSquare(inverse, "inverse");
    if (inverse.rows() != a.rows() || !a.isDouble() || !inverse.isDouble()) {
      throw new IllegalArgumentException(
          "the inverse of [%d, %d] into [%d, %d], float64"
              .formatted(a.rows(), a.cols(), inverse.rows(), inverse.cols()));
    }
    int n = a.rows();
    boolean byLibrary = libraries.cusolver && n > 0 && n >= libraries.columns;
    if (byLibrary) {
      // For both steps at once: more of it later would have to wait for the first.
      Cusolver cusolver = cusolver(scope);
      scratch(scope, a, Math.max(cusolver.factorScratch(a), cusolver.invertScratch(a) + 1));
    }
    cholesky(scope, a, flag);
    if (n == 0) {
      return;
    }
    if (byLibrary) {
      Cusolver cusolver = cusolver(scope);
      // Its word on the inversion is of no use: the factor is known to be sound, or flagged.
      int size = cusolver.invertScratch(a);
      DeviceArray scratch = scratch(scope, a, size + 1);
      cusolver.invert(
          a, scratch.slice(0, size), new DeviceArray(scratch.at(size).address(), 1, Integer.BYTES));
      scope.launch(
          device.kernel("triangular", "taco4j_symmetric_f64"),
          new LaunchShape(LaunchShape.blocks(n, 32), LaunchShape.blocks(n, 32), 1, 32, 8, 0),
          a,
          a.stride(),
          n,
          inverse,
          inverse.stride(),
          flag);
    } else {
      invertLowerTriangle(scope, a);
      int tiles = LaunchShape.blocks(n, BLOCK);
      scope.launch(
          device.kernel("triangular", "taco4j_lower_gram_f64"),
          LaunchShape.grid(tiles, tiles, THREADS),
          a,
          a.stride(),
          n,
          inverse,
          inverse.stride(),
          flag);
    }
  }

  /**
   * tr(W G Wᵀ), added up in double; waits for what is queued.
   *
   * @param w [rows, n] float32
   * @param g [n, n] float64, symmetric
   */
  double quadraticForm(DeviceScope scope, DeviceMatrix w, DeviceMatrix g) {
    int rows = w.rows();
    int cols = w.cols();
    if (rows == 0 || cols == 0) {
      return 0;
    }
    DeviceArray wide = scope.doubles((long) rows * cols);
    DeviceArray product = scope.doubles((long) rows * cols);
    DeviceArray sums = scope.doubles(rows);
    scope.launch(
        device.kernel("quadratic_form", "taco4j_widen_f64"),
        LaunchShape.grid(LaunchShape.blocks(cols, THREADS), Math.min(rows, 65535), THREADS),
        w,
        w.stride(),
        rows,
        cols,
        wide);
    DeviceMatrix left = DeviceMatrix.of(wide, rows, cols);
    gemm(scope, 1, left, false, g, false, 0, DeviceMatrix.of(product, rows, cols));
    scope.launch(
        device.kernel("quadratic_form", "taco4j_row_products_f64"),
        LaunchShape.of(rows, THREADS),
        product,
        wide,
        cols,
        sums);
    double[] forms = new double[rows];
    scope.download(sums, 0, forms, 0, rows);
    scope.free(wide);
    scope.free(product);
    scope.free(sums);
    double form = 0;
    for (double sum : forms) {
      form += sum;
    }
    return form;
  }

  private static void checkSquare(DeviceMatrix a, String what) {
    if (a.rows() != a.cols()) {
      throw new IllegalArgumentException(
          "%s of a matrix [%d, %d]".formatted(what, a.rows(), a.cols()));
    }
  }

  private Kernel kernel(String file, String operation, DeviceMatrix matrix) {
    return device.kernel(file, "taco4j_" + operation + (matrix.isDouble() ? "_f64" : "_f32"));
  }

  private static Object scalar(DeviceMatrix matrix, double value) {
    return matrix.isDouble() ? (Object) value : (Object) (float) value;
  }

  private Cublas cublas(DeviceScope scope) {
    Handles handles = handles(scope);
    Cublas cublas = handles.cublas;
    if (cublas == null) {
      device.enter();
      cublas = new Cublas(device);
      cublas.use(scope.stream());
      handles.cublas = cublas;
    }
    return cublas;
  }

  private Cusolver cusolver(DeviceScope scope) {
    Handles handles = handles(scope);
    Cusolver cusolver = handles.cusolver;
    if (cusolver == null) {
      device.enter();
      cusolver = new Cusolver(device);
      cusolver.use(scope.stream());
      handles.cusolver = cusolver;
    }
    return cusolver;
  }

  /**
   * Elements of the matrix's type for calls in the scope, which follow each other: the same for all
   * of them, so that it is there once.
   */
  private DeviceArray scratch(DeviceScope scope, DeviceMatrix matrix, int count) {
    Handles handles = handles(scope);
    int elementBytes = matrix.isDouble() ? Double.BYTES : Float.BYTES;
    long doubles = ((long) count * elementBytes + Double.BYTES - 1) / Double.BYTES;
    DeviceArray scratch = handles.scratch;
    if (scratch == null || scratch.count() < doubles) {
      if (scratch != null) {
        handles.scratch = null;
        scope.free(scratch);
      }
      scratch = scope.doubles(Math.max(doubles, (long) BLOCK * BLOCK));
      handles.scratch = scratch;
    }
    return new DeviceArray(scratch.address(), count, elementBytes);
  }

  /** The handles that a scope has to itself until it is closed. */
  private synchronized Handles handles(DeviceScope scope) {
    Handles handles = lent.get(scope);
    if (handles == null) {
      handles = idle.isEmpty() ? new Handles() : idle.pop();
      lent.put(scope, handles);
      scope.onClose(() -> giveBack(scope));
      if (handles.cublas != null) {
        handles.cublas.use(scope.stream());
      }
      if (handles.cusolver != null) {
        handles.cusolver.use(scope.stream());
      }
    }
    return handles;
  }

  private synchronized void giveBack(DeviceScope scope) {
    Handles handles = lent.remove(scope);
    if (handles != null) {
      handles.scratch = null; // the scope's
      idle.push(handles);
    }
  }

  /** Frees the handles; the device's context is the thread's. */
  @Override
  public synchronized void close() {
    idle.forEach(Handles::close);
    idle.clear();
  }
}
