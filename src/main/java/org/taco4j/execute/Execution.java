package org.taco4j.execute;

import ai.onnx.proto.OnnxMl.NodeProto;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.execute.TorchGraph.Step;
import org.taco4j.onnx.Nodes;

/**
 * One walk over a graph, node by node in graph order; between the nodes, values can be looked at.
 * Used by one thread. It owns what it computes until that is handed out by {@link #results} or no
 * node reads it any more; the rest is freed by {@link #close}.
 */
public final class Execution implements AutoCloseable {
  private final TorchGraph graph;
  private final @Nullable Tensor[] values;

  /** Whether the value is ours to free. */
  private final boolean[] owned;

  /** How many readings are to come; wanted values have one more, which never comes. */
  private final int[] readers;

  private final boolean[] needed;
  private final List<String> wanted;
  private int next;

  Execution(
      TorchGraph graph,
      Map<String, Tensor> overrides,
      Map<String, Tensor> feeds,
      Collection<String> wanted) {
    this.graph = graph;
    this.wanted = List.copyOf(wanted);
    values = new @Nullable Tensor[graph.count()];
    owned = new boolean[values.length];
    readers = new int[values.length];
    for (int i = 0; i < values.length; i++) {
      values[i] = graph.known(i);
    }
    overrides.forEach((name, tensor) -> values[number(name)] = tensor);
    feeds.forEach((name, tensor) -> values[number(name)] = tensor);
    for (String name : this.wanted) {
      readers[number(name)]++;
    }
    List<Step> steps = graph.steps();
    needed = new boolean[steps.size()];
    for (int i = steps.size() - 1; i >= 0; i--) {
      for (int output : steps.get(i).outputs()) {
        needed[i] |= output >= 0 && readers[output] > 0 && values[output] == null;
      }
      if (needed[i]) {
        for (int input : steps.get(i).inputs()) {
          if (input >= 0) {
            readers[input]++;
          }
        }
      }
    }
    for (String input : graph.inputs()) {
      int number = graph.find(input);
      if (readers[number] > 0 && values[number] == null) {
        throw new IllegalArgumentException("no tensor for the model's input '" + input + "'");
      }
    }
    skip();
  }

  private int number(String name) {
    int number = graph.find(name);
    if (number < 0) {
      throw new IllegalArgumentException(graph.source() + " has no value '" + name + "'");
    }
    return number;
  }

  /** Steps over the nodes that nobody needs, and those whose outputs were given. */
  private void skip() {
    for (; next < needed.length; next++) {
      if (needed[next]) {
        Step step = graph.steps().get(next);
        for (int output : step.outputs()) {
          if (output >= 0 && readers[output] > 0 && values[output] == null) {
            return;
          }
        }
        release(step);
      }
    }
  }

  /** Whether there are nodes to run. */
  public boolean hasNext() {
    return next < needed.length;
  }

  /** The node that {@link #step} will run. */
  public NodeProto next() {
    if (!hasNext()) {
      throw new NoSuchElementException("all nodes have been run");
    }
    return graph.steps().get(next).node();
  }

  /**
   * Runs one node.
   *
   * @return the node
   * @throws TacoException of kind MODEL when it cannot take the shapes; RUNTIME when memory is
   *     short
   */
  @SuppressWarnings("try")
  public NodeProto step() {
    NodeProto node = next();
    Step step = graph.steps().get(next);
    int[] inputs = step.inputs();
    @Nullable Tensor[] read = new @Nullable Tensor[inputs.length];
    for (int i = 0; i < inputs.length; i++) {
      if (inputs[i] >= 0) {
        Tensor value = values[inputs[i]];
        if (value == null) {
          throw TacoException.model(
              "%s: %s reads '%s', which no node before it writes"
                  .formatted(graph.source(), Nodes.label(node), graph.name(inputs[i])));
        }
        read[i] = value;
      }
    }
    try (PointerScope temporaries = new PointerScope()) {
      Tensor[] results = graph.run(step, read);
      int[] outputs = step.outputs();
      for (int i = 0; i < outputs.length; i++) {
        int output = outputs[i];
        if (output >= 0 && readers[output] > 0 && values[output] == null) {
          // A handle of its own: the kernel may pass on an input.
          Tensor result = new Tensor(results[i]);
          result.retainReference();
          values[output] = result;
          owned[output] = true;
        }
      }
    }
    release(step);
    next++;
    skip();
    return node;
  }

  private void release(Step step) {
    for (int input : step.inputs()) {
      if (input >= 0 && --readers[input] == 0) {
        drop(input);
      }
    }
  }

  private void drop(int number) {
    Tensor value = values[number];
    if (owned[number] && value != null) {
      value.releaseReference();
      owned[number] = false;
      values[number] = null;
    }
  }

  /**
   * A value that is there now: a constant, a given one, or one that has been computed and that
   * later nodes, or the results, still need. Borrowed, and valid until the next step.
   *
   * @throws NoSuchElementException when it has not been computed, or has been freed
   */
  public Tensor value(String name) {
    Tensor value = values[number(name)];
    if (value == null) {
      throw new NoSuchElementException("'" + name + "' is not computed yet, or freed");
    }
    return value;
  }

  /**
   * The wanted values, in the order asked for, after the last step. They now belong to the
   * innermost {@link PointerScope} of this thread, or without one to the caller.
   */
  public Map<String, Tensor> results() {
    if (hasNext()) {
      throw new IllegalStateException(Nodes.label(next()) + " has not been run");
    }
    Map<String, Tensor> results = new LinkedHashMap<>();
    for (String name : wanted) {
      results.computeIfAbsent(name, n -> new Tensor(value(n)));
    }
    return results;
  }

  @Override
  public void close() {
    for (int i = 0; i < values.length; i++) {
      drop(i);
    }
  }
}
