package org.taco4j.onnx;

import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TypeProto;
import ai.onnx.proto.OnnxMl.ValueInfoProto;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;

/** Cuts a classifier's last layer down to the classes of a task. */
public final class HeadRestriction {
  private static final Set<String> SOFTMAXES = Set.of("Softmax", "LogSoftmax");

  /** Operators that combine an activation with constants element by element. */
  private static final Set<String> WITH_CONSTANTS =
      Set.of("Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Min", "Max", "Sum");

  private static final Set<String> SHAPES =
      Set.of("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose");

  private HeadRestriction() {}

  /** Whether an operator has one activation and leaves its shape alone. */
  private static boolean keepsShape(String operator) {
    return Operators.ELEMENTWISE.contains(operator) || SOFTMAXES.contains(operator);
  }

  private static boolean isPool(String operator) {
    return Operators.POOLS.contains(operator) || Operators.GLOBAL_POOLS.contains(operator);
  }

  /**
   * How many classes the model tells apart: the size of its first output along the class axis, as
   * declared, or else the rows of its last layer.
   *
   * @throws TacoException of kind MODEL when neither tells
   */
  public static int classes(OnnxModel model) {
    long[] shape = model.index().shape(firstOutput(model));
    if (shape != null && shape.length >= 1 && shape.length <= 2 && shape[shape.length - 1] > 0) {
      return Math.toIntExact(shape[shape.length - 1]);
    }
    return new Head(model).classes;
  }

  /**
   * Whether the model's first output is a Softmax, perhaps of another shape, and so holds
   * probabilities. Those of a LogSoftmax are what a softmax of its output gives.
   */
  public static boolean givesProbabilities(OnnxModel model) {
    GraphIndex index = model.index();
    int at = index.producer(firstOutput(model));
    while (at >= 0
        && (SHAPES.contains(Nodes.operator(index.node(at)))
            || Nodes.is(index.node(at), "Identity"))) {
      at = index.producer(index.node(at).getInput(0));
    }
    return at >= 0 && Nodes.is(index.node(at), "Softmax");
  }

  /**
   * Keeps only the given outputs, in the given order: the rows of the last Gemm, MatMul or Conv and
   * its bias, through what stands between it and the model's output. A Softmax there normalises
   * over the classes that stay. On failure the model is unchanged.
   *
   * @param classes indices into the model's output, each at most once
   * @throws TacoException of kind MODEL when the head cannot be found or cut safely, naming the
   *     node in the way; of kind DATA for an index the model does not have, one that comes twice,
   *     or none at all
   */
  public static void restrict(OnnxModel model, List<Integer> classes) {
    Head head = new Head(model);
    if (classes.isEmpty()) {
      throw TacoException.data(model.source() + ": no class to keep");
    }
    Set<Integer> seen = new HashSet<>();
    for (int c : classes) {
      if (c < 0 || c >= head.classes) {
        throw TacoException.data(
            "%s: the model has no class %d; its classes are 0 to %d"
                .formatted(model.source(), c, head.classes - 1));
      }
      if (!seen.add(c)) {
        throw TacoException.data("%s: class %d is listed twice".formatted(model.source(), c));
      }
    }
    OnnxModel work = model.copy();
    new Cut(work, head, classes.stream().mapToInt(c -> c).toArray()).run();
    model.adopt(work);
  }

  private static String firstOutput(OnnxModel model) {
    return model.index().graph().getOutput(0).getName();
  }

  private static TacoException refuse(OnnxModel model, String why) {
    return TacoException.model(
        model.source() + ": the model's head cannot be cut to fewer classes: " + why);
  }

  /** One node between the last layer and the output, with the input that the classes come in by. */
  private record Step(int node, int input) {}

  /** The last layer and the way from it to the model's first output. */
  private static final class Head {
    /** From the layer, which is the first, to the writer of the output. */
    private final List<Step> steps = new ArrayList<>();

    private final GraphIndex.Constant weight;
    private final int weightInput;
    private final int classes;

