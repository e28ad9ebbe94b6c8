package org.taco4j.runtime;

import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.AddressLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.net.URI;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;
import java.util.WeakHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.Sha256;
import org.taco4j.common.TacoException;

/**
 * The sparse operators for ONNX Runtime: a native library that comes in the jar, for the platform
 * that the jar was built on. A session whose options it is registered with runs the {@code taco4j}
 * operators of a model on sparse kernels; others run the dense functions that stand in the model
 * for them.
 *
 * <p>The environment variable {@code TACO4J_ISA} ({@code scalar}, {@code avx2}, {@code avx512},
 * {@code neon}; for integers also {@code avxvnni}, {@code avx512vnni}, {@code avx512vbmi2}, {@code
 * neondot}) names other kernels than the best ones of the processor.
 */
public final class OperatorLibrary {
  private OperatorLibrary() {}

  /** Made on first use: where the library is, or why there is none. */
  private static final class Holder {
    static final @Nullable Path FILE;
    static final @Nullable TacoException FAILURE;

    static {
      Path file = null;
      TacoException failure = null;
      try {
        file = locate(OperatorLibrary.class.getClassLoader(), platform());
      } catch (TacoException e) {
        failure = e;
      }
      FILE = file;
      FAILURE = failure;
    }
  }

  /**
   * Those that have the operators: registered twice they would fail when the session is created.
   */
  private static final Set<OrtSession.SessionOptions> REGISTERED =
      Collections.newSetFromMap(new WeakHashMap<>());

  /**
   * Registers the operators, where that has not been done for this object. The options may be
   * closed as soon as the session is there.
   *
   * @throws TacoException of kind RUNTIME where there is no library for this platform, or ONNX
   *     Runtime refuses it
   */
  public static void register(OrtSession.SessionOptions options) {
    Path file = file();
    try {
      synchronized (REGISTERED) {
        if (!REGISTERED.contains(options)) {
          options.registerCustomOpLibrary(file.toString());
          REGISTERED.add(options);
        }
      }
    } catch (OrtException e) {
      throw new TacoException(
          TacoException.Kind.RUNTIME,
          "ONNX Runtime %s refuses the sparse operators in %s: %s"
              .formatted(Session.runtimeVersion(), file, e.getMessage()),
          e);
    }
  }

  /** Set when it has been said that a model runs without its operators. */
  private static final AtomicBoolean SAID_DENSE = new AtomicBoolean();

  /**
   * {@link #register}s the operators for a model that has some; where there is no library for this
   * platform, says once that the model runs densely.
   */
  static void registerFor(String model, OrtSession.SessionOptions options) {
    if (isAvailable()) {
      register(options);
    } else if (!SAID_DENSE.getAndSet(true)) {
      System.getLogger(OperatorLibrary.class.getName())
          .log(
              System.Logger.Level.WARNING,
              model
                  + " runs densely, without its sparse operators: "
                  + Objects.requireNonNull(Holder.FAILURE).getMessage());
    }
  }

  /** Whether {@link #register} has a library for this platform. */
  public static boolean isAvailable() {
    return Holder.FILE != null;
  }

  /**
   * The library as a file that lives as long as this process.
   *
   * @throws TacoException of kind RUNTIME where there is none for this platform
   */
  public static Path file() {
    if (Holder.FAILURE != null) {
      // A new one each time, with the stack of whoever asks.
      throw new TacoException(
          TacoException.Kind.RUNTIME, String.valueOf(Holder.FAILURE.getMessage()), Holder.FAILURE);
    }
    return Objects.requireNonNull(Holder.FILE);
  }

  /**
   * The instruction sets that the library has kernels for and this processor runs, best first.
   *
   * @throws TacoException as {@link #file}
   */
  public static List<String> instructionSets() {
    // The library is never unloaded: ONNX Runtime may hold it, too.
    SymbolLookup library = SymbolLookup.libraryLookup(file(), Arena.global());
    AddressLayout text =
        ValueLayout.ADDRESS.withTargetLayout(
            MemoryLayout.sequenceLayout(Long.MAX_VALUE, ValueLayout.JAVA_BYTE));
    try {
      MemorySegment names =
          (MemorySegment)
              Linker.nativeLinker()
                  .downcallHandle(
                      library.findOrThrow("taco4j_available_isas"), FunctionDescriptor.of(text))
                  .invokeExact();
      return List.of(names.getString(0).split(","));
    } catch (Throwable e) {
      throw new IllegalStateException("taco4j_available_isas failed", e);
    }
  }

  /** The instruction set whose kernels run: what {@code TACO4J_ISA} names, or the best. */
  public static String instructionSet() {
    String forced = System.getenv("TACO4J_ISA");
    return forced == null || forced.isEmpty() ? instructionSets().getFirst() : forced;
  }

  /**
   * What tells this build of the library from others: the beginning of the SHA-256 of its file.
   *
   * @throws TacoException as {@link #file}
   */
  public static String build() {
    try {
      return Sha256.hex(file()).substring(0, 16);
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.RUNTIME, file() + ": cannot be read: " + e.getMessage(), e);
    }
  }

  /**
   * Writes the library into a folder, for programs in other languages.
   *
   * @return the file
   * @throws TacoException as {@link #file}; of kind RUNTIME also when the file system refuses
   */
  public static Path writeTo(Path folder) {
    Path target = folder.resolve(file().getFileName());
    AtomicFiles.write(target, out -> Files.copy(file(), out));
    return target;
  }

  /** {@code linux-x86_64}: as the build calls it. */
  public static String platform() {
    String name = System.getProperty("os.name").toLowerCase(Locale.ROOT);
    String os = name.startsWith("mac") ? "macosx" : name.startsWith("win") ? "windows" : name;
    String arch =
        switch (System.getProperty("os.arch")) {
          case "amd64" -> "x86_64";
          case "aarch64" -> "arm64";
          case String other -> other;
        };
    return os + "-" + arch;
  }

  /**
   * Finds the library of a platform on a class path; one that is inside a jar is copied to a
   * temporary folder that only this user may enter, and that goes when the process ends.
   */
  static Path locate(ClassLoader classPath, String platform) {
    String name = platform.startsWith("macosx") ? "libtaco4j_ops.dylib" : "libtaco4j_ops.so";
    String resource = "META-INF/native/" + platform + "/" + name;
    URL found = classPath.getResource(resource);
    if (found == null) {
      throw TacoException.runtime(
          "this build of taco4j has no sparse operators for %s (%s is missing); install cmake and g++"
                  .formatted(platform, resource)
              + " or clang and build it on such a machine (mvn package), or run the model without"
              + " them: it computes the same, densely");
    }
    try {
      return found.getProtocol().equals("file")
          ? Path.of(URI.create(found.toString()))
          : extract(found, name);
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.RUNTIME,
          "the sparse operators cannot be copied out of the jar to %s: %s; -Djava.io.tmpdir=FOLDER"
                  .formatted(System.getProperty("java.io.tmpdir"), e)
              + " names another folder",
          e);
    }
  }

  private static Path extract(URL library, String name) throws IOException {
    // On POSIX a temporary folder is created with the permissions rwx------.
    Path folder = Files.createTempDirectory("taco4j-operators");
    Path file = folder.resolve(name);
    // Deleted in reverse order of registration.
    folder.toFile().deleteOnExit();
    file.toFile().deleteOnExit();
    try (InputStream in = library.openStream()) {
      Files.copy(in, file);
    }
    return file;
  }
}
