package org.taco4j.demo;

import static org.taco4j.demo.Brush.INK;
import static org.taco4j.demo.Brush.LEAF;
import static org.taco4j.demo.Brush.WHITE;
import static org.taco4j.demo.Brush.clear;
import static org.taco4j.demo.Brush.mix;
import static org.taco4j.demo.Shapes.bow;
import static org.taco4j.demo.Shapes.circle;
import static org.taco4j.demo.Shapes.ellipse;
import static org.taco4j.demo.Shapes.polygon;
import static org.taco4j.demo.Shapes.smooth;

import java.awt.Color;

/** Fruit; several share their colours. */
final class Fruit {
  private static final Color STEM = new Color(0x75543a);

  private Fruit() {}

  static void apple(Brush brush) {
    Color skin = brush.either(0xd8433b, 0xe06a48, 0x9cc04e, 0xe3c24d, 0xe59a3c, 0xb9303a);
    double wide = brush.vary(0.72, 0.84);
    double dip = brush.vary(-0.6, -0.4);
    brush.line(
        bow(0, dip + 0.1, 0.02, -0.7, brush.vary(-0.05, 0.2), brush.vary(-0.95, -0.8)), STEM, 0.1);
    leaf(brush, 0.08, -0.66, 0.7);
    brush.body(
        smooth(
            0,
            dip,
            0.36,
            -0.62,
            wide,
            -0.22,
            wide * 0.86,
            0.4,
            0.32,
            0.8,
            0,
            0.74,
            -0.32,
            0.8,
            -wide * 0.86,
            0.4,
            -wide,
            -0.22,
            -0.36,
            -0.62),
        skin);
    shine(brush, -0.42, -0.2);
  }

  static void orange(Brush brush) {
    Color skin = brush.either(0xf0962e, 0xeaa83a, 0xe8792b, 0xe3c24d);
    double radius = brush.vary(0.74, 0.82);
    brush.body(circle(0, 0.06, radius), skin);
    Color pore = mix(skin, INK, 0.28);
    int pores = brush.chance(0.6) ? 22 : 0;
    for (int i = 0; i < pores; i++) {
      // Golden angles spread points evenly over a disc.
      double away = 0.66 * Math.sqrt((i + 0.5) / 22);
      double angle = 2.39996 * i;
      brush.spot(
          circle(away * StrictMath.cos(angle), 0.06 + away * StrictMath.sin(angle), 0.028), pore);
    }
    double x = brush.vary(-0.2, 0.2);
    double y = brush.vary(-0.56, -0.4);
    if (brush.chance(0.5)) {
      leaf(brush, x, y, 0.7);
    }
    if (brush.chance(0.7)) {
      brush.spot(star(x, y, 0.15, 0.06), new Color(0x4c7a3a));
    }
    shine(brush, -0.36, -0.24);
  }

  static void pear(Brush brush) {
    Color skin = brush.either(0x9cc04e, 0xc9cf58, 0xe3c24d, 0xb98a4a, 0xd8614b);
    double wide = brush.vary(0.58, 0.68);
    double neck = brush.vary(0.24, 0.42);
    brush.line(bow(0, -0.66, 0.02, -0.85, brush.vary(0, 0.2), -0.98), STEM, 0.09);
    if (brush.chance(0.6)) {
      leaf(brush, 0.05, -0.8, 0.6);
    }
    brush.body(
        smooth(
            0,
            -0.74,
            neck,
            -0.56,
            neck + 0.06,
            -0.2,
            wide,
            0.26,
            wide * 0.74,
            0.74,
            0,
            0.86,
            -wide * 0.74,
            0.74,
            -wide,
            0.26,
            -neck - 0.06,
            -0.2,
            -neck,
            -0.56),
        skin);
    shine(brush, -0.3, 0.14);
  }

