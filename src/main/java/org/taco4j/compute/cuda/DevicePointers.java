package org.taco4j.compute.cuda;

import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.Pointer;

/** Addresses in a device's memory as the types that cuBLAS and cuSOLVER's bindings want. */
final class DevicePointers {
  private DevicePointers() {}

  static FloatPointer floats(DeviceArray.Pointer to) {
    return new Floats(to.address());
  }

  static DoublePointer doubles(DeviceArray.Pointer to) {
    return new Doubles(to.address());
  }

  static IntPointer ints(DeviceArray.Pointer to) {
    return new Ints(to.address());
  }

  private static final class Floats extends FloatPointer {
    Floats(long address) {
      super((Pointer) null);
      this.address = address;
    }
  }

  private static final class Doubles extends DoublePointer {
    Doubles(long address) {
      super((Pointer) null);
      this.address = address;
    }
  }

  private static final class Ints extends IntPointer {
    Ints(long address) {
      super((Pointer) null);
      this.address = address;
    }
  }
}
