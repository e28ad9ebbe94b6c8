package org.taco4j.runtime.tensorrt;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.function.Supplier;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.common.TacoException;
import org.taco4j.compute.cuda.CudaProbe;

/** Every way in which TensorRT can be missing. */
class TensorRtProbeTest {
  private static final CudaProbe.Findings GPU =
      new CudaProbe.Findings(
          List.of(
              new CudaProbe.Part("driver", true, "libcuda.so.1"),
              new CudaProbe.Part("device", true, "GPU 0 (NVIDIA A10, sm_86)"),
              // Kernels of this project's have nothing to do with TensorRT.
              new CudaProbe.Part("kernels", false, "built without nvcc")),
          List.of(new CudaProbe.Gpu(0, "NVIDIA A10", 86)));

  private static final Supplier<Integer> UNTOUCHED =
      () -> {
        throw new AssertionError("the bindings were touched");
      };

  @BeforeEach
  void onLinux() {
    assumeTrue(System.getProperty("os.name").contains("Linux"));
  }

  private static CudaProbe.Findings without(String part, String why) {
    List<CudaProbe.Part> parts = new ArrayList<>();
    for (CudaProbe.Part found : GPU.parts()) {
      if (found.name().equals(part)) {
        parts.add(new CudaProbe.Part(part, false, why));
        break;
      }
      parts.add(found);
    }
    return new CudaProbe.Findings(parts, List.of());
  }

  @ParameterizedTest
  @CsvSource({
    "driver, no NVIDIA driver: libcuda.so.1 is not on the library path",
    "device, the NVIDIA driver is there but sees no GPU",
  })
  void withoutDriverOrDeviceNothingElseIsLookedFor(String part, String why) {
    TensorRtProbe.Findings found =
        TensorRtProbe.examine(
            without(part, why),
            file -> {
              throw new AssertionError(file);
            },
            UNTOUCHED);
    assertEquals(why, found.obstacle());
    assertFalse(found.parts().getLast().available());
    TacoException e = assertThrows(TacoException.class, found::require);
    assertEquals(TacoException.Kind.RUNTIME, e.kind());
    assertEquals("TensorRT cannot be used here: " + why, e.getMessage());
  }

  @ParameterizedTest
  @CsvSource({
    "libcudart.so.13, CUDA runtime, cuda-cudart",
    "libcublas.so.13, cuBLAS, libcublas-13",
    "libcublasLt.so.13, cuBLAS, nvidia-cublas",
    "libcudnn_graph.so.9, cuDNN, libcudnn9-cuda-13",
    "libnvrtc.so.13, NVRTC, cuda-nvrtc",
    "libnvinfer.so.10, TensorRT, libnvinfer10",
    "libnvinfer_plugin.so.10, TensorRT plugins, libnvinfer-plugin10",
    "libnvonnxparser.so.10, TensorRT's ONNX parser, libnvonnxparsers10",
  })
  void eachLibraryIsNamedWithWhatToInstall(String file, String name, String install) {
    TensorRtProbe.Findings found =
        TensorRtProbe.examine(GPU, library -> !library.equals(file), UNTOUCHED);
    assertEquals(1, found.missing().size());
    TensorRtProbe.Part missing = found.missing().getFirst();
    assertEquals(name, missing.name());
    assertTrue(missing.detail().startsWith(file + " is not on the library path"), missing.detail());
    assertTrue(missing.detail().contains(install), missing.detail());
    assertEquals(missing.detail(), found.obstacle());
  }

  @Test
  void allLibrariesThatAreMissingAreFound() {
    TensorRtProbe.Findings found = TensorRtProbe.examine(GPU, library -> false, UNTOUCHED);
    assertEquals(7, found.missing().size());
    TacoException e = assertThrows(TacoException.class, found::require);
    assertTrue(e.getMessage().contains("libcudart.so.13"), e.getMessage());
    assertTrue(
        e.getMessage().endsWith("; 6 more are missing, `taco doctor` lists them"), e.getMessage());
  }

  @Test
  void allFilesOfALibraryThatAreMissingAreNamed() {
    String obstacle =
        TensorRtProbe.examine(GPU, library -> !library.contains("cudnn"), UNTOUCHED).obstacle();
    assertTrue(
        obstacle.startsWith(
            "libcudnn_graph.so.9, libcudnn_ops.so.9, libcudnn_cnn.so.9, libcudnn_adv.so.9 is"),
        obstacle);
  }

  @Test
  void bindingsThatDoNotLoadAndOtherVersionsAreSaid() {
    String unloaded =
        TensorRtProbe.examine(
                GPU,
                library -> true,
                () -> {
                  throw new UnsatisfiedLinkError("no jninvinfer in java.library.path: /a:/b\nmore");
                })
            .obstacle();
    assertEquals(
        "the bindings to TensorRT do not load: no jninvinfer in java.library.path: /a:/b",
        unloaded);
    String old = TensorRtProbe.examine(GPU, library -> true, () -> 80_601).obstacle();
    assertTrue(old.startsWith("TensorRT 8.6.1 is there, the bindings are for TensorRT 10"), old);
    TensorRtProbe.Findings all = TensorRtProbe.examine(GPU, library -> true, () -> 101_501);
    assertEquals("", all.obstacle());
    all.require();
    assertEquals("TensorRT 10.15.1", all.parts().getLast().detail());
    assertEquals(
        Set.of("driver", "device", "bindings"),
        Set.of(all.parts().get(0).name(), all.parts().get(1).name(), all.parts().getLast().name()));
  }
}
