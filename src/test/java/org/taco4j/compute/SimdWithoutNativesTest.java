package org.taco4j.compute;

import org.taco4j.common.Workers;
import org.taco4j.compute.simd.SimdBackend;

/** The Vector API alone, at this machine's vector width; {@link VectorWidthTest} has the others. */
final class SimdWithoutNativesTest extends BackendContract {
  @Override
  Backend create(Workers workers) {
    return SimdBackend.createWithoutNatives(workers);
  }
}
