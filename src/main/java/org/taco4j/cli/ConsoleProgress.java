package org.taco4j.cli;

import java.io.PrintWriter;
import java.util.Locale;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarStyle;
import org.jspecify.annotations.Nullable;
import org.taco4j.Progress;
import org.taco4j.common.Notice;

/** Progress on standard error: a bar with an ETA on a terminal, plain lines elsewhere. */
final class ConsoleProgress implements Progress, AutoCloseable {
  /** Plain output says a line for at least every tenth of a stage. */
  private static final int LINES_PER_STAGE = 10;

  private final PrintWriter err;
  private final boolean terminal;
  private @Nullable ProgressBar bar;
  private String stage = "";
  private int steps;
  private int done;

  ConsoleProgress(PrintWriter err) {
    this.err = err;
    this.terminal = Terminal.isTerminal(Terminal.Stream.ERR);
  }

  @Override
  public void stage(String name, int count) {
    endStage();
    stage = name;
    steps = count;
    done = 0;
    if (terminal && count > 0) {
      bar =
          new ProgressBarBuilder()
              .setTaskName(name)
              .setInitialMax(count)
              .setStyle(ProgressBarStyle.ASCII)
              .setUpdateIntervalMillis(200)
              .build();
    } else {
      line(name);
    }
  }

  @Override
  public void step(String what) {
    done++;
    if (bar != null) {
      bar.step();
      bar.setExtraMessage(" " + what);
    } else if (steps > 0
        && done * LINES_PER_STAGE / steps != (done - 1) * LINES_PER_STAGE / steps) {
      line(String.format(Locale.ROOT, "(%d/%d) %s: %s", done, steps, stage, what));
    }
  }

  @Override
  public void message(String text) {
    if (bar != null) {
      bar.pause();
    }
    line(text);
    if (bar != null) {
      bar.resume();
    }
  }

  @Override
  public void notice(Notice notice) {
    message(
        Terminal.styled(Terminal.Stream.ERR, "yellow", "note:")
            + " "
            + Terminal.inUsersWords(notice.subject() + ": " + notice.message()));
  }

  private void line(String text) {
    err.println(text);
    err.flush();
  }

  /** Takes the bar of the stage away. */
  void endStage() {
    if (bar != null) {
      bar.close();
      bar = null;
    }
  }

  @Override
  public void close() {
    endStage();
  }
}
