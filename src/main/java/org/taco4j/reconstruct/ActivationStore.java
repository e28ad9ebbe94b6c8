package org.taco4j.reconstruct;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.taco4j.common.TacoException;
import org.taco4j.runtime.Tensor;

/**
 * Tensors of many batches, by name: in memory as far as that is allowed, else in files; those of
 * types other than float32 and float16, such as shapes and masks, always in memory. What comes back
 * is the same to the bit wherever it was, so that the memory allowed changes no result. Different
 * batches may be worked on by different threads at once; one batch by one thread at a time. Owns
 * the tensors and files until it is closed.
 */
final class ActivationStore implements AutoCloseable {
  private final long memory;
  private final Path folder;
  private final List<Map<String, Held>> batches = new ArrayList<>();
  private final AtomicLong held = new AtomicLong();
  private final AtomicInteger files = new AtomicInteger();

  /** A tensor, wherever it is. */
  private sealed interface Held {}

  private record InMemory(Tensor tensor) implements Held {}

  @SuppressWarnings("ArrayRecordComponent") // never compared
  private record OnDisk(Path file, int elementType, long[] shape) implements Held {}

  /** Works with the tensors of one batch, by name; they are the store's. */
  @FunctionalInterface
  interface Work {
    /** Returns tensors that go over to the store. */
    Map<String, Tensor> apply(Map<String, Tensor> tensors);
  }

  /**
   * An empty store.
   *
   * @param memory bytes that tensors in memory may take together
   * @param folder an existing folder for those that do not fit
   */
  ActivationStore(long memory, Path folder) {
    this.memory = memory;
    this.folder = folder;
  }

  /** Adds a batch with its first tensors, which go over to the store. */
  void addBatch(Map<String, Tensor> tensors) {
    Map<String, Held> batch = new HashMap<>();
    batches.add(batch);
    put(batch, tensors);
  }

  int size() {
    return batches.size();
  }

  /** The element type of a tensor, the same in all batches. */
  int elementType(String name) {
    return switch (Objects.requireNonNull(batches.getFirst().get(name), name)) {
      case InMemory inMemory -> inMemory.tensor().elementType();
      case OnDisk onDisk -> onDisk.elementType();
    };
  }

  /**
   * Lends the named tensors of a batch to {@code work}, and keeps what it returns: in the place of
   * older tensors of the same names.
   */
  void use(int batch, Collection<String> names, Work work) {
    Map<String, Held> all = batches.get(batch);
    Map<String, Tensor> lent = new LinkedHashMap<>();
    List<Tensor> loaded = new ArrayList<>();
    try {
      for (String name : names) {
        switch (Objects.requireNonNull(all.get(name), name)) {
          case InMemory inMemory -> lent.put(name, inMemory.tensor());
          case OnDisk onDisk -> {
            Tensor tensor = load(onDisk);
            loaded.add(tensor);
            lent.put(name, tensor);
          }
        }
      }
      put(all, work.apply(lent));
    } finally {
      loaded.forEach(Tensor::close);
    }
  }

  /** Drops all tensors but the named ones. */
  void retain(Set<String> names) {
    for (Map<String, Held> batch : batches) {
      batch
          .entrySet()
          .removeIf(
              entry -> {
                boolean dropped = !names.contains(entry.getKey());
                if (dropped) {
                  drop(entry.getValue());
                }
                return dropped;
              });
    }
  }

  private void put(Map<String, Held> batch, Map<String, Tensor> tensors) {
    tensors.forEach(
        (name, tensor) -> {
          Held old = batch.put(name, hold(tensor));
          if (old != null) {
            drop(old);
          }
        });
  }

  private Held hold(Tensor tensor) {
    int elementType = tensor.elementType();
    if (held.addAndGet(tensor.bytes()) <= memory || !Tensor.canWrite(elementType)) {
      return new InMemory(tensor);
    }
    held.addAndGet(-tensor.bytes());
    Path file = folder.resolve(files.getAndIncrement() + ".bin");
    try (tensor;
        FileChannel channel =
            FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
      tensor.writeTo(channel);
      return new OnDisk(file, elementType, tensor.shape());
    } catch (IOException e) {
      throw failure("written", e);
    }
  }

  private static Tensor load(OnDisk onDisk) {
    try (FileChannel channel = FileChannel.open(onDisk.file(), StandardOpenOption.READ)) {
      return Tensor.read(channel, onDisk.elementType(), onDisk.shape());
    } catch (IOException e) {
      throw failure("read", e);
    }
  }

  private void drop(Held dropped) {
    switch (dropped) {
      case InMemory inMemory -> {
        held.addAndGet(-inMemory.tensor().bytes());
        inMemory.tensor().close();
      }
      case OnDisk onDisk -> {
        try {
          Files.delete(onDisk.file());
        } catch (IOException e) {
          throw failure("deleted", e);
        }
      }
    }
  }

  private static TacoException failure(String what, IOException e) {
    return new TacoException(
        TacoException.Kind.RUNTIME,
        "activations, which did not fit --memory, cannot be "
            + what
            + ": "
            + e
            + "; allow more memory, or put the output on a disk with more room",
        e);
  }

  @Override
  public void close() {
    retain(Set.of());
  }
}
