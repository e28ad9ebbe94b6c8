package org.taco4j.runtime;

import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtProvider;
import java.util.Set;
import org.taco4j.common.TacoException;
import org.taco4j.compute.cuda.CudaProbe;

/** What ONNX Runtime runs a model on. */
public enum ExecutionProvider {
  /** The processor. */
  CPU(OrtProvider.CPU),
  /** CUDA kernels of ONNX Runtime, cuDNN and cuBLAS. */
  CUDA(OrtProvider.CUDA),
  /** TensorRT, and CUDA for what it does not take. */
  TENSORRT(OrtProvider.TENSOR_RT);

  private final OrtProvider provider;

  ExecutionProvider(OrtProvider provider) {
    this.provider = provider;
  }

  /** As ONNX Runtime calls it: {@code CUDAExecutionProvider}. */
  public String ortName() {
    return provider.getName();
  }

  /**
   * Throws where it cannot be used.
   *
   * @throws TacoException of kind RUNTIME with the reason and what to do
   */
  public void require() {
    if (this != CPU) {
      require(CudaProbe.examine(), OrtEnvironment.getAvailableProviders());
    }
  }

  /** {@link #require} with what there is. */
  void require(CudaProbe.Findings cuda, Set<OrtProvider> built) {
    if (!cuda.has("driver") || !cuda.has("device")) {
      throw TacoException.runtime(
          "ONNX Runtime has no GPU for %s here: %s".formatted(ortName(), cuda.obstacle()));
    }
    if (!built.contains(provider)) {
      throw TacoException.runtime(
          ("ONNX Runtime %s on the class path is the build for processors, without %s; build with"
                  + " `mvn -Ponnxruntime-gpu package`, or put com.microsoft.onnxruntime:onnxruntime_gpu in place of"
                  + " onnxruntime")
              .formatted(Session.runtimeVersion(), ortName()));
    }
  }
}
