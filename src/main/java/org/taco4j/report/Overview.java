package org.taco4j.report;

import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.TacoException;

/**
 * Several runs side by side: a page with a table, and the chart of accuracy against sparsity. Runs
 * of another dense model or task, or measured on other images, stand apart.
 */
public final class Overview {
  private static final String TITLE = "Runs compared";

  /**
   * A run.
   *
   * @param link to its own page, relative to this one
   */
  public record Row(String name, String link, String method, RunReport r) {}

  /**
   * Runs that can be compared.
   *
   * @param classes as many of their names as fit into a line
   * @param chart SVG for phones and paper; null where nothing was measured
   * @param wideChart the same for screens
   */
  public record Group(
      String model,
      int count,
      String classes,
      RunReport first,
      List<Row> rows,
      @Nullable String chart,
      @Nullable String wideChart) {}

  /** A run folder and what it says. */
  private record Run(Path folder, RunReport report) {}

  private final List<Run> runs;

  private Overview(List<Path> folders) {
    if (folders.isEmpty()) {
      throw TacoException.usage("an overview needs at least one run folder");
    }
    runs = folders.stream().map(folder -> new Run(folder, ReportFiles.read(folder))).toList();
  }

  /**
   * Reads run folders.
   *
   * @throws TacoException as {@link ReportFiles#read}
   */
  public static Overview of(List<Path> folders) {
    return new Overview(folders);
  }

  /** The run folders directly in a folder, by name. */
  public static List<Path> runsIn(Path folder) {
    try (var files = Files.newDirectoryStream(folder)) {
      return StreamSupport.stream(files.spliterator(), false)
          .filter(file -> !file.getFileName().toString().startsWith("."))
          .filter(ReportFiles::isRun)
          .sorted()
          .toList();
    } catch (java.io.IOException e) {
      throw new TacoException(
          TacoException.Kind.RUNTIME, folder + ": cannot be read: " + e.getMessage(), e);
    }
  }

  /**
   * Writes the page, and the page of each run that has none yet.
   *
   * @param title of the page; null for a plain one
   * @param introduction a paragraph under it; null for none
   */
  public void write(Path file, @Nullable String title, @Nullable String introduction) {
    for (Run run : runs) {
      if (!Files.exists(run.folder().resolve(ReportFiles.PAGE))) {
        ReportFiles.writePage(run.folder());
      }
    }
    Map<String, Object> values = new HashMap<>();
    values.put("title", title == null ? TITLE : title);
    if (introduction != null) {
      values.put("introduction", introduction);
    }
    List<Group> groups = new ArrayList<>();
    for (List<Run> group : comparable()) {
      groups.add(group(group, groups.size(), file));
    }
    values.put("groups", groups);
    String page = HtmlPages.fill("overview.ftlh", values);
    AtomicFiles.writeString(file, page);
  }

  /**
   * Writes the chart of accuracy against sparsity as an SVG file of its own, light and dark.
   *
   * @throws TacoException of kind DATA where the runs cannot be compared, or nothing was measured
   */
  public void writeChart(Path file) {
    List<List<Run>> groups = comparable();
    if (groups.size() > 1) {
      throw TacoException.data(
          "the runs are of "
              + groups.size()
              + " different dense models or tasks: one chart cannot hold them");
    }
    String chart = chart(groups.getFirst(), "accuracy", true);
    if (chart == null) {
      throw TacoException.data("none of the runs has test images: there is no accuracy to draw");
    }
    AtomicFiles.writeString(file, HtmlPages.standalone(chart));
  }

  private List<List<Run>> comparable() {
    Map<List<Object>, List<Run>> groups = new LinkedHashMap<>();
    for (Run run : runs) {
      RunReport report = run.report();
      List<Object> key = new ArrayList<>();
      key.add(report.model().sha256());
      key.add(report.task().classes());
      key.add(report.task().preprocessing());
      key.add(report.dense().images());
      key.add(String.valueOf(report.dense().top1()));
      groups.computeIfAbsent(key, k -> new ArrayList<>()).add(run);
    }
    return List.copyOf(groups.values());
  }

  private static Group group(List<Run> group, int index, Path file) {
    RunReport first = group.getFirst().report();
    Map<Path, String> names = names(group);
    return new Group(
        RunPage.fileName(first.model().file()),
        first.task().classes().size(),
        first.task().classes().stream().limit(8).collect(Collectors.joining(", "))
            + (first.task().classes().size() > 8 ? ", …" : ""),
        first,
        group.stream()
            .map(
                run ->
                    new Row(
                        Objects.requireNonNull(names.get(run.folder())),
                        link(file, run.folder()),
                        Method.of(run.report()),
                        run.report()))
            .toList(),
        chart(group, "accuracy" + index, false),
        chart(group, "wide" + index, true));
  }

  /** Names of folders, with those of their parents where they would be the same. */
  private static Map<Path, String> names(List<Run> group) {
    Map<Path, String> names = new LinkedHashMap<>();
    for (Run run : group) {
      names.put(run.folder(), name(run.folder(), 1));
    }
    if (new LinkedHashSet<>(names.values()).size() < names.size()) {
      names.replaceAll((folder, name) -> name(folder, 2));
    }
    return names;
  }

  private static String name(Path folder, int parts) {
    Path path = folder.toAbsolutePath().normalize();
    int names = path.getNameCount();
    return path.subpath(Math.max(0, names - parts), names).toString();
  }

  private static String link(Path page, Path run) {
    Path from = Objects.requireNonNull(page.toAbsolutePath().normalize().getParent());
    Path to = run.toAbsolutePath().normalize().resolve(ReportFiles.PAGE);
    return StreamSupport.stream(from.relativize(to).spliterator(), false)
        .map(part -> URLEncoder.encode(part.toString(), StandardCharsets.UTF_8).replace("+", "%20"))
        .collect(Collectors.joining("/"));
  }

  private static @Nullable String chart(List<Run> group, String id, boolean isWide) {
    LinkedHashSet<Charts.Point> points = new LinkedHashSet<>();
    LinkedHashSet<Double> dense = new LinkedHashSet<>();
    for (Run run : group) {
      RunReport report = run.report();
      RunReport.TopOne top1 = report.compressed().accuracy();
      if (top1 == null) {
        continue;
      }
      if (report.dense().top1() != null) {
        dense.add(report.dense().top1());
      }
      // Where tuning was asked for and not used, its line goes on with the untuned model.
      String method = Method.asked(report);
      RunReport.TopOne untuned = report.untuned() == null ? top1 : report.untuned();
      points.add(point(Method.untuned(report), report.sparsity(), untuned));
      points.add(point(method, report.sparsity(), top1));
      if (report.ptc() != null) {
        points.add(point("PTC, " + method, report.sparsity(), report.ptc().task().ptc()));
      }
    }
    return points.isEmpty()
        ? null
        : Charts.accuracy(List.copyOf(points), List.copyOf(dense), id, isWide);
  }

  private static Charts.Point point(String line, double sparsity, RunReport.TopOne top1) {
    return new Charts.Point(line, sparsity, top1.top1(), top1.top1Low(), top1.top1High());
  }
}
