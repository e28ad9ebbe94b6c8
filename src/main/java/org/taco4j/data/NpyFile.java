package org.taco4j.data;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.TacoException;

/**
 * An array in NumPy's {@code .npy} format: versions 1 to 3, C and Fortran order, little and big
 * endian. Our own code, as no JVM library for the format is kept up and what is needed of it is a
 * header line and plain numbers.
 *
 * @param file where it was read from, for messages
 * @param type of the elements in the file: {@code f4}, {@code f8}, {@code i4}, {@code u1} or {@code
 *     b1}
 * @param shape sizes of the axes; [] for a single number
 * @param values the elements in C order; every type here fits a double exactly
 */
@SuppressWarnings("ArrayRecordComponent") // large; whoever gets the record owns the arrays
public record NpyFile(Path file, String type, int[] shape, double[] values) {
  private static final byte[] MAGIC = {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y'};

  /** The header's text begins at this offset in version 1; data at a multiple of the alignment. */
  private static final int VERSION_1_PREFIX = 10;

  private static final int ALIGNMENT = 64;
  private static final int LONGEST_HEADER = 1 << 16;
  private static final int CHUNK_BYTES = 1 << 20;

  private static final Pattern TYPE =
      Pattern.compile("['\"]descr['\"]\\s*:\\s*['\"]([<>|=]?)([^'\"]+)['\"]");
  private static final Pattern FORTRAN =
      Pattern.compile("['\"]fortran_order['\"]\\s*:\\s*(True|False)");
  private static final Pattern SHAPE =
      Pattern.compile("['\"]shape['\"]\\s*:\\s*\\(([\\d\\s,]*)\\)");

  /**
   * Reads a file.
   *
   * @throws TacoException of kind DATA for a file that is missing, damaged, no {@code .npy} file,
   *     or of a type other than float32, float64, int32, uint8 and bool
   */
  public static NpyFile read(Path file) {
    try (FileChannel channel = FileChannel.open(file)) {
      Header header = Header.read(file, channel);
      long elements = 1;
      for (int size : header.shape) {
        elements = Math.multiplyExact(elements, size);
      }
      int bytes = size(header.type);
      long found = channel.size() - channel.position();
      if (found != Math.multiplyExact(elements, bytes)) {
        throw damaged(
            file,
            "%d bytes follow the header, an array %s of type %s takes %d"
                .formatted(found, Arrays.toString(header.shape), header.type, elements * bytes));
      }
      double[] values = new double[Math.toIntExact(elements)];
      decode(channel, header, values);
      return new NpyFile(
          file,
          header.type,
          header.shape,
          header.fortran ? toRowMajor(values, header.shape) : values);
    } catch (NoSuchFileException e) {
      throw new TacoException(TacoException.Kind.DATA, file + ": there is no such file", e);
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.DATA, file + ": the file cannot be read: " + e.getMessage(), e);
    } catch (ArithmeticException e) {
      throw new TacoException(
          TacoException.Kind.DATA, file + ": arrays of 2^31 elements and more cannot be read", e);
    }
  }

  /** What stands before the elements. */
  @SuppressWarnings("ArrayRecordComponent") // handed on to the file's record
  private record Header(String type, ByteOrder order, boolean fortran, int[] shape) {

    static Header read(Path file, FileChannel channel) throws IOException {
      byte[] start = bytes(file, channel, MAGIC.length + 2);
      if (!Arrays.equals(start, 0, MAGIC.length, MAGIC, 0, MAGIC.length)) {
        throw damaged(
            file,
            start[0] == 'P' && start[1] == 'K'
                ? "this is an .npz archive; save the array by itself with numpy.save"
                : "this is no NumPy .npy file; write it with numpy.save");
      }
      int version = start[MAGIC.length];
      if (version < 1 || version > 3) {
        throw damaged(file, "version " + version + " of the .npy format is not known");
      }
      ByteBuffer length =
          ByteBuffer.wrap(bytes(file, channel, version == 1 ? Short.BYTES : Integer.BYTES))
              .order(ByteOrder.LITTLE_ENDIAN);
      int size = version == 1 ? Short.toUnsignedInt(length.getShort()) : length.getInt();
      if (size < 0 || size > LONGEST_HEADER) {
        throw damaged(file, "a header of " + Integer.toUnsignedLong(size) + " bytes");
      }
      return parse(file, new String(bytes(file, channel, size), StandardCharsets.UTF_8));
    }

