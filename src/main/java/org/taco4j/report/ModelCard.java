package org.taco4j.report;

import java.util.Locale;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.Notice;

/**
 * The model card: what the specialist is, how good, and how to feed it, for whoever gets the file.
 */
final class ModelCard {
  /** Of five classes, top-5 is always right. */
  private static final int FIVE = 5;

  private ModelCard() {}

  static String of(RunReport report) {
    StringBuilder card = new StringBuilder();
    RunReport.Task task = report.task();
    card.append("# Specialist for ")
        .append(task.classes().size())
        .append(" classes\n\nMade by taco4j ")
        .append(report.tool().version())
        .append(" from `")
        .append(report.model().file())
        .append("` (sha256 `")
        .append(report.model().sha256())
        .append("`), ")
        .append(percent(report.sparsity()))
        .append(" of its prunable weights removed on ")
        .append(task.calibrationImages())
        .append(" images.");
    if (report.tuning() != null) {
      card.append(' ').append(tuning(report.tuning(), report.untuned()));
    }
    if (report.transfer() != null) {
      card.append(' ').append(transfer(report.transfer(), task.calibrationImages()));
    }
    card.append("\n\n## Accuracy and speed\n\n| | dense | specialist |\n|---|---|---|\n");
    row(card, "top-1", accuracy(report.dense()), accuracy(report.compressed()));
    if (task.classes().size() > FIVE) {
      row(card, "top-5", percent(report.dense().top5()), percent(report.compressed().top5()));
    }
    row(
        card,
        "non-zero weights",
        String.format(Locale.ROOT, "%,d", report.dense().nonZeroWeights()),
        String.format(Locale.ROOT, "%,d", report.compressed().nonZeroWeights()));
    row(
        card,
        "file, compressed with gzip",
        megabytes(report.dense().gzipBytes()),
        megabytes(report.compressed().gzipBytes()));
    RunReport.Latency latency = report.latency();
    boolean forTensorRt = Method.isForTensorRt(report);
    row(
        card,
        "latency p50"
            + (forTensorRt ? " in ONNX Runtime on the CPU" : "")
            + ", batch "
            + latency.batch()
            + ", "
            + latency.threads()
            + " threads",
        millis(latency.dense().p50Millis()),
        millis(latency.compressed().p50Millis()));
    card.append("\nTop-1 over the task's classes on ")
        .append(report.compressed().images())
        .append(
            " test images, with 95 % intervals (Wilson). Both models were measured in one run; the")
        .append(" latency of the dense model over the specialist's is ")
        .append(
            String.format(
                Locale.ROOT,
                "%.2f (5th to 95th percentile over pairs: %.2f to %.2f).%n",
                latency.ratio(),
                latency.ratioLow(),
                latency.ratioHigh()))
        .append(
            forTensorRt
                ? "The model is written for NVIDIA's TensorRT, and these times are ONNX Runtime's on"
                    + " the CPU, which multiplies zeros: they say nothing about its speed there."
                    + " `taco bench model.onnx --against DENSE --runtime tensorrt` measures it, on a"
                    + " machine with TensorRT. Of zeros, sparse tensor cores skip those of the"
                    + " pattern 2:4, in fp16 and int8.\n"
                : Method.hasSparseOperators(report)
                    ? "Layers are sparse operators, which skip zeros in ONNX Runtime with taco4j's operator"
                        + " library; without it the model computes the same, densely.\n"
                    : "ONNX Runtime multiplies zeros like any other number: zeros make the file smaller,"
                        + " not faster.\n");
    if (report.ptc() != null) {
      ptc(card, report.ptc());
    }
    card.append("\n## Input\n\n")
        .append(task.preprocessing())
        .append(
            ". The same contract is in the model's metadata under `taco4j.preprocessing`.\n\n## Outputs\n\n")
        .append(
            isNew(report)
                ? "| output | class |\n|---|---|\n"
                : "| output | class | output of the dense model |\n|---|---|---|\n");
    for (int i = 0; i < task.classes().size(); i++) {
      card.append("| ")
          .append(i)
          .append(" | ")
          .append(task.classes().get(i).replace("|", "\\|"))
          .append(isNew(report) ? "" : " | " + task.modelIndices().get(i))
          .append(" |\n");
    }
    card.append(
            "\n## Limits\n\nThe specialist tells these classes apart and nothing else: an image of")
        .append(
            " something else gets one of them. It was calibrated on few images of the task; test it")
        .append(" on your own before you rely on it.\n");
    if (!report.notices().isEmpty()) {
      card.append("\n## Not done as asked, or worth knowing\n\n");
      for (Notice notice : report.notices()) {
        card.append("- ")
            .append(notice.subject())
            .append(": ")
            .append(notice.message())
            .append("\n");
      }
    }
    return card.toString();
  }

