package org.taco4j.demo;

import java.awt.Shape;
import java.awt.geom.Ellipse2D;
import java.awt.geom.Path2D;
import java.awt.geom.RoundRectangle2D;

/** Outlines from numbers; x to the right, y downwards. */
final class Shapes {
  private Shapes() {}

  static Shape ellipse(double x, double y, double radiusX, double radiusY) {
    return new Ellipse2D.Double(x - radiusX, y - radiusY, 2 * radiusX, 2 * radiusY);
  }

  static Shape circle(double x, double y, double radius) {
    return ellipse(x, y, radius, radius);
  }

  static Shape box(double left, double top, double right, double bottom, double corner) {
    return new RoundRectangle2D.Double(
        left, top, right - left, bottom - top, 2 * corner, 2 * corner);
  }

  /** Straight lines through x, y, x, y, …, closed. */
  static Shape polygon(double... points) {
    Path2D path = open(points);
    path.closePath();
    return path;
  }

  /** Straight lines through x, y, x, y, … */
  static Path2D open(double... points) {
    Path2D path = new Path2D.Double();
    path.moveTo(points[0], points[1]);
    for (int i = 2; i < points.length; i += 2) {
      path.lineTo(points[i], points[i + 1]);
    }
    return path;
  }

  /** A quadratic curve. */
  static Shape bow(double x0, double y0, double pullX, double pullY, double x1, double y1) {
    Path2D path = new Path2D.Double();
    path.moveTo(x0, y0);
    path.quadTo(pullX, pullY, x1, y1);
    return path;
  }

  /** A closed round curve through x, y, x, y, … (Catmull-Rom). */
  static Shape smooth(double... points) {
    int count = points.length / 2;
    Path2D path = new Path2D.Double();
    path.moveTo(points[0], points[1]);
    for (int i = 0; i < count; i++) {
      int before = 2 * ((i + count - 1) % count);
      int from = 2 * i;
      int to = 2 * ((i + 1) % count);
      int after = 2 * ((i + 2) % count);
      path.curveTo(
          points[from] + (points[to] - points[before]) / 6,
          points[from + 1] + (points[to + 1] - points[before + 1]) / 6,
          points[to] - (points[after] - points[from]) / 6,
          points[to + 1] - (points[after + 1] - points[from + 1]) / 6,
          points[to],
          points[to + 1]);
    }
    path.closePath();
    return path;
  }

  /**
   * What a turning lathe makes: round sides through the radii r at the heights y, flat at top and
   * bottom.
   *
   * @param profile y, r, y, r, … from top to bottom
   */
  static Shape turned(double... profile) {
    int count = profile.length / 2;
    Path2D path = new Path2D.Double();
    path.moveTo(profile[1], profile[0]);
    for (int side = 1; side >= -1; side -= 2) {
      for (int k = 0; k < count - 1; k++) {
        int i = side > 0 ? k : count - 1 - k;
        curve(path, profile, i, i + side, side);
      }
      if (side > 0) {
        path.lineTo(-profile[2 * count - 1], profile[2 * count - 2]);
      }
    }
    path.closePath();
    return path;
  }

  /** One piece of a side, from point i to point j of the profile. */
  private static void curve(Path2D path, double[] profile, int i, int j, int side) {
    int last = profile.length / 2 - 1;
    int before = Math.clamp(2 * i - j, 0, last);
    int after = Math.clamp(2 * j - i, 0, last);
    path.curveTo(
        side * (profile[2 * i + 1] + (profile[2 * j + 1] - profile[2 * before + 1]) / 6),
        profile[2 * i] + (profile[2 * j] - profile[2 * before]) / 6,
        side * (profile[2 * j + 1] - (profile[2 * after + 1] - profile[2 * i + 1]) / 6),
        profile[2 * j] - (profile[2 * after] - profile[2 * i]) / 6,
        side * profile[2 * j + 1],
        profile[2 * j]);
  }
}
