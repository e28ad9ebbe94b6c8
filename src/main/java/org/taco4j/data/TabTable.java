package org.taco4j.data;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.taco4j.common.TacoException;

/**
 * A text file with a header line and columns parted by tabs. Columns are found by name; blank lines
 * are skipped.
 */
final class TabTable {
  private final Path file;
  private final List<String> header;
  private final List<Row> rows;

  /** One line; {@code number} counts from 1, the header included. */
  record Row(int number, List<String> cells) {}

  private TabTable(Path file, List<String> header, List<Row> rows) {
    this.file = file;
    this.header = header;
    this.rows = rows;
  }

  /** Whether the first of {@code lines} is a header with that column. */
  static boolean hasColumn(List<String> lines, String column) {
    return !lines.isEmpty() && header(lines.getFirst()).contains(column);
  }

  static TabTable of(Path file, List<String> lines) {
    if (lines.isEmpty()) {
      throw TacoException.data(file + ": the file is empty; it needs a header line");
    }
    List<Row> rows = new ArrayList<>();
    for (int i = 1; i < lines.size(); i++) {
      if (!lines.get(i).isBlank()) {
        rows.add(new Row(i + 1, split(lines.get(i))));
      }
    }
    return new TabTable(file, header(lines.getFirst()), rows);
  }

  private static List<String> header(String line) {
    return split(line).stream().map(cell -> cell.toLowerCase(Locale.ROOT)).toList();
  }

  private static List<String> split(String line) {
    return Arrays.stream(line.split("\t", -1)).map(String::strip).toList();
  }

  List<Row> rows() {
    return rows;
  }

  /** The cell in the column of that name; empty where the file or the line does not have it. */
  String optional(Row row, String column) {
    int at = header.indexOf(column);
    return at < 0 || at >= row.cells().size() ? "" : row.cells().get(at);
  }

  String required(Row row, String column) {
    if (!header.contains(column)) {
      throw TacoException.data(
          file + ": the header has no column '" + column + "'; columns are parted by tabs");
    }
    String cell = optional(row, column);
    if (cell.isEmpty()) {
      throw TacoException.data(
          file + ":" + row.number() + ": the column '" + column + "' is empty");
    }
    return cell;
  }

  int requiredIndex(Row row, String column) {
    String cell = required(row, column);
    try {
      return Integer.parseInt(cell);
    } catch (NumberFormatException e) {
      throw new TacoException(
          TacoException.Kind.DATA,
          file + ":" + row.number() + ": " + column + " is not a whole number: '" + cell + "'",
          e);
    }
  }
}
