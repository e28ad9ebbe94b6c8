package org.taco4j.execute;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;
import org.taco4j.compute.ChildJvm;
import org.taco4j.onnx.ModelBuilder;

/** A class path without libtorch's natives. */
class WithoutLibTorchTest {
  /** Prints the reason; ends with the exit code of the error. */
  public static void main(String[] arguments) {
    System.out.println("unavailable: " + TorchGraph.unavailable().orElse("no"));
    try {
      TorchGraph.of(
          new ModelBuilder(17)
              .input("x", 1, 3)
              .node("Relu", List.of("x"), List.of("y"))
              .output("y", 1, 3)
              .model());
    } catch (TacoException e) {
      System.out.println(e.getMessage());
      System.exit(e.kind().exitCode());
    }
  }

  @Test
  void theReasonIsGiven() {
    ChildJvm.Result result =
        ChildJvm.run(
            WithoutLibTorchTest.class,
            List.of("--enable-native-access=ALL-UNNAMED"),
            entry -> !entry.matches(".*pytorch-[^/\\\\]*-(linux|macosx|windows)[^/\\\\]*\\.jar"));
    assertEquals(TacoException.Kind.RUNTIME.exitCode(), result.exitCode(), result.output());
    assertTrue(
        result.output().contains("unavailable: java.lang.UnsatisfiedLinkError"), result.output());
    assertTrue(result.output().contains("libtorch cannot be loaded: "), result.output());
  }
}
