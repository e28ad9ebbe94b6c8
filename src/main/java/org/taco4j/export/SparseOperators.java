package org.taco4j.export;

import ai.onnx.proto.OnnxMl.FunctionProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;
import org.taco4j.export.SparseFunctions.Product;
import org.taco4j.onnx.Attributes;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;
import org.taco4j.onnx.Unfold;

/**
 * Rewrites convolutions and matrix products whose weights have zeros to operators that skip them,
 * together with the bias, the residual addition and the activation behind each. The same file
 * computes the same everywhere: a runtime with the operator library runs sparse kernels, another
 * one the function of ordinary operators that the model carries for each operator.
 */
public final class SparseOperators {
  private SparseOperators() {}

  /**
   * What was done with the layers that were asked for, by name in graph order.
   *
   * @param rewritten the operator that each of these layers has become
   * @param dense why each of these stays as it is, for people
   */
  public record Outcome(Map<String, String> rewritten, Map<String, String> dense) {}

  /** Chooses layers of which at least that share of the weights is zero. */
  public static Predicate<Layer> sparserThan(OnnxModel model, double sparsity) {
    return layer ->
        LayerWeights.hasKnownZeros(model, layer)
            && LayerWeights.zeros(model, layer) >= sparsity * layer.parameters();
  }

