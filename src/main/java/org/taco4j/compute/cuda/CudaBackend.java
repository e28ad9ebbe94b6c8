package org.taco4j.compute.cuda;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.ObsElimination;

/**
 * NVIDIA's GPUs for whole operations of the solvers ({@link #device}), and a host backend for the
 * small and sequential steps between them, which its description names. It owns the devices until
 * it is closed.
 */
public final class CudaBackend implements Backend {
  private final CudaKernels kernels;
  private final Backend host;
  private final String description;
  private final String resultKernels;

  private CudaBackend(CudaKernels kernels, Backend host, CudaProbe.Findings findings) {
    this.kernels = kernels;
    this.host = host;
    String libraries = libraries(findings);
    String kind = kind(kernels.devices().getFirst().gpu());
    this.description =
        "cuda: %s, %s; small steps on the host by %s"
            .formatted(
                kernels.devices().stream()
                    .map(CudaDevice::toString)
                    .collect(Collectors.joining(", ")),
                libraries,
                host.description());
    this.resultKernels = "cuda: %s, %s; %s".formatted(kind, libraries, host.kernels());
  }

  /**
   * Opens all GPUs that are of the kind of the first: results must not depend on which of them a
   * layer meets.
   *
   * @param host for what is not worth the way to a device; its workers become the backend's
   * @param memoryLimit bytes of each device that may be used at once; 0 for most of what is free
   * @throws TacoException of kind RUNTIME where there is no usable GPU, with the reason
   */
  public static CudaBackend open(Backend host, long memoryLimit) {
    CudaProbe.Findings findings = CudaProbe.examine();
    if (!findings.obstacle().isEmpty()) {
      throw TacoException.runtime("backend cuda is not available: " + findings.obstacle());
    }
    List<CudaDevice> devices = new ArrayList<>();
    try {
      String first = kind(findings.gpus().getFirst());
      for (CudaProbe.Gpu gpu : findings.gpus()) {
        if (kind(gpu).equals(first)) {
          devices.add(CudaDevice.open(gpu, memoryLimit));
        }
      }
    } catch (TacoException e) {
      devices.forEach(CudaDevice::close);
      throw e;
    }
    return new CudaBackend(new CudaKernels(devices), host, findings);
  }

  private static String kind(CudaProbe.Gpu gpu) {
    return "%s sm_%d".formatted(gpu.name(), gpu.capability());
  }

  /** Whose products and factorisations they are. */
  private static String libraries(CudaProbe.Findings findings) {
    return "products by %s, factorisations by %s"
        .formatted(
            findings.has("cuBLAS") ? "cuBLAS" : "our own kernels (no cuBLAS)",
            findings.has("cuSOLVER") ? "cuSOLVER" : "our own kernels (no cuSOLVER)");
  }

  @Override
  public String name() {
    return "cuda";
  }

  @Override
  public String description() {
    return description;
  }

  @Override
  public String kernels() {
    return resultKernels;
  }

  @Override
  public Workers workers() {
    return host.workers();
  }

  @Override
  public DeviceKernels device() {
    return kernels;
  }

  @Override
  public void close() {
    kernels.close();
    host.close();
  }

  @Override
  public void gemm(float alpha, FloatMatrix a, FloatMatrix b, float beta, FloatMatrix c) {
    host.gemm(alpha, a, b, beta, c);
  }

  @Override
  public void gemm(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c) {
    host.gemm(alpha, a, b, beta, c);
  }

  @Override
  public void gramTile(FloatMatrix left, FloatMatrix right, FloatMatrix tile) {
    host.gramTile(left, right, tile);
  }

  @Override
  public void gramTriangle(FloatMatrix samples, FloatMatrix triangle) {
    host.gramTriangle(samples, triangle);
  }

  @Override
  public int cholesky(FloatMatrix a) {
    return host.cholesky(a);
  }

  @Override
  public int cholesky(DoubleMatrix a) {
    return host.cholesky(a);
  }

  @Override
  public int invertPositiveDefinite(DoubleMatrix a) {
    return host.invertPositiveDefinite(a);
  }

  @Override
  public int solvePositiveDefinite(DoubleMatrix a, DoubleMatrix b) {
    return host.solvePositiveDefinite(a, b);
  }

  @Override
  public void invertLower(FloatMatrix lower) {
    host.invertLower(lower);
  }

  @Override
  public void obsSweep(FloatMatrix inverse, FloatMatrix w, boolean[] removed) {
    host.obsSweep(inverse, w, removed);
  }

  @Override
  public void obsSweep(
      FloatMatrix inverse, FloatMatrix w, boolean[] removed, int kept, int groupSize) {
    host.obsSweep(inverse, w, removed, kept, groupSize);
  }

  @Override
  public ObsElimination obsElimination(
      FloatMatrix inverse, double[] leastPivots, ObsElimination.Units units) {
    return host.obsElimination(inverse, leastPivots, units);
  }

  @Override
  public ObsElimination obsElimination(
      DoubleMatrix inverse, double[] leastPivots, ObsElimination.Units units) {
    return host.obsElimination(inverse, leastPivots, units);
  }

  @Override
  public void quantSweep(
      FloatMatrix inverse,
      FloatMatrix w,
      boolean[] removed,
      float[] scale,
      float[] lowest,
      float[] highest) {
    host.quantSweep(inverse, w, removed, scale, lowest, highest);
  }

  @Override
  public double quadraticForm(FloatMatrix w, DoubleMatrix g) {
    return host.quadraticForm(w, g);
  }

  @Override
  public void gemmTile(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c) {
    host.gemmTile(alpha, a, b, beta, c);
  }

  @Override
  public int invertAndReduce(DoubleMatrix a, DoubleMatrix r, double[] schur) {
    return host.invertAndReduce(a, r, schur);
  }

  @Override
  public void rankOne(double alpha, double[] x, double[] y, DoubleMatrix a) {
    host.rankOne(alpha, x, y, a);
  }

  @Override
  public void multiply(DoubleMatrix a, double[] x, double[] y) {
    host.multiply(a, x, y);
  }

  @Override
  public int cheapestRemoval(
      DoubleMatrix w, double[] g, DoubleMatrix c, double[] s, double inverseSchur) {
    return host.cheapestRemoval(w, g, c, s, inverseSchur);
  }
}
