package org.taco4j.compute.cuda;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
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
  /** A matrix and what its factorisation needs beside it, by the matrix; less is used. */
  private static final int FACTOR_SCRATCH = 2;

  /**
   * Multiply-adds from which a single product or factorisation of heap matrices is worth the way to
   * a device and back: some 10 ms of a processor.
   */
  private static final long LEAST_WORK = 1L << 30;

  private static final Set<String> LIBRARIES = Set.of("cuBLAS", "cuSOLVER");

  private final CudaKernels kernels;
  private final Backend host;
  private final long leastWork;
  private final String description;
  private final String resultKernels;

  private CudaBackend(
      List<CudaDevice> devices, Backend host, long leastWork, CudaProbe.Findings findings) {
    this.kernels = new CudaKernels(devices, host);
    this.host = host;
    this.leastWork = leastWork;
    String libraries = devices.getFirst().linearAlgebra().description();
    String kind = kind(devices.getFirst().gpu());
    this.description =
        "cuda: %s, %s; small steps on the host by %s"
            .formatted(
                devices.stream().map(CudaDevice::toString).collect(Collectors.joining(", ")),
                libraries,
                host.description());
    // Other versions of the libraries may add up in other orders.
    String versions =
        findings.parts().stream()
            .filter(part -> part.available() && LIBRARIES.contains(part.name()))
            .map(part -> part.name() + " " + part.detail())
            .collect(Collectors.joining(", "));
    this.resultKernels =
        "cuda: %s, %s (%s); %s".formatted(kind, libraries, versions, host.kernels());
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
    return open(
        host, memoryLimit, LEAST_WORK, findings, DeviceLinearAlgebra.Libraries.of(findings));
  }

  /**
   * {@link #open(Backend, long)}.
   *
   * @param leastWork multiply-adds from which single operations go to a device
   * @param libraries what is done by which of CUDA's libraries
   */
  static CudaBackend open(
      Backend host,
      long memoryLimit,
      long leastWork,
      CudaProbe.Findings findings,
      DeviceLinearAlgebra.Libraries libraries) {
    if (!findings.obstacle().isEmpty()) {
      throw TacoException.runtime("backend cuda is not available: " + findings.obstacle());
    }
    List<CudaDevice> devices = new ArrayList<>();
    try {
      String first = kind(findings.gpus().getFirst());
      for (CudaProbe.Gpu gpu : findings.gpus()) {
        if (kind(gpu).equals(first)) {
          devices.add(CudaDevice.open(gpu, memoryLimit, libraries));
        }
      }
    } catch (TacoException e) {
      devices.forEach(CudaDevice::close);
      throw e;
    }
    return new CudaBackend(devices, host, leastWork, findings);
  }

  private static String kind(CudaProbe.Gpu gpu) {
    return "%s sm_%d".formatted(gpu.name(), gpu.capability());
  }

  @Override
  public String name() {
    return "cuda";
  }

  @Override
  public String description() {
    return description + "; kernels " + Verification.describe();
  }

  @Override
  public String caveat() {
    return Verification.isDone()
        ? ""
        : "the CUDA kernels are %s: tests have run them on the CPU only; compare the result with that of --backend simd"
            .formatted(Verification.describe());
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
    FloatMatrix.checkProduct(a, b, c);
    if (!isWorthIt(c.rows(), c.cols(), a.cols())) {
      host.gemm(alpha, a, b, beta, c);
      return;
    }
    try (DeviceScope scope =
        kernels
            .device()
            .scope(HostMatrices.bytes(a) + HostMatrices.bytes(b) + HostMatrices.bytes(c))) {
      HostMatrices.Uploaded to =
          beta == 0 ? HostMatrices.like(scope, c) : HostMatrices.upload(scope, c);
      multiply(
          scope, alpha, HostMatrices.upload(scope, a), HostMatrices.upload(scope, b), beta, to);
      HostMatrices.download(scope, to.matrix(), c);
    }
  }

  @Override
  public void gemm(double alpha, DoubleMatrix a, DoubleMatrix b, double beta, DoubleMatrix c) {
    DoubleMatrix.checkProduct(a, b, c);
    if (!isWorthIt(c.rows(), c.cols(), a.cols())) {
      host.gemm(alpha, a, b, beta, c);
      return;
    }
    try (DeviceScope scope =
        kernels
            .device()
            .scope(HostMatrices.bytes(a) + HostMatrices.bytes(b) + HostMatrices.bytes(c))) {
      HostMatrices.Uploaded to =
          beta == 0 ? HostMatrices.like(scope, c) : HostMatrices.upload(scope, c);
      multiply(
          scope, alpha, HostMatrices.upload(scope, a), HostMatrices.upload(scope, b), beta, to);
      HostMatrices.download(scope, to.matrix(), c);
    }
  }

  /** C = alpha A B + beta C of the host's matrices, as they lie on the device. */
  private static void multiply(
      DeviceScope scope,
      double alpha,
      HostMatrices.Uploaded a,
      HostMatrices.Uploaded b,
      double beta,
      HostMatrices.Uploaded c) {
    DeviceLinearAlgebra algebra = scope.device().linearAlgebra();
    if (c.transposed()) {
      algebra.gemm(
          scope, alpha, b.matrix(), !b.transposed(), a.matrix(), !a.transposed(), beta, c.matrix());
    } else {
      algebra.gemm(
          scope, alpha, a.matrix(), a.transposed(), b.matrix(), b.transposed(), beta, c.matrix());
    }
  }

  /** By the shape alone, so that results repeat. */
  private boolean isWorthIt(long m, long n, long k) {
    return m * n * k >= leastWork;
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
    if (!a.isRowMajor() || !isWorthIt(a.rows(), a.rows(), a.rows() / 3)) {
      return host.cholesky(a);
    }
    try (DeviceScope scope = kernels.device().scope(FACTOR_SCRATCH * HostMatrices.bytes(a))) {
      DeviceMatrix l = HostMatrices.upload(scope, a).matrix();
      int failed = factor(scope, l);
      if (failed < 0) {
        HostMatrices.download(scope, l, a);
      }
      return failed;
    }
  }

  @Override
  public int cholesky(DoubleMatrix a) {
    if (!a.isRowMajor() || !isWorthIt(a.rows(), a.rows(), a.rows() / 3)) {
      return host.cholesky(a);
    }
    try (DeviceScope scope = kernels.device().scope(FACTOR_SCRATCH * HostMatrices.bytes(a))) {
      DeviceMatrix l = HostMatrices.upload(scope, a).matrix();
      int failed = factor(scope, l);
      if (failed < 0) {
        HostMatrices.download(scope, l, a);
      }
      return failed;
    }
  }

  private static int factor(DeviceScope scope, DeviceMatrix a) {
    DeviceArray flag = scope.ints(1);
    scope.device().linearAlgebra().cholesky(scope, a, flag);
    return scope.downloadInt(flag);
  }

  @Override
  public int invertPositiveDefinite(DoubleMatrix a) {
    if (!a.isRowMajor() || !isWorthIt(a.rows(), a.rows(), a.rows())) {
      return host.invertPositiveDefinite(a);
    }
    try (DeviceScope scope = kernels.device().scope((1 + FACTOR_SCRATCH) * HostMatrices.bytes(a))) {
      DeviceArray flag = scope.ints(1);
      DeviceMatrix inverse = HostMatrices.like(scope, a).matrix();
      scope
          .device()
          .linearAlgebra()
          .invertPositiveDefinite(scope, HostMatrices.upload(scope, a).matrix(), inverse, flag);
      int failed = scope.downloadInt(flag);
      if (failed < 0) {
        HostMatrices.download(scope, inverse, a);
      }
      return failed;
    }
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
    if (isWorthIt(w.rows(), w.rows(), w.cols()) && BlockSweeps.fits(inverse, w)) {
      BlockSweeps.remove(kernels.device(), inverse, w, removed);
    } else {
      host.obsSweep(inverse, w, removed);
    }
  }

  @Override
  public void obsSweep(
      FloatMatrix inverse, FloatMatrix w, boolean[] removed, int kept, int groupSize) {
    if (isWorthIt(w.rows(), w.rows(), w.cols()) && BlockSweeps.fits(inverse, w)) {
      BlockSweeps.removeFromGroups(kernels.device(), inverse, w, removed, kept, groupSize);
    } else {
      host.obsSweep(inverse, w, removed, kept, groupSize);
    }
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
    if (isWorthIt(w.rows(), w.rows(), w.cols()) && BlockSweeps.fits(inverse, w)) {
      BlockSweeps.round(kernels.device(), inverse, w, removed, scale, lowest, highest);
    } else {
      host.quantSweep(inverse, w, removed, scale, lowest, highest);
    }
  }

  @Override
  public double quadraticForm(FloatMatrix w, DoubleMatrix g) {
    if (!w.isRowMajor() || !isWorthIt(w.rows(), w.cols(), w.cols())) {
      return host.quadraticForm(w, g);
    }
    try (DeviceScope scope =
        kernels
            .device()
            .scope(
                HostMatrices.bytes(g)
                    + 5 * HostMatrices.bytes(w)
                    + (long) Double.BYTES * w.rows())) {
      return scope
          .device()
          .linearAlgebra()
          .quadraticForm(
              scope,
              HostMatrices.upload(scope, w).matrix(),
              HostMatrices.upload(scope, g).matrix());
    }
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
