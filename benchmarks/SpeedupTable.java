import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.ToDoubleFunction;
import java.util.stream.Stream;
import org.taco4j.Progress;
import org.taco4j.Recipe;
import org.taco4j.Taco;
import org.taco4j.bench.Accuracy;
import org.taco4j.report.RunReport;

/**
 * What a specialist's accuracy costs in time: real specialists as the operator library runs them,
 * beside dense int8 in ONNX Runtime. {@code measure} appends a line for each run to a CSV file;
 * {@code table} makes Markdown of such files: see README.md here. Run through {@code speedup.sh}.
 */
public final class SpeedupTable {
  /**
   * A run.
   *
   * @param sparsity empty for what removes nothing
   * @param ratio how many times faster than the dense float model, in turns with it: median
   * @param ratioLow 5th percentile over pairs
   * @param ratioHigh 95th percentile over pairs
   */
  @JsonPropertyOrder({
    "task",
    "recipe",
    "sparsity",
    "draw",
    "calibrationImages",
    "testImages",
    "dense",
    "top1",
    "denseMillis",
    "millis",
    "ratio",
    "ratioLow",
    "ratioHigh",
    "denseBytes",
    "bytes"
  })
  record Row(
      String task,
      String recipe,
      String sparsity,
      int draw,
      int calibrationImages,
      int testImages,
      double dense,
      double top1,
      double denseMillis,
      double millis,
      double ratio,
      double ratioLow,
      double ratioHigh,
      long denseBytes,
      long bytes) {}

  /** The recipes, by the names that the CSV has. */
  private static final Map<String, String> RECIPES = new LinkedHashMap<>();

  static {
    String sequential = "reconstruct: sequential, runtime: taco4j";
    String int8 = "bits: 8, activation-bits: 8, reconstruct: sequential";
    RECIPES.put("dense int8", "{solver: gptq, " + int8 + "}");
    RECIPES.put("dense int8, library", "{solver: gptq, " + int8 + ", runtime: taco4j}");
    RECIPES.put("unstructured", "{solver: hybrid, " + sequential + "}");
    RECIPES.put("rows4", "{solver: obc, pattern: rows4, misfit: dense, " + sequential + "}");
    RECIPES.put(
        "block4 int8",
        "{solver: hybrid, pattern: block4, misfit: dense, " + int8 + ", runtime: taco4j}");
  }

  private SpeedupTable() {}

  /**
   * Arguments: {@code table CSV...}, or {@code measure REAL CSV TASKS RECIPES SPARSITIES DRAWS}
   * with lists separated by {@code ;}.
   */
  public static void main(String[] args) throws IOException {
    if (args.length > 1 && args[0].equals("table")) {
      List<Row> rows = new ArrayList<>();
      for (String file : Arrays.asList(args).subList(1, args.length)) {
        rows.addAll(CsvRows.read(Path.of(file), Row.class));
      }
      table(rows);
    } else if (args.length == 7 && args[0].equals("measure")) {
      for (String task : args[3].split(";")) {
        for (String recipe : args[4].split(";")) {
          for (String sparsity :
              recipe.startsWith("dense") ? new String[] {""} : args[5].split(";")) {
            for (String draw : args[6].split(";")) {
              measure(
                  Path.of(args[1]),
                  Path.of(args[2]),
                  task,
                  recipe,
                  sparsity,
                  Integer.parseInt(draw));
            }
          }
        }
      }
    } else {
      System.err.println(
          "usage: speedup.sh table CSV... | measure REAL CSV TASKS RECIPES SPARSITIES DRAWS\n"
              + "tasks: "
              + String.join("; ", AccuracyTable.TASKS.keySet())
              + "\nrecipes: "
              + String.join("; ", RECIPES.keySet()));
      System.exit(2);
    }
  }

