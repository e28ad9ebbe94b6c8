package org.taco4j.data;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;

/** Test data beside the repository; tests that need it are skipped where it is missing. */
public final class Shared {
  private Shared() {}

  /** A file or folder of it. */
  public static Path at(String name) {
    Path path = Path.of("..", "shared").resolve(name);
    assumeTrue(Files.exists(path), path + " is not on this machine");
    return path;
  }
}
