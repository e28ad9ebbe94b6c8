package org.taco4j.cli;

import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.taco4j.demo.Demo;
import org.taco4j.demo.Family;
import org.taco4j.report.RunReport;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** {@code taco demo}. */
@Command(
    name = "demo",
    description =
        "Show what taco does: draw pictures, specialise a small embedded model to one family of"
            + " them at 80, 90 and 95 %% sparsity, and compare the ways to do it. Takes one to three"
            + " minutes and needs nothing but this command.",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {"", "Example:", "  ${ROOT-COMMAND-NAME} demo --family vehicles --out vehicles-demo"})
final class DemoCommand implements Callable<Integer> {
  @Option(
      names = {"-o", "--out"},
      paramLabel = "DIR",
      description =
          "folder to write: pictures, models, a report for each run and one over all"
              + " (taco-demo)")
  Path out = Path.of("taco-demo");

  @Option(
      names = "--overwrite",
      description = "replace what an earlier demo, finished or not, has written there")
  boolean overwrite;

  @Option(
      names = "--family",
      paramLabel = "NAME",
      description = "what to specialise to: ${COMPLETION-CANDIDATES} (${DEFAULT-VALUE})")
  Family family = Family.ANIMALS;

  @Option(names = "--seed", paramLabel = "N", description = "seed of the pictures and runs (0)")
  long seed;

  @Option(names = "--threads", paramLabel = "N", description = "threads (all processors)")
  int threads = Runtime.getRuntime().availableProcessors();

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    CommandLine commandLine = Objects.requireNonNull(spec).commandLine();
    PrintWriter err = commandLine.getErr();
    err.printf(
        "taco demo: a small general model becomes a specialist of %s, in one to three minutes%n",
        family);
    err.flush();
    Demo.Result result;
    try (ConsoleProgress progress = new ConsoleProgress(err)) {
      result = Demo.run(new Demo.Request(out, overwrite, family, seed, threads), progress);
    }
    print(result, commandLine.getOut());
    return 0;
  }

  private void print(Demo.Result result, PrintWriter out) {
    List<Demo.Specialists> all = result.specialists();
    RunReport any = all.getFirst().sequential();
    out.printf(
        Locale.ROOT,
        "%nSpecialists of %s, %d classes, from %d pictures; top-1 on %d new pictures, with 95 %%"
            + " intervals%n%n",
        family,
        any.task().classes().size(),
        any.task().calibrationImages(),
        any.task().testImages());
    out.printf("%-34s", "weights removed");
    all.forEach(s -> out.printf(Locale.ROOT, "%21.0f %%", 100 * s.sparsity()));
    out.println();
    row(out, "dense", all, s -> accuracy(s.dense()));
    row(out, "layer by layer (SparseGPT)", all, s -> accuracy(s.layerByLayer()));
    row(out, "sequentially (taco's default)", all, s -> accuracy(s.untuned()));
    row(out, "and tuned", all, s -> accuracy(s.tuned()));
    row(out, "the same on generic pictures (PTC)", all, s -> accuracy(s.ptc()));
    row(
        out,
        "gzipped file",
        all,
        s ->
            String.format(
                Locale.ROOT,
                "%.2f of %.2f MB",
                s.sequential().compressed().gzipBytes() / 1e6,
                s.sequential().dense().gzipBytes() / 1e6));
    out.printf(
        Locale.ROOT,
        "%nIn %.0f s. Report: %s%n%nNow a model of your own, and a folder of images for each class:"
            + "%n  %s specialize model.onnx --data images --shots 10 --sparsity 0.6 --out"
            + " specialist%n",
        result.seconds(),
        result.page(),
        Terminal.command());
    out.flush();
  }

  /** A line of the table, with a column for each sparsity. */
  private static void row(
      PrintWriter out,
      String name,
      List<Demo.Specialists> all,
      Function<Demo.Specialists, String> cell) {
    out.printf("%-34s", name);
    all.forEach(s -> out.printf("%23s", cell.apply(s)));
    out.println();
  }

  private static String accuracy(RunReport.TopOne top1) {
    return String.format(
        Locale.ROOT,
        "%.1f (%.1f to %.1f)",
        100 * top1.top1(),
        100 * top1.top1Low(),
        100 * top1.top1High());
  }
}
