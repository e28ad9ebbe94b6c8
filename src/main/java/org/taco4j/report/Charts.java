package org.taco4j.report;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.ToDoubleFunction;
import org.jspecify.annotations.Nullable;

/** The charts of the pages. Laid out for a phone; on larger screens they grow. */
final class Charts {
  /** Fits a phone of 360 pixels with text at full size, or nearly so. */
  private static final Plot.Size NARROW = new Plot.Size(400, 250);

  private static final Plot.Size WIDE = new Plot.Size(720, 400);

  /** From this ratio between largest and smallest error on, the axis is logarithmic. */
  private static final double LOGARITHMIC_FROM = 20;

  private static final double PERCENT = 100;

  /**
   * How far above a line its name stands, in parts of the axis: half a line of text, so more in the
   * lower chart.
   */
  private static final double ABOVE_LINE = 0.08;

  private static final double ABOVE_LINE_WIDE = 0.03;

  /** Numbers from here on are no result, but what is left of a computation that failed. */
  private static final double BEYOND = 1e15;

  private Charts() {}

  /** A chart and what stands above it. */
  public record Chart(String title, String svg, String note) {}

  /**
   * A point of accuracy against sparsity.
   *
   * @param line which it is on
   */
  record Point(String line, double sparsity, double top1, double low, double high) {}

  /** All charts of a run for which it has numbers. */
  static List<Chart> of(RunReport report) {
    List<Chart> charts = new ArrayList<>();
    steps(report, charts);
    layers(report, charts);
    tuning(report.tuning(), "Tuning", "tune", charts);
    if (report.transfer() != null) {
      tuning(report.transfer().finetuning(), "Fine-tuning of the dense model", "fine", charts);
    }
    return charts;
  }

  /** Rows of a table with a column for a series: what Lets-Plot reads. */
  private static final class Table {
    private final List<Object> x = new ArrayList<>();
    private final List<Object> y = new ArrayList<>();
    private final List<Object> series = new ArrayList<>();
    private final List<String> names = new ArrayList<>();
    private double least = Double.POSITIVE_INFINITY;
    private double most;

    /** Leaves out what was not measured, and what no axis can hold. */
    void put(String name, double at, @Nullable Double value) {
      if (value == null || !(Math.abs(value) < BEYOND)) {
        return;
      }
      if (!names.contains(name)) {
        names.add(name);
      }
      x.add(at);
      y.add(value);
      series.add(name);
      if (value > 0) {
        least = Math.min(least, value);
        most = Math.max(most, value);
      }
    }

    boolean isEmpty() {
      return x.isEmpty();
    }

    Map<String, Object> data() {
      return Plot.map("x", x, "y", y, "series", series);
    }

    List<String> colours() {
      return colourOf(names.size());
    }

    /** Options of an axis for positive numbers: logarithmic where they differ much. */
    Object[] axis() {
      return most > LOGARITHMIC_FROM * least && !y.contains(0.0)
          ? new Object[] {"trans", "log10", "expand", List.of(0.06, 0)}
          : new Object[0];
    }
  }

  private static List<String> colourOf(int lines) {
    List<String> colours = new ArrayList<>();
    for (int i = 0; i < lines; i++) {
      colours.add(Plot.COLOURS.get(i % Plot.COLOURS.size()));
    }
    return colours;
  }

  private static String lines(Table table, String id, String xName, String yName, Object... axis) {
    return points(
        new Plot()
            .layer(
                "line", table.data(), Plot.map("x", "x", "y", "y", "color", "series"), "size", 1),
        table,
        id,
        xName,
        yName,
        axis);
  }

  private static String points(
      Plot plot, Table table, String id, String xName, String yName, Object... axis) {
    return plot.layer(
            "point", table.data(), Plot.map("x", "x", "y", "y", "color", "series"), "size", 2.5)
        .colours("color", table.names, table.colours())
        .scale("x", xName, "expand", List.of(0.04, 0))
        .scale("y", yName, axis)
        .svg(id, NARROW, yName + " against " + xName + ": " + String.join(", ", table.names));
  }

  private static void steps(RunReport report, List<Chart> charts) {
    Table table = new Table();
    for (RunReport.Step step : report.steps()) {
      table.put("pruned", PERCENT * step.sparsity(), percent(step.prunedTop1()));
      table.put("then tuned", PERCENT * step.sparsity(), percent(step.tunedTop1()));
    }
    if (report.steps().size() > 1 && !table.isEmpty()) {
      charts.add(
          new Chart(
              "Accuracy against sparsity, step by step",
              lines(table, "steps", "sparsity of the pruned layers, %", "top-1, %"),
              "On the calibration images, which the steps have seen: the course, not the worth."));
    }
  }

