package org.taco4j.runtime.tensorrt;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;
import org.taco4j.compute.cuda.FakeCuda;

/** On a driver without a GPU, which finds what is not freed. */
class GpuStreamTest {

  @Test
  void whatGoesToTheDeviceComesBack() {
    try (FakeCuda cuda = FakeCuda.load()) {
      cuda.capability(86);
      try (GpuStream stream = GpuStream.open()) {
        assertEquals("sm_86", stream.device().capability());
        assertFalse(stream.device().name().isEmpty());
        assertEquals(32, stream.device().uuid().length());
        assertTrue(stream.device().driver() >= 13000);
        for (int count : new int[] {1, 3, 1021}) {
          GpuStream.Buffer buffer = stream.allocate("x", 4L * count);
          assertTrue(buffer.devicePointer().address() != 0);
          float[] values = new float[count];
          for (int i = 0; i < count; i++) {
            values[i] = i - 0.5f;
          }
          buffer.host().asFloatBuffer().put(values);
          stream.upload(buffer);
          stream.synchronize();
          buffer.host().asFloatBuffer().put(new float[count]);
          double millis = stream.millis(() -> stream.download(buffer));
          assertTrue(millis >= 0, () -> millis + " ms");
          float[] back = new float[count];
          buffer.host().asFloatBuffer().get(back);
          assertArrayEquals(values, back);
        }
        stream.freeBuffers();
        // A tensor without elements has an address all the same.
        assertTrue(stream.allocate("nothing", 0).devicePointer().address() != 0);
      }
    }
  }

  @Test
  void memoryThatIsNotThereIsSaid() {
    try (FakeCuda cuda = FakeCuda.load()) {
      cuda.memory(1 << 20);
      try (GpuStream stream = GpuStream.open()) {
        TacoException e =
            assertThrows(TacoException.class, () -> stream.allocate("'images'", 1 << 24));
        assertEquals(TacoException.Kind.RUNTIME, e.kind());
        assertEquals(
            "'images': 16777216 bytes on the GPU: CUDA_ERROR_OUT_OF_MEMORY", e.getMessage());
      }
    }
  }
}
