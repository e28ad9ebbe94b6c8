package org.taco4j;

import org.taco4j.common.Notice;

/**
 * Is told how a run gets on. All methods are called by the thread that runs it, but for the {@link
 * #message} that says how to resume when the process is told to end.
 */
public interface Progress {
  /** Is told nothing. */
  Progress SILENT =
      new Progress() {
        @Override
        public void stage(String name, int steps) {}

        @Override
        public void step(String what) {}

        @Override
        public void message(String text) {}
      };

  /**
   * A stage begins; the one before it has ended.
   *
   * @param steps how many calls of {@link #step} it will take; 0 where that is not known
   */
  void stage(String name, int steps);

  /** One more step of the stage is done. */
  void step(String what);

  /**
   * How far the stage, or its next step, has got, in words such as {@code "320 of 750 images"}; may
   * be called often, and nothing is lost where it is not shown.
   */
  default void within(String what) {}

  /** Something that the user should read, one line. */
  void message(String text);

  /** Something was not done as asked; printed like a message unless overridden. */
  default void notice(Notice notice) {
    message("note: " + notice.subject() + ": " + notice.message());
  }
}
