package org.taco4j.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/**
 * Runs the programs of src/test/cpp, which the build has made; each for each instruction set, but
 * those of the CUDA kernels, which know none, once.
 */
class NativeProgramsTest {
  private static final Path PROGRAMS = Path.of("target", "cmake", "tests", "bin");

  @TestFactory
  Stream<DynamicTest> programs() throws IOException {
    assumeTrue(Files.isDirectory(PROGRAMS), "no native code was built: no cmake?");
    List<Path> programs;
    try (Stream<Path> files = Files.list(PROGRAMS)) {
      programs = files.filter(Files::isExecutable).sorted().toList();
    }
    return programs.stream()
        .flatMap(
            program ->
                instructionSets(program).stream()
                    .map(
                        isa ->
                            dynamicTest(
                                program.getFileName() + " " + isa, () -> run(program, isa))));
  }

  private static List<String> instructionSets(Path program) {
    List<String> all = OperatorLibrary.instructionSets();
    return program.getFileName().toString().startsWith("cuda_") ? List.of(all.getFirst()) : all;
  }

  private static void run(Path program, String isa) throws IOException, InterruptedException {
    ProcessBuilder builder =
        new ProcessBuilder(program.toAbsolutePath().toString()).redirectErrorStream(true);
    builder.environment().put("TACO4J_ISA", isa);
    Process process = builder.start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), output);
  }
}
