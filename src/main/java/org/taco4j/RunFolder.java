package org.taco4j;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;
import org.taco4j.reconstruct.LayerCheckpoints;

/**
 * The folder that a run writes. It is filled beside its place, as {@code .NAME.part}, and renamed
 * into it when the run has succeeded, so that a folder of that name is always whole, and the old
 * one stays until then.
 *
 * <p>{@code .NAME.part/checkpoints} keeps the finished layers, and the last pass of tuning. A run
 * that fails, is told to end (Ctrl-C) or is killed after the first of them leaves the part folder
 * behind, and the next run of the same {@link RunFingerprint} goes on from it; any other deletes
 * it, and says so. What a succeeded run leaves holds no checkpoints: they are as large as the
 * model.
 */
final class RunFolder implements AutoCloseable {
  private static final String CHECKPOINTS = "checkpoints";
  private static final String FINGERPRINT = "fingerprint.json";

  private final Path target;
  private final boolean overwrite;
  private final Path work;
  private final FolderLock lock;

  /** Is told what becomes of finished layers. */
  private final Consumer<String> tell;

  /** Folders that were made for this one to stand in, the innermost first. */
  private final List<Path> madeParents;

  /** The folders that are being written in this process. */
  private static final Set<RunFolder> OPEN = ConcurrentHashMap.newKeySet();

  private final Thread hook = new Thread(() -> abandon(true), "taco-clean-up");

  /** Whether the checkpoints in the folder, if any, are of this run. */
  private boolean resumable;

  private boolean ended;

  private RunFolder(
      Path target,
      boolean overwrite,
      Path work,
      FolderLock lock,
      List<Path> madeParents,
      Consumer<String> tell) {
    this.target = target;
    this.overwrite = overwrite;
    this.work = work;
    this.lock = lock;
    this.madeParents = madeParents;
    this.tell = tell;
    Runtime.getRuntime().addShutdownHook(hook);
    OPEN.add(this);
  }

  /**
   * Begins to write a folder.
   *
   * @param tell is told, in a line, what becomes of finished layers when the run does not succeed;
   *     by a thread of its own where the process is told to end
   * @throws TacoException of kind USAGE when it exists and may not be replaced, is no run folder,
   *     or another run is writing it; of kind RUNTIME when the file system refuses
   */
  static RunFolder begin(Path target, boolean overwrite, Consumer<String> tell) {
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
    Path work = parent.resolve("." + absolute.getFileName() + ".part");
    try {
      Files.createDirectories(parent);
      FolderLock lock = FolderLock.take(work);
      try {
        clear(work);
      } catch (IOException e) {
        lock.close();
        throw e;
      }
      return new RunFolder(absolute, overwrite, work, lock, List.copyOf(made), tell);
    } catch (IOException e) {
      deleteEmpty(made);
      throw new TacoException(TacoException.Kind.RUNTIME, target + ": cannot be created: " + e, e);
    }
  }

