package org.taco4j.compute;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.taco4j.common.Workers;
import org.taco4j.compute.cuda.CudaBackends;
import org.taco4j.compute.cuda.FakeCuda;

/** With our own kernels for everything, however small. */
class CudaBackendTest extends BackendContract {
  private final List<Backend> open = new ArrayList<>();
  private FakeCuda cuda;

  @BeforeEach
  void load() {
    cuda = FakeCuda.load();
  }

  /** Nothing of a device may be left then. */
  @AfterEach
  void close() {
    open.forEach(Backend::close);
    if (cuda != null) {
      cuda.close();
    }
  }

  @Override
  Backend create(Workers workers) {
    Backend backend = open(workers);
    open.add(backend);
    return backend;
  }

  Backend open(Workers workers) {
    return CudaBackends.ofOwnKernels(workers);
  }
}
