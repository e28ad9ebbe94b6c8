package org.taco4j.demo;

import static org.taco4j.demo.Brush.INK;
import static org.taco4j.demo.Brush.WHITE;
import static org.taco4j.demo.Brush.mix;
import static org.taco4j.demo.Shapes.bow;
import static org.taco4j.demo.Shapes.box;
import static org.taco4j.demo.Shapes.circle;
import static org.taco4j.demo.Shapes.ellipse;
import static org.taco4j.demo.Shapes.open;
import static org.taco4j.demo.Shapes.polygon;
import static org.taco4j.demo.Shapes.smooth;

import java.awt.Color;

/** Faces of animals; all have the same colours of fur, so that shapes must tell them apart. */
final class Animals {
  private static final Color PINK = new Color(0xf0a3a6);

  private Animals() {}

  static void cat(Brush brush) {
    Color fur = fur(brush);
    double tip = brush.vary(-0.98, -0.8);
    double wide = brush.vary(0.68, 0.84);
    for (int side = -1; side <= 1; side += 2) {
      brush.body(polygon(side * 0.76, 0.05, side * 0.68, tip, side * 0.16, -0.42), fur);
      brush.spot(polygon(side * 0.64, -0.2, side * 0.61, tip + 0.2, side * 0.32, -0.4), PINK);
    }
    brush.body(ellipse(0, 0.16, wide, 0.64), fur);
    if (brush.chance(0.5)) {
      Color stripe = mix(fur, INK, 0.45);
      for (int i = -1; i <= 1; i++) {
        brush.line(open(i * 0.15, -0.42, i * 0.12, -0.24), stripe, 0.07);
      }
    }
    eyes(brush, 0.32, 0.06, brush.vary(0.1, 0.14));
    brush.spot(polygon(-0.1, 0.28, 0.1, 0.28, 0, 0.39), PINK);
    mouth(brush, 0.39, 0.17);
    whiskers(brush, 0.38, 0.34);
  }

  static void dog(Brush brush) {
    Color fur = fur(brush);
    Color ear = brush.chance(0.5) ? mix(fur, INK, 0.45) : fur(brush);
    double wide = brush.vary(0.58, 0.7);
    double low = brush.vary(0.25, 0.5);
    brush.body(ellipse(0, 0.04, wide, 0.74), fur);
    for (int side = -1; side <= 1; side += 2) {
      brush.body(
          smooth(
              side * 0.34,
              -0.62,
              side * 0.66,
              -0.6,
              side * 0.94,
              -0.1,
              side * 0.84,
              low,
              side * 0.62,
              low - 0.08,
              side * 0.58,
              -0.25),
          ear);
    }
    if (brush.chance(0.4)) {
      brush.spot(ellipse(0.28, -0.16, 0.2, 0.24), mix(fur, INK, 0.35));
    }
    brush.spot(ellipse(0, 0.4, 0.36, 0.3), mix(fur, WHITE, 0.6));
    eyes(brush, 0.27, -0.12, brush.vary(0.09, 0.12));
    brush.spot(ellipse(0, 0.24, 0.16, 0.11), INK);
    mouth(brush, 0.34, 0.2);
    if (brush.chance(0.5)) {
      brush.part(box(-0.1, 0.52, 0.1, 0.78, 0.1), new Color(0xe8717c));
    }
  }

  static void fox(Brush brush) {
    Color fur = fur(brush);
    double tip = brush.vary(-0.98, -0.8);
    for (int side = -1; side <= 1; side += 2) {
      brush.body(polygon(side * 0.84, -0.02, side * 0.76, tip, side * 0.16, -0.36), fur);
      brush.spot(
          polygon(side * 0.71, -0.2, side * 0.68, tip + 0.22, side * 0.36, -0.34),
          mix(fur, INK, 0.6));
    }
    double chin = brush.vary(0.78, 0.92);
    brush.body(
        smooth(
            0, -0.5, 0.52, -0.36, 0.88, 0.12, 0.42, 0.5, 0, chin, -0.42, 0.5, -0.88, 0.12, -0.52,
            -0.36),
        fur);
    for (int side = -1; side <= 1; side += 2) {
      brush.spot(
          smooth(
              side * 0.84,
              0.14,
              side * 0.42,
              0.14,
              side * 0.1,
              0.42,
              0,
              chin - 0.04,
              side * 0.4,
              0.47),
          WHITE);
    }
    eyes(brush, 0.32, 0.02, brush.vary(0.08, 0.11));
    brush.spot(ellipse(0, chin - 0.08, 0.13, 0.1), INK);
  }

