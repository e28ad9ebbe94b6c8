import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.taco4j.PreprocessingOptions;
import org.taco4j.Recipe;
import org.taco4j.bench.Evaluator;
import org.taco4j.calibrate.ActivationRanges;
import org.taco4j.calibrate.RangeMethod;
import org.taco4j.common.Notices;
import org.taco4j.common.Workers;
import org.taco4j.data.ImageBatches;
import org.taco4j.data.ImageDataset;
import org.taco4j.data.ImageFile;
import org.taco4j.data.ImageFolders;
import org.taco4j.data.Preprocessing;
import org.taco4j.data.Preprocessor;
import org.taco4j.export.IntegerOperators;
import org.taco4j.export.WeightQuantization;
import org.taco4j.onnx.HeadRestriction;
import org.taco4j.onnx.Layer;
import org.taco4j.onnx.LayerDiscovery;
import org.taco4j.onnx.LayerWeights;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.ModelInput;
import org.taco4j.runtime.Session;

/**
 * What 8-bit activations cost specialists whose weights have 8 bits, by how the ranges of the
 * activations are chosen; see README.md here. Run through {@code integers.sh}.
 */
public final class IntegerTable {
  private IntegerTable() {}

  /** Prints a line for each run folder: first those without, then those with 8-bit activations. */
  public static void main(String[] args) throws IOException {
    Map<Boolean, List<Path>> runs =
        Arrays.stream(args)
            .map(Path::of)
            .collect(Collectors.partitioningBy(run -> recipe(run).activationBits() != null));
    System.out.println("| specialist | images | float activations | minmax | percentile | mse |");
    System.out.println("|---|---|---|---|---|---|");
    try (Workers workers = new Workers(Runtime.getRuntime().availableProcessors())) {
      for (Path run : runs.get(false)) {
        measure(run, workers);
      }
    }
    System.out.println();
    System.out.println(
        "| specialist | images | float activations | 8 bits | range | scores moved | float layers |");
    System.out.println("|---|---|---|---|---|---|---|");
    for (Path run : runs.get(true)) {
      report(run);
    }
  }

  private static Recipe recipe(Path run) {
    return Recipe.read(run.resolve("recipe.resolved.yaml"));
  }

  /** What a run with 8-bit activations says of itself. */
  private static void report(Path run) throws IOException {
    JsonNode report = new ObjectMapper().readTree(run.resolve("report.json").toFile());
    JsonNode activations = report.path("activations");
    long floats = 0;
    for (JsonNode layer : activations.path("layers")) {
      floats += layer.path("operator").isNull() ? 1 : 0;
    }
    System.out.printf(
        Locale.ROOT,
        "| %s | %d | %.1f | %.1f | %s | %.3f | %d of %d |%n",
        run.getFileName(),
        report.at("/compressed/images").asInt(),
        100 * activations.at("/floatActivations/top1").asDouble(),
        100 * report.at("/compressed/top1").asDouble(),
        activations.path("range").asText(),
        activations.path("scoreDistance").asDouble(),
        floats,
        activations.path("layers").size());
  }

  /** By each method, with integers in all layers but the classifier. */
  private static void measure(Path run, Workers workers) {
    Recipe recipe = recipe(run);
    ImageDataset data = dataset(recipe);
    OnnxModel model = OnnxModel.read(run.resolve("model.onnx"));
    ModelInput input = ModelInput.of(model);
    Preprocessing preprocessing = PreprocessingOptions.none().resolve(model, input);
    Preprocessor preprocessor = new Preprocessor(preprocessing);
    int batch = input.batchSize(preprocessing.cropHeight(), preprocessing.cropWidth());
    ImageBatches calibration = batches(data.calibration(), preprocessor, batch, workers);
    ImageBatches test = batches(data.test(), preprocessor, batch, workers);
    List<Integer> outputs = IntStream.range(0, data.classes().size()).boxed().toList();
    StringBuilder line = new StringBuilder(accuracy(model, input, test, outputs, workers));
    Optional<Layer> classifier = LayerDiscovery.classifier(model);
    for (Layer layer : LayerDiscovery.discover(model)) {
      if (!classifier.equals(Optional.of(layer)) && LayerWeights.canFold(model, layer)) {
        WeightQuantization.round(model, layer);
      }
    }
    IntegerOperators plan =
        IntegerOperators.plan(model, layer -> true, IntegerOperators.sparserThan(model, 0.5));
    ActivationRanges ranges = ActivationRanges.measure(model, plan.tensors(), calibration, workers);
    for (RangeMethod method : RangeMethod.values()) {
      OnnxModel integer = model.copy();
      plan.rewrite(integer, ranges.by(method));
      line.append(" | ").append(accuracy(integer, input, test, outputs, workers));
    }
    System.out.printf(
        Locale.ROOT, "| %s | %d | %s |%n", run.getFileName(), data.test().size(), line);
  }

  private static ImageBatches batches(
      List<ImageFile> files, Preprocessor preprocessor, int batch, Workers workers) {
    return new ImageBatches(files, preprocessor, batch, workers, new Notices());
  }

  private static ImageDataset dataset(Recipe recipe) {
    ImageFolders.Request request =
        ImageFolders.Request.of(
                recipe.data().stream().map(Path::of).toList(),
                HeadRestriction.classes(OnnxModel.read(Path.of(recipe.model()))))
            .withShots(recipe.shots())
            .withHeldOut(recipe.heldOut())
            .withSeed(recipe.seed())
            .withTestFraction(recipe.testFraction());
    if (recipe.classes() != null) {
      request = request.withOnlyClasses(recipe.classes());
    }
    if (recipe.labels() != null) {
      request = request.withLabels(Path.of(recipe.labels()));
    }
    return ImageFolders.load(request, new Notices());
  }

  private static String accuracy(
      OnnxModel model,
      ModelInput input,
      ImageBatches images,
      List<Integer> outputs,
      Workers workers) {
    try (Session session = Session.open(model, 1)) {
      return String.format(
          Locale.ROOT,
          "%.1f",
          100 * Evaluator.evaluate(session, input, images, outputs, workers).task().top1());
    }
  }
}