  /** Rewrites the chosen layers. On failure the model is unchanged. */
  public static Outcome rewrite(OnnxModel model, Predicate<Layer> chosen) {
    OnnxModel work = model.copy();
    Map<String, FunctionProto> functions = new LinkedHashMap<>();
    Map<String, String> rewritten = new LinkedHashMap<>();
    Map<String, String> dense = new LinkedHashMap<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (!chosen.test(layer)) {
        continue;
      }
      // The rewrites before it may have moved it.
      Layer now = LayerDiscovery.find(work, layer.name());
      Optional<String> reason = whyNot(work, now);
      if (reason.isPresent()) {
        dense.put(layer.name(), reason.get());
        continue;
      }
      FunctionProto function = rewrite(work, now);
      functions.put(function.getName(), function);
      rewritten.put(layer.name(), SparseFunctions.DOMAIN + "." + function.getName());
    }
    if (!functions.isEmpty()) {
      work.addFunctions(SparseFunctions.DOMAIN, SparseFunctions.VERSION, functions.values());
      work.check();
      model.adopt(work);
    }
    return new Outcome(rewritten, dense);
  }

  private static Optional<String> whyNot(OnnxModel model, Layer layer) {
    if (layer.isSparseOperator()) {
      return Optional.of("it is a sparse operator already");
    }
    GraphIndex.Constant weight = weight(model, layer);
    boolean convolution = layer.opType().equals("Conv");
    if (weight.dims().size() != (convolution ? 4 : 2)) {
      return Optional.of("only 2-D convolutions and products with a matrix have sparse operators");
    }
    if (weight.alteredBy() != null) {
      return Optional.of("its weights are not stored as they are: " + weight.alteredBy());
    }
    if (weight.tensor().getDataType() != TensorProto.DataType.FLOAT_VALUE) {
      return Optional.of(
          "its weights are " + TensorData.typeName(weight.tensor().getDataType()) + ", not FLOAT");
    }
    if (layer.unfold() instanceof Unfold.Convolution patches
        && patches.autoPad() != Unfold.AutoPad.EXPLICIT) {
      return Optional.of("its padding depends on the size of the image (auto_pad)");
    }
    NodeProto node = node(model, layer);
    if (Nodes.is(node, "Gemm")
        && (product(node, layer) != Product.MATRIX
            || Nodes.integer(node, "transA", 0) != 0
            || LayerWeights.factor(model, layer) != 1)) {
      return Optional.of("it is a Gemm with transA, alpha or its weights on the left");
    }
    if (LayerWeights.hasUnknownBias(model, layer)) {
      return Optional.of("its bias is computed, or not one value for each channel");
    }
    if (isReplaceable(model, weight.name())) {
      return Optional.of("its weights '" + weight.name() + "' are an input of the model");
    }
    return Optional.empty();
  }

  private static NodeProto node(OnnxModel model, Layer layer) {
    return model.index().node(model.index().producer(layer.output()));
  }

  private static Product product(NodeProto node, Layer layer) {
    if (layer.opType().equals("Conv")) {
      return Product.CONVOLUTION;
    }
    return node.getInput(0).equals(layer.input()) ? Product.MATRIX : Product.MATRIX_ON_THE_LEFT;
  }

  private static GraphIndex.Constant weight(OnnxModel model, Layer layer) {
    NodeProto node = node(model, layer);
    int input = product(node, layer) == Product.MATRIX_ON_THE_LEFT ? 0 : 1;
    GraphIndex.Constant constant = model.index().constant(node.getInput(input));
    if (constant == null) {
      throw new IllegalStateException("layer '" + layer.name() + "' has lost its weights");
    }
    return constant;
  }

  /** Replaces one layer and what is fused into it; gives the function that it needs. */
  private static FunctionProto rewrite(OnnxModel model, Layer layer) {
    int opset = model.opset();
    GraphIndex index = model.index();
    Product product = product(node(model, layer), layer);
    Set<Integer> nodes = new TreeSet<>();
    nodes.add(index.producer(layer.output()));
    String tensor = layer.bias().map(Layer.BiasSource::node).orElse(layer.output());
    nodes.add(index.producer(tensor));
    String residual = residual(index, tensor);
    if (residual != null) {
      nodes.add(index.uses(tensor).getFirst().node());
      tensor = index.node(index.uses(tensor).getFirst().node()).getOutput(0);
    }
    FusedActivation activation = FusedActivation.after(index, tensor);
    if (!SparseFunctions.canWrite(activation.kind(), opset)) {
      activation = FusedActivation.none(tensor);
    }
    nodes.addAll(activation.nodes());

    List<String> inputs = new ArrayList<>();
    String weight = weightName(model, layer, product);
    inputs.add(product == Product.MATRIX_ON_THE_LEFT ? weight : layer.input());
    inputs.add(product == Product.MATRIX_ON_THE_LEFT ? layer.input() : weight);
    inputs.add(biasName(model, layer, product));
    if (residual != null) {
      inputs.add(residual);
    }
    NodeProto.Builder fused =
        NodeProto.newBuilder()
            .setName(layer.name())
            .setDomain(SparseFunctions.DOMAIN)
            .setOpType(SparseFunctions.name(product, residual != null, activation.kind()))
            .addAllInput(inputs)
            .addOutput(activation.output());
    if (layer.unfold() instanceof Unfold.Convolution patches) {
      addAttributes(fused, patches);
    }
    if (activation.kind() == FusedActivation.Kind.CLIP) {
      fused
          .addAttribute(Attributes.real("minimum", activation.minimum()))
          .addAttribute(Attributes.real("maximum", activation.maximum()));
    }
    replace(model, nodes, fused.build());
    return SparseFunctions.function(product, residual != null, activation.kind(), opset);
  }

  /** What is added to a tensor that nothing else reads; null where nothing is, or a constant. */
  static @Nullable String residual(GraphIndex index, String tensor) {
    if (!index.readOnce(tensor)) {
      return null;
    }
    NodeProto reader = index.node(index.uses(tensor).getFirst().node());
    boolean sum =
        (Nodes.is(reader, "Add") || Nodes.is(reader, "Sum")) && reader.getInputCount() == 2;
    if (!sum) {
      return null;
    }
    String other = reader.getInput(reader.getInput(0).equals(tensor) ? 1 : 0);
    // An addition may repeat either operand; the operator repeats the other one only.
    return index.isDynamic(other)
            && !other.equals(tensor)
            && new SymbolicShapes(index).isWhole(tensor, other)
        ? other
        : null;
  }

  /** The weights as an initializer in the form that the operator takes. */
  private static String weightName(OnnxModel model, Layer layer, Product product) {
    GraphIndex.Constant weight = weight(model, layer);
    boolean transposed = product == Product.MATRIX;
    if (weight.chain().size() == 1 && layer.weight().rowsLast() == transposed) {
      return weight.name();
    }
    float[] values = new float[Math.toIntExact(layer.parameters())];
    float[][] groups = LayerWeights.unfold(model, layer);
    for (int g = 0; g < groups.length; g++) {
      System.arraycopy(groups[g], 0, values, g * groups[g].length, groups[g].length);
    }
    List<Long> dims = weight.dims();
    if (product != Product.CONVOLUTION) {
      dims = List.of((long) layer.rows(), (long) layer.cols());
    }
    TensorProto tensor = TensorData.of("", TensorProto.DataType.FLOAT_VALUE, dims, values);
    return model.addConstant(
        layer.name() + ".weight",
        transposed ? TensorData.transpose(tensor, List.of(1, 0)) : tensor);
  }

  /** The bias, which the operator always has, as one value for each output channel. */
  private static String biasName(OnnxModel model, Layer layer, Product product) {
    float[] bias = LayerWeights.bias(model, layer);
    boolean column =
        product == Product.MATRIX_ON_THE_LEFT && layer.unfold() instanceof Unfold.SecondToLastAxis;
    TensorProto tensor =
        TensorData.of(
            "",
            TensorProto.DataType.FLOAT_VALUE,
            column ? List.of((long) bias.length, 1L) : List.of((long) bias.length),
            bias);
    return layer
        .bias()
        .map(Layer.BiasSource::constant)
        .filter(name -> isSame(model, name, tensor, bias))
        .orElseGet(() -> model.addConstant(layer.name() + ".bias", tensor));
  }

  /** Whether a constant can stand in for a tensor. */
  private static boolean isSame(OnnxModel model, String name, TensorProto tensor, float[] values) {
    TensorProto stored = model.index().stored(name);
    return stored != null
        && stored.getDataType() == tensor.getDataType()
        && stored.getDimsList().equals(tensor.getDimsList())
        && Arrays.equals(TensorData.floats(stored), values)
        && !isReplaceable(model, name);
  }

  /**
   * Whether a constant may be replaced at run time, because it is an input, too. Before IR 4 all
   * constants are inputs.
   */
  static boolean isReplaceable(OnnxModel model, String constant) {
    return model.irVersion() >= 4
        && model.index().graph().getInputList().stream()
            .anyMatch(input -> input.getName().equals(constant));
  }

  /** The attributes that all operators for convolutions have. */
  static void addAttributes(NodeProto.Builder node, Unfold.Convolution patches) {
    node.addAttribute(Attributes.integers("strides", patches.strideHeight(), patches.strideWidth()))
        .addAttribute(
            Attributes.integers(
                "pads",
                patches.padTop(),
                patches.padLeft(),
                patches.padBottom(),
                patches.padRight()))
        .addAttribute(
            Attributes.integers("dilations", patches.dilationHeight(), patches.dilationWidth()))
        .addAttribute(Attributes.integer("group", patches.groups()));
  }

  /** Puts one node in the place of the last of several: there all that they read is computed. */
  private static void replace(OnnxModel model, Set<Integer> nodes, NodeProto fused) {
    GraphIndex index = model.index();
    Set<String> written = new HashSet<>();
    Set<String> read = new HashSet<>();
    for (int node : nodes) {
      written.addAll(index.node(node).getOutputList());
      read.addAll(index.node(node).getInputList());
    }
    read.removeAll(written);
    read.removeIf(index::isDynamic);
    written.removeAll(fused.getOutputList());
    List<Integer> order = nodes.stream().sorted().toList();
    model.edit(
        graph -> {
          graph.setNode(order.getLast(), fused);
          for (int i = order.size() - 2; i >= 0; i--) {
            graph.removeNode(order.get(i));
          }
        });
    model.forgetShapes(written);
    model.dropUnused(read);
  }
}
