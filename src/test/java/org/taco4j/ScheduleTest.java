package org.taco4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.solve.Pattern;
import org.taco4j.tune.LayerMask;

/** The patterns of a schedule's steps, and what rewinding gives. */
class ScheduleTest {
  @TempDir Path folder;

  private static Recipe gradual() {
    return Recipe.empty().with("schedule", "gradual");
  }

  private static List<String> way(Recipe recipe, String goal) {
    Pattern pattern = Pattern.parse(goal);
    int steps = Schedule.steps(recipe, List.of(pattern));
    List<String> way = new ArrayList<>();
    for (int step = 1; step <= steps; step++) {
      way.add(Schedule.at(recipe, pattern, step, steps).toString());
    }
    return way;
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "unstructured:0.3 | unstructured:0.3",
        "unstructured:0.5 | unstructured:0.5",
        "unstructured:0.875 | unstructured:0.5, unstructured:0.75, unstructured:0.875",
        "unstructured:0.8 | unstructured:0.5, unstructured:0.75, unstructured:0.8",
        "block4:0.8 | block4:0.5, block4:0.75, block4:0.8",
        "rows4:0.75 | rows4:0.5, rows4:0.75",
        "columns:0.6:group=9 | columns:0.5:group=9, columns:0.6:group=9"
      })
  void aStepPrunesHalfOfWhatRemains(String goal, String expected) {
    assertEquals(List.of(expected.split(", ")), way(gradual(), goal));
  }

  @Test
  void stepsThatAreAskedForLeaveTheSamePart() {
    // 0.271 leaves 0.729 = 0.9³.
    assertEquals(
        List.of("unstructured:0.1", "unstructured:0.19", "unstructured:0.271"),
        way(gradual().with("schedule-steps", 3), "unstructured:0.271"));
    assertEquals(List.of("block4:0.9"), way(gradual().with("schedule-steps", 1), "block4:0.9"));
  }

  @Test
  void aLayerThatHasItsOwnFractionStaysThere() {
    List<Pattern> goals = List.of(new Pattern.Unstructured(0.6), new Pattern.Unstructured(0.9));
    assertEquals(4, Schedule.steps(gradual(), goals));
    assertEquals(
        List.of(0.5, 0.6, 0.6, 0.6),
        List.of(1, 2, 3, 4).stream()
            .map(step -> Schedule.at(gradual(), goals.getFirst(), step, 4).sparsity())
            .toList());
  }

  @Test
  void patternsWithoutFractionsAreRefused() {
    TacoException e =
        assertThrows(
            TacoException.class, () -> Schedule.steps(gradual(), List.of(new Pattern.NM(2, 4))));
    assertEquals(TacoException.Kind.USAGE, e.kind());
    assertTrue(e.getMessage().contains("2:4 has nothing between"), e.getMessage());
  }

  /** Weights that stay are the pretrained ones to the bit, among them one that is zero itself. */
  @Test
  void rewindingBringsThePretrainedWeightsBack() {
    OnnxModel pretrained =
        OnnxModel.read(TinyTask.convNet(folder.resolve("conv.onnx"), TinyTask.Input.FREE));
    Layer layer = LayerDiscovery.find(pretrained, "conv2");
    float[][] before = LayerWeights.unfold(pretrained, layer);
    before[0][1] = 0;
    LayerWeights.fold(pretrained, layer, before);
    OnnxModel trained = pretrained.copy();
    float[][] after = LayerWeights.unfold(trained, layer);
    for (float[] group : after) {
      for (int i = 0; i < group.length; i++) {
        group[i] = i % 3 == 0 ? 0 : group[i] + 1;
      }
    }
    LayerWeights.fold(trained, layer, after);
    List<LayerMask> masks = LayerMask.ofZeros(trained, List.of(layer));
    OnnxModel rewound = Compression.rewound(pretrained, masks);
    float[][] now = LayerWeights.unfold(rewound, layer);
    for (int g = 0; g < now.length; g++) {
      for (int i = 0; i < now[g].length; i++) {
        assertEquals(i % 3 == 0 ? 0 : before[g][i], now[g][i]);
      }
    }
    assertTrue(masks.getFirst().keep()[0][1], "a weight that is zero by chance stays free");
    for (String other : List.of("conv1", "conv3", "head")) {
      assertArrayEquals(
          LayerWeights.unfold(pretrained, LayerDiscovery.find(pretrained, other)),
          LayerWeights.unfold(rewound, LayerDiscovery.find(rewound, other)));
    }
  }
}
