package org.taco4j.export;

import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Predicate;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.taco4j.calibrate.ActivationRange;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;
import org.taco4j.onnx.Unfold;

/**
 * Rewrites layers whose weights are stored in 8 bits ({@link WeightQuantization}) to operators that
 * multiply integers: activations become 8 bits too, each tensor on the grid of its range.
 *
 * <ul>
 *   <li>Convolutions give 8 bits again. Relu and Clip behind one vanish: its output's range ends
 *       where they cut.
 *   <li>Sparse ones become {@code taco4j} operators, together with the residual addition behind
 *       them; the others become ONNX's QLinearConv.
 *   <li>Products with a matrix give 8 bits where only layers of integers read them, else floats,
 *       with what follows: bias, residual addition, activation. Those that are not sparse keep
 *       ONNX's QDQ form, DequantizeLinear before MatMul, which runtimes read as one operator.
 *   <li>Operators that only move or choose values (MaxPool, Reshape, Transpose, ...) work on the 8
 *       bits. Additions, concatenations and means between such tensors take the QDQ form.
 *   <li>QuantizeLinear and DequantizeLinear stand where layers of integers meet others.
 * </ul>
 *
 * <p>Made in two steps, as the ranges are measured in between: {@link #plan} says which tensors
 * need one.
 */
public final class IntegerOperators implements ActivationQuantization {
  /** Operators whose first input's values, some or all, are those of their only output. */
  private static final Set<String> MOVES =
      Set.of(
          "MaxPool",
          "Reshape",
          "Flatten",
          "Transpose",
          "Squeeze",
          "Unsqueeze",
          "Identity",
          "Slice",
          "Gather",
          "Expand",
          "DepthToSpace",
          "SpaceToDepth");

  /** Operators that runtimes know how to compute from 8 bits to 8 bits where Q and DQ say so. */
  private static final Set<String> ARITHMETIC =
      Set.of("Add", "Concat", "AveragePool", "GlobalAveragePool");

  /** What a layer becomes. */
  enum Form {
    /** {@code taco4j.SparseQLinearConv} or {@code ...Add}. */
    SPARSE_CONVOLUTION,
    /** QLinearConv. */
    CONVOLUTION,
    /** {@code taco4j.SparseQLinearMatMul}. */
    SPARSE_MATRIX,
    /** {@code taco4j.SparseMatMulInteger...}: with a result of floats. */
    SPARSE_MATRIX_TO_FLOAT,
    /** MatMul between DequantizeLinear nodes, with a result of floats. */
    MATRIX;

    boolean isConvolution() {
      return this == SPARSE_CONVOLUTION || this == CONVOLUTION;
    }

    boolean givesBytes() {
      return isConvolution() || this == SPARSE_MATRIX;
    }
  }

  /**
   * Nodes that become one operation.
   *
   * @param nodes their indices; the operation takes the place of the last
   * @param layer the layer that they compute; null for arithmetic between layers
   * @param inputs the tensor that the layer reads, or those that are reckoned with
   * @param sum the tensor that the residual is added to; the result before its activation
   * @param residual what is added; null where nothing is
   * @param output the tensor that the nodes end in
   */
  record Step(
      Set<Integer> nodes,
      @Nullable Layer layer,
      @Nullable Form form,
      List<String> inputs,
      String sum,
      @Nullable String residual,
      FusedActivation activation,
      String output) {
    boolean givesBytes() {
      return form == null || form.givesBytes();
    }
  }

  private final OnnxModel model;
  private final GraphIndex index;
  private final Set<String> empty;
  private final Map<String, String> floats = new LinkedHashMap<>();

  /** By the index of its last node. */
  private final Map<Integer, Step> steps = new HashMap<>();

  private final Set<Integer> claimed = new HashSet<>();

  /**
   * Tensors that layers of integers read, through {@link #MOVES} and {@link #ARITHMETIC} or not.
   */
  private final Set<String> wanted = new HashSet<>();

  /** For each tensor that is 8 bits: the tensor on whose grid it is. */
  private final Map<String, String> grids = new HashMap<>();

  private IntegerOperators(OnnxModel model, Set<String> empty) {
    this.model = model;
    this.empty = empty;
    this.index = model.index();
  }

  /** Chooses layers of which at least that share of the blocks of four weights is zero. */
  public static Predicate<Layer> sparserThan(OnnxModel model, double share) {
    return layer -> IntegerWeights.of(model, layer).emptyBlocks() >= share;
  }

  /** {@link #plan(OnnxModel, Predicate, Predicate, Set)} where no range is empty. */
  public static IntegerOperators plan(
      OnnxModel model, Predicate<Layer> chosen, Predicate<Layer> sparse) {
    return plan(model, chosen, sparse, Set.of());
  }

