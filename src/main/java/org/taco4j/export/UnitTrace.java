package org.taco4j.export;

import ai.onnx.proto.OnnxMl.NodeProto;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Operators;
import org.taco4j.onnx.TensorData;
import org.taco4j.onnx.Unfold;

/**
 * Follows the units of a hidden dimension from the layers that write them, node by node in graph
 * order, to the layers that sum over them. For every tensor on the way it knows where the units
 * lie, and for every node what has to change when units go. A node of which this is not certain
 * ends the trace with a {@link Refused}.
 */
final class UnitTrace {
  /** Operators that combine their inputs element by element, with broadcasting. */
  private static final Set<String> BROADCASTING =
      Set.of("Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Min", "Max", "Sum", "Mean");

  /** More axes than any tensor has: where Slices of the shape of an unknown tensor end. */
  private static final int LONGEST_SHAPE = 64;

  /**
   * A layer that writes the units, in rows (c · units + u) · rowsPerUnit + r.
   *
   * @param copies how many c there are
   */
  record Root(Layer layer, int copies, int rowsPerUnit) {}

  private final OnnxModel model;
  private final GraphIndex index;
  private final int units;
  private final Map<Integer, Layer> layers;
  private final Map<Integer, Root> roots = new LinkedHashMap<>();

  private final Map<String, Carrier> carriers = new LinkedHashMap<>();
  private final Set<Integer> visited = new HashSet<>();
  private final List<Structure.Consumer> consumers = new ArrayList<>();
  private final List<String> depthwise = new ArrayList<>();
  private final List<Cut> cuts = new ArrayList<>();
  private boolean attention;

  private UnitTrace(OnnxModel model, int units, List<Root> given) {
    this.model = model;
    this.index = model.index();
    this.units = units;
    layers = layersByNode(model);
    Map<String, Root> byName = new HashMap<>();
    given.forEach(root -> byName.put(root.layer().name(), root));
    layers.forEach(
        (node, layer) -> {
          Root root = byName.get(layer.name());
          if (root != null) {
            roots.put(node, root);
          }
        });
  }

  private static Map<Integer, Layer> layersByNode(OnnxModel model) {
    Map<Integer, Layer> layers = new LinkedHashMap<>();
    for (Layer layer : LayerDiscovery.discover(model)) {
      layers.put(model.index().producer(layer.output()), layer);
    }
    return layers;
  }

  /**
   * Follows units from the given layers, and from further ones where their outputs are joined: the
   * keys and values that meet the queries, the gate that scales the channels.
   */
  static UnitTrace of(OnnxModel model, int units, List<Root> given) throws Refused {
    List<Root> roots = new ArrayList<>(given);
    while (true) {
      UnitTrace trace = new UnitTrace(model, units, roots);
      try {
        trace.walk();
        return trace;
      } catch (Refused refused) {
        String partner = refused.partner();
        Layer more = partner == null ? null : trace.writer(partner);
        if (more == null
            || trace.roots.values().stream().anyMatch(root -> root.layer().equals(more))
            || more.rows() % units != 0) {
          throw refused;
        }
        roots.add(new Root(more, 1, more.rows() / units));
      }
    }
  }

  /** The structure that was found. */
  Structure structure() {
    List<Structure.Producer> producers =
        roots.values().stream()
            .map(r -> new Structure.Producer(r.layer().name(), r.copies(), r.rowsPerUnit()))
            .toList();
    boolean convolution =
        roots.values().stream().anyMatch(root -> root.layer().opType().equals("Conv"));
    return new Structure(
        producers.getFirst().layer(),
        attention
            ? Structure.Kind.HEADS
            : convolution ? Structure.Kind.CHANNELS : Structure.Kind.MLP,
        units,
        producers,
        List.copyOf(consumers),
        List.copyOf(depthwise));
  }

  /** What has to change, in graph order. */
  List<Cut> cuts() {
    return cuts;
  }

  /** Where the units lie in each tensor that has them. */
  Map<String, Carrier> carriers() {
    return carriers;
  }

  private Refused refuse(int at, String why) {
    return Refused.because(at, Nodes.label(index.node(at)) + " " + why);
  }