  private static void layers(RunReport report, List<Chart> charts) {
    List<RunReport.LayerReport> layers = report.layers();
    Table errors = new Table();
    for (int i = 0; i < layers.size(); i++) {
      errors.put("calibration images", i + 1.0, layers.get(i).layerError());
      errors.put("held-out images", i + 1.0, layers.get(i).heldOutError());
    }
    if (!errors.isEmpty()) {
      charts.add(
          new Chart(
              "Error of each layer",
              points(new Plot(), errors, "errors", "layer", "layer-wise error", errors.axis()),
              "Relative to the layer's output; before the correction of channels and tuning."));
    }
    if (!layers.isEmpty()) {
      charts.add(
          new Chart(
              "Sparsity of each layer",
              bars(
                  layers,
                  "sparsity",
                  "zero or gone, %",
                  List.of("sparsity"),
                  List.of(layer -> PERCENT * layer.sparsity()),
                  List.of(Plot.COLOURS.getFirst())),
              ""));
      charts.add(
          new Chart(
              "Where the weights went",
              bars(
                  layers,
                  "weights",
                  "weights",
                  List.of("kept", "removed"),
                  List.of(
                      layer -> layer.parameters() * (1 - layer.sparsity()),
                      layer -> layer.parameters() * layer.sparsity()),
                  List.of(Plot.COLOURS.getFirst(), Plot.FAINT)),
              ""));
    }
  }

  /** A bar for each layer, stacked from parts, the first at the bottom. */
  private static String bars(
      List<RunReport.LayerReport> layers,
      String id,
      String yName,
      List<String> parts,
      List<ToDoubleFunction<RunReport.LayerReport>> values,
      List<String> colours) {
    List<Object> x = new ArrayList<>();
    List<Object> y = new ArrayList<>();
    List<Object> part = new ArrayList<>();
    for (int i = 0; i < layers.size(); i++) {
      for (int p = 0; p < parts.size(); p++) {
        x.add(i + 1.0);
        y.add(values.get(p).applyAsDouble(layers.get(i)));
        part.add(parts.get(p));
      }
    }
    return new Plot()
        .layer(
            "bar",
            Plot.map("x", x, "y", y, "part", part),
            Plot.map("x", "x", "y", "y", "fill", "part"),
            "stat",
            "identity",
            "size",
            0,
            "width",
            0.8)
        .colours("fill", parts, colours)
        .scale("x", "layer")
        .scale("y", yName)
        .svg(id, NARROW, yName + " of each layer");
  }

  private static void tuning(
      RunReport.@Nullable Tuning tuning, String title, String id, List<Chart> charts) {
    if (tuning == null) {
      return;
    }
    Table losses = new Table();
    Table distances = new Table();
    curve(tuning.curve(), "", losses, distances);
    curve(tuning.trial(), "trial, ", losses, distances);
    if (!losses.isEmpty()) {
      charts.add(
          new Chart(
              title + ": loss",
              lines(losses, id + "-loss", "pass", "loss", losses.axis()),
              tuning.trial().isEmpty()
                  ? ""
                  : "The trial was compressed and tuned without the images held out."));
    }
    // Without the dense model as the teacher it is nowhere measured: all zeros.
    if (!distances.isEmpty() && distances.most > 0) {
      charts.add(
          new Chart(
              title + ": distance to the dense model",
              lines(distances, id + "-distance", "pass", "total variation"),
              tuning.trial().isEmpty() ? "" : "Its least on held-out images chooses the pass."));
    }
  }

  private static void curve(
      List<RunReport.TunePass> passes, String prefix, Table losses, Table distances) {
    for (RunReport.TunePass pass : passes) {
      if (pass.train() != null) {
        losses.put(prefix + "training images", pass.pass(), pass.train().loss());
        distances.put(prefix + "training images", pass.pass(), pass.train().distance());
      }
      if (pass.heldOut() != null) {
        losses.put(prefix + "held-out images", pass.pass(), pass.heldOut().loss());
        distances.put(prefix + "held-out images", pass.pass(), pass.heldOut().distance());
      }
    }
  }

