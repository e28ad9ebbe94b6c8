package org.taco4j.compute.cuda;

import java.util.Comparator;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.compute.Backend;
import org.taco4j.compute.DeviceColumnSweep;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.compute.DoubleMatrix;
import org.taco4j.compute.FloatMatrix;
import org.taco4j.compute.GramSum;
import org.taco4j.compute.LayerElimination;
import org.taco4j.compute.ObsElimination;
import org.taco4j.compute.Patches;
import org.taco4j.compute.PivotSearch;
import org.taco4j.compute.ResidualSum;

/** The operations of {@link DeviceKernels} on one or several GPUs of the same kind. */
final class CudaKernels implements DeviceKernels, AutoCloseable {
  /** While one layer computes, the other is copied, or is in the hands of the host. */
  private static final int LAYERS_OF_A_DEVICE = 2;

  private final List<CudaDevice> devices;
  private final Backend host;
  private final AtomicInteger turn = new AtomicInteger();

  /**
   * On these devices, which it owns; at least one.
   *
   * @param host borrowed
   */
  CudaKernels(List<CudaDevice> devices, Backend host) {
    this.devices = List.copyOf(devices);
    this.host = host;
  }

  /** The device that the fewest use or wait for; of equals another than the last time. */
  CudaDevice device() {
    int first = Math.floorMod(turn.getAndIncrement(), devices.size());
    return IntStream.range(0, devices.size())
        .mapToObj(i -> devices.get((first + i) % devices.size()))
        .min(Comparator.comparingInt(CudaDevice::demand))
        .orElseThrow();
  }

  /** The device with the most memory left; of equals the first. */
  private CudaDevice roomiest() {
    return devices.stream()
        .min(Comparator.comparingLong((CudaDevice d) -> -d.memoryLeft()))
        .orElseThrow();
  }

  @Override
  public int devices() {
    return devices.size();
  }

  @Override
  public int layersAtOnce() {
    return LAYERS_OF_A_DEVICE * devices.size();
  }

  @Override
  public LayerElimination obsElimination(
      DoubleMatrix inverse,
      double[] leastPivots,
      ObsElimination.Units units,
      FloatMatrix weights,
      int setRows,
      boolean float64) {
    return new CudaObsElimination(device(), inverse, leastPivots, units, weights, setRows, float64);
  }

  @Override
  public GramSum gram(Patches patches) {
    return new CudaGram(roomiest().scope(), patches);
  }

  @Override
  public long gramBytes(Patches patches) {
    return CudaGram.bytes(patches, 0);
  }

  @Override
  public ResidualSum residuals(Patches patches, int rows) {
    return new CudaGram(roomiest().scope(CudaGram.bytes(patches, rows)), patches, rows);
  }

  @Override
  public long memory() {
    return devices.stream().mapToLong(CudaDevice::memoryLeft).sum();
  }

  @Override
  public int leastSquaresRefit(
      DoubleMatrix hessian, DoubleMatrix inverse, float[] weights, boolean[] kept, int maskRows) {
    int cols = hessian.cols();
    return new CudaRefit(device(), weights.length / Math.max(1, cols), cols, maskRows)
        .run(hessian, inverse, weights, kept);
  }

  @Override
  public Backend host() {
    return host;
  }

  @Override
  public DeviceColumnSweep columnSweep(
      DoubleMatrix hessian, int rows, int[] column, boolean[] dead) {
    return new CudaColumnSweep(device(), hessian, rows, column, dead);
  }

  @Override
  public int @Nullable [] removeColumnGroups(
      DoubleMatrix inverse, DoubleMatrix weights, int group, int count) {
    return new CudaZipLm(device(), weights.rows(), inverse.cols(), group)
        .run(inverse, weights, count);
  }

  @Override
  public PivotSearch.@Nullable Found[] swapPivots(PivotSearch search, BooleanSupplier expired) {
    return new CudaPivotSearch(device(), search).run(expired);
  }

  @Override
  public void close() {
    RuntimeException failure = null;
    for (CudaDevice device : devices) {
      try {
        device.close();
      } catch (RuntimeException e) {
        if (failure != null) {
          e.addSuppressed(failure);
        }
        failure = e;
      }
    }
    if (failure != null) {
      throw failure;
    }
  }
}
