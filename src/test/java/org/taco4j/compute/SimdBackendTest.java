package org.taco4j.compute;

import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.taco4j.common.Workers;
import org.taco4j.compute.simd.SimdBackend;

final class SimdBackendTest extends BackendContract {
  @Override
  Backend create(Workers workers) {
    return SimdBackend.createOverOpenBlas(workers);
  }

  /** Else this class would test the fallback, and nobody would see. */
  @Test
  void computesWithOpenBlas() {
    String description = create(new Workers(1)).description();
    assertTrue(description.startsWith("simd: OpenBLAS 0."), description);
  }
}
