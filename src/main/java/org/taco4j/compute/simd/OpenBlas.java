package org.taco4j.compute.simd;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Set;
import org.bytedeco.javacpp.Loader;
import org.jspecify.annotations.Nullable;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;

/**
 * OpenBLAS, as JavaCPP's preset brings it, called through java.lang.foreign: the preset's own
 * methods copy arrays, a critical downcall works on the heap array itself.
 *
 * <p>OpenBLAS runs each call on the calling thread; its own threads would make results depend on
 * their number.
 */
record OpenBlas(
    String description,
    String core,
    MethodHandle setNumThreads,
    MethodHandle sgemm,
    MethodHandle dgemm,
    MethodHandle ssyrk,
    MethodHandle spotrf,
    MethodHandle dpotrf,
    MethodHandle strtri,
    MethodHandle dtrtri)
    implements Blas {

  private static final int ROW_MAJOR = 101;
  private static final int COLUMN_MAJOR = 102;
  private static final int NO_TRANSPOSE = 111;
  private static final int TRANSPOSE = 112;
  private static final int UPPER = 121;

  /** OpenBLAS' names for x86 kernels that use 512-bit vectors. */
  private static final Set<String> CORES_OF_512_BITS =
      Set.of("skylakex", "cooperlake", "sapphirerapids");

  /** The library, or why there is none; exactly one of the two. */
  record Loaded(@Nullable OpenBlas library, String failure) {}

  private static final class Holder {
    private static final Loaded LOADED = load();
  }

  /** OpenBLAS, loaded at the first call in this process. */
  static Loaded get() {
    return Holder.LOADED;
  }

  private static Loaded load() {
    try {
      Loader.load(org.bytedeco.openblas.global.openblas.class);
      for (Map.Entry<String, String> loaded : Loader.getLoadedLibraries().entrySet()) {
        // The keys are "name@version"; the preset loads its JNI part and a variant without LAPACK
        // too.
        String name = loaded.getKey().replaceFirst("@.*", "");
        if (name.equals("openblas") || name.equals("libopenblas")) {
          return new Loaded(bind(Path.of(loaded.getValue())), "");
        }
      }
      return new Loaded(null, "JavaCPP did not load a library named openblas");
    } catch (LinkageError | IllegalArgumentException | NoSuchElementException e) {
      return new Loaded(null, String.valueOf(e.getMessage()).lines().findFirst().orElse(""));
    }
  }

  private static OpenBlas bind(Path library) {
    Linker linker = Linker.nativeLinker();
    SymbolLookup symbols = SymbolLookup.libraryLookup(library, Arena.global());
    FunctionDescriptor text = FunctionDescriptor.of(ADDRESS);
    String config = text(linker.downcallHandle(symbols.findOrThrow("openblas_get_config"), text));
    String core = text(linker.downcallHandle(symbols.findOrThrow("openblas_get_corename"), text));
    String[] words = config.split(" ", 3);
    OpenBlas openBlas =
        new OpenBlas(
            "%s %s, %s kernels".formatted(words[0], words.length > 1 ? words[1] : "", core),
            core,
            linker.downcallHandle(
                symbols.findOrThrow("openblas_set_num_threads"),
                FunctionDescriptor.ofVoid(JAVA_INT)),
            critical(linker, symbols, "cblas_sgemm", gemmDescriptor(JAVA_FLOAT)),
            critical(linker, symbols, "cblas_dgemm", gemmDescriptor(JAVA_DOUBLE)),
            // layout, uplo, trans, n, k, alpha, a, lda, beta, c, ldc
            critical(
                linker,
                symbols,
                "cblas_ssyrk",
                FunctionDescriptor.ofVoid(
                    JAVA_INT,
                    JAVA_INT,
                    JAVA_INT,
                    JAVA_INT,
                    JAVA_INT,
                    JAVA_FLOAT,
                    ADDRESS,
                    JAVA_INT,
                    JAVA_FLOAT,
                    ADDRESS,
                    JAVA_INT)),
            critical(linker, symbols, "LAPACKE_spotrf", factorDescriptor()),
            critical(linker, symbols, "LAPACKE_dpotrf", factorDescriptor()),
            critical(linker, symbols, "LAPACKE_strtri", invertDescriptor()),
            critical(linker, symbols, "LAPACKE_dtrtri", invertDescriptor()));
    openBlas.setThreads(1);
    return openBlas;
  }

  private static MethodHandle critical(
      Linker linker, SymbolLookup symbols, String name, FunctionDescriptor descriptor) {
    return linker.downcallHandle(
        symbols.findOrThrow(name), descriptor, Linker.Option.critical(true));
  }

  /** order, transA, transB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc. */
  private static FunctionDescriptor gemmDescriptor(java.lang.foreign.ValueLayout scalar) {
    return FunctionDescriptor.ofVoid(
        JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT, scalar, ADDRESS, JAVA_INT,
        ADDRESS, JAVA_INT, scalar, ADDRESS, JAVA_INT);
  }

  /** layout, uplo, n, a, lda. */
  private static FunctionDescriptor factorDescriptor() {
    return FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_BYTE, JAVA_INT, ADDRESS, JAVA_INT);
  }

  /** layout, uplo, diag, n, a, lda. */
  private static FunctionDescriptor invertDescriptor() {
    return FunctionDescriptor.of(
        JAVA_INT, JAVA_INT, JAVA_BYTE, JAVA_BYTE, JAVA_INT, ADDRESS, JAVA_INT);
  }

  private static String text(MethodHandle function) {
    try {
      return ((MemorySegment) function.invokeExact()).reinterpret(Long.MAX_VALUE).getString(0);
    } catch (Throwable e) {
      throw unexpected(e);
    }
  }

  /** How many threads OpenBLAS itself may use; 1 but for measuring what it can do. */
  void setThreads(int threads) {
    try {
      setNumThreads.invokeExact(threads);
    } catch (Throwable e) {
      throw unexpected(e);
    }
  }

  @Override
  public void gemm(float alpha, FloatMatrix a, FloatMatrix b, float beta, FloatMatrix c) {
    if (!c.isRowMajor()) {
      gemm(alpha, b.transposed(), a.transposed(), beta, c.transposed());
      return;
    }
    try {
      sgemm.invokeExact(
          ROW_MAJOR,
          a.isRowMajor() ? NO_TRANSPOSE : TRANSPOSE,
          b.isRowMajor() ? NO_TRANSPOSE : TRANSPOSE,
          c.rows(),
          c.cols(),
          a.cols(),
          alpha,
          segment(a),
          a.leadingDimension(),
          segment(b),
          b.leadingDimension(),
          beta,
          segment(c),
          c.leadingDimension());
    } catch (Throwable e) {
      throw unexpected(e);
    }
  }

  @Override
  public void upperSquare(FloatMatrix a, FloatMatrix c) {
    if (!c.isRowMajor()) {
      throw new IllegalArgumentException("the triangle must be row-major");
    }
    try {
      ssyrk.invokeExact(
          ROW_MAJOR,
          UPPER,
          a.isRowMajor() ? NO_TRANSPOSE : TRANSPOSE,
          c.rows(),
          a.cols(),
          1f,
          segment(a),
          a.leadingDimension(),
          0f,
          segment(c),
          c.leadingDimension());
    } catch (Throwable e) {
      throw unexpected(e);
    }
  }

  @Override
  public void gemm(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c) {
    if (!c.isRowMajor()) {
      gemm(alpha, b.transposed(), a.transposed(), beta, c.transposed());
      return;
    }
    try {
      dgemm.invokeExact(
          ROW_MAJOR,
          a.isRowMajor() ? NO_TRANSPOSE : TRANSPOSE,
          b.isRowMajor() ? NO_TRANSPOSE : TRANSPOSE,
          c.rows(),
          c.cols(),
          a.cols(),
          alpha,
          segment(a),
          a.leadingDimension(),
          segment(b),
          b.leadingDimension(),
          beta,
          segment(c),
          c.leadingDimension());
    } catch (Throwable e) {
      throw unexpected(e);
    }
  }

  @Override
  public int factorLower(FloatMatrix a) {
    return factorLower(spotrf, a.rows(), segment(a), a.leadingDimension());
  }

  @Override
  public int factorLower(DoubleMatrix a) {
    return factorLower(dpotrf, a.rows(), segment(a), a.leadingDimension());
  }

  private static int factorLower(MethodHandle potrf, int n, MemorySegment a, int stride) {
    // Row-major lower is column-major upper; LAPACKE would copy a row-major matrix.
    int info;
    try {
      info = (int) potrf.invokeExact(COLUMN_MAJOR, (byte) 'U', n, a, stride);
    } catch (Throwable e) {
      throw unexpected(e);
    }
    // Negative: LAPACKE has seen a NaN.
    return info < 0 ? 0 : info - 1;
  }

  @Override
  public void invertLower(FloatMatrix lower) {
    invertLower(strtri, lower.rows(), segment(lower), lower.leadingDimension());
  }

  @Override
  public void invertLower(DoubleMatrix lower) {
    invertLower(dtrtri, lower.rows(), segment(lower), lower.leadingDimension());
  }

  private static void invertLower(MethodHandle trtri, int n, MemorySegment lower, int stride) {
    int info;
    try {
      info = (int) trtri.invokeExact(COLUMN_MAJOR, (byte) 'U', (byte) 'N', n, lower, stride);
    } catch (Throwable e) {
      throw unexpected(e);
    }
    if (info != 0) {
      throw new IllegalArgumentException("no triangle to invert: LAPACK says " + info);
    }
  }

  private static MemorySegment segment(FloatMatrix matrix) {
    return MemorySegment.ofArray(matrix.data()).asSlice((long) matrix.offset() * Float.BYTES);
  }

  private static MemorySegment segment(DoubleMatrix matrix) {
    return MemorySegment.ofArray(matrix.data()).asSlice((long) matrix.offset() * Double.BYTES);
  }

  /** A downcall throws nothing by itself. */
  private static RuntimeException unexpected(Throwable e) {
    if (e instanceof Error error) {
      throw error;
    }
    return e instanceof RuntimeException runtime ? runtime : new IllegalStateException(e);
  }

  /** Bits of the vectors that the kernels use at the most, on x86; 0 where that is not known. */
  int vectorBits() {
    if (!System.getProperty("os.arch").matches("amd64|x86_64")) {
      return 0;
    }
    return CORES_OF_512_BITS.contains(core.toLowerCase(Locale.ROOT)) ? 512 : 256;
  }
}
