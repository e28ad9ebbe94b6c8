package org.taco4j.report;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** What a person should take from a run's numbers where they are not good, and what to try next. */
public final class Verdict {
  private Verdict() {}

  /** A sentence for each thing; empty where there is nothing to say. */
  public static List<String> of(RunReport report) {
    List<String> sentences = new ArrayList<>();
    RunReport.TopOne dense = report.dense().accuracy();
    RunReport.TopOne compressed = report.compressed().accuracy();
    RunReport.TopOne untuned = report.untuned();
    if (untuned != null && compressed != null && compressed.top1() < untuned.top1()) {
      sentences.add(
          String.format(
              Locale.ROOT,
              "Tuning cost %.1f points on the test images (%.1f %% before it): --tune none, or more"
                  + " images to tune on.",
              points(untuned.top1() - compressed.top1()),
              points(untuned.top1())));
    }
    if (dense != null && compressed != null && compressed.top1High() < dense.top1Low()) {
      sentences.add(
          String.format(
              Locale.ROOT,
              "Compression cost %.1f points, more than chance explains: try a lower --sparsity,"
                  + " more --shots%s.",
              points(dense.top1() - compressed.top1()),
              report.tuning() == null ? ", or --tune taco-tmlr" : ""));
    }
    if (report.compressed().gzipBytes() > report.dense().gzipBytes()) {
      sentences.add(
          "The file is larger than the dense one through gzip: the dense weights compress better"
              + " than usual, as weights that were once quantised do, and pruning changes those that"
              + " stay. --bits 8 makes it small.");
    }
    if (isTimedElsewhere(report)) {
      sentences.add(
          "Latencies are those of ONNX Runtime on the CPU, and say nothing about TensorRT, which the"
              + " model is for: measure there, on a machine with it, with taco bench model.onnx"
              + " --against DENSE --runtime tensorrt.");
    }
    return sentences;
  }

  /** Whether the latencies are of another runtime than the model was written for. */
  public static boolean isTimedElsewhere(RunReport report) {
    return Method.isForTensorRt(report);
  }

  private static double points(double fraction) {
    return 100 * fraction;
  }
}