  private void walk() throws Refused {
    for (int i = 0; i < index.graph().getNodeCount(); i++) {
      NodeProto node = index.node(i);
      if (roots.containsKey(i) || node.getInputList().stream().anyMatch(carriers::containsKey)) {
        visited.add(i);
        Layer layer = layers.get(i);
        if (layer != null) {
          layer(i, node, layer);
        } else {
          step(i, node);
        }
      }
    }
    for (String tensor : carriers.keySet()) {
      if (index.isOutput(tensor)) {
        throw Refused.because(index.producer(tensor), "'" + tensor + "' is an output of the model");
      }
      for (GraphIndex.Use use : index.uses(tensor)) {
        if (use.input() < 0 || !visited.contains(use.node())) {
          throw refuse(use.node(), "reads '" + tensor + "' in a subgraph, or out of order");
        }
      }
    }
    if (consumers.isEmpty()) {
      throw Refused.because(roots.keySet().iterator().next(), "no layer reads its output");
    }
  }

  /** The layer that writes a tensor, but for what keeps the rows apart; null where that ends. */
  private @Nullable Layer writer(String tensor) {
    String name = tensor;
    while (true) {
      int at = index.producer(name);
      if (at < 0 || !index.isDynamic(name)) {
        return null;
      }
      Layer layer = layers.get(at);
      if (layer != null && !layer.isDepthwise()) {
        return layer;
      }
      NodeProto node = index.node(at);
      boolean sum = Nodes.is(node, "Add") || Nodes.is(node, "Sum") || Nodes.is(node, "Concat");
      List<String> dynamic = node.getInputList().stream().filter(index::isDynamic).toList();
      if (dynamic.isEmpty() || (sum && dynamic.size() > 1)) {
        return null;
      }
      name = dynamic.getFirst();
    }
  }

  // Layers.

  private void layer(int i, NodeProto node, Layer layer) throws Refused {
    int weight = node.getInput(0).equals(layer.input()) ? 1 : 0;
    for (int k = 0; k < node.getInputCount(); k++) {
      if (k != 1 - weight && carriers.containsKey(node.getInput(k))) {
        throw refuse(i, "adds '" + node.getInput(k) + "' to its product");
      }
    }
    Carrier carrier = carriers.get(layer.input());
    if (carrier != null) {
      if (layer.isDepthwise()) {
        passDepthwise(i, node, layer, carrier);
        return;
      }
      consume(i, layer, weight, carrier);
    }
    Root root = roots.get(i);
    if (root != null) {
      produce(i, node, layer, weight, root);
    }
  }

  private void produce(int i, NodeProto node, Layer layer, int weight, Root root) throws Refused {
    checkPlain(i, layer);
    int axis = layer.outputAxis();
    Carrier output;
    int rowAxis = 0;
    if (layer.unfold() instanceof Unfold.Convolution) {
      int rank = constant(i, weight).dims().size();
      output = carrier(rank, true, 1 - rank, root);
      if (isPixel(layer.output())) {
        output = pool(i, output, true);
      }
    } else {
      long[] shape = index.shape(layer.input());
      boolean gemm = layer.opType().equals("Gemm");
      int rank = gemm ? 2 : shape == null ? -axis : shape.length;
      output = carrier(Math.max(rank, -axis), gemm || shape != null, axis, root);
      rowAxis = layer.weight().rowsLast() ? 1 : 0;
    }
    slices(i, weight, rowAxis, output);
    if (layer.unfold() instanceof Unfold.Convolution) {
      if (!Nodes.input(node, 2).isEmpty()) {
        slices(i, 2, 0, output);
      }
    } else if (!Nodes.input(node, 2).isEmpty()) {
      aligned(i, 2, output);
    }
    carry(i, layer.output(), output);
  }

  private Carrier carrier(int rank, boolean whole, int axis, Root root) {
    return Carrier.of(
        rank,
        whole,
        axis,
        (long) root.copies() * units * root.rowsPerUnit(),
        root.copies(),
        root.rowsPerUnit());
  }

  private void checkPlain(int i, Layer layer) throws Refused {
    if (!layer.prunable()) {
      throw refuse(i, "stays as it is: " + layer.whyNotPrunable().orElse(""));
    }
    if (layer.groups() > 1) {
      throw refuse(i, "is a grouped convolution (" + layer.groups() + " groups)");
    }
  }

  private void consume(int i, Layer layer, int weight, Carrier carrier) throws Refused {
    checkPlain(i, layer);
    int axis;
    int positions = 1;
    int columnAxis = 1;
    switch (layer.unfold()) {
      case Unfold.Convolution convolution -> {
        axis = 1 - constant(i, weight).dims().size();
        positions = convolution.kernelHeight() * convolution.kernelWidth();
      }
      case Unfold.LastAxis last -> {
        axis = -1;
        columnAxis = layer.weight().rowsLast() ? 0 : 1;
      }
      case Unfold.SecondToLastAxis last -> {
        axis = -2;
        columnAxis = layer.weight().rowsLast() ? 0 : 1;
      }
    }
    Carrier sized = sized(i, carrier, layer.cols() / positions);
    if (sized.axis() != axis || sized.outer() != 1) {
      throw refuse(i, "reads the units along another axis than that it sums over");
    }
    slices(i, weight, columnAxis, sized);
    consumers.add(new Structure.Consumer(layer.name(), sized.inner() * positions));
  }

