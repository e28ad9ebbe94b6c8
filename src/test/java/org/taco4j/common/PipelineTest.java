package org.taco4j.common;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

final class PipelineTest {
  private static final List<Integer> ITEMS = IntStream.range(0, 9).boxed().toList();

  @Test
  void takesInOrderHoweverMany() {
    for (int atOnce : new int[] {1, 2, 3, 20}) {
      List<String> events = new ArrayList<>();
      Pipeline.<Integer, Integer>run(
          ITEMS,
          atOnce,
          item -> {
            events.add("prepare " + item);
            return () -> item * item;
          },
          result -> events.add("take " + result));
      List<String> expected = new ArrayList<>();
      for (int i = 0; i < 9 + atOnce; i++) {
        if (i >= atOnce && i - atOnce < 9) {
          expected.add("take " + (i - atOnce) * (i - atOnce));
        }
        if (i < 9) {
          expected.add("prepare " + i);
        }
      }
      assertEquals(expected.stream().sorted().toList(), events.stream().sorted().toList());
      // At one at a time nothing is prepared before what was before it is taken, and so on.
      assertEquals(expected, events, "at once: " + atOnce);
    }
  }

  @Test
  void worksOnSeveralAtOnce() throws InterruptedException {
    CountDownLatch both = new CountDownLatch(2);
    AtomicInteger met = new AtomicInteger();
    Pipeline.<Integer, Boolean>run(
        List.of(0, 1),
        2,
        item ->
            () -> {
              both.countDown();
              try {
                // Each waits for the other: one at a time would never get on.
                return both.await(20, TimeUnit.SECONDS);
              } catch (InterruptedException e) {
                throw new IllegalStateException(e);
              }
            },
        result -> met.addAndGet(result ? 1 : 0));
    assertEquals(2, met.get());
  }

  @Test
  void throwsTheFirstExceptionAsItIs() {
    for (int atOnce : new int[] {1, 3}) {
      TacoException failure = TacoException.numerical("no");
      List<Integer> taken = new ArrayList<>();
      assertSame(
          failure,
          assertThrows(
              TacoException.class,
              () ->
                  Pipeline.<Integer, Integer>run(
                      ITEMS,
                      atOnce,
                      item ->
                          () -> {
                            if (item == 4) {
                              throw failure;
                            }
                            return item;
                          },
                      taken::add)));
      assertEquals(List.of(0, 1, 2, 3), taken);
      assertTrue(taken.size() < ITEMS.size());
    }
  }
}
