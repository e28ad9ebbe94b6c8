package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.AttributeProto;
import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/** Finds the layers of a model. */
public final class LayerDiscovery {
  private static final String SPARSE = "a sparse operator already";
  private static final String INTEGERS = "it multiplies integers already";

  private LayerDiscovery() {}

  /**
   * A node that has weights, or would have, but is no layer to this project.
   *
   * @param name the node's name, or its output's where it has none
   * @param operator its operator, with the domain where that is not the default one
   * @param reason why, for people
   */
  public record Skipped(String name, String operator, String reason) {}

  /** What {@link #search} found: layers with the index of their nodes, and what was left out. */
  record Found(List<Layer> layers, List<Integer> nodes, List<Skipped> skipped) {
    /** Index of the node of a layer. */
    int node(Layer layer) {
      return nodes.get(layers.indexOf(layer));
    }
  }

  /** Operators with weights that this project does not prune. */
  private static final Set<String> OTHER_WEIGHT_OPS =
      Set.of(
          "ConvTranspose",
          "ConvInteger",
          "MatMulInteger",
          "QLinearConv",
          "QLinearMatMul",
          "DeformConv",
          "Einsum",
          "LSTM",
          "GRU",
          "RNN");

  /**
   * All Conv, Gemm and MatMul nodes of the main graph, in graph order, whose weights are constant
   * and whose input is not; those that cannot be pruned with the reason why. A product of two
   * activations is no layer. For a layer whose weights have more axes than a {@link Layer} can tell
   * (a 3-D convolution, a stack of matrices), rows and columns only give the number of parameters.
   * The sparse operators that layers were rewritten to are listed too, none of them prunable.
   */
  public static List<Layer> discover(OnnxModel model) {
    return model.found().layers();
  }

  /**
   * The classifier: the only layer from which the model's first output can be reached without
   * passing another one; empty where there are several, or none.
   */
  public static Optional<Layer> classifier(OnnxModel model) {
    GraphIndex index = model.index();
    if (index.graph().getOutputCount() == 0) {
      return Optional.empty();
    }
    Map<String, Layer> byOutput = new HashMap<>();
    discover(model).forEach(layer -> byOutput.put(layer.output(), layer));
    Set<Layer> last = new LinkedHashSet<>();
    Deque<String> open = new ArrayDeque<>(List.of(index.graph().getOutput(0).getName()));
    Set<String> seen = new HashSet<>(open);
    while (!open.isEmpty()) {
      String tensor = open.remove();
      Layer layer = byOutput.get(tensor);
      if (layer != null) {
        last.add(layer);
      } else if (index.producer(tensor) >= 0) {
        index.reads(index.producer(tensor)).stream().filter(seen::add).forEach(open::add);
      }
    }
    return last.size() == 1 ? Optional.of(last.iterator().next()) : Optional.empty();
  }

  /**
   * Nodes with weights that {@link #discover} does not list: operators that this project does not
   * know as layers, weights that are computed, and layers inside the subgraphs of If, Loop and
   * Scan.
   */
  public static List<Skipped> skipped(OnnxModel model) {
    return model.found().skipped();
  }

  /**
   * The layer of that name, as it is now.
   *
   * @throws IllegalArgumentException where the model has none
   */
  public static Layer find(OnnxModel model, String name) {
    return discover(model).stream()
        .filter(layer -> layer.name().equals(name))
        .findFirst()
        .orElseThrow(
            () -> new IllegalArgumentException(model.source() + " has no layer '" + name + "'"));
  }

  static Found search(GraphIndex index) {
    Search search = new Search(index);
    for (int i = 0; i < index.graph().getNodeCount(); i++) {
      search.visit(i);
    }
    return new Found(
        List.copyOf(search.layers), List.copyOf(search.nodes), List.copyOf(search.skipped));
  }

  /** One walk over the nodes of a graph. */
  private static final class Search {
    private final GraphIndex index;
    private final List<Layer> layers = new ArrayList<>();
    private final List<Integer> nodes = new ArrayList<>();
    private final List<Skipped> skipped = new ArrayList<>();
    private final Set<String> names = new HashSet<>();
    private final Set<String> nodeNames = new HashSet<>();

    Search(GraphIndex index) {
      this.index = index;
      index.graph().getNodeList().forEach(node -> nodeNames.add(Nodes.name(node)));
    }

