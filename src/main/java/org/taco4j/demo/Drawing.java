package org.taco4j.demo;

import java.awt.Color;
import java.awt.GradientPaint;
import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.Shape;
import java.awt.geom.AffineTransform;
import java.awt.image.BufferedImage;
import java.awt.image.DataBufferInt;
import java.util.SplittableRandom;
import java.util.random.RandomGenerator;

/**
 * Draws pictures of things: a background, the thing in some pose, what stands in front of it, and
 * what a camera adds: light, blur and noise. A picture is a function of class, seed and index; it
 * depends neither on other pictures nor on threads. Without fonts or anything else of the machine.
 */
public final class Drawing {
  /** Pixels a side. */
  public static final int SIDE = 64;

  private static final double CENTRE = SIDE / 2.0;

  private Drawing() {}

  /**
   * One picture.
   *
   * @param seed of a set of pictures
   * @param index within the set
   * @return {@link #SIDE} x {@link #SIDE} pixels, of TYPE_INT_RGB
   */
  public static BufferedImage draw(DrawnClass thing, long seed, int index) {
    SplittableRandom random = random(thing, seed, index);
    BufferedImage image = background(random.split());
    Graphics2D graphics = graphics(image);
    try {
      // Most pictures are easy, some are hard in several ways at once.
      double hard = StrictMath.pow(random.nextDouble(), 1.5);
      pose(graphics, random, hard);
      thing.figure().draw(new Brush(graphics, random.split()));
      graphics.setTransform(new AffineTransform());
      occlude(graphics, random.split(), hard);
      photograph(image, random.split(), hard);
    } finally {
      graphics.dispose();
    }
    return image;
  }

  /** The background of {@link #draw} alone, for comparison. */
  static BufferedImage background(DrawnClass thing, long seed, int index) {
    return background(random(thing, seed, index).split());
  }

  /** By name, so that new classes leave the pictures of the others as they are. */
  private static SplittableRandom random(DrawnClass thing, long seed, int index) {
    long key = new SplittableRandom(seed ^ ((long) thing.name().hashCode() << 32)).nextLong();
    return new SplittableRandom(key + index);
  }

  private static Graphics2D graphics(BufferedImage image) {
    Graphics2D graphics = image.createGraphics();
    graphics.setRenderingHint(RenderingHints.KEY_ANTIALIASING, RenderingHints.VALUE_ANTIALIAS_ON);
    graphics.setRenderingHint(RenderingHints.KEY_STROKE_CONTROL, RenderingHints.VALUE_STROKE_PURE);
    graphics.setRenderingHint(
        RenderingHints.KEY_INTERPOLATION, RenderingHints.VALUE_INTERPOLATION_BILINEAR);
    return graphics;
  }

  private static double vary(RandomGenerator random, double low, double high) {
    return low + (high - low) * random.nextDouble();
  }

  private static void pose(Graphics2D graphics, RandomGenerator random, double hard) {
    double scale = vary(random, 27, 21 - 6 * hard);
    double away = 3 + 9 * hard;
    graphics.translate(CENTRE + vary(random, -away, away), CENTRE + vary(random, -away, away));
    graphics.rotate(vary(random, -1, 1) * (0.15 + 0.5 * hard));
    graphics.shear(vary(random, -1, 1) * (0.1 + 0.2 * hard), 0);
    double flip = random.nextBoolean() ? 1 : -1;
    graphics.scale(flip * scale * vary(random, 0.88, 1.1), scale);
  }

  private static Color colour(RandomGenerator random) {
    return Color.getHSBColor(
        (float) random.nextDouble(),
        (float) vary(random, 0.05, 0.5),
        (float) (random.nextDouble() < 0.2 ? vary(random, 0.3, 0.6) : vary(random, 0.65, 1)));
  }

  private static BufferedImage background(RandomGenerator random) {
    BufferedImage image = new BufferedImage(SIDE, SIDE, BufferedImage.TYPE_INT_RGB);
    Graphics2D graphics = graphics(image);
    try {
      Color first = colour(random);
      Color second = Brush.mix(first, colour(random), vary(random, 0.3, 1));
      graphics.setPaint(
          new GradientPaint(
              (float) vary(random, 0, SIDE),
              0,
              first,
              (float) vary(random, 0, SIDE),
              SIDE,
              second));
      graphics.fillRect(0, 0, SIDE, SIDE);
      switch (random.nextInt(5)) {
        case 0 -> checks(graphics, random, second);
        case 1 -> blobs(graphics, random);
        case 2 -> clutter(graphics, random);
        case 3 -> ground(graphics, random);
        default -> {} // The gradient is all.
      }
    } finally {
      graphics.dispose();
    }
    return image;
  }

  private static void checks(Graphics2D graphics, RandomGenerator random, Color colour) {
    graphics.setPaint(Brush.clear(Brush.mix(colour, colour(random), 0.6), 0.6));
    double size = vary(random, 5, 16);
    boolean stripes = random.nextBoolean();
    AffineTransform before = graphics.getTransform();
    graphics.rotate(vary(random, 0, Math.PI), CENTRE, CENTRE);
    int reach = (int) Math.ceil(SIDE / size);
    for (int i = -reach; i <= reach; i++) {
      for (int j = -reach; j <= reach; j++) {
        if (stripes ? i % 2 == 0 : (i + j) % 2 == 0) {
          double x = CENTRE + i * size;
          double y = CENTRE + j * size;
          graphics.fill(Shapes.box(x, y, x + size, y + size, 0));
        }
      }
    }
    graphics.setTransform(before);
  }

