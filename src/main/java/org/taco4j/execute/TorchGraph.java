package org.taco4j.execute;

import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;

/**
 * An ONNX graph compiled to libtorch calls. Immutable: several threads may run it at once, each
 * operator computing in the thread that calls. Nodes that depend on integer constants alone are
 * computed here, once.
 *
 * <p>The graph owns its constants, and frees them in {@link #close}, when nobody runs it any more.
 * What runs return belongs to the innermost {@link PointerScope} of the calling thread; without
 * one, to the caller, who closes each tensor.
 */
public final class TorchGraph implements AutoCloseable {
  /** Opsets whose operators the executor knows. */
  private static final int OLDEST_OPSET = 9;

  private static final int NEWEST_OPSET = 20;

  /**
   * A node with its kernel. Values have numbers; -1 is an input or output that is left out.
   *
   * @param inputs numbers of the values that the node reads
   * @param outputs numbers of the values that it writes
   */
  @SuppressWarnings("ArrayRecordComponent") // never compared
  record Step(NodeProto node, Kernel kernel, int[] inputs, int[] outputs) {}

  private final String source;
  private final Map<String, Integer> numbers = new HashMap<>();
  private final List<String> names = new ArrayList<>();
  private final List<Step> steps = new ArrayList<>();
  private final List<String> inputs;
  private final List<String> outputs;
  private final Map<String, Tensor> constants = new LinkedHashMap<>();

  /** All that is to be freed. */
  private final List<Tensor> owned = new ArrayList<>();

  /** Constants, and what was computed from them, by number. */
  private @Nullable Tensor[] known = {};

  private volatile boolean closed;

  private TorchGraph(OnnxModel model) {
    source = model.source();
    inputs = model.inputs().stream().map(info -> info.name()).toList();
    outputs = model.outputs().stream().map(info -> info.name()).toList();
  }

  /** The version of the libtorch presets on the class path. */
  public static String version() {
    return String.valueOf(
        org.bytedeco.pytorch.presets.torch.class.getPackage().getImplementationVersion());
  }

  /** Why libtorch cannot be used on this machine; empty where it can. */
  public static Optional<String> unavailable() {
    return LibTorch.unavailable();
  }

  /**
   * Whether an error of a graph, of a tensor or of the backward pass says that memory was short.
   */
  public static boolean isOutOfMemory(Throwable e) {
    return LibTorch.isOutOfMemory(e);
  }

  /**
   * Compiles a model; it may be edited afterwards without effect on the graph.
   *
   * @throws TacoException of kind MODEL naming every node that cannot be computed exactly, and why;
   *     of kind RUNTIME when libtorch cannot be loaded
   */
  @SuppressWarnings("try")
  public static TorchGraph of(OnnxModel model) {
    GraphIndex index = model.index();
    List<Kernel> kernels = kernels(model, index);
    LibTorch.enter();
    TorchGraph graph = new TorchGraph(model);
    try (PointerScope temporaries = new PointerScope();
        NoGradGuard noGraph = new NoGradGuard()) {
      graph.build(index, kernels);
    } catch (RuntimeException | Error e) {
      graph.close();
      throw e;
    }
    return graph;
  }

  private static List<Kernel> kernels(OnnxModel model, GraphIndex index) {
    List<String> refused = new ArrayList<>();
    if (model.opset() < OLDEST_OPSET || model.opset() > NEWEST_OPSET) {
      refused.add(
          "opset %d (known: %d to %d)".formatted(model.opset(), OLDEST_OPSET, NEWEST_OPSET));
    }
    if (index.graph().getSparseInitializerCount() > 0) {
      refused.add(
          "sparse initializer '%s'"
              .formatted(index.graph().getSparseInitializer(0).getValues().getName()));
    }
    for (TensorProto tensor : index.graph().getInitializerList()) {
      try {
        Tensors.type(tensor.getDataType());
      } catch (NodeSpec.Unsupported e) {
        refused.add("initializer '%s' of type %s".formatted(tensor.getName(), e.getMessage()));
      }
    }
    List<Kernel> kernels = new ArrayList<>();
    for (NodeProto node : index.graph().getNodeList()) {
      try {
        kernels.add(OperatorTable.kernel(node, model.opset()));
      } catch (NodeSpec.Unsupported e) {
        refused.add(Nodes.label(node) + ": " + e.getMessage());
      }
    }
    if (!refused.isEmpty()) {
      throw TacoException.model(
          "%s: the executor cannot run %d part(s) of this model exactly: %s; export the model with"
                  .formatted(model.source(), refused.size(), String.join("; ", refused))
              + " other operators, or leave out what trains (--tune none)");
    }
    return kernels;
  }

  private void build(GraphIndex index, List<Kernel> kernels) {
    Map<Integer, Tensor> folded = new HashMap<>();
    for (TensorProto tensor : index.graph().getInitializerList()) {
      addConstant(tensor.getName(), tensor, folded);
    }
    for (String input : inputs) {
      number(input);
    }
    List<NodeProto> nodes = index.graph().getNodeList();
    for (int i = 0; i < nodes.size(); i++) {
      NodeProto node = nodes.get(i);
      if (Nodes.is(node, "Constant")) {
        TensorProto stored = index.stored(node.getOutput(0));
        if (stored == null) {
          throw new IllegalStateException(Nodes.label(node) + " passed the check of operators");
        }
        addConstant(node.getOutput(0), stored, folded);
        continue;
      }
      int[] read = node.getInputList().stream().mapToInt(this::number).toArray();
      int[] written = node.getOutputList().stream().mapToInt(this::number).toArray();
      Step step = new Step(node, kernels.get(i), read, written);
      if (readsIntegersOnly(step, folded)) {
        fold(step, folded);
      } else {
        steps.add(step);
      }
    }
    known = new @Nullable Tensor[names.size()];
    folded.forEach((number, tensor) -> known[number] = tensor);
  }

