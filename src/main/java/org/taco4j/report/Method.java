package org.taco4j.report;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import org.taco4j.onnx.Operators;

/** How a run compressed, in a few words, read off its recipe. */
final class Method {
  private static final Map<String, String> SOLVERS =
      Map.of(
          "hybrid", "hybrid",
          "obc", "OBC",
          "fast", "FastOBC",
          "adaprune", "AdaPrune",
          "ziplm", "ZipLM",
          "gptq", "GPTQ",
          "wanda", "Wanda",
          "magnitude", "magnitude");

  private Method() {}

  /** Whether layers of the model that was written are sparse operators. */
  static boolean hasSparseOperators(RunReport report) {
    return report.layers().stream()
        .map(RunReport.LayerReport::operator)
        .map(operator -> operator == null ? null : operator.name())
        .anyMatch(name -> name != null && name.startsWith(Operators.SPARSE_DOMAIN + "."));
  }

  /** Whether the model was written for TensorRT, which no run measures in. */
  static boolean isForTensorRt(RunReport report) {
    return option(report, "runtime", "").equals("tensorrt");
  }

  /** An option of the recipe as text; what it does not say is {@code otherwise}. */
  static String option(RunReport report, String name, String otherwise) {
    Object value = report.recipe().get(name);
    return value == null ? otherwise : String.valueOf(value);
  }

  /** Whether the recipe has no single weights removed: only units, or only bits. */
  static boolean keepsWeights(RunReport report) {
    return option(report, "pattern", "").matches("unstructured:0(\\.0*)?")
        && report.recipe().get("layers") == null;
  }

  /** What solved the layers; where only units were removed, that is not the recipe's solver. */
  private static String solver(RunReport report) {
    String asked = option(report, "solver", "hybrid");
    if (keepsWeights(report)
        && report.recipe().get("structured") != null
        && report.recipe().get("bits") == null) {
      for (RunReport.LayerReport layer : report.layers()) {
        if (layer.solver() != null) {
          return layer.solver();
        }
      }
    }
    return asked;
  }

  /** Without tuning: a solver's name, how it went over the graph, and what was removed. */
  static String untuned(RunReport report) {
    List<String> words = new ArrayList<>();
    String solver = solver(report);
    String name = SOLVERS.getOrDefault(solver, solver);
    boolean isSequential = option(report, "reconstruct", "").equals("sequential");
    if (isSequential) {
      words.add(solver.equals("hybrid") ? "sequential" : "sequential " + name);
    } else {
      words.add("layer-wise " + name);
    }
    String schedule = option(report, "schedule", "one-shot");
    if (!schedule.equals("one-shot")) {
      words.add(schedule + " schedule");
    }
    String pattern = option(report, "pattern", "unstructured");
    if (!pattern.startsWith("unstructured") && !pattern.matches("\\d.*")) {
      words.add(pattern.replaceFirst(":.*", ""));
    } else if (pattern.matches("\\d+:\\d+")) {
      words.add(pattern);
    }
    if (report.recipe().get("structured") != null) {
      words.add("units removed");
    }
    if (report.recipe().get("bits") != null) {
      words.add(option(report, "bits", "") + " bits");
    }
    return String.join(", ", words);
  }

  /** Whether tuning made the result. */
  static boolean isTuned(RunReport report) {
    return report.tuning() != null && report.tuning().bestPass() > 0;
  }

  /** All of it, such as {@code sequential + taco-tmlr}. */
  static String of(RunReport report) {
    return isTuned(report)
        ? untuned(report) + " + " + Objects.requireNonNull(report.tuning()).method()
        : untuned(report);
  }

  /** What was asked for, whether or not tuning made the result. */
  static String asked(RunReport report) {
    String tune = option(report, "tune", "none");
    return tune.equals("none") ? untuned(report) : untuned(report) + " + " + tune;
  }

  /** A fraction with as many digits as it needs: 60 %, 94.97 %. */
  static String percent(double fraction) {
    String text = String.format(Locale.ROOT, "%.1f", 100 * fraction);
    return text.replaceFirst("\\.0$", "") + " %";
  }
}