  /**
   * What can be rewritten, and how.
   *
   * @param model not changed
   * @param chosen the layers to rewrite, as far as their weights are 8 bits
   * @param sparse which of them become {@code taco4j} operators
   * @param empty tensors whose range is empty ({@link ActivationRange#isEmpty}), which become no
   *     integers: there is no telling what a code other than that of 0 stands for
   * @throws TacoException of kind MODEL for an opset before 13
   */
  public static IntegerOperators plan(
      OnnxModel model, Predicate<Layer> chosen, Predicate<Layer> sparse, Set<String> empty) {
    WeightQuantization.requireOpset(model);
    IntegerOperators plan = new IntegerOperators(model, Set.copyOf(empty));
    plan.findLayers(chosen, sparse);
    plan.findWanted();
    plan.findGrids();
    plan.chooseResults();
    return plan;
  }

  private void findLayers(Predicate<Layer> chosen, Predicate<Layer> sparse) {
    Map<Layer, Boolean> layers = new LinkedHashMap<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      Optional<String> reason =
          chosen.test(layer)
              ? whyNot(layer).or(() -> IntegerWeights.whyNot(model, layer))
              : Optional.of("left out");
      if (reason.isPresent()) {
        floats.put(layer.name(), reason.get());
      } else {
        layers.put(layer, sparse.test(layer));
      }
    }
    // An addition of two convolutions goes to the sparse one: QLinearConv takes none.
    layers.forEach(
        (layer, isSparse) -> {
          if (isSparse) {
            add(layer, true);
          }
        });
    layers.forEach(
        (layer, isSparse) -> {
          if (!isSparse) {
            add(layer, false);
          }
        });
  }

  private Optional<String> whyNot(Layer layer) {
    NodeProto node = index.node(index.producer(layer.output()));
    if (layer.opType().equals("Conv")) {
      if (!(layer.unfold() instanceof Unfold.Convolution patches) || patches.oneDimensional()) {
        return Optional.of(
            "only 2-D convolutions and products with a matrix have integer operators");
      }
      if (patches.autoPad() != Unfold.AutoPad.EXPLICIT) {
        return Optional.of("its padding depends on the size of the image (auto_pad)");
      }
    } else if (!node.getInput(0).equals(layer.input())
        || !(layer.unfold() instanceof Unfold.LastAxis)
        || LayerWeights.factor(model, layer) != 1) {
      return Optional.of("it is a product with transA, alpha or its weights on the left");
    }
    return LayerWeights.hasUnknownBias(model, layer)
        ? Optional.of("its bias is computed, or not one value for each channel")
        : Optional.empty();
  }

  private void add(Layer layer, boolean sparse) {
    boolean convolution = layer.opType().equals("Conv");
    Form form =
        convolution
            ? sparse ? Form.SPARSE_CONVOLUTION : Form.CONVOLUTION
            : sparse ? Form.SPARSE_MATRIX_TO_FLOAT : Form.MATRIX;
    Set<Integer> nodes = new TreeSet<>();
    nodes.add(index.producer(layer.output()));
    String sum = layer.output();
    String residual = null;
    FusedActivation activation = FusedActivation.none(sum);
    if (form != Form.MATRIX) {
      sum = layer.bias().map(Layer.BiasSource::node).orElse(layer.output());
      nodes.add(index.producer(sum));
      String tensor = sum;
      if (sparse) {
        residual = SparseOperators.residual(index, sum);
        int addition = residual == null ? -1 : index.uses(sum).getFirst().node();
        if (claimed.contains(addition)) {
          residual = null;
        } else if (residual != null) {
          nodes.add(addition);
          tensor = index.node(addition).getOutput(0);
        }
      }
      activation = convolution ? saturation(tensor) : FusedActivation.after(index, tensor);
      nodes.addAll(activation.nodes());
    }
    Step step =
        new Step(
            nodes,
            layer,
            form,
            List.of(layer.input()),
            sum,
            residual,
            activation,
            activation.output());
    Optional<String> zero = quantised(step).filter(empty::contains).findFirst();
    if (zero.isPresent()) {
      floats.put(
          layer.name(),
          "'" + zero.get() + "' is 0 on all calibration images, which tells no range");
    } else {
      claim(step);
    }
  }

  /** The tensors that a layer needs as 8 bits. */
  private static Stream<String> quantised(Step step) {
    Stream<String> tensors = step.inputs().stream();
    if (step.form() == Form.SPARSE_CONVOLUTION && step.residual() != null) {
      tensors = Stream.concat(tensors, Stream.of(step.residual(), step.sum()));
    }
    return step.givesBytes() ? Stream.concat(tensors, Stream.of(step.output())) : tensors;
  }

  private void claim(Step step) {
    claimed.addAll(step.nodes());
    steps.put(step.nodes().stream().mapToInt(i -> i).max().orElseThrow(), step);
  }

  /** What follows a tensor and only cuts. */
  private FusedActivation saturation(String tensor) {
    FusedActivation activation = FusedActivation.after(index, tensor);
    return cuts(activation) ? activation : FusedActivation.none(tensor);
  }

  /** Whether 8 bits do what an activation does by themselves, as their range ends where it cuts. */
  private static boolean cuts(FusedActivation activation) {
    return switch (activation.kind()) {
      case NONE, RELU -> true;
      // A range always holds 0.
      case CLIP -> activation.minimum() <= 0 && activation.maximum() >= 0;
      default -> false;
    };
  }

  /** Backwards: what layers of integers read, and what that is made of. */
  private void findWanted() {
    Map<Integer, Step> byNode = new HashMap<>();
    for (Step step : steps.values()) {
      step.nodes().forEach(node -> byNode.put(node, step));
    }
    for (int i = index.graph().getNodeCount() - 1; i >= 0; i--) {
      Step step = byNode.get(i);
      NodeProto node = index.node(i);
      if (step != null) {
        wanted.addAll(step.inputs());
        if (step.residual() != null && step.form() == Form.SPARSE_CONVOLUTION) {
          wanted.add(step.residual());
        }
      } else if (moves(node) && wanted.contains(node.getOutput(0))) {
        wanted.add(node.getInput(0));
      } else if (isArithmetic(node) && wanted.contains(saturation(node.getOutput(0)).output())) {
        wanted.addAll(node.getInputList());
      }
    }
  }

  /** Forwards: what is 8 bits, on which grid. */
  private void findGrids() {
    for (int i = 0; i < index.graph().getNodeCount(); i++) {
      Step step = steps.get(i);
      NodeProto node = index.node(i);
      if (step != null) {
        if (step.givesBytes()) {
          grids.put(step.output(), step.output());
        }
      } else if (claimed.contains(i)) {
        // An earlier part of what comes later.
      } else if (moves(node)) {
        String grid = grids.get(node.getInput(0));
        if (grid != null && wanted.contains(node.getOutput(0))) {
          grids.put(node.getOutput(0), grid);
        }
      } else if (isArithmetic(node) && grids.keySet().containsAll(node.getInputList())) {
        FusedActivation activation = saturation(node.getOutput(0));
        if (wanted.contains(activation.output()) && !empty.contains(activation.output())) {
          Set<Integer> nodes = new TreeSet<>(activation.nodes());
          nodes.add(i);
          claim(
              new Step(
                  nodes,
                  null,
                  null,
                  List.copyOf(node.getInputList()),
                  node.getOutput(0),
                  null,
                  activation,
                  activation.output()));
          grids.put(activation.output(), activation.output());
        }
      }
    }
  }

  /** Whether an operator does to 8 bits what it does to floats. */
  private boolean moves(NodeProto node) {
    if (node.getOutputCount() != 1 || !index.isDynamic(Nodes.input(node, 0))) {
      return false;
    }
    return Nodes.isDefaultDomain(node.getDomain())
        && (MOVES.contains(node.getOpType()) || padsWithZeros(node));
  }

  /** A Pad with zeros. */
  private boolean padsWithZeros(NodeProto node) {
    if (!Nodes.is(node, "Pad") || !Nodes.text(node, "mode", "constant").equals("constant")) {
      return false;
    }
    String value = Nodes.input(node, 2);
    TensorProto stored = index.stored(value);
    return value.isEmpty()
        || (stored != null
            && stored.getDataType() == TensorProto.DataType.FLOAT_VALUE
            && TensorData.floats(stored)[0] == 0);
  }

  private boolean isArithmetic(NodeProto node) {
    return Nodes.isDefaultDomain(node.getDomain())
        && ARITHMETIC.contains(node.getOpType())
        && node.getInputList().stream().allMatch(index::isDynamic);
  }

  /** Products give 8 bits where nobody wants floats. */
  private void chooseResults() {
    for (Map.Entry<Integer, Step> entry : steps.entrySet()) {
      Step step = entry.getValue();
      if (step.form() == Form.SPARSE_MATRIX_TO_FLOAT
          && step.residual() == null
          && cuts(step.activation())
          && !empty.contains(step.output())
          && onlyBytesWanted(step.output())) {
        entry.setValue(
            new Step(
                step.nodes(),
                step.layer(),
                Form.SPARSE_MATRIX,
                step.inputs(),
                step.sum(),
                null,
                step.activation(),
                step.output()));
        grids.put(step.output(), step.output());
      }
    }
    // What moves the new bytes moves them as bytes.
    for (NodeProto node : index.graph().getNodeList()) {
      if (moves(node)
          && wanted.contains(node.getOutput(0))
          && grids.containsKey(node.getInput(0))) {
        grids.putIfAbsent(node.getOutput(0), Objects.requireNonNull(grids.get(node.getInput(0))));
      }
    }
  }

  /** Whether all readers of a tensor are layers of integers, behind what moves values or not. */
  private boolean onlyBytesWanted(String tensor) {
    if (index.isOutput(tensor) || index.uses(tensor).isEmpty()) {
      return false;
    }
    for (GraphIndex.Use use : index.uses(tensor)) {
      boolean read =
          steps.values().stream()
              .anyMatch(
                  step ->
                      step.nodes().contains(use.node())
                          && step.layer() != null
                          && step.inputs().contains(tensor)
                          && !tensor.equals(step.residual()));
      NodeProto node = index.node(use.node());
      boolean passed =
          use.input() == 0
              && moves(node)
              && !claimed.contains(use.node())
              && onlyBytesWanted(node.getOutput(0));
      if (!read && !passed) {
        return false;
      }
    }
    return true;
  }

  @Override
  public Set<String> tensors() {
    Set<String> tensors = new LinkedHashSet<>();
    for (int i = 0; i < index.graph().getNodeCount(); i++) {
      Step step = steps.get(i);
      if (step == null) {
        continue;
      }
      step.inputs().forEach(input -> tensors.add(gridOf(input)));
      if (step.form() == Form.SPARSE_CONVOLUTION && step.residual() != null) {
        tensors.add(gridOf(step.residual()));
        tensors.add(step.sum());
      }
      if (step.givesBytes()) {
        tensors.add(step.output());
      }
    }
    return tensors;
  }

  /** The tensor on whose grid a tensor is once it is 8 bits. */
  String gridOf(String tensor) {
    return grids.getOrDefault(tensor, tensor);
  }

  /** Whether a tensor comes as 8 bits out of what computes it. */
  boolean isBytes(String tensor) {
    return grids.containsKey(tensor);
  }

  /** Whether bytes come from QLinearConv, through moves and arithmetic or not. */
  boolean isOfPlainConvolutions(String tensor) {
    String grid = gridOf(tensor);
    for (Step step : steps.values()) {
      if (step.output().equals(grid)) {
        return step.form() == null
            ? step.inputs().stream().allMatch(this::isOfPlainConvolutions)
            : step.form() == Form.CONVOLUTION;
      }
    }
    return false;
  }

  /** What takes the place of a node, where it is the last of some. */
  @Nullable Step stepAt(int node) {
    return steps.get(node);
  }

  /** Whether a node becomes part of an operation. */
  boolean isPartOfStep(int node) {
    return claimed.contains(node);
  }

  /** Whether a node is to work on 8 bits as it is. */
  boolean movesBytes(NodeProto node) {
    return moves(node) && isBytes(node.getInput(0)) && isBytes(node.getOutput(0));
  }

  @Override
  public Outcome rewrite(OnnxModel target, Map<String, ActivationRange> ranges) {
    OnnxModel work = target.copy();
    IntegerGraph graph = new IntegerGraph(model, this, ranges);
    Map<String, String> operators = graph.write(work);
    target.adopt(work);
    Map<String, String> rewritten = new LinkedHashMap<>();
    Map<String, String> reasons = new LinkedHashMap<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      String operator = operators.get(layer.name());
      String reason = floats.get(layer.name());
      if (operator != null) {
        rewritten.put(layer.name(), operator);
      }
      if (reason != null) {
        reasons.put(layer.name(), reason);
      }
    }
    return new Outcome(rewritten, Collections.unmodifiableMap(reasons));
  }

  /**
   * How many weights are exactly zero, by layer, of those that {@link #rewrite} has rewritten.
   *
   * @param model a rewritten model, such as one read from a file
   */
  public static Map<String, Long> zeros(OnnxModel model) {
    Map<String, Long> zeros = new LinkedHashMap<>();
    GraphIndex index = model.index();
    for (NodeProto node : index.graph().getNodeList()) {
      boolean integer =
          Nodes.is(node, "QLinearConv") || node.getDomain().equals(SparseFunctions.DOMAIN);
      TensorProto codes = integer ? index.stored(Nodes.input(node, 3)) : null;
      if (codes != null && codes.getDataType() == TensorProto.DataType.INT8_VALUE) {
        zeros.put(Nodes.name(node), IntegerWeights.zeros(codes.getRawData().toByteArray()));
      }
    }
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (LayerWeights.hasKnownZeros(model, layer)) {
        zeros.put(layer.name(), LayerWeights.zeros(model, layer));
      }
    }
    return zeros;
  }
}
