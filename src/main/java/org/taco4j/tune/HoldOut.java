package org.taco4j.tune;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;

/**
 * Images that give no gradients and choose the best pass: a quarter of each class, where there are
 * enough.
 *
 * @param train indices of the others, ascending
 * @param heldOut their indices, ascending; empty where there are too few
 */
public record HoldOut(List<Integer> train, List<Integer> heldOut) {
  /** Fewer than this in all say nothing about which pass is the best. */
  public static final int LEAST_IMAGES = 32;

  /** A class with fewer cannot spare one. */
  public static final int LEAST_PER_CLASS = 2;

  private static final int PART = 4;

  /**
   * Splits images.
   *
   * @param classes of each image, its class
   */
  public static HoldOut split(List<Integer> classes, long seed) {
    Map<Integer, List<Integer>> byClass = new TreeMap<>();
    for (int i = 0; i < classes.size(); i++) {
      byClass.computeIfAbsent(classes.get(i), c -> new ArrayList<>()).add(i);
    }
    List<Integer> train = new ArrayList<>();
    List<Integer> heldOut = new ArrayList<>();
    boolean enough =
        classes.size() >= LEAST_IMAGES
            && byClass.values().stream().allMatch(images -> images.size() >= LEAST_PER_CLASS);
    Random random = new Random(seed);
    int before = 0;
    for (List<Integer> images : byClass.values()) {
      Collections.shuffle(images, random);
      // Rounded over all classes: of ten each, the first gives two, the second three.
      int count = enough ? (before + images.size()) / PART - before / PART : 0;
      before += images.size();
      heldOut.addAll(images.subList(0, count));
      train.addAll(images.subList(count, images.size()));
    }
    Collections.sort(train);
    Collections.sort(heldOut);
    return new HoldOut(List.copyOf(train), List.copyOf(heldOut));
  }
}
