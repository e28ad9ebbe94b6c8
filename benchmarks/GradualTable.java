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
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.taco4j.Progress;
import org.taco4j.Recipe;
import org.taco4j.Taco;
import org.taco4j.bench.Accuracy;
import org.taco4j.report.RunReport;

/**
 * Schedules of pruning in transfer: MobileNetV2, pretrained on ImageNet, gets a classifier for the
 * ten classes of CIFAR-10, is fine-tuned on a few images of each, and is then pruned on these.
 * {@code measure} appends a line for each run to a CSV file; {@code table} makes Markdown of such
 * files. Run through {@code gradual.sh}.
 *
 * <p>What is pruned at once is tuned for as many passes as all steps of a schedule together have.
 * What is reconstructed is tuned at 5e-5: with few passes 3e-4 lost more than it won back. What is
 * not has more to win back, and is tuned at 3e-4.
 */
public final class GradualTable {
  private static final String MODEL = "imagenet-mobilenetv2.onnx";
  private static final String IMAGES = "cifar10";

  /** The pooled features before the classifier. */
  private static final String FEATURES = "/Flatten";

  /**
   * A run.
   *
   * @param shots calibration images per class
   * @param passes of tuning in each step
   * @param finetunePasses of the dense model
   * @param transferred top-1 of the dense model with its new classifier
   * @param dense the same after fine-tuning
   * @param untuned top-1 after the last pruning, before the last tuning
   * @param steps sparsity after each, with top-1 on the calibration images after tuning
   */
  @JsonPropertyOrder({
    "method",
    "sparsity",
    "draw",
    "shots",
    "passes",
    "finetunePasses",
    "testImages",
    "transferred",
    "dense",
    "untuned",
    "top1",
    "steps",
    "seconds"
  })
  record Row(
      String method,
      String sparsity,
      int draw,
      int shots,
      int passes,
      int finetunePasses,
      int testImages,
      @Nullable Double transferred,
      double dense,
      @Nullable Double untuned,
      double top1,
      @Nullable String steps,
      double seconds) {}

  /** The recipes, by the names that the CSV has. */
  private static final Map<String, String> METHODS = new LinkedHashMap<>();

  static {
    String taco = "solver: fast\nreconstruct: sequential\ntune-rate: 5e-5\n";
    METHODS.put("TACO, one-shot", taco + "tune-hold-out: none");
    METHODS.put("TACO, gradual", taco + "schedule: gradual");
    String magnitude = "tune-rate: 3e-4\n";
    METHODS.put(
        "magnitude, one-shot",
        magnitude
            + "solver: magnitude\nreconstruct: layerwise\ncorrect: none\ntune-hold-out: none");
    METHODS.put("GMP", magnitude + "schedule: gmp");
    METHODS.put("LTH", magnitude + "schedule: lth");
  }

  private GradualTable() {}

  /**
   * Arguments: {@code table CSV...}, or {@code measure REAL CSV METHODS SPARSITIES DRAWS [SHOTS
   * PASSES FINETUNE]} with lists separated by {@code ;}. DRAWS is a list of seeds.
   */
  public static void main(String[] args) throws IOException {
    if (args.length > 1 && args[0].equals("table")) {
      List<Row> rows = new ArrayList<>();
      for (String file : Arrays.asList(args).subList(1, args.length)) {
        rows.addAll(CsvRows.read(Path.of(file), Row.class));
      }
      table(rows);
    } else if ((args.length == 6 || args.length == 9) && args[0].equals("measure")) {
      int shots = args.length == 9 ? Integer.parseInt(args[6]) : 10;
      int passes = args.length == 9 ? Integer.parseInt(args[7]) : 4;
      int finetune = args.length == 9 ? Integer.parseInt(args[8]) : 6;
      for (String draw : args[5].split(";")) {
        for (String sparsity : args[4].split(";")) {
          for (String method : args[3].split(";")) {
            measure(
                Path.of(args[1]),
                Path.of(args[2]),
                method,
                sparsity,
                Integer.parseInt(draw),
                shots,
                passes,
                finetune);
          }
        }
      }
    } else {
      System.err.println(
          "usage: gradual.sh table CSV... | measure REAL CSV METHODS SPARSITIES DRAWS"
              + " [SHOTS PASSES FINETUNE]\nmethods: "
              + String.join(";", METHODS.keySet()));
      System.exit(2);
    }
  }

