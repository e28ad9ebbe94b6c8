package org.taco4j.runtime.tensorrt;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.common.Notice;
import org.taco4j.common.Notices;
import org.taco4j.common.TacoException;

class EngineCacheTest {
  private static final EngineCache.Device A10 =
      new EngineCache.Device("NVIDIA A10", "sm_86", "00ff", 13010);

  private static final EngineCache.Built BUILT =
      new EngineCache.Built(12.5, List.of("conv1", "conv2"), List.of("conv2"), List.of("slow"));

  @TempDir Path folder;

  private final Notices notices = new Notices();

  private static EngineOptions options(
      Precision precision, boolean sparse, List<Integer> batches, long size) {
    return new EngineOptions(precision, sparse, batches, new long[] {1, 3, size, size});
  }

  private static EngineCache.Key key() {
    return EngineCache.Key.of(
        "abc", "10.15.1", A10, options(Precision.FP16, true, List.of(1, 8), 224));
  }

  private List<String> codes() {
    return notices.list().stream().map(Notice::code).toList();
  }

  @Test
  void whatWasKeptIsFound() {
    EngineCache cache = new EngineCache(folder.resolve("not").resolve("there"));
    assertTrue(cache.load(key(), notices).isEmpty());
    byte[] engine = {1, 2, 3, -4};
    cache.save(key(), engine, BUILT, notices);
    EngineCache.Stored stored = cache.load(key(), notices).orElseThrow();
    assertArrayEquals(engine, stored.engine());
    assertEquals(BUILT, stored.built());
    assertEquals(List.of(), codes());
    assertTrue(cache.engineFile(key()).toString().endsWith(".engine"));
  }

  @Test
  void everythingThatAnEngineDependsOnChangesItsName() {
    EngineOptions usual = options(Precision.FP16, true, List.of(1, 8), 224);
    List<EngineCache.Key> keys =
        List.of(
            key(),
            EngineCache.Key.of("abd", "10.15.1", A10, usual),
            EngineCache.Key.of("abc", "10.14.0", A10, usual),
            EngineCache.Key.of(
                "abc",
                "10.15.1",
                new EngineCache.Device("NVIDIA A10", "sm_86", "01ff", 13010),
                usual),
            EngineCache.Key.of(
                "abc",
                "10.15.1",
                new EngineCache.Device("NVIDIA A10", "sm_86", "00ff", 13020),
                usual),
            EngineCache.Key.of(
                "abc", "10.15.1", new EngineCache.Device("T4", "sm_75", "00ff", 13010), usual),
            EngineCache.Key.of(
                "abc", "10.15.1", A10, options(Precision.FP32, true, List.of(1, 8), 224)),
            EngineCache.Key.of(
                "abc", "10.15.1", A10, options(Precision.FP16, false, List.of(1, 8), 224)),
            EngineCache.Key.of(
                "abc", "10.15.1", A10, options(Precision.FP16, true, List.of(1), 224)),
            EngineCache.Key.of(
                "abc", "10.15.1", A10, options(Precision.FP16, true, List.of(8, 1), 224)),
            EngineCache.Key.of(
                "abc", "10.15.1", A10, options(Precision.FP16, true, List.of(1, 8), 160)));
    Set<String> names = new HashSet<>();
    keys.forEach(key -> assertTrue(names.add(key.fileName()), key::toString));
    assertEquals(key().fileName(), key().fileName());
    assertNotEquals("", key().fileName());
  }

  @Test
  void damagedFilesAreNotUsed() throws IOException {
    EngineCache cache = new EngineCache(folder);
    cache.save(key(), new byte[] {1, 2, 3}, BUILT, notices);
    Files.write(cache.engineFile(key()), new byte[] {1, 2});
    assertTrue(cache.load(key(), notices).isEmpty());
    cache.save(key(), new byte[] {1, 2, 3}, BUILT, notices);
    String description = Files.readString(cache.descriptionFile(key()));
    Files.writeString(cache.descriptionFile(key()), description.replace("fp16", "fp32"));
    assertTrue(cache.load(key(), notices).isEmpty());
    Files.writeString(cache.descriptionFile(key()), description.substring(0, 40));
    assertTrue(cache.load(key(), notices).isEmpty());
    assertEquals(List.of("engine-not-used", "engine-not-used", "engine-not-used"), codes());
    Files.delete(cache.descriptionFile(key()));
    assertTrue(cache.load(key(), notices).isEmpty());
    assertEquals(3, codes().size());
  }

  @Test
  void aFolderThatCannotBeWrittenIsNoError() throws IOException {
    Path file = Files.createFile(folder.resolve("file"));
    new EngineCache(file).save(key(), new byte[] {1}, BUILT, notices);
    assertEquals(List.of("engine-not-kept"), codes());
  }

  @Test
  void precisionsHaveNamesAndTolerances() {
    for (Precision precision : Precision.values()) {
      assertEquals(precision, Precision.of(precision.toString()));
    }
    assertTrue(Precision.FP32.tolerance() < Precision.FP16.tolerance());
    assertTrue(Precision.FP16.tolerance() < Precision.INT8.tolerance());
    TacoException e = assertThrows(TacoException.class, () -> Precision.of("fp8"));
    assertEquals(TacoException.Kind.USAGE, e.kind());
    assertTrue(e.getMessage().startsWith("--precision is fp32, fp16 or int8, not 'fp8'"));
  }
}