  /** Each channel of a depthwise convolution belongs to the unit that its input belongs to. */
  private void passDepthwise(int i, NodeProto node, Layer layer, Carrier carrier) throws Refused {
    GraphIndex.Constant weight = constant(i, 1);
    String other = index.otherReader(weight, new GraphIndex.Use(i, 1));
    if (other != null) {
      throw refuse(i, "has weights that are also read by " + other);
    }
    int rank = weight.dims().size();
    Carrier sized = sized(i, carrier, layer.groups());
    if (sized.axis() != 1 - rank) {
      throw refuse(i, "reads the units along another axis than the channels");
    }
    Carrier output =
        Carrier.of(
            rank,
            true,
            sized.axis(),
            (long) layer.groups() * layer.rows(),
            sized.outer(),
            sized.inner() * layer.rows());
    slices(i, 1, 0, output);
    if (!Nodes.input(node, 2).isEmpty()) {
      slices(i, 2, 0, output);
    }
    cuts.add(new Cut.Group(i));
    depthwise.add(layer.name());
    carry(i, layer.output(), output);
  }

  /** The carrier with a size that turns out to be the given one. */
  private Carrier sized(int i, Carrier carrier, long size) throws Refused {
    long perInner = (long) carrier.outer() * units;
    if (carrier.inner() == Carrier.UNKNOWN && size % perInner == 0) {
      List<Long> dims = new ArrayList<>(carrier.dims());
      dims.set(dims.size() + carrier.axis(), size);
      return new Carrier(
          List.copyOf(dims),
          carrier.whole(),
          carrier.axis(),
          carrier.outer(),
          (int) (size / perInner));
    }
    if (carrier.size() != size) {
      String found = carrier.size() < 0 ? "an unknown number" : String.valueOf(carrier.size());
      throw refuse(i, "expects " + size + " elements along the units' axis, not " + found);
    }
    return carrier;
  }

  // Constants.

  private GraphIndex.Constant constant(int i, int input) throws Refused {
    String name = index.node(i).getInput(input);
    GraphIndex.Constant constant = index.constant(name);
    if (constant == null || constant.alteredBy() != null) {
      throw refuse(i, "reads '" + name + "', which is not a plain constant");
    }
    return constant;
  }

  private void slices(int i, int input, int axis, Carrier carrier) throws Refused {
    List<Long> dims = constant(i, input).dims();
    if (axis >= dims.size() || dims.get(axis) != carrier.size()) {
      throw refuse(
          i,
          "reads '%s' of shape %s, where axis %d should have %d entries"
              .formatted(index.node(i).getInput(input), dims, axis, carrier.size()));
    }
    cuts.add(new Cut.Slices(i, input, axis, carrier.outer(), carrier.inner()));
  }

  /** A constant that is combined with the carrier by broadcasting; gives the carrier, sized. */
  private Carrier aligned(int i, int input, Carrier carrier) throws Refused {
    String name = index.node(i).getInput(input);
    GraphIndex.Constant constant = index.constant(name);
    if (constant == null) {
      throw refuse(i, "reads '" + name + "', which is computed from constants");
    }
    int own = constant.dims().size() + carrier.axis();
    if (own < 0 || constant.dims().get(own) == 1) {
      return carrier;
    }
    Carrier sized = sized(i, carrier, constant.dims().get(own));
    slices(i, input, own, sized);
    return sized;
  }

  private long @Nullable [] integers(String tensor) {
    IntegerConstant constant = IntegerConstant.of(index, tensor);
    return constant == null ? null : constant.values().stream().mapToLong(v -> v).toArray();
  }

  // Other nodes.

  private void carry(int i, String tensor, Carrier carrier) throws Refused {
    long[] declared = index.shape(tensor);
    Carrier known = carrier;
    if (declared != null && declared.length > 0) {
      List<Long> dims = new ArrayList<>();
      for (int k = 0; k < declared.length; k++) {
        long dim = carrier.dim(k - declared.length);
        dims.add(dim >= 0 && k - declared.length >= -carrier.dims().size() ? dim : declared[k]);
      }
      long size = declared[Math.max(0, declared.length + carrier.axis())];
      if (declared.length + carrier.axis() < 0
          || (carrier.size() >= 0 && size >= 0 && size != carrier.size())) {
        throw refuse(i, "writes '" + tensor + "', declared as " + Arrays.toString(declared));
      }
      known =
          new Carrier(List.copyOf(dims), true, carrier.axis(), carrier.outer(), carrier.inner());
    }
    carriers.put(tensor, known);
  }

