package org.taco4j.report;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.taco4j.common.Notice;

/** Reports made up for tests: one with all there can be, one without all that may be missing. */
public final class Reports {
  /** What a file or class may be called, at worst. */
  static final String NASTY = "<b>&\"' ü";

  /** A layer's name in an exporter's style, at worst. */
  static final String LONG =
      "/model/encoder/layers.11/attention/self/query/MatMul_with_a_name_that_goes_on_and_on";

  static final int LAYERS = 120;

  private Reports() {}

  static RunReport full(int classes) {
    RunReport.TopOne top1 = new RunReport.TopOne(0.875, 0.83, 0.91, 240);
    RunReport.Versus versus = new RunReport.Versus(top1, top1, top1);
    RunReport.Losses losses = new RunReport.Losses(2.5, 1, 1, 0.5, 0.75, 0.25);
    List<RunReport.TunePass> passes =
        List.of(
            new RunReport.TunePass(0, null, null, losses),
            new RunReport.TunePass(1, 3e-4, losses, losses),
            new RunReport.TunePass(2, 1e-4, losses, losses));
    RunReport.Tuning tuning =
        new RunReport.Tuning(
            "taco-tmlr",
            2,
            2,
            "finished",
            40,
            10,
            4711,
            List.of("features"),
            1.5,
            passes,
            passes,
            null);
    List<RunReport.Confusion> confusion = new ArrayList<>();
    for (int i = 0; i < classes; i++) {
      confusion.add(new RunReport.Confusion(i, i, 50));
      confusion.add(new RunReport.Confusion(i, (i + 1) % classes, 3));
    }
    return new RunReport(
        RunReport.SCHEMA_VERSION,
        new RunReport.Tool("taco4j", "1.0", "1.29.0"),
        new RunReport.Model("models/" + NASTY + ".onnx", "0123abcd", 17, 1000, 3),
        new RunReport.Task(
            IntStream.range(0, classes).mapToObj(i -> NASTY + i).toList(),
            IntStream.range(0, classes).boxed().toList(),
            40,
            20,
            240,
            "4567",
            "short side to 37 (bilinear), centre crop 32x32"),
        new RunReport.ModelResult(
            0.95, 0.92, 0.97, 0.99, 240, 3_400_000, 3_100_000, 848_560, 125_000_000),
        new RunReport.ModelResult(
            0.875, 0.83, 0.91, 0.98, 240, 3_400_000, 260_000, 42_649, 125_000_000),
        0.9497,
        new RunReport.Latency(
            new RunReport.ModelLatency(1.2, 1.3, 1.4),
            new RunReport.ModelLatency(1.1, 1.2, 1.3),
            1.09,
            0.95,
            1.2,
            1.1,
            1000,
            1,
            1),
        new RunReport.Seconds(1, 2, 3, 4, 5, 15),
        top1,
        tuning,
        new RunReport.Transfer(
            new RunReport.NewClassifier("features", 64, true, 100, 0.1, 1), top1, tuning),
        List.of(
            new RunReport.Step(1, 0.5, 0.1, 0.9, 0.95, tuning),
            new RunReport.Step(2, 0.75, 0.2, 0.7, 0.9, tuning)),
        new RunReport.PtcComparison(
            "generic " + NASTY, 40, "89", versus, versus, versus, tuning, 9),
        List.of(new RunReport.StructureReport(LONG, "mlp", "next", 768, 384, 0.1, 0.2, 0.01, 1)),
        List.of(new RunReport.StructureLeft(LONG, "several layers read it")),
        layers(),
        new RunReport.Activations(
            8,
            "mse",
            0.03,
            top1,
            1.3,
            List.of(new RunReport.ActivationRange(LONG, -1, 9.5f, 0, 6, 6f / 255, 0, 0.001)),
            List.of(
                new RunReport.IntegerLayer(LONG, "taco4j.SparseQLinearConv", false, null),
                new RunReport.IntegerLayer("stem", "QLinearConv", true, null),
                new RunReport.IntegerLayer(NASTY, null, false, "left " + NASTY))),
        List.of(
            new Notice("image-skipped", "a/" + NASTY + ".jpg", "unreadable " + NASTY, 1),
            new Notice("image-skipped", "a/second.jpg", "unreadable, too", 1),
            new Notice("extra-damping", LONG, "needed a damping of 0.1", 0.1),
            new Notice("dead-columns", "model", "17 inputs never change", 17),
            new Notice("a-code-of-tomorrow", "model", "something new", 1)),
        new RunReport.Machine("Linux", "a processor", 2, 1L << 34, "25", "simd"),
        new RunReport.Contract(
            "input",
            List.of(-1L, 3L, 32L, 32L),
            "logits",
            32,
            32,
            "37",
            32,
            "bilinear",
            List.of(0.485f, 0.456f, 0.406f),
            List.of(0.229f, 0.224f, 0.225f),
            "rgb",
            "nchw"),
        new RunReport.Predictions(
            200,
            25,
            5,
            10,
            confusion,
            confusion,
            List.of(
                new RunReport.Example(
                    NASTY + "/a.jpg",
                    "examples/01.jpg",
                    0,
                    new RunReport.Guess(0, 0.99),
                    new RunReport.Guess(1, 0.6)),
                new RunReport.Example(
                    "b.jpg",
                    "examples/02.jpg",
                    1,
                    new RunReport.Guess(1, 1),
                    new RunReport.Guess(1, 0.8)))),
        recipe());
  }

