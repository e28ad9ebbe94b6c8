package org.taco4j.tune;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class HoldOutTest {
  @Test
  void aQuarterOfEachClass() {
    List<Integer> classes = IntStream.range(0, 40).map(i -> i % 4).boxed().toList();
    HoldOut split = HoldOut.split(classes, 1);
    assertEquals(10, split.heldOut().size());
    for (int c = 0; c < 4; c++) {
      int label = c;
      long held = split.heldOut().stream().filter(i -> classes.get(i) == label).count();
      assertTrue(held == 2 || held == 3);
    }
    List<Integer> all = new ArrayList<>(split.train());
    all.addAll(split.heldOut());
    assertEquals(IntStream.range(0, 40).boxed().toList(), all.stream().sorted().toList());
    assertEquals(split, HoldOut.split(classes, 1));
    assertNotEquals(split, HoldOut.split(classes, 2));
  }

  @Test
  void tooFewSpareNone() {
    List<Integer> fewInAll = IntStream.range(0, 31).map(i -> i % 4).boxed().toList();
    assertTrue(HoldOut.split(fewInAll, 1).heldOut().isEmpty());
    List<Integer> fewOfAClass = IntStream.range(0, 60).map(i -> i < 59 ? 0 : 1).boxed().toList();
    assertTrue(HoldOut.split(fewOfAClass, 1).heldOut().isEmpty());
    assertEquals(60, HoldOut.split(fewOfAClass, 1).train().size());
  }
}
