package org.taco4j.report;

import java.lang.reflect.RecordComponent;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Finds in a report that was read what no run writes, and no page can be made of. */
final class ReportCheck {
  private final List<String> problems = new ArrayList<>();

  private ReportCheck() {}

  /** What is wrong, each with where it stands; empty for a sound report. */
  static List<String> problems(RunReport report) {
    ReportCheck check = new ReportCheck();
    check.parts("", report);
    if (check.problems.isEmpty()) {
      check.sizes(report);
      check.accuracies(report);
      check.classes(report);
    }
    return check.problems;
  }

  /** All that a record does not declare nullable has to be there. */
  private void parts(String path, @Nullable Object value) {
    if (value == null) {
      problems.add(path + " is missing");
    } else if (value instanceof List<?> list) {
      for (int i = 0; i < list.size(); i++) {
        parts(path + "[" + i + "]", list.get(i));
      }
    } else if (value instanceof Map<?, ?> map) {
      map.forEach((key, part) -> parts(path + "." + key, part));
    } else if (value instanceof Record) {
      for (RecordComponent component : value.getClass().getRecordComponents()) {
        Object part = part(value, component);
        if (part != null || !component.getAnnotatedType().isAnnotationPresent(Nullable.class)) {
          parts(path.isEmpty() ? component.getName() : path + "." + component.getName(), part);
        }
      }
    }
  }

  private static @Nullable Object part(Object owner, RecordComponent component) {
    try {
      return component.getAccessor().invoke(owner);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException(e); // The report's records are public.
    }
  }

  /** Pages divide by them. */
  private void sizes(RunReport report) {
    if (report.dense().bytes() <= 0 || report.dense().gzipBytes() <= 0) {
      problems.add("dense has no bytes or gzipBytes");
    }
    if (report.compressed().bytes() <= 0 || report.compressed().gzipBytes() <= 0) {
      problems.add("compressed has no bytes or gzipBytes");
    }
  }

  /** Both models were measured, or none, and with the interval. */
  private void accuracies(RunReport report) {
    RunReport.ModelResult dense = report.dense();
    RunReport.ModelResult compressed = report.compressed();
    boolean isMeasured = compressed.top1() != null;
    if ((dense.accuracy() != null) != isMeasured || (compressed.accuracy() != null) != isMeasured) {
      problems.add("top1, top1Low and top1High are not those of both models");
    }
    if ((dense.top5() != null) != (compressed.top5() != null)) {
      problems.add("top5 is of one model only");
    }
  }

  /** Predictions are of the task's classes. */
  private void classes(RunReport report) {
    RunReport.Predictions predictions = report.predictions();
    if (predictions == null) {
      return;
    }
    int classes = report.task().classes().size();
    confusion("predictions.dense", predictions.dense(), classes);
    confusion("predictions.compressed", predictions.compressed(), classes);
    List<RunReport.Example> examples = predictions.examples();
    for (int i = 0; i < examples.size(); i++) {
      String path = "predictions.examples[" + i + "].";
      RunReport.Example example = examples.get(i);
      index(path + "actual", example.actual(), classes);
      index(path + "dense.predicted", example.dense().predicted(), classes);
      index(path + "compressed.predicted", example.compressed().predicted(), classes);
    }
  }

  private void confusion(String path, List<RunReport.Confusion> cells, int classes) {
    for (int i = 0; i < cells.size(); i++) {
      index(path + "[" + i + "].actual", cells.get(i).actual(), classes);
      index(path + "[" + i + "].predicted", cells.get(i).predicted(), classes);
    }
  }

  private void index(String path, int index, int classes) {
    if (index < 0 || index >= classes) {
      problems.add(path + " is " + index + ", of " + classes + " classes");
    }
  }
}
