package org.taco4j.compute.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.InputStream;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;

final class CudaDeviceTest {
  private static final long LIMIT = 64 << 20;

  private FakeCuda cuda;
  private CudaDevice device;

  @BeforeEach
  void open() {
    cuda = FakeCuda.load();
    device = CudaDevice.open(CudaProbe.examine().gpus().getFirst(), LIMIT);
  }

  @AfterEach
  void nothingLeaks() {
    assertEquals(0, device.openScopes());
    assertEquals(LIMIT, device.memoryLeft());
    device.close();
    cuda.close();
  }

  @Test
  void copiesArraysThereAndBack() {
    // Less than, exactly, and more than the staging buffers, which have 4 MiB.
    for (int count : new int[] {0, 1, 1021, 1 << 20, (3 << 20) + 7}) {
      float[] floats = new float[count + 5];
      int[] ints = new int[count];
      for (int i = 0; i < count; i++) {
        floats[i + 5] = i;
        ints[i] = -i;
      }
      try (DeviceScope scope = device.scope()) {
        DeviceArray array = scope.floats(count + 3);
        scope.clear(array);
        scope.upload(floats, 5, array, 2, count);
        DeviceArray others = scope.copyOf(ints);
        float[] back = new float[count + 3];
        scope.download(array, 0, back, 0, count + 3);
        assertEquals(0, back[0]);
        assertEquals(0, back[count + 2]);
        for (int i = 0; i < count; i++) {
          assertEquals(i, back[i + 2]);
        }
        int[] intsBack = new int[count];
        scope.download(others, 0, intsBack, 0, count);
        assertArrayEquals(ints, intsBack);
      }
    }
  }

  @Test
  void runsKernelsWithArgumentsOfAllTypes() {
    try (DeviceScope scope = device.scope()) {
      DeviceArray floats = scope.floats(1021);
      scope.clear(floats);
      scope.launch(
          device.kernel("fill", "taco4j_fill_f32"),
          LaunchShape.of(3, 128),
          floats.at(20),
          2.5f,
          1000L);
      float[] back = new float[1021];
      scope.download(floats, 0, back, 0, 1021);
      for (int i = 0; i < back.length; i++) {
        assertEquals(i >= 20 && i < 1020 ? 2.5f : 0, back[i]);
      }
      DeviceArray doubles = scope.doubles(3);
      scope.launch(
          device.kernel("fill", "taco4j_fill_f64"), LaunchShape.of(1, 32), doubles, -0.1, 3L);
      double[] doublesBack = new double[3];
      scope.download(doubles, 0, doublesBack, 0, 3);
      assertArrayEquals(new double[] {-0.1, -0.1, -0.1}, doublesBack);
      DeviceArray ints = scope.ints(1);
      scope.launch(device.kernel("fill", "taco4j_fill_i32"), LaunchShape.of(1, 32), ints, 7, 1L);
      assertEquals(7, scope.downloadInt(ints));
    }
  }

  @Test
  void namesWhatFails() {
    try (DeviceScope scope = device.scope()) {
      Kernel kernel = device.kernel("fill", "taco4j_fill_i32");
      DeviceArray ints = scope.ints(1);
      TacoException e =
          assertThrows(
              TacoException.class,
              () -> scope.launch(kernel, LaunchShape.of(1, 4096), ints, 7, 1L));
      assertEquals(TacoException.Kind.RUNTIME, e.kind());
      assertTrue(e.getMessage().contains("taco4j_fill_i32"), e.getMessage());
      assertTrue(e.getMessage().contains("block [4096, 1]"), e.getMessage());
      assertTrue(e.getMessage().contains("GPU 0"), e.getMessage());
      assertTrue(e.getMessage().contains("CUDA_ERROR_INVALID_VALUE"), e.getMessage());
      TacoException missing =
          assertThrows(TacoException.class, () -> device.kernel("fill", "taco4j_fill_f16"));
      assertTrue(missing.getMessage().contains("taco4j_fill_f16"), missing.getMessage());
      assertThrows(IndexOutOfBoundsException.class, () -> ints.at(2));
      assertThrows(IndexOutOfBoundsException.class, () -> scope.upload(new int[3], 0, ints, 0, 3));
      assertThrows(
          IndexOutOfBoundsException.class, () -> scope.download(ints, 0, new int[3], 0, 3));
    }
  }

