package org.taco4j.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;

/** The choice by made-up times. */
class OperatorChoiceTest {
  private static final long[] SHAPE = {1, 16, 4, 4};

  /** A model that is being built, with its layers. */
  private static final class Net {
    private final ModelBuilder builder = new ModelBuilder(17).input("x", SHAPE);
    private final List<String[]> layers = new ArrayList<>();
    private final Map<String, OperatorTable.Dense> dense = new HashMap<>();
    private final Map<String, Double> sparse = new HashMap<>();
    private final Map<String, long[]> shapes = new HashMap<>(Map.of("x", SHAPE));

    /** A convolution in the blocked layout, each reordering of whose tensors takes 1 ms. */
    Net conv(String name, String input, double denseMillis, double sparseMillis) {
      return conv(name, input, denseMillis, sparseMillis, true);
    }

    Net conv(
        String name, String input, double denseMillis, double sparseMillis, boolean readsBlocked) {
      builder
          .random(name + ".w", 16, 16, 1, 1)
          .node(name, "Conv", List.of(input, name + ".w"), List.of(name));
      layers.add(new String[] {name, input});
      dense.put(
          name, new OperatorTable.Dense(denseMillis, readsBlocked, true, readsBlocked ? 1 : 0, 1));
      sparse.put(name, sparseMillis);
      shapes.put(name, SHAPE);
      return this;
    }

    Net node(String name, String operator, String... inputs) {
      builder.node(name, operator, List.of(inputs), List.of(name));
      shapes.put(name, SHAPE);
      return this;
    }

    OnnxModel model() {
      return builder.model();
    }

    List<OperatorChoice.Candidate> candidates(OnnxModel model) {
      return layers.stream()
          .map(
              layer ->
                  new OperatorChoice.Candidate(
                      layer[0],
                      model.index().producer(layer[0]),
                      OperatorChoice.fused(model.index(), List.of(layer[1]), layer[0]),
                      List.of(layer[1]),
                      layer[0],
                      dense.get(layer[0]),
                      sparse.get(layer[0])))
          .toList();
    }

    Set<String> chosen(String output) {
      builder.output(output, SHAPE);
      OnnxModel model = model();
      return OperatorChoice.choose(model, candidates(model), shapes).getFirst();
    }
  }

  @Test
  void aGainThatIsLessThanTheReorderingIsNone() {
    // Between dense neighbours it would take two reorderings of 1 ms.
    assertEquals(
        Set.of(),
        new Net().conv("a", "x", 5, 9).conv("b", "a", 5, 3.5).conv("c", "b", 5, 9).chosen("c"));
    assertEquals(
        Set.of("b"),
        new Net().conv("a", "x", 5, 9).conv("b", "a", 5, 2.5).conv("c", "b", 5, 9).chosen("c"));
  }

  @Test
  void atTheEndsThereIsNothingToReorder() {
    // The model's own input is plain: a dense first layer would have to reorder it.
    assertEquals(Set.of("a"), new Net().conv("a", "x", 5, 4.5).conv("b", "a", 5, 9).chosen("b"));
    assertEquals(Set.of("b"), new Net().conv("a", "x", 5, 9).conv("b", "a", 5, 4.5).chosen("b"));
  }

  @Test
  void neighboursThatGainOnlyTogetherAreChosenTogether() {
    // As in MobileNetV2: the depthwise layer is slower, and keeps the others from reordering.
    assertEquals(
        Set.of("expand", "depthwise", "project"),
        new Net()
            .conv("first", "x", 1, 9)
            .conv("expand", "first", 5, 3.6)
            .conv("depthwise", "expand", 1, 1.5)
            .conv("project", "depthwise", 5, 3.6)
            .conv("last", "project", 1, 9)
            .chosen("last"));
  }

  @Test
  void aLayerThatReadsTheImageAsItIsNeedsNoReordering() {
    assertEquals(
        Set.of(), new Net().conv("a", "x", 5, 4.5, false).conv("b", "a", 5, 9).chosen("b"));
  }

  @Test
  void poolsAndSumsKeepTheLayout() {
    // All dense: nothing between the layers reorders, so that one of them gains nothing.
    assertEquals(
        Set.of(),
        new Net()
            .conv("a", "x", 5, 9)
            .node("p", "Relu", "a")
            .conv("b", "p", 5, 3.5)
            .node("s", "Add", "b", "p")
            .conv("c", "s", 5, 9)
            .chosen("c"));
    // Behind a Softmax the tensor is plain anyway.
    assertEquals(
        Set.of("b"),
        new Net()
            .conv("a", "x", 5, 9)
            .node("p", "Softmax", "a")
            .conv("b", "p", 5, 4.5)
            .conv("c", "b", 5, 9)
            .chosen("c"));
  }

