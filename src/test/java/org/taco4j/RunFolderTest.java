package org.taco4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;

class RunFolderTest {
  private static final RunFingerprint RUN =
      new RunFingerprint(Map.of("recipe", "a: 1\n", "model", "12ab"));

  @TempDir Path folder;
  private final List<String> told = new ArrayList<>();
  private final Notices notices = new Notices();

  private RunFolder begin() {
    return RunFolder.begin(folder.resolve("run"), false, told::add);
  }

  private Path part() {
    return folder.resolve(".run.part");
  }

  /** Stands for a finished layer: only the name counts here. */
  private void finishLayer(String name) {
    AtomicFiles.writeString(part().resolve("checkpoints/layer-" + name), name);
  }

  /** All files and folders below a folder, hidden ones too. */
  private static List<String> filesIn(Path folder) throws IOException {
    try (Stream<Path> files = Files.walk(folder)) {
      return List.copyOf(
          new TreeSet<>(
              files
                  .filter(file -> !file.equals(folder))
                  .map(file -> folder.relativize(file).toString())
                  .toList()));
    }
  }

  @Test
  void aRunThatFailsBeforeTheFirstLayerLeavesNothing() throws IOException {
    try (RunFolder run = RunFolder.begin(folder.resolve("a/b/run"), false, told::add)) {
      run.checkpoints(RUN, notices);
      run.write("model.onnx", file -> AtomicFiles.writeString(file, "model"));
    }
    assertEquals(List.of(), filesIn(folder));
    assertEquals(List.of(), told);
  }

  @Test
  void finishedLayersAreKeptAndNothingElse() throws IOException {
    try (RunFolder run = begin()) {
      run.checkpoints(RUN, notices);
      finishLayer("1");
      run.write("model.onnx", file -> AtomicFiles.writeString(file, "model"));
    }
    List<String> kept =
        List.of(
            ".run.part",
            ".run.part/.taco4j-part",
            ".run.part/checkpoints",
            ".run.part/checkpoints/fingerprint.json",
            ".run.part/checkpoints/layer-1");
    assertEquals(kept, filesIn(folder));
    assertEquals(1, told.size());
    assertTrue(told.getFirst().contains("run the same command again"), told.getFirst());
    assertTrue(told.getFirst().contains(part().toString()), told.getFirst());

    // A run that fails before it is known whether they are of use to it leaves them.
    told.clear();
    begin().close();
    assertEquals(kept, filesIn(folder));
    assertEquals(List.of(), told);

    try (RunFolder run = begin()) {
      run.checkpoints(RUN, notices);
      finishLayer("2");
      run.write("report.json", file -> AtomicFiles.writeString(file, "{}"));
      run.commit();
    }
    assertEquals(List.of("run", "run/report.json"), filesIn(folder));
    assertEquals(List.of(), notices.list());
    assertEquals(List.of(), told);
  }

  @Test
  void finishedLayersOfAnotherRunAreDeletedWithANotice() throws IOException {
    try (RunFolder run = begin()) {
      run.checkpoints(RUN, notices);
      finishLayer("1");
      finishLayer("2");
    }
    RunFingerprint other = new RunFingerprint(Map.of("recipe", "a: 2\n", "model", "12ab"));
    try (RunFolder run = begin()) {
      run.checkpoints(other, notices);
      assertEquals(
          List.of("fingerprint.json"), filesIn(part().resolve("checkpoints")), "layers are gone");
    }
    assertEquals("checkpoints-discarded", notices.list().getFirst().code());
    assertEquals(2, notices.list().getFirst().value());
    assertTrue(
        notices.list().getFirst().message().endsWith("it differs from this one in recipe"),
        notices.list().getFirst().message());
    assertEquals(List.of(), filesIn(folder));
  }

  @Test
  void layersWithoutAReadableFingerprintAreDeletedWithANotice() throws IOException {
    try (RunFolder run = begin()) {
      run.checkpoints(RUN, notices);
      finishLayer("1");
    }
    Files.writeString(part().resolve("checkpoints/fingerprint.json"), "{\"parts\"");
    try (RunFolder run = begin()) {
      run.checkpoints(RUN, notices);
    }
    assertEquals("checkpoints-discarded", notices.list().getFirst().code());
    assertEquals(List.of(), filesIn(folder));
  }

  @Test
  void twoRunsAtOnceAreRefused() {
    try (RunFolder first = begin()) {
      TacoException refused = assertThrows(TacoException.class, this::begin);
      assertEquals(TacoException.Kind.USAGE, refused.kind());
      assertTrue(refused.getMessage().contains("another run is writing"), refused.getMessage());
      first.write("report.json", file -> AtomicFiles.writeString(file, "{}"));
      first.commit();
    }
    assertTrue(Files.exists(folder.resolve("run/report.json")));
  }

  @Test
  void aRunThatHasEndedLeavesTheNextOneAlone() {
    try (RunFolder first = begin()) {
      first.write("report.json", file -> AtomicFiles.writeString(file, "{}"));
      first.commit();
      try (RunFolder second = RunFolder.begin(folder.resolve("run"), true, told::add)) {
        first.close();
        second.write("report.json", file -> AtomicFiles.writeString(file, "{ }"));
        second.commit();
      }
    }
    assertTrue(Files.exists(folder.resolve("run/report.json")));
  }

  @Test
  void aFolderThatIsNotOursIsNeverTouched() throws IOException {
    Files.createDirectories(part());
    Files.writeString(part().resolve("thesis.txt"), "years of work");
    TacoException refused = assertThrows(TacoException.class, this::begin);
    assertEquals(TacoException.Kind.USAGE, refused.kind());
    assertTrue(refused.getMessage().contains("is in the way"), refused.getMessage());
    assertEquals(List.of(".run.part", ".run.part/thesis.txt"), filesIn(folder));
  }

  @Test
  void whatAKilledRunLeftIsClearedAway() throws IOException {
    // Killed as it began, and killed amid its work.
    Files.createDirectory(part());
    begin().close();
    assertEquals(List.of(), filesIn(folder));
    Files.createDirectories(part().resolve(".scratch"));
    Files.writeString(part().resolve(FolderLock.MARKER), "");
    Files.writeString(part().resolve(".scratch/activations"), "1 2 3");
    try (RunFolder run = begin()) {
      assertEquals(List.of(FolderLock.MARKER), filesIn(part()));
      run.checkpoints(RUN, notices);
    }
    assertEquals(List.of(), filesIn(folder));
    assertEquals(List.of(), notices.list());
  }
}
