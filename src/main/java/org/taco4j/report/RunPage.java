package org.taco4j.report;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/** {@code report.html}: what {@code report.json} says, for people. */
final class RunPage {
  /** Classes from which on a matrix is no longer readable, and the most confused pairs are. */
  private static final int MOST_IN_MATRIX = 30;

  private static final int MOST_PAIRS = 15;

  /** Scores worth a line of their own: of five classes, top-5 is always right. */
  private static final int TOP_FIVE = 5;

  /** Classes from which on snippets read the names from the model instead of listing them. */
  private static final int NAMES_IN_SNIPPET = 20;

  /**
   * An example image.
   *
   * @param image data URI; null where its file is missing
   */
  public record Example(
      @Nullable String image,
      String file,
      String actual,
      String dense,
      double denseProbability,
      boolean isDenseRight,
      String compressed,
      double compressedProbability,
      boolean isCompressedRight) {}

  /** A row of a confusion matrix: counts of what images of one class were taken for. */
  public record MatrixRow(String name, int total, List<Integer> counts) {}

  /** The confusion matrix of one model. */
  public record Matrix(String model, List<MatrixRow> rows) {}

  /** Two classes that were confused. */
  public record Pair(String actual, String predicted, int dense, int compressed) {}

  /** Layers that stay dense for one reason. */
  public record DenseLayers(String reason, long parameters, List<String> names) {}

  private RunPage() {}

  /**
   * The page.
   *
   * @param folder the run folder, where thumbnails are
   */
  static String of(RunReport report, Path folder) {
    Map<String, Object> values = new HashMap<>();
    values.put("r", report);
    values.put("modelName", fileName(report.model().file()));
    values.put("method", Method.of(report));
    values.put("verdict", Verdict.of(report));
    values.put("asked", AskedAndDone.of(report));
    values.put("notices", NoticeGroups.of(report));
    values.put("denseLayers", denseLayers(report));
    values.put("charts", Charts.of(report));
    Charts.Chart ptc = Charts.ptc(report.ptc());
    if (ptc != null) {
      values.put("ptcChart", ptc);
    }
    values.put("hasTopFive", report.task().classes().size() > TOP_FIVE);
    values.put("hasNamesInSnippet", report.task().classes().size() <= NAMES_IN_SNIPPET);
    RunReport.Predictions predictions = report.predictions();
    if (predictions != null) {
      values.put("examples", examples(report, predictions, folder));
      if (report.task().classes().size() <= MOST_IN_MATRIX) {
        values.put(
            "matrices",
            List.of(
                matrix("dense", report, predictions.dense()),
                matrix("specialist", report, predictions.compressed())));
      } else {
        values.put("pairs", pairs(report, predictions));
      }
    }
    values.put("hasSparseOperators", Method.hasSparseOperators(report));
    values.put("forTensorRt", Method.isForTensorRt(report));
    values.put(
        "operators",
        // Those of integers have no times, and a table of their own.
        report.layers().stream()
            .filter(layer -> layer.operator() != null && report.activations() == null)
            .toList());
    return HtmlPages.fill("run.ftlh", values);
  }

  static String fileName(String path) {
    return path.substring(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1);
  }

  private static List<DenseLayers> denseLayers(RunReport report) {
    Map<String, List<RunReport.LayerReport>> byReason = new LinkedHashMap<>();
    for (RunReport.LayerReport layer : report.layers()) {
      if (layer.whyDense() != null) {
        byReason.computeIfAbsent(layer.whyDense(), reason -> new ArrayList<>()).add(layer);
      }
    }
    List<DenseLayers> groups = new ArrayList<>();
    byReason.forEach(
        (reason, layers) ->
            groups.add(
                new DenseLayers(
                    reason,
                    layers.stream().mapToLong(RunReport.LayerReport::parameters).sum(),
                    layers.stream().map(RunReport.LayerReport::name).toList())));
    return groups;
  }

  private static List<Example> examples(
      RunReport report, RunReport.Predictions predictions, Path folder) {
    List<String> classes = report.task().classes();
    List<Example> examples = new ArrayList<>();
    for (RunReport.Example example : predictions.examples()) {
      examples.add(
          new Example(
              dataUri(folder, example.thumbnail()),
              example.file(),
              classes.get(example.actual()),
              classes.get(example.dense().predicted()),
              example.dense().probability(),
              example.dense().predicted() == example.actual(),
              classes.get(example.compressed().predicted()),
              example.compressed().probability(),
              example.compressed().predicted() == example.actual()));
    }
    return examples;
  }

  /** A JPEG of the folder as a data URI; null where it is not there. */
  private static @Nullable String dataUri(Path folder, String name) {
    Path file = folder.resolve(name).normalize();
    if (!file.startsWith(folder.normalize()) || !Files.isRegularFile(file)) {
      return null;
    }
    try {
      return "data:image/jpeg;base64,"
          + Base64.getEncoder().encodeToString(Files.readAllBytes(file));
    } catch (IOException e) {
      return null; // The page says so in its place.
    }
  }

  private static Matrix matrix(String model, RunReport report, List<RunReport.Confusion> cells) {
    int classes = report.task().classes().size();
    int[][] counts = new int[classes][classes];
    cells.forEach(cell -> counts[cell.actual()][cell.predicted()] += cell.count());
    List<MatrixRow> rows = new ArrayList<>();
    for (int actual = 0; actual < classes; actual++) {
      List<Integer> row = new ArrayList<>();
      int total = 0;
      for (int count : counts[actual]) {
        row.add(count);
        total += count;
      }
      rows.add(new MatrixRow(report.task().classes().get(actual), total, row));
    }
    return new Matrix(model, rows);
  }

  /** The pairs that the specialist confuses most, then those of the dense model. */
  private static List<Pair> pairs(RunReport report, RunReport.Predictions predictions) {
    Map<List<Integer>, int[]> counts = new LinkedHashMap<>();
    count(predictions.dense(), 0, counts);
    count(predictions.compressed(), 1, counts);
    List<String> classes = report.task().classes();
    return counts.entrySet().stream()
        .map(
            entry ->
                new Pair(
                    classes.get(entry.getKey().getFirst()),
                    classes.get(entry.getKey().getLast()),
                    entry.getValue()[0],
                    entry.getValue()[1]))
        .sorted(
            Comparator.comparingInt((Pair pair) -> -pair.compressed())
                .thenComparingInt(pair -> -pair.dense())
                .thenComparing(Pair::actual)
                .thenComparing(Pair::predicted))
        .limit(MOST_PAIRS)
        .toList();
  }

  private static void count(
      List<RunReport.Confusion> cells, int model, Map<List<Integer>, int[]> counts) {
    for (RunReport.Confusion cell : cells) {
      if (cell.actual() != cell.predicted()) {
        int[] both =
            counts.computeIfAbsent(List.of(cell.actual(), cell.predicted()), k -> new int[2]);
        Objects.requireNonNull(both)[model] += cell.count();
      }
    }
  }
}