  @Test
  void theTimeOfAFusedOperatorIsForAllThatItStandsFor() {
    Net net = new Net().conv("a", "x", 5, 9).conv("b", "x", 5, 1).node("s", "Add", "b", "a");
    net.builder.output("s", SHAPE);
    OnnxModel model = net.model();
    List<OperatorChoice.Candidate> plain = net.candidates(model);
    List<OperatorChoice.Candidate> fused =
        List.of(
            plain.get(0),
            new OperatorChoice.Candidate(
                "b",
                model.index().producer("b"),
                OperatorChoice.fused(model.index(), List.of("x", "a"), "s"),
                List.of("x", "a"),
                "s",
                plain.get(1).dense(),
                1));
    assertEquals(Set.of(1, 2), fused.get(1).fused());
    // Dense a and its operand of the sum brought back; the sum is part of b.
    assertEquals(Set.of("b"), OperatorChoice.choose(model, fused, net.shapes).getFirst());
  }

  @Test
  void reorderingIsScaledToTheSizeOfATensor() {
    Net net = new Net().conv("a", "x", 5, 9).conv("b", "a", 5, 2.5).conv("c", "b", 5, 9);
    // A fourth of the elements, at 1 ms for them: 4 ms for the tensors between the layers.
    net.shapes.put("x", SHAPE);
    assertEquals(Set.of("b"), net.chosen("c"));
    Net larger = new Net().conv("a", "x", 5, 9).conv("b", "a", 5, 2.5).conv("c", "b", 5, 9);
    larger.dense.replaceAll(
        (name, dense) ->
            name.equals("a") ? dense : new OperatorTable.Dense(dense.millis(), true, true, 0, 0));
    larger.shapes.put("b", new long[] {1, 64, 4, 4});
    assertEquals(Set.of(), larger.chosen("c"));
  }

  @Test
  void aModelWithoutLayersHasNothingToChoose() {
    assertEquals(Set.of(), new Net().node("y", "Relu", "x").chosen("y"));
  }

  /** On chains, which are short enough, by trying all. */
  @Test
  void theChoiceIsTheBestThereIs() {
    Random random = new Random(7);
    for (int trial = 0; trial < 200; trial++) {
      int count = 1 + random.nextInt(8);
      Net net = new Net();
      double[][] millis = new double[count][2];
      String input = "x";
      for (int i = 0; i < count; i++) {
        millis[i][0] = 1 + 4 * random.nextDouble();
        millis[i][1] = 1 + 4 * random.nextDouble();
        net.conv("c" + i, input, millis[i][0], millis[i][1]);
        input = "c" + i;
      }
      double best = Double.POSITIVE_INFINITY;
      Set<String> expected = Set.of();
      for (int choice = 0; choice < 1 << count; choice++) {
        double sum = 0;
        Set<String> names = new LinkedHashSet<>();
        boolean blocked = false;
        for (int i = 0; i < count; i++) {
          boolean sparse = (choice >> i & 1) == 1;
          sum += millis[i][sparse ? 1 : 0] + (sparse == blocked ? 1 : 0);
          blocked = !sparse;
          if (sparse) {
            names.add("c" + i);
          }
        }
        sum += blocked ? 1 : 0;
        if (sum < best) {
          best = sum;
          expected = names;
        }
      }
      assertEquals(expected, net.chosen(input), "trial " + trial);
    }
  }

  @Test
  void onlyChoicesThatAreNearAreWorthMeasuring() {
    Net net = new Net().conv("a", "x", 10, 1).conv("b", "a", 10, 1);
    net.builder.output("b", SHAPE);
    OnnxModel model = net.model();
    assertEquals(
        List.of(Set.of("a", "b")), OperatorChoice.choose(model, net.candidates(model), net.shapes));
    Net near = new Net().conv("a", "x", 10, 9).conv("b", "a", 10, 11);
    near.builder.output("b", SHAPE);
    model = near.model();
    List<Set<String>> choices = OperatorChoice.choose(model, near.candidates(model), near.shapes);
    assertTrue(choices.size() > 1 && choices.size() <= 3, choices.toString());
    assertEquals(choices.size(), new LinkedHashSet<>(choices).size());
  }
}