    private static Header parse(Path file, String text) {
      Matcher type = TYPE.matcher(text);
      Matcher fortran = FORTRAN.matcher(text);
      Matcher shape = SHAPE.matcher(text);
      if (!fortran.find() || !shape.find() || !text.contains("descr")) {
        throw damaged(file, "the header is damaged: " + text.strip());
      }
      if (!type.find() || size(type.group(2)) == 0) {
        throw damaged(
            file,
            "elements of type %s cannot be used; save it with .astype(numpy.float32)"
                .formatted(
                    text.strip().replaceFirst(".*?descr['\"]\\s*:\\s*(.*?),\\s*'f.*", "$1")));
      }
      ByteOrder order =
          switch (type.group(1)) {
            case ">" -> ByteOrder.BIG_ENDIAN;
            case "=" -> ByteOrder.nativeOrder();
            default -> ByteOrder.LITTLE_ENDIAN;
          };
      int[] sizes =
          Arrays.stream(shape.group(1).split(","))
              .map(String::strip)
              .filter(s -> !s.isEmpty())
              .mapToLong(s -> s.length() < 19 ? Long.parseLong(s) : Long.MAX_VALUE)
              .mapToInt(Math::toIntExact)
              .toArray();
      return new Header(type.group(2), order, fortran.group(1).equals("True"), sizes);
    }

    private static byte[] bytes(Path file, FileChannel channel, int count) throws IOException {
      ByteBuffer buffer = ByteBuffer.allocate(count);
      fill(file, channel, buffer);
      return buffer.array();
    }
  }

  private static void fill(Path file, FileChannel channel, ByteBuffer buffer) throws IOException {
    while (buffer.hasRemaining()) {
      if (channel.read(buffer) < 0) {
        throw damaged(file, "this is no NumPy .npy file: it ends before its header does");
      }
    }
    buffer.flip();
  }

  private static TacoException damaged(Path file, String what) {
    return TacoException.data(file + ": " + what);
  }

  /** Bytes of an element; 0 for types that are not read. */
  private static int size(String type) {
    return switch (type) {
      case "f4", "i4" -> 4;
      case "f8" -> 8;
      case "u1", "b1" -> 1;
      default -> 0;
    };
  }

  private static void decode(FileChannel channel, Header header, double[] values)
      throws IOException {
    int size = size(header.type);
    ByteBuffer chunk = ByteBuffer.allocate(CHUNK_BYTES).order(header.order);
    for (int i = 0; i < values.length; ) {
      chunk.clear().limit((int) Math.min(CHUNK_BYTES, (long) size * (values.length - i)));
      while (chunk.hasRemaining() && channel.read(chunk) >= 0) {}
      chunk.flip();
      for (; chunk.remaining() >= size; i++) {
        values[i] =
            switch (header.type) {
              case "f4" -> chunk.getFloat();
              case "f8" -> chunk.getDouble();
              case "i4" -> chunk.getInt();
              default -> Byte.toUnsignedInt(chunk.get());
            };
      }
    }
  }

  /** From the order in which the first index runs fastest to that in which the last one does. */
  private static double[] toRowMajor(double[] values, int[] shape) {
    double[] result = new double[values.length];
    int[] index = new int[shape.length];
    for (double value : values) {
      int at = 0;
      for (int axis = 0; axis < shape.length; axis++) {
        at = at * shape[axis] + index[axis];
      }
      result[at] = value;
      for (int axis = 0; axis < shape.length && ++index[axis] == shape[axis]; axis++) {
        index[axis] = 0;
      }
    }
    return result;
  }

