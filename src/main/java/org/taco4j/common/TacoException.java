package org.taco4j.common;

import org.jspecify.annotations.Nullable;

/**
 * The one exception of this project: what went wrong, in words for the user, and of which kind.
 * Messages name the file, the node or the class, the actual shape or value, and what to do.
 */
public final class TacoException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** What kind of thing went wrong; each has its exit code on the command line. */
  public enum Kind {
    /** A command line, recipe or API call that cannot be meant. */
    USAGE(2),
    /** A model that cannot be read, or an operator or opset that cannot be handled. */
    MODEL(3),
    /** Images, class lists or preprocessing. */
    DATA(4),
    /** A numerical result that is not fit to be written. */
    NUMERICAL(5),
    /** A runtime, backend or device that is not available, or a file system that refuses. */
    RUNTIME(7),
    /** Stopped by the user. */
    INTERRUPTED(130);

    private final int exitCode;

    Kind(int exitCode) {
      this.exitCode = exitCode;
    }

    /** The exit code of the process when a command ends with an exception of this kind. */
    public int exitCode() {
      return exitCode;
    }
  }

  private final Kind kind;

  /** An exception of the given kind; {@code message} is shown to the user as it is. */
  public TacoException(Kind kind, String message, @Nullable Throwable cause) {
    super(message, cause);
    this.kind = kind;
  }

  /** An exception of the given kind, without a cause. */
  public TacoException(Kind kind, String message) {
    this(kind, message, null);
  }

  /** A {@link Kind#USAGE} exception. */
  public static TacoException usage(String message) {
    return new TacoException(Kind.USAGE, message);
  }

  /** A {@link Kind#MODEL} exception. */
  public static TacoException model(String message) {
    return new TacoException(Kind.MODEL, message);
  }

  /** A {@link Kind#DATA} exception. */
  public static TacoException data(String message) {
    return new TacoException(Kind.DATA, message);
  }

  /** A {@link Kind#NUMERICAL} exception. */
  public static TacoException numerical(String message) {
    return new TacoException(Kind.NUMERICAL, message);
  }

  /** A {@link Kind#RUNTIME} exception. */
  public static TacoException runtime(String message) {
    return new TacoException(Kind.RUNTIME, message);
  }

  /** What kind of thing went wrong. */
  public Kind kind() {
    return kind;
  }
}