  private static String tuning(RunReport.Tuning tuning, RunReport.@Nullable TopOne untuned) {
    if (tuning.bestPass() == 0) {
      return String.format(
          Locale.ROOT,
          "Tuning (%s) was tried and not used: a trial on %d images held out was better without.",
          tuning.method(),
          tuning.heldOutImages());
    }
    return String.format(
        Locale.ROOT,
        "Tuned on them (%s, %d passes%s).",
        tuning.method(),
        tuning.bestPass(),
        untuned == null ? "" : "; before that top-1 was " + percent(untuned.top1()));
  }

  /** What was done to the dense model before. */
  private static String transfer(RunReport.Transfer transfer, int images) {
    StringBuilder text = new StringBuilder("\"Dense\" below is that model");
    if (transfer.classifier() != null) {
      text.append(" cut behind `")
          .append(transfer.classifier().features())
          .append("`, with a new classifier trained on the ")
          .append(images)
          .append(" images");
    }
    if (transfer.finetuning() != null) {
      text.append(transfer.classifier() == null ? "" : " and all of it")
          .append(" fine-tuned on them for ")
          .append(transfer.finetuning().bestPass())
          .append(" passes");
    }
    return text.append('.').toString();
  }

  /** Specialist and a copy compressed on generic images. */
  private static void ptc(StringBuilder card, RunReport.PtcComparison ptc) {
    card.append("\n## Task images against generic ones\n\nThe same compression on ")
        .append(ptc.images())
        .append(" generic images (PTC) instead of the task's (TACO); top-1:\n\n")
        .append("| | dense | TACO | PTC |\n|---|---|---|---|\n");
    versus(card, "the task, its classes competing", ptc.task());
    versus(card, "the task, all classes competing", ptc.taskFullHead());
    versus(card, "other classes", ptc.offTask());
  }

  private static void versus(StringBuilder card, String name, RunReport.@Nullable Versus versus) {
    if (versus != null) {
      card.append(
          "| %s | %s | %s | %s |\n"
              .formatted(
                  name,
                  percent(versus.dense().top1()),
                  percent(versus.taco().top1()),
                  percent(versus.ptc().top1())));
    }
  }

  /** Whether the outputs are of a new classifier, and none of the model that came in. */
  private static boolean isNew(RunReport report) {
    return report.transfer() != null && report.transfer().classifier() != null;
  }

  private static void row(StringBuilder card, String name, String dense, String compressed) {
    card.append("| ")
        .append(name)
        .append(" | ")
        .append(dense)
        .append(" | ")
        .append(compressed)
        .append(" |\n");
  }

  private static String accuracy(RunReport.ModelResult result) {
    if (result.top1() == null) {
      return "not measured";
    }
    return percent(result.top1())
        + " ("
        + percent(result.top1Low())
        + " to "
        + percent(result.top1High())
        + ")";
  }

  private static String percent(@Nullable Double fraction) {
    return fraction == null
        ? "not measured"
        : String.format(Locale.ROOT, "%.1f %%", 100 * fraction);
  }

  private static String megabytes(long bytes) {
    return String.format(Locale.ROOT, "%.2f MB", bytes / 1e6);
  }

  private static String millis(double millis) {
    return String.format(Locale.ROOT, "%.2f ms", millis);
  }
}