  /** The carrier of the node's first input, where no other input carries units. */
  private Carrier only(int i, NodeProto node) throws Refused {
    Carrier carrier = carriers.get(node.getInput(0));
    boolean others = node.getInputList().stream().skip(1).anyMatch(carriers::containsKey);
    if (carrier == null || others) {
      throw refuse(i, "reads the units through another input than its first");
    }
    return carrier;
  }

  private Carrier ranked(int i, Carrier carrier) throws Refused {
    if (!carrier.whole()) {
      throw refuse(
          i, "reads a tensor of unknown rank; run ONNX shape inference on the model first");
    }
    return carrier;
  }

  private void step(int i, NodeProto node) throws Refused {
    String operator = Nodes.operator(node);
    if (BROADCASTING.contains(operator)) {
      combine(i, node);
    } else if (operator.equals("MatMul")) {
      matMul(i, node);
    } else if (operator.equals("Shape")) {
      shape(i, node);
    } else if (operator.equals("Concat")) {
      throw refuse(i, "concatenates it with other tensors");
    } else {
      Carrier in = only(i, node);
      if (node.getOutputList().stream()
              .skip(1)
              .anyMatch(output -> !index.uses(output).isEmpty() || index.isOutput(output))
          && !operator.equals("Split")) {
        throw refuse(i, "has a second output that is read");
      }
      if (operator.equals("Split")) {
        split(i, node, in);
      } else {
        carry(i, node.getOutput(0), single(i, node, operator, in));
      }
    }
  }

  private Carrier single(int i, NodeProto node, String operator, Carrier in) throws Refused {
    if (Operators.ELEMENTWISE.contains(operator)) {
      return in;
    }
    if (Operators.POOLS.contains(operator) || Operators.GLOBAL_POOLS.contains(operator)) {
      return pool(i, in, Operators.GLOBAL_POOLS.contains(operator));
    }
    if (Operators.REDUCTIONS.contains(operator)) {
      return reduce(i, node, in);
    }
    return switch (operator) {
      case "Softmax", "LogSoftmax" -> softmax(i, node, in);
      case "BatchNormalization" -> batchNormalization(i, node, in);
      case "LayerNormalization" -> layerNormalization(i, node, in);
      case "Transpose" -> transpose(i, node, in);
      case "Reshape" -> reshape(i, node, in);
      case "Flatten" -> flatten(i, node, in);
      case "Squeeze" -> without(i, in, axes(i, node, in));
      case "Unsqueeze" -> unsqueeze(i, node, in);
      case "Gather" -> gather(i, node, in);
      case "Pad" -> pad(i, node, in);
      case "Slice" -> slice(i, node, in);
      default -> throw refuse(i, "is not known to keep the units apart");
    };
  }

  private void combine(int i, NodeProto node) throws Refused {
    Carrier out = null;
    for (String input : node.getInputList()) {
      Carrier carrier = carriers.get(input);
      if (carrier != null && out != null) {
        if (!carrier.isLike(out)) {
          throw refuse(i, "combines different units");
        }
        out =
            new Carrier(
                out.broadcast(carrier.dims(), carrier.whole()),
                out.whole() && carrier.whole(),
                out.axis(),
                out.outer(),
                out.inner());
      } else if (carrier != null) {
        out = carrier;
      }
    }
    for (int k = 0; k < node.getInputCount() && out != null; k++) {
      String input = node.getInput(k);
      if (carriers.containsKey(input)) {
        continue;
      }
      if (index.isDynamic(input) && !isSingle(input)) {
        if (Nodes.is(node, "Mul")) {
          throw Refused.joined(
              i,
              Nodes.label(node)
                  + " multiplies it with '"
                  + input
                  + "', which does not lose these units",
              input);
        }
        throw refuse(i, "joins it with '" + input + "' (a residual stream)");
      }
      GraphIndex.Constant constant = index.constant(input);
      if (constant != null) {
        out = aligned(i, k, out);
        out = out.with(out.broadcast(constant.dims(), true));
      } else if (!isSingle(input)) {
        throw refuse(i, "reads '" + input + "', which is computed from constants");
      }
    }
    if (out != null) {
      carry(i, node.getOutput(0), out);
    }
  }

