package org.taco4j.runtime;

import java.lang.foreign.Arena;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Runs a session again and again on inputs of one shape, into memory that is allocated once: large
 * outputs are neither allocated for each run nor copied. Used by one thread at a time; the outputs
 * are valid until the next run, and are not the caller's to close.
 */
public final class RepeatedRun implements AutoCloseable {
  private final Session session;
  private Map<String, Tensor> outputs = Map.of();
  private @Nullable Arena arena;
  private List<long[]> inputShapes = List.of();

  /** Runs of a session, which must stay open. */
  public RepeatedRun(Session session) {
    this.session = session;
  }

  /**
   * Runs the model.
   *
   * @param inputs all inputs by name; borrowed
   * @return all outputs by name
   */
  public Map<String, Tensor> run(Map<String, Tensor> inputs) {
    List<long[]> shapes = inputs.values().stream().map(Tensor::shape).toList();
    if (arena != null && Arrays.deepEquals(shapes.toArray(), inputShapes.toArray())) {
      session.runInto(inputs, outputs);
      return outputs;
    }
    // The shapes of the outputs are known when the runtime has allocated them itself, once.
    close();
    Map<String, Tensor> first = session.run(inputs);
    outputs = first;
    if (first.values().stream().allMatch(Tensor::isFloat32)) {
      Arena memory = Arena.ofShared();
      arena = memory;
      inputShapes = shapes;
      Map<String, Tensor> own = new LinkedHashMap<>();
      first.forEach((name, tensor) -> own.put(name, copy(tensor, memory)));
      outputs = own;
      first.values().forEach(Tensor::close);
    }
    return outputs;
  }

  private static Tensor copy(Tensor tensor, Arena memory) {
    Tensor own =
        Tensor.over(
            memory
                .allocate(Math.max(1, tensor.elements()) * Float.BYTES, 64)
                .asByteBuffer()
                .order(ByteOrder.nativeOrder())
                .asFloatBuffer()
                .limit(Math.toIntExact(tensor.elements())),
            tensor.shape());
    Objects.requireNonNull(own.buffer()).put(tensor.floats());
    return own;
  }

  /** Frees the outputs. */
  @Override
  public void close() {
    outputs.values().forEach(Tensor::close);
    outputs = Map.of();
    if (arena != null) {
      arena.close();
      arena = null;
    }
  }
}
