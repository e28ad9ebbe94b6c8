package org.taco4j.compute;

import org.taco4j.common.Workers;
import org.taco4j.compute.cuda.CudaBackends;

/** With cuBLAS and cuSOLVER, or what stands for them here. */
class CudaWithLibrariesTest extends CudaBackendTest {
  @Override
  Backend open(Workers workers) {
    return CudaBackends.ofLibraries(workers);
  }
}
