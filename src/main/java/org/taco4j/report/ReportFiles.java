package org.taco4j.report;

import com.fasterxml.jackson.annotation.JsonSetter;
import com.fasterxml.jackson.annotation.JsonUnwrapped;
import com.fasterxml.jackson.annotation.Nulls;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.dataformat.csv.CsvMapper;
import com.fasterxml.jackson.dataformat.csv.CsvSchema;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.taco4j.common.AtomicFiles;
import org.taco4j.common.TacoException;

/**
 * Writes what a run leaves beside its model: the report, for programs and for people, the layer
 * table and the model card. Reads the report again.
 */
public final class ReportFiles {
  /** The report for people, in a run folder. */
  public static final String PAGE = "report.html";

  private static final String REPORT = "report.json";

  /** Names that are missing in a report are new ones, and those that are not known newer ones. */
  private static final ObjectMapper JSON =
      JsonMapper.builder()
          .enable(SerializationFeature.INDENT_OUTPUT)
          .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
          .withConfigOverride(
              List.class,
              config -> config.setSetterInfo(JsonSetter.Value.forValueNulls(Nulls.AS_EMPTY)))
          .build();

  private ReportFiles() {}

  /** Any record as indented JSON. */
  public static String toJson(Object value) {
    try {
      return JSON.writeValueAsString(value) + "\n";
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }

  /**
   * Writes {@code report.json}, {@code report.html}, {@code layers.csv} and {@code MODEL_CARD.md}
   * into a folder; thumbnails of example images are there.
   */
  public static void write(Path folder, RunReport report) {
    AtomicFiles.writeString(folder.resolve(REPORT), toJson(report));
    AtomicFiles.writeString(folder.resolve(PAGE), RunPage.of(report, folder));
    AtomicFiles.writeString(folder.resolve("layers.csv"), layersCsv(report));
    AtomicFiles.writeString(folder.resolve("MODEL_CARD.md"), ModelCard.of(report));
  }

  /** Whether a folder is that of a run. */
  public static boolean isRun(Path folder) {
    return Files.isRegularFile(folder.resolve(REPORT));
  }

  /**
   * Reads the report of a run.
   *
   * @throws TacoException of kind USAGE for a folder that is no run's; of kind DATA for a report
   *     that is damaged or of another version
   */
  public static RunReport read(Path folder) {
    Path file = folder.resolve(REPORT);
    if (!isRun(folder)) {
      throw TacoException.usage(
          folder
              + ": "
              + (Files.isDirectory(folder) ? "no run folder: it has no " + REPORT : "no folder")
              + "; give the folder that `taco specialize --out` wrote");
    }
    try {
      JsonNode tree = JSON.readTree(Files.readString(file));
      int version = tree.path("schemaVersion").asInt();
      if (version != RunReport.SCHEMA_VERSION) {
        throw TacoException.data(
            "%s: a report of schemaVersion %s; this taco4j reads %d: use the version that wrote it (%s)"
                .formatted(
                    file,
                    tree.path("schemaVersion").asText("?"),
                    RunReport.SCHEMA_VERSION,
                    tree.path("tool").path("version").asText("not said")));
      }
      RunReport report = JSON.treeToValue(tree, RunReport.class);
      List<String> problems = ReportCheck.problems(report);
      if (!problems.isEmpty()) {
        throw TacoException.data(damaged(file, problems.getFirst()));
      }
      return report;
    } catch (JsonProcessingException e) {
      throw new TacoException(
          TacoException.Kind.DATA, damaged(file, String.valueOf(e.getOriginalMessage())), e);
    } catch (IOException e) {
      throw new TacoException(
          TacoException.Kind.DATA, file + ": cannot be read: " + e.getMessage(), e);
    }
  }

  private static String damaged(Path file, String why) {
    return file + ": damaged: " + why + "; run specialize again";
  }

  /**
   * Writes the page of a run again, from its report and thumbnails.
   *
   * @return where it is
   * @throws TacoException as {@link #read}
   */
  public static Path writePage(Path folder) {
    Path page = folder.resolve(PAGE);
    writePage(folder, page);
    return page;
  }

  /** {@link #writePage(Path)}, to another place. */
  public static void writePage(Path folder, Path page) {
    AtomicFiles.writeString(page, RunPage.of(read(folder), folder));
  }

  /** In a table search and operator have columns of their own, such as {@code search.swaps}. */
  interface FlatLayer {
    @JsonUnwrapped(prefix = "search.")
    RunReport.Search search();

    @JsonUnwrapped(prefix = "operator.")
    RunReport.Operator operator();
  }

  /** The layers as CSV (RFC 4180), a column for each property of report.json. */
  static String layersCsv(RunReport report) {
    CsvMapper mapper = new CsvMapper();
    mapper.addMixIn(RunReport.LayerReport.class, FlatLayer.class);
    CsvSchema schema =
        mapper.schemaFor(RunReport.LayerReport.class).withHeader().withLineSeparator("\n");
    try {
      return mapper.writer(schema).writeValueAsString(report.layers());
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }
}
