package org.taco4j.solve;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Reads NumPy's {@code .npy} files, version 1.0, C order, little endian, of the types that the
 * golden cases use.
 *
 * @param type {@code "<f4"}, {@code "<f8"}, {@code "<i4"} or {@code "|u1"}
 * @param shape the sizes of the axes
 * @param content the elements
 */
record NpyFile(String type, int[] shape, ByteBuffer content) {
  private static final byte[] MAGIC = {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
  private static final Pattern HEADER =
      Pattern.compile(
          "\\{'descr': '(?<type>[^']+)', 'fortran_order': False, 'shape': \\((?<shape>[^)]*)\\), \\}\\s*");

  static NpyFile read(Path file) {
    ByteBuffer bytes;
    try {
      bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    byte[] magic = new byte[MAGIC.length];
    bytes.get(magic);
    byte[] header = new byte[Short.toUnsignedInt(bytes.getShort())];
    bytes.get(header);
    Matcher matcher = HEADER.matcher(new String(header, StandardCharsets.US_ASCII));
    if (!Arrays.equals(magic, MAGIC) || !matcher.matches()) {
      throw new IllegalArgumentException(file + ": no .npy file of version 1.0 in C order");
    }
    int[] shape =
        Pattern.compile(",")
            .splitAsStream(matcher.group("shape"))
            .map(String::strip)
            .filter(size -> !size.isEmpty())
            .mapToInt(Integer::parseInt)
            .toArray();
    return new NpyFile(matcher.group("type"), shape, bytes.slice().order(ByteOrder.LITTLE_ENDIAN));
  }

  /** The elements of a float32 file. */
  float[] floats() {
    check("<f4");
    float[] values = new float[content.remaining() / Float.BYTES];
    content.asFloatBuffer().get(values);
    return values;
  }

  /** The elements of a uint8 file. */
  byte[] bytes() {
    check("|u1");
    byte[] values = new byte[content.remaining()];
    content.duplicate().get(values);
    return values;
  }

  /** The elements of an int32 file. */
  int[] ints() {
    check("<i4");
    int[] values = new int[content.remaining() / Integer.BYTES];
    content.asIntBuffer().get(values);
    return values;
  }

  private void check(String expected) {
    if (!type.equals(expected)) {
      throw new IllegalArgumentException("elements are " + type + ", not " + expected);
    }
  }
}