  private void addConstant(String name, TensorProto stored, Map<Integer, Tensor> folded) {
    Tensor tensor = Tensors.of(stored);
    tensor.retainReference();
    owned.add(tensor);
    constants.put(name, tensor);
    folded.put(number(name), tensor);
  }

  /** Floats may be overridden, and computed values are wanted as functions of them. */
  private static boolean readsIntegersOnly(Step step, Map<Integer, Tensor> folded) {
    for (int input : step.inputs) {
      Tensor tensor = folded.get(input);
      if (input >= 0 && (tensor == null || tensor.is_floating_point())) {
        return false;
      }
    }
    return !step.node.getOpType().startsWith("Random");
  }

  private void fold(Step step, Map<Integer, Tensor> folded) {
    @Nullable Tensor[] values = new @Nullable Tensor[step.inputs.length];
    for (int i = 0; i < values.length; i++) {
      values[i] = step.inputs[i] < 0 ? null : folded.get(step.inputs[i]);
    }
    Tensor[] results = run(step, values);
    for (int i = 0; i < step.outputs.length; i++) {
      if (step.outputs[i] >= 0) {
        Tensor own = new Tensor(results[i]);
        own.retainReference();
        owned.add(own);
        folded.put(step.outputs[i], own);
      }
    }
  }

  private int number(String name) {
    if (name.isEmpty()) {
      return -1;
    }
    return numbers.computeIfAbsent(
        name,
        n -> {
          names.add(n);
          return names.size() - 1;
        });
  }

  /** Runs a node's kernel; errors name the node and what it got. */
  Tensor[] run(Step step, @Nullable Tensor[] values) {
    try {
      return step.kernel.run(new Inputs(values));
    } catch (TacoException e) {
      throw e;
    } catch (OutOfMemoryError e) {
      throw LibTorch.outOfMemory(source + ", " + Nodes.label(step.node), e);
    } catch (RuntimeException e) {
      if (LibTorch.isOutOfMemory(e)) {
        throw LibTorch.outOfMemory(source + ", " + Nodes.label(step.node), e);
      }
      StringBuilder shapes = new StringBuilder();
      for (int i = 0; i < values.length; i++) {
        Tensor value = values[i];
        if (value != null) {
          shapes.append(i == 0 ? "" : ", ").append(Nodes.input(step.node, i));
          shapes.append(Arrays.toString(Tensors.shape(value)));
        }
      }
      throw new TacoException(
          TacoException.Kind.MODEL,
          "%s: %s on %s: %s".formatted(source, Nodes.label(step.node), shapes, LibTorch.message(e)),
          e);
    }
  }

  /** Names of the inputs that are fed. */
  public List<String> inputs() {
    return inputs;
  }

  /** Names of the outputs. */
  public List<String> outputs() {
    return outputs;
  }

  /**
   * The initializers and Constant nodes' outputs by name, with the shapes and types in which they
   * are stored. They belong to the graph: not to be closed or changed in place.
   */
  public Map<String, Tensor> constants() {
    return Collections.unmodifiableMap(constants);
  }

  /**
   * Computes values. Only nodes that they need are run, and a value in between is freed when its
   * last reader has run, unless autograd holds it.
   *
   * @param overrides tensors in place of constants (or of any other value) by name, such as leaves
   *     that require gradients or expressions of them; borrowed
   * @param feeds the model's inputs by name; borrowed
   * @param wanted names of any values, as the model calls them
   * @return the values by name, in the order asked for
   * @throws TacoException of kind MODEL when a node cannot take the shapes, with the node and them;
   *     of kind RUNTIME when memory is short
   */
  public Map<String, Tensor> run(
      Map<String, Tensor> overrides, Map<String, Tensor> feeds, Collection<String> wanted) {
    try (Execution execution = start(overrides, feeds, wanted)) {
      while (execution.hasNext()) {
        execution.step();
      }
      return execution.results();
    }
  }

  /** {@link #run} node by node. The execution belongs to the calling thread, which closes it. */
  public Execution start(
      Map<String, Tensor> overrides, Map<String, Tensor> feeds, Collection<String> wanted) {
    if (closed) {
      throw new IllegalStateException("the graph of " + source + " is closed");
    }
    LibTorch.enter();
    return new Execution(this, overrides, feeds, wanted);
  }

  String source() {
    return source;
  }

  List<Step> steps() {
    return steps;
  }

  int count() {
    return names.size();
  }

  /** The number of a value; -1 for a name that the graph does not have. */
  int find(String name) {
    return numbers.getOrDefault(name, -1);
  }

  String name(int number) {
    return names.get(number);
  }

  @Nullable Tensor known(int number) {
    return known[number];
  }

  /** Frees the constants; not while somebody runs the graph. Closing twice does nothing. */
  @Override
  public void close() {
    owned.forEach(Tensor::releaseReference);
    owned.clear();
    closed = true;
  }
}
