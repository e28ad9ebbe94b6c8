package org.taco4j.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonPointer;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.dataformat.yaml.YAMLMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.jsoup.nodes.Document;
import org.jsoup.nodes.Element;
import org.jsoup.parser.Parser;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.Notice;
import org.taco4j.common.TacoException;

/** {@code report.html} holds all that the report says, and is one file that needs nothing else. */
class RunPageTest {
  @TempDir Path folder;

  /** Parses; what a browser would have to mend is an error here. */
  static Document parse(String html) {
    Parser parser = Parser.htmlParser().setTrackErrors(10);
    Document page = parser.parseInput(html, "");
    assertTrue(parser.getErrors().isEmpty(), () -> parser.getErrors().toString());
    return page;
  }

  /** Neither scripts nor anything that a browser would load. */
  static void assertSelfContained(String html, Document page) {
    assertTrue(page.select("script, link, iframe, object, base").isEmpty());
    for (Element element : page.getAllElements()) {
      element
          .attributes()
          .forEach(
              attribute -> {
                assertFalse(attribute.getKey().startsWith("on"), attribute.toString());
                if (attribute.getKey().equals("src")) {
                  assertTrue(attribute.getValue().startsWith("data:image/jpeg;base64,"));
                }
              });
    }
    assertFalse(html.contains("@import"));
    assertFalse(html.contains("url(h"), "a style sheet loads something");
    assertEquals(
        List.of(),
        page.select("[href], [xlink:href]").stream()
            .filter(e -> e.attr("href").contains(":"))
            .toList());
  }

  private static void assertNoGaps(Document page) {
    assertFalse(page.text().matches("(?s).*\\b(null|NaN|Infinity|undefined)\\b.*"), page.text());
    List<String> ids = page.select("[id]").eachAttr("id");
    assertEquals(ids.size(), new HashSet<>(ids).size(), "names in the page are given twice");
  }

  /** A thumbnail: it is embedded whatever is in it. */
  private void writeThumbnail() throws IOException {
    Files.createDirectories(folder.resolve("examples"));
    Files.write(folder.resolve("examples/01.jpg"), new byte[] {1, 2, 3});
  }

  @ParameterizedTest
  @ValueSource(ints = {2, 12, 43})
  void showsAllThereIs(int classes) throws IOException {
    writeThumbnail();
    RunReport report = Reports.full(classes);
    String html = RunPage.of(report, folder);
    Document page = parse(html);
    assertSelfContained(html, page);
    assertNoGaps(page);
    String text = page.text();
    for (Notice notice : report.notices()) {
      assertTrue(text.contains(notice.message()), notice.message());
    }
    for (RunReport.LayerReport layer : report.layers()) {
      assertTrue(text.contains(layer.name()), layer.name());
    }
    for (String name : report.task().classes()) {
      assertTrue(text.contains(name), name);
    }
    assertFalse(html.contains(Reports.NASTY), "a name is not escaped");
    assertTrue(page.select("figure > h3").eachText().contains("Error of each layer"));
    assertEquals(
        List.of(
            "Accuracy against sparsity, step by step",
            "Error of each layer",
            "Sparsity of each layer",
            "Where the weights went",
            "Tuning: loss",
            "Tuning: distance to the dense model",
            "Fine-tuning of the dense model: loss",
            "Fine-tuning of the dense model: distance to the dense model"),
        page.select("figure:has(svg) > h3").eachText());
    assertEquals(9, page.select("svg").size(), "those, and TACO against PTC");
    for (Element svg : page.select("svg")) {
      assertTrue(svg.select("path, circle, rect, line").size() > 5, svg.attr("aria-label"));
      assertFalse(svg.select("text").isEmpty(), svg.attr("aria-label"));
    }
    assertEquals(1, page.select(".examples img").size());
    assertEquals(1, page.select(".examples .gone").size(), "its file is missing");
    assertEquals(classes <= 30 ? 2 : 0, page.select("table.matrix").size());
    assertEquals(classes > 5, page.select("th").eachText().contains("top-5"));
    assertTrue(text.contains("ONNX") && text.contains("import onnxruntime"));
  }