  /** Whether a tensor has one element, such as a scale computed from the size of an axis. */
  private boolean isSingle(String tensor) {
    long[] declared = index.shape(tensor);
    GraphIndex.Constant constant = index.constant(tensor);
    if (constant != null || declared != null) {
      return constant != null
          ? TensorData.count(constant.dims()) == 1
          : Arrays.stream(declared).allMatch(size -> size == 1);
    }
    int producer = index.producer(tensor);
    if (producer < 0) {
      return false;
    }
    NodeProto node = index.node(producer);
    int shaped = index.producer(Nodes.input(node, 0));
    if (shaped >= 0 && Nodes.is(index.node(shaped), "Shape")) {
      long[] asked = asked(node, LONGEST_SHAPE);
      return asked != null && asked.length == 1;
    }
    return switch (Nodes.operator(node)) {
      case "Squeeze", "Unsqueeze", "Reshape" -> isSingle(node.getInput(0));
      default ->
          (Operators.ELEMENTWISE.contains(Nodes.operator(node))
                  || BROADCASTING.contains(Nodes.operator(node)))
              && node.getInputList().stream().allMatch(this::isSingle);
    };
  }

  /** The product of two activations: units may lie along an axis of matrices, not within them. */
  private void matMul(int i, NodeProto node) throws Refused {
    Carrier left = carriers.get(node.getInput(0));
    Carrier right = carriers.get(node.getInput(1));
    Carrier one = left != null ? left : right;
    if (one == null || one.axis() > -3) {
      throw refuse(i, "multiplies two activations along the units");
    }
    if (left == null || right == null) {
      String other = node.getInput(left == null ? 0 : 1);
      throw Refused.joined(i, Nodes.label(node) + " multiplies it with '" + other + "'", other);
    }
    if (!left.isLike(right)) {
      throw refuse(i, "multiplies different units");
    }
    attention = true;
    List<Long> dims = new ArrayList<>(left.broadcast(right.dims(), right.whole()));
    dims.set(dims.size() - 2, left.dim(-2));
    dims.set(dims.size() - 1, right.dim(-1));
    carry(
        i,
        node.getOutput(0),
        new Carrier(
            List.copyOf(dims),
            left.whole() && right.whole(),
            left.axis(),
            left.outer(),
            left.inner()));
  }

  /** A Shape of which only the sizes of other axes are used. */
  private void shape(int i, NodeProto node) throws Refused {
    Carrier in = only(i, node);
    String output = node.getOutput(0);
    for (GraphIndex.Use use : index.uses(output)) {
      NodeProto reader = index.node(use.node());
      long[] asked = use.input() == 0 ? asked(reader, in.dims().size()) : null;
      if (asked == null
          || !in.whole()
          || node.getAttributeCount() > 0
          || Arrays.stream(asked).anyMatch(a -> (a < 0 ? a : a - in.dims().size()) == in.axis())) {
        throw refuse(i, "asks for the number of units at run time");
      }
    }
    if (index.isOutput(output)) {
      throw refuse(i, "gives the number of units to the model's user");
    }
  }

  /** Which elements of a shape of that length a Gather or Slice takes; null where not constant. */
  private long @Nullable [] asked(NodeProto reader, int length) {
    if (Nodes.is(reader, "Gather")) {
      return integers(reader.getInput(1));
    }
    return Nodes.is(reader, "Slice") ? range(reader, length) : null;
  }

  private long @Nullable [] range(NodeProto slice, int length) {
    List<Long> startAttribute = Nodes.integers(slice, "starts");
    List<Long> endAttribute = Nodes.integers(slice, "ends");
    long[] starts =
        startAttribute != null
            ? startAttribute.stream().mapToLong(v -> v).toArray()
            : integers(Nodes.input(slice, 1));
    long[] ends =
        endAttribute != null
            ? endAttribute.stream().mapToLong(v -> v).toArray()
            : integers(Nodes.input(slice, 2));
    if (starts == null
        || ends == null
        || starts.length != 1
        || ends.length != 1
        || !Nodes.input(slice, 4).isEmpty()) {
      return null;
    }
    long start = Math.clamp(starts[0] < 0 ? starts[0] + length : starts[0], 0, length);
    long end = Math.clamp(ends[0] < 0 ? ends[0] + length : ends[0], 0, length);
    return LongStream.range(start, end).toArray();
  }

  private Carrier pool(int i, Carrier in, boolean global) throws Refused {
    if (ranked(i, in).front() != 1) {
      throw refuse(i, "pools over the units");
    }
    List<Long> dims = new ArrayList<>(in.dims());
    for (int k = 2; k < dims.size(); k++) {
      dims.set(k, global ? 1L : Carrier.UNKNOWN);
    }
    return in.with(dims);
  }

