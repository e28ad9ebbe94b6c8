package org.taco4j.compute;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.compute.simd.SimdBackend;

/**
 * The contract at the vector widths below this machine's: kernels take the JVM's preferred width as
 * a constant, so each width needs a JVM that prefers it.
 */
final class VectorWidthTest {
  @ParameterizedTest
  @ValueSource(ints = {128, 256})
  void holdsTheContractAtThisWidth(int bits) {
    assumeTrue(
        bits < SimdBackend.vectorBits(), "the other tests run at %d bits or less".formatted(bits));
    ChildJvm.Result result =
        ChildJvm.run(
            ContractAtWidth.class,
            List.of(
                "--add-modules=jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED",
                "-XX:MaxVectorSize=" + bits / Byte.SIZE),
            Integer.toString(bits));
    assertEquals(0, result.exitCode(), result.output());
  }

  /** Runs the tests of {@link BackendContract} at the width that the argument says. */
  static final class ContractAtWidth {
    private ContractAtWidth() {}

    public static void main(String[] args) throws ReflectiveOperationException {
      assertEquals(Integer.parseInt(args[0]), SimdBackend.vectorBits());
      int run = 0;
      for (Method method : BackendContract.class.getDeclaredMethods()) {
        if (method.isAnnotationPresent(Test.class)) {
          try {
            method.invoke(new SimdWithoutNativesTest());
          } catch (InvocationTargetException e) {
            throw new IllegalStateException(method.getName(), e.getCause());
          }
          run++;
        }
      }
      assertEquals(18, run);
    }
  }
}