    Head(OnnxModel model) {
      GraphIndex index = model.index();
      String tensor = firstOutput(model);
      while (true) {
        int at = index.producer(tensor);
        if (at < 0 || steps.size() > index.graph().getNodeCount()) {
          throw refuse(
              model, "no Gemm, MatMul or Conv with constant weights stands before its output");
        }
        NodeProto node = index.node(at);
        if (!node.getOutput(0).equals(tensor)) {
          throw refuse(model, Nodes.label(node) + " gives '" + tensor + "' as a second output");
        }
        String operator = Nodes.operator(node);
        if (operator.equals("Gemm") || operator.equals("MatMul") || operator.equals("Conv")) {
          boolean left = !index.isDynamic(node.getInput(0)) && !operator.equals("Conv");
          weightInput = left ? 0 : 1;
          steps.addFirst(new Step(at, 1 - weightInput));
          break;
        }
        int input = dataInput(model, at);
        steps.addFirst(new Step(at, input));
        tensor = Nodes.input(node, input);
      }
      NodeProto node = index.node(steps.getFirst().node);
      GraphIndex.Constant constant = index.constant(node.getInput(weightInput));
      if (constant == null || constant.alteredBy() != null) {
        throw refuse(
            model,
            "the weights of "
                + Nodes.label(node)
                + (constant == null
                    ? " are not constant"
                    : " come through " + constant.alteredBy()));
      }
      weight = constant;
      if (constant.dims().size() < 2) {
        throw refuse(model, Nodes.label(node) + " has weights of shape " + constant.dims());
      }
      classes = Math.toIntExact(constant.dims().get(weightAxis(node)));
    }

    /** Which axis of the weights counts the classes. */
    int weightAxis(NodeProto node) {
      int last = weight.dims().size() - 1;
      boolean right = weightInput == 1;
      return switch (node.getOpType()) {
        case "Conv" -> 0;
        case "Gemm" ->
            right
                ? Nodes.integer(node, "transB", 0) != 0 ? 0 : 1
                : Nodes.integer(node, "transA", 0) != 0 ? 1 : 0;
        default -> right ? last : last - 1;
      };
    }

    private static int dataInput(OnnxModel model, int at) {
      GraphIndex index = model.index();
      NodeProto node = index.node(at);
      String operator = Nodes.operator(node);
      if (keepsShape(operator)
          || isPool(operator)
          || Operators.REDUCTIONS.contains(operator)
          || SHAPES.contains(operator)
          || operator.equals("BatchNormalization")) {
        return 0;
      }
      if (!WITH_CONSTANTS.contains(operator)) {
        throw refuse(model, Nodes.label(node) + " stands between the last layer and the output");
      }
      int[] dynamic =
          IntStream.range(0, node.getInputCount())
              .filter(i -> index.isDynamic(node.getInput(i)))
              .toArray();
      if (dynamic.length != 1) {
        throw refuse(model, Nodes.label(node) + " combines " + dynamic.length + " activations");
      }
      return dynamic[0];
    }
  }

  /** The forward walk from the layer to the output that cuts whatever has the class axis. */
  private static final class Cut {
    private final OnnxModel model;
    private final Head head;
    private final int[] keep;

    /** Sizes of the tensor at hand before the cut, -1 where not known; null for unknown rank. */
    private long @Nullable [] dims;

    /** The class axis of the tensor at hand; counted from the end (negative) for unknown rank. */
    private int axis;

    private final Set<String> path = new HashSet<>();

    Cut(OnnxModel model, Head head, int[] keep) {
      this.model = model;
      this.head = head;
      this.keep = keep;
    }

    private TacoException refuse(NodeProto node, String why) {
      return HeadRestriction.refuse(model, Nodes.label(node) + " " + why);
    }

    void run() {
      for (int i = 0; i < head.steps.size(); i++) {
        Step step = head.steps.get(i);
        NodeProto node = model.index().node(step.node);
        if (i == 0) {
          layer(node, step);
        } else {
          step(node, step);
        }
        String tensor = node.getOutput(0);
        path.add(tensor);
        refine(tensor, node);
        checkReaders(node, i + 1 < head.steps.size() ? head.steps.get(i + 1).node : -1);
        if (model.index().isOutput(tensor)) {
          declare(tensor, node);
        }
      }
      model.forgetShapes(path);
    }

