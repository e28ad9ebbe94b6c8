package org.taco4j.cli;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import org.taco4j.Taco;
import org.taco4j.common.TacoException;
import org.taco4j.report.Overview;
import org.taco4j.report.ReportFiles;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code taco report}. */
@Command(
    name = "report",
    description = {
      "Write the page of a run again from its report.json, or one page over several runs.",
      "",
      "RUN is a folder that specialize wrote: its report.html is written again. A folder that holds"
          + " such folders gets a report.html with a table of all and the chart of accuracy"
          + " against sparsity."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ${ROOT-COMMAND-NAME} report specialist",
      "  ${ROOT-COMMAND-NAME} report runs",
      "  ${ROOT-COMMAND-NAME} report runs/60 runs/80 runs/90 --out compared.html"
    })
final class ReportCommand implements Callable<Integer> {
  private static final String OVERVIEW = "report.html";

  @Parameters(
      arity = "1..*",
      paramLabel = "RUN",
      description = "run folders, or one folder of them")
  @Nullable List<Path> folders;

  @Option(
      names = "--out",
      paramLabel = "FILE",
      description = "the page to write (report.html in the folder)")
  @Nullable Path out;

  @Option(names = "--title", paramLabel = "TEXT", description = "the title of an overview")
  @Nullable String title;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  @Override
  public Integer call() {
    CommandLine commandLine = Objects.requireNonNull(spec).commandLine();
    commandLine.getOut().println(write(Objects.requireNonNull(folders)));
    commandLine.getOut().flush();
    return 0;
  }

  private Path write(List<Path> given) {
    Path first = given.getFirst();
    if (given.size() > 1) {
      if (out == null) {
        throw TacoException.usage(
            "one page over several runs needs a place: add --out compared.html");
      }
      Taco.overview(given, out, title, null);
      return out;
    }
    if (ReportFiles.isRun(first) || !Files.isDirectory(first)) {
      Path page = out == null ? first.resolve(ReportFiles.PAGE) : out;
      Taco.report(first, page);
      return page;
    }
    List<Path> runs = Overview.runsIn(first);
    if (runs.isEmpty()) {
      throw TacoException.usage(
          first
              + ": neither a run folder nor a folder of them: there is no report.json; give the"
              + " folder that `taco specialize --out` wrote");
    }
    Path page = out == null ? first.resolve(OVERVIEW) : out;
    Taco.overview(runs, page, title, null);
    return page;
  }
}
