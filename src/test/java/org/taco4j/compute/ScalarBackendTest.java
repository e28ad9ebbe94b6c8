package org.taco4j.compute;

import org.taco4j.common.Workers;
import org.taco4j.compute.scalar.ScalarBackend;

final class ScalarBackendTest extends BackendContract {
  @Override
  Backend create(Workers workers) {
    return new ScalarBackend(workers);
  }
}
