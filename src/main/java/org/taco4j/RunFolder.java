package org.taco4j;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.UUID;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.taco4j.common.TacoException;

/**
 * The folder that a run writes. It is filled beside its place and renamed into it when the run has
 * succeeded, so that a folder of that name is always whole, and the old one stays until then. When
 * the process is told to end (Ctrl-C), what was written is deleted.
 */
final class RunFolder implements AutoCloseable {
  private final Path target;
  private final boolean overwrite;
  private final Path work;

  /** Folders that were made for this one to stand in, the innermost first. */
  private final List<Path> madeParents;

  private final Thread hook = new Thread(this::abandon, "taco-clean-up");
  private boolean abandoned;

  private RunFolder(Path target, boolean overwrite, Path work, List<Path> madeParents) {
    this.target = target;
    this.overwrite = overwrite;
    this.work = work;
    this.madeParents = madeParents;
    Runtime.getRuntime().addShutdownHook(hook);
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
    Path parent = absolute.getParent();
    if (parent == null) {
      throw TacoException.usage(target + ": cannot be an output folder");
    }
    List<Path> made = new ArrayList<>();
    for (Path p = parent; p != null && !Files.exists(p); p = p.getParent()) {
      made.add(p);
    }
    try {
      Files.createDirectories(parent);
      return new RunFolder(
          absolute, overwrite, Files.createDirectory(beside(absolute, "part")), List.copyOf(made));
    } catch (IOException e) {
      deleteEmpty(made);
      throw new TacoException(TacoException.Kind.RUNTIME, target + ": cannot be created: " + e, e);
    }
  }

  /**
   * Refuses an output folder that holds an input of the run: overwriting it would delete that.
   *
   * @throws TacoException of kind USAGE, naming the input
   */
  static void refuseInputsIn(Path target, List<Path> inputs) {
    try {
      if (!Files.exists(target)) {
        return;
      }
      Path folder = target.toRealPath();
      for (Path input : inputs) {
        if (Files.exists(input) && input.toRealPath().startsWith(folder)) {
          throw TacoException.usage(
              target
                  + ": the output folder holds "
                  + input
                  + ", which this run reads; name another");
        }
      }
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, target + ": cannot be read: " + e, e);
    }
  }

  /**
   * A hidden name that nothing has; unlike those of {@link Files#createTempDirectory}, a folder
   * made under it has the usual permissions.
   */
  private static Path beside(Path target, String what) {
    return target.resolveSibling(
        ".%s.%s-%s"
            .formatted(target.getFileName(), what, UUID.randomUUID().toString().substring(0, 8)));
  }

  private static boolean isRunFolder(Path folder) {
    try (Stream<Path> files = Files.list(folder)) {
      return Files.exists(folder.resolve("report.json")) || files.findAny().isEmpty();
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, folder + ": cannot be read: " + e, e);
    }
  }

  /** Lets {@code writer} write a file; returns where it is until the run has succeeded. */
  synchronized Path write(String name, Consumer<Path> writer) {
    Path file = work.resolve(name);
    write(folder -> writer.accept(file));
    return file;
  }

  /** Lets {@code writer} write files into the folder that it is given. */
  synchronized void write(Consumer<Path> writer) {
    refuseAbandoned();
    writer.accept(work);
  }

  /**
   * Lends {@code work} a folder for temporary files on the same disk, which is deleted afterwards.
   */
  void withScratch(Consumer<Path> work) {
    Path scratch = write(".scratch", RunFolder::makeFolder);
    work.accept(scratch);
    write(
        folder -> {
          try {
            delete(scratch);
          } catch (IOException e) {
            throw new TacoException(
                TacoException.Kind.RUNTIME, scratch + ": cannot be deleted: " + e, e);
          }
        });
  }

  private static void makeFolder(Path folder) {
    try {
      Files.createDirectory(folder);
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, folder + ": cannot be created: " + e, e);
    }
  }

  /** Puts the folder in its place. */
  synchronized void commit() {
    refuseAbandoned();
    if (Files.exists(target) && !(overwrite && Files.isDirectory(target) && isRunFolder(target))) {
      throw TacoException.usage(
          target + ": appeared while the run was going on and will not be overwritten");
    }
    try {
      if (Files.exists(target)) {
        Path old = beside(target, "old");
        Files.move(target, old, StandardCopyOption.ATOMIC_MOVE);
        try {
          Files.move(work, target, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException e) {
          Files.move(old, target, StandardCopyOption.ATOMIC_MOVE);
          throw e;
        }
        delete(old);
      } else {
        Files.move(work, target, StandardCopyOption.ATOMIC_MOVE);
      }
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, target + ": cannot be written: " + e, e);
    }
  }

  private void refuseAbandoned() {
    if (abandoned) {
      throw new TacoException(TacoException.Kind.INTERRUPTED, target + ": the run was stopped");
    }
  }

  /** Deletes what was written, unless it was committed. */
  @Override
  public void close() {
    abandon();
    try {
      Runtime.getRuntime().removeShutdownHook(hook);
    } catch (IllegalStateException e) {
      // The process is ending; the hook finds nothing left to do.
    }
  }

  private synchronized void abandon() {
    if (abandoned) {
      return;
    }
    abandoned = true;
    try {
      try {
        delete(work);
      } catch (IOException e) {
        // Another thread may just have put a temporary file there; it will not get further.
        delete(work);
      }
      deleteEmpty(madeParents);
    } catch (IOException e) {
      System.getLogger(RunFolder.class.getName())
          .log(System.Logger.Level.WARNING, "the folder " + work + " is left behind", e);
    }
  }

  /** Deletes those of the folders that are empty: parents that a failed run made for nothing. */
  private static void deleteEmpty(List<Path> folders) {
    for (Path folder : folders) {
      try {
        Files.deleteIfExists(folder);
      } catch (IOException e) {
        return; // It holds something, so its parents do, too.
      }
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
