package org.taco4j.demo;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Path;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.TacoException;

/**
 * The embedded generalist: a classifier of all {@link DrawnClass drawn things}, which {@link
 * TrainGeneralist} has trained. Its classes and its preprocessing are in its metadata.
 */
public final class Generalist {
  /** The name of its file in {@code models/}, and among the resources. */
  public static final String FILE = "drawn-things.onnx";

  private Generalist() {}

  /**
   * Writes the model file.
   *
   * @throws TacoException of kind RUNTIME when it is not embedded, or the file system refuses
   */
  public static void write(Path file) {
    try (InputStream in = Generalist.class.getResourceAsStream(FILE)) {
      if (in == null) {
        throw TacoException.runtime(
            FILE + " is not among the resources of taco4j: build it from a checkout with models/");
      }
      AtomicFiles.write(file, in::transferTo);
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.RUNTIME, FILE + " cannot be read: " + e.getMessage(), e);
    }
  }
}
