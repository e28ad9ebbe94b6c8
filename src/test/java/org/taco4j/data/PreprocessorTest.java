package org.taco4j.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.taco4j.data.Preprocessing.ChannelOrder;
import org.taco4j.data.Preprocessing.Filter;
import org.taco4j.data.Preprocessing.Layout;
import org.taco4j.data.Preprocessing.Resize;

class PreprocessorTest {
  private static final Preprocessing PLAIN =
      Preprocessing.preset("unit", 4, 4, Layout.NCHW).withResize(new Resize.None());

  /** Of the goldens' names: what they were made with (see the README beside them). */
  @ParameterizedTest
  @CsvSource({
    "bilinear_short256_crop224, BILINEAR, 256, 224",
    "bicubic_short248_crop224, BICUBIC, 248, 224",
    "bilinear_to64x64, BILINEAR, 64x64, 64x64",
    "bicubic_to97x61, BICUBIC, 97x61, 97x61",
    "bilinear_short300, BILINEAR, 300, 0",
  })
  void resizesAsPillow(String name, Filter filter, String resize, String crop) throws Exception {
    for (int source = 0; source < 3; source++) {
      RgbImage image = ImageDecoder.decode(Shared.at("golden/resize/src" + source + ".png"));
      RgbImage expected =
          ImageDecoder.decode(Shared.at("golden/resize/src" + source + "_" + name + ".png"));
      int[] sides =
          crop.equals("0")
              ? new int[] {expected.width(), expected.height()}
              : Preprocessing.parseCrop(crop);
      RgbImage actual =
          new Preprocessor(
                  PLAIN
                      .withFilter(filter)
                      .withResize(Resize.parse(resize))
                      .withCrop(sides[0], sides[1]))
              .resizeAndCrop(image);
      assertEquals(expected.width(), actual.width());
      assertEquals(expected.height(), actual.height());
      // Within 1 would do; the arithmetic is Pillow's, so they are the same bytes.
      assertArrayEquals(expected.rgb(), actual.rgb(), "src" + source);
    }
  }

  @Test
  void cropOfTheResultIsTheWholeResultCropped() {
    RgbImage image = noise(53, 37);
    for (Filter filter : Filter.values()) {
      for (int[] size : new int[][] {{17, 91}, {106, 37}, {53, 20}, {1, 1}, {53, 37}}) {
        int width = size[0];
        int height = size[1];
        RgbImage whole =
            Resampler.resize(
                image, width, height, filter, new Resampler.Window(0, 0, width, height));
        int x = width / 3;
        int y = height / 4;
        int w = Math.max(1, width / 2);
        int h = Math.max(1, height / 2);
        RgbImage part =
            Resampler.resize(image, width, height, filter, new Resampler.Window(x, y, w, h));
        byte[] expected = new byte[3 * w * h];
        for (int row = 0; row < h; row++) {
          System.arraycopy(whole.rgb(), 3 * ((y + row) * width + x), expected, 3 * row * w, 3 * w);
        }
        assertArrayEquals(expected, part.rgb(), filter + " " + width + "x" + height);
      }
    }
  }

  @Test
  void flatImagesStayFlat() {
    byte[] rgb = new byte[3 * 31 * 17];
    java.util.Arrays.fill(rgb, (byte) 255);
    for (Filter filter : Filter.values()) {
      RgbImage actual =
          new Preprocessor(PLAIN.withFilter(filter).withResize(new Resize.Exact(4, 4)))
              .resizeAndCrop(new RgbImage(31, 17, rgb));
      for (byte sample : actual.rgb()) {
        assertEquals(255, sample & 0xff, filter.toString());
      }
    }
  }

  @Test
  void nearestTakesThePixelUnderTheCentre() {
    RgbImage image = ramp(5, 1);
    RgbImage actual =
        new Preprocessor(
                PLAIN.withFilter(Filter.NEAREST).withResize(new Resize.Exact(2, 1)).withCrop(2, 1))
            .resizeAndCrop(image);
    // Centres at 1.25 and 3.75.
    assertArrayEquals(new byte[] {1, 1, 1, 3, 3, 3}, actual.rgb());
  }

  @Test
  void doesNothingWhereNothingIsToDo() {
    RgbImage image = noise(32, 32);
    Preprocessing cifar = Preprocessing.preset("cifar10", 32, 32, Layout.NCHW);
    assertSame(image, new Preprocessor(cifar).resizeAndCrop(image));
  }

