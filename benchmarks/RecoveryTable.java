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
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Function;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.taco4j.Progress;
import org.taco4j.Recipe;
import org.taco4j.Taco;
import org.taco4j.bench.Accuracy;
import org.taco4j.report.RunReport;

/**
 * What reconstruction and tuning win back, and TACO against PTC. {@code measure} appends a line for
 * each run to a CSV file; {@code table} makes Markdown of such files: see README.md here. Run
 * through {@code recovery.sh}.
 */
public final class RecoveryTable {
  /**
   * A run; what was not measured is empty.
   *
   * @param shots calibration images per class; 0 for all
   * @param untuned top-1 before tuning
   * @param bestPass the pass of tuning whose weights are the result
   * @param passes of tuning that were asked for
   * @param tacoFull top-1 on the task with all of the model's classes competing
   * @param tacoOff top-1 on images of other classes, likewise
   */
  @JsonPropertyOrder({
    "task",
    "recipe",
    "sparsity",
    "draw",
    "shots",
    "calibrationImages",
    "testImages",
    "dense",
    "untuned",
    "top1",
    "bestPass",
    "passes",
    "calibrateSeconds",
    "solveSeconds",
    "tuneSeconds",
    "ptc",
    "denseFull",
    "tacoFull",
    "ptcFull",
    "offImages",
    "denseOff",
    "tacoOff",
    "ptcOff"
  })
  record Row(
      String task,
      String recipe,
      String sparsity,
      int draw,
      int shots,
      int calibrationImages,
      int testImages,
      double dense,
      @Nullable Double untuned,
      double top1,
      @Nullable Integer bestPass,
      @Nullable Integer passes,
      double calibrateSeconds,
      double solveSeconds,
      double tuneSeconds,
      @Nullable Double ptc,
      @Nullable Double denseFull,
      @Nullable Double tacoFull,
      @Nullable Double ptcFull,
      @Nullable Integer offImages,
      @Nullable Double denseOff,
      @Nullable Double tacoOff,
      @Nullable Double ptcOff) {}

  /** The recipes, by the names that the CSV has. */
  private static final Map<String, String> RECIPES = recipes();

  private static Map<String, String> recipes() {
    Map<String, String> recipes = new LinkedHashMap<>();
    for (String solver : List.of("fast", "obc", "hybrid")) {
      Map<String, String> forms = new LinkedHashMap<>();
      forms.put("layer-wise", "reconstruct: layerwise, correct: none");
      forms.put("layer-wise, corrected", "reconstruct: layerwise");
      forms.put("sequential", "reconstruct: sequential");
      forms.put("sequential, classifier pruned", "reconstruct: sequential, classifier: prune");
      Map<String, String> tunings = new LinkedHashMap<>();
      tunings.put("", "");
      tunings.put(" + probe", ", tune: probe");
      tunings.put(" + v1", ", tune: taco-v1, tune-passes: 100");
      tunings.put(" + tmlr", ", tune: taco-tmlr");
      // As long as the machine that measures can bear; the rate falls to 0 over them.
      tunings.put(" + tmlr, 6 passes", ", tune: taco-tmlr, tune-passes: 6");
      tunings.put(
          " + tmlr, 6 passes, no trial", ", tune: taco-tmlr, tune-passes: 6, tune-hold-out: none");
      tunings.put(
          " + tmlr, 20 passes, no trial",
          ", tune: taco-tmlr, tune-passes: 20, tune-hold-out: none");
      tunings.put(
          " + v1, 20 passes, no trial", ", tune: taco-v1, tune-passes: 20, tune-hold-out: none");
      forms.forEach(
          (form, f) ->
              tunings.forEach(
                  (tuning, t) ->
                      recipes.put(
                          solver + ", " + form + tuning,
                          "{solver: " + solver + ", " + f + t + "}")));
    }
    return recipes;
  }

  /** Generic images for the tasks, for recipe names that end in {@code against PTC}. */
  private static final String VERSUS = " against PTC";

