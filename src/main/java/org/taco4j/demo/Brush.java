package org.taco4j.demo;

import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.GradientPaint;
import java.awt.Graphics2D;
import java.awt.Shape;
import java.awt.TexturePaint;
import java.awt.geom.Rectangle2D;
import java.awt.image.BufferedImage;
import java.util.random.RandomGenerator;
import org.jspecify.annotations.Nullable;

/**
 * What a figure is drawn with: chance, and a style that is decided once for a picture (how thick
 * the outlines are, where the light comes from, which pattern bodies have).
 */
final class Brush {
  static final Color INK = new Color(0x2b2730);
  static final Color WHITE = new Color(0xfbf7ee);
  static final Color LEAF = new Color(0x5b9a48);

  private static final int TILE = 16;

  private final Graphics2D graphics;
  private final RandomGenerator random;
  private final double outline;
  private final double lightX;
  private final double shade;
  private final @Nullable TexturePaint pattern;

  /**
   * A brush.
   *
   * @param graphics with the square from -1 to 1 as its coordinates
   */
  Brush(Graphics2D graphics, RandomGenerator random) {
    this.graphics = graphics;
    this.random = random;
    outline = chance(0.8) ? vary(0.035, 0.07) : 0;
    lightX = vary(-0.8, 0.8);
    shade = vary(0, 0.3);
    pattern = chance(0.4) ? pattern() : null;
  }

  /** A number between both. */
  double vary(double low, double high) {
    return low + (high - low) * random.nextDouble();
  }

  boolean chance(double probability) {
    return random.nextDouble() < probability;
  }

  /** One of them. */
  Color either(int... rgb) {
    return near(new Color(rgb[random.nextInt(rgb.length)]));
  }

  /** A colour that people give to things. */
  Color paint() {
    return Color.getHSBColor(
        (float) random.nextDouble(), (float) vary(0.35, 0.9), (float) vary(0.5, 0.97));
  }

  /** A little lighter or darker, and of another tint. */
  private Color near(Color color) {
    float[] hsb = Color.RGBtoHSB(color.getRed(), color.getGreen(), color.getBlue(), null);
    return Color.getHSBColor(
        hsb[0] + (float) vary(-0.025, 0.025),
        (float) Math.clamp(hsb[1] * vary(0.8, 1.15), 0, 1),
        (float) Math.clamp(hsb[2] * vary(0.82, 1.12), 0, 1));
  }

  /** A mixture: {@code part} of the second. */
  static Color mix(Color a, Color b, double part) {
    return new Color(
        (int) Math.round(a.getRed() + part * (b.getRed() - a.getRed())),
        (int) Math.round(a.getGreen() + part * (b.getGreen() - a.getGreen())),
        (int) Math.round(a.getBlue() + part * (b.getBlue() - a.getBlue())));
  }

  static Color clear(Color color, double opacity) {
    return new Color(
        color.getRed(), color.getGreen(), color.getBlue(), (int) Math.round(255 * opacity));
  }

  /** A large surface: in the light and pattern of the picture, with an outline. */
  void body(Shape shape, Color color) {
    Color lit = mix(color, Color.WHITE, shade);
    Color dark = mix(color, INK, shade);
    graphics.setPaint(new GradientPaint((float) lightX, -0.8f, lit, (float) -lightX, 0.8f, dark));
    graphics.fill(shape);
    if (pattern != null) {
      graphics.setPaint(pattern);
      graphics.fill(shape);
    }
    outline(shape);
  }

  /** A part in one colour, with an outline. */
  void part(Shape shape, Color color) {
    spot(shape, color);
    outline(shape);
  }

  /** A part in one colour, without an outline. */
  void spot(Shape shape, Color color) {
    graphics.setPaint(color);
    graphics.fill(shape);
  }

  /** A line of some width. */
  void line(Shape shape, Color color, double width) {
    graphics.setPaint(color);
    graphics.setStroke(
        new BasicStroke((float) width, BasicStroke.CAP_ROUND, BasicStroke.JOIN_ROUND));
    graphics.draw(shape);
  }

  /** A bar with an outline, such as a handle. */
  void bar(Shape shape, Color color, double width) {
    if (outline > 0) {
      line(shape, INK, width + 2 * outline);
    }
    line(shape, color, width);
  }

  private void outline(Shape shape) {
    if (outline > 0) {
      line(shape, INK, outline);
    }
  }

  /** Stripes, dots or checks, half clear. */
  private TexturePaint pattern() {
    BufferedImage tile = new BufferedImage(TILE, TILE, BufferedImage.TYPE_INT_ARGB);
    int colour = clear(chance(0.5) ? WHITE : paint(), vary(0.25, 0.7)).getRGB();
    int kind = random.nextInt(4);
    for (int y = 0; y < TILE; y++) {
      for (int x = 0; x < TILE; x++) {
        double dx = x - TILE / 2 + 0.5;
        double dy = y - TILE / 2 + 0.5;
        boolean inside =
            switch (kind) {
              case 0 -> x < TILE / 2;
              case 1 -> y < TILE / 2;
              case 2 -> dx * dx + dy * dy < TILE * TILE / 14.0;
              default -> (x < TILE / 2) == (y < TILE / 2);
            };
        if (inside) {
          tile.setRGB(x, y, colour);
        }
      }
    }
    double size = vary(0.18, 0.5);
    return new TexturePaint(tile, new Rectangle2D.Double(vary(0, size), vary(0, size), size, size));
  }
}
