package org.taco4j.cli;

import java.util.Map;
import java.util.Objects;
import picocli.CommandLine.Help;
import picocli.CommandLine.Help.Ansi;

/**
 * What this process was started from: whether there is a terminal, how wide it is, whether to
 * colour what goes there, and what the program is called. The launcher knows and says it in system
 * properties; without it the JVM's console has to do.
 */
final class Terminal {
  /** The file descriptors (1 output, 2 errors) that are terminals, such as {@code "12"}. */
  static final String STREAMS = "taco4j.terminal";

  /** Characters on a line of the terminal. */
  static final String COLUMNS = "taco4j.columns";

  /** What to type to start the program. */
  static final String COMMAND = "taco4j.command";

  private static final int WIDEST = 100;

  /** Picocli lays out help for no less. */
  private static final int NARROWEST = 55;

  /** A standard stream. */
  enum Stream {
    OUT("1"),
    ERR("2");

    private final String descriptor;

    Stream(String descriptor) {
      this.descriptor = descriptor;
    }
  }

  private Terminal() {}

  /** The program as one has to type it, such as {@code ./taco}. */
  static String command() {
    return System.getProperty(COMMAND, "taco");
  }

  /** Text of the library, which calls the program {@code taco}, in the words of who started it. */
  static String inUsersWords(String text) {
    return text.replace("`taco ", "`" + command() + " ");
  }

  /** Whether a stream goes to a terminal on which lines can be written over. */
  static boolean isTerminal(Stream stream) {
    return isTerminal(stream, System.getenv());
  }

  private static boolean isTerminal(Stream stream, Map<String, String> environment) {
    return isAttached(stream) && !"dumb".equals(environment.get("TERM"));
  }

  @SuppressWarnings("SystemConsoleNull") // whether it is null without a terminal differs by release
  private static boolean isAttached(Stream stream) {
    String streams = System.getProperty(STREAMS);
    if (streams != null) {
      return streams.contains(stream.descriptor);
    }
    java.io.Console console = System.console();
    return console != null && console.isTerminal();
  }

  /**
   * How to mark up what goes to a stream: with colours on a terminal, unless it is a dumb one or
   * NO_COLOR is set (no-color.org).
   */
  static Ansi ansi(Stream stream) {
    return ansi(stream, System.getenv());
  }

  /** {@link #ansi(Stream)} with another environment. */
  static Ansi ansi(Stream stream, Map<String, String> environment) {
    boolean refused = !Objects.requireNonNullElse(environment.get("NO_COLOR"), "").isEmpty();
    return isTerminal(stream, environment) && !refused ? Ansi.ON : Ansi.OFF;
  }

  /** The colours of help, which goes to the standard output. */
  static Help.ColorScheme colorScheme() {
    return Help.defaultColorScheme(ansi(Stream.OUT));
  }

  /** Text in a style of picocli's, such as {@code bold,red}, where the stream has colours. */
  static String styled(Stream stream, String style, String text) {
    Ansi ansi = ansi(stream);
    return ansi.enabled()
        ? Ansi.Style.on(Ansi.Style.parse(style)) + text + Ansi.Style.off(Ansi.Style.parse(style))
        : text;
  }

  /** The width of help: the terminal's, within limits. */
  static int width() {
    Integer columns = Integer.getInteger(COLUMNS);
    return columns == null || columns <= 0 ? WIDEST : Math.clamp(columns, NARROWEST, WIDEST);
  }
}
