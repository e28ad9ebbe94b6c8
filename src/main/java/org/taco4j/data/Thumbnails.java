package org.taco4j.data;

import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Path;
import javax.imageio.IIOImage;
import javax.imageio.ImageIO;
import javax.imageio.ImageWriteParam;
import javax.imageio.ImageWriter;
import javax.imageio.stream.MemoryCacheImageOutputStream;

/** Small JPEGs of images, decoded and turned as they are for the model. */
public final class Thumbnails {
  private static final float QUALITY = 0.85f;

  private Thumbnails() {}

  /**
   * A JPEG of the whole image, before resize, crop and normalisation of a model. Small images are
   * blown up by a whole factor, so that they stay as sharp as they are.
   *
   * @param longSide pixels at most
   * @throws UnreadableImageException as {@link ImageDecoder#decode}
   */
  public static byte[] jpeg(Path file, int longSide) throws UnreadableImageException {
    RgbImage image = ImageDecoder.decode(file);
    int side = Math.max(image.width(), image.height());
    int factor = longSide / side;
    int width = factor > 0 ? image.width() * factor : scaled(image.width(), longSide, side);
    int height = factor > 0 ? image.height() * factor : scaled(image.height(), longSide, side);
    return encode(
        Resampler.resize(
            image,
            width,
            height,
            factor > 0 ? Preprocessing.Filter.NEAREST : Preprocessing.Filter.BICUBIC,
            new Resampler.Window(0, 0, width, height)));
  }

  private static int scaled(int length, int longSide, int side) {
    return Math.max(1, Math.round((float) length * longSide / side));
  }

  private static byte[] encode(RgbImage image) {
    BufferedImage out =
        new BufferedImage(image.width(), image.height(), BufferedImage.TYPE_INT_RGB);
    byte[] rgb = image.rgb();
    for (int i = 0; i < image.width() * image.height(); i++) {
      int red = rgb[3 * i] & 0xff;
      int green = rgb[3 * i + 1] & 0xff;
      int blue = rgb[3 * i + 2] & 0xff;
      int pixel = (red << 16) | (green << 8) | blue;
      out.setRGB(i % image.width(), i / image.width(), pixel);
    }
    ImageWriter writer = ImageIO.getImageWritersByFormatName("jpeg").next();
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (MemoryCacheImageOutputStream stream = new MemoryCacheImageOutputStream(bytes)) {
      ImageWriteParam param = writer.getDefaultWriteParam();
      param.setCompressionMode(ImageWriteParam.MODE_EXPLICIT);
      param.setCompressionQuality(QUALITY);
      writer.setOutput(stream);
      writer.write(null, new IIOImage(out, null, null), param);
    } catch (IOException e) {
      throw new IllegalStateException(e); // The stream is in memory.
    } finally {
      writer.dispose();
    }
    return bytes.toByteArray();
  }
}
