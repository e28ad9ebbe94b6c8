package org.taco4j.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.io.IOException;
import java.io.OutputStream;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.jar.JarEntry;
import java.util.jar.JarOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.ModelBuilder;

class OperatorLibraryTest {
  @TempDir Path folder;

  @Test
  void aPlatformWithoutALibraryIsARuntimeErrorThatSaysWhatToInstall() {
    ClassLoader here = OperatorLibrary.class.getClassLoader();
    TacoException e =
        assertThrows(TacoException.class, () -> OperatorLibrary.locate(here, "linux-riscv64"));
    assertEquals(TacoException.Kind.RUNTIME, e.kind());
    assertTrue(e.getMessage().contains("linux-riscv64"), e.getMessage());
    assertTrue(e.getMessage().contains("cmake"), e.getMessage());
  }

  @Test
  void aLibraryInsideAJarIsCopiedToAFolderOfTheUsersOwn() throws IOException {
    Path jar = folder.resolve("operators.jar");
    byte[] content = {1, 2, 3};
    try (OutputStream out = Files.newOutputStream(jar);
        JarOutputStream entries = new JarOutputStream(out)) {
      entries.putNextEntry(new JarEntry("META-INF/native/linux-test/libtaco4j_ops.so"));
      entries.write(content);
      entries.closeEntry();
    }
    try (URLClassLoader loader = new URLClassLoader(new URL[] {jar.toUri().toURL()}, null)) {
      Path file = OperatorLibrary.locate(loader, "linux-test");
      assertEquals(3, Files.size(file));
      assertEquals("libtaco4j_ops.so", file.getFileName().toString());
      // Nobody else may put another library in its place.
      assertEquals(
          "rwx------",
          PosixFilePermissions.toString(Files.getPosixFilePermissions(file.getParent())));
      Files.delete(file);
      Files.delete(file.getParent());
    }
  }

  @Test
  void registeringTwiceIsRegisteringOnce() throws OrtException {
    assumeTrue(OperatorLibrary.isAvailable(), "no operator library was built: no cmake?");
    byte[] model =
        new ModelBuilder(17)
            .input("x", 2)
            .output("y", 2)
            .node("Relu", List.of("x"), List.of("y"))
            .proto()
            .toByteArray();
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      OperatorLibrary.register(options);
      OperatorLibrary.register(options);
      OrtEnvironment.getEnvironment().createSession(model, options).close();
    }
  }

  @Test
  void theLibraryIsThereWhereTheBuildCouldMakeIt() {
    // Else a mistake in its name or place would only skip tests.
    boolean built = Files.exists(Path.of("target", "cmake", "tests", "bin", "c_abi_test"));
    assumeTrue(built, "no native code was built: no cmake?");
    assertTrue(OperatorLibrary.isAvailable());
    assertFalse(OperatorLibrary.file().toString().isEmpty());
  }
}
