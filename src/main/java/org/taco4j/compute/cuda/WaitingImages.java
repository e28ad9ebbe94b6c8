package org.taco4j.compute.cuda;

import java.lang.foreign.MemorySegment;
import java.util.Objects;
import org.jspecify.annotations.Nullable;
import org.taco4j.compute.Patches;

/**
 * Images of one size that wait on a device until there are enough of them for a product, laid out
 * as gram.cu wants them: the channels of a pixel beside one another, zeros around.
 */
final class WaitingImages {
  /** Memory for images as they come, before they are laid out, where one needs no more. */
  static final long RAW_BYTES = 8L << 20;

  private static final int PIXELS_PER_BLOCK = 32;
  private static final int MOST_BLOCKS = 65535;

  private final DeviceScope scope;
  private final Form form;
  private final Patches.Images size;
  private final GramPlan.Layout layout;
  private final int capacity;

  /** [images, layout.image()] and zeros behind; grows up to the capacity. */
  private @Nullable DeviceArray waiting;

  private int room;

  /** As they come; null where that is how they wait. */
  private final @Nullable DeviceArray raw;

  private final int rawImages;

  /**
   * Whose images these are.
   *
   * @param channels of one group, as they come
   * @param padded on the device, a multiple of four
   * @param ones whether one more channel is all ones
   */
  record Form(int groups, int channels, int padded, boolean ones) {}

  /**
   * Room for images.
   *
   * @param scope whose memory it is
   * @param size of an image; their count does not matter
   * @param capacity how many wait at the most
   * @param unit images come in multiples of so many
   */
  WaitingImages(
      DeviceScope scope,
      Form form,
      Patches.Images size,
      GramPlan.Layout layout,
      int capacity,
      int unit) {
    this.scope = scope;
    this.form = form;
    this.size = size;
    this.layout = layout;
    this.capacity = capacity;
    boolean asTheyCome = rows() && form.padded == form.channels;
    long fitting = rows() ? capacity : Math.min(capacity, MOST_BLOCKS);
    fitting = Math.min(fitting, RAW_BYTES / (rawFloats() * Float.BYTES));
    this.rawImages = asTheyCome ? capacity : (int) Math.max(unit, fitting / unit * unit);
    this.raw = asTheyCome ? null : scope.floats(rawImages * rawFloats());
  }

  /** Floats of an image as it comes. */
  private long rawFloats() {
    return (long) form.groups * form.channels * size.height() * size.width();
  }

  /** Whether images are single pixels: the rows of a matrix. */
  private boolean rows() {
    return form.groups == 1 && layout.image() == form.padded;
  }

  /** How many images may be put at once. */
  int most() {
    return rawImages;
  }

  /** All of them, for the kernel; some have been put. */
  DeviceArray array() {
    return Objects.requireNonNull(waiting);
  }

  /** Memory for so many images at least: most runs have far fewer than may wait. */
  private DeviceArray atLeast(int images) {
    DeviceArray present = waiting;
    if (present != null && images <= room) {
      return present;
    }
    room = Math.min(capacity, Math.max(images, 2 * room));
    DeviceArray larger = scope.floats((long) room * layout.image() + layout.tail());
    scope.clear(larger);
    if (present != null) {
      scope.copy(present, larger);
      scope.free(present);
    }
    waiting = larger;
    return larger;
  }

  /**
   * Queues the copy of images to the device.
   *
   * @param images [any, groups · channels, height, width]
   * @param first of those to copy
   * @param slot the first one's place here
   */
  void put(MemorySegment images, long first, int count, long slot) {
    long imageBytes = rawFloats() * Float.BYTES;
    MemorySegment part = images.asSlice(first * imageBytes, count * imageBytes);
    DeviceArray to = atLeast(Math.toIntExact(slot + count));
    if (raw == null) {
      scope.upload(part, to, slot * layout.image());
    } else {
      scope.upload(part, raw, 0);
      layOut(raw, count, to.at(slot * layout.image() + layout.origin()));
    }
  }

  private void layOut(DeviceArray from, int count, DeviceArray.Pointer to) {
    int ones = form.ones ? 1 : 0;
    if (rows()) {
      int blocks = LaunchShape.blocks((long) count * form.padded, 256);
      scope.launch(
          scope.device().kernel("gram", "taco4j_gram_rows_f32"),
          LaunchShape.of(Math.min(MOST_BLOCKS, blocks), 256),
          from,
          (long) count,
          form.channels,
          form.padded,
          ones,
          to);
      return;
    }
    int pixels = size.height() * size.width();
    scope.launch(
        scope.device().kernel("gram", "taco4j_gram_pixels_f32"),
        new LaunchShape(
            LaunchShape.blocks(pixels, PIXELS_PER_BLOCK),
            form.groups * LaunchShape.blocks(form.padded, PIXELS_PER_BLOCK),
            count,
            256,
            1,
            0),
        from,
        pixels,
        size.width(),
        form.groups,
        form.channels,
        form.padded,
        ones,
        to,
        (long) layout.image(),
        layout.row());
  }

  /** Frees the memory, after all that is queued. */
  void free() {
    if (waiting != null) {
      scope.free(waiting);
    }
    if (raw != null) {
      scope.free(raw);
    }
  }
}
