package org.taco4j.execute;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/**
 * Lets the C library keep memory that libtorch gives back. A graph makes and frees a tensor of some
 * megabytes with every operator; by default, and more so as {@code taco} sets it for calibration,
 * glibc gets each of them from the system and clears it page by page. On MobileNetV2 that is a
 * fifth of the time of tuning.
 */
final class NativeHeap {
  // Of malloc.h.
  private static final int TRIM_THRESHOLD = -1;
  private static final int MMAP_THRESHOLD = -3;

  /** The largest that glibc takes. */
  private static final int MMAP_BYTES = 32 << 20;

  /** Free memory at the top of the heap that is kept. */
  private static final int TRIM_BYTES = 512 << 20;

  private NativeHeap() {}

  /** Sets it, where the C library is glibc; elsewhere this does nothing. */
  static void keepFreedMemory() {
    Linker linker = Linker.nativeLinker();
    linker
        .defaultLookup()
        .find("mallopt")
        .ifPresent(
            address -> {
              MethodHandle mallopt =
                  linker.downcallHandle(
                      address,
                      FunctionDescriptor.of(
                          ValueLayout.JAVA_INT, ValueLayout.JAVA_INT, ValueLayout.JAVA_INT));
              try {
                int mapped = (int) mallopt.invokeExact(MMAP_THRESHOLD, MMAP_BYTES);
                int trimmed = (int) mallopt.invokeExact(TRIM_THRESHOLD, TRIM_BYTES);
                if (mapped != 1 || trimmed != 1) {
                  throw new IllegalStateException("mallopt: " + mapped + ", " + trimmed);
                }
              } catch (Throwable e) {
                throw new IllegalStateException(e);
              }
            });
  }
}
