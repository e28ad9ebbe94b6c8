package org.taco4j.data;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import javax.imageio.IIOException;

/**
 * Takes the one image out of a WebP file and puts it into the simplest file: what stands around it
 * in the extended format (colour profile, alpha plane, metadata, animation) is not wanted, and the
 * ImageIO plug-in would apply the profile.
 */
final class WebpContainer {
  private static final int RIFF = fourCc("RIFF");
  private static final int WEBP = fourCc("WEBP");
  private static final int LOSSY = fourCc("VP8 ");
  private static final int LOSSLESS = fourCc("VP8L");
  private static final int FRAME = fourCc("ANMF");

  /** Bytes of a chunk's name and length. */
  private static final int CHUNK_HEADER = 8;

  /** Bytes of position, size, duration and flags at the start of an animation frame. */
  private static final int FRAME_HEADER = 16;

  private WebpContainer() {}

  /**
   * A WebP file with nothing but the (first) image of {@code file}.
   *
   * @throws IIOException when there is none, or when the file ends within it
   */
  static byte[] stillImage(byte[] file) throws IIOException {
    ByteBuffer in = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN);
    int at = 12;
    while (at + CHUNK_HEADER <= file.length) {
      int name = in.getInt(at);
      long length = Integer.toUnsignedLong(in.getInt(at + 4));
      int data = at + CHUNK_HEADER;
      if (name == FRAME) {
        at = data + FRAME_HEADER;
        continue;
      }
      if (data + length > file.length) {
        throw new IIOException("the file is truncated");
      }
      if (name == LOSSY || name == LOSSLESS) {
        return simpleFile(name, in.slice(data, (int) length));
      }
      at = (int) Math.min(data + length + (length & 1), Integer.MAX_VALUE - CHUNK_HEADER);
    }
    throw new IIOException("there is no image in the WebP file, or it is truncated");
  }

  private static byte[] simpleFile(int name, ByteBuffer image) {
    int length = image.remaining();
    int padded = length + (length & 1);
    return ByteBuffer.allocate(12 + CHUNK_HEADER + padded)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putInt(RIFF)
        .putInt(4 + CHUNK_HEADER + padded)
        .putInt(WEBP)
        .putInt(name)
        .putInt(length)
        .put(image)
        .array();
  }

  private static int fourCc(String text) {
    return text.charAt(0) | text.charAt(1) << 8 | text.charAt(2) << 16 | text.charAt(3) << 24;
  }
}
