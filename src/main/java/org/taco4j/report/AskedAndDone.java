package org.taco4j.report;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/** What was asked and what was done, side by side, in plain words. */
final class AskedAndDone {
  /** Names in a sentence before it goes on with a number. */
  private static final int NAMES = 12;

  /** One line: a subject, what was asked of it, and what became of it. */
  public record Line(String subject, String asked, String done) {}

  private final RunReport report;
  private final List<Line> lines = new ArrayList<>();

  private AskedAndDone(RunReport report) {
    this.report = report;
  }

  static List<Line> of(RunReport report) {
    AskedAndDone all = new AskedAndDone(report);
    all.classes();
    all.images();
    all.transfer();
    all.units();
    all.weights();
    all.solver();
    all.schedule();
    all.tuning();
    all.runtime();
    all.packing();
    all.activations();
    all.ptc();
    return all.lines;
  }

  private String option(String name, String otherwise) {
    return Method.option(report, name, otherwise);
  }

  private void add(String subject, String asked, String done) {
    lines.add(new Line(subject, asked, done));
  }

  private void classes() {
    RunReport.Task task = report.task();
    String asked =
        report.recipe().get("classes") instanceof List<?> chosen
            ? chosen.size() + " of the data's classes"
            : "all classes of the data";
    String names = names(task.classes());
    add(
        "classes",
        asked,
        report.model().classes() == 0
            ? String.format(
                Locale.ROOT, "a new classifier for %d: %s", task.classes().size(), names)
            : String.format(
                Locale.ROOT,
                "%d of the model's %d: %s",
                task.classes().size(),
                report.model().classes(),
                names));
  }

  private static String names(List<String> all) {
    return all.size() <= NAMES
        ? String.join(", ", all)
        : String.join(", ", all.subList(0, NAMES)) + " and " + (all.size() - NAMES) + " more";
  }

  private void images() {
    RunReport.Task task = report.task();
    String shots = option("shots", "0");
    add(
        "images",
        shots.equals("0") ? "all there are to calibrate" : shots + " of each class to calibrate",
        String.format(
            Locale.ROOT,
            "%s to calibrate, %d held out, %s",
            task.calibrationImages(),
            task.heldOutImages(),
            task.testImages() == 0 ? "none to test" : task.testImages() + " to test"));
  }

  private void transfer() {
    RunReport.Transfer transfer = report.transfer();
    if (transfer == null) {
      return;
    }
    RunReport.NewClassifier classifier = transfer.classifier();
    if (classifier != null) {
      add(
          "new classifier",
          "behind " + classifier.features(),
          String.format(
              Locale.ROOT,
              "%d numbers of an image%s, %d passes; right on %s of the calibration images",
              classifier.dimension(),
              classifier.pooled() ? ", averaged over space or tokens" : "",
              classifier.passes(),
              Method.percent(classifier.trainAccuracy())));
    }
    if (transfer.finetuning() != null) {
      add(
          "fine-tuning of the dense model",
          option("finetune-passes", "?") + " passes",
          tuned(transfer.finetuning())
              + (transfer.beforeFinetuning() == null
                  ? ""
                  : "; top-1 was "
                      + Method.percent(transfer.beforeFinetuning().top1())
                      + " before"));
    }
  }

  private void units() {
    if (report.recipe().get("structured") == null) {
      return;
    }
    long units = report.structures().stream().mapToLong(RunReport.StructureReport::units).sum();
    long kept = report.structures().stream().mapToLong(RunReport.StructureReport::kept).sum();
    add(
        "hidden units",
        fraction(option("structured", "0")) + " of each dimension removed",
        String.format(
            Locale.ROOT,
            "%,d of %,d removed from %d dimensions; %d layers keep all their outputs",
            units - kept,
            units,
            report.structures().size(),
            report.structuresLeft().size()));
  }

  private static String fraction(String text) {
    try {
      return Method.percent(Double.parseDouble(text));
    } catch (NumberFormatException e) {
      return text;
    }
  }

  private void weights() {
    long pruned = report.layers().stream().filter(layer -> layer.solver() != null).count();
    String sparsity = option("sparsity", "");
    List<String> asked = new ArrayList<>();
    if (!Method.keepsWeights(report)) {
      asked.add("pattern " + option("pattern", "unstructured"));
      if (!sparsity.isEmpty()) {
        asked.add(fraction(sparsity));
      }
    }
    if (report.recipe().get("bits") != null) {
      asked.add(option("bits", "") + " bits");
    }
    add(
        "weights",
        asked.isEmpty() ? "nothing more" : String.join(", ", asked),
        String.format(
            Locale.ROOT,
            "%s of the weights in prunable layers are zero or gone; %d of %d layers were solved",
            Method.percent(report.sparsity()),
            pruned,
            report.layers().size()));
  }

