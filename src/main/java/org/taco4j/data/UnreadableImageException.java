package org.taco4j.data;

import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/**
 * One image that cannot be decoded: corrupt, truncated, or of a format that this project does not
 * read. Checked, because every caller has to decide: {@link ImageBatches} skips such images and
 * counts them.
 */
public final class UnreadableImageException extends Exception {
  private static final long serialVersionUID = 1L;

  private final String reason;

  /** The image in {@code file} cannot be decoded for {@code reason}, in a few words. */
  public UnreadableImageException(Path file, String reason, @Nullable Throwable cause) {
    super(file + ": unreadable image: " + reason, cause);
    this.reason = reason;
  }

  /** Why, in a few words and without the file's name. */
  public String reason() {
    return reason;
  }
}
