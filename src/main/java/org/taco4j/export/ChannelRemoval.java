package org.taco4j.export;

import ai.onnx.proto.OnnxMl.GraphProto;
import ai.onnx.proto.OnnxMl.NodeProto;
import ai.onnx.proto.OnnxMl.TensorProto;
import ai.onnx.proto.OnnxMl.TensorShapeProto;
import ai.onnx.proto.OnnxMl.ValueInfoProto;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.Nodes;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;

/** Makes hidden dimensions of a model smaller. */
public final class ChannelRemoval {
  private final OnnxModel model;
  private final int units;
  private final int[] kept;
  private final Set<String> changed = new HashSet<>();

  private ChannelRemoval(OnnxModel model, int units, int[] kept) {
    this.model = model;
    this.units = units;
    this.kept = kept;
  }

  /**
   * Removes units of a structure: rows of its producers, columns of its consumers, and their part
   * of every constant, shape and attribute in between. Where the consumers' columns of the removed
   * units are zero, the model computes what it did before, up to the order of summation; what a
   * solver gives is to be written with {@link org.taco4j.onnx.LayerWeights#fold} first. Names of
   * layers and tensors stay. On failure the model is unchanged.
   *
   * @param kept the units to keep, ascending, at least one
   * @throws IllegalArgumentException for units that the structure does not have, or no order
   * @throws TacoException of kind MODEL when the model does not have this structure (any more)
   */
  public static void remove(OnnxModel model, Structure structure, int[] kept) {
    int units = structure.units();
    for (int i = 0; i < kept.length; i++) {
      if (kept[i] <= (i == 0 ? -1 : kept[i - 1]) || kept[i] >= units) {
        throw new IllegalArgumentException(
            "unit %d at place %d of those to keep; '%s' has units 0 to %d, give them ascending"
                .formatted(kept[i], i, structure.name(), units - 1));
      }
    }
    if (kept.length == 0) {
      throw new IllegalArgumentException("'" + structure.name() + "' must keep a unit");
    }
    UnitTrace trace = trace(model, structure, units);
    if (kept.length == units) {
      return;
    }
    OnnxModel work = model.copy();
    new ChannelRemoval(work, units, kept.clone()).apply(trace);
    if (kept.length > 1) {
      trace(work, structure, kept.length);
    }
    model.adopt(work);
  }

  /** The structure as it is in the model, which has to have that many units now. */
  private static UnitTrace trace(OnnxModel model, Structure structure, int units) {
    List<UnitTrace.Root> roots =
        structure.producers().stream()
            .map(
                p ->
                    new UnitTrace.Root(
                        LayerDiscovery.find(model, p.layer()), p.copies(), p.rowsPerUnit()))
            .toList();
    String why;
    try {
      UnitTrace trace = UnitTrace.of(model, units, roots);
      Structure now = trace.structure();
      if (now.producers().equals(structure.producers())
          && now.consumers().equals(structure.consumers())
          && now.depthwise().equals(structure.depthwise())) {
        return trace;
      }
      why = "it is now " + now;
    } catch (Refused refused) {
      why = refused.reason();
    }
    throw TacoException.model(
        "%s: the %d units of '%s' cannot be removed: %s"
            .formatted(model.source(), units, structure.name(), why));
  }

  private void apply(UnitTrace trace) {
    List<Cut.Entry> entries = new ArrayList<>();
    for (Cut cut : trace.cuts()) {
      switch (cut) {
        case Cut.Slices slices -> slices(slices);
        case Cut.Group group -> group(group.node());
        case Cut.Parts parts -> parts(parts.node());
        case Cut.Entry entry -> entries.add(entry);
      }
    }
    // These may insert nodes: from the last to the first, so that indices stay true.
    entries.stream()
        .sorted(Comparator.comparingInt(Cut.Entry::node).reversed())
        .forEach(this::entry);
    model.forgetShapes(changed);
    declareSizes(trace.carriers());
  }

  private void slices(Cut.Slices cut) {
    GraphIndex.Constant constant = constant(cut.node(), cut.input());
    int[] keep = new int[cut.outer() * kept.length * cut.inner()];
    int at = 0;
    for (int o = 0; o < cut.outer(); o++) {
      for (int unit : kept) {
        for (int i = 0; i < cut.inner(); i++) {
          keep[at++] = (o * units + unit) * cut.inner() + i;
        }
      }
    }
    replace(
        cut.node(),
        cut.input(),
        constant,
        TensorData.take(constant.tensor(), constant.permutation().get(cut.axis()), keep));
  }

  private GraphIndex.Constant constant(int node, int input) {
    GraphIndex.Constant constant = model.index().constant(model.index().node(node).getInput(input));
    if (constant == null) {
      throw new IllegalStateException(
          Nodes.label(model.index().node(node)) + " has lost its input " + input);
    }
    return constant;
  }