  private static void blobs(Graphics2D graphics, RandomGenerator random) {
    int count = random.nextInt(4, 10);
    for (int i = 0; i < count; i++) {
      graphics.setPaint(Brush.clear(colour(random), vary(random, 0.3, 0.9)));
      graphics.fill(
          Shapes.ellipse(
              vary(random, 0, SIDE),
              vary(random, 0, SIDE),
              vary(random, 4, 18),
              vary(random, 4, 18)));
    }
  }

  /** Small things of all kinds, in colours as the thing itself may have. */
  private static void clutter(Graphics2D graphics, RandomGenerator random) {
    int count = random.nextInt(5, 14);
    Brush brush = new Brush(graphics, random);
    for (int i = 0; i < count; i++) {
      double x = vary(random, 0, SIDE);
      double y = vary(random, 0, SIDE);
      double size = vary(random, 2, 9);
      Color colour = Brush.mix(brush.paint(), colour(random), vary(random, 0, 0.8));
      switch (random.nextInt(4)) {
        case 0 -> brush.spot(Shapes.circle(x, y, size), colour);
        case 1 -> brush.spot(Shapes.box(x, y, x + size, y + size * 1.5, 1), colour);
        case 2 ->
            brush.spot(
                Shapes.polygon(x, y, x + vary(random, -14, 14), y + size, x + size, y - size),
                colour);
        default ->
            brush.line(
                Shapes.open(x, y, x + vary(random, -20, 20), y + vary(random, -20, 20)),
                colour,
                vary(random, 1, 3.5));
      }
    }
  }

  private static void ground(Graphics2D graphics, RandomGenerator random) {
    double y = vary(random, 0.5, 0.8) * SIDE;
    double tilt = vary(random, -5, 5);
    graphics.setPaint(colour(random));
    graphics.fill(Shapes.polygon(0, y - tilt, SIDE, y + tilt, SIDE, SIDE, 0, SIDE));
  }

  /** Something in front of the thing. */
  private static void occlude(Graphics2D graphics, RandomGenerator random, double hard) {
    if (random.nextDouble() > 0.15 + 0.7 * hard) {
      return;
    }
    graphics.setPaint(Brush.mix(colour(random), Brush.INK, vary(random, 0, 0.5)));
    double size = vary(random, 5, 9 + 17 * hard);
    double angle = vary(random, 0, 2 * Math.PI);
    double away = vary(random, 8, 24);
    double x = CENTRE + away * StrictMath.cos(angle);
    double y = CENTRE + away * StrictMath.sin(angle);
    Shape shape =
        switch (random.nextInt(4)) {
          case 0 -> Shapes.circle(x, y, size);
          case 1 -> Shapes.box(x - size, y - size * 0.6, x + size, y + size * 0.6, 2);
          case 2 -> Shapes.box(x - size * 0.3, 0, x + size * 0.3, SIDE, 0);
          default ->
              Shapes.smooth(
                  x, y - size, x + size * 0.5, y, x + size * 0.2, y + size, x - size * 0.6, y);
        };
    graphics.fill(shape);
  }

  /** Light from one side, the sharpness of a lens, and noise. */
  private static void photograph(BufferedImage image, RandomGenerator random, double hard) {
    int[] pixels = ((DataBufferInt) image.getRaster().getDataBuffer()).getData();
    float[] values = new float[3 * pixels.length];
    double light = vary(random, 0.92, 1.1) - 0.3 * hard * random.nextDouble();
    double slopeX = vary(random, -1, 1) * (0.1 + 0.3 * hard) / SIDE;
    double slopeY = vary(random, -1, 1) * (0.1 + 0.3 * hard) / SIDE;
    double contrast = 1 - vary(random, 0, 0.15 + 0.5 * hard);
    for (int y = 0, i = 0; y < SIDE; y++) {
      for (int x = 0; x < SIDE; x++, i++) {
        double gain = light + slopeX * (x - CENTRE) + slopeY * (y - CENTRE);
        for (int c = 0; c < 3; c++) {
          int value = (pixels[i] >> (16 - 8 * c)) & 0xff;
          values[3 * i + c] = (float) (gain * (128 + contrast * (value - 128)));
        }
      }
    }
    double blur = random.nextDouble() < 0.3 + 0.5 * hard ? vary(random, 0, 0.1 + 0.23 * hard) : 0;
    // Twice a three-tap filter along each axis: sigma of up to about 1.2 pixels.
    for (int pass = 0; blur > 0 && pass < 2; pass++) {
      values = blurred(values, (float) blur, 3);
      values = blurred(values, (float) blur, 3 * SIDE);
    }
    double noise = vary(random, 0, 4 + 40 * hard);
    for (int i = 0; i < pixels.length; i++) {
      int rgb = 0;
      for (int c = 0; c < 3; c++) {
        double value = values[3 * i + c] + noise * random.nextGaussian();
        rgb = rgb << 8 | Math.clamp(Math.round(value), 0, 255);
      }
      pixels[i] = rgb;
    }
  }

  /** {@code part} of each neighbour at that stride; pixels beyond the border are those on it. */
  private static float[] blurred(float[] values, float part, int stride) {
    float[] out = new float[values.length];
    for (int i = 0; i < values.length; i++) {
      int at = stride == 3 ? i / 3 % SIDE : i / 3 / SIDE;
      float before = at == 0 ? values[i] : values[i - stride];
      float after = at == SIDE - 1 ? values[i] : values[i + stride];
      out[i] = values[i] + part * (before - 2 * values[i] + after);
    }
    return out;
  }
}