  @Test
  void smallImagesGoStraightToTheInputSize() {
    Preprocessing p = Preprocessing.imageNet(224, 224, Layout.NCHW);
    RgbImage small = noise(64, 80);
    RgbImage direct =
        new Preprocessor(p.withResize(new Resize.Exact(224, 224))).resizeAndCrop(small);
    assertArrayEquals(direct.rgb(), new Preprocessor(p).resizeAndCrop(small).rgb());
    RgbImage larger = noise(65, 300);
    assertArrayEquals(
        new Preprocessor(p.withResize(new Resize.ShortSide(256))).resizeAndCrop(larger).rgb(),
        new Preprocessor(p).resizeAndCrop(larger).rgb());
  }

  @ParameterizedTest
  @CsvSource({"5, 4, 0", "7, 4, 2", "9, 4, 2", "11, 4, 4", "6, 4, 1"})
  void cropOffsetIsRoundedHalfToEven(int side, int crop, int offset) {
    RgbImage actual = new Preprocessor(PLAIN.withCrop(crop, 1)).resizeAndCrop(ramp(side, 1));
    assertEquals(offset, actual.rgb()[0]);
  }

  @Test
  void padsWithBlackWhatIsSmallerThanTheCrop() {
    RgbImage actual = new Preprocessor(PLAIN.withCrop(4, 1)).resizeAndCrop(ramp(1, 1, 9));
    assertArrayEquals(new byte[] {0, 0, 0, 9, 9, 9, 0, 0, 0, 0, 0, 0}, actual.rgb());
  }

  @Test
  void normalisesAndLaysOut() {
    RgbImage image = new RgbImage(2, 1, new byte[] {0, 51, (byte) 255, 102, (byte) 153, 1});
    Preprocessing p =
        PLAIN.withCrop(2, 1).withMean(List.of(0.1f, 0.2f, 0.3f)).withStd(List.of(0.5f, 0.25f, 2f));
    float r0 = (0f - 0.1f) / 0.5f;
    float r1 = (102 / 255f - 0.1f) / 0.5f;
    float g0 = (51 / 255f - 0.2f) / 0.25f;
    float g1 = (153 / 255f - 0.2f) / 0.25f;
    float b0 = (1f - 0.3f) / 2f;
    float b1 = (1 / 255f - 0.3f) / 2f;
    assertArrayEquals(new float[] {7, r0, r1, g0, g1, b0, b1, 7}, apply(p, image));
    assertArrayEquals(
        new float[] {7, r0, g0, b0, r1, g1, b1, 7}, apply(p.withLayout(Layout.NHWC), image));
    // Mean and std keep to their colour.
    assertArrayEquals(
        new float[] {7, b0, b1, g0, g1, r0, r1, 7}, apply(p.withOrder(ChannelOrder.BGR), image));
    assertArrayEquals(
        new float[] {7, b0, g0, r0, b1, g1, r1, 7},
        apply(p.withOrder(ChannelOrder.BGR).withLayout(Layout.NHWC), image));
    Preprocessor preprocessor = new Preprocessor(p);
    assertEquals(6, preprocessor.length());
    assertArrayEquals(new long[] {5, 3, 1, 2}, preprocessor.shape(5));
    assertArrayEquals(
        new long[] {5, 1, 2, 3}, new Preprocessor(p.withLayout(Layout.NHWC)).shape(5));
  }

  @Test
  void cropLargerThanTheResizeIsRefused() {
    Preprocessing p = Preprocessing.imageNet(224, 224, Layout.NCHW);
    Expect.usage(() -> new Preprocessor(p.withResize(new Resize.ShortSide(128))), "128", "224");
    Expect.usage(() -> new Preprocessor(p.withResize(new Resize.Exact(300, 200))), "300x200");
  }

  private static float[] apply(Preprocessing p, RgbImage image) {
    float[] out = new float[8];
    java.util.Arrays.fill(out, 7);
    new Preprocessor(p).apply(image, out, 1);
    return out;
  }

  private static RgbImage noise(int width, int height) {
    byte[] rgb = new byte[3 * width * height];
    new java.util.Random(width).nextBytes(rgb);
    return new RgbImage(width, height, rgb);
  }

  /** Each pixel is grey, of its column's number. */
  private static RgbImage ramp(int width, int height) {
    return ramp(width, height, 0);
  }

  private static RgbImage ramp(int width, int height, int from) {
    byte[] rgb = new byte[3 * width * height];
    for (int i = 0; i < rgb.length; i++) {
      rgb[i] = (byte) (from + i / 3 % width);
    }
    return new RgbImage(width, height, rgb);
  }
}