  /** TACO beside PTC with intervals; null where nothing was compared. */
  static @Nullable Chart ptc(RunReport.@Nullable PtcComparison ptc) {
    if (ptc == null) {
      return null;
    }
    List<String> models = List.of("dense", "TACO", "PTC");
    List<Object> where = new ArrayList<>();
    List<Object> model = new ArrayList<>();
    List<Object> top1 = new ArrayList<>();
    List<Object> low = new ArrayList<>();
    List<Object> high = new ArrayList<>();
    List<String> places = List.of("task", "all classes", "off the task");
    List<RunReport.@Nullable Versus> rows =
        Arrays.asList(ptc.task(), ptc.taskFullHead(), ptc.offTask());
    for (int i = 0; i < rows.size(); i++) {
      RunReport.Versus row = rows.get(i);
      if (row == null || row.dense().images() == 0) {
        continue;
      }
      List<RunReport.TopOne> values = List.of(row.dense(), row.taco(), row.ptc());
      for (int m = 0; m < values.size(); m++) {
        where.add(places.get(i));
        model.add(models.get(m));
        top1.add(PERCENT * values.get(m).top1());
        low.add(PERCENT * values.get(m).top1Low());
        high.add(PERCENT * values.get(m).top1High());
      }
    }
    if (where.isEmpty()) {
      return null;
    }
    Map<String, Object> data =
        Plot.map("where", where, "model", model, "top1", top1, "low", low, "high", high);
    Map<String, Object> dodge = Plot.map("name", "dodge", "width", 0.8);
    String svg =
        new Plot()
            .layer(
                "bar",
                data,
                Plot.map("x", "where", "y", "top1", "fill", "model"),
                "stat",
                "identity",
                "size",
                0,
                "width",
                0.7,
                "position",
                dodge)
            .layer(
                "errorbar",
                data,
                Plot.map("x", "where", "ymin", "low", "ymax", "high", "group", "model"),
                "width",
                0.2,
                "show_legend",
                false,
                "color",
                "#1f2328",
                "position",
                dodge)
            .colours(
                "fill", models, List.of(Plot.GREY, Plot.COLOURS.getFirst(), Plot.COLOURS.get(1)))
            .scale("x", "", "discrete", true)
            .scale("y", "top-1, %")
            .svg("ptc", NARROW, "top-1 of the dense model, TACO and PTC");
    return new Chart("TACO against PTC", svg, "With 95 % intervals.");
  }

  /**
   * Accuracy against sparsity over several runs, with intervals.
   *
   * @param dense top-1 of the dense models
   * @param isWide for a page of its own, not for a phone
   */
  static String accuracy(List<Point> points, List<Double> dense, String id, boolean isWide) {
    List<String> names = points.stream().map(Point::line).distinct().toList();
    List<Object> line = new ArrayList<>();
    List<Object> x = new ArrayList<>();
    List<Object> y = new ArrayList<>();
    List<Object> low = new ArrayList<>();
    List<Object> high = new ArrayList<>();
    for (Point point : points) {
      line.add(point.line());
      x.add(PERCENT * point.sparsity());
      y.add(PERCENT * point.top1());
      low.add(PERCENT * point.low());
      high.add(PERCENT * point.high());
    }
    Map<String, Object> data = Plot.map("line", line, "x", x, "y", y, "low", low, "high", high);
    double span =
        PERCENT
            * (points.stream().mapToDouble(Point::sparsity).max().orElse(1)
                - points.stream().mapToDouble(Point::sparsity).min().orElse(0));
    // A little aside, so that intervals at one sparsity do not cover each other.
    Map<String, Object> dodge = Plot.map("name", "dodge", "width", Math.max(span, 1) * 0.015);
    double lowest = points.stream().mapToDouble(Point::low).min().orElse(0);
    double highest = points.stream().mapToDouble(Point::high).max().orElse(1);
    Plot plot = new Plot();
    for (Double level : dense) {
      double range = Math.max(highest, level) - Math.min(lowest, level);
      plot.layer(
          "hline",
          null,
          Plot.map(),
          "yintercept",
          PERCENT * level,
          "linetype",
          "dashed",
          "color",
          Plot.GREY);
      plot.layer(
          "text",
          null,
          Plot.map(),
          "label",
          "dense",
          "x",
          PERCENT * points.stream().mapToDouble(Point::sparsity).max().orElse(0),
          "y",
          PERCENT * (level + (isWide ? ABOVE_LINE_WIDE : ABOVE_LINE) * range),
          "hjust",
          1,
          "vjust",
          0,
          "color",
          Plot.GREY);
    }
    plot.layer(
            "errorbar",
            data,
            Plot.map("x", "x", "ymin", "low", "ymax", "high", "color", "line"),
            "width",
            0,
            "show_legend",
            false,
            "size",
            0.7,
            "position",
            dodge)
        .layer(
            "line",
            data,
            Plot.map("x", "x", "y", "y", "color", "line"),
            "size",
            1,
            "position",
            dodge)
        .layer(
            "point",
            data,
            Plot.map("x", "x", "y", "y", "color", "line"),
            "size",
            3,
            "position",
            dodge)
        .colours("color", names, colourOf(names.size()))
        .scale("x", "sparsity, %")
        .scale("y", "top-1, %");
    return plot.svg(
        id, isWide ? WIDE : NARROW, "top-1 against sparsity: " + String.join(", ", names));
  }

  private static @Nullable Double percent(@Nullable Double fraction) {
    return fraction == null ? null : Double.valueOf(PERCENT * Objects.requireNonNull(fraction));
  }
}