    void visit(int i) {
      NodeProto node = index.node(i);
      switch (Nodes.operator(node)) {
        case "Conv" -> layer(i, 0, 1);
        case "Gemm", "MatMul" -> {
          if (index.isDynamic(node.getInput(0)) || !index.isDynamic(node.getInput(1))) {
            layer(i, 0, 1);
          } else {
            layer(i, 1, 0);
          }
        }
        default -> {
          if (node.getDomain().equals(Operators.SPARSE_DOMAIN)
              || Operators.multipliesIntegers(node)) {
            rewritten(i);
          } else {
            other(node);
          }
        }
      }
      for (AttributeProto attribute : node.getAttributeList()) {
        if (attribute.hasG()) {
          inside(node, attribute.getName(), attribute.getG());
        }
        attribute.getGraphsList().forEach(body -> inside(node, attribute.getName(), body));
      }
    }

    /** An operator that a layer was rewritten to; what it is fused with counts as its output. */
    private void rewritten(int i) {
      NodeProto node = index.node(i);
      String type = node.getOpType();
      boolean integers = Operators.multipliesIntegers(node);
      boolean convolution = type.contains("Conv");
      if (!convolution && !type.contains("MatMul")) {
        other(node);
        return;
      }
      boolean left = type.startsWith("SparseMatMulLeft");
      int weight = integers ? Operators.INTEGER_WEIGHT : left ? 0 : 1;
      GraphIndex.Constant constant = index.constant(Nodes.input(node, weight));
      if (constant == null && Nodes.isDefaultDomain(node.getDomain())) {
        // A product of two activations.
        return;
      }
      if (constant == null || constant.dims().size() != (convolution ? 4 : 2)) {
        skip(node, "the operator " + Nodes.operator(node) + " is not supported");
        return;
      }
      List<Long> dims = constant.dims();
      int groups = (int) Nodes.integer(node, "group", 1);
      boolean rowsLast = !convolution && !left;
      int cols = dims.get(rowsLast ? 0 : 1).intValue();
      layers.add(
          new Layer(
              layerName(node),
              Nodes.operator(node),
              node.getInput(left ? 1 : 0),
              node.getOutput(0),
              convolution
                  ? patches(node, dims, groups)
                  : rowsLast ? new Unfold.LastAxis(cols) : new Unfold.SecondToLastAxis(cols),
              dims.get(rowsLast ? 1 : 0).intValue() / groups,
              convolution ? 1 : rowsLast ? -1 : -2,
              new Layer.WeightSource(constant.name(), constant.permutation(), rowsLast),
              Optional.empty(),
              Optional.of(integers ? INTEGERS : SPARSE)));
      nodes.add(i);
    }

    private void other(NodeProto node) {
      boolean known = Nodes.isDefaultDomain(node.getDomain());
      boolean weights =
          node.getInputList().stream()
              .map(index::constant)
              .anyMatch(constant -> constant != null && constant.dims().size() >= 2);
      if (weights && (!known || OTHER_WEIGHT_OPS.contains(node.getOpType()))) {
        skip(node, "the operator " + Nodes.operator(node) + " is not supported");
      }
    }

    private void inside(NodeProto owner, String attribute, GraphProto body) {
      GraphIndex inner = new GraphIndex(body);
      for (NodeProto node : body.getNodeList()) {
        boolean layer =
            Nodes.is(node, "Conv") || Nodes.is(node, "Gemm") || Nodes.is(node, "MatMul");
        if (layer
            && node.getInputList().stream()
                .limit(2)
                .anyMatch(name -> inner.constant(name) != null || index.constant(name) != null)) {
          skip(node, "inside the subgraph " + attribute + " of " + Nodes.label(owner));
        }
        for (AttributeProto nested : node.getAttributeList()) {
          if (nested.hasG()) {
            inside(node, nested.getName(), nested.getG());
          }
        }
      }
    }

    private void skip(NodeProto node, String reason) {
      skipped.add(new Skipped(Nodes.name(node), Nodes.operator(node), reason));
    }