  /** Whether a tensor of images has one pixel only, as what a global pool gives. */
  private boolean isPixel(String tensor) {
    String name = tensor;
    while (true) {
      int at = index.producer(name);
      if (at < 0) {
        return false;
      }
      NodeProto node = index.node(at);
      String operator = Nodes.operator(node);
      Layer layer = layers.get(at);
      boolean keepsSize =
          Operators.ELEMENTWISE.contains(operator)
              || operator.equals("Reshape")
              || (layer != null
                  && layer.unfold() instanceof Unfold.Convolution convolution
                  && convolution.pads(1, 1)[0] == 0
                  && convolution.outputHeight(1, 1) == 1
                  && convolution.outputWidth(1, 1) == 1);
      if (Operators.GLOBAL_POOLS.contains(operator)) {
        return true;
      }
      if (!keepsSize) {
        return false;
      }
      if (operator.equals("Reshape")) {
        long[] shape = integers(node.getInput(1));
        return shape != null && shape.length == 4 && shape[2] == 1 && shape[3] == 1;
      }
      name = node.getInput(0);
    }
  }

  private Carrier softmax(int i, NodeProto node, Carrier in) throws Refused {
    boolean oneAxis = model.opset() >= 13;
    long axis = Nodes.integer(node, "axis", oneAxis ? -1 : 1);
    long fromEnd = axis < 0 ? axis : axis - ranked(i, in).dims().size();
    if (oneAxis ? fromEnd == in.axis() : fromEnd <= in.axis()) {
      throw refuse(i, "normalises over the units");
    }
    return in;
  }

  private Carrier batchNormalization(int i, NodeProto node, Carrier in) throws Refused {
    if (Nodes.integer(node, "training_mode", 0) != 0 || Nodes.integer(node, "spatial", 1) != 1) {
      throw refuse(i, "normalises over its batch");
    }
    if (ranked(i, in).front() != 1) {
      return in;
    }
    Carrier sized = sized(i, in, TensorData.count(constant(i, 1).dims()));
    for (int k = 1; k < 5; k++) {
      slices(i, k, 0, sized);
    }
    return sized;
  }

  private Carrier layerNormalization(int i, NodeProto node, Carrier in) throws Refused {
    long axis = Nodes.integer(node, "axis", -1);
    long fromEnd = axis < 0 ? axis : axis - ranked(i, in).dims().size();
    if (fromEnd <= in.axis()) {
      throw refuse(i, "normalises over the units");
    }
    return in;
  }

  private Carrier transpose(int i, NodeProto node, Carrier in) throws Refused {
    List<Long> perm = Nodes.integers(node, "perm");
    int rank = perm != null ? perm.size() : ranked(i, in).dims().size();
    List<Long> dims = new ArrayList<>();
    int axis = 0;
    for (int k = 0; k < rank; k++) {
      int from = (perm == null ? rank - 1 - k : perm.get(k).intValue()) - rank;
      dims.add(in.dim(from));
      axis = from == in.axis() ? k - rank : axis;
    }
    return new Carrier(List.copyOf(dims), true, axis, in.outer(), in.inner());
  }

  private Carrier flatten(int i, NodeProto node, Carrier in) throws Refused {
    int axis = (int) Nodes.integer(node, "axis", 1);
    return flattened(i, ranked(i, in), axis < 0 ? axis + in.dims().size() : axis);
  }

  private Carrier flattened(int i, Carrier in, int split) throws Refused {
    List<Long> dims = in.dims();
    boolean back = in.front() >= split;
    long before = product(dims.subList(back ? split : 0, in.front()));
    long behind = product(dims.subList(in.front() + 1, back ? dims.size() : split));
    if (before < 0 || in.inner() == Carrier.UNKNOWN) {
      throw refuse(i, "flattens the units together with axes of unknown size");
    }
    int outer = Math.toIntExact(in.outer() * before);
    int inner = behind < 0 ? Carrier.UNKNOWN : Math.toIntExact(in.inner() * behind);
    long size = inner < 0 ? Carrier.UNKNOWN : (long) outer * units * inner;
    return Carrier.of(2, true, back ? -1 : -2, size, outer, inner);
  }

  private static long product(List<Long> dims) {
    return dims.stream().anyMatch(dim -> dim < 0)
        ? Carrier.UNKNOWN
        : dims.stream().reduce(1L, (a, b) -> a * b);
  }

