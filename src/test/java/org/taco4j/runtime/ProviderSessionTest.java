package org.taco4j.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OrtProvider;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;
import org.taco4j.compute.cuda.CudaProbe;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;

/** On the CPU, which takes the same way; GPUs are not here. */
class ProviderSessionTest {
  private static final long[] SHAPE = {1, 3, 5, 5};

  private static OnnxModel model() {
    return new ModelBuilder(13)
        .input("x", -1, 3, 5, 5)
        .output("y", -1, 4, 5, 5)
        .random("w", 4, 3, 1, 1)
        .node("conv", "Conv", List.of("x", "w"), List.of("c"))
        .node("softmax", "Softmax", List.of("c"), List.of("y"))
        .model();
  }

  @Test
  void resultsAreThoseOfASessionAndNodesAreCounted() {
    OnnxModel model = model();
    ModelInput input = ModelInput.of(model);
    try (Session session = Session.open(model, 1);
        ProviderSession timed =
            ProviderSession.open(
                model,
                input,
                SHAPE,
                ExecutionProvider.CPU,
                new ProviderSession.EngineFlags(false, false, false, Path.of("unused")))) {
      assertFalse(timed.timesDevice());
      assertThrows(UnsupportedOperationException.class, timed::millisOnDevice);
      for (int batch : new int[] {1, 3}) {
        float[] images = new float[75 * batch];
        for (int i = 0; i < images.length; i++) {
          images[i] = i % 7 - 3;
        }
        Map<String, Tensor> feed = input.feed(images, batch, SHAPE);
        Map<String, Tensor> expected = session.run(feed);
        timed.load(images, batch);
        assertArrayEquals(expected.get("y").floats(), timed.run());
        assertTrue(timed.millisWithCopies() > 0);
        feed.values().forEach(Tensor::close);
        expected.values().forEach(Tensor::close);
      }
      // What ONNX Runtime adds to bring the layout back counts, too.
      assertEquals(java.util.Set.of("CPUExecutionProvider"), timed.nodes().keySet());
      assertTrue(timed.nodes().get("CPUExecutionProvider") >= 2, timed.nodes().toString());
    }
  }

  private static String refused(ExecutionProvider provider, CudaProbe.Findings cuda) {
    TacoException e =
        assertThrows(
            TacoException.class, () -> provider.require(cuda, EnumSet.of(OrtProvider.CPU)));
    assertEquals(TacoException.Kind.RUNTIME, e.kind());
    return e.getMessage();
  }

  @Test
  void aProviderThatIsMissingIsSaid() {
    CudaProbe.Part driver = new CudaProbe.Part("driver", true, "");
    CudaProbe.Part device = new CudaProbe.Part("device", true, "");
    assertEquals(
        "ONNX Runtime has no GPU for CUDAExecutionProvider here: no driver",
        refused(
            ExecutionProvider.CUDA,
            new CudaProbe.Findings(
                List.of(new CudaProbe.Part("driver", false, "no driver")), List.of())));
    assertEquals(
        "ONNX Runtime has no GPU for TensorrtExecutionProvider here: no GPU",
        refused(
            ExecutionProvider.TENSORRT,
            new CudaProbe.Findings(
                List.of(driver, new CudaProbe.Part("device", false, "no GPU")), List.of())));
    CudaProbe.Findings gpu = new CudaProbe.Findings(List.of(driver, device), List.of());
    assertTrue(refused(ExecutionProvider.CUDA, gpu).contains("onnxruntime_gpu in place of"));
    ExecutionProvider.CUDA.require(gpu, EnumSet.of(OrtProvider.CPU, OrtProvider.CUDA));
    ExecutionProvider.CPU.require();
  }
}
