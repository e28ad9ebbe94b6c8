package org.taco4j.compute.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Assumptions;

/**
 * A CUDA without a GPU: libraries with the names of NVIDIA's that the build has made of {@code
 * src/test/cpp/cuda}, where the driver runs our kernels on the CPU and cuBLAS and cuSOLVER are
 * plain loops. Work in streams is done as late as it may be, new memory is 0xff bytes, and what a
 * GPU rejects is rejected; fake_driver.cc says more.
 *
 * <pre>{@code
 * try (FakeCuda cuda = FakeCuda.load()) {
 *   // CudaBackend, CudaProbe, or org.bytedeco.cuda
 * }
 * }</pre>
 *
 * <p>{@link #load} must come before the first use of the probe and of org.bytedeco.cuda in the JVM:
 * the loader of the system finds a library that is open by its name, so whoever asks for {@code
 * libcuda.so.1} or needs it gets this one, whatever is installed. That holds for {@code
 * SymbolLookup.libraryLookup} and for the bindings' natives, which JavaCPP extracts from their jar
 * and opens with System.load; none of JavaCPP's own settings are needed. The libraries stay for the
 * life of the JVM, as the bindings do; but after {@link #close} the driver says that it sees no
 * GPU, so tests in the same JVM without a FakeCuda have none. Tests run one at a time.
 */
public final class FakeCuda implements AutoCloseable {
  private static final Path FOLDER = Path.of("target", "cmake", "tests", "fake-cuda");

  /** On a machine with a GPU, TACO4J_TEST_GPU=1 has the tests run on it. */
  static final boolean ON_GPU = "1".equals(System.getenv("TACO4J_TEST_GPU"));

  /** In the order in which each finds open what it needs. */
  private static final List<String> LIBRARIES =
      List.of(
          "libcuda.so.1",
          "libcudart.so.13",
          "libcublasLt.so.13",
          "libcublas.so.13",
          "libnvJitLink.so.13",
          "libcusparse.so.12",
          "libcusolver.so.12",
          "libcusolverMg.so.12");

  private static final Linker LINKER = Linker.nativeLinker();

  private final long liveBefore;

  private FakeCuda() {
    reset();
    liveBefore = liveAllocations();
  }

  /**
   * One GPU of 4 GiB and compute capability 7.5. Skips the test where the build has made none.
   *
   * <p>With TACO4J_TEST_GPU=1 in the environment nothing is faked: the test runs on the machine's
   * GPUs, fails where there is none, and is skipped once it asks for another kind of GPU or for
   * something that only the fake can do.
   */
  public static FakeCuda load() {
    if (ON_GPU) {
      String obstacle = CudaProbe.examine().obstacle();
      if (!obstacle.isEmpty()) {
        throw new IllegalStateException("TACO4J_TEST_GPU=1, but " + obstacle);
      }
      return new FakeCuda();
    }
    Assumptions.assumeTrue(
        Files.exists(FOLDER.resolve(LIBRARIES.getFirst())),
        "no fake CUDA was built: no cmake, or not Linux");
    for (String library : LIBRARIES) {
      System.load(FOLDER.resolve(library).toAbsolutePath().toString());
    }
    return new FakeCuda();
  }

  /** How many GPUs there are; the driver has to be started again by cuInit. */
  public FakeCuda devices(int count) {
    if (ON_GPU && CudaProbe.examine().gpus().size() == count) {
      return this;
    }
    return set("devices", count);
  }

  /** 75, 80, 86, 89 or 90. */
  public FakeCuda capability(int capability) {
    return set("capability", capability);
  }

  /** The memory of each GPU. */
  public FakeCuda memory(long bytes) {
    return set("memory", bytes);
  }

  /** What cuDriverGetVersion says, such as 13000. */
  public FakeCuda driver(int version) {
    return set("driver", version);
  }

  /** What cuInit returns; the driver has to be started again by it. */
  public FakeCuda init(int code) {
    return set("init", code);
  }

  /** Whether the driver says that it ends kernels that take long; it does not. */
  public FakeCuda kernelTimeout(boolean ends) {
    if (ON_GPU) {
      return this; // results must not depend on it
    }
    return set("kernel_timeout", ends ? 1 : 0);
  }

  /** How many multiprocessors there are; 0: as many as the GPU of the compute capability has. */
  public FakeCuda multiprocessors(int count) {
    if (ON_GPU) {
      return this; // results must not depend on them
    }
    return set("multiprocessors", count);
  }

  /** That launch from now on, 1 for the next, fails when it is done, and the device with it. */
  public FakeCuda failLaunch(int number) {
    return set("fail_launch", number);
  }

  /** In which order threads of a block run: forward, backward, or shuffle: and a seed. */
  public FakeCuda order(String order) {
    if (ON_GPU) {
      return this; // a GPU has its own
    }
    try (Arena arena = Arena.ofConfined()) {
      MethodHandle handle =
          LINKER.downcallHandle(
              symbol("taco4j_fake_set_order"), FunctionDescriptor.of(JAVA_INT, ADDRESS));
      if ((int) invoke(handle, arena.allocateFrom(order)) != 0) {
        throw new IllegalArgumentException(order);
      }
    }
    return this;
  }

  /** Bytes of device memory that are allocated. */
  public long liveBytes() {
    return number("taco4j_fake_live_bytes");
  }

  /** Allocations, of pinned memory too, streams, events, modules and contexts that there are. */
  public long liveAllocations() {
    return number("taco4j_fake_live_allocations");
  }

  /** Skips a test on a GPU, which is larger than the one that the test is made for. */
  public void needsTheFake() {
    Assumptions.assumeFalse(ON_GPU, "it is made for the size of the fake GPU");
  }

  /** From here on there is no GPU. Throws where something that the test has made is left. */
  @Override
  public void close() {
    if (ON_GPU) {
      return;
    }
    long left = liveAllocations() - liveBefore;
    reset();
    devices(0);
    if (left != 0) {
      // So that other tests do not suffer from it.
      invoke(LINKER.downcallHandle(symbol("taco4j_fake_reset"), FunctionDescriptor.ofVoid()));
      throw new AssertionError(
          "%d allocations, streams, events, modules or contexts of CUDA are left".formatted(left));
    }
  }

  private void reset() {
    if (ON_GPU) {
      return;
    }
    devices(1).init(0).driver(13000).memory(4L << 30).capability(75);
    multiprocessors(0).failLaunch(0).kernelTimeout(false).order("forward");
  }

  private FakeCuda set(String name, long value) {
    Assumptions.assumeFalse(ON_GPU, "a GPU's %s cannot be set".formatted(name));
    try (Arena arena = Arena.ofConfined()) {
      MethodHandle handle =
          LINKER.downcallHandle(
              symbol("taco4j_fake_set"), FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG));
      if ((int) invoke(handle, arena.allocateFrom(name), value) != 0) {
        throw new IllegalArgumentException(name);
      }
    }
    return this;
  }

  private static long number(String function) {
    if (ON_GPU) {
      return 0; // what is left is CudaDevice's to find
    }
    return (long) invoke(LINKER.downcallHandle(symbol(function), FunctionDescriptor.of(JAVA_LONG)));
  }

  private static MemorySegment symbol(String name) {
    return SymbolLookup.libraryLookup(LIBRARIES.getFirst(), Arena.global())
        .find(name)
        .orElseThrow(
            () -> new IllegalStateException("FakeCuda.load came after a real CUDA driver"));
  }

  private static Object invoke(MethodHandle handle, Object... arguments) {
    try {
      return handle.invokeWithArguments(arguments);
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    }
  }
}
