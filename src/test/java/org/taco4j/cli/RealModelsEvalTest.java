package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;

/** Models and images that others made, with the accuracies that stand in their README. */
class RealModelsEvalTest {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Path REAL = Path.of("../shared/real");

  @TempDir Path folder;

  private static Path at(String name) {
    Path path = REAL.resolve(name);
    assumeTrue(Files.exists(path), () -> path + " is not on this machine");
    return path;
  }

  private static List<String> options(String text) {
    return text.isEmpty() ? List.of() : List.of(text.split(" "));
  }

  // Top-1 in percent over all outputs and over the task's classes, as the README states them.
  @ParameterizedTest
  @CsvSource({
    "imagenet-deit-tiny, in1k-food, '', 57, 91.2, 96.5",
    "imagenet-deit-tiny, in1k-household, '', 72, 63.9, 83.3",
    "imagenet-mobilenetv2, in1k-household, '', 72, 66.7, 79.2",
    "imagenet-mobilenetv2, in1k-sample, '', 455, 78.2, 84.6",
    "imagenet-squeezenet1.1, in1k-sample, '--mean 0.4824,0.4588,0.4078 --std"
        + " 0.003922,0.003922,0.003922', 455, 59.6, 67.7",
    "cifar10-resnet20, cifar10, '', 600, 91.8, 91.8",
    "cifar10-resnet56, cifar10, '', 600, 93.8, 93.8",
    "cifar10-vit, cifar10, --preset cifar10, 600, 69.5, 69.5",
    "cifar10-convmixer, cifar10, --preset cifar10, 600, 88.2, 88.2",
    "cifar10-vit-robust, cifar10, --preset cifar10, 600, 60.8, 60.8",
    "cifar100-mobilenetv3small, cifar100-consensus, '', 349, 76.5, 81.7",
  })
  void evalReproducesThePublishedAccuracies(
      String model, String images, String more, int count, double all, double task)
      throws IOException {
    List<Object> arguments =
        new ArrayList<>(
            List.of(
                "eval",
                at("models/" + model + ".onnx"),
                "--data",
                at("images/" + images),
                "--json"));
    arguments.addAll(options(more));
    Cli.Result result = Cli.run(arguments.toArray()).succeeded();
    JsonNode eval = JSON.readTree(result.out());
    assertEquals(count, eval.path("images").asInt());
    // One image in a hundred or part of a hundred, and the rounding of the README's one decimal.
    double tolerance = (count + 99) / 100 / (double) count + 0.0005;
    assertEquals(task / 100, eval.path("top1").asDouble(), tolerance);
    assertEquals(all / 100, eval.at("/allOutputs/top1").asDouble(), tolerance);
    assertTrue(eval.path("top5").asDouble() >= eval.path("top1").asDouble());
    assertTrue(eval.path("top1Low").asDouble() < eval.path("top1").asDouble());
    assertTrue(eval.path("top1High").asDouble() > eval.path("top1").asDouble());
  }

  // The share of the dense top-1 that must be left at half the weights.
  @ParameterizedTest
  @CsvSource({
    "cifar10-resnet20, cifar10, --shots 5, 10, 0.95",
    "cifar10-vit, cifar10, --preset cifar10 --shots 5, 10, 0.8",
    "cifar10-convmixer, cifar10, --preset cifar10 --shots 2, 10, 0.8",
    "cifar10-vit-robust, cifar10, --preset cifar10 --shots 5, 10, 0.8",
    // Small MobileNets have little to give: 0.98 of it is left at 30 %, 0.4 at 50 %.
    "cifar100-mobilenetv3small, cifar100-consensus, --shots 4, 50, 0.3",
  })
  void halfOfTheWeightsGo(String model, String images, String more, int classes, double kept)
      throws IOException {
    Path out = folder.resolve("out");
    List<Object> arguments =
        new ArrayList<>(
            List.of(
                "specialize",
                at("models/" + model + ".onnx"),
                "--data",
                at("images/" + images),
                "--sparsity",
                "0.5",
                "--classifier",
                "prune",
                "--out",
                out));
    arguments.addAll(options(more));
    Cli.run(arguments.toArray()).succeeded();
    JsonNode report = JSON.readTree(out.resolve("report.json").toFile());
    assertTrue(report.path("sparsity").asDouble() >= 0.5);
    double dense = report.at("/dense/top1").asDouble();
    double compressed = report.at("/compressed/top1").asDouble();
    assertTrue(compressed >= kept * dense, compressed + " of " + dense);

    OnnxModel written = OnnxModel.read(out.resolve("model.onnx"));
    for (Layer layer : LayerDiscovery.discover(written)) {
      if (layer.prunable()) {
        long zeros = LayerWeights.zeros(written, layer);
        assertTrue(2 * zeros >= layer.parameters(), layer.name() + ": " + zeros + " zeros");
      }
    }
    // The file runs, on the preprocessing it carries, with an output for each class.
    List<Object> again =
        List.of("eval", out.resolve("model.onnx"), "--data", at("images/" + images), "--json");
    JsonNode eval = JSON.readTree(Cli.run(again.toArray()).succeeded().out());
    assertEquals(compressed, eval.path("top1").asDouble(), 1e-12);
    assertEquals(classes, eval.at("/allOutputs/outputs").asInt());
  }
}
