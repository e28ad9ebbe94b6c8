import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.function.Predicate;
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

  /** Prints a line for each run folder. */
  public static void main(String[] args) {
    System.out.println(
        "| specialist | layers | images | float activations | minmax | percentile | mse |");
    System.out.println("|---|---|---|---|---|---|---|");
    try (Workers workers = new Workers(Runtime.getRuntime().availableProcessors())) {
      for (String run : args) {
        boolean all = run.endsWith("+");
        measure(Path.of(all ? run.substring(0, run.length() - 1) : run), all, workers);
      }
    }
  }

  /**
   * @param all whether layers that the run left float get 8-bit weights, by rounding, as well
   */
  private static void measure(Path run, boolean all, Workers workers) {
    Recipe recipe = Recipe.read(run.resolve("recipe.resolved.yaml"));
    ImageDataset data = dataset(recipe);
    OnnxModel model = OnnxModel.read(run.resolve("model.onnx"));
    if (all) {
      for (Layer layer : LayerDiscovery.discover(model)) {
        if (LayerWeights.canFold(model, layer)) {
          WeightQuantization.round(model, layer);
        }
      }
    }
    ModelInput input = ModelInput.of(model);
    Preprocessing preprocessing = PreprocessingOptions.none().resolve(model, input);
    Preprocessor preprocessor = new Preprocessor(preprocessing);
    int batch = input.batchSize(preprocessing.cropHeight(), preprocessing.cropWidth());
    ImageBatches calibration = batches(data.calibration(), preprocessor, batch, workers);
    ImageBatches test = batches(data.test(), preprocessor, batch, workers);
    List<Integer> outputs = IntStream.range(0, data.classes().size()).boxed().toList();
    StringBuilder line = new StringBuilder();
    line.append(accuracy(model, input, test, outputs, workers));
    Predicate<Layer> sparse = IntegerOperators.sparserThan(model, 0.5);
    IntegerOperators plan = IntegerOperators.plan(model, layer -> true, sparse);
    String layers = "";
    ActivationRanges ranges = ActivationRanges.measure(model, plan.tensors(), calibration, workers);
    for (RangeMethod method : RangeMethod.values()) {
      OnnxModel integer = model.copy();
      IntegerOperators.Outcome outcome = plan.rewrite(integer, ranges.by(method));
      line.append(" | ").append(accuracy(integer, input, test, outputs, workers));
      layers = outcome.rewritten().size() + " of " + LayerDiscovery.discover(model).size();
    }
    System.out.printf(
        Locale.ROOT,
        "| %s%s | %s | %d | %s |%n",
        run.getFileName(),
        all ? ", all layers" : "",
        layers,
        data.test().size(),
        line);
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
