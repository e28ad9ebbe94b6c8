package org.taco4j.compute;

import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.cuda.CudaBackend;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.compute.simd.SimdBackend;

/**
 * The choice among the backends: what was asked for, or an error; the best there is only for
 * "auto".
 */
public final class Backends {
  private static final Logger LOG = System.getLogger(Backends.class.getName());
  private static final String VECTOR_MODULE = "jdk.incubator.vector";
  private static final int MIN_VECTOR_BITS = 128;

  private Backends() {}

  /**
   * A backend and why it was chosen.
   *
   * @param backend it
   * @param reason one sentence for log and report
   */
  public record Choice(Backend backend, String reason) {}

  /**
   * Chooses; a choice that is worse than was to be hoped for is logged as a warning. CUDA is never
   * chosen but by name, and not even looked for otherwise.
   *
   * @param request {@code "auto"}, {@code "scalar"}, {@code "simd"} or {@code "cuda"}
   * @param gpuMemory bytes of each GPU that {@code "cuda"} may use; 0 for most of what is free
   * @return the backend is the caller's to close
   * @throws TacoException of kind RUNTIME where what was asked for cannot be had, of kind USAGE for
   *     any other word
   */
  public static Choice choose(String request, long gpuMemory, Workers workers) {
    Choice choice =
        switch (request) {
          case "scalar" -> new Choice(new ScalarBackend(workers), "scalar was asked for");
          case "simd" -> {
            String obstacle = simdObstacle();
            if (!obstacle.isEmpty()) {
              throw TacoException.runtime("backend simd is not available: " + obstacle);
            }
            yield new Choice(SimdBackend.create(workers), "simd was asked for");
          }
          case "cuda" ->
              new Choice(CudaBackend.open(host(workers), gpuMemory), "cuda was asked for");
          case "auto" -> {
            String obstacle = simdObstacle();
            yield new Choice(
                host(workers),
                obstacle.isEmpty()
                    ? "simd is the fastest of the processor's"
                    : "simd is not available: " + obstacle);
          }
          default ->
              throw TacoException.usage(
                  "no backend '%s'; there are: auto, scalar, simd, cuda".formatted(request));
        };
    boolean slower = request.equals("auto") && choice.backend instanceof ScalarBackend;
    LOG.log(
        slower ? Level.WARNING : Level.DEBUG,
        "backend {0} ({1})",
        choice.backend.description(),
        choice.reason);
    return choice;
  }

  /** {@link #choose(String, long, Workers)} without a limit on the memory of GPUs. */
  public static Choice choose(String request, Workers workers) {
    return choose(request, 0, workers);
  }

  /** The best that runs on the processor. */
  private static Backend host(Workers workers) {
    return simdObstacle().isEmpty() ? SimdBackend.create(workers) : new ScalarBackend(workers);
  }

  /** What stands in the way of simd; empty where nothing does. */
  private static String simdObstacle() {
    if (ModuleLayer.boot().findModule(VECTOR_MODULE).isEmpty()) {
      return "the JVM runs without --add-modules " + VECTOR_MODULE;
    }
    int bits = SimdBackend.vectorBits();
    return bits < MIN_VECTOR_BITS
        ? "the Vector API offers %d-bit vectors here, %d are needed"
            .formatted(bits, MIN_VECTOR_BITS)
        : "";
  }
}