    private void layer(NodeProto node, Step step) {
      int rank = head.weight.dims().size();
      cutInput(step.node, head.weightInput, head.weightAxis(node));
      switch (node.getOpType()) {
        case "Conv" -> {
          if (Nodes.integer(node, "group", 1) != 1) {
            throw refuse(node, "is a grouped convolution");
          }
          dims = new long[rank];
          Arrays.fill(dims, -1);
          axis = 1;
          if (!Nodes.input(node, 2).isEmpty()) {
            cutInput(step.node, 2, 0);
          }
        }
        case "Gemm" -> {
          dims = new long[] {-1, -1};
          axis = head.weightInput == 1 ? 1 : 0;
          if (!Nodes.input(node, 2).isEmpty()) {
            cutAligned(node, step.node, 2);
          }
        }
        default -> {
          dims = null;
          axis = head.weightInput == 1 ? -1 : -2;
          long[] input = model.index().shape(node.getInput(step.input));
          if (input != null && rank == 2) {
            dims = new long[Math.max(input.length, 1)];
            Arrays.fill(dims, -1);
            axis = input.length == 1 ? 0 : axis + dims.length;
          }
        }
      }
      if (dims != null) {
        dims[axis] = head.classes;
      }
    }

    /** Takes what the model declares about a tensor's shape into account. */
    private void refine(String tensor, NodeProto writer) {
      long[] declared = model.index().shape(tensor);
      if (declared == null || declared.length == 0) {
        return;
      }
      if (dims == null) {
        if (declared.length + axis < 0) {
          throw refuse(writer, "writes '" + tensor + "' of rank " + declared.length);
        }
        dims = declared.clone();
        axis += declared.length;
      }
      if (declared.length != dims.length
          || (declared[axis] >= 0 && declared[axis] != head.classes)) {
        throw refuse(
            writer,
            "writes '%s', declared as %s; the last layer has %d classes"
                .formatted(tensor, Arrays.toString(declared), head.classes));
      }
      for (int i = 0; i < dims.length; i++) {
        dims[i] = dims[i] < 0 ? declared[i] : dims[i];
      }
      dims[axis] = head.classes;
    }

    /** Only the next node may read what changes, and what asks for other axes' sizes. */
    private void checkReaders(NodeProto node, int next) {
      GraphIndex index = model.index();
      for (String output : node.getOutputList()) {
        for (GraphIndex.Use use : index.uses(output)) {
          boolean first = output.equals(node.getOutput(0));
          NodeProto reader = index.node(use.node());
          if (!(first && use.node() == next) && !asksForOtherAxis(reader)) {
            throw refuse(reader, "also reads '" + output + "'");
          }
        }
      }
    }

    /** Whether the node is a Shape of which only the sizes of other axes are used. */
    private boolean asksForOtherAxis(NodeProto reader) {
      GraphIndex index = model.index();
      if (!Nodes.is(reader, "Shape")
          || reader.getAttributeCount() > 0
          || index.isOutput(reader.getOutput(0))) {
        return false;
      }
      long[] sizes = dims;
      if (sizes == null) {
        return false;
      }
      for (GraphIndex.Use use : index.uses(reader.getOutput(0))) {
        NodeProto gather = index.node(use.node());
        long[] indices =
            Nodes.is(gather, "Gather") && use.input() == 0 ? integers(gather.getInput(1)) : null;
        if (indices == null
            || Arrays.stream(indices).anyMatch(i -> (i < 0 ? i + sizes.length : i) == axis)) {
          return false;
        }
      }
      return true;
    }

    private long @Nullable [] integers(String tensor) {
      GraphIndex.Constant constant = model.index().constant(tensor);
      if (constant == null || constant.alteredBy() != null) {
        return null;
      }
      int type = constant.tensor().getDataType();
      return type == TensorProto.DataType.INT64_VALUE || type == TensorProto.DataType.INT32_VALUE
          ? TensorData.longs(constant.tensor())
          : null;
    }

    private void step(NodeProto node, Step step) {
      String operator = node.getOpType();
      if (WITH_CONSTANTS.contains(operator)) {
        for (int i = 0; i < node.getInputCount(); i++) {
          if (i != step.input) {
            cutAligned(node, step.node, i);
          }
        }
      } else if (operator.equals("BatchNormalization")) {
        if (normalised(node, axis) != 1) {
          throw refuse(node, "does not normalise the classes");
        }
        for (int i = 1; i < 5; i++) {
          cutInput(step.node, i, 0);
        }
      } else if (isPool(operator)) {
        long[] sizes = known(node);
        if (axis != 1) {
          throw refuse(node, "pools over the classes");
        }
        // A local pool before the output of a classifier covers the image; the shape that the
        // model declares further on is checked against this.
        Arrays.fill(sizes, 2, sizes.length, 1);
      } else if (!keepsShape(operator)) {
        switch (operator) {
          case "Transpose" -> transpose(node);
          case "Flatten" -> flatten(node);
          case "Squeeze" -> squeeze(node);
          case "Unsqueeze" -> unsqueeze(node);
          case "Reshape" -> reshape(node, step.node);
          default -> reduce(node);
        }
      }
    }

