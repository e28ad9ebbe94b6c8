package org.taco4j;

import java.time.LocalTime;
import java.time.ZoneId;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import org.taco4j.common.Notice;

/** What a run says: to whoever follows its progress, and into {@code run.log}. */
final class RunLog {
  private final Progress progress;
  private final List<String> lines = new ArrayList<>();

  RunLog(Progress progress) {
    this.progress = progress;
  }

  /** Who follows the run. */
  Progress progress() {
    return progress;
  }

  /** A line of the log only. */
  void write(String line) {
    lines.add(LocalTime.now(ZoneId.systemDefault()).truncatedTo(ChronoUnit.MILLIS) + " " + line);
  }

  /** A line for both. */
  void say(String line) {
    write(line);
    progress.message(line);
  }

  /** Something that was not done as asked. */
  void notice(Notice notice) {
    write("note [" + notice.code() + "] " + notice.subject() + ": " + notice.message());
    progress.notice(notice);
  }

  /** A part of the run begins. */
  void stage(String name, int steps) {
    write(name);
    progress.stage(name, steps);
  }

  /** A step of the part is done. */
  void step(String name) {
    progress.step(name);
  }

  /** How far the part, or its next step, has got; not worth a line of the log. */
  void within(String what) {
    progress.within(what);
  }

  /** All lines of the log. */
  String text() {
    return String.join("\n", lines) + "\n";
  }
}
