package org.taco4j.common;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.Optional;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What is taken for a slip of the pen, and what is not. */
class SuggestionsTest {
  private static final List<String> WORDS =
      List.of("fast", "obc", "hybrid", "adaprune", "magnitude", "shots", "sparsity");

  @ParameterizedTest
  @CsvSource({
    "fats, fast",
    "OBC, obc",
    "hybird, hybrid",
    "shot, shots",
    "magn, magnitude",
    "sparcity, sparsity",
    "sgd,",
    "quantise,",
  })
  void findsTheNearestWord(String written, String nearest) {
    assertEquals(Optional.ofNullable(nearest), Suggestions.nearest(written, WORDS));
  }
}
