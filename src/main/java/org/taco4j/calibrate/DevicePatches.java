package org.taco4j.calibrate;

import org.taco4j.compute.Patches;
import org.taco4j.onnx.Unfold;

/** Layouts of samples in the words of the devices' kernels: all are patches of images. */
final class DevicePatches {
  private DevicePatches() {}

  /** What a sample is. */
  static Patches of(Unfold unfold) {
    return switch (unfold) {
      case Unfold.LastAxis u -> Patches.pixels(u.features());
      case Unfold.SecondToLastAxis u -> Patches.pixels(u.features());
      case Unfold.Convolution u ->
          new Patches(
              u.channels(),
              u.groups(),
              u.kernelHeight(),
              u.kernelWidth(),
              u.strideHeight(),
              u.strideWidth(),
              u.dilationHeight(),
              u.dilationWidth(),
              ShiftGram.fits(u));
    };
  }

  /** What a tensor of the given shape holds. */
  static Patches.Images images(Unfold unfold, long[] shape) {
    int last = Math.toIntExact(shape[shape.length - 1]);
    return switch (unfold) {
      case Unfold.LastAxis u -> Patches.Images.plain(product(shape, 1), 1, 1);
      case Unfold.SecondToLastAxis u -> Patches.Images.plain(product(shape, 2), 1, last);
      case Unfold.Convolution u -> {
        int height = u.oneDimensional() ? 1 : Math.toIntExact(shape[2]);
        int[] pads = u.pads(height, last);
        yield new Patches.Images(
            Math.toIntExact(shape[0]),
            height,
            last,
            pads[0],
            pads[1],
            u.outputHeight(height, last),
            u.outputWidth(height, last));
      }
    };
  }

  /** The product of all axes but the last {@code without}. */
  private static int product(long[] shape, int without) {
    int product = 1;
    for (int i = 0; i < shape.length - without; i++) {
      product = Math.multiplyExact(product, Math.toIntExact(shape[i]));
    }
    return product;
  }
}