  private static List<RunReport.LayerReport> layers() {
    List<RunReport.LayerReport> layers = new ArrayList<>();
    RunReport.Search search = new RunReport.Search(10, 1, 2, 0.2, 0.1, 0.5, "no move left");
    for (int i = 1; i < LAYERS; i++) {
      layers.add(
          new RunReport.LayerReport(
              LONG + i,
              "MatMul",
              64,
              576,
              1,
              36_864,
              1_000_000,
              "obc",
              "unstructured:0.95",
              0.95,
              0.001 * i,
              0.002 * i,
              0.01,
              i % 3,
              0.25,
              search,
              null,
              new RunReport.Operator("taco4j.SparseMatMul", 0.25, 0.125, null)));
    }
    layers.add(
        new RunReport.LayerReport(
            "depthwise " + NASTY,
            "Conv",
            64,
            9,
            64,
            576,
            1000,
            null,
            null,
            0,
            null,
            null,
            null,
            0,
            0,
            null,
            "depthwise " + NASTY,
            new RunReport.Operator(null, null, null, "no operator " + NASTY)));
    return layers;
  }

  private static Map<String, Object> recipe() {
    Map<String, Object> recipe = new LinkedHashMap<>();
    recipe.put("model", "models/" + NASTY + ".onnx");
    recipe.put("classes", List.of(NASTY, "b"));
    recipe.put("shots", 10);
    recipe.put("solver", "hybrid");
    recipe.put("pattern", "unstructured:0.95");
    recipe.put("structured", 0.5);
    recipe.put("bits", 8);
    recipe.put("act-order", true);
    recipe.put("reconstruct", "sequential");
    recipe.put("tune", "taco-tmlr");
    recipe.put("tune-passes", 2);
    recipe.put("schedule", "gradual");
    recipe.put("finetune-passes", 2);
    recipe.put("compare-ptc", "generic " + NASTY);
    recipe.put("layers", List.of(Map.of("match", "*conv1*", "sparsity", 0.3)));
    return recipe;
  }

  /** Nothing that may be null or empty is there. */
  static RunReport bare() {
    RunReport full = full(2);
    RunReport.ModelResult unmeasured =
        new RunReport.ModelResult(null, null, null, null, 0, 3_400_000, 3_100_000, 800, 0);
    RunReport.LayerReport layer =
        new RunReport.LayerReport(
            "only", "Conv", 4, 9, 1, 36, 0, null, null, 0, null, null, null, 0, 0, null, "dense",
            null);
    return new RunReport(
        full.schemaVersion(),
        full.tool(),
        full.model(),
        new RunReport.Task(List.of("a", "b"), List.of(0, 1), 2, 0, 0, "", "as they are"),
        unmeasured,
        unmeasured,
        0,
        full.latency(),
        full.seconds(),
        null,
        null,
        null,
        List.of(),
        null,
        List.of(),
        List.of(),
        List.of(layer),
        null,
        List.of(),
        full.machine(),
        null,
        null,
        Map.of());
  }

  /** A bare report of a specialist for these classes that is fed in this way. */
  public static RunReport of(List<String> classes, RunReport.Contract contract) {
    RunReport bare = bare();
    return new RunReport(
        bare.schemaVersion(),
        bare.tool(),
        bare.model(),
        new RunReport.Task(
            classes,
            IntStream.range(0, classes.size()).boxed().toList(),
            2,
            0,
            0,
            "",
            "as they are"),
        bare.dense(),
        bare.compressed(),
        0,
        bare.latency(),
        bare.seconds(),
        null,
        null,
        null,
        List.of(),
        null,
        List.of(),
        List.of(),
        bare.layers(),
        null,
        List.of(),
        bare.machine(),
        contract,
        null,
        Map.of());
  }

  /** A bare report with these layers and notices. */
  static RunReport with(
      List<RunReport.LayerReport> layers, List<Notice> notices, Map<String, Object> recipe) {
    RunReport bare = bare();
    return new RunReport(
        bare.schemaVersion(),
        bare.tool(),
        bare.model(),
        bare.task(),
        bare.dense(),
        bare.compressed(),
        0.5,
        bare.latency(),
        bare.seconds(),
        null,
        null,
        null,
        List.of(),
        null,
        List.of(),
        List.of(),
        layers,
        null,
        notices,
        bare.machine(),
        null,
        null,
        recipe);
  }

  /** A plain report of a method at a sparsity, to be compared with others. */
  static RunReport at(double sparsity, double top1, Map<String, Object> recipe, String model) {
    RunReport bare = bare();
    RunReport.ModelResult dense =
        new RunReport.ModelResult(0.95, 0.92, 0.97, 1.0, 240, 3_400_000, 3_100_000, 848_560, 1000);
    return new RunReport(
        bare.schemaVersion(),
        bare.tool(),
        new RunReport.Model(model, model, 17, 1000, 0),
        bare.task(),
        dense,
        new RunReport.ModelResult(
            top1, top1 - 0.04, top1 + 0.03, 1.0, 240, 3_400_000, 260_000, 42_649, 1000),
        sparsity,
        bare.latency(),
        bare.seconds(),
        null,
        null,
        null,
        List.of(),
        null,
        List.of(),
        List.of(),
        bare.layers(),
        null,
        List.of(),
        bare.machine(),
        null,
        null,
        recipe);
  }
}
