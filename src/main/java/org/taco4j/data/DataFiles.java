package org.taco4j.data;

import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.taco4j.common.Sha256;
import org.taco4j.common.TacoException;

/** Reading whole files, with errors for the user. */
final class DataFiles {
  private DataFiles() {}

  /** The lines of a UTF-8 text file, without a byte order mark. */
  static List<String> lines(Path file) {
    try {
      String text = Files.readString(file);
      return (text.startsWith("\ufeff") ? text.substring(1) : text).lines().toList();
    } catch (CharacterCodingException e) {
      throw new TacoException(
          TacoException.Kind.DATA, file + ": not a text file in UTF-8; convert it", e);
    } catch (IOException e) {
      throw unreadable(file, e);
    }
  }

  /** SHA-256 over the bytes of a file, in hex. */
  static String sha256(Path file) {
    try {
      return Sha256.hex(file);
    } catch (IOException e) {
      throw unreadable(file, e);
    }
  }

  static long size(Path file) {
    try {
      return Files.size(file);
    } catch (IOException e) {
      throw unreadable(file, e);
    }
  }

  static TacoException unreadable(Path file, IOException cause) {
    return new TacoException(
        TacoException.Kind.DATA,
        file + ": cannot be read (" + cause.getClass().getSimpleName() + ")",
        cause);
  }
}