    private void layer(int i, int activation, int weight) {
      NodeProto node = index.node(i);
      String input = node.getInput(activation);
      String weights = node.getInput(weight);
      GraphIndex.Constant constant = index.constant(weights);
      if (!index.isDynamic(input)) {
        if (constant != null) {
          skip(node, "its input '" + input + "' does not depend on the model's input");
        }
      } else if (constant == null) {
        boolean product = !Nodes.is(node, "Conv") && index.isDynamic(weights);
        if (!product) {
          skip(node, "its weights '" + weights + "' are computed, not stored");
        }
      } else if (constant.dims().isEmpty()
          || constant.dims().contains(0L)
          || TensorData.count(constant.dims()) > 1 << 30) {
        skip(node, "its weights have the shape " + constant.dims());
      } else {
        Layer layer =
            Nodes.is(node, "Conv")
                ? convolution(i, constant)
                : product(i, input, constant, weight == 1);
        if (layer != null) {
          layers.add(layer);
          nodes.add(i);
        }
      }
    }

    private @Nullable Layer convolution(int i, GraphIndex.Constant weight) {
      NodeProto node = index.node(i);
      List<Long> dims = weight.dims();
      long groups = Nodes.integer(node, "group", 1);
      if (dims.size() < 3 || groups < 1 || dims.get(0) % groups != 0) {
        skip(node, "its weights have the shape " + dims + ", its group is " + groups);
        return null;
      }
      int channels = dims.get(1).intValue();
      String special = null;
      if (groups > 1 && channels == 1) {
        special = "depthwise convolution";
      } else if (dims.size() > 4) {
        special = (dims.size() - 2) + "-D convolution";
      }
      int rows = (int) (dims.get(0) / groups);
      Optional<Layer.BiasSource> bias =
          ownBias(i, 2, List.of((long) rows * groups))
              .or(() -> addedBias(node.getOutput(0), rows * (int) groups, dims.size() - 2));
      return new Layer(
          layerName(node),
          "Conv",
          node.getInput(0),
          node.getOutput(0),
          patches(node, dims, (int) groups),
          rows,
          1,
          new Layer.WeightSource(weight.name(), weight.permutation(), false),
          bias,
          whyNot(i, 1, weight, special));
    }

    private static Unfold.Convolution patches(NodeProto node, List<Long> dims, int groups) {
      boolean flat = dims.size() == 3;
      int last = dims.size() - 1;
      int spatial = dims.size() - 2;
      // A 3-D convolution has no patches here; its first two kernel axes become one.
      int height = (int) TensorData.count(dims.subList(2, last));
      List<Long> strides = Nodes.integers(node, "strides");
      List<Long> dilations = Nodes.integers(node, "dilations");
      List<Long> pads = Nodes.integers(node, "pads");
      String autoPad = Nodes.text(node, "auto_pad", "NOTSET");
      boolean explicit = autoPad.equals("NOTSET") && pads != null && pads.size() == 2 * spatial;
      return new Unfold.Convolution(
          dims.get(1).intValue(),
          groups,
          height,
          dims.get(last).intValue(),
          flat ? 1 : at(strides, 0, 1),
          at(strides, spatial - 1, 1),
          explicit && !flat ? at(pads, 0, 0) : 0,
          explicit ? at(pads, spatial - 1, 0) : 0,
          explicit && !flat ? at(pads, spatial, 0) : 0,
          explicit ? at(pads, 2 * spatial - 1, 0) : 0,
          flat ? 1 : at(dilations, 0, 1),
          at(dilations, spatial - 1, 1),
          switch (autoPad) {
            case "SAME_UPPER" -> Unfold.AutoPad.SAME_UPPER;
            case "SAME_LOWER" -> Unfold.AutoPad.SAME_LOWER;
            default -> Unfold.AutoPad.EXPLICIT;
          },
          flat);
    }

    private static int at(@Nullable List<Long> values, int i, int otherwise) {
      return values == null || i >= values.size() ? otherwise : values.get(i).intValue();
    }

