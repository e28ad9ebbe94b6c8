package org.taco4j.common;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import org.jspecify.annotations.Nullable;

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
          TacoException.Kind.RUNTIME,
          file + ": cannot be written: " + e.getMessage() + roomAt(folder),
          e);
    }
  }

  /** How much room there is, which is the commonest reason why a file cannot be written. */
  private static String roomAt(@Nullable Path folder) {
    try {
      return folder == null
          ? ""
          : " (" + (Files.getFileStore(folder).getUsableSpace() >> 20) + " MiB are free there)";
    } catch (IOException e) {
      return ""; // There is no such place, which the message says already.
    }
  }

  /** {@link #write(Path, Content)} for text, as UTF-8. */
  public static void writeString(Path file, String text) {
    write(file, out -> out.write(text.getBytes(StandardCharsets.UTF_8)));
  }
}