  private void replace(int node, int input, GraphIndex.Constant constant, TensorProto stored) {
    if (model.replaceConstant(new GraphIndex.Use(node, input), constant, stored, "kept")) {
      changed.addAll(constant.chain());
    }
  }

  private long scaled(long size) {
    return size / units * kept.length;
  }

  private void group(int at) {
    setAttribute(at, "group", List.of(scaled(Nodes.integer(model.index().node(at), "group", 1))));
  }

  private void parts(int at) {
    List<Long> sizes = Nodes.integers(model.index().node(at), "split");
    if (sizes != null) {
      setAttribute(at, "split", sizes.stream().map(this::scaled).toList());
      return;
    }
    GraphIndex.Constant constant = constant(at, 1);
    TensorProto tensor = constant.tensor();
    long[] values = TensorData.longs(tensor);
    for (int i = 0; i < values.length; i++) {
      tensor = TensorData.withLong(tensor, i, scaled(values[i]));
    }
    replace(at, 1, constant, tensor);
  }

  /** Gives an attribute that the node has other integers, or another one. */
  private void setAttribute(int at, String name, List<Long> values) {
    model.edit(
        graph -> {
          NodeProto.Builder node = graph.getNode(at).toBuilder();
          for (int k = 0; k < node.getAttributeCount(); k++) {
            if (node.getAttribute(k).getName().equals(name)) {
              var attribute = node.getAttribute(k).toBuilder();
              if (attribute.hasI()) {
                attribute.setI(values.getFirst());
              } else {
                attribute.clearInts().addAllInts(values);
              }
              node.setAttribute(k, attribute);
            }
          }
          graph.setNode(at, node);
        });
  }

  /** Changes an entry of the shape of a Reshape: in the one constant, or in a part of a Concat. */
  private void entry(Cut.Entry cut) {
    GraphIndex index = model.index();
    String shape = index.node(cut.node()).getInput(1);
    List<String> parts = TargetShape.parts(index, shape);
    int reader = cut.node();
    boolean concat = !parts.equals(List.of(shape));
    if (concat) {
      reader = index.producer(shape);
      if (index.uses(shape).size() > 1 || index.isOutput(shape)) {
        reader = ownConcat(cut.node(), index.node(reader));
      }
    }
    int fromEnd = -cut.entry();
    for (int part = parts.size() - 1; part >= 0; part--) {
      int input = concat ? part : 1;
      GraphIndex.Constant constant = model.index().constant(parts.get(part));
      int length =
          constant == null
              ? TargetShape.computedLength(model.index(), parts.get(part))
              : Math.toIntExact(TensorData.count(constant.dims()));
      if (fromEnd <= length && constant != null) {
        long size = (long) kept.length * cut.perUnit();
        replace(
            reader,
            input,
            constant,
            TensorData.withLong(constant.tensor(), length - fromEnd, size));
        return;
      }
      fromEnd -= length;
    }
    throw new IllegalStateException("the shape '" + shape + "' has lost an entry");
  }

  /** Puts a copy of a Concat before the Reshape at that place; gives the copy's place. */
  private int ownConcat(int reshape, NodeProto concat) {
    String output = model.uniqueName(concat.getOutput(0) + ".kept");
    model.edit(
        graph -> {
          graph.setNode(reshape, Nodes.withInput(graph.getNode(reshape), 1, output));
          graph.addNode(reshape, concat.toBuilder().setName(output).setOutput(0, output).build());
        });
    return reshape;
  }

  /** Writes the new sizes where the model declares the shapes of what carries the units. */
  private void declareSizes(Map<String, Carrier> carriers) {
    GraphProto before = model.index().graph();
    int[] places =
        IntStream.range(0, before.getValueInfoCount())
            .filter(i -> carriers.containsKey(before.getValueInfo(i).getName()))
            .toArray();
    if (places.length == 0) {
      return;
    }
    model.edit(
        graph -> {
          for (int i : places) {
            ValueInfoProto.Builder info = graph.getValueInfo(i).toBuilder();
            Carrier carrier = carriers.get(info.getName());
            TensorShapeProto.Builder shape =
                info.getTypeBuilder().getTensorTypeBuilder().getShapeBuilder();
            int axis = carrier == null ? -1 : shape.getDimCount() + carrier.axis();
            if (axis >= 0 && shape.getDim(axis).hasDimValue()) {
              shape.setDim(
                  axis,
                  TensorShapeProto.Dimension.newBuilder()
                      .setDimValue(scaled(shape.getDim(axis).getDimValue())));
              graph.setValueInfo(i, info);
            }
          }
        });
  }
}
