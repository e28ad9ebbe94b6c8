package org.taco4j.demo;

import org.taco4j.Progress;
import org.taco4j.common.Notice;

/**
 * One run as one step of the demo: its own stages are told as what the step is at, and its messages
 * and notices are left to the report and the log in its folder.
 */
final class RunProgress implements Progress {
  private final Progress demo;
  private final String run;
  private String stage = "";
  private int steps;
  private int done;

  RunProgress(Progress demo, String run) {
    this.demo = demo;
    this.run = run;
  }

  @Override
  public void stage(String name, int count) {
    stage = name;
    steps = count;
    done = 0;
    say("");
  }

  @Override
  public void step(String what) {
    done++;
    say("");
  }

  @Override
  public void within(String what) {
    say(", " + what);
  }

  private void say(String what) {
    demo.within(run + ": " + stage + (steps > 0 ? " " + done + "/" + steps : "") + what);
  }

  @Override
  public void message(String text) {}

  @Override
  public void notice(Notice notice) {}
}
