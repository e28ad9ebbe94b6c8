package org.taco4j.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.channels.Channels;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.taco4j.common.TacoException;
import org.taco4j.onnx.ModelBuilder;
import org.taco4j.onnx.OnnxModel;

class ModelInputTest {
  private static OnnxModel identity(long... shape) {
    return new ModelBuilder(17)
        .input("x", shape)
        .node("same", "Identity", List.of("x"), List.of("y"))
        .output("y", shape)
        .model();
  }

  @Test
  void readsBatchLayoutAndSize() {
    assertEquals(
        new ModelInput("x", -1, false, 224, 192), ModelInput.of(identity(-1, 3, 224, 192)));
    assertEquals(new ModelInput("x", 1, true, 128, 96), ModelInput.of(identity(1, 128, 96, 3)));
    assertEquals(new ModelInput("x", 4, false, -1, -1), ModelInput.of(identity(4, 3, -1, -1)));
    assertEquals(new ModelInput("x", -1, false, 3, 3), ModelInput.of(identity(-1, 3, 3, 3)));
    assertEquals(new ModelInput("x", -1, true, -1, -1), ModelInput.of(identity(-1, -1, -1, 3)));
  }

  @Test
  void theBatchSizeDependsOnTheImageSizeOnly() {
    ModelInput free = ModelInput.of(identity(-1, 3, -1, -1));
    assertEquals(2, free.batchSize(224, 224));
    assertEquals(64, free.batchSize(32, 32));
    assertEquals(1, free.batchSize(1000, 1000));
    assertEquals(3, ModelInput.of(identity(3, 3, -1, -1)).batchSize(224, 224));
  }

  @Test
  void aFixedBatchIsFilledWithTheLastImage() {
    OnnxModel model = identity(3, 3, 1, 1);
    float[] images = {1, 2, 3, 4, 5, 6, 0, 0, 0};
    Map<String, Tensor> feed = ModelInput.of(model).feed(images, 2, new long[] {1, 3, 1, 1});
    try (Session session = Session.open(model, 1);
        Tensor output = session.run(feed).get("y")) {
      assertArrayEquals(new long[] {3, 3, 1, 1}, output.shape());
      assertArrayEquals(new float[] {1, 2, 3, 4, 5, 6, 4, 5, 6}, output.floats());
    } finally {
      feed.values().forEach(Tensor::close);
    }
  }

  @Test
  void onlyTheLeadingPartOfAFilledBatchBelongsToImages() {
    ModelInput fixed = ModelInput.of(identity(4, 3, 1, 1));
    assertArrayEquals(new long[] {6, 5}, fixed.leading("t", new long[] {8, 5}, 3));
    assertArrayEquals(new long[] {7, 5}, fixed.leading("t", new long[] {7, 5}, 4));
    TacoException e =
        assertThrows(TacoException.class, () -> fixed.leading("tokens", new long[] {7, 5}, 3));
    assertEquals(TacoException.Kind.MODEL, e.kind());
    assertTrue(e.getMessage().contains("tokens has shape [7, 5]"), e.getMessage());
    assertThrows(TacoException.class, () -> fixed.leading("t", new long[0], 3));
  }

  @Test
  void aFloat16TensorComesBackFromAFile() throws IOException {
    float[] values = {1.5f, -0f, 65504, 0.1f};
    ByteArrayOutputStream file = new ByteArrayOutputStream();
    try (Tensor tensor = Tensor.ofFloats(Tensor.FLOAT16, values, 2, 2)) {
      assertEquals(Tensor.FLOAT16, tensor.elementType());
      tensor.writeTo(Channels.newChannel(file));
    }
    assertEquals(8, file.size());
    try (Tensor tensor =
        Tensor.read(
            Channels.newChannel(new ByteArrayInputStream(file.toByteArray())),
            Tensor.FLOAT16,
            2,
            2)) {
      assertArrayEquals(
          new float[] {1.5f, -0f, 65504, Float.float16ToFloat(Float.floatToFloat16(0.1f))},
          tensor.floats());
    }
    int bfloat16 = 16;
    TacoException e =
        assertThrows(TacoException.class, () -> Tensor.ofFloats(bfloat16, values, 2, 2));
    assertEquals(TacoException.Kind.MODEL, e.kind());
    assertTrue(e.getMessage().contains("BFLOAT16"), e.getMessage());
  }

  @Test
  void aTensorComesBackFromAFile() throws IOException {
    float[] values = {1.5f, Float.MIN_VALUE, -0f, Float.POSITIVE_INFINITY, 3, 4};
    ByteArrayOutputStream file = new ByteArrayOutputStream();
    try (Tensor tensor = Tensor.ofFloats(values, 2, 3)) {
      assertEquals(Tensor.FLOAT, tensor.elementType());
      assertEquals(24, tensor.bytes());
      tensor.writeTo(Channels.newChannel(file));
    }
    assertEquals(24, file.size());
    try (Tensor tensor =
        Tensor.read(
            Channels.newChannel(new ByteArrayInputStream(file.toByteArray())),
            Tensor.FLOAT,
            2,
            3)) {
      assertArrayEquals(values, tensor.floats());
      assertArrayEquals(new long[] {2, 3}, tensor.shape());
    }
    assertThrows(
        EOFException.class,
        () ->
            Tensor.read(
                Channels.newChannel(new ByteArrayInputStream(new byte[20])), Tensor.FLOAT, 2, 3));
  }

  @Test
  void anInputOfTheWrongShapeIsNamedByTheRuntime() {
    OnnxModel model = identity(-1, 3, 4, 4);
    try (Session session = Session.open(model, 1);
        Tensor wrong = Tensor.ofFloats(new float[12], 1, 3, 2, 2)) {
      TacoException e = assertThrows(TacoException.class, () -> session.run(Map.of("x", wrong)));
      assertEquals(TacoException.Kind.MODEL, e.kind());
      assertTrue(e.getMessage().contains("x"), e.getMessage());
    }
  }
}
