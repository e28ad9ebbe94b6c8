import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.MathContext;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.taco4j.Progress;
import org.taco4j.Recipe;
import org.taco4j.Taco;
import org.taco4j.bench.Accuracy;
import org.taco4j.report.RunReport;

/**
 * Accuracy, layer-wise error and latency of compression methods on real models. {@code measure}
 * appends a line for each layer and run to a CSV file; {@code table} makes Markdown of such files:
 * see README.md here. Run through {@code accuracy.sh}.
 */
public final class AccuracyTable {
  /**
   * A model and images.
   *
   * @param undivided the layer whose three input channels groups of four do not divide; it stays
   *     dense with such patterns
   */
  record Task(
      String name,
      String model,
      String undivided,
      List<String> data,
      List<String> classes,
      int shots) {}

  /**
   * A layer of a run. The columns from {@code gzipMegabytes} on are missing in files of before they
   * were measured.
   *
   * @param sparsity of a method that has one; "" for methods that say it themselves, such as 2:4
   */
  @JsonPropertyOrder({
    "task",
    "sparsity",
    "solver",
    "draw",
    "top1",
    "images",
    "layer",
    "layerError",
    "heldOutError",
    "denseTop1",
    "gzipMegabytes",
    "speedup",
    "solveSeconds"
  })
  record Row(
      String task,
      String sparsity,
      String solver,
      int draw,
      double top1,
      int images,
      String layer,
      double layerError,
      double heldOutError,
      double denseTop1,
      double gzipMegabytes,
      double speedup,
      double solveSeconds) {}

  static final Map<String, Task> TASKS = new LinkedHashMap<>();

  static {
    TASKS.put(
        "resnet56",
        new Task(
            "ResNet-56, CIFAR-10, the four vehicles, 10 images a class",
            "cifar10-resnet56.onnx",
            "/conv1/Conv",
            List.of("cifar10"),
            List.of("airplane", "automobile", "ship", "truck"),
            10));
    TASKS.put(
        "deit-vehicles",
        new Task(
            "DeiT-tiny, tiny-vehicles, 10 images a class",
            "imagenet-deit-tiny.onnx",
            "/patch/Conv",
            List.of("tiny-vehicles"),
            List.of(),
            10));
    TASKS.put(
        "deit-food",
        new Task(
            "DeiT-tiny, in1k-food and in1k-household, 3 images a class",
            "imagenet-deit-tiny.onnx",
            "/patch/Conv",
            List.of("in1k-food", "in1k-household"),
            List.of(),
            0));
    TASKS.put(
        "mobilenet",
        new Task(
            "MobileNetV2, in1k-food and in1k-household, 3 images a class",
            "imagenet-mobilenetv2.onnx",
            "Conv_1",
            List.of("in1k-food", "in1k-household"),
            List.of(),
            0));
  }

  /** The recipes of the methods, by the names that the CSV has. */
  private static final Map<String, String> METHODS = new LinkedHashMap<>();

  static {
    METHODS.put("magnitude", "solver: magnitude");
    METHODS.put("wanda", "solver: wanda");
    METHODS.put("adaprune", "solver: adaprune");
    METHODS.put("fast", "solver: fast");
    METHODS.put("obc", "solver: obc");
    METHODS.put("hybrid", "solver: hybrid");
    METHODS.put("hybrid+swap", "{solver: hybrid, search: swap}");
    METHODS.put("hybrid+full", "{solver: hybrid, search: full}");
    METHODS.put("hybrid, auto damping", "{solver: hybrid, damping: auto}");
    METHODS.put("fast, auto damping", "{solver: fast, damping: auto}");
    METHODS.put("2:4 fast", "{solver: fast, pattern: '2:4'}");
    METHODS.put("2:4 obc", "{solver: obc, pattern: '2:4'}");
    METHODS.put("2:4 obc+swap", "{solver: obc, pattern: '2:4', search: swap}");
    METHODS.put("block4:0.5 fast", "{solver: fast, pattern: 'block4:0.5'}");
    METHODS.put("block4:0.5 obc", "{solver: obc, pattern: 'block4:0.5'}");
    METHODS.put("rows4:0.5 obc", "{solver: obc, pattern: 'rows4:0.5'}");
    METHODS.put("structured 25 %", "structured: 0.25");
    METHODS.put("structured 50 %", "structured: 0.5");
    METHODS.put("int8", "{bits: 8, sweeps: 2}");
    METHODS.put("int4", "{bits: 4, sweeps: 2}");
    METHODS.put("50 % and int8", "{sparsity: 0.5, bits: 8, sweeps: 2}");
  }

