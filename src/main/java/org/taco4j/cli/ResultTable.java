package org.taco4j.cli;

import java.io.PrintWriter;
import java.util.Locale;
import org.jspecify.annotations.Nullable;
import org.taco4j.report.RunReport;
import org.taco4j.report.Verdict;

/** What a run ends with: dense against compressed, and what changed. */
final class ResultTable {
  private static final String BETTER = "green";
  private static final String WORSE = "red";

  /** In a ratio of latencies, less is noise. */
  private static final double NOTABLE = 0.05;

  private final PrintWriter to;
  private final Terminal.Stream stream;

  ResultTable(PrintWriter to, Terminal.Stream stream) {
    this.to = to;
    this.stream = stream;
  }

  void print(RunReport report) {
    RunReport.ModelResult dense = report.dense();
    RunReport.ModelResult compressed = report.compressed();
    to.println();
    to.println(
        Terminal.styled(stream, "bold", "%-18s %22s %22s".formatted("", "dense", "compressed")));
    row("top-1", accuracy(dense), accuracy(compressed), accuracyChange(dense, compressed));
    if (report.tuning() != null && report.untuned() != null) {
      row("before tuning", "", percent(report.untuned().top1()), "");
    }
    if (report.ptc() != null) {
      row("PTC, not TACO", "", percent(report.ptc().task().ptc().top1()), "");
    }
    row(
        "non-zero weights",
        number("%,d", dense.nonZeroWeights()),
        number("%,d", compressed.nonZeroWeights()),
        styled(BETTER, number("(%.1f %% sparse)", 100 * report.sparsity())));
    double size = (double) compressed.gzipBytes() / dense.gzipBytes() - 1;
    row(
        "file",
        number("%.2f MB", dense.bytes() / 1e6),
        number("%.2f MB", compressed.bytes() / 1e6),
        "");
    row(
        "gzipped file",
        number("%.2f MB", dense.gzipBytes() / 1e6),
        number("%.2f MB", compressed.gzipBytes() / 1e6),
        styled(size < 0 ? BETTER : WORSE, number("(%+.0f %%)", 100 * size)));
    RunReport.Latency latency = report.latency();
    String times = number("(%.2fx", latency.ratio());
    boolean elsewhere = Verdict.isTimedElsewhere(report);
    row(
        "latency p50",
        number("%.2f ms", latency.dense().p50Millis()),
        number("%.2f ms", latency.compressed().p50Millis()),
        styled(elsewhere ? null : style(latency), times)
            + String.format(
                Locale.ROOT,
                "; 5th to 95th percentile %.2f to %.2f%s%s)",
                latency.ratioLow(),
                latency.ratioHigh(),
                noise(latency),
                elsewhere ? "; in ONNX Runtime on the CPU" : ""));
    for (String sentence : Verdict.of(report)) {
      to.println();
      to.println(Terminal.styled(stream, "yellow", "note:") + " " + sentence);
    }
    to.flush();
  }

  private static @Nullable String style(RunReport.Latency latency) {
    return latency.ratio() > 1 + NOTABLE ? BETTER : latency.ratio() < 1 - NOTABLE ? WORSE : null;
  }

  /** What to make of a wide spread. */
  private static String noise(RunReport.Latency latency) {
    if (!latency.noisy()) {
      return "";
    }
    return latency.ratioOfFastest() == null
        ? ": too noisy to tell"
        : String.format(
            Locale.ROOT, ": noisy; %.2fx by the fastest runs", latency.ratioOfFastest());
  }

  private void row(String name, String dense, String compressed, String change) {
    to.println("%-18s %22s %22s   %s".formatted(name, dense, compressed, change).stripTrailing());
  }

  private String styled(@Nullable String style, String text) {
    return style == null ? text : Terminal.styled(stream, style, text);
  }

  private static String number(String format, Object value) {
    return String.format(Locale.ROOT, format, value);
  }

  private static String percent(double fraction) {
    return number("%.1f %%", 100 * fraction);
  }

  /** In points; coloured where it lies outside the dense model's interval. */
  private String accuracyChange(RunReport.ModelResult dense, RunReport.ModelResult compressed) {
    RunReport.TopOne before = dense.accuracy();
    RunReport.TopOne after = compressed.accuracy();
    if (before == null || after == null) {
      return "";
    }
    String style =
        after.top1() < before.top1Low() ? WORSE : after.top1() > before.top1High() ? BETTER : null;
    return styled(style, number("(%+.1f points)", 100 * (after.top1() - before.top1())));
  }

  private static String accuracy(RunReport.ModelResult result) {
    RunReport.TopOne top1 = result.accuracy();
    return top1 == null
        ? "not measured"
        : String.format(
            Locale.ROOT,
            "%.1f %% (%.1f to %.1f)",
            100 * top1.top1(),
            100 * top1.top1Low(),
            100 * top1.top1High());
  }
}
