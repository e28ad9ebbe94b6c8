package org.taco4j.compute.cuda;

import java.util.Objects;

/**
 * Memory of a device. It belongs to the {@link DeviceScope} that allocated it, and is gone with it.
 *
 * @param address in the device's memory
 * @param count elements
 * @param elementBytes bytes of an element
 */
record DeviceArray(long address, long count, int elementBytes) {
  /** A pointer to an element, as an argument of a kernel. */
  record Pointer(long address) {}

  /** Where element {@code index} lies; one past the last is a place too. */
  Pointer at(long index) {
    return new Pointer(address + Objects.checkIndex(index, count + 1) * elementBytes);
  }

  /** The elements from {@code from} on. */
  DeviceArray slice(long from, long length) {
    Objects.checkFromIndexSize(from, length, count);
    return new DeviceArray(address + from * elementBytes, length, elementBytes);
  }

  long bytes() {
    return count * elementBytes;
  }
}