  private static Path generic(Path real, String task) {
    return real.resolve(task.equals("resnet56") ? "images/cifar10" : "images/in1k-sample");
  }

  private RecoveryTable() {}

  /**
   * Arguments: {@code table CSV...}, or {@code measure REAL CSV TASKS RECIPES SPARSITIES DRAWS
   * [SHOTS]} with lists separated by {@code ;}. DRAWS is a list of seeds.
   */
  public static void main(String[] args) throws IOException {
    if (args.length > 1 && args[0].equals("table")) {
      List<Row> rows = new ArrayList<>();
      for (String file : Arrays.asList(args).subList(1, args.length)) {
        rows.addAll(CsvRows.read(Path.of(file), Row.class));
      }
      table(rows);
    } else if ((args.length == 7 || args.length == 8) && args[0].equals("measure")) {
      for (String draw : args[6].split(";")) {
        for (String task : args[3].split(";")) {
          for (String sparsity : args[5].split(";")) {
            for (String recipe : args[4].split(";")) {
              for (String shots : args.length == 8 ? args[7].split(";") : new String[] {""}) {
                measure(
                    Path.of(args[1]),
                    Path.of(args[2]),
                    task,
                    recipe,
                    sparsity,
                    Integer.parseInt(draw),
                    shots);
              }
            }
          }
        }
      }
    } else {
      System.err.println(
          "usage: recovery.sh table CSV... | measure REAL CSV TASKS RECIPES SPARSITIES DRAWS [SHOTS]\n"
              + "tasks: "
              + String.join("; ", AccuracyTable.TASKS.keySet())
              + "\nrecipes, also with '"
              + VERSUS
              + "' behind: "
              + String.join("; ", RECIPES.keySet()));
      System.exit(2);
    }
  }

