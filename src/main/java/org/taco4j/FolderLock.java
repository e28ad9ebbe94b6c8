package org.taco4j;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;

/**
 * A folder that one run at a time works in. A marker file in it says that it is one of ours and is
 * held locked by the run; the operating system lets go of the lock however the process ends.
 */
final class FolderLock implements AutoCloseable {
  /** The marker file. */
  static final String MARKER = ".taco4j-part";

  /** Enough for a run that ends, and deletes its folder, just while this one begins. */
  private static final int TRIES = 100;

  /** Folders that runs of this process hold; the system's locks are between processes only. */
  private static final Set<Path> HELD = ConcurrentHashMap.newKeySet();

  private final Path folder;
  private final FileChannel channel;

  private FolderLock(Path folder, FileChannel channel) {
    this.folder = folder;
    this.channel = channel;
  }

  /**
   * Takes a folder, which is made where there is none.
   *
   * @throws IOException when the file system refuses
   * @throws TacoException of kind USAGE when another run holds the folder, or it is none of ours
   */
  static FolderLock take(Path folder) throws IOException {
    Path parent = folder.toAbsolutePath().getParent();
    Path real =
        parent == null ? folder : parent.toRealPath().resolve(folder.getFileName().toString());
    if (!HELD.add(real)) {
      throw held(folder);
    }
    try {
      for (int i = 0; i < TRIES; i++) {
        FileChannel channel = tryTake(real);
        if (channel != null) {
          return new FolderLock(real, channel);
        }
      }
      throw held(folder);
    } catch (IOException | RuntimeException e) {
      HELD.remove(real);
      throw e;
    }
  }

  /** Null where another run has just deleted the folder. */
  private static @Nullable FileChannel tryTake(Path folder) throws IOException {
    makeOurs(folder);
    Path marker = folder.resolve(MARKER);
    FileChannel channel = null;
    try {
      Object before = key(marker);
      channel = FileChannel.open(marker, StandardOpenOption.WRITE);
      FileLock lock = channel.tryLock();
      if (lock == null) {
        throw held(folder);
      }
      // The file that was locked must still be the one of that name.
      if (java.util.Objects.equals(before, key(marker))) {
        return channel;
      }
    } catch (NoSuchFileException e) {
      // Deleted by the run that held it: try again.
    } catch (IOException | RuntimeException e) {
      closeAfter(e, channel);
      throw e;
    }
    if (channel != null) {
      channel.close();
    }
    return null;
  }

  private static void closeAfter(Exception failure, @Nullable FileChannel channel) {
    if (channel != null) {
      try {
        channel.close();
      } catch (IOException e) {
        failure.addSuppressed(e);
      }
    }
  }

  private static @Nullable Object key(Path file) throws IOException {
    return Files.readAttributes(file, BasicFileAttributes.class).fileKey();
  }

  /**
   * Makes folder and marker, unless they are there. A marker is put into an empty folder only: that
   * of a run which was killed as it began, or which is just deleting it.
   */
  private static void makeOurs(Path folder) throws IOException {
    Path marker = folder.resolve(MARKER);
    try {
      Files.createDirectory(folder);
    } catch (FileAlreadyExistsException e) {
      if (Files.isSymbolicLink(folder) || !Files.isDirectory(folder)) {
        throw inTheWay(folder);
      }
    }
    try (Stream<Path> files = Files.list(folder)) {
      if (files.findAny().isEmpty()) {
        Files.createFile(marker);
      } else if (!Files.isRegularFile(marker, LinkOption.NOFOLLOW_LINKS)) {
        throw inTheWay(folder);
      }
    } catch (FileAlreadyExistsException | NoSuchFileException e) {
      // Another run has just made or deleted it, which is seen when the file is locked.
    }
  }

  private static TacoException inTheWay(Path folder) {
    return TacoException.usage(
        folder
            + ": is in the way, and no unfinished run's folder: move it away, or name another"
            + " output folder");
  }

  private static TacoException held(Path folder) {
    return TacoException.usage(
        folder + ": another run is writing this output folder; wait for it, or name another");
  }

  /** Deletes the marker, if it is still there, and lets go of the folder. */
  void release() throws IOException {
    try {
      Files.deleteIfExists(folder.resolve(MARKER));
    } finally {
      close();
    }
  }

  /** Lets go of the folder, which stays marked. */
  @Override
  public void close() throws IOException {
    try {
      channel.close();
    } finally {
      HELD.remove(folder);
    }
  }
}
