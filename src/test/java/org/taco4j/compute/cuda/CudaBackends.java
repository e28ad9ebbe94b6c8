package org.taco4j.compute.cuda;

import org.taco4j.common.Workers;
import org.taco4j.compute.simd.SimdBackend;

/** Backends over {@link FakeCuda} for tests outside this package. */
public final class CudaBackends {
  private CudaBackends() {}

  /** Everything that a device can do goes there, by kernels of our own. */
  public static CudaBackend ofOwnKernels(Workers workers) {
    return open(workers, new DeviceLinearAlgebra.Libraries(false, false, 0));
  }

  /** Everything that a device can do goes there, by the (fake) libraries where they can do it. */
  public static CudaBackend ofLibraries(Workers workers) {
    return open(workers, new DeviceLinearAlgebra.Libraries(true, true, 0));
  }

  private static CudaBackend open(Workers workers, DeviceLinearAlgebra.Libraries libraries) {
    return CudaBackend.open(
        SimdBackend.create(workers), 0, /* leastWork= */ 0, CudaProbe.examine(), libraries);
  }
}
