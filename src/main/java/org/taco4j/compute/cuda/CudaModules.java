package org.taco4j.compute.cuda;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.HashMap;
import java.util.Map;
import org.bytedeco.cuda.cudart.CUfunc_st;
import org.bytedeco.cuda.cudart.CUmod_st;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.BytePointer;
import org.taco4j.common.TacoException;

/**
 * The compiled kernels of a device, loaded at their first use: each file of {@code cuda-kernels} is
 * a module.
 */
final class CudaModules implements AutoCloseable {
  private final CudaDevice device;
  private final Map<String, CUmod_st> modules = new HashMap<>();
  private final Map<String, Kernel> kernels = new HashMap<>();

  CudaModules(CudaDevice device) {
    this.device = device;
  }

  /** Where in the jar the kernels of a file lie. */
  static String resource(String file) {
    return "/META-INF/cuda/" + file + ".fatbin";
  }

  /** A kernel; the device's context is the thread's. */
  synchronized Kernel kernel(String file, String name) {
    return kernels.computeIfAbsent(name, key -> load(file, key));
  }

  private Kernel load(String file, String name) {
    CUmod_st module = modules.computeIfAbsent(file, this::load);
    CUfunc_st function = new CUfunc_st();
    Cuda.check(
        cudart.cuModuleGetFunction(function, module, name),
        device.toString(),
        "kernel %s of %s.cu".formatted(name, file));
    return new Kernel(device, name, function);
  }

  private CUmod_st load(String file) {
    try (InputStream resource = CudaModules.class.getResourceAsStream(resource(file))) {
      if (resource == null) {
        throw TacoException.runtime("this taco4j was built without the CUDA kernels of " + file);
      }
      CUmod_st module = new CUmod_st();
      try (BytePointer image = new BytePointer(resource.readAllBytes())) {
        Cuda.check(
            cudart.cuModuleLoadData(module, image),
            device.toString(),
            "loading the kernels of %s.cu".formatted(file));
      }
      return module;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  @Override
  public synchronized void close() {
    modules.values().forEach(cudart::cuModuleUnload);
    modules.clear();
    kernels.clear();
  }
}