  /** The axes that a node names, from the front. */
  private Set<Integer> axes(int i, NodeProto node, Carrier in) throws Refused {
    int rank = ranked(i, in).dims().size();
    List<Long> attribute = Nodes.integers(node, "axes");
    long[] axes =
        attribute != null
            ? attribute.stream().mapToLong(axis -> axis).toArray()
            : integers(Nodes.input(node, 1));
    if (axes == null || axes.length == 0) {
      throw refuse(i, "does not name its axes, or computes them");
    }
    Set<Integer> result = new HashSet<>();
    for (long axis : axes) {
      result.add((int) (axis < 0 ? axis + rank : axis));
    }
    return result;
  }

  private Carrier without(int i, Carrier in, Set<Integer> axes) throws Refused {
    if (axes.contains(in.front())) {
      throw refuse(i, "removes the units' axis");
    }
    List<Long> dims = new ArrayList<>();
    int axis = in.axis();
    for (int k = 0; k < in.dims().size(); k++) {
      if (!axes.contains(k)) {
        dims.add(in.dims().get(k));
      } else if (k > in.front()) {
        axis++;
      }
    }
    return in.with(dims, axis);
  }

  private Carrier unsqueeze(int i, NodeProto node, Carrier in) throws Refused {
    ranked(i, in);
    List<Long> attribute = Nodes.integers(node, "axes");
    long[] named =
        attribute != null
            ? attribute.stream().mapToLong(axis -> axis).toArray()
            : integers(Nodes.input(node, 1));
    if (named == null) {
      throw refuse(i, "computes its axes");
    }
    int rank = in.dims().size() + named.length;
    Set<Long> axes = new HashSet<>();
    for (long axis : named) {
      axes.add(axis < 0 ? axis + rank : axis);
    }
    List<Long> dims = new ArrayList<>();
    int front = 0;
    int from = 0;
    for (long k = 0; k < rank; k++) {
      if (axes.contains(k)) {
        dims.add(1L);
      } else {
        front = from == in.front() ? (int) k : front;
        dims.add(in.dims().get(from++));
      }
    }
    return in.with(dims, front - rank);
  }

  private Carrier reduce(int i, NodeProto node, Carrier in) throws Refused {
    Set<Integer> axes = axes(i, node, in);
    if (axes.contains(in.front())) {
      throw refuse(i, "sums over the units");
    }
    if (Nodes.integer(node, "keepdims", 1) == 0) {
      return without(i, in, axes);
    }
    List<Long> dims = new ArrayList<>(in.dims());
    axes.forEach(axis -> dims.set(axis, 1L));
    return in.with(dims);
  }

  private Carrier gather(int i, NodeProto node, Carrier in) throws Refused {
    int rank = ranked(i, in).dims().size();
    long axis = Nodes.integer(node, "axis", 0);
    int at = (int) (axis < 0 ? axis + rank : axis);
    GraphIndex.Constant indices = index.constant(node.getInput(1));
    if (at == in.front() || indices == null) {
      throw refuse(i, at == in.front() ? "picks some of the units" : "computes its indices");
    }
    List<Long> dims = new ArrayList<>(in.dims().subList(0, at));
    dims.addAll(indices.dims());
    dims.addAll(in.dims().subList(at + 1, rank));
    return in.with(dims, in.front() > at ? in.axis() : in.front() - dims.size());
  }

  private Carrier slice(int i, NodeProto node, Carrier in) throws Refused {
    int rank = ranked(i, in).dims().size();
    List<Long> attribute = Nodes.integers(node, "axes");
    long[] axes =
        attribute != null
            ? attribute.stream().mapToLong(axis -> axis).toArray()
            : integers(Nodes.input(node, 3));
    if (axes == null) {
      throw refuse(i, "does not name its axes, or computes them");
    }
    List<Long> dims = new ArrayList<>(in.dims());
    for (long axis : axes) {
      int at = (int) (axis < 0 ? axis + rank : axis);
      if (at == in.front()) {
        throw refuse(i, "picks some of the units");
      }
      dims.set(at, (long) Carrier.UNKNOWN);
    }
    return in.with(dims);
  }

  private Carrier pad(int i, NodeProto node, Carrier in) throws Refused {
    int rank = ranked(i, in).dims().size();
    List<Long> attribute = Nodes.integers(node, "pads");
    long[] pads =
        attribute != null
            ? attribute.stream().mapToLong(p -> p).toArray()
            : integers(Nodes.input(node, 1));
    if (pads == null || pads.length != 2 * rank || !Nodes.input(node, 3).isEmpty()) {
      throw refuse(i, "computes its pads, or pads some axes only");
    }
    List<Long> dims = new ArrayList<>(in.dims());
    for (int k = 0; k < rank; k++) {
      if (pads[k] != 0 || pads[k + rank] != 0) {
        if (k == in.front()) {
          throw refuse(i, "pads the units' axis");
        }
        dims.set(k, (long) Carrier.UNKNOWN);
      }
    }
    return in.with(dims);
  }

