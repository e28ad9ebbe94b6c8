package org.taco4j.demo;

import static org.taco4j.demo.Brush.INK;
import static org.taco4j.demo.Brush.WHITE;
import static org.taco4j.demo.Brush.clear;
import static org.taco4j.demo.Brush.mix;
import static org.taco4j.demo.Shapes.bow;
import static org.taco4j.demo.Shapes.box;
import static org.taco4j.demo.Shapes.circle;
import static org.taco4j.demo.Shapes.ellipse;
import static org.taco4j.demo.Shapes.open;
import static org.taco4j.demo.Shapes.polygon;
import static org.taco4j.demo.Shapes.smooth;
import static org.taco4j.demo.Shapes.turned;

import java.awt.Color;

/** Vessels and a lamp. */
final class Household {
  private Household() {}

  static void cup(Brush brush) {
    Color glaze = brush.paint();
    double top = brush.vary(0.42, 0.64);
    double foot = top * brush.vary(0.6, 0.95);
    double rim = brush.vary(-0.72, -0.3);
    brush.bar(
        smooth(top * 0.7, rim + 0.22, top + 0.34, rim + 0.18, top + 0.36, 0.22, foot * 0.7, 0.4),
        glaze,
        0.12);
    brush.body(turned(rim, top, 0.1, (top + foot) / 2 + 0.02, 0.62, foot, 0.72, foot * 0.8), glaze);
    rim(brush, rim, top, glaze);
    if (brush.chance(0.3)) {
      brush.line(bow(-0.12, rim - 0.1, -0.26, rim - 0.25, -0.1, rim - 0.4), WHITE, 0.06);
      brush.line(bow(0.14, rim - 0.1, 0.02, rim - 0.25, 0.16, rim - 0.4), WHITE, 0.06);
    }
  }

  static void bowl(Brush brush) {
    Color glaze = brush.paint();
    double wide = brush.vary(0.74, 0.98);
    double rim = brush.vary(-0.42, -0.1);
    double foot = brush.vary(0.3, 0.42);
    brush.body(box(-foot, 0.5, foot, 0.72, 0.04), mix(glaze, INK, 0.2));
    brush.body(turned(rim, wide, 0.2, wide * 0.86, 0.5, wide * 0.5, 0.6, foot * 0.8), glaze);
    rim(brush, rim, wide, glaze);
    if (brush.chance(0.4)) {
      brush.line(bow(-wide * 0.93, 0.12, 0, 0.36, wide * 0.93, 0.12), mix(glaze, WHITE, 0.7), 0.06);
    }
  }

  static void teapot(Brush brush) {
    Color glaze = brush.paint();
    double wide = brush.vary(0.52, 0.62);
    double top = brush.vary(-0.4, -0.28);
    brush.bar(smooth(wide * 0.7, -0.14, 0.86, -0.24, 0.94, 0.16, wide * 0.8, 0.4), glaze, 0.11);
    double tip = brush.vary(-0.45, -0.2);
    brush.body(
        smooth(
            -wide * 0.7,
            0.02,
            -0.76,
            -0.02,
            -0.98,
            tip,
            -0.86,
            tip - 0.04,
            -0.72,
            0.26,
            -wide * 0.7,
            0.44),
        glaze);
    brush.body(
        turned(top, 0.28, top + 0.14, wide * 0.76, 0.16, wide, 0.52, wide * 0.76, 0.66, 0.34),
        glaze);
    brush.body(turned(top - 0.16, 0.1, top - 0.08, 0.26, top + 0.02, 0.34), glaze);
    brush.part(circle(0, top - 0.22, 0.1), mix(glaze, INK, 0.3));
  }

  static void jug(Brush brush) {
    Color glaze = brush.paint();
    double wide = brush.vary(0.44, 0.56);
    double neck = brush.vary(0.24, 0.42);
    double top = brush.vary(-0.92, -0.6);
    brush.bar(
        smooth(neck * 0.6, top + 0.22, 0.66, top + 0.16, 0.74, -0.1, wide * 0.8, 0.18),
        glaze,
        0.11);
    brush.body(polygon(-neck * 0.4, top, -neck - 0.3, top + 0.02, -neck, top + 0.34), glaze);
    brush.body(
        turned(top, neck + 0.08, top + 0.36, neck, 0.2, wide, 0.62, wide * 0.8, 0.8, wide * 0.62),
        glaze);
    rim(brush, top, neck + 0.08, glaze);
  }

  static void vase(Brush brush) {
    Color glaze = brush.paint();
    double wide = brush.vary(0.36, 0.54);
    double neck = brush.vary(0.16, 0.28);
    double lip = neck + brush.vary(0.06, 0.2);
    boolean flowers = brush.chance(0.5);
    double top = flowers ? brush.vary(-0.34, -0.2) : brush.vary(-0.92, -0.6);
    if (flowers) {
      Color petal = brush.paint();
      for (int i = -1; i <= 1; i++) {
        double x = 0.42 * i;
        double y = i == 0 ? -0.84 : -0.68;
        brush.line(bow(0, top, 0.1 * i, top - 0.2, x, y), Brush.LEAF, 0.06);
        for (int k = 0; k < 5; k++) {
          double angle = 2 * Math.PI * k / 5;
          brush.spot(
              circle(x + 0.1 * StrictMath.cos(angle), y + 0.1 * StrictMath.sin(angle), 0.085),
              petal);
        }
        brush.spot(circle(x, y, 0.075), new Color(0xf3c64b));
      }
    }
    brush.body(
        turned(top, lip, top + 0.24, neck, 0.26, wide, 0.66, wide * 0.68, 0.86, wide * 0.6), glaze);
    rim(brush, top, lip, glaze);
  }

  static void lamp(Brush brush) {
    Color shade = brush.paint();
    Color stand = brush.chance(0.5) ? brush.either(0x8a6142, 0x5d5a66, 0xc9a24b) : brush.paint();
    double upper = brush.vary(0.24, 0.42);
    double lower = brush.vary(0.58, 0.74);
    double hem = brush.vary(-0.2, 0.02);
    if (brush.chance(0.5)) {
      brush.spot(
          polygon(-lower, hem, lower, hem, lower + 0.2, 0.6, -lower - 0.2, 0.6),
          clear(new Color(0xffe9a0), 0.35));
    }
    if (brush.chance(0.5)) {
      brush.bar(open(0, hem, 0, 0.74), stand, 0.1);
    } else {
      brush.body(turned(hem, 0.08, 0.2, 0.1, 0.46, 0.28, 0.76, 0.14), stand);
    }
    brush.body(box(-0.4, 0.74, 0.4, 0.88, 0.06), stand);
    brush.body(polygon(-upper, -0.88, upper, -0.88, lower, hem, -lower, hem), shade);
    brush.line(
        open(-lower + 0.06, hem - 0.08, lower - 0.06, hem - 0.08), mix(shade, INK, 0.4), 0.05);
  }

  /** The opening of a vessel, seen a little from above. */
  private static void rim(Brush brush, double y, double radius, Color glaze) {
    brush.part(ellipse(0, y, radius, radius * 0.16 + 0.03), mix(glaze, INK, brush.vary(0.3, 0.6)));
  }
}