  /** What these tables are about: each layer on its own. For the rest there is RecoveryTable. */
  private static final String LAYER_WISE = ", reconstruct: layerwise, classifier: prune";

  /** What the tables call the methods that have a sparsity. */
  private static final Map<String, String> TITLES =
      Map.of(
          "magnitude", "magnitude",
          "wanda", "Wanda",
          "adaprune", "AdaPrune",
          "fast", "FastOBC",
          "obc", "OBC");

  private AccuracyTable() {}

  /**
   * Arguments: {@code table CSV...}, or {@code measure REAL CSV TASKS METHODS SPARSITIES DRAWS}
   * with lists separated by {@code ;}, where SPARSITIES is empty for methods that have their own.
   */
  public static void main(String[] args) throws IOException {
    if (args.length > 1 && args[0].equals("table")) {
      List<Row> rows = new ArrayList<>();
      for (String file : Arrays.asList(args).subList(1, args.length)) {
        rows.addAll(CsvRows.read(Path.of(file), Row.class));
      }
      table(rows);
    } else if (args.length == 7 && args[0].equals("measure")) {
      List<String> sparsities = args[5].isEmpty() ? List.of("") : List.of(args[5].split(";"));
      for (String task : args[3].split(";")) {
        for (int draw = 0; draw < Integer.parseInt(args[6]); draw++) {
          for (String sparsity : sparsities) {
            for (String method : args[4].split(";")) {
              measure(Path.of(args[1]), Path.of(args[2]), task, method, sparsity, draw);
            }
          }
        }
      }
    } else {
      System.err.println(
          "usage: accuracy.sh table CSV... | measure REAL CSV TASKS METHODS SPARSITIES DRAWS\n"
              + "tasks: "
              + String.join(";", TASKS.keySet())
              + "\nmethods: "
              + String.join(";", METHODS.keySet()));
      System.exit(2);
    }
  }