  private void split(int i, NodeProto node, Carrier in) throws Refused {
    long axis = Nodes.integer(node, "axis", 0);
    long fromEnd = axis < 0 ? axis : axis - ranked(i, in).dims().size();
    int parts = node.getOutputCount();
    List<Long> attribute = Nodes.integers(node, "split");
    String input = Nodes.input(node, 1);
    long[] sizes =
        attribute != null
            ? attribute.stream().mapToLong(size -> size).toArray()
            : input.isEmpty() ? null : integers(input);
    int at = (int) (in.dims().size() + fromEnd);
    if (sizes == null && input.isEmpty() && in.dims().get(at) % parts == 0) {
      long size = in.dims().get(at) < 0 ? Carrier.UNKNOWN : in.dims().get(at) / parts;
      sizes = LongStream.generate(() -> size).limit(parts).toArray();
    }
    if (sizes == null || sizes.length != parts) {
      throw refuse(i, "computes the sizes of its parts");
    }
    boolean across = fromEnd == in.axis();
    long block = (long) units * in.inner();
    if (across && Arrays.stream(sizes).anyMatch(size -> size % block != 0)) {
      boolean equal = Arrays.stream(sizes).allMatch(size -> size == in.size() / parts);
      String why = Nodes.label(node) + " divides the units";
      throw equal && in.outer() == 1 && units % parts == 0
          ? Refused.divided(i, why, new long[] {parts, units / parts})
          : Refused.because(i, why);
    }
    for (int k = 0; k < parts; k++) {
      List<Long> dims = new ArrayList<>(in.dims());
      dims.set(at, sizes[k]);
      int outer = across ? (int) (sizes[k] / block) : in.outer();
      carry(
          i,
          node.getOutput(k),
          new Carrier(List.copyOf(dims), in.whole(), in.axis(), outer, in.inner()));
    }
    if (across && (attribute != null || !input.isEmpty())) {
      cuts.add(new Cut.Parts(i));
    }
  }

  /**
   * A Reshape leaves the order of the elements alone, so what counts is how the block of the units'
   * axis and those behind it is divided. With the units at (o · units + u) · inner + i and {@code
   * behind} elements behind each, the entry of the new shape that holds the units is the one whose
   * followers multiply to a divisor of inner · behind.
   */
  private Carrier reshape(int i, NodeProto node, Carrier in) throws Refused {
    TargetShape target = TargetShape.of(index, node, in);
    List<Long> entries = target.entries();
    long behind = in.behind();
    if (in.front() == 1 && target.flattens(index, node.getInput(1), node.getInput(0))) {
      return flattened(i, in, 1);
    }
    if (behind < 0 || in.inner() == Carrier.UNKNOWN) {
      throw refuse(i, "reshapes an image of unknown size to " + target);
    }
    long inside = in.inner() * behind;
    long after = 1;
    for (int j = entries.size() - 1; j >= 0 && inside % after == 0; j--) {
      long entry = entries.get(j);
      long inner = inside / after;
      if (entry == TargetShape.COMPUTED) {
        throw refuse(i, "computes its shape, " + target + ", at run time");
      }
      long outer = entry == TargetShape.REST ? in.outer() : entry / (units * inner);
      boolean fits =
          outer > 0
              && in.outer() % outer == 0
              && (entry == TargetShape.REST || entry == outer * units * inner)
              && target.endsBefore(j, in.outer() / outer);
      if (fits) {
        int fromEnd = j - entries.size();
        if (entry != TargetShape.REST && !target.copies(j)) {
          cuts.add(new Cut.Entry(i, fromEnd, Math.toIntExact(outer * inner)));
        }
        List<Long> dims = new ArrayList<>();
        entries.forEach(size -> dims.add(size < 0 ? Carrier.UNKNOWN : size));
        dims.set(j, outer * units * inner);
        return new Carrier(List.copyOf(dims), target.whole(), fromEnd, (int) outer, (int) inner);
      }
      if (entry == TargetShape.REST) {
        break;
      }
      after *= entry;
    }
    long[] factors = target.factors(in.outer(), units, inside);
    String why =
        Nodes.label(node) + " reshapes " + in.dims() + " to " + target + ", across the units";
    throw factors.length > 1 ? Refused.divided(i, why, factors) : Refused.because(i, why);
  }
}