  private void runtime() {
    List<RunReport.Operator> operators =
        report.layers().stream()
            .map(RunReport.LayerReport::operator)
            .filter(Objects::nonNull)
            .toList();
    if (operators.isEmpty()) {
      return;
    }
    long sparse = operators.stream().filter(operator -> operator.name() != null).count();
    add(
        "runtime",
        option("runtime", "onnxruntime"),
        String.format(
            Locale.ROOT,
            "%d of %d layers are sparse operators; elsewhere the file runs densely",
            sparse,
            operators.size()));
  }

  private void packing() {
    if (!option("pack-weights", "false").equals("true")) {
      return;
    }
    add(
        "file",
        "weights packed",
        report.notices().stream().anyMatch(notice -> notice.code().equals("weights-not-packed"))
            ? "too few zeros: weights stay as they are"
            : String.format(
                Locale.ROOT,
                "%.2f MB, where the dense model has %.2f; runtimes unpack it as they load it",
                report.compressed().bytes() / 1e6,
                report.dense().bytes() / 1e6));
  }

  private void solver() {
    Map<String, Integer> solvers = new LinkedHashMap<>();
    double low = Double.POSITIVE_INFINITY;
    double high = 0;
    for (RunReport.LayerReport layer : report.layers()) {
      if (layer.solver() != null) {
        solvers.merge(layer.solver(), 1, Integer::sum);
      }
      if (layer.damping() != null) {
        low = Math.min(low, layer.damping());
        high = Math.max(high, layer.damping());
      }
    }
    List<String> counts = new ArrayList<>();
    solvers.forEach(
        (name, count) -> counts.add(String.format(Locale.ROOT, "%s in %d layers", name, count)));
    String search = option("search", "none");
    add(
        "solver",
        option("solver", "hybrid")
            + ", "
            + option("reconstruct", "layerwise")
            + (search.equals("none") ? "" : ", search " + search),
        counts.isEmpty() ? "no layer was solved" : String.join(", ", counts));
    if (high > 0) {
      add(
          "damping",
          option("damping", "0.01"),
          low == high ? number(low) + " in every layer" : number(low) + " to " + number(high));
    }
  }

  private static String number(double value) {
    return String.format(Locale.ROOT, "%.4g", value)
        .replaceFirst("(\\.\\d*?)0+$", "$1")
        .replaceFirst("\\.$", "");
  }

  private void schedule() {
    if (!report.steps().isEmpty()) {
      add(
          "schedule",
          option("schedule", "?"),
          report.steps().size()
              + " steps, to "
              + Method.percent(report.steps().getLast().sparsity())
              + " of the pruned layers");
    }
  }

  private void tuning() {
    String asked = option("tune", "none");
    if (!asked.equals("none") || report.tuning() != null) {
      String passes = option("tune-passes", "");
      add(
          "tuning",
          asked + (passes.isEmpty() ? "" : ", " + passes + " passes"),
          report.steps().isEmpty()
              ? tuned(report.tuning())
              : "after each step; after the last: " + tuned(report.tuning()));
    }
  }

  private void activations() {
    RunReport.Activations activations = report.activations();
    if (activations == null) {
      return;
    }
    long integers = activations.layers().stream().filter(layer -> layer.operator() != null).count();
    add(
        "activations",
        activations.bits() + " bits, ranges by " + activations.range(),
        String.format(
            Locale.ROOT,
            "%d of %d layers multiply integers%s",
            integers,
            activations.layers().size(),
            activations.floatActivations() == null
                ? ""
                : "; top-1 with float activations is "
                    + Method.percent(activations.floatActivations().top1())));
  }

  private static String tuned(RunReport.@Nullable Tuning tuning) {
    if (tuning == null) {
      return "none";
    }
    if (tuning.failure() != null) {
      return String.format(
          Locale.ROOT, "stopped: %s; pass %d is the result", tuning.failure(), tuning.bestPass());
    }
    if (tuning.bestPass() == 0) {
      return "tried, and better without: the untuned model is the result";
    }
    return String.format(
        Locale.ROOT,
        "%d passes on %d images%s",
        tuning.bestPass(),
        tuning.trainImages(),
        tuning.heldOutImages() == 0
            ? ""
            : String.format(
                Locale.ROOT, ", as a trial on %d held-out images said", tuning.heldOutImages()));
  }

  private void ptc() {
    if (report.recipe().get("compare-ptc") != null) {
      add(
          "comparison",
          "PTC on " + option("compare-ptc", "?"),
          report.ptc() == null
              ? "none"
              : Objects.requireNonNull(report.ptc()).images() + " generic images");
    }
  }
}