  private static void measure(
      Path real, Path csv, String taskName, String method, String sparsity, int draw)
      throws IOException {
    if (!TASKS.containsKey(taskName) || !METHODS.containsKey(method)) {
      throw new IllegalArgumentException("no task " + taskName + " or no method " + method);
    }
    Task task = TASKS.get(taskName);
    Path folder = Files.createTempDirectory("accuracy-table");
    String yaml = "{" + METHODS.get(method).replaceAll("^\\{|}$", "") + LAYER_WISE + "}";
    if (yaml.contains("2:4") || yaml.contains("block4")) {
      yaml = yaml.replace("}", ", exclude: ['" + task.undivided() + "']}");
    }
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
            .progress(Progress.SILENT);
    if (!sparsity.isEmpty()) {
      run.sparsity(Double.parseDouble(sparsity));
    }
    if (!task.classes().isEmpty()) {
      run.classes(task.classes().toArray(String[]::new));
    }
    RunReport report = run.to(folder.resolve("out"));
    List<Row> rows = new ArrayList<>();
    for (RunReport.LayerReport layer : report.layers()) {
      if (layer.layerError() != null) {
        rows.add(
            new Row(
                task.name(),
                sparsity,
                method,
                draw,
                rounded(report.compressed().top1()),
                report.compressed().images(),
                layer.name(),
                rounded(layer.layerError()),
                layer.heldOutError() == null ? Double.NaN : rounded(layer.heldOutError()),
                rounded(report.dense().top1()),
                rounded(report.compressed().gzipBytes() / 1e6),
                rounded(report.latency().ratio()),
                rounded(report.seconds().solve())));
      }
    }
    CsvRows.append(csv, Row.class, rows);
    System.err.printf(
        Locale.ROOT,
        "%s, draw %d, %s %s: %.3f (dense %.3f), held-out error %.4f, solving %.1f of %.0f s%n",
        task.name(),
        draw,
        method,
        sparsity,
        report.compressed().top1(),
        report.dense().top1(),
        rows.stream().mapToDouble(Row::heldOutError).average().orElse(Double.NaN),
        report.seconds().solve(),
        report.seconds().total());
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  /** To five digits: more would be noise in a file that is kept. */
  private static double rounded(double value) {
    return new BigDecimal(value).round(new MathContext(5)).doubleValue();
  }

  private static void table(List<Row> rows) {
    for (Task task : TASKS.values()) {
      List<Row> ofTask = rows.stream().filter(r -> r.task().equals(task.name())).toList();
      if (ofTask.isEmpty()) {
        continue;
      }
      System.out.printf("%n### %s%n", task.name());
      double dense = ofTask.stream().mapToDouble(Row::denseTop1).max().orElse(0);
      if (dense > 0) {
        int images = ofTask.getFirst().images();
        System.out.printf("%nDense: %s on %d test images.%n", accuracy(dense, images), images);
      }
      bySparsity(ofTask.stream().filter(AccuracyTable::hasSparsity).toList());
      others(ofTask.stream().filter(r -> !hasSparsity(r)).toList());
    }
  }

  private static boolean hasSparsity(Row row) {
    return row.sparsity() != null && !row.sparsity().isEmpty();
  }

  /** Methods down, sparsities across: accuracy, and the mean held-out error of the layers. */
  private static void bySparsity(List<Row> rows) {
    Set<String> sparsities = new LinkedHashSet<>();
    rows.stream().map(Row::sparsity).sorted().forEach(sparsities::add);
    if (sparsities.isEmpty()) {
      return;
    }
    StringBuilder head = new StringBuilder("| solver |");
    for (String sparsity : sparsities) {
      head.append(String.format(Locale.ROOT, " %.0f %% |", 100 * Double.parseDouble(sparsity)));
    }
    System.out.println(
        "\nTop-1 (95 % interval of one draw), mean held-out layer error; number of draws where not"
            + " 3:\n");
    System.out.println(head);
    System.out.println("|---".repeat(sparsities.size() + 1) + "|");
    for (String method : METHODS.keySet()) {
      List<Row> ofMethod = rows.stream().filter(r -> r.solver().equals(method)).toList();
      if (ofMethod.isEmpty()) {
        continue;
      }
      StringBuilder line = new StringBuilder("| " + TITLES.getOrDefault(method, method) + " |");
      for (String sparsity : sparsities) {
        List<Row> cell = ofMethod.stream().filter(r -> r.sparsity().equals(sparsity)).toList();
        line.append(cell.isEmpty() ? " |" : " " + cell(cell) + " |");
      }
      System.out.println(line);
    }
  }

  /** A line for each method. */
  private static void others(List<Row> rows) {
    if (rows.isEmpty()) {
      return;
    }
    System.out.println(
        "\n| method | top-1, held-out layer error | gzipped, MB | speed in ONNX Runtime against dense"
            + " |\n|---|---|---|---|");
    for (String method : METHODS.keySet()) {
      List<Row> ofMethod = rows.stream().filter(r -> r.solver().equals(method)).toList();
      if (!ofMethod.isEmpty()) {
        System.out.printf(
            Locale.ROOT,
            "| %s | %s | %.2f | %.2f |%n",
            method,
            cell(ofMethod),
            ofMethod.stream().mapToDouble(Row::gzipMegabytes).average().orElse(0),
            ofMethod.stream().mapToDouble(Row::speedup).average().orElse(0));
      }
    }
  }

  private static String cell(List<Row> rows) {
    Map<Integer, Double> byDraw =
        rows.stream().collect(Collectors.toMap(Row::draw, Row::top1, (a, b) -> a));
    double mean = byDraw.values().stream().mapToDouble(d -> d).average().orElse(0);
    return String.format(
        Locale.ROOT,
        "%s, %.4f%s",
        accuracy(mean, rows.getFirst().images()),
        rows.stream().mapToDouble(Row::heldOutError).average().orElse(Double.NaN),
        byDraw.size() == 3 ? "" : " (" + byDraw.size() + ")");
  }

  private static String accuracy(double top1, int images) {
    Accuracy accuracy = new Accuracy(images, (int) Math.round(top1 * images), 0);
    return String.format(
        Locale.ROOT,
        "%.1f (%.1f to %.1f)",
        100 * top1,
        100 * accuracy.top1Low(),
        100 * accuracy.top1High());
  }
}