  static void bear(Brush brush) {
    Color fur = fur(brush);
    double ear = brush.vary(0.22, 0.36);
    double wide = brush.vary(0.64, 0.86);
    for (int side = -1; side <= 1; side += 2) {
      brush.body(circle(side * 0.6, -0.52, ear), fur);
      brush.spot(circle(side * 0.6, -0.5, ear * 0.55), mix(fur, PINK, 0.6));
    }
    brush.body(ellipse(0, 0.1, wide, 0.7), fur);
    brush.part(ellipse(0, 0.36, 0.36, 0.29), mix(fur, WHITE, 0.6));
    eyes(brush, 0.3, -0.06, brush.vary(0.07, 0.1));
    brush.spot(ellipse(0, 0.24, 0.15, 0.1), INK);
    mouth(brush, 0.34, 0.14);
  }

  static void mouse(Brush brush) {
    Color fur = fur(brush);
    double ear = brush.vary(0.3, 0.46);
    for (int side = -1; side <= 1; side += 2) {
      brush.body(circle(side * 0.58, -0.4, ear), fur);
      brush.spot(circle(side * 0.58, -0.39, ear * 0.66), PINK);
    }
    double wide = brush.vary(0.48, 0.66);
    brush.body(
        smooth(
            0,
            -0.44,
            wide * 0.8,
            -0.28,
            wide,
            0.16,
            0.28,
            0.58,
            0,
            0.74,
            -0.28,
            0.58,
            -wide,
            0.16,
            -wide * 0.8,
            -0.28),
        fur);
    eyes(brush, 0.23, 0.06, brush.vary(0.08, 0.11));
    brush.spot(circle(0, 0.66, 0.11), PINK);
    whiskers(brush, 0.24, 0.5);
    if (brush.chance(0.5)) {
      brush.part(box(-0.09, 0.74, 0.09, 0.9, 0.03), WHITE);
    }
  }

  static void rabbit(Brush brush) {
    Color fur = fur(brush);
    double lean = brush.vary(-0.08, 0.26);
    double wide = brush.vary(0.56, 0.68);
    double ear = brush.vary(0.13, 0.19);
    for (int side = -1; side <= 1; side += 2) {
      double tip = side * (0.28 + lean);
      brush.body(
          smooth(
              side * 0.16,
              -0.2,
              side * 0.22 - ear,
              -0.6,
              tip,
              -1,
              side * 0.28 + ear,
              -0.6,
              side * 0.4,
              -0.1),
          fur);
      brush.spot(ellipse(side * (0.26 + lean * 0.4), -0.56, 0.08, 0.26), PINK);
    }
    brush.body(ellipse(0, 0.3, wide, 0.56), fur);
    eyes(brush, 0.27, 0.18, brush.vary(0.09, 0.12));
    brush.spot(polygon(-0.08, 0.36, 0.08, 0.36, 0, 0.44), PINK);
    mouth(brush, 0.44, 0.15);
    brush.part(box(-0.09, 0.52, 0.09, 0.72, 0.03), WHITE);
    if (brush.chance(0.5)) {
      whiskers(brush, 0.34, 0.44);
    }
  }

  private static Color fur(Brush brush) {
    return brush.either(
        0xc98b52, 0xe39a4c, 0x8d6748, 0x9a9aa4, 0xd9c3a0, 0x6d6a73, 0xe8e0d4, 0xc96f3e);
  }

  private static void eyes(Brush brush, double x, double y, double radius) {
    double look = brush.vary(-0.25, 0.25) * radius;
    for (int side = -1; side <= 1; side += 2) {
      brush.spot(ellipse(side * x, y, radius, radius * 1.2), INK);
      brush.spot(circle(side * x + look - radius * 0.25, y - radius * 0.4, radius * 0.36), WHITE);
    }
  }

  private static void mouth(Brush brush, double y, double width) {
    double low = y + brush.vary(0.14, 0.24);
    brush.line(bow(0, y, -width * 0.2, low, -width, low - 0.06), INK, 0.045);
    brush.line(bow(0, y, width * 0.2, low, width, low - 0.06), INK, 0.045);
  }

  private static void whiskers(Brush brush, double x, double y) {
    double length = brush.vary(0.45, 0.58);
    for (int side = -1; side <= 1; side += 2) {
      for (int i = -1; i <= 1; i++) {
        brush.line(open(side * x, y + 0.05 * i, side * (x + length), y + 0.16 * i), INK, 0.028);
      }
    }
  }
}
