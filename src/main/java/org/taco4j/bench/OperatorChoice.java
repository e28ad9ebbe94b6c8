package org.taco4j.bench;

import ai.onnx.proto.OnnxMl.NodeProto;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.taco4j.onnx.GraphIndex;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.Tensor;

/**
 * Which layers of a model to run with the operator library, so that the sum of the times of all
 * layers and of the reordering between them is least. ONNX Runtime keeps the tensors between dense
 * convolutions in a blocked layout, and reorders each that comes from, or goes to, anything else
 * (the rules of its NCHWc transformer, onnxruntime/core/optimizer/nchwc_transformer.cc): a layer
 * among dense ones may gain less than its reordering costs, where several together gain.
 */
final class OperatorChoice {
  /** Neighbours that are changed together at most. */
  private static final int WIDEST_MOVE = 5;

  /** Estimates are no better than that: what is no further from the best may be the best. */
  private static final double CLOSE = 1.15;

  private static final int MOST_CHOICES = 3;

  /** Operators that keep the layout of their inputs where all are blocked. */
  static final Set<String> KEEPING =
      Set.of(
          "Add",
          "AveragePool",
          "BatchNormalization",
          "Clip",
          "Concat",
          "GlobalAveragePool",
          "GlobalMaxPool",
          "HardSigmoid",
          "Identity",
          "LeakyRelu",
          "MaxPool",
          "Mul",
          "Relu",
          "Sigmoid",
          "Sum",
          "Tanh");

  /**
   * A layer that could be either.
   *
   * @param layer its name
   * @param node index of its node in the graph
   * @param fused indices of the nodes that its sparse operator stands for, its own among them
   * @param inputs tensors that the sparse operator reads
   * @param output the tensor that it writes
   * @param sparseMillis its time with the library
   */
  record Candidate(
      String layer,
      int node,
      Set<Integer> fused,
      List<String> inputs,
      String output,
      OperatorTable.Dense dense,
      double sparseMillis) {}

  private final GraphIndex index;
  private final Map<String, long[]> shapes;
  private final List<Candidate> candidates;
  private final Map<Integer, Integer> byNode = new HashMap<>();
  private final Map<Integer, List<Integer>> byLastNode = new HashMap<>();
  private final Map<Integer, Set<Integer>> fusedInto = new HashMap<>();

  private OperatorChoice(GraphIndex index, Map<String, long[]> shapes, List<Candidate> candidates) {
    this.index = index;
    this.shapes = shapes;
    this.candidates = candidates;
    for (int i = 0; i < candidates.size(); i++) {
      byNode.put(candidates.get(i).node(), i);
      byLastNode
          .computeIfAbsent(index.producer(candidates.get(i).output()), n -> new ArrayList<>())
          .add(i);
      for (int node : candidates.get(i).fused()) {
        fusedInto.computeIfAbsent(node, n -> new HashSet<>()).add(i);
      }
    }
  }

  /**
   * Chooses by coordinate descent over runs of neighbouring layers, from all of them, from none,
   * and from those that are faster on their own.
   *
   * @param candidates in graph order
   * @param shapes of tensors, by name
   * @return choices worth measuring as a whole, the best by its estimate first: names of the layers
   *     to run with the library
   */
  static List<Set<String>> choose(
      OnnxModel model, List<Candidate> candidates, Map<String, long[]> shapes) {
    OperatorChoice choice = new OperatorChoice(model.index(), shapes, candidates);
    boolean[] none = new boolean[candidates.size()];
    boolean[] all = none.clone();
    Arrays.fill(all, true);
    boolean[] own = none.clone();
    for (int i = 0; i < own.length; i++) {
      own[i] = candidates.get(i).sparseMillis() < candidates.get(i).dense().millis();
    }
    List<boolean[]> found = new ArrayList<>();
    for (boolean[] start : List.of(all, own, none)) {
      found.add(choice.descended(start));
    }
    found.add(all);
    found.add(own);
    found.sort(Comparator.comparingDouble(choice::millis));
    double worth = CLOSE * choice.millis(found.getFirst());
    return found.stream()
        .filter(sparse -> choice.millis(sparse) <= worth)
        .map(choice::names)
        .distinct()
        .limit(MOST_CHOICES)
        .toList();
  }

  private Set<String> names(boolean[] sparse) {
    Set<String> chosen = new LinkedHashSet<>();
    for (int i = 0; i < sparse.length; i++) {
      if (sparse[i]) {
        chosen.add(candidates.get(i).layer());
      }
    }
    return chosen;
  }

