package org.taco4j.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.TacoException;

final class NpyFileTest {
  @TempDir Path folder;

  @ParameterizedTest
  @CsvSource({"1, <", "1, >", "2, <", "3, >"})
  void readsEveryVersionAndByteOrder(int version, String order) throws IOException {
    for (String type : new String[] {"f4", "f8"}) {
      Path file =
          handMade(version, header(order + type, "False", "2, 3"), order, type, 1, 2, 3, 4, 5, 6.5);
      NpyFile npy = NpyFile.read(file);
      assertEquals("[2, 3]", npy.describeShape());
      assertArrayEquals(new double[] {1, 2, 3, 4, 5, 6.5}, npy.doubles());
      assertArrayEquals(new float[] {1, 2, 3, 4, 5, 6.5f}, npy.floats());
    }
    Path ints = handMade(version, header(order + "i4", "False", "2,"), order, "i4", -1, 1 << 30);
    assertArrayEquals(new int[] {-1, 1 << 30}, NpyFile.read(ints).ints());
  }

  @Test
  void readsFortranOrderSinglesAndEmptyArrays() throws IOException {
    Path fortran = handMade(1, header("<f4", "True", "2, 3"), "<", "f4", 1, 4, 2, 5, 3, 6);
    assertArrayEquals(new double[] {1, 2, 3, 4, 5, 6}, NpyFile.read(fortran).doubles());
    Path cube = handMade(1, header("<f4", "True", "2, 2, 2"), "<", "f4", 0, 4, 2, 6, 1, 5, 3, 7);
    assertArrayEquals(new double[] {0, 1, 2, 3, 4, 5, 6, 7}, NpyFile.read(cube).doubles());
    NpyFile single = NpyFile.read(handMade(1, header("<f8", "False", ""), "<", "f8", 0.01));
    assertEquals(0, single.shape().length);
    assertArrayEquals(new double[] {0.01}, single.doubles());
    assertEquals(
        0, NpyFile.read(handMade(1, header("<f4", "False", "0, 7"), "<", "f4")).floats().length);
  }

  @Test
  void readsWhatItWrites() throws IOException {
    Path file = folder.resolve("a.npy");
    float[] floats = {1, -0f, Float.MIN_VALUE, Float.MAX_VALUE, 5, 6};
    NpyFile.write(file, floats, 3, 2);
    assertArrayEquals(floats, NpyFile.read(file).floats());
    assertEquals("[3, 2]", NpyFile.read(file).describeShape());
    assertEquals(128 + 6 * 4, Files.size(file), "data begins at a multiple of 64");
    NpyFile.write(file, new byte[] {0, 1, -1}, 3);
    assertArrayEquals(new byte[] {0, 1, -1}, NpyFile.read(file).bytes());
    NpyFile.write(file, new int[] {Integer.MIN_VALUE, 7}, 2, 1);
    assertArrayEquals(new int[] {Integer.MIN_VALUE, 7}, NpyFile.read(file).ints());
    assertThrows(IllegalArgumentException.class, () -> NpyFile.write(file, new int[3], 2, 2));
  }

  /** More than one chunk of the reader, and rows that end inside a chunk. */
  @Test
  void readsLargeFiles() {
    float[] values = new float[3 * 100_003];
    for (int i = 0; i < values.length; i++) {
      values[i] = i;
    }
    Path file = folder.resolve("large.npy");
    NpyFile.write(file, values, 3, 100_003);
    assertArrayEquals(values, NpyFile.read(file).floats());
  }

  @Test
  void agreesWithNumPy() throws IOException, InterruptedException {
    String script =
        """
        import numpy as np
        a = np.arange(6, dtype=np.float32).reshape(2, 3)
        np.save('c.npy', a)
        np.save('fortran.npy', np.asfortranarray(a))
        np.save('double.npy', a.astype('>f8'))
        np.save('view.npy', np.arange(12, dtype=np.float32).reshape(4, 3)[::2] * 0 + a)
        np.save('bool.npy', a > 2)
        ours = np.load('ours.npy')
        assert ours.dtype == np.float32 and (ours == a).all(), ours
        mask = np.load('mask.npy')
        assert mask.dtype == np.uint8 and mask.shape == (3,) and (mask == [1, 0, 1]).all(), mask
        """;
    NpyFile.write(folder.resolve("ours.npy"), new float[] {0, 1, 2, 3, 4, 5}, 2, 3);
    NpyFile.write(folder.resolve("mask.npy"), new byte[] {1, 0, 1}, 3);
    assumeTrue(python("import numpy") == 0, "there is no python3 with numpy to compare with");
    assertEquals(0, python(script));
    for (String name : new String[] {"c", "fortran", "double", "view"}) {
      NpyFile file = NpyFile.read(folder.resolve(name + ".npy"));
      assertArrayEquals(new double[] {0, 1, 2, 3, 4, 5}, file.doubles(), name);
    }
    assertArrayEquals(
        new byte[] {0, 0, 0, 1, 1, 1}, NpyFile.read(folder.resolve("bool.npy")).bytes());
  }

