package org.taco4j.cli;

import java.io.PrintWriter;
import java.util.Locale;
import java.util.Timer;
import java.util.TimerTask;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarStyle;
import org.jspecify.annotations.Nullable;
import org.taco4j.Progress;
import org.taco4j.common.Notice;

/**
 * Progress on standard error: a bar with an ETA on a terminal, plain lines elsewhere. Neither
 * stands still: the bar counts the seconds, and plain output says where it is after a few of them.
 */
final class ConsoleProgress implements Progress, AutoCloseable {
  /** Plain output says a line for at least every tenth of a stage. */
  private static final int LINES_PER_STAGE = 10;

  /** Longest silence of plain output while a stage goes on. */
  private static final long SILENCE_MILLIS = 4000;

  private static final long LOOK_MILLIS = 500;
  private static final double NANOS = 1e9;

  private final PrintWriter err;
  private final boolean terminal = Terminal.isTerminal(Terminal.Stream.ERR);
  private final Timer timer = new Timer("taco-progress", /* isDaemon= */ true);
  private @Nullable ProgressBar bar;
  private String stage = "";
  private String within = "";
  private int steps;
  private int done;
  private long stageStart;
  private long lastLine = System.nanoTime();

  ConsoleProgress(PrintWriter err) {
    this.err = err;
    timer.schedule(
        new TimerTask() {
          @Override
          public void run() {
            breakSilence();
          }
        },
        LOOK_MILLIS,
        LOOK_MILLIS);
  }

  @Override
  public synchronized void stage(String name, int count) {
    endStage();
    stage = name;
    steps = count;
    done = 0;
    stageStart = System.nanoTime();
    if (terminal && count > 0) {
      bar =
          new ProgressBarBuilder()
              .setTaskName(name)
              .setInitialMax(count)
              .setStyle(ProgressBarStyle.ASCII)
              .setUpdateIntervalMillis(200)
              .continuousUpdate() // the seconds, and what a step is at, between its steps
              .build();
    } else {
      line(name);
    }
  }

  @Override
  public synchronized void step(String what) {
    done++;
    within = "";
    if (bar != null) {
      bar.step();
      bar.setExtraMessage(" " + what);
    } else if (steps > 0
        && done * LINES_PER_STAGE / steps != (done - 1) * LINES_PER_STAGE / steps) {
      line(String.format(Locale.ROOT, "(%d/%d) %s: %s", done, steps, stage, what));
    }
  }

  @Override
  public synchronized void within(String what) {
    within = what;
    if (bar != null) {
      bar.setExtraMessage(" " + what);
    }
  }

  /** A line about the stage, where the last one was long ago. */
  private synchronized void breakSilence() {
    long now = System.nanoTime();
    if (bar == null && !stage.isEmpty() && now - lastLine >= SILENCE_MILLIS * 1_000_000) {
      String count = steps > 0 ? String.format(Locale.ROOT, "(%d/%d) ", done, steps) : "";
      line(
          String.format(
              Locale.ROOT,
              "%s%s: %s%.0f s",
              count,
              stage,
              within.isEmpty() ? "" : within + ", ",
              (now - stageStart) / NANOS));
    }
  }

  @Override
  public synchronized void message(String text) {
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
    lastLine = System.nanoTime();
  }

  /** Takes the bar of the stage away. */
  synchronized void endStage() {
    stage = "";
    within = "";
    if (bar != null) {
      bar.close();
      bar = null;
    }
  }

  @Override
  public void close() {
    endStage();
    timer.cancel();
  }
}
