package org.taco4j.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.jsoup.nodes.Document;
import org.jsoup.parser.Parser;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.taco4j.common.TacoException;

/** One page over several runs. */
class OverviewTest {
  private static final Map<String, Object> SEQUENTIAL =
      Map.of("solver", "hybrid", "reconstruct", "sequential", "pattern", "unstructured:0.9");
  private static final Map<String, Object> LAYERWISE =
      Map.of("solver", "fast", "reconstruct", "layerwise", "pattern", "2:4");

  @TempDir Path folder;

  @BeforeEach
  void runs() {
    run("a 80", Reports.at(0.8, 0.93, SEQUENTIAL, "model"));
    run("b#95", Reports.at(0.95, 0.87, SEQUENTIAL, "model"));
    run("c", Reports.at(0.5, 0.6, LAYERWISE, "model"));
  }

  private void run(String name, RunReport report) {
    ReportFiles.write(folder.resolve(name), report);
  }

  private Document write(List<Path> runs) throws IOException {
    Path file = folder.resolve("pages/overview.html");
    Overview.of(runs).write(file, "Title & <i>more</i>", "Introduction & more");
    String html = Files.readString(file);
    Document page = RunPageTest.parse(html);
    RunPageTest.assertSelfContained(html, page);
    return page;
  }

  @Test
  void hasATableAndAChart() throws IOException {
    Files.createDirectories(folder.resolve("no run"));
    Document page = write(Overview.runsIn(folder));
    assertEquals("Title & <i>more</i>", page.select("h1").text());
    assertEquals(List.of("a 80", "b#95", "c"), page.select("tbody a").eachText());
    assertEquals(
        List.of("sequential", "sequential", "layer-wise FastOBC, 2:4"),
        page.select("tbody th .method").eachText());
    for (String link : page.select("tbody a").eachAttr("href")) {
      Path target =
          folder
              .resolve("pages")
              .resolve(java.net.URLDecoder.decode(link, java.nio.charset.StandardCharsets.UTF_8));
      assertTrue(Files.exists(target), link);
    }
    assertEquals(2, page.select("svg").size());
    String legend = page.select("svg text").text();
    assertTrue(legend.contains("sequential") && legend.contains("layer-wise FastOBC, 2:4"), legend);
  }

  @Test
  void runsOfOtherModelsStandApart() throws IOException {
    run("d", Reports.at(0.5, 0.6, LAYERWISE, "other model"));
    Document page = write(Overview.runsIn(folder));
    assertEquals(2, page.select("section").size());
    assertTrue(page.text().contains("different dense models"));
    TacoException e =
        assertThrows(
            TacoException.class,
            () -> Overview.of(Overview.runsIn(folder)).writeChart(folder.resolve("x.svg")));
    assertTrue(e.getMessage().contains("2 different dense models"), e.getMessage());
  }

  /** On a phone only the first columns are in sight. */
  @Test
  void comparisonsStandBesideTheAccuracy() throws IOException {
    run("e", Reports.full(4));
    assertEquals(
        List.of("run", "sparsity", "top-1", "PTC", "before tuning", "gzip", "speed"),
        write(List.of(folder.resolve("e"))).select("thead th").eachText());
    assertEquals(
        List.of("run", "sparsity", "top-1", "gzip", "speed"),
        write(List.of(folder.resolve("c"))).select("thead th").eachText());
  }

  @Test
  void tunedUntunedAndPtcAreDifferentLines() throws IOException {
    run("e", Reports.full(4));
    Document page = write(List.of(folder.resolve("e")));
    String legend = page.select("svg text").text();
    String method = "sequential, gradual schedule, units removed, 8 bits";
    assertTrue(legend.contains(method + " + taco-tmlr"), legend);
    assertTrue(legend.contains("PTC, " + method + " + taco-tmlr"), legend);
    assertTrue(legend.replace(method + " + taco-tmlr", "").contains(method), legend);
  }

  @Test
  void theChartAloneIsAnSvgFileForLightAndDark() throws IOException {
    Path file = folder.resolve("chart.svg");
    Overview.of(Overview.runsIn(folder)).writeChart(file);
    String svg = Files.readString(file);
    Document parsed = org.jsoup.Jsoup.parse(svg, "", Parser.xmlParser());
    assertEquals("svg", parsed.children().first().tagName());
    assertTrue(svg.contains("prefers-color-scheme: dark"));
    assertFalse(svg.contains("<script"));
    assertFalse(svg.contains("href"));
  }

  @Test
  void refusesWhatIsNoRun() throws IOException {
    TacoException none =
        assertThrows(TacoException.class, () -> Overview.of(List.of(folder.resolve("nowhere"))));
    assertEquals(TacoException.Kind.USAGE, none.kind());
    Files.writeString(folder.resolve("c/report.json"), "{\"schemaVersion\": 99}");
    TacoException other =
        assertThrows(TacoException.class, () -> Overview.of(List.of(folder.resolve("c"))));
    assertEquals(TacoException.Kind.DATA, other.kind());
    assertTrue(other.getMessage().contains("schemaVersion 99"), other.getMessage());
    Files.writeString(folder.resolve("c/report.json"), "{");
    TacoException damaged =
        assertThrows(TacoException.class, () -> Overview.of(List.of(folder.resolve("c"))));
    assertEquals(TacoException.Kind.DATA, damaged.kind());
  }
}