    /** The sizes of the tensor at hand, for operators that cannot do without its rank. */
    private long[] known(NodeProto node) {
      if (dims == null) {
        throw refuse(
            node,
            "reads a tensor whose shape the model does not declare; run ONNX shape inference on"
                + " the model first");
      }
      return dims;
    }

    /** The axis from the front, for operators whose constants count from there. */
    private int normalised(NodeProto node, int axisAtHand) {
      return axisAtHand >= 0 ? axisAtHand : axisAtHand + known(node).length;
    }

    private void transpose(NodeProto node) {
      List<Long> perm = Nodes.integers(node, "perm");
      if (dims == null && perm != null) {
        dims = new long[perm.size()];
        Arrays.fill(dims, -1);
        axis += dims.length;
        dims[axis] = head.classes;
      }
      long[] sizes = known(node);
      int rank = sizes.length;
      int[] from =
          IntStream.range(0, rank)
              .map(i -> perm == null ? rank - 1 - i : perm.get(i).intValue())
              .toArray();
      dims = Arrays.stream(from).mapToLong(i -> sizes[i]).toArray();
      int old = axis;
      axis = IntStream.range(0, rank).filter(i -> from[i] == old).findFirst().orElseThrow();
    }

    private void flatten(NodeProto node) {
      long[] sizes = known(node);
      int split = (int) Nodes.integer(node, "axis", 1);
      split = split < 0 ? split + sizes.length : split;
      int from = axis >= split ? split : 0;
      int to = axis >= split ? sizes.length : split;
      int old = axis;
      if (IntStream.range(from, to).anyMatch(i -> i != old && sizes[i] != 1)) {
        throw refuse(
            node, "flattens the classes together with other axes of " + Arrays.toString(sizes));
      }
      axis = old >= split ? 1 : 0;
      dims = new long[] {-1, -1};
      dims[axis] = head.classes;
    }

    /** The axes of a Squeeze, Unsqueeze or reduction, from the front; null where it names none. */
    private @Nullable Set<Integer> axes(NodeProto node, int rank) {
      List<Long> attribute = Nodes.integers(node, "axes");
      long[] axes;
      if (attribute != null) {
        axes = attribute.stream().mapToLong(i -> i).toArray();
      } else if (!Nodes.input(node, 1).isEmpty()) {
        axes = integers(node.getInput(1));
        if (axes == null) {
          throw refuse(node, "computes its axes");
        }
      } else {
        return null;
      }
      Set<Integer> result = new TreeSet<>();
      for (long i : axes) {
        result.add((int) (i < 0 ? i + rank : i));
      }
      return result;
    }

    private void squeeze(NodeProto node) {
      long[] sizes = known(node);
      Set<Integer> axes = axes(node, sizes.length);
      if (axes == null) {
        if (keep.length == 1 || Arrays.stream(sizes).anyMatch(size -> size < 0)) {
          throw refuse(node, "names no axes, so it could remove the classes or the batch");
        }
        axes = new TreeSet<>();
        for (int i = 0; i < sizes.length; i++) {
          if (sizes[i] == 1) {
            axes.add(i);
          }
        }
      }
      remove(node, axes);
    }

    private void remove(NodeProto node, Set<Integer> axes) {
      if (axes.contains(axis)) {
        throw refuse(node, "removes the class axis");
      }
      long[] sizes = known(node);
      dims =
          IntStream.range(0, sizes.length)
              .filter(i -> !axes.contains(i))
              .mapToLong(i -> sizes[i])
              .toArray();
      int old = axis;
      axis -= (int) axes.stream().filter(i -> i < old).count();
    }

    private void unsqueeze(NodeProto node) {
      long[] sizes = known(node);
      List<Long> attribute = Nodes.integers(node, "axes");
      long[] added =
          attribute != null
              ? attribute.stream().mapToLong(i -> i).toArray()
              : integers(Nodes.input(node, 1));
      if (added == null) {
        throw refuse(node, "computes its axes");
      }
      int rank = sizes.length + added.length;
      Set<Integer> axes = new HashSet<>();
      for (long i : added) {
        axes.add((int) (i < 0 ? i + rank : i));
      }
      long[] result = new long[rank];
      int from = 0;
      int newAxis = 0;
      for (int i = 0; i < rank; i++) {
        if (axes.contains(i)) {
          result[i] = 1;
        } else {
          newAxis = from == axis ? i : newAxis;
          result[i] = sizes[from++];
        }
      }
      dims = result;
      axis = newAxis;
    }