  private int python(String script) throws IOException, InterruptedException {
    try {
      return new ProcessBuilder("python3", "-c", script)
          .directory(folder.toFile())
          .redirectErrorStream(true)
          .redirectOutput(folder.resolve("python.log").toFile())
          .start()
          .waitFor();
    } catch (IOException e) {
      return -1; // no python3
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"<f2", "<c8", "|O", "<i8", "<U5"})
  void refusesOtherTypes(String type) throws IOException {
    refused(handMade(1, header(type, "False", "1,"), "<", "f8", 0), type.substring(1), "float32");
  }

  @Test
  void refusesWhatIsNoArray() throws IOException {
    Path file = folder.resolve("x.npy");
    refused(file, "no such file");
    Files.write(file, new byte[0]);
    refused(file, "ends");
    Files.writeString(file, "PK\3\4 and so on");
    refused(file, ".npz");
    Files.writeString(file, "1.0, 2.0, 3.0");
    refused(file, "no NumPy");
    refused(handMade(4, header("<f4", "False", "1,"), "<", "f4", 0), "version 4");
    refused(handMade(1, "{}", "<", "f4", 0), "damaged");
    refused(
        handMade(
            1, "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,), }", "<", "f4", 0),
        "type");
    refused(handMade(1, header("<f4", "False", "3,"), "<", "f4", 0, 1), "8 bytes", "12");
    refused(handMade(1, header("<f4", "False", "1,"), "<", "f4", 0, 1), "8 bytes");
    refused(handMade(1, header("<f4", "False", "99999, 99999"), "<", "f4"), "[99999, 99999]");
    refused(handMade(1, header("<f4", "False", "99999999999999999999,"), "<", "f4"), "2^31");
    Files.write(file, Arrays.copyOf(new byte[] {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y', 2, 0}, 12));
    refused(file, "damaged");
  }

  @Test
  void refusesToPassOneTypeForAnother() {
    Path file = folder.resolve("mask.npy");
    NpyFile.write(file, new byte[] {1}, 1);
    NpyFile mask = NpyFile.read(file);
    TacoException e = assertThrows(TacoException.class, mask::floats);
    assertTrue(
        e.getMessage().contains("mask.npy") && e.getMessage().contains("u1"), e.getMessage());
    assertThrows(TacoException.class, mask::ints);
    NpyFile.write(file, new float[] {1}, 1);
    assertThrows(TacoException.class, () -> NpyFile.read(file).bytes());
  }

  private static void refused(Path file, String... words) {
    TacoException e = assertThrows(TacoException.class, () -> NpyFile.read(file));
    assertEquals(TacoException.Kind.DATA, e.kind());
    assertTrue(e.getMessage().contains(file.getFileName().toString()), e.getMessage());
    for (String word : words) {
      assertTrue(e.getMessage().contains(word), e.getMessage());
    }
  }

  private static String header(String type, String fortran, String shape) {
    return "{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }".formatted(type, fortran, shape);
  }

  /** A file written by hand, from numpy/lib/format.py's description of the format. */
  private Path handMade(int version, String header, String order, String type, double... values)
      throws IOException {
    ByteBuffer bytes = ByteBuffer.allocate(1000).order(ByteOrder.LITTLE_ENDIAN);
    bytes.put((byte) 0x93).put("NUMPY".getBytes(StandardCharsets.US_ASCII));
    bytes.put((byte) version).put((byte) 0);
    String padded = header + " ".repeat(200 - header.length() - 1) + "\n";
    if (version == 1) {
      bytes.putShort((short) padded.length());
    } else {
      bytes.putInt(padded.length());
    }
    bytes.put(padded.getBytes(StandardCharsets.US_ASCII));
    bytes.order(order.equals(">") ? ByteOrder.BIG_ENDIAN : ByteOrder.LITTLE_ENDIAN);
    for (double value : values) {
      switch (type) {
        case "f4" -> bytes.putFloat((float) value);
        case "f8" -> bytes.putDouble(value);
        default -> bytes.putInt((int) value);
      }
    }
    Path file = folder.resolve("hand-made.npy");
    Files.write(file, Arrays.copyOf(bytes.array(), bytes.position()));
    return file;
  }
}
