package org.taco4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import org.taco4j.Taco;
import org.taco4j.report.ReportFiles;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code taco inspect}. */
@Command(
    name = "inspect",
    description = "List a model's layers: shapes, weights, MACs, zeros, and what can be pruned.",
    mixinStandardHelpOptions = true,
    footer = {"", "Example:", "  ${ROOT-COMMAND-NAME} inspect model.onnx"})
final class InspectCommand implements Callable<Integer> {
  @Parameters(index = "0", paramLabel = "MODEL", description = "an ONNX file")
  @Nullable Path model;

  @Option(names = "--json", description = "print the result as JSON to standard output")
  boolean json;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    PrintWriter out = Objects.requireNonNull(spec).commandLine().getOut();
    Taco.Inspection inspection = Taco.inspect(Objects.requireNonNull(model));
    if (json) {
      out.print(ReportFiles.toJson(inspection));
    } else {
      print(inspection, out);
    }
    out.flush();
    return 0;
  }

  private static void print(Taco.Inspection inspection, PrintWriter out) {
    inspection
        .inputs()
        .forEach(i -> out.printf("input   %s %s %s%n", i.name(), i.elementType(), i.shape()));
    inspection
        .outputs()
        .forEach(o -> out.printf("output  %s %s %s%n", o.name(), o.elementType(), o.shape()));
    out.printf("opset   %d%n", inspection.opset());
    int width = inspection.layers().stream().mapToInt(l -> l.name().length()).max().orElse(4);
    int operators = inspection.layers().stream().mapToInt(l -> l.opType().length()).max().orElse(7);
    String format =
        "%-" + Math.max(width, 5) + "s %-" + Math.max(operators, 7) + "s %14s %11s %13s %9s  %s%n";
    out.println();
    out.printf(format, "layer", "op", "rows x cols", "weights", "MACs", "sparsity", "");
    for (Taco.InspectedLayer layer : inspection.layers()) {
      String shape =
          layer.rows() + " x " + layer.cols() + (layer.groups() > 1 ? " /" + layer.groups() : "");
      out.printf(
          format,
          layer.name(),
          layer.opType(),
          shape,
          String.format(Locale.ROOT, "%,d", layer.parameters()),
          String.format(Locale.ROOT, "%,d", layer.macs()),
          String.format(Locale.ROOT, "%.1f %%", 100 * layer.sparsity()),
          layer.whyNotPrunable() == null ? "" : "not prunable: " + layer.whyNotPrunable());
    }
    inspection
        .skipped()
        .forEach(
            s -> out.printf("%s (%s) stays as it is: %s%n", s.name(), s.operator(), s.reason()));
    out.printf(
        Locale.ROOT,
        "%n%d layers, %,d weights, %,d MACs an image, %.1f %% of the weights of prunable or rewritten layers are zero%n",
        inspection.layers().size(),
        inspection.parameters(),
        inspection.macs(),
        100 * inspection.sparsity());
  }
}
