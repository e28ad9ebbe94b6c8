package org.taco4j;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.zip.GZIPOutputStream;
import org.taco4j.common.Sha256;
import org.taco4j.common.TacoException;

/** The files that a model is stored in. */
final class ModelFiles {
  private ModelFiles() {}

  /** The SHA-256 of a model's file, without external data, in hex. */
  static String sha256(Path file) {
    try {
      return Sha256.hex(file);
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.MODEL, file + ": cannot be read: " + e, e);
    }
  }

  /** A model's file and, where it has one, its external data. */
  private static List<Path> of(Path model) {
    Path data = model.resolveSibling(model.getFileName() + ".data");
    return Files.exists(data) ? List.of(model, data) : List.of(model);
  }

  /** Bytes of a model, external data included. */
  static long size(Path model) {
    long bytes = 0;
    try {
      for (Path file : of(model)) {
        bytes += Files.size(file);
      }
    } catch (IOException e) {
      throw unreadable(model, e);
    }
    return bytes;
  }

  /** Bytes of a model through gzip, external data included. */
  static long gzipSize(Path model) {
    long[] bytes = new long[1];
    OutputStream counter =
        new OutputStream() {
          @Override
          public void write(int b) {
            bytes[0]++;
          }

          @Override
          public void write(byte[] b, int offset, int length) {
            bytes[0] += length;
          }
        };
    try {
      for (Path file : of(model)) {
        try (GZIPOutputStream gzip = new GZIPOutputStream(counter, 1 << 16)) {
          Files.copy(file, gzip);
        }
      }
    } catch (IOException e) {
      throw unreadable(model, e);
    }
    return bytes[0];
  }

  /** Deletes a model, external data included. */
  static void delete(Path model) {
    try {
      for (Path file : of(model)) {
        Files.delete(file);
      }
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, model + ": cannot be deleted: " + e, e);
    }
  }

  private static TacoException unreadable(Path model, IOException e) {
    return new TacoException(TacoException.Kind.RUNTIME, model + ": cannot be read: " + e, e);
  }
}
