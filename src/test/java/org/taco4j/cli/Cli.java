package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/** Runs the command line in this process. */
public final class Cli {
  private Cli() {}

  /** What a command did: its exit code and what it printed. */
  public record Result(int exitCode, String out, String err) {
    /** This, after a failure unless the command succeeded. */
    public Result succeeded() {
      assertEquals(0, exitCode, err);
      return this;
    }
  }

  /** Runs {@code taco} with these arguments; paths may be given as they are. */
  public static Result run(Object... arguments) {
    PrintStream out = System.out;
    PrintStream err = System.err;
    ByteArrayOutputStream outBytes = new ByteArrayOutputStream();
    ByteArrayOutputStream errBytes = new ByteArrayOutputStream();
    System.setOut(new PrintStream(outBytes, true, StandardCharsets.UTF_8));
    System.setErr(new PrintStream(errBytes, true, StandardCharsets.UTF_8));
    try {
      String[] texts = new String[arguments.length];
      for (int i = 0; i < texts.length; i++) {
        texts[i] = arguments[i] instanceof Path path ? path.toString() : (String) arguments[i];
      }
      int code = Main.run(texts);
      return new Result(
          code,
          outBytes.toString(StandardCharsets.UTF_8),
          errBytes.toString(StandardCharsets.UTF_8));
    } finally {
      System.setOut(out);
      System.setErr(err);
    }
  }
}