  private static void measure(
      Path real, Path csv, String taskName, String name, String sparsity, int draw)
      throws IOException {
    String yaml = RECIPES.get(name);
    AccuracyTable.Task task = AccuracyTable.TASKS.get(taskName);
    if (task == null || yaml == null) {
      throw new IllegalArgumentException("no task " + taskName + " or no recipe " + name);
    }
    Path folder = Files.createTempDirectory("speedup-table");
    Path recipe = Files.writeString(folder.resolve("recipe.yaml"), yaml);
    Taco.Specialization run =
        Taco.specialize(real.resolve("models").resolve(task.model()))
            .data(
                task.data().stream()
                    .map(d -> real.resolve("images").resolve(d))
                    .toArray(Path[]::new))
            .shots(task.shots())
            .recipe(Recipe.read(recipe))
            .seed(draw)
            .threads(1)
            .progress(Progress.SILENT);
    if (!sparsity.isEmpty()) {
      run.sparsity(Double.parseDouble(sparsity));
    }
    if (!task.classes().isEmpty()) {
      run.classes(task.classes().toArray(String[]::new));
    }
    RunReport report = run.to(folder.resolve("out"));
    RunReport.Latency latency = report.latency();
    Row row =
        new Row(
            task.name(),
            name,
            sparsity,
            draw,
            report.task().calibrationImages(),
            report.compressed().images(),
            rounded(report.dense().top1()),
            rounded(report.compressed().top1()),
            rounded(latency.dense().p50Millis()),
            rounded(latency.compressed().p50Millis()),
            rounded(latency.ratio()),
            rounded(latency.ratioLow()),
            rounded(latency.ratioHigh()),
            report.dense().bytes(),
            report.compressed().bytes());
    CsvRows.append(csv, Row.class, List.of(row));
    System.err.println(row);
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  /** To four digits: more would be noise in a file that is kept. */
  private static double rounded(double value) {
    return Math.round(value * 1e4) / 1e4;
  }

  /** A table for each task: recipes and sparsities down, means over the draws. */
  private static void table(List<Row> rows) {
    Map<String, Map<String, List<Row>>> byTask = new LinkedHashMap<>();
    for (Row row : rows) {
      String recipe =
          row.sparsity() == null || row.sparsity().isEmpty()
              ? row.recipe()
              : String.format(
                  Locale.ROOT,
                  "%s, %.0f %%",
                  row.recipe(),
                  100 * Double.parseDouble(row.sparsity()));
      byTask
          .computeIfAbsent(row.task(), t -> new LinkedHashMap<>())
          .computeIfAbsent(recipe, r -> new ArrayList<>())
          .add(row);
    }
    byTask.forEach(
        (title, lines) -> {
          List<Row> all = lines.values().stream().flatMap(List::stream).toList();
          Row any = all.getFirst();
          Accuracy dense =
              new Accuracy(any.testImages(), (int) Math.round(any.dense() * any.testImages()), 0);
          System.out.printf(
              Locale.ROOT,
              "%n### %s%n%nDense float: %.1f %% (95 %% interval %.1f to %.1f) on %d test images, %.2f"
                  + " ms.%n%n| specialist | top-1 (draws) | times faster (5th to 95th percentile) |"
                  + " MB |%n|---|---|---|---|%n",
              title,
              100 * any.dense(),
              100 * dense.top1Low(),
              100 * dense.top1High(),
              any.testImages(),
              mean(all, Row::denseMillis));
          lines.forEach(
              (recipe, draws) ->
                  System.out.printf(
                      Locale.ROOT,
                      "| %s | %.1f (%s) | %.2f (%.2f to %.2f) | %.2f |%n",
                      recipe,
                      100 * mean(draws, Row::top1),
                      String.join(
                          ", ",
                          draws.stream()
                              .map(row -> String.format(Locale.ROOT, "%.1f", 100 * row.top1()))
                              .toList()),
                      mean(draws, Row::ratio),
                      mean(draws, Row::ratioLow),
                      mean(draws, Row::ratioHigh),
                      mean(draws, Row::bytes) / 1e6));
        });
  }

  private static double mean(List<Row> rows, ToDoubleFunction<Row> value) {
    return rows.stream().mapToDouble(value).average().orElse(0);
  }
}
