import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;
import org.taco4j.Progress;
import org.taco4j.Taco;
import org.taco4j.bench.Accuracy;
import org.taco4j.report.RunReport;

/**
 * Accuracy and layer-wise error of the solvers on real models, as Markdown on standard output and
 * one line a layer and run in a CSV file: see README.md here. Run through {@code accuracy.sh}.
 */
public final class AccuracyTable {
  record Task(String name, String model, List<String> data, List<String> classes, int shots) {}

  record Key(String task, double sparsity, String solver) {}

  private static final List<Task> TASKS =
      List.of(
          new Task(
              "ResNet-56, CIFAR-10, the four vehicles, 10 images a class",
              "cifar10-resnet56.onnx",
              List.of("cifar10"),
              List.of("airplane", "automobile", "ship", "truck"),
              10),
          new Task(
              "DeiT-tiny, tiny-vehicles, 10 images a class",
              "imagenet-deit-tiny.onnx",
              List.of("tiny-vehicles"),
              List.of(),
              10),
          new Task(
              "DeiT-tiny, in1k-food and in1k-household, 3 images a class",
              "imagenet-deit-tiny.onnx",
              List.of("in1k-food", "in1k-household"),
              List.of(),
              0),
          new Task(
              "MobileNetV2, in1k-food and in1k-household, 3 images a class",
              "imagenet-mobilenetv2.onnx",
              List.of("in1k-food", "in1k-household"),
              List.of(),
              0));

  private static final List<Double> SPARSITIES = List.of(0.5, 0.6, 0.7, 0.8);
  private static final List<String> SOLVERS = List.of("magnitude", "wanda", "fast");

  private final Path real;
  private final PrintStream csv;
  private final int draws;
  private final Map<Key, List<RunReport>> runs = new LinkedHashMap<>();

  private AccuracyTable(Path real, PrintStream csv, int draws) {
    this.real = real;
    this.csv = csv;
    this.draws = draws;
  }

  /**
   * Arguments: the folder with models/ and images/, the CSV file, draws, and part of a task's name.
   */
  public static void main(String[] args) throws IOException {
    Path real = Path.of(args[0]);
    int draws = Integer.parseInt(args[2]);
    String filter = args.length > 3 ? args[3] : "";
    String correct = args.length > 4 ? args[4] : "mean-variance";
    try (PrintStream csv =
        new PrintStream(Files.newOutputStream(Path.of(args[1])), true, StandardCharsets.UTF_8)) {
      csv.println("task,sparsity,solver,draw,top1,images,layer,layerError,heldOutError");
      AccuracyTable table = new AccuracyTable(real, csv, draws);
      for (Task task : TASKS) {
        if (task.name().contains(filter)) {
          table.measure(task, correct);
          table.print(task);
        }
      }
    }
  }

