package org.taco4j.data;

import java.util.List;

/**
 * The images of a task; no file (by content) is both in {@code test} and in one of the other two.
 * Each list is ordered by class and, within a class, in a way that depends on the request only.
 *
 * @param classes the task's classes, by ascending model index
 * @param calibration what compression and tuning may see
 * @param heldOut labelled images from the same folders that layers are checked on, never solved on
 * @param test what accuracy is measured on
 */
public record ImageDataset(
    List<TaskClass> classes,
    List<ImageFile> calibration,
    List<ImageFile> heldOut,
    List<ImageFile> test) {
  /** Copies the lists. */
  public ImageDataset {
    classes = List.copyOf(classes);
    calibration = List.copyOf(calibration);
    heldOut = List.copyOf(heldOut);
    test = List.copyOf(test);
  }
}