  @Test
  void keepsToTheMemoryLimit() {
    try (DeviceScope scope = device.scope()) {
      DeviceArray most = scope.bytes(LIMIT - 4);
      TacoException e = assertThrows(TacoException.class, () -> scope.ints(2));
      assertEquals(TacoException.Kind.RUNTIME, e.kind());
      assertTrue(e.getMessage().contains("--gpu-memory"), e.getMessage());
      assertEquals(4, device.memoryLeft());
      scope.free(most);
      assertEquals(LIMIT, device.memoryLeft());
      scope.ints(2);
      assertEquals(LIMIT - 8, device.memoryLeft());
    }
    assertEquals(LIMIT - 4, device.peakMemory());
  }

  @Test
  void memoryThatIsGivenBackIsUsedAgain() {
    long address;
    try (DeviceScope scope = device.scope()) {
      address = scope.bytes(LIMIT / 2).address();
      scope.bytes(LIMIT / 4);
    }
    try (DeviceScope scope = device.scope()) {
      assertEquals(address, scope.bytes(LIMIT / 2).address());
    }
    // What is kept is not in the way of other sizes.
    try (DeviceScope scope = device.scope()) {
      scope.bytes(LIMIT);
      assertEquals(LIMIT, cuda.liveBytes());
    }
  }

  @Test
  void aLimitBeyondTheDeviceIsAnError() {
    TacoException e =
        assertThrows(TacoException.class, () -> CudaDevice.open(device.gpu(), Long.MAX_VALUE / 2));
    assertEquals(TacoException.Kind.USAGE, e.kind());
  }

  @Test
  void reservedMemoryIsThereWhateverOthersTake() {
    try (DeviceScope reserving = device.scope(LIMIT / 2);
        DeviceScope other = device.scope()) {
      assertThrows(TacoException.class, () -> other.bytes(LIMIT / 2 + 1));
      other.bytes(LIMIT / 2);
      DeviceArray half = reserving.bytes(LIMIT / 2);
      assertThrows(TacoException.class, () -> reserving.bytes(1));
      // What is freed stays reserved.
      reserving.free(half);
      assertThrows(TacoException.class, () -> other.bytes(1));
      reserving.bytes(LIMIT / 2);
    }
    assertThrows(TacoException.class, () -> device.scope(LIMIT + 1));
  }

  @Test
  void waitsForMemoryThatOthersHaveReserved() throws Exception {
    DeviceScope first = device.scope(LIMIT - 10);
    CompletableFuture<Void> second =
        CompletableFuture.runAsync(
            () -> {
              try (DeviceScope scope = device.scope(20)) {
                scope.bytes(20);
              }
            });
    assertThrows(
        java.util.concurrent.TimeoutException.class, () -> second.get(200, TimeUnit.MILLISECONDS));
    first.close();
    second.get(20, TimeUnit.SECONDS);
    assertFalse(second.isCompletedExceptionally());
  }

  @Test
  void aThreadDoesNotWaitForWhatItHoldsItself() {
    try (DeviceScope held = device.scope(LIMIT - 10)) {
      // Were it to wait, this test would not end.
      TacoException e = assertThrows(TacoException.class, () -> device.scope(20));
      assertTrue(e.getMessage().contains("--gpu-memory"), e.getMessage());
      assertEquals(LIMIT - 10, held.reserved());
    }
  }

  @Test
  void looksForKernelsInTheirFilesOnly() throws IOException {
    try (InputStream module = CudaModules.class.getResourceAsStream(CudaModules.resource("fill"))) {
      // Where there is no nvcc, modules are empty stand-ins.
      assumeTrue(module != null && module.readAllBytes().length > 1000, "built without nvcc");
    }
    device.kernel("gemm", "taco4j_gemm_f64");
    assertThrows(TacoException.class, () -> device.kernel("fill", "taco4j_gemm_f32"));
  }

  @Test
  void saysThatScopesWereLeftOpen() {
    CudaDevice leaking = CudaDevice.open(device.gpu(), LIMIT);
    DeviceScope scope = leaking.scope();
    scope.bytes(3);
    IllegalStateException e = assertThrows(IllegalStateException.class, leaking::close);
    assertTrue(e.getMessage().contains("1 open scopes and 3 bytes"), e.getMessage());
    scope.close();
  }
}
