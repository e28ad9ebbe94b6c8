package org.taco4j.compute;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Path;
import java.util.List;
import java.util.function.Predicate;
import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;
import org.taco4j.common.Workers;
import org.taco4j.compute.cuda.CudaProbe;
import org.taco4j.compute.scalar.ScalarBackend;
import org.taco4j.compute.simd.SimdBackend;

final class BackendsTest {
  private final Workers workers = new Workers(1);

  @Test
  void givesTheBackendThatWasAskedFor() {
    assertInstanceOf(ScalarBackend.class, Backends.choose("scalar", workers).backend());
    assertInstanceOf(SimdBackend.class, Backends.choose("simd", workers).backend());
    assertInstanceOf(SimdBackend.class, Backends.choose("auto", workers).backend());
  }

  @Test
  void refusesUnknownNames() {
    TacoException e = assertThrows(TacoException.class, () -> Backends.choose("opencl", workers));
    assertEquals(TacoException.Kind.USAGE, e.kind());
    assertTrue(
        e.getMessage().contains("opencl") && e.getMessage().contains("cuda"), e.getMessage());
  }

  @Test
  void cudaIsAnErrorWhereThereIsNone() {
    assumeTrue(!CudaProbe.examine().obstacle().isEmpty(), "there is a GPU here");
    TacoException e = assertThrows(TacoException.class, () -> Backends.choose("cuda", workers));
    assertEquals(TacoException.Kind.RUNTIME, e.kind());
    assertTrue(e.getMessage().contains(CudaProbe.examine().obstacle()), e.getMessage());
  }

  @Test
  void saysWhyThereIsNoSimdWithoutTheVectorModule() {
    ChildJvm.Result forced = ChildJvm.run(Chooser.class, List.of(), "simd");
    assertEquals(7, forced.exitCode(), forced.output());
    assertTrue(forced.output().contains("--add-modules jdk.incubator.vector"), forced.output());
    ChildJvm.Result auto = ChildJvm.run(Chooser.class, List.of(), "auto");
    assertEquals(0, auto.exitCode(), auto.output());
    assertTrue(auto.output().contains("chosen: scalar"), auto.output());
    assertTrue(auto.output().contains("--add-modules jdk.incubator.vector"), auto.output());
  }

  @Test
  void saysWhyThereIsNoOpenBlasAndComputesWithoutIt() {
    List<String> flags =
        List.of("--add-modules=jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED");
    Predicate<String> noNatives =
        entry -> !Path.of(entry).getFileName().toString().matches("openblas-.*-.*-.*-.*\\.jar");
    ChildJvm.Result result = ChildJvm.run(Chooser.class, flags, noNatives, "simd");
    assertEquals(0, result.exitCode(), result.output());
    assertTrue(result.output().contains("chosen: simd"), result.output());
    assertTrue(
        result.output().contains("Vector API matrix products (no OpenBLAS: "), result.output());
  }

  @Test
  void refusesVectorsThatAreTooNarrow() {
    List<String> flags = List.of("--add-modules=jdk.incubator.vector", "-XX:MaxVectorSize=8");
    ChildJvm.Result forced = ChildJvm.run(Chooser.class, flags, "simd");
    assertEquals(7, forced.exitCode(), forced.output());
    assertTrue(forced.output().contains("64-bit vectors"), forced.output());
  }

  /** Chooses the backend that the argument names, and prints it. */
  static final class Chooser {
    private Chooser() {}

    public static void main(String[] args) {
      try (Workers workers = new Workers(1)) {
        Backends.Choice choice = Backends.choose(args[0], workers);
        System.out.println("chosen: " + choice.backend().name() + ", " + choice.reason());
        System.out.println(choice.backend().description());
      } catch (TacoException e) {
        System.out.println(e.getMessage());
        System.exit(e.kind().exitCode());
      }
    }
  }
}
