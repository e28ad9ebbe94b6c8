package org.taco4j.compute;

import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
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
   * Chooses; a choice that is worse than was to be hoped for is logged as a warning.
   *
   * @param request {@code "auto"}, {@code "scalar"} or {@code "simd"}
   * @throws TacoException of kind RUNTIME where {@code "simd"} was asked for and cannot be had, of
   *     kind USAGE for any other word
   */
  public static Choice choose(String request, Workers workers) {
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
          case "auto" -> {
            String obstacle = simdObstacle();
            yield obstacle.isEmpty()
                ? new Choice(
                    SimdBackend.create(workers), "simd is the fastest that this machine has")
                : new Choice(new ScalarBackend(workers), "simd is not available: " + obstacle);
          }
          default ->
              throw TacoException.usage(
                  "no backend '%s'; there are: auto, scalar, simd".formatted(request));
        };
    boolean slower = request.equals("auto") && choice.backend instanceof ScalarBackend;
    LOG.log(
        slower ? Level.WARNING : Level.DEBUG,
        "backend {0} ({1})",
        choice.backend.description(),
        choice.reason);
    return choice;
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
