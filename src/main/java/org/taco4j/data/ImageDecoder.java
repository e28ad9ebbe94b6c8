package org.taco4j.data;

import java.awt.image.BufferedImage;
import java.awt.image.DataBuffer;
import java.awt.image.IndexColorModel;
import java.awt.image.Raster;
import java.awt.image.SampleModel;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.EnumMap;
import java.util.Iterator;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import javax.imageio.IIOException;
import javax.imageio.ImageIO;
import javax.imageio.ImageReader;
import javax.imageio.spi.ImageReaderSpi;
import javax.imageio.stream.ImageInputStream;
import javax.imageio.stream.MemoryCacheImageInputStream;
import org.jspecify.annotations.Nullable;
import org.taco4j.common.TacoException;

/**
 * Reads JPEG, PNG, WebP and BMP files, told apart by their content, into 8-bit RGB, with the
 * conventions of Pillow's {@code convert("RGB")}:
 *
 * <ul>
 *   <li>colour profiles and gamma are ignored: samples come out as they are stored;
 *   <li>grey is copied to the three channels, palettes go through their table, alpha is dropped
 *       (what lies under a transparent pixel shows), CMYK is multiplied out;
 *   <li>of 16 bits the high byte is kept (Pillow clips 16-bit grey instead, which nobody wants);
 *   <li>images are <b>not</b> rotated by their EXIF orientation, and of an animation the first
 *       frame is taken.
 * </ul>
 *
 * <p>JPEG, PNG, BMP and lossless WebP give Pillow's very bytes. Lossy WebP differs from libwebp by
 * two to four levels on average, because the decoder in use (TwelveMonkeys) does not interpolate
 * chroma and converts colours more coarsely.
 *
 * <p>Thread-safe; no temporary files, nothing global is changed.
 */
public final class ImageDecoder {
  /** Images with more pixels than this are refused before decoding. */
  public static final long MAX_PIXELS = 100_000_000L;

  /** Of the file; an uncompressed 16-bit RGBA image of {@link #MAX_PIXELS} has fewer bytes. */
  private static final long MAX_BYTES = 1L << 30;

  private enum Format {
    JPEG,
    PNG,
    WEBP,
    BMP
  }

  /**
   * The ImageIO plug-ins, looked up once: a look-up walks ImageIO's registry, which locks, and goes
   * by content anyway.
   */
  private static final Map<Format, ImageReaderSpi> READERS = findReaders();

  private ImageDecoder() {}

  private static Map<Format, ImageReaderSpi> findReaders() {
    Map<Format, ImageReaderSpi> readers = new EnumMap<>(Format.class);
    for (Format format : Format.values()) {
      Iterator<ImageReader> candidates = ImageIO.getImageReadersByFormatName(format.name());
      if (candidates.hasNext()) {
        ImageReader reader = candidates.next();
        readers.put(format, reader.getOriginatingProvider());
        reader.dispose();
      }
    }
    return readers;
  }

  /**
   * Decodes one file.
   *
   * @throws UnreadableImageException when it cannot be read, is corrupt, truncated, or of no known
   *     format
   * @throws TacoException of kind DATA when it has more than {@link #MAX_PIXELS} pixels
   */
  public static RgbImage decode(Path file) throws UnreadableImageException {
    try {
      long size = Files.size(file);
      if (size > MAX_BYTES) {
        throw new UnreadableImageException(file, "a file of " + size + " bytes", null);
      }
      return decode(file, Files.readAllBytes(file));
    } catch (TacoException e) {
      throw e;
    } catch (IOException | RuntimeException e) {
      // ImageIO's readers answer corrupt data with all kinds of runtime exceptions.
      throw new UnreadableImageException(file, reason(e), e);
    }
  }

  private static String reason(Exception e) {
    String message = e.getMessage();
    String name = e.getClass().getSimpleName();
    if (message == null || message.isBlank()) {
      return name;
    }
    // A reader's own words need no name; the message of others is often a bare number or path.
    return e instanceof IIOException ? message : name + ": " + message;
  }

  private static RgbImage decode(Path file, byte[] bytes)
      throws IOException, UnreadableImageException {
    Format format = formatOf(bytes);
    if (format == null) {
      throw new UnreadableImageException(
          file,
          bytes.length == 0 ? "the file is empty" : "the content is not JPEG, PNG, WebP or BMP",
          null);
    }
    ImageReaderSpi provider = READERS.get(format);
    if (provider == null) {
      throw TacoException.runtime(
          file + ": no ImageIO plug-in for " + format + " is on the class path");
    }
    byte[] content = format == Format.WEBP ? WebpContainer.stillImage(bytes) : bytes;
    JpegHeader jpeg = format == Format.JPEG ? JpegHeader.read(bytes) : null;
    if (jpeg != null) {
      refuseHuge(file, jpeg.width(), jpeg.height());
    }
    ImageReader reader = provider.createReaderInstance();
    try (ImageInputStream in = new MemoryCacheImageInputStream(new ByteArrayInputStream(content))) {
      reader.setInput(in, true, true);
      refuseHuge(file, reader.getWidth(0), reader.getHeight(0));
      return jpeg != null ? readJpeg(reader, jpeg) : toRgb(reader.read(0));
    } finally {
      reader.dispose();
    }
  }