  static void lemon(Brush brush) {
    Color skin = brush.either(0xf0d84a, 0xf5e27a, 0xb9cf4e, 0xeaa83a);
    double tall = brush.vary(0.5, 0.62);
    double tip = brush.vary(0.92, 1);
    brush.body(
        smooth(
            -tip,
            0,
            -0.8,
            -0.14,
            -0.5,
            -tall * 0.82,
            0,
            -tall,
            0.5,
            -tall * 0.82,
            0.8,
            -0.14,
            tip,
            0,
            0.8,
            0.14,
            0.5,
            tall * 0.82,
            0,
            tall,
            -0.5,
            tall * 0.82,
            -0.8,
            0.14),
        skin);
    Color pore = mix(skin, INK, 0.2);
    for (int i = 0; i < 12; i++) {
      double away = 0.44 * Math.sqrt((i + 0.5) / 12);
      double angle = 2.39996 * i;
      brush.spot(
          circle(1.2 * away * StrictMath.cos(angle), away * StrictMath.sin(angle), 0.024), pore);
    }
    if (brush.chance(0.5)) {
      leaf(brush, -0.86, -0.1, 0.6);
    }
    shine(brush, -0.28, -0.24);
  }

  static void strawberry(Brush brush) {
    Color skin = brush.either(0xd8433b, 0xe2566a, 0xb9303a, 0xe8807a);
    double wide = brush.vary(0.62, 0.74);
    double low = brush.vary(0.84, 0.95);
    brush.body(
        smooth(
            0,
            -0.42,
            0.4,
            -0.5,
            wide,
            -0.2,
            wide * 0.7,
            0.36,
            0,
            low,
            -wide * 0.7,
            0.36,
            -wide,
            -0.2,
            -0.4,
            -0.5),
        skin);
    for (int row = 0; row < 4; row++) {
      double y = -0.14 + 0.24 * row;
      double half = (wide - 0.12) * (1 - 0.24 * row);
      int seeds = 4 - row;
      for (int i = 0; i < seeds; i++) {
        double x = seeds == 1 ? 0 : -half + 2 * half * i / (seeds - 1);
        brush.spot(ellipse(x, y, 0.035, 0.06), new Color(0xf6dc8a));
      }
    }
    brush.line(bow(0, -0.5, 0, -0.75, brush.vary(-0.15, 0.15), -0.9), LEAF, 0.09);
    brush.part(
        polygon(
            -0.62, -0.5, -0.24, -0.62, 0, -0.66, 0.24, -0.62, 0.62, -0.5, 0.36, -0.4, 0.26, -0.2,
            0.1, -0.38, 0, -0.12, -0.1, -0.38, -0.26, -0.2, -0.36, -0.4),
        LEAF);
  }

  static void cherries(Brush brush) {
    Color skin = brush.either(0xb9303a, 0xd8433b, 0x7c2238, 0xe59a5c);
    double left = brush.vary(0.32, 0.4);
    double right = brush.vary(0.32, 0.4);
    double lower = brush.vary(0.3, 0.5);
    double higher = brush.vary(0.3, 0.5);
    brush.line(bow(-0.46, lower - 0.2, -0.3, -0.4, 0.16, -0.86), LEAF, 0.075);
    brush.line(bow(0.44, higher - 0.2, 0.46, -0.4, 0.16, -0.86), LEAF, 0.075);
    leaf(brush, 0.16, -0.82, 0.8);
    brush.body(circle(0.46, higher, right), skin);
    brush.body(circle(-0.46, lower, left), skin);
    brush.spot(ellipse(0.36, higher - 0.12, 0.07, 0.1), clear(WHITE, 0.6));
    brush.spot(ellipse(-0.58, lower - 0.12, 0.07, 0.1), clear(WHITE, 0.6));
  }

  /** A leaf that begins at a point, to the right. */
  private static void leaf(Brush brush, double x, double y, double size) {
    double rise = brush.vary(-0.3, 0.05);
    brush.part(
        smooth(
            x,
            y,
            x + 0.3 * size,
            y + rise - 0.22 * size,
            x + 0.75 * size,
            y + rise,
            x + 0.35 * size,
            y + rise * 0.6 + 0.1 * size),
        brush.either(0x5b9a48, 0x7bb05a, 0x3f7a44));
  }

  private static java.awt.Shape star(double x, double y, double outer, double inner) {
    double[] points = new double[20];
    for (int i = 0; i < 10; i++) {
      double radius = i % 2 == 0 ? outer : inner;
      points[2 * i] = x + radius * StrictMath.sin(Math.PI * i / 5);
      points[2 * i + 1] = y - radius * StrictMath.cos(Math.PI * i / 5);
    }
    return polygon(points);
  }

  private static void shine(Brush brush, double x, double y) {
    if (brush.chance(0.7)) {
      brush.spot(ellipse(x, y, 0.1, 0.16), clear(WHITE, brush.vary(0.3, 0.7)));
    }
  }
}