    private void reduce(NodeProto node) {
      long[] sizes = known(node);
      Set<Integer> axes = axes(node, sizes.length);
      if (axes == null || axes.contains(axis)) {
        throw refuse(node, "reduces over the classes");
      }
      if (Nodes.integer(node, "keepdims", 1) == 0) {
        remove(node, axes);
      } else {
        axes.forEach(i -> sizes[i] = 1);
      }
    }

    /** Where one entry of a Reshape's shape is stored; constant null for one that is computed. */
    private record Entry(long value, @Nullable String tensor, int input, int offset) {}

    private void reshape(NodeProto node, int at) {
      long[] sizes = known(node);
      List<Entry> target = target(node);
      int classes = head.classes;
      boolean zeroCopies = Nodes.integer(node, "allowzero", 0) == 0;
      int position = -1;
      int[] named =
          IntStream.range(0, target.size())
              .filter(i -> target.get(i).tensor != null && target.get(i).value == classes)
              .toArray();
      int[] rest =
          IntStream.range(0, target.size())
              .filter(i -> target.get(i).tensor != null && target.get(i).value == -1)
              .toArray();
      if (axis < target.size()
          && target.get(axis).tensor != null
          && (target.get(axis).value == classes || (target.get(axis).value == 0 && zeroCopies))) {
        position = axis;
      } else if (named.length == 1) {
        position = named[0];
      } else if (named.length == 0 && rest.length == 1) {
        position = rest[0];
      }
      if (position < 0) {
        throw refuse(node, "has the shape " + target.stream().map(Entry::value).toList());
      }
      checkKeepsClasses(node, sizes, target, position);
      Entry entry = target.get(position);
      if (entry.value == classes && entry.tensor != null) {
        rewrite(at, entry);
      }
      long[] result = target.stream().mapToLong(Entry::value).toArray();
      for (int i = 0; i < result.length; i++) {
        boolean copied = result[i] == 0 && zeroCopies && i < sizes.length;
        result[i] = copied ? sizes[i] : result[i];
      }
      result[position] = classes;
      dims = result;
      axis = position;
    }

    /** A reshape keeps the classes apart when they are its innermost axis but for ones. */
    private void checkKeepsClasses(NodeProto node, long[] sizes, List<Entry> target, int position) {
      boolean innermost =
          Arrays.stream(sizes, axis + 1, sizes.length).allMatch(size -> size == 1)
              && target.stream().skip(position + 1L).allMatch(entry -> entry.value == 1);
      boolean sameFront =
          position == axis
              && IntStream.range(0, axis)
                  .allMatch(
                      i ->
                          target.get(i).value == 0
                              || (sizes[i] > 0 && target.get(i).value == sizes[i]));
      // With -1 for the classes, the other entries must take all the rest of the input.
      boolean absorbs =
          target.get(position).value != -1
              || IntStream.range(0, sizes.length).filter(i -> i != axis && sizes[i] != 1).count()
                  <= 1;
      if (!(innermost || sameFront) || !absorbs) {
        throw refuse(
            node,
            "reshapes %s, where axis %d holds the classes, to %s"
                .formatted(
                    Arrays.toString(sizes), axis, target.stream().map(Entry::value).toList()));
      }
    }

    /** The shape that a Reshape gets: one constant, or a Concat of constants and sizes. */
    private List<Entry> target(NodeProto node) {
      String shape = node.getInput(1);
      List<Entry> entries = new ArrayList<>();
      long[] constant = integers(shape);
      if (constant != null) {
        addEntries(entries, constant, shape, 1);
        return entries;
      }
      int producer = model.index().producer(shape);
      NodeProto concat =
          producer < 0 ? NodeProto.getDefaultInstance() : model.index().node(producer);
      if (!Nodes.is(concat, "Concat")) {
        throw refuse(node, "computes its shape");
      }
      for (int i = 0; i < concat.getInputCount(); i++) {
        String part = concat.getInput(i);
        long[] values = integers(part);
        if (values != null) {
          addEntries(entries, values, part, i);
        } else {
          int writer = model.index().producer(part);
          if (writer < 0 || !Nodes.is(model.index().node(writer), "Unsqueeze")) {
            throw refuse(node, "computes its shape");
          }
          // The size of some axis of an activation, most often the batch.
          entries.add(new Entry(Long.MIN_VALUE, null, i, 0));
        }
      }
      return entries;
    }