    /** A Gemm or MatMul; {@code right} says that the constant is the right operand. */
    private Layer product(int i, String input, GraphIndex.Constant weight, boolean right) {
      NodeProto node = index.node(i);
      boolean gemm = Nodes.is(node, "Gemm");
      boolean transA = gemm && Nodes.integer(node, "transA", 0) != 0;
      boolean transB = gemm && Nodes.integer(node, "transB", 0) != 0;
      List<Long> dims = weight.dims();
      int rank = dims.size();
      String special = null;
      if (rank < 2) {
        special = "its weights are a vector, not a matrix";
      } else if (rank > 2) {
        special = "its weights are a stack of matrices " + dims;
      }
      // Right operand: [cols, rows] unless transposed. Left operand: [rows, cols] unless
      // transposed.
      boolean rowsLast = right ? !transB : transA;
      int cols = dims.get(rowsLast && rank > 1 ? rank - 2 : rank - 1).intValue();
      int rows = (int) (TensorData.count(dims) / cols);
      long[] shape = index.shape(input);
      boolean vector = shape != null && shape.length == 1;
      // The left operand's last axis is summed over, or the right one's second to last.
      boolean lastAxis = vector || (right ? !transA : transB);
      int outputAxis = right || vector ? -1 : -2;
      Optional<Layer.BiasSource> bias = Optional.empty();
      if (rank == 2) {
        int after = right || vector ? 0 : 1;
        bias =
            (gemm ? gemmBias(i, rows, after) : Optional.<Layer.BiasSource>empty())
                .or(() -> addedBias(node.getOutput(0), rows, after));
      }
      return new Layer(
          layerName(node),
          node.getOpType(),
          input,
          node.getOutput(0),
          lastAxis ? new Unfold.LastAxis(cols) : new Unfold.SecondToLastAxis(cols),
          rows,
          outputAxis,
          new Layer.WeightSource(weight.name(), weight.permutation(), rowsLast),
          bias,
          whyNot(i, right ? 1 : 0, weight, special));
    }

    private Optional<String> whyNot(
        int i, int input, GraphIndex.Constant weight, @Nullable String special) {
      if (special != null) {
        return Optional.of(special);
      }
      if (weight.alteredBy() != null) {
        return Optional.of("its weights come through " + weight.alteredBy());
      }
      if (!TensorData.isFloat(weight.tensor().getDataType())) {
        return Optional.of(
            "its weights are of type " + TensorData.typeName(weight.tensor().getDataType()));
      }
      return Optional.ofNullable(index.otherReader(weight, new GraphIndex.Use(i, input)))
          .map(other -> "its weights '" + weight.name() + "' are also read by " + other);
    }

    /** The constant at an input of the layer's own node, where it has that shape. */
    private Optional<Layer.BiasSource> ownBias(int i, int input, List<Long> dims) {
      NodeProto node = index.node(i);
      GraphIndex.Constant constant = readable(index.constant(Nodes.input(node, input)));
      return constant != null && constant.dims().equals(dims)
          ? Optional.of(new Layer.BiasSource(constant.name(), node.getOutput(0)))
          : Optional.empty();
    }

    private Optional<Layer.BiasSource> gemmBias(int i, int rows, int after) {
      NodeProto node = index.node(i);
      GraphIndex.Constant constant = readable(index.constant(Nodes.input(node, 2)));
      return constant != null
              && constant.dims().size() <= 2
              && isAlong(constant.dims(), rows, after)
          ? Optional.of(new Layer.BiasSource(constant.name(), node.getOutput(0)))
          : Optional.empty();
    }

    /** The constant of an Add that alone reads the layer's output. */
    private Optional<Layer.BiasSource> addedBias(String output, int rows, int after) {
      if (!index.readOnce(output)) {
        return Optional.empty();
      }
      GraphIndex.Use use = index.uses(output).getFirst();
      NodeProto add = index.node(use.node());
      if (!Nodes.is(add, "Add") || use.input() < 0) {
        return Optional.empty();
      }
      GraphIndex.Constant constant = readable(index.constant(add.getInput(1 - use.input())));
      return constant != null && isAlong(constant.dims(), rows, after)
          ? Optional.of(new Layer.BiasSource(constant.name(), add.getOutput(0)))
          : Optional.empty();
    }

    private static GraphIndex.@Nullable Constant readable(GraphIndex.@Nullable Constant constant) {
      return constant != null
              && constant.alteredBy() == null
              && TensorData.isFloat(constant.tensor().getDataType())
          ? constant
          : null;
    }

    /**
     * Whether a constant of that shape, added to the output, is one value for each row (or one for
     * all): {@code after} axes follow the output's axis of rows.
     */
    private static boolean isAlong(List<Long> dims, int rows, int after) {
      long count = TensorData.count(dims);
      int axis = dims.size() - 1 - after;
      return count == 1 || (count == rows && axis >= 0 && dims.get(axis) == rows);
    }

    /** The node's name, with a number where an earlier layer or another node has it. */
    private String layerName(NodeProto node) {
      String base = Nodes.name(node);
      String name = base;
      for (int i = 2; !names.add(name); ) {
        do {
          name = base + "_" + i++;
        } while (nodeNames.contains(name));
      }
      return name;
    }
  }
}