  private static void measure(
      Path real, Path csv, String taskName, String name, String sparsity, int draw, String shots)
      throws IOException {
    boolean versus = name.endsWith(VERSUS);
    String yaml = RECIPES.get(versus ? name.substring(0, name.length() - VERSUS.length()) : name);
    AccuracyTable.Task task = AccuracyTable.TASKS.get(taskName);
    if (task == null || yaml == null) {
      throw new IllegalArgumentException("no task " + taskName + " or no recipe " + name);
    }
    Path folder = Files.createTempDirectory("recovery-table");
    if (versus) {
      yaml = yaml.replace("}", ", compare-ptc: '" + generic(real, taskName) + "'}");
    }
    Path recipe = Files.writeString(folder.resolve("recipe.yaml"), yaml);
    int images = shots.isEmpty() ? task.shots() : Integer.parseInt(shots);
    Taco.Specialization run =
        Taco.specialize(real.resolve("models").resolve(task.model()))
            .data(
                task.data().stream()
                    .map(d -> real.resolve("images").resolve(d))
                    .toArray(Path[]::new))
            .shots(images)
            .recipe(Recipe.read(recipe))
            .sparsity(Double.parseDouble(sparsity))
            .seed(draw)
            .progress(Progress.SILENT);
    if (!task.classes().isEmpty()) {
      run.classes(task.classes().toArray(String[]::new));
    }
    RunReport report = run.to(folder.resolve("out"));
    RunReport.PtcComparison ptc = report.ptc();
    RunReport.Versus full = ptc == null ? null : ptc.taskFullHead();
    RunReport.Versus off = ptc == null ? null : ptc.offTask();
    Row row =
        new Row(
            task.name(),
            name,
            sparsity,
            draw,
            images,
            report.task().calibrationImages(),
            report.compressed().images(),
            rounded(report.dense().top1()),
            report.untuned() == null ? null : rounded(report.untuned().top1()),
            rounded(report.compressed().top1()),
            report.tuning() == null ? null : report.tuning().bestPass(),
            report.tuning() == null ? null : report.tuning().passes(),
            rounded(report.seconds().calibrate()),
            rounded(report.seconds().solve()),
            rounded(report.seconds().tune()),
            ptc == null ? null : rounded(ptc.task().ptc().top1()),
            full == null ? null : rounded(full.dense().top1()),
            full == null ? null : rounded(full.taco().top1()),
            full == null ? null : rounded(full.ptc().top1()),
            off == null ? null : off.dense().images(),
            off == null ? null : rounded(off.dense().top1()),
            off == null ? null : rounded(off.taco().top1()),
            off == null ? null : rounded(off.ptc().top1()));
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

  /** A table for each task and number of images: recipes down, sparsities across. */
  private static void table(List<Row> rows) {
    Map<String, List<Row>> byTask = new LinkedHashMap<>();
    for (Row row : rows) {
      byTask
          .computeIfAbsent(
              "%s; %d to calibrate".formatted(row.task(), row.calibrationImages()),
              t -> new ArrayList<>())
          .add(row);
    }
    byTask.forEach(
        (title, ofTask) -> {
          Row any = ofTask.getFirst();
          System.out.printf(
              Locale.ROOT,
              "%n### %s%n%nDense: %s on %d test images. Top-1, mean of draws (lowest to highest"
                  + " draw; number of draws).%n%n",
              title,
              accuracy(any.dense(), any.testImages()),
              any.testImages());
          TreeSet<String> sparsities = new TreeSet<>();
          ofTask.forEach(row -> sparsities.add(row.sparsity()));
          StringBuilder head = new StringBuilder("| recipe |");
          sparsities.forEach(
              s ->
                  head.append(
                      String.format(Locale.ROOT, " %.0f %% |", 100 * Double.parseDouble(s))));
          System.out.println(head);
          System.out.println("|---".repeat(sparsities.size() + 1) + "|");
          Map<String, List<Row>> lines = new TreeMap<>();
          ofTask.forEach(
              row -> lines.computeIfAbsent(row.recipe(), r -> new ArrayList<>()).add(row));
          lines.forEach(
              (recipe, ofRecipe) -> {
                line(recipe, ofRecipe, sparsities, Row::top1);
                line(recipe + ": before tuning", ofRecipe, sparsities, Row::untuned);
                if (recipe.endsWith(VERSUS)) {
                  line(recipe + ": PTC", ofRecipe, sparsities, Row::ptc);
                  line(recipe + ": TACO, all classes", ofRecipe, sparsities, Row::tacoFull);
                  line(recipe + ": PTC, all classes", ofRecipe, sparsities, Row::ptcFull);
                  line(recipe + ": dense off the task", ofRecipe, sparsities, Row::denseOff);
                  line(recipe + ": TACO off the task", ofRecipe, sparsities, Row::tacoOff);
                  line(recipe + ": PTC off the task", ofRecipe, sparsities, Row::ptcOff);
                }
              });
        });
  }

  private static void line(
      String title, List<Row> rows, TreeSet<String> sparsities, Function<Row, Double> value) {
    StringBuilder line = new StringBuilder("| " + title + " |");
    boolean any = false;
    for (String sparsity : sparsities) {
      double[] values =
          rows.stream()
              .filter(row -> row.sparsity().equals(sparsity))
              .map(value)
              .filter(v -> v != null)
              .mapToDouble(v -> 100 * v)
              .sorted()
              .toArray();
      any |= values.length > 0;
      line.append(
          values.length == 0
              ? " |"
              : String.format(
                  Locale.ROOT,
                  " %.1f (%.1f to %.1f; %d) |",
                  Arrays.stream(values).average().orElse(0),
                  values[0],
                  values[values.length - 1],
                  values.length));
    }
    if (any) {
      System.out.println(line);
    }
  }

  private static String accuracy(double top1, int images) {
    Accuracy accuracy = new Accuracy(images, (int) Math.round(top1 * images), 0);
    return String.format(
        Locale.ROOT,
        "%.1f %% (95 %% interval %.1f to %.1f)",
        100 * top1,
        100 * accuracy.top1Low(),
        100 * accuracy.top1High());
  }
}
