package org.taco4j.data;

import javax.imageio.IIOException;

/**
 * What a JPEG file's markers say of its size and colours, and the conversion of raw samples to RGB.
 * The rules are those of libjpeg and Pillow, which differ from ImageIO's.
 *
 * @param width columns
 * @param height rows
 * @param components channels of the raw samples
 * @param colors what the channels mean
 */
record JpegHeader(int width, int height, int components, Colors colors) {
  /** What the channels of a JPEG file are. */
  enum Colors {
    GREY,
    RGB,
    YCC,
    /** Stored inverted, as Adobe does. */
    CMYK,
    /** CMYK whose first three channels went through the YCC transform. */
    YCCK
  }

  private static final int START_OF_SCAN = 0xda;

  /** JFIF's YCC to RGB in 16-bit fixed point: [chroma sample]. */
  private static final int[] CR_TO_RED = new int[256];

  private static final int[] CB_TO_BLUE = new int[256];

  /** Not yet shifted: the two are added first. */
  private static final int[] CR_TO_GREEN = new int[256];

  private static final int[] CB_TO_GREEN = new int[256];

  static {
    int half = 1 << 15;
    for (int i = 0; i < 256; i++) {
      int chroma = i - 128;
      CR_TO_RED[i] = (fixed(1.40200) * chroma + half) >> 16;
      CB_TO_BLUE[i] = (fixed(1.77200) * chroma + half) >> 16;
      CR_TO_GREEN[i] = -fixed(0.71414) * chroma;
      CB_TO_GREEN[i] = -fixed(0.34414) * chroma + half;
    }
  }

  private static int fixed(double factor) {
    return (int) (factor * (1 << 16) + 0.5);
  }

  /**
   * Reads the markers up to the first scan.
   *
   * @throws IIOException when there is no frame header, or one with a number of channels that is
   *     none of 1, 3 and 4
   */
  static JpegHeader read(byte[] bytes) throws IIOException {
    boolean jfif = false;
    int adobeTransform = -1;
    int frame = -1;
    int at = 2;
    while (at + 4 <= bytes.length) {
      int marker = bytes[at + 1] & 0xff;
      if ((bytes[at] & 0xff) != 0xff || marker == 0xff || marker == 0) {
        at++; // Fill bytes, or rubbish between segments, which decoders skip too.
        continue;
      }
      if (marker == START_OF_SCAN) {
        break;
      }
      if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
        at += 2;
        continue;
      }
      int data = at + 4;
      int length = unsignedShort(bytes, at + 2) - 2;
      if (length < 0 || data + length > bytes.length) {
        throw new IIOException("the file is truncated in its header");
      }
      if (marker == 0xe0 && length >= 5 && text(bytes, data, "JFIF\0")) {
        jfif = true;
      } else if (marker == 0xee && length >= 12 && text(bytes, data, "Adobe")) {
        adobeTransform = bytes[data + 11] & 0xff;
      } else if (isStartOfFrame(marker) && length >= 6) {
        frame = data;
      }
      at = data + length;
    }
    if (frame < 0) {
      throw new IIOException("there is no frame header");
    }
    int components = bytes[frame + 5] & 0xff;
    return new JpegHeader(
        unsignedShort(bytes, frame + 3),
        unsignedShort(bytes, frame + 1),
        components,
        colorsOf(bytes, frame, components, jfif, adobeTransform));
  }

  private static Colors colorsOf(
      byte[] bytes, int frame, int components, boolean jfif, int adobeTransform)
      throws IIOException {
    return switch (components) {
      case 1 -> Colors.GREY;
      case 3 -> {
        if (jfif) {
          yield Colors.YCC;
        }
        if (adobeTransform >= 0) {
          yield adobeTransform == 0 ? Colors.RGB : Colors.YCC;
        }
        boolean named =
            frame + 15 <= bytes.length
                && bytes[frame + 6] == 'R'
                && bytes[frame + 9] == 'G'
                && bytes[frame + 12] == 'B';
        yield named ? Colors.RGB : Colors.YCC;
      }
      case 4 -> adobeTransform > 0 ? Colors.YCCK : Colors.CMYK;
      default -> throw new IIOException(components + " channels; 1, 3 and 4 are read");
    };
  }

  private static boolean isStartOfFrame(int marker) {
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
  }

  private static int unsignedShort(byte[] bytes, int at) {
    return (bytes[at] & 0xff) << 8 | (bytes[at + 1] & 0xff);
  }

  private static boolean text(byte[] bytes, int at, String expected) {
    for (int i = 0; i < expected.length(); i++) {
      if (bytes[at + i] != expected.charAt(i)) {
        return false;
      }
    }
    return true;
  }

  /**
   * Converts one row.
   *
   * @param raw raw samples, [width, components]
   * @param rgb the image, written from {@code to} on, [width, 3]
   */
  void toRgb(byte[] raw, int rowWidth, byte[] rgb, int to) {
    int in = 0;
    int out = to;
    for (int x = 0; x < rowWidth; x++, in += components, out += 3) {
      switch (colors) {
        case GREY -> {
          rgb[out] = raw[in];
          rgb[out + 1] = raw[in];
          rgb[out + 2] = raw[in];
        }
        case RGB, CMYK -> {
          rgb[out] = raw[in];
          rgb[out + 1] = raw[in + 1];
          rgb[out + 2] = raw[in + 2];
        }
        case YCC, YCCK -> {
          int y = raw[in] & 0xff;
          int cb = raw[in + 1] & 0xff;
          int cr = raw[in + 2] & 0xff;
          rgb[out] = clip(y + CR_TO_RED[cr]);
          rgb[out + 1] = clip(y + ((CB_TO_GREEN[cb] + CR_TO_GREEN[cr]) >> 16));
          rgb[out + 2] = clip(y + CB_TO_BLUE[cb]);
        }
      }
      if (components == 4) {
        // What is stored for black is its absence, so 255 prints none; YCCK's three are plain inks.
        int light = raw[in + 3] & 0xff;
        for (int channel = out; channel < out + 3; channel++) {
          int stored = rgb[channel] & 0xff;
          int ink = colors == Colors.YCCK ? stored : 255 - stored;
          rgb[channel] = clip(light - multiplied(ink, light));
        }
      }
    }
  }

  /** a * b / 255 for samples, rounded. */
  private static int multiplied(int a, int b) {
    int product = a * b + 128;
    return ((product >> 8) + product) >> 8;
  }

  private static byte clip(int value) {
    return (byte) Math.clamp(value, 0, 255);
  }
}
