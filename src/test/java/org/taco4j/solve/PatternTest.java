package org.taco4j.solve;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.taco4j.common.TacoException;

final class PatternTest {
  @ParameterizedTest
  @CsvSource({
    "0.8, unstructured:0.8",
    ".5, unstructured:0.5",
    "0, unstructured:0",
    "5e-1, unstructured:0.5",
    "unstructured:0.95, unstructured:0.95",
    "' 2:4 ', 2:4",
    "32:64, 32:64",
    "block4:0.80, block4:0.8",
    "BLOCK16:0.7, block16:0.7",
    "rows4:0.8, rows4:0.8",
    "columns:0.50, columns:0.5",
    "columns:0.5:group=1, columns:0.5",
    "columns:.25:group=9, columns:0.25:group=9"
  })
  void readsAndWrites(String text, String canonical) {
    Pattern pattern = Pattern.parse(text);
    assertEquals(canonical, pattern.toString());
    assertEquals(pattern, Pattern.parse(canonical));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "x",
        "1",
        "1.5",
        "-0.1",
        "NaN",
        "0:4",
        "5:4",
        "2:",
        ":4",
        "2:4:8",
        "block:0.5",
        "block0:0.5",
        "block4",
        "block4:1",
        "unstructured:",
        "unstructured:2:4",
        "0.5%",
        "99999999999:4",
        "block99999999999:0.5",
        "rows4",
        "rows0:0.5",
        "columns:1",
        "columns:0.5:9",
        "columns:0.5:group=0",
        "columns:0.5:group=",
        "rows4:0.5:group=9"
      })
  void refusesTheRest(String text) {
    TacoException e = assertThrows(TacoException.class, () -> Pattern.parse(text));
    assertEquals(TacoException.Kind.USAGE, e.kind());
    assertTrue(!e.getMessage().isBlank());
  }

  @Test
  void knowsItsSparsity() {
    assertEquals(0.5, Pattern.parse("2:4").sparsity());
    assertEquals(0.75, Pattern.parse("1:4").sparsity());
    assertEquals(0, Pattern.parse("4:4").sparsity());
    assertEquals(4, Pattern.parse("2:4").groupSize());
    assertEquals(4, Pattern.parse("block4:0.8").groupSize());
    assertEquals(0.8, Pattern.parse("block4:0.8").sparsity());
  }

  @Test
  void removesTheNearestNumberOfColumnGroupsButNeverAll() {
    assertEquals(4, new Pattern.Columns(0.25, 9).removed(15)); // 3.75
    assertEquals(8, new Pattern.Columns(0.5, 1).removed(17)); // 8.5, half to even
    assertEquals(0, new Pattern.Columns(0, 1).removed(17));
    assertEquals(2, new Pattern.Columns(0.99, 1).removed(3));
  }

  @Test
  void roundsPortionsAsInDecimal() {
    assertEquals(7, Pattern.portion(10, 0.7)); // 0.7 * 10 = 7, but 7.000000000000001 elsewhere
    assertEquals(70, Pattern.portion(100, 0.7));
    assertEquals(29, Pattern.portion(50, 0.58)); // 0.58 * 50 is 28.999999999999996 in double
    assertEquals(1, Pattern.portion(3, 0.1));
    assertEquals(0, Pattern.portion(1_000_000, 0));
    assertEquals(1_900_000_000, Pattern.portion(2_000_000_000, 0.95));
  }
}