  private static void refuseHuge(Path file, int width, int height) {
    if ((long) width * height > MAX_PIXELS) {
      throw TacoException.data(
          file
              + ": the image has "
              + width
              + "x"
              + height
              + " pixels, more than the "
              + MAX_PIXELS / 1_000_000
              + " megapixels that are read; scale it down or take it away");
    }
  }

  private static @Nullable Format formatOf(byte[] bytes) {
    if (startsWith(bytes, 0, 0xff, 0xd8, 0xff)) {
      return Format.JPEG;
    }
    if (startsWith(bytes, 0, 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n')) {
      return Format.PNG;
    }
    if (startsWith(bytes, 0, 'R', 'I', 'F', 'F') && startsWith(bytes, 8, 'W', 'E', 'B', 'P')) {
      return Format.WEBP;
    }
    return startsWith(bytes, 0, 'B', 'M') ? Format.BMP : null;
  }

  private static boolean startsWith(byte[] bytes, int at, int... expected) {
    if (bytes.length < at + expected.length) {
      return false;
    }
    for (int i = 0; i < expected.length; i++) {
      if ((bytes[at + i] & 0xff) != expected[i]) {
        return false;
      }
    }
    return true;
  }

  /**
   * A JPEG's raw samples, upsampled but with no colour conversion, so that neither ImageIO's guess
   * of the colour space nor a profile has a say; the conversion is {@link JpegHeader}'s.
   */
  private static RgbImage readJpeg(ImageReader reader, JpegHeader header) throws IOException {
    AtomicBoolean truncated = new AtomicBoolean();
    // The decoder fills up a truncated file with grey and says so in a warning only.
    reader.addIIOReadWarningListener(
        (source, warning) -> {
          if (warning.startsWith("Truncated File")) {
            truncated.set(true);
          }
        });
    Raster raster = reader.readRaster(0, null);
    if (truncated.get()) {
      throw new IIOException("the file is truncated");
    }
    if (raster.getNumBands() != header.components()) {
      throw new IIOException(
          raster.getNumBands() + " channels decoded, " + header.components() + " in the header");
    }
    int width = raster.getWidth();
    int height = raster.getHeight();
    byte[] rgb = new byte[Math.multiplyExact(3, Math.multiplyExact(width, height))];
    SampleRows rows = new SampleRows(raster);
    for (int y = 0; y < height; y++) {
      header.toRgb(rows.read(y), width, rgb, 3 * y * width);
    }
    return new RgbImage(width, height, rgb);
  }

  /**
   * An image in memory, by the conventions above: by its stored samples, as {@link
   * BufferedImage#getRGB} would convert grey and profiles by colour space.
   */
  public static RgbImage toRgb(BufferedImage image) {
    Raster raster = image.getRaster();
    int width = raster.getWidth();
    int height = raster.getHeight();
    int bands = raster.getNumBands();
    byte[] rgb = new byte[Math.multiplyExact(3, Math.multiplyExact(width, height))];
    SampleRows rows = new SampleRows(raster);
    byte @Nullable [][] palette =
        image.getColorModel() instanceof IndexColorModel colors ? paletteOf(colors) : null;
    int at = 0;
    for (int y = 0; y < height; y++) {
      byte[] row = rows.read(y);
      for (int x = 0; x < width; x++) {
        for (int channel = 0; channel < 3; channel++) {
          rgb[at++] =
              palette != null
                  ? palette[channel][row[x] & 0xff]
                  : row[x * bands + (bands < 3 ? 0 : channel)];
        }
      }
    }
    return new RgbImage(width, height, rgb);
  }

  private static byte[][] paletteOf(IndexColorModel colors) {
    // Never shorter than an index can be: a broken file may point past its palette's end.
    byte[][] palette = new byte[3][Math.max(256, colors.getMapSize())];
    colors.getReds(palette[0]);
    colors.getGreens(palette[1]);
    colors.getBlues(palette[2]);
    return palette;
  }

  /**
   * Hands out the rows of a raster as bytes, [columns, bands]; palette indices stay as they are.
   */
  private static final class SampleRows {
    private final Raster raster;
    private final int bands;
    private final boolean asStored;
    private final byte[] row;
    private final int[] wide;
    private final int[] bits;

    SampleRows(Raster raster) {
      this.raster = raster;
      this.bands = raster.getNumBands();
      SampleModel model = raster.getSampleModel();
      this.bits = model.getSampleSize();
      boolean packedIndices = bands == 1 && bits[0] < 8;
      boolean bytes = model.getTransferType() == DataBuffer.TYPE_BYTE;
      for (int size : bits) {
        bytes &= size == 8;
      }
      // One data element a sample, in band order: a copy.
      this.asStored = bytes && model.getNumDataElements() == bands;
      if (packedIndices) {
        bits[0] = 8;
      }
      this.row = new byte[raster.getWidth() * bands];
      this.wide = new int[asStored ? 0 : row.length];
    }

    byte[] read(int y) {
      int width = raster.getWidth();
      int left = raster.getMinX();
      int top = raster.getMinY();
      if (asStored) {
        raster.getDataElements(left, top + y, width, 1, row);
        return row;
      }
      raster.getPixels(left, top + y, width, 1, wide);
      for (int i = 0; i < row.length; i++) {
        row[i] = (byte) toEightBits(wide[i], bits[i % bands]);
      }
      return row;
    }

    private static int toEightBits(int sample, int size) {
      if (size >= 8) {
        return sample >>> (size - 8);
      }
      return sample * 255 / ((1 << size) - 1);
    }
  }
}