  /**
   * The finished layers of this run; those of a run with another fingerprint are deleted.
   *
   * @param notices where it is said that layers were deleted
   */
  synchronized LayerCheckpoints checkpoints(RunFingerprint fingerprint, Notices notices) {
    refuseEnded();
    Path folder = work.resolve(CHECKPOINTS);
    Path file = folder.resolve(FINGERPRINT);
    try {
      String reason = Files.exists(folder) ? mismatch(fingerprint, file) : null;
      if (reason != null) {
        int layers = LayerCheckpoints.count(folder);
        int parts = LayerCheckpoints.countParts(folder);
        delete(folder);
        if (layers > 0 || parts > 0) {
          notices.add(
              "checkpoints-discarded",
              target.toString(),
              (layers == 0 ? "finished passes of tuning" : layers + " finished layers")
                  + " of an unfinished run were deleted: "
                  + reason,
              layers);
        }
      }
      Files.createDirectories(folder);
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, folder + ": cannot be written: " + e, e);
    }
    AtomicFiles.writeDurably(
        file, out -> out.write(fingerprint.toJson().getBytes(StandardCharsets.UTF_8)));
    resumable = true;
    return new LayerCheckpoints(folder, fingerprint.sha256(), notices);
  }

  /** Why checkpoints are not of the run with this fingerprint; null where they are. */
  private static @Nullable String mismatch(RunFingerprint fingerprint, Path file) {
    try {
      List<String> differences =
          RunFingerprint.parse(Files.readString(file)).differences(fingerprint);
      return differences.isEmpty()
          ? null
          : "it differs from this one in " + String.join(", ", differences);
    } catch (IOException e) {
      return "what it was cannot be read (" + e + ")";
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

  /** A hidden name that nothing has, for the folder that is replaced. */
  private Path oldName() {
    return target.resolveSibling(
        ".%s.old-%s".formatted(target.getFileName(), UUID.randomUUID().toString().substring(0, 8)));
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
    refuseEnded();
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
    refuseEnded();
    if (Files.exists(target) && !(overwrite && Files.isDirectory(target) && isRunFolder(target))) {
      throw TacoException.usage(
          target + ": appeared while the run was going on and will not be overwritten");
    }
    try {
      delete(work.resolve(CHECKPOINTS));
      lock.release();
      if (Files.exists(target)) {
        Path old = oldName();
        Files.move(target, old, StandardCopyOption.ATOMIC_MOVE);
        try {
          Files.move(work, target, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException e) {
          Files.move(old, target, StandardCopyOption.ATOMIC_MOVE);
          throw e;
        }
        ended = true;
        delete(old);
      } else {
        Files.move(work, target, StandardCopyOption.ATOMIC_MOVE);
      }
      ended = true;
    } catch (IOException e) {
      throw new TacoException(TacoException.Kind.RUNTIME, target + ": cannot be written: " + e, e);
    }
  }

  private void refuseEnded() {
    if (ended) {
      throw new TacoException(TacoException.Kind.INTERRUPTED, target + ": the run was stopped");
    }
  }

  /** Deletes what was written but finished layers, unless it was committed. */
  @Override
  public void close() {
    abandon(false);
    OPEN.remove(this);
    try {
      Runtime.getRuntime().removeShutdownHook(hook);
    } catch (IllegalStateException e) {
      // The process is ending; the hook finds nothing left to do.
    }
  }

  /** Stops all runs of this process, as when it is told to end. */
  static void abandonAll() {
    OPEN.forEach(folder -> folder.abandon(true));
  }

  private synchronized void abandon(boolean interrupted) {
    if (ended) {
      return;
    }
    ended = true;
    try (lock) {
      int layers = LayerCheckpoints.count(work.resolve(CHECKPOINTS));
      int parts = LayerCheckpoints.countParts(work.resolve(CHECKPOINTS));
      if (layers == 0 && parts == 0) {
        try {
          remove();
        } catch (IOException | UncheckedIOException e) {
          // Another thread may just have put a temporary file there; it will not get further.
          remove();
        }
        deleteEmpty(madeParents);
      } else {
        if (resumable) {
          tell.accept(
              "%s; run the same command again to resume (%s in %s)"
                  .formatted(
                      interrupted ? "interrupted" : "not finished",
                      layers == 0
                          ? "finished passes of tuning are kept"
                          : layers + " finished layers are kept",
                      work));
        }
        clear(work);
      }
    } catch (IOException | UncheckedIOException e) {
      System.getLogger(RunFolder.class.getName())
          .log(System.Logger.Level.WARNING, "the folder " + work + " is left behind", e);
    }
  }

  /** Deletes the part folder, the marker last: what is left of it stays recognisable. */
  private void remove() throws IOException {
    Path marker = work.resolve(FolderLock.MARKER);
    delete(work.resolve(CHECKPOINTS));
    clear(work);
    Files.deleteIfExists(marker);
    try {
      Files.deleteIfExists(work);
    } catch (DirectoryNotEmptyException e) {
      if (!Files.exists(marker)) {
        // Another thread has just put a temporary file there; it will not get further.
        delete(work);
      } // Else another run has begun in it.
    }
  }

  /** Deletes all but the marker and the finished layers from a part folder. */
  private static void clear(Path work) throws IOException {
    Set<String> kept = Set.of(FolderLock.MARKER, CHECKPOINTS);
    List<Path> files;
    try (Stream<Path> all = Files.list(work)) {
      files = all.filter(file -> !kept.contains(file.getFileName().toString())).toList();
    }
    for (Path file : files) {
      delete(file);
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
        Files.deleteIfExists(path);
      }
    }
  }
}