  private static void measure(
      Path real,
      Path csv,
      String method,
      String sparsity,
      int draw,
      int shots,
      int passes,
      int finetune)
      throws IOException {
    String yaml = METHODS.get(method);
    if (yaml == null) {
      throw new IllegalArgumentException("no method " + method);
    }
    double wanted = Double.parseDouble(sparsity);
    boolean isStepwise = yaml.contains("schedule");
    Path folder = Files.createTempDirectory("gradual-table");
    Path recipe =
        Files.writeString(
            folder.resolve("recipe.yaml"),
            """
            %s
            tune: taco-tmlr
            tune-passes: %d
            features: %s
            finetune-passes: %d
            held-out: none
            """
                .formatted(
                    yaml, isStepwise ? passes : passes * halvings(wanted), FEATURES, finetune));
    RunReport report =
        Taco.specialize(real.resolve("models").resolve(MODEL))
            .data(real.resolve("images").resolve(IMAGES))
            .shots(shots)
            .recipe(Recipe.read(recipe))
            .sparsity(wanted)
            .seed(draw)
            .progress(Progress.SILENT)
            .to(folder.resolve("out"));
    StringBuilder steps = new StringBuilder();
    for (RunReport.Step step : report.steps()) {
      steps
          .append(steps.isEmpty() ? "" : " ")
          .append(String.format(Locale.ROOT, "%.4f:%.3f", step.sparsity(), step.tunedTop1()));
    }
    RunReport.TopOne before =
        report.transfer() == null ? null : report.transfer().beforeFinetuning();
    Row row =
        new Row(
            method,
            sparsity,
            draw,
            shots,
            passes,
            finetune,
            report.compressed().images(),
            before == null ? null : rounded(before.top1()),
            rounded(report.dense().top1()),
            report.untuned() == null ? null : rounded(report.untuned().top1()),
            rounded(report.compressed().top1()),
            steps.toString(),
            rounded(report.seconds().total()));
    CsvRows.append(csv, Row.class, List.of(row));
    System.err.println(row);
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  /** How often half of the weights goes until the sparsity is reached: the steps of a schedule. */
  private static int halvings(double sparsity) {
    int count = 1;
    while (1 - Math.scalb(1.0, -count) < sparsity) {
      count++;
    }
    return count;
  }

  /** To four digits: more would be noise in a file that is kept. */
  private static double rounded(double value) {
    return Math.round(value * 1e4) / 1e4;
  }

  /** Methods down, sparsities across. */
  private static void table(List<Row> rows) {
    Map<String, List<Row>> settings = new LinkedHashMap<>();
    for (Row row : rows) {
      settings
          .computeIfAbsent(
              "%d images a class, %d passes of tuning a step, %d of fine-tuning"
                  .formatted(row.shots(), row.passes(), row.finetunePasses()),
              s -> new ArrayList<>())
          .add(row);
    }
    settings.forEach(
        (title, all) -> {
          Row any = all.getFirst();
          System.out.printf(
              Locale.ROOT,
              "%n### MobileNetV2 from ImageNet to CIFAR-10: %s%n%nDense: %s on %d test images%s."
                  + " Top-1, mean of draws (95 %% interval of one draw); number of draws where not"
                  + " 1; before the last tuning.%n%n",
              title,
              accuracy(mean(all, Row::dense), any.testImages()),
              any.testImages(),
              any.transferred() == null
                  ? ""
                  : String.format(
                      Locale.ROOT,
                      " (%.1f with the new classifier alone)",
                      100 * mean(all, Row::transferred)));
          Set<String> sparsities = new TreeSet<>();
          all.forEach(row -> sparsities.add(row.sparsity()));
          StringBuilder head = new StringBuilder("| method |");
          sparsities.forEach(
              s ->
                  head.append(
                      String.format(Locale.ROOT, " %.0f %% |", 100 * Double.parseDouble(s))));
          System.out.println(head);
          System.out.println("|---".repeat(sparsities.size() + 1) + "|");
          for (String method : METHODS.keySet()) {
            StringBuilder line = new StringBuilder("| " + method + " |");
            for (String sparsity : sparsities) {
              List<Row> cell =
                  all.stream()
                      .filter(r -> r.method().equals(method) && r.sparsity().equals(sparsity))
                      .toList();
              line.append(cell.isEmpty() ? " |" : " " + cell(cell) + " |");
            }
            System.out.println(line);
          }
        });
  }

  private static String cell(List<Row> rows) {
    return String.format(
        Locale.ROOT,
        "%s%s; %.1f",
        accuracy(mean(rows, Row::top1), rows.getFirst().testImages()),
        rows.size() == 1 ? "" : " (" + rows.size() + ")",
        100 * mean(rows, Row::untuned));
  }

  private static double mean(
      List<Row> rows, java.util.function.Function<Row, @Nullable Double> value) {
    return rows.stream()
        .map(value)
        .filter(v -> v != null)
        .mapToDouble(v -> v)
        .average()
        .orElse(Double.NaN);
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