    private static void addEntries(List<Entry> entries, long[] values, String tensor, int input) {
      for (int i = 0; i < values.length; i++) {
        entries.add(new Entry(values[i], tensor, input, i));
      }
    }

    private void rewrite(int reshape, Entry entry) {
      GraphIndex index = model.index();
      NodeProto node = index.node(reshape);
      String shape = node.getInput(1);
      int reader = shape.equals(entry.tensor) ? reshape : index.producer(shape);
      GraphIndex.Constant constant = index.constant(index.node(reader).getInput(entry.input));
      if (constant == null) {
        throw refuse(node, "has lost its shape");
      }
      TensorProto changed = TensorData.withLong(constant.tensor(), entry.offset, keep.length);
      replace(reader, entry.input, constant, changed, "shape");
    }

    /**
     * Cuts the constant at an input along the class axis of the tensor at hand, by broadcasting.
     */
    private void cutAligned(NodeProto node, int at, int input) {
      GraphIndex.Constant constant = plain(node, input);
      int fromEnd = axis < 0 ? axis : axis - known(node).length;
      int own = constant.dims().size() + fromEnd;
      if (own >= 0 && constant.dims().get(own) != 1) {
        cutInput(at, input, own);
      } else if (dims != null && constant.dims().size() > dims.length) {
        int more = constant.dims().size() - dims.length;
        long[] wider = new long[constant.dims().size()];
        Arrays.fill(wider, 0, more, -1);
        System.arraycopy(dims, 0, wider, more, dims.length);
        dims = wider;
        axis += more;
      }
    }

    private GraphIndex.Constant plain(NodeProto node, int input) {
      GraphIndex.Constant constant = model.index().constant(node.getInput(input));
      if (constant == null
          || constant.alteredBy() != null
          || !TensorData.isFloat(constant.tensor().getDataType())) {
        throw refuse(
            node, "reads '" + node.getInput(input) + "', which is not a plain float constant");
      }
      return constant;
    }

    private void cutInput(int at, int input, int constantAxis) {
      NodeProto node = model.index().node(at);
      GraphIndex.Constant constant = plain(node, input);
      List<Long> shape = constant.dims();
      if (constantAxis >= shape.size() || shape.get(constantAxis) != head.classes) {
        throw refuse(
            node,
            "reads '%s' of shape %s; the last layer has %d classes"
                .formatted(node.getInput(input), shape, head.classes));
      }
      TensorProto restricted =
          TensorData.take(constant.tensor(), constant.permutation().get(constantAxis), keep);
      replace(at, input, constant, restricted, "restricted");
    }

    private void replace(
        int at, int input, GraphIndex.Constant constant, TensorProto stored, String suffix) {
      if (model.replaceConstant(new GraphIndex.Use(at, input), constant, stored, suffix)) {
        path.addAll(constant.chain());
      }
    }

    /** Writes the new number of classes into the declared shape of an output. */
    private void declare(String output, NodeProto writer) {
      int at = normalisedForOutput(output, writer);
      model.edit(
          graph -> {
            for (int i = 0; i < graph.getOutputCount(); i++) {
              if (graph.getOutput(i).getName().equals(output) && at >= 0) {
                graph.setOutput(i, withSize(graph.getOutput(i), at, keep.length));
              }
            }
          });
    }

    /** The class axis of an output; -1 where the model declares no shape for it. */
    private int normalisedForOutput(String output, NodeProto writer) {
      long[] shape = model.index().shape(output);
      return shape == null || shape.length == 0 ? -1 : normalised(writer, axis);
    }

    private static ValueInfoProto withSize(ValueInfoProto info, int axis, long size) {
      ValueInfoProto.Builder builder = info.toBuilder();
      TypeProto.Tensor.Builder tensor = builder.getTypeBuilder().getTensorTypeBuilder();
      tensor
          .getShapeBuilder()
          .setDim(axis, tensor.getShape().getDim(axis).toBuilder().clear().setDimValue(size));
      return builder.build();
    }
  }
}
