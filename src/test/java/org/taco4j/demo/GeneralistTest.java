package org.taco4j.demo;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.bench.Accuracy;
import org.taco4j.common.Workers;
import org.taco4j.onnx.OnnxModel;
import org.taco4j.runtime.Session;

class GeneralistTest {
  /** Of pictures that no training has seen. */
  private static final long SEED = 4;

  @TempDir Path folder;

  @Test
  void isSmallAndGoodButNotPerfect() throws IOException {
    Path file = folder.resolve(Generalist.FILE);
    Generalist.write(file);
    assertTrue(Files.size(file) <= 3_000_000, () -> file + " is too large for an embedded model");
    OnnxModel model = OnnxModel.read(file);
    try (Workers workers = new Workers(2);
        Session session = Session.open(file, 1)) {
      Map<String, Accuracy> accuracy =
          TrainGeneralist.accuracy(session, model.inputs().getFirst().name(), 10, SEED, workers);
      Accuracy all = accuracy.get("all");
      assertEquals(10 * DrawnClass.values().length, all.images());
      assertTrue(all.top1() >= 0.85 && all.top1() <= 0.97, () -> "top-1 is " + all.top1());
      assertEquals(1 + Family.values().length, accuracy.size());
      for (Family family : Family.values()) {
        // Fewer classes to confuse with: no picture becomes wrong when others cannot be chosen.
        assertTrue(accuracy.get(family.toString()).top1() >= 0.8, family::toString);
      }
    }
  }
}
