package org.taco4j.demo;

import static org.taco4j.demo.Brush.INK;
import static org.taco4j.demo.Brush.WHITE;
import static org.taco4j.demo.Brush.mix;
import static org.taco4j.demo.Shapes.box;
import static org.taco4j.demo.Shapes.circle;
import static org.taco4j.demo.Shapes.open;
import static org.taco4j.demo.Shapes.polygon;
import static org.taco4j.demo.Shapes.smooth;

import java.awt.Color;

/** Vehicles from the side, driving to the right. */
final class Vehicles {
  private static final Color TYRE = new Color(0x34313a);
  private static final Color LAMP = new Color(0xffd95c);

  private Vehicles() {}

  static void car(Brush brush) {
    Color paint = brush.paint();
    Color glass = glass(brush);
    double roof = brush.vary(-0.56, -0.32);
    // From a saloon to an estate, whose roof goes on to the end, like a van's.
    double tail = brush.vary(-0.86, -0.4);
    double front = brush.vary(0.12, 0.36);
    brush.body(polygon(tail - 0.14, 0.08, tail, roof, front, roof, front + 0.34, 0.08), paint);
    brush.part(polygon(tail, 0.02, tail + 0.09, roof + 0.1, -0.14, roof + 0.1, -0.14, 0.02), glass);
    brush.part(
        polygon(-0.04, 0.02, -0.04, roof + 0.1, front - 0.04, roof + 0.1, front + 0.2, 0.02),
        glass);
    brush.body(
        smooth(
            -0.97, 0.14, -0.8, 0.02, 0, 0, 0.6, 0.02, 0.94, 0.16, 0.97, 0.42, 0.8, 0.5, -0.8, 0.5,
            -0.97, 0.42),
        paint);
    brush.line(open(-0.09, 0.1, -0.09, 0.4), mix(paint, INK, 0.5), 0.04);
    brush.part(circle(0.86, 0.2, 0.08), LAMP);
    wheels(brush, brush.vary(0.2, 0.26), 0.5, -0.54, 0.54);
  }

  static void van(Brush brush) {
    Color paint = brush.paint();
    Color glass = glass(brush);
    double roof = brush.vary(-0.62, -0.34);
    double brow = brush.vary(0.3, 0.45);
    brush.body(
        polygon(-0.95, roof, brow, roof, brow + 0.26, -0.02, 0.93, 0.1, 0.95, 0.5, -0.95, 0.5),
        paint);
    brush.part(
        polygon(0.12, 0.02, 0.12, roof + 0.14, brow - 0.02, roof + 0.14, brow + 0.16, 0.02), glass);
    if (brush.chance(0.4)) {
      brush.part(box(-0.44, roof + 0.14, 0.02, 0.02, 0.04), glass);
    } else {
      brush.line(open(0.04, roof + 0.08, 0.04, 0.44), mix(paint, INK, 0.5), 0.04);
    }
    if (brush.chance(0.4)) {
      brush.spot(box(-0.85, 0.14, -0.1, 0.28, 0.04), brush.paint());
    }
    brush.part(circle(0.86, 0.24, 0.07), LAMP);
    wheels(brush, brush.vary(0.19, 0.24), 0.5, -0.55, 0.56);
  }

  static void bus(Brush brush) {
    Color paint = brush.paint();
    Color glass = glass(brush);
    double roof = brush.vary(-0.68, -0.4);
    int windows = brush.chance(0.3) ? 3 : brush.chance(0.5) ? 4 : 5;
    brush.body(box(-1, roof, 1, 0.5, brush.vary(0.06, 0.18)), paint);
    double step = 1.5 / windows;
    for (int i = 0; i < windows; i++) {
      double left = -0.9 + i * step;
      brush.part(box(left, roof + 0.14, left + step - 0.07, -0.02, 0.04), glass);
    }
    brush.part(box(0.68, roof + 0.14, 0.94, 0.44, 0.04), glass);
    brush.line(open(-0.92, 0.16, 0.58, 0.16), mix(paint, WHITE, 0.7), 0.07);
    wheels(brush, brush.vary(0.17, 0.21), 0.5, -0.6, 0.45);
  }

