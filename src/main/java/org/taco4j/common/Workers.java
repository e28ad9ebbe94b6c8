package org.taco4j.common;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntConsumer;
import org.jspecify.annotations.Nullable;

/**
 * The threads that this project computes with. Work comes as a number of independent tasks whose
 * borders do not depend on the number of threads, so that results are the same bytes at any thread
 * count; which thread takes which task is left to chance.
 */
public final class Workers implements AutoCloseable {
  private final int threads;
  private final @Nullable ExecutorService executor;

  /** Workers with {@code threads} threads, the calling one included. */
  public Workers(int threads) {
    if (threads < 1) {
      throw TacoException.usage("the number of threads must be at least 1, not " + threads);
    }
    this.threads = threads;
    ThreadFactory factory = Thread.ofPlatform().daemon().name("taco-worker-", 1).factory();
    this.executor = threads == 1 ? null : Executors.newFixedThreadPool(threads - 1, factory);
  }

  /** How many threads work, the calling one included. */
  public int threads() {
    return threads;
  }

  /**
   * Runs {@code task} for 0, 1, …, {@code count - 1}, each once, on all threads, and returns when
   * all have ended. Indices are handed out in ascending order: put the longest tasks first. The
   * first exception of a task stops the handing out and is thrown here. A task must not call this
   * method itself.
   */
  public void forEach(int count, IntConsumer task) {
    ExecutorService pool = executor;
    if (pool == null || count <= 1) {
      for (int i = 0; i < count; i++) {
        task.accept(i);
      }
      return;
    }
    AtomicInteger next = new AtomicInteger();
    Runnable loop =
        () -> {
          try {
            for (int i = next.getAndIncrement(); i < count; i = next.getAndIncrement()) {
              task.accept(i);
            }
          } catch (Throwable t) {
            next.set(count);
            throw t;
          }
        };
    int helpers = Math.min(threads, count) - 1;
    List<Future<?>> futures = new ArrayList<>(helpers);
    for (int i = 0; i < helpers; i++) {
      futures.add(pool.submit(loop));
    }
    Throwable failure = null;
    try {
      loop.run();
    } catch (RuntimeException | Error e) {
      failure = e;
    }
    boolean interrupted = false;
    for (Future<?> future : futures) {
      while (true) {
        try {
          future.get();
          break;
        } catch (ExecutionException e) {
          failure = failure == null ? e.getCause() : failure;
          break;
        } catch (InterruptedException e) {
          // The tasks use memory that the caller owns: wait for them all the same.
          interrupted = true;
        }
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
    switch (failure) {
      case null -> {}
      case RuntimeException e -> throw e;
      case Error e -> throw e;
      default -> throw new IllegalStateException(failure);
    }
  }

  @Override
  public void close() {
    if (executor != null) {
      executor.shutdown();
    }
  }
}
