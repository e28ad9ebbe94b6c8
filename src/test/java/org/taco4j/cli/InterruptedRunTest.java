package org.taco4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.TinyTask;

/** A run in a process of its own that is stopped from outside. */
class InterruptedRunTest {
  @TempDir Path folder;

  // Signals do not exist there. SIGTERM stands in for Ctrl-C: both run the shutdown hooks.
  @Test
  @DisabledOnOs(OS.WINDOWS)
  void aStoppedRunLeavesNothing() throws IOException, InterruptedException {
    Path model = TinyTask.convNet(folder.resolve("conv.onnx"), TinyTask.Input.FREE);
    Path images = TinyTask.images(folder.resolve("images"), model, 300);
    Path outputs = Files.createDirectory(folder.resolve("outputs"));
    Process process =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--add-modules=jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                System.getProperty(
                    "surefire.test.class.path", System.getProperty("java.class.path")),
                "org.taco4j.cli.Main",
                "specialize",
                model.toString(),
                "--data",
                images.toString(),
                "--sparsity",
                "0.5",
                // Slow enough to be caught half way: many passes.
                "--memory",
                "1k",
                "--out",
                outputs.resolve("a/run").toString())
            .redirectErrorStream(true)
            .start();
    try (BufferedReader lines = process.inputReader()) {
      String line = lines.readLine();
      while (line != null && !line.startsWith("calibrating")) {
        line = lines.readLine();
      }
      assertTrue(line != null, "the run got as far as the calibration");
      try (Stream<Path> files = Files.list(outputs.resolve("a"))) {
        assertEquals(1, files.count(), "the folder that is being filled");
      }
      process.destroy();
      assertTrue(process.waitFor(30, TimeUnit.SECONDS));
      int sigterm = 15;
      assertEquals(128 + sigterm, process.exitValue());
    } finally {
      process.destroyForcibly();
    }
    try (Stream<Path> files = Files.list(outputs)) {
      assertEquals(List.of(), files.toList());
    }
  }
}
