package org.taco4j.execute;

import java.util.Optional;
import org.bytedeco.openblas.global.openblas_nolapack;
import org.bytedeco.pytorch.global.torch;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;

/**
 * Loads libtorch, once, and keeps it at one thread per operator: with more, sums would be cut by
 * the number of threads, and the same seed would not give the same bytes. Work is spread by running
 * several executions side by side instead.
 */
final class LibTorch {
  private LibTorch() {}

  private static final class Holder {
    static final @Nullable String FAILURE = load();
  }

  private static @Nullable String load() {
    try {
      openblas_nolapack.blas_set_num_threads(1);
      torch.set_num_threads(1);
      NativeHeap.keepFreedMemory();
      return null;
    } catch (LinkageError e) {
      Throwable cause = e.getMessage() == null && e.getCause() != null ? e.getCause() : e;
      return cause.toString().lines().findFirst().orElse("");
    }
  }

  /** Why libtorch cannot be used here; empty where it can. */
  static Optional<String> unavailable() {
    return Optional.ofNullable(Holder.FAILURE);
  }

  /**
   * To be called on each thread before it computes: OpenMP, and with it oneDNN, keeps the number of
   * threads for each calling thread.
   *
   * @throws TacoException of kind RUNTIME when libtorch cannot be loaded
   */
  static void enter() {
    if (Holder.FAILURE != null) {
      throw TacoException.runtime(
          "libtorch cannot be loaded: "
              + Holder.FAILURE
              + "; it needs natives of org.bytedeco:pytorch for this platform on the class path");
    }
    torch.set_num_threads(1);
  }

  /** Whether memory was short: libtorch's own refusal, or JavaCPP's at its limit. */
  static boolean isOutOfMemory(Throwable e) {
    String message = String.valueOf(e.getMessage());
    return e instanceof OutOfMemoryError
        || message.contains("allocate memory")
        || message.contains("not enough memory")
        || message.contains("out of memory")
        || message.contains("bad_alloc");
  }

  /** An error of kind RUNTIME that says where memory was short and what to do. */
  static TacoException outOfMemory(String where, Throwable e) {
    return new TacoException(
        TacoException.Kind.RUNTIME,
        "out of memory in %s: %s; use a smaller batch or fewer threads"
            .formatted(where, message(e)),
        e);
  }

  /** What libtorch says of an error, without its stack of native frames. */
  static String message(Throwable e) {
    String message = String.valueOf(e.getMessage());
    int frames = message.indexOf("Exception raised from");
    return (frames < 0 ? message : message.substring(0, frames)).strip();
  }
}