  private boolean[] descended(boolean[] start) {
    boolean[] sparse = start.clone();
    double millis = millis(sparse);
    boolean changed = true;
    while (changed) {
      changed = false;
      for (int width = 1; width <= Math.min(WIDEST_MOVE, sparse.length); width++) {
        for (int from = 0; from + width <= sparse.length; from++) {
          for (boolean to : new boolean[] {true, false}) {
            boolean[] moved = sparse.clone();
            Arrays.fill(moved, from, from + width, to);
            double after = Arrays.equals(moved, sparse) ? millis : millis(moved);
            if (after < millis) {
              System.arraycopy(moved, 0, sparse, 0, sparse.length);
              millis = after;
              changed = true;
            }
          }
        }
      }
    }
    return sparse;
  }

  /** Milliseconds of all layers and of all reordering. */
  double millis(boolean[] sparse) {
    double millis = 0;
    Set<String> blocked = new HashSet<>();
    Set<String> toBlocked = new HashSet<>();
    Set<String> toPlain = new HashSet<>();
    for (int i = 0; i < index.graph().getNodeCount(); i++) {
      NodeProto node = index.node(i);
      for (int last : byLastNode.getOrDefault(i, List.of())) {
        if (sparse[last]) {
          Candidate candidate = candidates.get(last);
          millis += candidate.sparseMillis();
          candidate.inputs().stream().filter(blocked::contains).forEach(toPlain::add);
        }
      }
      if (fusedInto.getOrDefault(i, Set.of()).stream().anyMatch(c -> sparse[c])) {
        continue;
      }
      Integer own = byNode.get(i);
      if (own != null) {
        OperatorTable.Dense dense = candidates.get(own).dense();
        String input = candidates.get(own).inputs().getFirst();
        millis += dense.millis();
        if (dense.reordersInput() && !blocked.contains(input)) {
          toBlocked.add(input);
        } else if (!dense.reordersInput() && blocked.contains(input)) {
          toPlain.add(input);
        }
        if (dense.reordersOutput()) {
          blocked.add(node.getOutput(0));
        }
        continue;
      }
      List<String> read = node.getInputList().stream().filter(index::isDynamic).toList();
      if (!read.isEmpty() && KEEPING.contains(node.getOpType()) && blocked.containsAll(read)) {
        blocked.addAll(node.getOutputList());
      } else {
        read.stream().filter(blocked::contains).forEach(toPlain::add);
      }
    }
    for (int i = 0; i < index.graph().getOutputCount(); i++) {
      String output = index.graph().getOutput(i).getName();
      if (blocked.contains(output)) {
        toPlain.add(output);
      }
    }
    for (String tensor : toBlocked) {
      millis += reorder(tensor, true);
    }
    for (String tensor : toPlain) {
      millis += reorder(tensor, false);
    }
    return millis;
  }

  /** Of the measured tensor that is nearest in size, scaled; 0 where none was measured. */
  private double reorder(String tensor, boolean input) {
    long[] shape = shapes.get(tensor);
    double elements = shape == null ? 0 : Tensor.elements(shape);
    double millis = 0;
    double nearest = Double.POSITIVE_INFINITY;
    for (Candidate candidate : candidates) {
      double time = input ? candidate.dense().inputMillis() : candidate.dense().outputMillis();
      long[] measured =
          shapes.get(
              input ? candidate.inputs().getFirst() : index.node(candidate.node()).getOutput(0));
      if (time > 0 && measured != null && elements > 0) {
        double factor = elements / Tensor.elements(measured);
        double distance = Math.abs(Math.log(factor));
        if (distance < nearest) {
          nearest = distance;
          millis = time * factor;
        }
      }
    }
    return millis;
  }

  /**
   * The nodes between what a sparse operator reads and what it writes.
   *
   * @return their indices
   */
  static Set<Integer> fused(GraphIndex index, List<String> inputs, String output) {
    Set<Integer> nodes = new HashSet<>();
    Deque<String> open = new ArrayDeque<>(List.of(output));
    while (!open.isEmpty()) {
      String tensor = open.remove();
      int producer = index.producer(tensor);
      if (producer < 0 || inputs.contains(tensor) || !index.isDynamic(tensor)) {
        continue;
      }
      if (nodes.add(producer)) {
        open.addAll(index.node(producer).getInputList());
      }
    }
    return nodes;
  }
}
