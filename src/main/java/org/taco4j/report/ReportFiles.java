package org.taco4j.report;

import com.fasterxml.jackson.annotation.JsonUnwrapped;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.dataformat.csv.CsvMapper;
import com.fasterxml.jackson.dataformat.csv.CsvSchema;
import java.nio.file.Path;
import org.taco4j.common.AtomicFiles;

/** Writes what a run leaves beside its model: the report, the layer table and the model card. */
public final class ReportFiles {
  private static final ObjectMapper JSON =
      JsonMapper.builder().enable(SerializationFeature.INDENT_OUTPUT).build();

  private ReportFiles() {}

  /** Any record as indented JSON. */
  public static String toJson(Object value) {
    try {
      return JSON.writeValueAsString(value) + "\n";
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }

  /** Writes {@code report.json}, {@code layers.csv} and {@code MODEL_CARD.md} into a folder. */
  public static void write(Path folder, RunReport report) {
    AtomicFiles.writeString(folder.resolve("report.json"), toJson(report));
    AtomicFiles.writeString(folder.resolve("layers.csv"), layersCsv(report));
    AtomicFiles.writeString(folder.resolve("MODEL_CARD.md"), ModelCard.of(report));
  }

  /** In a table the search has columns of its own, such as {@code search.swaps}. */
  interface FlatLayer {
    @JsonUnwrapped(prefix = "search.")
    RunReport.Search search();
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
