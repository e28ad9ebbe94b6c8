package org.taco4j.tune;

import static org.junit.jupiter.api.Assertions.assertEquals;

import ai.onnx.proto.OnnxMl.TensorProto;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.onnx.BatchNormFolding;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.onnx.TensorData;

class TrainableConstantsTest {
  private static final Path MODELS = Path.of("../shared/real/models");

  @Test
  void parametersAreFoundAndArithmeticIsNot() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 1, 3, 4, 4)
            .random("mean", 1, 3, 1, 1)
            .random("w", 8, 3, 1, 1)
            .random("b", 8)
            .positive("scale", 8)
            .random("shift", 8)
            .random("running_mean", 8)
            .positive("running_var", 8)
            .random("gamma", 8, 1, 1)
            .floats("half", new long[0], 0.5f)
            .random("position_stored", 4, 4, 8)
            .floats("mask", new long[] {4, 1}, 0, -100, 0, -1000)
            .random("limit", 1)
            .node("norm_in", "Sub", List.of("x", "mean"), List.of("centred"))
            .node("conv", "Conv", List.of("centred", "w", "b"), List.of("c"))
            .node(
                "bn",
                "BatchNormalization",
                List.of("c", "scale", "shift", "running_mean", "running_var"),
                List.of("n"))
            .node("layer_scale", "Mul", List.of("gamma", "n"), List.of("s"))
            .node("halve", "Mul", List.of("s", "half"), List.of("h"))
            .node(
                "move",
                "Transpose",
                List.of("position_stored"),
                List.of("position"),
                ModelBuilder.attribute("perm", new long[] {2, 0, 1}))
            .node("add_position", "Add", List.of("h", "position"), List.of("p"))
            .node("add_mask", "Add", List.of("p", "mask"), List.of("m"))
            .node("clip", "Clip", List.of("m", "limit"), List.of("y"))
            .output("y", 1, 8, 4, 4)
            .model();
    assertEquals(
        List.of("w", "b", "scale", "shift", "gamma", "position_stored"),
        List.copyOf(TrainableConstants.find(model).keySet()));
  }

  @Test
  void whatIsReadInTwoWaysIsLeft() {
    OnnxModel model =
        new ModelBuilder(17)
            .input("x", 1, 4)
            .random("w", 4, 4)
            .random("v", 4, 4)
            .node("a", "MatMul", List.of("x", "w"), List.of("h"))
            .node("b", "MatMul", List.of("h", "v"), List.of("i"))
            .node("max", "Max", List.of("i", "w"), List.of("y"))
            .output("y", 4, 4)
            .model();
    assertEquals(Set.of("v"), TrainableConstants.find(model).keySet());
  }

  /**
   * The numbers of parameters are those that the models' card states, less the means and variances
   * of convmixer's nine norms of 128 channels and the two limits of mobilenetv2's Clips.
   */
  @ParameterizedTest
  @CsvSource({
    "imagenet-deit-tiny, 5717416",
    "cifar10-resnet20, 269034",
    "cifar10-vit, 811146",
    "cifar10-convmixer, 79370",
    "imagenet-mobilenetv2, 3487816",
    "imagenet-squeezenet1.1, 1235496",
  })
  void allParametersOfRealModels(String name, long parameters) {
    Path file = MODELS.resolve(name + ".onnx");
    Assumptions.assumeTrue(Files.exists(file), file + " is not there");
    OnnxModel model = OnnxModel.read(file);
    BatchNormFolding.fold(model);
    long count = 0;
    for (TensorProto tensor : TrainableConstants.find(model).values()) {
      count += TensorData.count(tensor.getDimsList());
    }
    assertEquals(parameters, count);
  }
}
