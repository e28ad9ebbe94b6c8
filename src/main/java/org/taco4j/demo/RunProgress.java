package org.taco4j.demo;

import org.taco4j.Progress;
import org.taco4j.common.Notice;

/**
 * One run as one stage of the demo: its own stages become steps, and its messages and notices are
 * left to the report and the log in its folder.
 */
final class RunProgress implements Progress {
  private final Progress demo;
  private String stage = "";
  private int steps;
  private int done;

  RunProgress(Progress demo, String name) {
    this.demo = demo;
    demo.stage(name, 0);
  }

  @Override
  public void stage(String name, int count) {
    stage = name;
    steps = count;
    done = 0;
    demo.step(name);
  }

  @Override
  public void step(String what) {
    done++;
    demo.step(steps == 0 ? stage + ": " + what : stage + " " + done + "/" + steps);
  }

  @Override
  public void message(String text) {}

  @Override
  public void notice(Notice notice) {}
}
