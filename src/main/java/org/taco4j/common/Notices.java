package org.taco4j.common;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/** Collects {@link Notice}s in the order they were given, from any thread. */
public final class Notices {
  private final List<Notice> notices = new ArrayList<>();
  private final Consumer<Notice> listener;

  /** A collection that nobody listens to. */
  public Notices() {
    this(notice -> {});
  }

  /** Each notice goes to {@code listener} too, once, as it comes: to be printed. */
  public Notices(Consumer<Notice> listener) {
    this.listener = listener;
  }

  /** {@link #add(Notice)} of a notice of these. */
  public void add(String code, String subject, String message, double value) {
    add(new Notice(code, subject, message, value));
  }

  /** Adds a notice; what has been said already, word for word, is not said again. */
  public void add(Notice notice) {
    synchronized (notices) {
      if (notices.contains(notice)) {
        return;
      }
      notices.add(notice);
    }
    listener.accept(notice);
  }

  /** What has been added so far. */
  public List<Notice> list() {
    synchronized (notices) {
      return List.copyOf(notices);
    }
  }
}
