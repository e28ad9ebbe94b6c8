package org.taco4j.common;

import java.io.BufferedOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
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
    write(file, content, false);
  }

  /**
   * {@link #write(Path, Content)}, and when it returns the file is on the disk: it outlives a loss
   * of power, too.
   */
  public static void writeDurably(Path file, Content content) {
    write(file, content, true);
  }

  private static void write(Path file, Content content, boolean durable) {
    Path absolute = file.toAbsolutePath();
    Path folder = absolute.getParent();
    Path part = absolute.resolveSibling("." + absolute.getFileName() + ".part");
    try {
      if (folder != null) {
        Files.createDirectories(folder);
      }
      try (FileChannel channel =
          FileChannel.open(
              part,
              StandardOpenOption.CREATE,
              StandardOpenOption.TRUNCATE_EXISTING,
              StandardOpenOption.WRITE)) {
        OutputStream out = new BufferedOutputStream(Channels.newOutputStream(channel), 1 << 16);
        content.writeTo(out);
        out.flush();
        if (durable) {
          channel.force(true);
        }
      }
      Files.move(
          part, absolute, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
      if (durable && folder != null) {
        forceNames(folder);
      }
    } catch (IOException e) {
      throw cannotWrite(file, e, folder);
    } finally {
      try {
        // There is none after the move: this is for failures, of the content too.
        Files.deleteIfExists(part);
      } catch (IOException e) {
        System.getLogger(AtomicFiles.class.getName())
            .log(System.Logger.Level.WARNING, "the file " + part + " is left behind", e);
      }
    }
  }

  private static TacoException cannotWrite(Path file, IOException e, @Nullable Path folder) {
    return new TacoException(
        TacoException.Kind.RUNTIME,
        file + ": cannot be written: " + e.getMessage() + roomAt(folder),
        e);
  }

  /** Brings the names of a folder's files to the disk, where the system can. */
  private static void forceNames(Path folder) throws IOException {
    if (File.separatorChar == '\\') {
      return; // Windows opens no folders.
    }
    try (FileChannel channel = FileChannel.open(folder, StandardOpenOption.READ)) {
      channel.force(true);
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