  @Test
  void matrixHasTheCounts() {
    Document page = parse(RunPage.of(Reports.full(3), folder));
    Element matrix = present(page.selectFirst("table.matrix"));
    assertEquals(
        List.of("50", "3", "0", "0", "50", "3", "3", "0", "50"),
        matrix.select("tbody td").eachText());
  }

  private static Element present(Element element) {
    assertNotNull(element);
    return element;
  }

  @Test
  void saysWhatIsMissing() {
    String html = RunPage.of(Reports.bare(), folder);
    Document page = parse(html);
    assertSelfContained(html, page);
    assertNoGaps(page);
    assertTrue(page.text().contains("Not measured: there are no test images."));
    assertTrue(page.text().contains("Not recorded: names and shapes of input and output."));
    assertTrue(page.text().contains("All was done as asked."));
  }

  @Test
  void splitsNotices() {
    Document page = parse(RunPage.of(Reports.full(2), folder));
    Element warned = present(page.selectFirst(".box.warn"));
    assertEquals(
        List.of(
            "Images that could not be read were skipped 2",
            "Hessians needed more damping than asked",
            "a code of tomorrow"),
        warned.select("summary").eachText());
    assertFalse(warned.text().contains("17 inputs"));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "2 left out by --include or --exclude                                      | true",
        "1 the classifier, which holds few of the weights (--classifier prune ...) | true",
        "1 the classifier, as it is, 2 left out by --include or --exclude          | true",
        "17 depthwise convolution                                                  | false",
        "17 depthwise convolution, 2 left out by --include or --exclude            | false",
        "2 left out by --include or --exclude, 17 depthwise convolution            | false",
      })
  void layersLeftDenseAsAskedAreNoShortfall(String reasons, boolean isAsAsked) {
    RunReport report =
        Reports.with(
            Reports.full(2).layers(), // One of them is depthwise.
            List.of(
                new Notice("misfit-left-dense", "conv1", "3 input channels", 432),
                new Notice("layers-left-dense", "m", "19 of 53 layers stay dense: " + reasons, 19)),
            Map.of());
    NoticeGroups.Split split = NoticeGroups.of(report);
    assertEquals(
        isAsAsked ? List.of() : List.of("layers-left-dense"),
        split.notDone().stream().map(NoticeGroups.Group::code).toList());
    assertEquals(2, split.notDone().size() + split.worthKnowing().size());
  }

  /** A run that took hours must not fail for a picture. */
  @ParameterizedTest
  @ValueSource(doubles = {0, 1e-300, 0.5, 9e14, 1e300, Double.NaN, Double.POSITIVE_INFINITY})
  void oddNumbersAreDrawn(double value) {
    RunReport full = Reports.full(2);
    RunReport.LayerReport layer = full.layers().getFirst();
    RunReport.LayerReport odd =
        new RunReport.LayerReport(
            layer.name(),
            layer.opType(),
            1,
            1,
            1,
            0,
            0,
            "obc",
            "2:4",
            0,
            value,
            value,
            value,
            0,
            value,
            null,
            null,
            null);
    RunReport.Losses losses = new RunReport.Losses(value, value, value, value, value, value);
    RunReport.Tuning tuning = full.tuning();
    assertNotNull(tuning);
    RunReport.Tuning one =
        new RunReport.Tuning(
            "probe",
            1,
            0,
            "early",
            1,
            0,
            1,
            List.of(),
            0,
            List.of(new RunReport.TunePass(1, value, losses, null)),
            List.of(),
            "it failed");
    RunReport report =
        new RunReport(
            full.schemaVersion(),
            full.tool(),
            full.model(),
            full.task(),
            full.dense(),
            full.compressed(),
            0,
            full.latency(),
            full.seconds(),
            null,
            one,
            null,
            List.of(),
            null,
            List.of(),
            List.of(),
            List.of(odd),
            null,
            List.of(),
            full.machine(),
            full.contract(),
            null,
            Map.of());
    parse(RunPage.of(report, folder));
  }

  @Test
  void theSameReportGivesTheSameBytes() {
    assertEquals(RunPage.of(Reports.full(4), folder), RunPage.of(Reports.full(4), folder));
  }

  /** The resolved recipe has a pattern, also where no weights were to be removed. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{pattern: 'unstructured:0', structured: 0.5}          | nothing more",
        "{pattern: 'unstructured:0', bits: 8}                  | 8 bits",
        "{pattern: 'unstructured:0', structured: 0.5, bits: 8} | 8 bits",
        "{pattern: 'unstructured:0.5', structured: 0.5}        | pattern unstructured:0.5",
        "{pattern: '2:4', bits: 4}                             | pattern 2:4, 4 bits",
      })
  void saysWhatWasAskedOfWeights(String recipe, String asked) throws IOException {
    assertEquals(asked, line("weights", Reports.at(0.5, 0.9, recipe(recipe), "m")).asked());
  }

  @Test
  void unitsAreRemovedByZipLmWhateverTheSolver() throws IOException {
    RunReport full = Reports.full(2);
    RunReport.LayerReport solved = full.layers().getFirst();
    RunReport.LayerReport ziplm =
        new RunReport.LayerReport(
            solved.name(),
            solved.opType(),
            solved.rows(),
            solved.cols(),
            1,
            solved.parameters(),
            solved.macs(),
            "ziplm",
            "columns:0.5",
            0.5,
            0.1,
            0.1,
            0.01,
            0,
            1,
            null,
            null,
            null);
    List<RunReport.LayerReport> layers = List.of(full.layers().getLast(), ziplm);
    String units = "{solver: fast, reconstruct: layerwise, structured: 0.5, pattern: '%s'}";
    assertEquals(
        "layer-wise ZipLM, units removed",
        Method.of(Reports.with(layers, List.of(), recipe(units.formatted("unstructured:0")))));
    assertEquals(
        "layer-wise FastOBC, units removed",
        Method.of(Reports.with(layers, List.of(), recipe(units.formatted("unstructured:0.5")))));
  }

  @Test
  void tuningAfterEachStepIsSaidAsSuch() {
    String done = line("tuning", Reports.full(2)).done();
    assertTrue(done.startsWith("after each step; after the last: 2 passes on 40 images"), done);
  }

  private static AskedAndDone.Line line(String subject, RunReport report) {
    return AskedAndDone.of(report).stream()
        .filter(line -> line.subject().equals(subject))
        .findFirst()
        .orElseThrow();
  }

  private static Map<String, Object> recipe(String yaml) throws IOException {
    return new YAMLMapper().readValue(yaml, new TypeReference<>() {});
  }

  @Test
  void theLanguageOfTheMachineChangesNothing() {
    RunReport report = Reports.full(4);
    String page = RunPage.of(report, folder);
    String card = ModelCard.of(report);
    Locale before = Locale.getDefault();
    try {
      Locale.setDefault(Locale.of("ar", "EG")); // It has digits and separators of its own.
      assertEquals("٤", "%d".formatted(4), "this JDK does not know the digits of ar-EG");
      assertEquals(page, RunPage.of(report, folder));
      assertEquals(card, ModelCard.of(report));
    } finally {
      Locale.setDefault(before);
    }
  }

  @Test
  void reportsOfOlderVersionsAreReadAgain() throws IOException {
    ReportFiles.write(folder, Reports.full(2));
    Path file = folder.resolve("report.json");
    // As before the fields existed, and with one that does not exist yet.
    ObjectMapper mapper = new ObjectMapper();
    ObjectNode tree = (ObjectNode) mapper.readTree(file.toFile());
    tree.remove(List.of("contract", "predictions", "steps"));
    tree.put("of tomorrow", 1);
    mapper.writeValue(file.toFile(), tree);
    RunReport report = ReportFiles.read(folder);
    assertEquals(List.of(), report.steps());
    ReportFiles.writePage(folder);
    String html = Files.readString(folder.resolve("report.html"));
    assertTrue(parse(html).text().contains("Not recorded: this report is of an earlier version."));
  }

  /** What a damaged report says instead of what, and the message that names it. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "/task                                     | null  | task is missing",
        "/layers/3/name                            | null  | layers[3].name is missing",
        "/notices/0                                | null  | notices[0] is missing",
        "/recipe/solver                            | null  | recipe.solver is missing",
        "/compressed/gzipBytes                     | 0     | compressed has no bytes",
        "/dense/top1                               | null  | top1",
        "/compressed/top1Low                       | null  | top1",
        "/dense/top5                               | null  | top5",
        "/predictions/examples/0/actual            | 77    | examples[0].actual is 77, of 4",
        "/predictions/examples/1/dense/predicted   | 4     | examples[1].dense.predicted is 4",
        "/predictions/compressed/2/predicted       | -1    | compressed[2].predicted is -1",
        "/predictions/dense/0/actual               | 1e3   | dense[0].actual is 1000",
        "/sparsity                                 | \"x\" | \"x\"",
      })
  void damagedReportsAreRefused(String at, String value, String message) throws IOException {
    ReportFiles.write(folder, Reports.full(4));
    Path file = folder.resolve("report.json");
    ObjectMapper mapper = new ObjectMapper();
    JsonNode tree = mapper.readTree(file.toFile());
    JsonPointer pointer = JsonPointer.compile(at);
    JsonNode parent = tree.at(pointer.head());
    JsonNode node = mapper.readTree(value);
    if (parent instanceof ArrayNode array) {
      array.set(pointer.last().getMatchingIndex(), node);
    } else {
      ((ObjectNode) parent).set(pointer.last().getMatchingProperty(), node);
    }
    mapper.writeValue(file.toFile(), tree);
    assertDamaged(message);
  }

  @Test
  void aReportOfNothingButItsVersionIsRefused() throws IOException {
    Files.writeString(folder.resolve("report.json"), "{\"schemaVersion\":1}");
    assertDamaged("tool is missing");
  }

  private void assertDamaged(String message) {
    TacoException e = assertThrows(TacoException.class, () -> ReportFiles.writePage(folder));
    assertEquals(TacoException.Kind.DATA, e.kind());
    assertTrue(e.getMessage().contains(": damaged: "), e.getMessage());
    assertTrue(e.getMessage().contains(message), e.getMessage());
  }

  @Test
  void whatIsReadIsWhatWasWritten() {
    RunReport report = Reports.full(4);
    ReportFiles.write(folder, report);
    assertEquals(ReportFiles.toJson(report), ReportFiles.toJson(ReportFiles.read(folder)));
  }

  @Test
  void everyListedCodeHasATitle() throws IOException {
    String listed =
        Files.readAllLines(Path.of("docs", "report.md")).stream()
            .filter(line -> line.startsWith("Notices about what was not done as asked:"))
            .findFirst()
            .orElseThrow();
    List<String> titled = new ArrayList<>(NoticeGroups.NOT_DONE.keySet());
    titled.addAll(NoticeGroups.WORTH_KNOWING.keySet());
    for (String code : titled) {
      assertTrue(listed.contains("`" + code + "`"), code + " is no code");
    }
    java.util.regex.Pattern.compile("`([a-z0-9]+(?:-[a-z0-9]+)+|resumed)`")
        .matcher(listed)
        .results()
        .map(match -> match.group(1))
        .filter(code -> !Map.of("taco-v1", 1, "taco-tmlr", 1).containsKey(code))
        .forEach(code -> assertTrue(titled.contains(code), code + " has no title"));
  }
}
