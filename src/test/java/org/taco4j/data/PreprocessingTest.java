package org.taco4j.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.taco4j.data.Preprocessing.ChannelOrder;
import org.taco4j.data.Preprocessing.Filter;
import org.taco4j.data.Preprocessing.Layout;
import org.taco4j.data.Preprocessing.Resize;

class PreprocessingTest {
  @ParameterizedTest
  @CsvSource({"224, 256, 64", "32, 37, 32", "299, 342, 64", "1, 1, 1", "384, 439, 64"})
  void imageNetScalesTheShortSide(int side, int expected, int thumbnail) {
    Preprocessing p = Preprocessing.imageNet(side, side, Layout.NCHW);
    assertEquals(new Resize.ShortSide(expected), p.resize());
    assertEquals(thumbnail, p.directBelow());
  }

  @Test
  void imageNetGoesByTheSmallerSide() {
    Preprocessing p = Preprocessing.imageNet(448, 224, Layout.NHWC);
    assertEquals(new Resize.ShortSide(256), p.resize());
    assertEquals(448, p.cropWidth());
    assertEquals(224, p.cropHeight());
  }

  @Test
  void bicubicPresetHasTimmsCropRatio() {
    Preprocessing p = Preprocessing.preset("ImageNet-Bicubic", 224, 224, Layout.NCHW);
    assertEquals(new Resize.ShortSide(249), p.resize());
    assertEquals(Filter.BICUBIC, p.filter());
    assertEquals(64, p.directBelow());
  }

  @ParameterizedTest
  @MethodSource("org.taco4j.data.Preprocessing#presets")
  void jsonRoundTrips(String preset) {
    Preprocessing p =
        Preprocessing.preset(preset, 224, 192, Layout.NHWC).withOrder(ChannelOrder.BGR);
    assertEquals(p, Preprocessing.fromJson(p.toJson()));
    Preprocessing exact = p.withResize(new Resize.Exact(300, 200)).withFilter(Filter.LANCZOS);
    assertEquals(exact, Preprocessing.fromJson(exact.toJson()));
    Preprocessing none = p.withResize(new Resize.None());
    assertEquals(none, Preprocessing.fromJson(none.toJson()));
  }

  @Test
  void jsonKeysAreStable() {
    // Written into models: a change of this text needs a new version.
    assertEquals(
        "{\"version\":1,\"resize\":{\"kind\":\"short-side\",\"pixels\":256},\"directBelow\":64,"
            + "\"filter\":\"bilinear\",\"crop\":{\"width\":224,\"height\":224},"
            + "\"mean\":[0.485,0.456,0.406],\"std\":[0.229,0.224,0.225],"
            + "\"order\":\"RGB\",\"layout\":\"NCHW\"}",
        Preprocessing.imageNet(224, 224, Layout.NCHW).toJson());
  }

  @Test
  void badJsonIsDataError() {
    String good = Preprocessing.imageNet(224, 224, Layout.NCHW).toJson();
    Expect.data(() -> Preprocessing.fromJson("{"), "not JSON");
    Expect.data(() -> Preprocessing.fromJson(""), "version");
    Expect.data(() -> Preprocessing.fromJson("[]"), "version");
    Expect.data(() -> Preprocessing.fromJson(good.replace(":1,", ":2,")), "version 2");
    Expect.data(() -> Preprocessing.fromJson(good.replace("short-side", "tall")), "tall");
    Expect.data(() -> Preprocessing.fromJson(good.replace("pixels", "px")), "pixels");
    Expect.data(() -> Preprocessing.fromJson(good.replace("bilinear", "box")), "box");
    Expect.data(() -> Preprocessing.fromJson(good.replace("0.229", "0")), "std");
    Expect.data(() -> Preprocessing.fromJson(good.replace("0.229,", "")), "std");
    Expect.data(() -> Preprocessing.fromJson(good.replace("0.485", "\"a\"")), "mean");
    Expect.data(() -> Preprocessing.fromJson(good.replace("\"NCHW\"", "7")), "layout");
    Expect.data(() -> Preprocessing.fromJson(good.replace("256", "2.5")), "pixels");
  }

  @Test
  void optionsParse() {
    assertEquals(new Resize.ShortSide(256), Resize.parse(" 256 "));
    assertEquals(new Resize.Exact(224, 192), Resize.parse("224X192"));
    assertEquals(new Resize.None(), Resize.parse("none"));
    assertArrayEquals(new int[] {224, 224}, Preprocessing.parseCrop("224"));
    assertArrayEquals(new int[] {320, 224}, Preprocessing.parseCrop("320x224"));
    assertEquals(
        List.of(0.485f, 0.456f, 0.406f),
        Preprocessing.parseChannels("--mean", "0.485, 0.456,0.406"));
    assertEquals(List.of(0.5f, 0.5f, 0.5f), Preprocessing.parseChannels("--std", "0.5"));
    assertEquals(Filter.BICUBIC, Filter.parse("Bicubic"));
    assertEquals(Layout.NHWC, Layout.parse("nhwc"));
    assertEquals(ChannelOrder.BGR, ChannelOrder.parse("bgr"));
  }

  @Test
  void badOptionsAreUsageErrors() {
    Expect.usage(() -> Resize.parse("0"), "256");
    Expect.usage(() -> Resize.parse("1x2x3"), "resize");
    Expect.usage(() -> Resize.parse("big"), "big");
    Expect.usage(() -> Resize.parse("99999999999"), "resize");
    Expect.usage(() -> Preprocessing.parseCrop("-1"), "crop");
    Expect.usage(() -> Preprocessing.parseCrop("none"), "crop");
    Expect.usage(() -> Preprocessing.parseChannels("--mean", "1,2"), "--mean");
    Expect.usage(() -> Preprocessing.parseChannels("--mean", "1,,2"), "--mean");
    Expect.usage(() -> Preprocessing.parseChannels("--mean", "NaN"), "--mean");
    Expect.usage(() -> Filter.parse("box"), "box", "lanczos");
    Expect.usage(() -> Layout.parse("chw"), "nchw");
    Expect.usage(
        () -> Preprocessing.preset("imagenat", 224, 224, Layout.NCHW), "imagenat", "cifar10");
    Preprocessing p = Preprocessing.imageNet(224, 224, Layout.NCHW);
    Expect.usage(() -> p.withStd(List.of(1f, 0f, 1f)), "std");
    Expect.usage(() -> p.withMean(List.of(1f)), "mean");
    Expect.usage(() -> p.withCrop(0, 3), "crop");
  }

  @Test
  void explicitResizeHoldsForSmallImages() {
    Preprocessing p = Preprocessing.imageNet(224, 224, Layout.NCHW);
    assertEquals(0, p.withResize(Resize.parse("256")).directBelow());
  }

  @Test
  void describesItselfInOneLine() {
    assertEquals(
        "short side to 256 (bilinear), centre crop 224x224, images with a short side of at most 64"
            + " straight to 224x224, mean 0.485,0.456,0.406, std 0.229,0.224,0.225, RGB, NCHW",
        Preprocessing.imageNet(224, 224, Layout.NCHW).describe());
  }
}
