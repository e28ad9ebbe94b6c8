package org.taco4j.report;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.MatchResult;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jetbrains.letsPlot.commons.encoding.RGBEncoder;
import org.jetbrains.letsPlot.core.util.PlotSvgExportCommon;
import org.jspecify.annotations.Nullable;

/**
 * A chart, drawn by Lets-Plot from a specification of plain maps (its "raw spec", the JSON of its
 * front ends) into SVG without fonts, scripts or references.
 *
 * <p>Colours are those of light paper, as attributes, so that a chart shows without a style sheet,
 * too; {@code report.css} turns each into its dark twin.
 */
final class Plot {
  /**
   * Colours of series, in their order: told apart by the colour-blind, and dark enough for text.
   */
  static final List<String> COLOURS =
      List.of("#2563c9", "#c2570c", "#0f7b6c", "#7c3aed", "#b8266e", "#8a6d00");

  /** Of the dense model, and of what is there to compare with. */
  static final String GREY = "#6b7280";

  /** Of what is gone. */
  static final String FAINT = "#c9ced6";

  private static final String GRID = "#e3e6ea";
  private static final String TEXT = "#1f2328";

  private static final int FONT_SIZE = 12;
  private static final int LEGEND_LINE = 22;

  private static final Pattern STYLE = Pattern.compile("<style.*?</style>", Pattern.DOTALL);
  private static final Pattern ROOT = Pattern.compile("<svg [^>]*>");
  private static final Pattern COLOUR = Pattern.compile("rgb\\((\\d+),(\\d+),(\\d+)\\)");
  private static final Pattern TAG = Pattern.compile("<[^>]*>");
  private static final Pattern DECIMALS = Pattern.compile("-?\\d+\\.\\d+(?:E-?\\d+)?");
  private static final Pattern ID = Pattern.compile(" id=\"([^\"]+)\"");
  private static final Pattern SPACE = Pattern.compile(">\\s+<");

  /** Nothing here is a raster. */
  private static final RGBEncoder NO_IMAGES =
      (width, height, pixels) -> {
        throw new UnsupportedOperationException("charts hold no images");
      };

  private final List<Map<String, Object>> layers = new ArrayList<>();
  private final List<Map<String, Object>> scales = new ArrayList<>();
  private int legendLines;

  /** What a chart is drawn for: its size in pixels, before it grows with its box. */
  record Size(int width, int height) {}

  /** A map of names and values in turns. */
  static Map<String, Object> map(Object... namesAndValues) {
    Map<String, Object> map = new LinkedHashMap<>();
    for (int i = 0; i < namesAndValues.length; i += 2) {
      map.put((String) namesAndValues[i], namesAndValues[i + 1]);
    }
    return map;
  }

  /**
   * Adds a layer.
   *
   * @param geom Lets-Plot's name of the geometry
   * @param data columns; null for a layer of constants
   * @param mapping of aesthetics to columns
   * @param options names and values in turns
   */
  Plot layer(
      String geom,
      @Nullable Map<String, Object> data,
      Map<String, Object> mapping,
      Object... options) {
    Map<String, Object> layer = map("geom", geom, "mapping", mapping, "tooltips", "none");
    if (data != null) {
      layer.put("data", data);
    }
    layer.putAll(map(options));
    layers.add(layer);
    return this;
  }

  /** Adds an axis or another scale: names and values in turns. */
  Plot scale(String aesthetic, String name, Object... options) {
    Map<String, Object> scale = map("aesthetic", aesthetic, "name", name);
    scale.putAll(map(options));
    scales.add(scale);
    return this;
  }

  /** Colours for the names of a column, which the legend shows in this order. */
  Plot colours(String aesthetic, List<String> names, List<String> colours) {
    legendLines = Math.max(legendLines, names.size());
    return scale(
        aesthetic, "", "breaks", names, "limits", names, "values", colours, "discrete", true);
  }

  /**
   * Draws.
   *
   * @param id a word that no other chart of the page has
   * @param size without the legend, which comes on top
   * @param label what the chart shows, for those who cannot see it
   */
  String svg(String id, Size size, String label) {
    int height = size.height() + (legendLines > 1 ? LEGEND_LINE * legendLines : 0);
    Map<String, Object> spec =
        map(
            "kind",
            "plot",
            "ggsize",
            map("width", size.width(), "height", height),
            "scales",
            scales,
            "theme",
            theme(),
            "layers",
            layers);
    String svg =
        PlotSvgExportCommon.INSTANCE.buildSvgImageFromRawSpecs(spec, null, NO_IMAGES, false);
    return tidy(svg, id, size.width(), height, label);
  }

  private Map<String, Object> theme() {
    Map<String, Object> text = map("size", FONT_SIZE, "color", TEXT, "blank", false);
    Map<String, Object> none = map("blank", true);
    return map(
        "name",
        "minimal",
        "legend_position",
        legendLines > 1 ? "bottom" : "none",
        "legend_direction",
        "vertical",
        "legend_text",
        text,
        "axis_text",
        text,
        "axis_title",
        text,
        "axis_ticks",
        none,
        "axis_line",
        map("color", GREY, "size", 1, "blank", false),
        "panel_grid_major",
        map("color", GRID, "size", 1, "blank", false),
        "panel_grid_minor",
        none,
        "plot_background",
        none,
        "legend_background",
        none,
        "panel_background",
        none);
  }

  /** The same picture in fewer bytes: no style sheet, short numbers, names that repeat. */
  private static String tidy(String svg, String id, int width, int height, String label) {
    String text = STYLE.matcher(svg).replaceAll("");
    text =
        ROOT.matcher(text)
            .replaceFirst(
                Matcher.quoteReplacement(
                    String.format(
                        Locale.ROOT,
                        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 %d"
                            + " %d\" width=\"%d\" height=\"%d\" role=\"img\" aria-label=\"%s\""
                            + " font-family=\"system-ui, sans-serif\" font-size=\"%d\">",
                        width,
                        height,
                        width,
                        height,
                        escape(label),
                        FONT_SIZE)));
    text = SPACE.matcher(text).replaceAll("><");
    // White is the paper: keys of the legend have it behind them.
    text = COLOUR.matcher(text).replaceAll(Plot::hex).replace("\"#ffffff\"", "\"none\"");
    text = TAG.matcher(text).replaceAll(tag -> Matcher.quoteReplacement(rounded(tag.group())));
    // Lets-Plot draws its names by lot.
    int next = 0;
    for (MatchResult found : ID.matcher(text).results().toList()) {
      text = text.replace(found.group(1), id + "-" + next++);
    }
    return text;
  }

  /** A tag with coordinates to a tenth of a pixel; the labels of axes are between tags. */
  private static String rounded(String tag) {
    return DECIMALS
        .matcher(tag)
        .replaceAll(
            number ->
                String.format(Locale.ROOT, "%.1f", Double.parseDouble(number.group()))
                    .replaceFirst("\\.0$", ""));
  }

  private static String hex(MatchResult rgb) {
    return String.format(
        Locale.ROOT,
        "#%02x%02x%02x",
        Integer.parseInt(rgb.group(1)),
        Integer.parseInt(rgb.group(2)),
        Integer.parseInt(rgb.group(3)));
  }

  private static String escape(String text) {
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\"", "&quot;");
  }
}
