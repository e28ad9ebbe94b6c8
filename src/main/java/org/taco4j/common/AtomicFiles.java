package org.taco4j.common;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;

/** Files that appear whole or not at all: written beside their place and renamed into it. */
public final class AtomicFiles {
  private AtomicFiles() {}

  /** Writes the bytes of a file to a stream. */
  @FunctionalInterface
  public interface Content {
    /** Writes the content; the stream is buffered and closed by the caller. */
    void writeTo(OutputStream out) throws IOException;
  }

  /**
   * Writes {@code file} with the given content; an existing file is replaced. On failure, a full
   * disk included, nothing of it is left.
   *
   * @throws TacoException of kind RUNTIME when the file system refuses
   */
  public static void write(Path file, Content content) {
    Path absolute = file.toAbsolutePath();
    Path folder = absolute.getParent();
    Path part = absolute.resolveSibling("." + absolute.getFileName() + ".part");
    try {
      if (folder != null) {
        Files.createDirectories(folder);
      }
      try (OutputStream out =
          new java.io.BufferedOutputStream(Files.newOutputStream(part), 1 << 16)) {
        content.writeTo(out);
      }
      Files.move(
          part, absolute, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    } catch (IOException e) {
      try {
        Files.deleteIfExists(part);
      } catch (IOException suppressed) {
        e.addSuppressed(suppressed);
      }
      throw new TacoException(
          TacoException.Kind.RUNTIME, file + ": cannot be written: " + e.getMessage(), e);
    }
  }

  /** {@link #write(Path, Content)} for text, as UTF-8. */
  public static void writeString(Path file, String text) {
    write(file, out -> out.write(text.getBytes(StandardCharsets.UTF_8)));
  }
}
