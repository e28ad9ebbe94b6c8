import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.MappingIterator;
import com.fasterxml.jackson.databind.SequenceWriter;
import com.fasterxml.jackson.dataformat.csv.CsvMapper;
import com.fasterxml.jackson.dataformat.csv.CsvParser;
import com.fasterxml.jackson.dataformat.csv.CsvSchema;
import java.io.IOException;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;

/**
 * The CSV files in which the benchmarks of this folder keep what they measure: records as lines.
 */
final class CsvRows {
  private static final CsvMapper CSV =
      CsvMapper.builder()
          .disable(DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES)
          .enable(CsvParser.Feature.EMPTY_STRING_AS_NULL)
          .build();

  private CsvRows() {}

  static <T> List<T> read(Path file, Class<T> row) throws IOException {
    CsvSchema schema = CsvSchema.emptySchema().withHeader();
    try (MappingIterator<T> rows = CSV.readerFor(row).with(schema).readValues(file.toFile())) {
      return rows.readAll();
    }
  }

  /** Appends lines; a new file begins with the names of the columns. */
  static <T> void append(Path file, Class<T> row, List<T> rows) throws IOException {
    CsvSchema schema = CSV.schemaFor(row).withUseHeader(!Files.exists(file));
    try (Writer out =
            Files.newBufferedWriter(file, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        SequenceWriter writer = CSV.writer(schema).writeValues(out)) {
      writer.writeAll(rows);
    }
  }
}
