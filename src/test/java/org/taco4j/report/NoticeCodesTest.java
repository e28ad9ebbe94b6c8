package org.taco4j.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** The codes of notices in the sources are those that {@code docs/report.md} lists. */
class NoticeCodesTest {
  /** A code, and something after it: what a list of strings gets has nothing after it. */
  private static final Pattern ADDED = Pattern.compile("\\.add\\(\\s*\"([a-z0-9-]+)\"\\s*,");

  private static final Pattern LISTED = Pattern.compile("`([a-z][a-z0-9-]*)`");

  private static Set<String> found(Pattern pattern, String text) {
    return new TreeSet<>(pattern.matcher(text).results().map(match -> match.group(1)).toList());
  }

  @Test
  void allAreInTheDocumentAndNoOthers() throws IOException {
    Set<String> added = new TreeSet<>();
    try (Stream<Path> files = Files.walk(Path.of("src", "main", "java"))) {
      for (Path file : files.filter(f -> f.toString().endsWith(".java")).toList()) {
        added.addAll(found(ADDED, Files.readString(file)));
      }
    }
    assertTrue(added.containsAll(Set.of("image-skipped", "tuning-not-used")), added.toString());
    List<String> paragraph =
        Files.readAllLines(Path.of("docs", "report.md")).stream()
            .filter(line -> line.startsWith("Notices about what was not done as asked:"))
            .toList();
    assertEquals(1, paragraph.size());
    assertEquals(added, found(LISTED, paragraph.getFirst()));
  }
}
