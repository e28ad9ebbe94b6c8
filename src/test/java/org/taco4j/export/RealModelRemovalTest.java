package org.taco4j.export;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.onnx.BatchNormFolding;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.Ort;

/** Removal of units from the models of {@code ../shared/real/models}, which others trained. */
class RealModelRemovalTest {
  private static final Path MODELS = Path.of("../shared/real/models");

  @TempDir Path folder;

  @ParameterizedTest
  @CsvSource({
    "imagenet-deit-tiny, 12, 0, 12",
    "imagenet-mobilenetv2, 0, 20, 0",
    "imagenet-squeezenet1.1, 0, 9, 0",
    "cifar10-resnet20, 0, 9, 0",
    "cifar10-resnet56, 0, 27, 0",
    "cifar10-vit, 6, 0, 6",
    "cifar10-convmixer, 0, 5, 0",
    "cifar10-vit-robust, 2, 0, 2",
    "cifar100-mobilenetv3small, 0, 22, 0",
  })
  void allStructuresAtOnce(String name, int mlp, int channels, int heads) {
    Path file = MODELS.resolve(name + ".onnx");
    assumeTrue(Files.exists(file), () -> file + " is not there");
    OnnxModel model = OnnxModel.read(file);
    BatchNormFolding.fold(model);

    Structures structures = Structures.discover(model);
    List<Structure> found = structures.found();
    assertEquals(mlp, Removals.count(found, Structure.Kind.MLP));
    assertEquals(channels, Removals.count(found, Structure.Kind.CHANNELS));
    assertEquals(heads, Removals.count(found, Structure.Kind.HEADS));
    Removals.assertEveryLayerIsAccountedFor(model, structures);

    OnnxModel zeroed = model.copy();
    Map<Structure, int[]> kept = Removals.randomSubsets(found, new Random(3));
    kept.forEach((structure, units) -> Removals.zero(zeroed, structure, units));
    OnnxModel smaller = zeroed.copy();
    kept.forEach((structure, units) -> ChannelRemoval.remove(smaller, structure, units));

    Path written = folder.resolve("smaller.onnx");
    smaller.write(written);
    OnnxModel read = OnnxModel.read(written);
    List<Long> shape = model.inputs().getFirst().shape();
    Ort.Tensor input =
        Ort.Tensor.random(shape.stream().mapToLong(dim -> dim < 0 ? 2 : dim).toArray());
    Removals.assertSame(Ort.run(zeroed, input), Ort.run(read, input));

    assertTrue(read.sizeInBytes() < model.sizeInBytes());
    assertArrayEquals(
        LayerDiscovery.discover(model).stream().map(Layer::name).toArray(),
        LayerDiscovery.discover(read).stream().map(Layer::name).toArray());
    kept.forEach((structure, units) -> Removals.assertSizes(read, structure, units.length));
  }
}
