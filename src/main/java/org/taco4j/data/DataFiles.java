package org.taco4j.data;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
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
    MessageDigest digest = sha256();
    try (InputStream in = new DigestInputStream(Files.newInputStream(file), digest)) {
      in.transferTo(OutputStream.nullOutputStream());
    } catch (IOException e) {
      throw unreadable(file, e);
    }
    return HexFormat.of().formatHex(digest.digest());
  }

  /** SHA-256 over a text as UTF-8, in hex. */
  static String sha256(String text) {
    return HexFormat.of().formatHex(sha256().digest(text.getBytes(StandardCharsets.UTF_8)));
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

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform has SHA-256", e);
    }
  }
}