  /** {@code "[32, 144]"}. */
  public String describeShape() {
    return Arrays.toString(shape);
  }

  /**
   * The elements of a float32 or float64 file.
   *
   * @throws TacoException of kind DATA for other types
   */
  public double[] doubles() {
    require(List.of("f4", "f8"), "float32 or float64");
    return values;
  }

  /**
   * The elements of a float32 or float64 file, rounded to float32.
   *
   * @throws TacoException of kind DATA for other types
   */
  public float[] floats() {
    double[] from = doubles();
    float[] floats = new float[from.length];
    for (int i = 0; i < floats.length; i++) {
      floats[i] = (float) from[i];
    }
    return floats;
  }

  /**
   * The elements of an int32 file.
   *
   * @throws TacoException of kind DATA for other types
   */
  public int[] ints() {
    require(List.of("i4"), "int32");
    return Arrays.stream(values).mapToInt(v -> (int) v).toArray();
  }

  /**
   * The elements of a uint8 or bool file.
   *
   * @throws TacoException of kind DATA for other types
   */
  public byte[] bytes() {
    require(List.of("u1", "b1"), "uint8 or bool");
    byte[] bytes = new byte[values.length];
    for (int i = 0; i < bytes.length; i++) {
      bytes[i] = (byte) values[i];
    }
    return bytes;
  }

  private void require(List<String> types, String names) {
    if (!types.contains(type)) {
      throw damaged(
          file, "elements are of type %s, %s is needed; convert it".formatted(type, names));
    }
  }

  /** Writes float32, little endian, C order; {@link AtomicFiles}. */
  public static void write(Path file, float[] values, int... shape) {
    ByteBuffer data = data("<f4", Float.BYTES, values.length, shape);
    for (float value : values) {
      data.putFloat(value);
    }
    write(file, data);
  }

  /** Writes int32, little endian, C order; {@link AtomicFiles}. */
  public static void write(Path file, int[] values, int... shape) {
    ByteBuffer data = data("<i4", Integer.BYTES, values.length, shape);
    for (int value : values) {
      data.putInt(value);
    }
    write(file, data);
  }

  /** Writes uint8, C order; {@link AtomicFiles}. */
  public static void write(Path file, byte[] values, int... shape) {
    ByteBuffer data = data("|u1", Byte.BYTES, values.length, shape).put(values);
    write(file, data);
  }

  private static void write(Path file, ByteBuffer data) {
    AtomicFiles.write(file, out -> Channels.newChannel(out).write(data.flip()));
  }

  /** A file in memory, at the place of its first element. */
  private static ByteBuffer data(String type, int size, int elements, int[] shape) {
    StringBuilder sizes = new StringBuilder();
    int expected = 1;
    for (int axis : shape) {
      sizes.append(axis).append(", ");
      expected = Math.multiplyExact(expected, axis);
    }
    if (expected != elements) {
      throw new IllegalArgumentException(
          elements + " elements for an array " + Arrays.toString(shape));
    }
    // NumPy writes (2, 3) but (2,).
    String tuple = shape.length == 1 ? shape[0] + "," : sizes.toString().replaceFirst(", $", "");
    String text = "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }".formatted(type, tuple);
    int end = (VERSION_1_PREFIX + text.length() + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    ByteBuffer data =
        ByteBuffer.allocate(Math.addExact(end, Math.multiplyExact(size, elements)))
            .order(ByteOrder.LITTLE_ENDIAN);
    data.put(MAGIC).put((byte) 1).put((byte) 0).putShort((short) (end - VERSION_1_PREFIX));
    data.put(text.getBytes(StandardCharsets.US_ASCII));
    while (data.position() < end - 1) {
      data.put((byte) ' ');
    }
    return data.put((byte) '\n');
  }
}
