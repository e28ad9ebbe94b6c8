package org.taco4j.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.TinyTask;

class HeadGraftTest {
  @TempDir Path folder;

  private OnnxModel network(String kind) {
    Path file = folder.resolve(kind + ".onnx");
    return OnnxModel.read(
        kind.equals("conv") ? TinyTask.convNet(file, TinyTask.Input.FREE) : TinyTask.mlp(file));
  }

  @ParameterizedTest
  @ValueSource(strings = {"conv", "mlp"})
  void anUnchangedSpecialistIsTheWholeModelAgain(String kind) {
    OnnxModel whole = network(kind);
    OnnxModel restricted = whole.copy();
    HeadRestriction.restrict(restricted, List.of(3, 1));
    OnnxModel grafted = HeadGraft.graft(restricted, restricted, whole).orElseThrow();
    assertArrayEquals(whole.toBytes(), grafted.toBytes());
  }

  @Test
  void theBodyIsTheSpecialists() {
    OnnxModel whole = network("conv");
    OnnxModel restricted = whole.copy();
    HeadRestriction.restrict(restricted, List.of(0, 2));
    OnnxModel specialist = restricted.copy();
    Layer first = LayerDiscovery.discover(specialist).getFirst();
    float[][] weights = LayerWeights.unfold(specialist, first);
    weights[0][0] = 42;
    LayerWeights.fold(specialist, first, weights);
    Layer head = LayerDiscovery.classifier(specialist).orElseThrow();
    LayerWeights.setBias(specialist, head, new float[] {7, 8});
    OnnxModel grafted = HeadGraft.graft(specialist, restricted, whole).orElseThrow();
    assertEquals(42, LayerWeights.unfold(grafted, first)[0][0]);
    assertArrayEquals(LayerWeights.bias(whole, head), LayerWeights.bias(grafted, head));
    assertEquals(whole.outputs(), grafted.outputs());
  }

  @Test
  void aClassifierOfAnotherFormIsNotReplaced() {
    OnnxModel whole = network("conv");
    OnnxModel restricted = whole.copy();
    HeadRestriction.restrict(restricted, List.of(0, 2));
    OnnxModel other = network("mlp");
    assertEquals(Optional.empty(), HeadGraft.graft(other, restricted, whole));
  }

  @Test
  void theClassifierIsTheLastLayer() {
    assertEquals("head", LayerDiscovery.classifier(network("conv")).orElseThrow().name());
    assertEquals("head", LayerDiscovery.classifier(network("mlp")).orElseThrow().name());
  }
}
