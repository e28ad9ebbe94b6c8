package org.taco4j.cli;

import java.util.List;
import java.util.Objects;
import org.jline.utils.Signals;
import org.jspecify.annotations.Nullable;
import org.taco4j.Taco;
import org.taco4j.common.TacoException;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;

/** The command {@code taco}. */
@Command(
    name = "taco",
    description = "Turns a big, general vision model into a small specialist.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    synopsisSubcommandLabel = "COMMAND",
    subcommands = {
      SpecializeCommand.class,
      EvalCommand.class,
      BenchCommand.class,
      DemoCommand.class,
      InspectCommand.class,
      SolveCommand.class,
      DoctorCommand.class,
      CommandLine.HelpCommand.class,
    },
    footer = {
      "",
      "Exit codes: 0 ok, 2 usage, 3 model or operator, 4 data or preprocessing, 5 numerical result",
      "refused, 7 runtime or device unavailable, 130 interrupted (143 terminated),",
      "1 internal error: a bug, please report it."
    })
public final class Main implements Runnable {
  /** Exit code for what nobody foresaw: a bug. */
  private static final int INTERNAL_ERROR = 1;

  /** As shells have it: 128 and the signal's number. */
  private static final int INTERRUPTED = 130;

  private static final int TERMINATED = 143;

  @CommandLine.Spec private CommandLine.Model.@Nullable CommandSpec spec;

  private Main() {}

  /** Runs the command line and ends the process with its exit code. */
  public static void main(String[] args) {
    if (System.getProperty("java.util.logging.config.file") == null) {
      // One line a message, without time and class.
      System.setProperty("java.util.logging.SimpleFormatter.format", "%5$s%6$s%n");
    }
    endOn("INT");
    endOn("TERM");
    System.exit(run(args));
  }

  /**
   * Ends the process at a signal, without the shutdown hook of ONNX Runtime: it takes down the
   * library while other threads are in it, and the process crashes.
   */
  private static void endOn(String signal) {
    Signals.register(
        signal,
        () -> {
          System.err.println();
          System.err.println("taco: interrupted");
          Taco.interruptRuns();
          Runtime.getRuntime().halt(signal.equals("INT") ? INTERRUPTED : TERMINATED);
        });
  }

  /** Runs the command line and returns its exit code. */
  static int run(String... args) {
    CommandLine commandLine =
        new CommandLine(new Main())
            .setCaseInsensitiveEnumValuesAllowed(true)
            .setUsageHelpWidth(100)
            .setParameterExceptionHandler(Main::reportUsage)
            .setExecutionExceptionHandler(Main::report);
    try {
      return commandLine.execute(args);
    } catch (OutOfMemoryError e) {
      commandLine.getErr().println("taco: " + outOfMemory(e));
      return TacoException.Kind.RUNTIME.exitCode();
    }
  }

  private static String outOfMemory(OutOfMemoryError error) {
    return "out of memory ("
        + error.getMessage()
        + ") with a heap of at most "
        + (Runtime.getRuntime().maxMemory() >> 20)
        + " MiB: give the JVM more, such as TACO_JAVA_OPTS=-Xmx8g, or ask for less: a smaller"
        + " --memory, fewer --shots, fewer --threads";
  }

  @Override
  public void run() {
    CommandLine commandLine = Objects.requireNonNull(spec).commandLine();
    throw new CommandLine.ParameterException(
        commandLine, "name a command: " + String.join(", ", commandLine.getSubcommands().keySet()));
  }

  /** Says what is wrong with the arguments without burying it under the whole help. */
  private static int reportUsage(CommandLine.ParameterException exception, String[] arguments) {
    CommandLine commandLine = exception.getCommandLine();
    commandLine.getErr().println("taco: " + exception.getMessage());
    CommandLine.UnmatchedArgumentException.printSuggestions(exception, commandLine.getErr());
    commandLine
        .getErr()
        .println(
            "`" + commandLine.getCommandSpec().qualifiedName() + " --help` lists what there is");
    return TacoException.Kind.USAGE.exitCode();
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
