package org.taco4j.cli;

import java.util.List;
import org.jspecify.annotations.Nullable;
import org.taco4j.Taco;
import org.taco4j.common.TacoException;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;

/** The command {@code taco}. */
@Command(
    name = "taco",
    description = "Turns a big, general vision model into a small, fast specialist.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    synopsisSubcommandLabel = "COMMAND",
    subcommands = {
      SpecializeCommand.class,
      EvalCommand.class,
      BenchCommand.class,
      InspectCommand.class,
      DoctorCommand.class,
    },
    footer = {
      "",
      "Exit codes: 0 ok, 2 usage, 3 model or operator, 4 data or preprocessing, 5 numerical result",
      "refused, 6 accuracy gate missed, 7 runtime or device unavailable, 130 interrupted."
    })
public final class Main implements Runnable {
  /** Exit code for what nobody foresaw: a bug. */
  private static final int INTERNAL_ERROR = 1;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  private Main() {}

  /** Runs the command line and ends the process with its exit code. */
  public static void main(String[] args) {
    System.exit(run(args));
  }

  /** Runs the command line and returns its exit code. */
  static int run(String... args) {
    return new CommandLine(new Main())
        .setCaseInsensitiveEnumValuesAllowed(true)
        .setUsageHelpWidth(100)
        .setExecutionExceptionHandler(Main::report)
        .execute(args);
  }

  @Override
  public void run() {
    throw new CommandLine.ParameterException(
        java.util.Objects.requireNonNull(spec).commandLine(), "name a command");
  }

  private static int report(
      Exception exception, CommandLine commandLine, CommandLine.ParseResult parsed) {
    if (exception instanceof TacoException e) {
      commandLine.getErr().println("taco: " + e.getMessage());
      return e.kind().exitCode();
    }
    commandLine.getErr().println("taco: internal error, please report it:");
    exception.printStackTrace(commandLine.getErr());
    return INTERNAL_ERROR;
  }

  /** The version of the library. */
  static final class Version implements IVersionProvider {
    @Override
    public String[] getVersion() {
      return List.of("taco4j " + Taco.version()).toArray(String[]::new);
    }
  }
}
