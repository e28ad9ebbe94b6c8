package org.taco4j;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Comparator;
import java.util.stream.Stream;
import org.taco4j.common.TacoException;

/**
 * The folder that a run writes. It is filled beside its place and renamed into it when the run has
 * succeeded, so that a folder of that name is always whole, and the old one stays until then.
 */
final class RunFolder implements AutoCloseable {
  private final Path target;
  private final Path work;

  private RunFolder(Path target, Path work) {
    this.target = target;
    this.work = work;
  }

  /**
   * Begins to write a folder.
   *
   * @throws TacoException of kind USAGE when it exists and may not be replaced, or is no run
   *     folder; of kind RUNTIME when the file system refuses
   */
  static RunFolder begin(Path target, boolean overwrite) {
    Path absolute = target.toAbsolutePath().normalize();
    if (Files.exists(absolute)) {
      if (!overwrite) {
        throw TacoException.usage(
            target + ": the output folder exists; name another, or add --overwrite");
      }
      if (!Files.isDirectory(absolute)) {
        throw TacoException.usage(target + ": is a file, not a folder that could be overwritten");
      }
      if (!isRunFolder(absolute)) {
        throw TacoException.usage(
            target + ": is not empty and no earlier run's folder; it will not be overwritten");
      }
    }
    try {
      Path parent = absolute.getParent();
      if (parent == null) {
        throw TacoException.usage(target + ": cannot be an output folder");
      }
      Files.createDirectories(parent);
      Path work = Files.createTempDirectory(parent, "." + absolute.getFileName() + ".part-");
      return new RunFolder(absolute, work);
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, target + ": cannot be created: " + e, e);
    }
  }

  private static boolean isRunFolder(Path folder) {
    try (Stream<Path> files = Files.list(folder)) {
      return Files.exists(folder.resolve("report.json")) || files.findAny().isEmpty();
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, folder + ": cannot be read: " + e, e);
    }
  }

  /** Where to write the files. */
  Path work() {
    return work;
  }

  /** Puts the folder in its place. */
  void commit() {
    try {
      if (Files.exists(target)) {
        Path old =
            Files.createTempDirectory(target.getParent(), "." + target.getFileName() + ".old-");
        Files.move(target, old.resolve("run"), StandardCopyOption.ATOMIC_MOVE);
        Files.move(work, target, StandardCopyOption.ATOMIC_MOVE);
        delete(old);
      } else {
        Files.move(work, target, StandardCopyOption.ATOMIC_MOVE);
      }
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, target + ": cannot be written: " + e, e);
    }
  }

  /** Deletes what was written, unless it was committed. */
  @Override
  public void close() {
    try {
      delete(work);
    } catch (IOException e) {
      System.getLogger(RunFolder.class.getName())
          .log(System.Logger.Level.WARNING, "the folder " + work + " is left behind", e);
    }
  }

  private static void delete(Path folder) throws IOException {
    if (!Files.exists(folder)) {
      return;
    }
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path path : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(path);
      }
    }
  }
}
