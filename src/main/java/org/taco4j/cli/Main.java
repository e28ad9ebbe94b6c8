package org.taco4j.cli;

import java.io.PrintWriter;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Optional;
import org.jline.utils.Signals;
import org.jspecify.annotations.Nullable;
import org.taco4j.Taco;
import org.taco4j.common.TacoException;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Help;
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
      ClassifyCommand.class,
      CheckCommand.class,
      ExportCommand.class,
      BenchCommand.class,
      DemoCommand.class,
      InspectCommand.class,
      SolveCommand.class,
      ReportCommand.class,
      RecipesCommand.class,
      DoctorCommand.class,
      CompletionCommand.class,
      CommandLine.HelpCommand.class,
    },
    footer = {
      "",
      "Examples:",
      "  ${ROOT-COMMAND-NAME} specialize model.onnx --data images --shots 10 --sparsity 0.6 --out"
          + " specialist",
      "  ${ROOT-COMMAND-NAME} eval specialist/model.onnx --data images",
      "  ${ROOT-COMMAND-NAME} specialize --help",
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
    // Everything that is printed or written is English with plain digits, also by libraries.
    Locale.setDefault(Locale.ROOT);
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
    CommandLine commandLine = commandLine();
    try {
      return commandLine.execute(args);
    } catch (OutOfMemoryError e) {
      complain(commandLine, outOfMemory(e));
      return TacoException.Kind.RUNTIME.exitCode();
    }
  }

  /** The commands and how they are parsed, in the colours and the width of the terminal. */
  static CommandLine commandLine() {
    CommandLine commandLine =
        new CommandLine(new Main())
            .setCommandName(Terminal.command())
            .setCaseInsensitiveEnumValuesAllowed(true)
            .setUsageHelpWidth(Terminal.width())
            .setColorScheme(Terminal.colorScheme())
            .setParameterExceptionHandler(Main::reportUsage)
            .setExecutionExceptionHandler(Main::report);
    GroupedOptions.group(Objects.requireNonNull(commandLine.getSubcommands().get("specialize")));
    return commandLine;
  }

  /** The one line that says what went wrong. */
  static void complain(CommandLine commandLine, String message) {
    commandLine
        .getErr()
        .println(
            Terminal.styled(Terminal.Stream.ERR, "bold,red", "taco:")
                + " "
                + Terminal.inUsersWords(message));
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
    throw new CommandLine.ParameterException(
        Objects.requireNonNull(spec).commandLine(), "name a command, such as specialize");
  }

  /**
   * Says what is wrong with the arguments without burying it under the whole help. Who named no
   * command gets the overview, who left out what is needed a line of usage and an example.
   */
  private static int reportUsage(CommandLine.ParameterException exception, String[] arguments) {
    CommandLine commandLine = exception.getCommandLine();
    PrintWriter err = commandLine.getErr();
    // What help goes here goes to another stream than usually.
    commandLine.setColorScheme(Help.defaultColorScheme(Terminal.ansi(Terminal.Stream.ERR)));
    complain(
        commandLine,
        String.valueOf(exception.getMessage())
            .replace(" is not a double", " is no number")
            .replace(" is not an int", " is no whole number"));
    if (commandLine.getParent() == null && arguments.length == 0) {
      err.println();
      commandLine.usage(err);
      return TacoException.Kind.USAGE.exitCode();
    }
    CommandLine.UnmatchedArgumentException.printSuggestions(exception, err);
    if (exception instanceof CommandLine.MissingParameterException) {
      Help help = commandLine.getHelp();
      err.print("usage: " + help.synopsis("usage: ".length()));
      example(commandLine).ifPresent(example -> err.println("such as: " + example));
    }
    err.println(
        "`" + commandLine.getCommandSpec().qualifiedName() + " --help` lists what there is");
    return TacoException.Kind.USAGE.exitCode();
  }

  /** The first example in the help of a command. */
  private static Optional<String> example(CommandLine commandLine) {
    String command = commandLine.getCommandSpec().qualifiedName();
    return commandLine
        .getHelp()
        .footer()
        .lines()
        .map(String::strip)
        .filter(line -> line.startsWith(command + " "))
        .findFirst();
  }

  private static int report(
      Exception exception, CommandLine commandLine, CommandLine.ParseResult parsed) {
    if (exception instanceof TacoException e) {
      complain(commandLine, String.valueOf(e.getMessage()));
      return e.kind().exitCode();
    }
    complain(commandLine, "internal error, please report it:");
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
