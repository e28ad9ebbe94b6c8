package org.taco4j.common;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;

/** Pieces of work of which a few are under way at once, begun and ended in a fixed order. */
public final class Pipeline {
  private Pipeline() {}

  /**
   * For each item: prepares its work, does it, and takes what came out. The first and the last are
   * done on the calling thread and in the order of the items; the work between them on a thread of
   * its own where {@code atOnce} is more than 1. Which item's result has been taken when another is
   * prepared depends on {@code atOnce} only. The first exception ends it all and is thrown here.
   *
   * @param atOnce how many items may be prepared and not yet taken
   */
  public static <T, R> void run(
      List<T> items, int atOnce, Function<T, Supplier<R>> prepare, Consumer<R> take) {
    if (atOnce <= 1) {
      items.forEach(item -> take.accept(prepare.apply(item).get()));
      return;
    }
    ExecutorService threads =
        Executors.newFixedThreadPool(
            atOnce, Thread.ofPlatform().daemon().name("taco-pipeline-", 1).factory());
    try {
      Deque<Future<R>> underWay = new ArrayDeque<>();
      for (T item : items) {
        if (underWay.size() == atOnce) {
          take.accept(await(underWay.remove()));
        }
        underWay.add(threads.submit(prepare.apply(item)::get));
      }
      while (!underWay.isEmpty()) {
        take.accept(await(underWay.remove()));
      }
    } finally {
      threads.shutdownNow();
      threads.close();
    }
  }

  private static <R> R await(Future<R> future) {
    try {
      return future.get();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new TacoException(TacoException.Kind.INTERRUPTED, "interrupted", e);
    } catch (ExecutionException e) {
      Throwable cause = e.getCause();
      if (cause instanceof RuntimeException failure) {
        throw failure;
      }
      if (cause instanceof Error error) {
        throw error;
      }
      throw new IllegalStateException(e);
    }
  }
}