  static void truck(Brush brush) {
    Color paint = brush.paint();
    double load = brush.vary(-0.7, -0.45);
    double cab = brush.vary(-0.3, -0.1);
    brush.part(box(-0.95, 0.36, 0.95, 0.5, 0.03), TYRE);
    brush.body(box(-1, load, 0.3, 0.36, 0.05), brush.chance(0.5) ? brush.paint() : WHITE);
    brush.body(
        polygon(0.38, cab, 0.72, cab, 0.88, 0.12, 0.98, 0.18, 0.98, 0.46, 0.38, 0.46), paint);
    brush.part(polygon(0.48, cab + 0.1, 0.68, cab + 0.1, 0.8, 0.12, 0.48, 0.12), glass(brush));
    brush.part(circle(0.92, 0.3, 0.06), LAMP);
    double radius = brush.vary(0.17, 0.21);
    if (brush.chance(0.6)) {
      wheels(brush, radius, 0.52, -0.72, -0.28, 0.66);
    } else {
      wheels(brush, radius, 0.52, -0.55, 0.66);
    }
  }

  static void tractor(Brush brush) {
    Color paint = brush.paint();
    double roof = brush.vary(-0.85, -0.7);
    brush.line(open(0.5, 0, 0.5, brush.vary(-0.5, -0.32)), INK, 0.09);
    brush.part(polygon(-0.6, 0, -0.52, roof, 0.06, roof, 0.14, 0), glass(brush));
    brush.body(box(-0.7, roof - 0.08, 0.16, roof + 0.06, 0.05), paint);
    brush.body(
        smooth(
            -0.75, 0.05, -0.4, -0.06, 0.1, -0.1, 0.7, -0.1, 0.86, 0.05, 0.84, 0.34, 0.3, 0.4, -0.6,
            0.4),
        paint);
    brush.line(open(0.45, 0.02, 0.75, 0.02), mix(paint, INK, 0.6), 0.04);
    brush.line(open(0.45, 0.14, 0.75, 0.14), mix(paint, INK, 0.6), 0.04);
    wheels(brush, brush.vary(0.4, 0.48), 0.32, -0.46);
    wheels(brush, brush.vary(0.22, 0.28), 0.5, 0.6);
  }

  static void sailboat(Brush brush) {
    Color sail = brush.chance(0.6) ? WHITE : brush.paint();
    double top = brush.vary(-0.98, -0.85);
    double mast = brush.vary(-0.1, 0.1);
    brush.bar(open(mast, top, mast, 0.4), new Color(0x8a6142), 0.06);
    brush.body(polygon(mast - 0.08, top + 0.08, mast - 0.08, 0.26, -0.72, 0.26), sail);
    brush.body(
        polygon(mast + 0.08, top + 0.3, mast + 0.08, 0.26, brush.vary(0.55, 0.75), 0.26),
        brush.chance(0.5) ? sail : brush.paint());
    brush.body(polygon(-0.92, 0.36, 0.95, 0.36, 0.62, 0.76, -0.64, 0.76), brush.paint());
    brush.spot(polygon(-0.86, 0.44, 0.86, 0.44, 0.81, 0.51, -0.81, 0.51), WHITE);
    if (brush.chance(0.6)) {
      brush.spot(polygon(mast, top, mast + 0.26, top + 0.08, mast, top + 0.16), brush.paint());
    }
  }

  private static Color glass(Brush brush) {
    return brush.either(0xbfe3f2, 0x8fc1dd, 0x4d6f8c, 0xd9eef2);
  }

  private static void wheels(Brush brush, double radius, double y, double... xs) {
    Color hub = brush.either(0xd8d8dc, 0xb9bcc6, 0xe8c15a);
    for (double x : xs) {
      brush.part(circle(x, y, radius), TYRE);
      brush.spot(circle(x, y, radius * 0.52), hub);
      brush.spot(circle(x, y, radius * 0.18), TYRE);
    }
  }
}
