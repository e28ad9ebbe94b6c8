package org.taco4j.calibrate;

import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;
import org.taco4j.compute.DeviceKernels;
import org.taco4j.compute.GramSum;
import org.taco4j.compute.Patches;
import org.taco4j.onnx.Unfold;

/**
 * The Gram matrix of one group of a layer whose sums are on a device. All groups share one copy of
 * the activations there, so what is added to the first group is added to all.
 */
final class DeviceGram implements GramAccumulator {
  private final Shared shared;
  private final int group;

  /** What the groups have in common. It goes when the last of them is finished, or is closed. */
  private static final class Shared {
    final Unfold unfold;
    final GramSum sum;
    int unfinished;
    long samples;
    boolean open = true;

    Shared(Unfold unfold, GramSum sum) {
      this.unfold = unfold;
      this.sum = sum;
      this.unfinished = unfold.groups();
    }

    synchronized void add(FloatBuffer activation, long[] shape) {
      Patches.Images images = DevicePatches.images(unfold, shape);
      sum.add(activation, images);
      samples += (long) images.count() * images.positions();
    }

    synchronized GramMatrix finish(int group) {
      GramMatrix matrix = new GramMatrix(unfold.cols(), samples, sum.gram(group));
      if (--unfinished == 0) {
        close();
      }
      return matrix;
    }

    synchronized void close() {
      if (open) {
        open = false;
        sum.close();
      }
    }
  }

  private DeviceGram(Shared shared, int group) {
    this.shared = shared;
    this.group = group;
  }

  /** One for each group. */
  static List<GramAccumulator> ofGroups(Unfold unfold, DeviceKernels device) {
    Shared shared = new Shared(unfold, device.gram(DevicePatches.of(unfold)));
    List<GramAccumulator> groups = new ArrayList<>();
    for (int group = 0; group < unfold.groups(); group++) {
      groups.add(new DeviceGram(shared, group));
    }
    return groups;
  }

  @Override
  public void add(FloatBuffer activation, long[] shape) {
    if (group == 0) {
      shared.add(activation, shape);
    }
  }

  @Override
  public GramMatrix finish() {
    return shared.finish(group);
  }

  @Override
  public void close() {
    shared.close();
  }
}