  private void measure(Task task, String correct) throws IOException {
    Path out = Files.createTempDirectory("accuracy-table");
    for (int draw = 0; draw < draws; draw++) {
      for (double sparsity : SPARSITIES) {
        for (String solver : SOLVERS) {
          long start = System.nanoTime();
          Taco.Specialization run =
              Taco.specialize(real.resolve("models").resolve(task.model()))
                  .data(
                      task.data().stream()
                          .map(d -> real.resolve("images").resolve(d))
                          .toArray(Path[]::new))
                  .shots(task.shots())
                  .sparsity(sparsity)
                  .solver(solver)
                  .correct(correct)
                  .seed(draw)
                  .progress(Progress.SILENT);
          if (!task.classes().isEmpty()) {
            run.classes(task.classes().toArray(String[]::new));
          }
          RunReport report = run.to(out.resolve(draw + "-" + sparsity + "-" + solver));
          runs.computeIfAbsent(new Key(task.name(), sparsity, solver), k -> new ArrayList<>())
              .add(report);
          for (RunReport.LayerReport layer : report.layers()) {
            if (layer.layerError() != null) {
              csv.printf(
                  Locale.ROOT,
                  "\"%s\",%s,%s,%d,%.4f,%d,%s,%.6g,%.6g%n",
                  task.name(),
                  sparsity,
                  solver,
                  draw,
                  report.compressed().top1(),
                  report.compressed().images(),
                  layer.name(),
                  layer.layerError(),
                  layer.heldOutError());
            }
          }
          System.err.printf(
              Locale.ROOT,
              "%s, draw %d, %.1f, %s: %.3f (dense %.3f), %.0f s%n",
              task.name(),
              draw,
              sparsity,
              solver,
              report.compressed().top1(),
              report.dense().top1(),
              (System.nanoTime() - start) / 1e9);
        }
      }
    }
    try (Stream<Path> files = Files.walk(out)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  private void print(Task task) {
    RunReport first = runs.get(new Key(task.name(), SPARSITIES.getFirst(), "fast")).getFirst();
    System.out.printf(
        Locale.ROOT,
        "%n### %s%n%nDense: %.1f %% (%.1f to %.1f) on %d test images; mean of %d draws; intervals are"
            + " Wilson's 95 %% for one draw's number of test images.%n%n",
        task.name(),
        100 * first.dense().top1(),
        100 * first.dense().top1Low(),
        100 * first.dense().top1High(),
        first.dense().images(),
        draws);
    System.out.println(
        "| sparsity | magnitude | Wanda | FastOBC | held-out layer error: magnitude | Wanda | FastOBC |"
            + " layers in which FastOBC's is not the lowest |");
    System.out.println("|---|---|---|---|---|---|---|---|");
    for (double sparsity : SPARSITIES) {
      StringBuilder row =
          new StringBuilder(String.format(Locale.ROOT, "| %.0f %% |", 100 * sparsity));
      for (String solver : SOLVERS) {
        row.append(accuracy(runs.get(new Key(task.name(), sparsity, solver))));
      }
      for (String solver : SOLVERS) {
        row.append(
            String.format(
                Locale.ROOT,
                " %.4f |",
                runs.get(new Key(task.name(), sparsity, solver)).stream()
                    .flatMap(r -> r.layers().stream())
                    .filter(l -> l.heldOutError() != null)
                    .mapToDouble(RunReport.LayerReport::heldOutError)
                    .average()
                    .orElse(Double.NaN)));
      }
      System.out.println(row.append(" ").append(exceptions(task, sparsity)).append(" |"));
    }
  }

  private static String accuracy(List<RunReport> reports) {
    double mean = reports.stream().mapToDouble(r -> r.compressed().top1()).average().orElse(0);
    int images = reports.getFirst().compressed().images();
    Accuracy pooled = new Accuracy(images, (int) Math.round(mean * images), 0);
    return String.format(
        Locale.ROOT,
        " %.1f (%.1f to %.1f) |",
        100 * mean,
        100 * pooled.top1Low(),
        100 * pooled.top1High());
  }

  /** Layers whose mean held-out error over the draws is lower with another solver. */
  private String exceptions(Task task, double sparsity) {
    Map<String, Map<String, Double>> errors = new LinkedHashMap<>();
    for (String solver : SOLVERS) {
      for (RunReport report : runs.get(new Key(task.name(), sparsity, solver))) {
        for (RunReport.LayerReport layer : report.layers()) {
          if (layer.heldOutError() != null) {
            errors
                .computeIfAbsent(layer.name(), n -> new LinkedHashMap<>())
                .merge(solver, layer.heldOutError() / draws, Double::sum);
          }
        }
      }
    }
    List<String> names = new ArrayList<>();
    errors.forEach(
        (name, bySolver) -> {
          double best = Math.min(bySolver.get("magnitude"), bySolver.get("wanda"));
          if (bySolver.get("fast") > best) {
            names.add(
                String.format(
                    Locale.ROOT, "%s (%.4f against %.4f)", name, bySolver.get("fast"), best));
          }
        });
    return names.isEmpty() ? "none of " + errors.size() : String.join(", ", names);
  }
}
